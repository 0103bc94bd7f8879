//! A stretch of time as source and target hold it: which rows are where.

use std::collections::HashMap;

use arrow::array::{Array, BooleanArray};
use arrow::record_batch::RecordBatch;
use futures::StreamExt as _;

use super::Searching;
use crate::columns::Columns;
use crate::connector::{FieldType, ReadRequest};
use crate::digest::Hasher;
use crate::env::compute;
use crate::error::{Error, Kind, Result};
use crate::interval::Interval;
use crate::runner::sinks::times;
use crate::runner::{Cell, Happening, cells};
use crate::scope::Within;
use crate::spec::OnDuplicate;
use crate::survey::Survey;

/// Bytes that a row takes while its stretch is looked at.
pub(super) const BYTES_PER_ROW: u64 = 160;

/// A time at which a key has a row, in the source or in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    /// The key's hash.
    pub(super) series: u128,
    /// Nanoseconds since 1970.
    pub(super) time: i128,
    /// Rows of the source that the target lacks.
    pub(super) missing: u64,
}

/// What is known of a stretch.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// By key and time, each once.
    pub(super) points: Vec<Point>,
    /// The keys.
    pub(super) names: HashMap<u128, Vec<Cell>>,
    /// Rows of the source that would be refused.
    pub(super) refused: u64,
    /// Keys whose unequal rows fail their slice.
    pub(super) failing: u64,
}

/// A row of the source. Ordered by key, then by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) series: u128,
    pub(super) time: i128,
    pub(super) ordinal: u64,
    pub(super) hash: u128,
}

/// A row of the target. Without a key, its hash is what it is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) series: u128,
    pub(super) time: i128,
    pub(super) hash: u128,
}

/// Rows of both sides, before they are held against each other.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) source: Vec<Row>,
    pub(super) target: Vec<Held>,
    pub(super) names: HashMap<u128, Vec<Cell>>,
    pub(super) refused: u64,
}

/// What a batch says of each of its rows.
struct Known {
    /// The key columns.
    keys: RecordBatch,
    series: Vec<u128>,
    /// None where it is NULL.
    times: Vec<Option<i128>>,
    hashes: Vec<u128>,
    /// Rows that cannot be loaded.
    bad: Vec<bool>,
}

/// What makes a row of the source one that is refused, beside what the source itself refuses.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    scope: Option<Within>,
    /// Columns that may not be NULL: time and keys, and those that the table says so of.
    needed: Vec<usize>,
}

impl Refusals {
    pub(super) fn new(
        columns: &Columns,
        scope: Option<Within>,
        table: Option<&[FieldType]>,
    ) -> Self {
        let strict = |name: &str| {
            table.into_iter().flatten().any(|field| field.name == name && !field.nullable)
        };
        let needed = columns.iter().enumerate();
        let needed = needed.filter(|(i, c)| *i < columns.key_width() || strict(&c.name));
        Refusals { scope, needed: needed.map(|(i, _)| i).collect() }
    }

    fn of(&self, rows: &RecordBatch) -> Result<Vec<bool>> {
        let mut bad = vec![false; rows.num_rows()];
        for column in self.needed.iter().filter_map(|i| rows.columns().get(*i)) {
            if column.null_count() > 0 {
                bad.iter_mut().enumerate().for_each(|(i, bad)| *bad |= column.is_null(i));
            }
        }
        if let Some(scope) = &self.scope {
            let inside: BooleanArray = scope.mask(rows)?;
            bad.iter_mut().enumerate().for_each(|(i, bad)| *bad |= !inside.value(i));
        }
        Ok(bad)
    }
}

impl Searching {
    /// The rows of a stretch; none where they are more than fit into memory.
    pub(super) async fn sides(&self, interval: &Interval, most: usize) -> Result<Option<Sides>> {
        let mut sides = Sides::default();
        if self.there && !self.target_rows(interval, most, &mut sides).await? {
            return Ok(None);
        }
        let request = ReadRequest {
            interval: *interval,
            columns: self.search.plan.columns.clone(),
            survey: self.search.plan.survey.clone(),
        };
        let mut rows = self.search.source.read(&request).await?;
        while let Some(batch) = rows.batches.next().await {
            self.go_on()?;
            let batch = batch?;
            sides.refused += batch.rejects.len() as u64;
            let read = batch.rows.num_rows() + batch.rejects.len();
            let known = self.known(batch.rows, &self.refusals).await?;
            for (row, ordinal) in batch.ordinals.iter().enumerate() {
                let Some(time) = known.times[row].filter(|_| !known.bad[row]) else {
                    sides.refused += 1;
                    continue;
                };
                let (series, hash) = (known.series[row], known.hashes[row]);
                sides.name(&known, row)?;
                sides.source.push(Row { series, time, ordinal: *ordinal, hash });
            }
            self.search.watch.on(&Happening::Rows(read as u64));
            if sides.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(sides))
    }

    /// The rows of the target; false where they are too many.
    async fn target_rows(
        &self,
        interval: &Interval,
        most: usize,
        sides: &mut Sides,
    ) -> Result<bool> {
        let request = ReadRequest {
            interval: *interval,
            columns: self.held.clone(),
            survey: Survey::default().into(),
        };
        let mut rows = self.search.target.read(&request).await?;
        while let Some(batch) = rows.batches.next().await {
            self.go_on()?;
            let whole = Refusals::new(&self.held, None, None);
            let known = self.known(batch?.rows, &whole).await?;
            for row in 0..known.times.len() {
                // A row without a key belongs to nobody, and one without a time to no bucket.
                let Some(time) = known.times[row].filter(|_| !known.bad[row]) else { continue };
                if !interval.contains(super::instant(time)?) {
                    let what = format!("the target gave a row outside {interval}");
                    return Err(Error::new(Kind::Mismatch, what));
                }
                sides.name(&known, row)?;
                let (series, hash) = (known.series[row], known.hashes[row]);
                sides.target.push(Held { series, time, hash });
            }
            if sides.len() > most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn known(&self, rows: RecordBatch, refusals: &Refusals) -> Result<Known> {
        let (mut hasher, refusals) = (self.hasher.clone(), refusals.clone());
        let width = self.search.plan.columns.key_width();
        compute(self.search.env.as_ref(), move || known(&mut hasher, &rows, width, &refusals))
            .await?
    }
}

fn known(
    hasher: &mut Hasher,
    rows: &RecordBatch,
    width: usize,
    refusals: &Refusals,
) -> Result<Known> {
    let keys: Vec<_> = (1..width).collect();
    let keys = rows.project(&keys).map_err(|e| Error::bug("a batch lacks its keys").because(e))?;
    let series = if width == 1 {
        vec![0; rows.num_rows()]
    } else {
        // Over the key alone: what a key hash is, without the time.
        hasher.hash(&keys)?.iter().map(|h| h.key).collect()
    };
    let hashes = hasher.hash(rows)?.iter().map(|h| h.row).collect();
    Ok(Known { series, hashes, times: times(rows)?, bad: refusals.of(rows)?, keys })
}

impl Sides {
    fn len(&self) -> usize {
        self.source.len() + self.target.len()
    }

    fn name(&mut self, known: &Known, row: usize) -> Result<()> {
        let id = known.series[row];
        let seen = row > 0 && known.series[row - 1] == id && !known.bad[row - 1];
        if !seen && !self.names.contains_key(&id) {
            self.names.insert(id, cells(&known.keys, row)?);
        }
        Ok(())
    }

    /// Holds them against each other. Rows that the plan would refuse are as if they were not
    /// there, and of rows that repeat, one is.
    pub(super) fn compare(mut self, keyed: bool, rule: OnDuplicate) -> Stretch {
        let mut out = Stretch { names: self.names, refused: self.refused, ..Stretch::default() };
        if keyed {
            self.source.sort_unstable();
        } else {
            self.source.sort_unstable_by_key(|r| (r.series, r.time, r.hash));
        }
        self.target.sort_unstable();
        let (mut source, mut target) = (&self.source[..], &self.target[..]);
        while let Some(at) = next(source, target) {
            let ours = source.iter().take_while(|r| (r.series, r.time) == at).count();
            let held = target.iter().take_while(|r| (r.series, r.time) == at).count();
            let (rows, others);
            (rows, source) = source.split_at(ours);
            (others, target) = target.split_at(held);
            let missing = if keyed {
                missing_key(rows, held == 0, rule, &mut out)
            } else {
                missing_rows(rows, others)
            };
            if let Some(missing) = missing.or((held > 0).then_some(0)) {
                out.points.push(Point { series: at.0, time: at.1, missing });
            }
        }
        out
    }
}

/// The next key and time that either side has.
fn next(source: &[Row], target: &[Held]) -> Option<(u128, i128)> {
    let ours = source.first().map(|r| (r.series, r.time));
    let held = target.first().map(|r| (r.series, r.time));
    ours.into_iter().chain(held).min()
}

/// Rows of one key and time: how many of them are missing, none where all are refused.
fn missing_key(rows: &[Row], free: bool, rule: OnDuplicate, out: &mut Stretch) -> Option<u64> {
    let first = rows.first()?;
    let unequal = rows.iter().any(|r| r.hash != first.hash);
    if unequal && matches!(rule, OnDuplicate::Reject | OnDuplicate::Fail) {
        out.refused += rows.len() as u64;
        out.failing += u64::from(rule == OnDuplicate::Fail);
        return None;
    }
    Some(u64::from(free))
}

/// Rows of one time without a key: each needs an equal row of its own.
fn missing_rows(rows: &[Row], held: &[Held]) -> Option<u64> {
    rows.first()?;
    let mut held = held.iter().map(|h| h.hash).peekable();
    let mut missing = 0;
    for row in rows {
        while held.next_if(|h| *h < row.hash).is_some() {}
        missing += u64::from(held.next_if(|h| *h == row.hash).is_none());
    }
    Some(missing)
}
