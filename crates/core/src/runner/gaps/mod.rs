//! What is missing: rows that the source has and the target lacks, and buckets of time that
//! neither has.
//!
//! Slice by slice both sides are read and held against each other; of each key no more is kept
//! than its last bucket and its holes. The search knows neither lease nor journal and writes
//! nothing. What it finds does not depend on what was ever loaded.

mod cadence;
mod series;
mod stretch;

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;

use self::series::Fold;
use self::stretch::{BYTES_PER_ROW, Refusals, Stretch};
use super::{Happening, Stop, Watch};
use crate::calendar::{Every, zone};
use crate::columns::{Column, Columns};
use crate::connector::{Pulse, Source, StageRequest, Target};
use crate::digest::Hasher;
use crate::env::{Env, compute};
use crate::error::{Error, Kind, Result};
use crate::interval::Interval;
use crate::plan::{Plan, Planned, within};
use crate::scope::Within;
use crate::survey::{Block, Survey};

pub use self::series::{Hole, Missing, Series};

/// So many differences are enough for a first guess at the cadence.
const ENOUGH: u64 = 1_000;

/// In so many parts at most.
const GUESSED: usize = 100;

/// Of about so many rows each.
const GUESSED_ROWS: usize = 50_000;

/// How often rows should come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// As the user says.
    Every(Every),
    /// As the rows themselves say; an error where they do not.
    Find,
    /// It does not matter: rows are counted, buckets are not.
    Rows,
}

/// What a search works with.
#[derive(Clone)]
pub struct Search {
    /// Says where to look and what would be loaded; it need not be known to anybody.
    pub plan: Arc<Plan>,
    /// Where rows come from. It may be staged, and is unstaged at the end: nobody else uses it.
    pub source: Arc<dyn Source>,
    /// Where they would go.
    pub target: Arc<dyn Target>,
    /// The world.
    pub env: Arc<dyn Env>,
    /// Set from outside to stop.
    pub stop: Arc<Stop>,
    /// Told how far it is.
    pub watch: Arc<dyn Watch>,
    /// See [`Wanted`].
    pub cadence: Wanted,
}

/// The distance at which rows come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cadence {
    /// A bucket.
    pub every: Every,
    /// Where it was found: the share of neighbouring rows that lie so far apart.
    pub found: Option<f64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaps {
    /// None where it did not matter.
    pub cadence: Option<Cadence>,
    /// Every key that source or target have, by its values.
    pub series: Vec<Series>,
    /// For each slice of the plan the rows that are fillable.
    pub slices: Vec<u64>,
    /// Rows of the source that would be refused: they count as if they were not there.
    pub refused: u64,
    /// What makes the result doubtful, in plain sentences.
    pub doubts: Vec<String>,
}

impl Gaps {
    /// Rows that the source has and the target lacks.
    pub fn fillable_rows(&self) -> u64 {
        self.slices.iter().sum()
    }
}

/// A search on its way.
struct Searching {
    search: Search,
    hasher: Hasher,
    refusals: Refusals,
    /// What is read of the target.
    held: Arc<Columns>,
    /// The target has a table.
    there: bool,
    keyed: bool,
}

/// Looks for gaps in all slices of the plan.
pub async fn gaps(search: Search) -> Result<Gaps> {
    let source = search.source.clone();
    let result = async { Searching::new(search).await?.all().await };
    let result = result.await;
    source.unstage().await?;
    result
}

fn instant(time: i128) -> Result<Timestamp> {
    Timestamp::from_nanosecond(time)
        .map_err(|e| Error::config("a time lies outside the calendar").because(e))
}

/// The slices in order, each in parts of no more rows than this, as far as estimates tell: what
/// does not fit is not read before it is known. With each the slice's place.
fn parts(survey: &Survey, slices: &[Planned], most: usize) -> Vec<(usize, Interval)> {
    let mut parts = Vec::with_capacity(slices.len());
    for (i, slice) in slices.iter().enumerate() {
        let mut todo = vec![(slice.interval, slice.rows, None)];
        while let Some((interval, rows, blocks)) = todo.pop() {
            let Some((early, late)) = interval.halves().filter(|_| rows > most as u64) else {
                parts.push((i, interval));
                continue;
            };
            let all = || survey.overlapping(&interval).map(|(_, block)| block).collect();
            let blocks: Vec<&Block> = blocks.unwrap_or_else(all);
            todo.extend([late, early].map(|half| {
                let reach = |b: &&&Block| b.reaches(&half);
                let blocks: Vec<&Block> = blocks.iter().filter(reach).copied().collect();
                (half, within(blocks.iter().copied(), &half), Some(blocks))
            }));
        }
    }
    parts
}

fn go_on(stop: &Stop) -> Result<()> {
    if stop.is_asked() {
        return Err(Error::new(Kind::Stopped, "stopped by request"));
    }
    Ok(())
}

impl Search {
    fn staging(&self) -> StageRequest {
        let (watch, stop) = (self.watch.clone(), self.stop.clone());
        self.plan.staging(Pulse::new(move |done, all| {
            watch.on(&Happening::Staging(done, all));
            go_on(&stop)
        }))
    }
}

impl Searching {
    async fn new(search: Search) -> Result<Self> {
        let (plan, target) = (search.plan.clone(), &search.target);
        let table = match target.table().await? {
            None => target.untyped(&plan.survey.columns, &plan.spec.rows.time).await?,
            table => table,
        };
        search.source.stage(&search.staging()).await?;
        let scope = plan.spec.write.scope.as_ref();
        let scope = scope.map(|s| Within::new(s, &plan.columns)).transpose()?;
        let keyed = plan.spec.rows.key.is_some();
        let held = if keyed {
            let width = plan.columns.key_width();
            let list: Vec<Column> = plan.columns.iter().take(width).cloned().collect();
            Arc::new(Columns::new(list)?)
        } else {
            plan.columns.clone()
        };
        Ok(Searching {
            refusals: Refusals::new(&plan.columns, scope, table.as_deref()),
            // The salt is part of no result: with one that never changes, the same rows are
            // always met in the same order.
            hasher: Hasher::new(&plan.columns, &[0; 16]),
            held,
            there: table.is_some(),
            keyed,
            search,
        })
    }

    fn go_on(&self) -> Result<()> {
        go_on(&self.search.stop)
    }

    async fn all(&self) -> Result<Gaps> {
        let guess = match self.search.cadence {
            Wanted::Every(every) => Some(every),
            Wanted::Find => self.guess().await?,
            Wanted::Rows => None,
        };
        let (mut fold, mut slices) = self.pass(guess).await?;
        let cadence = match self.search.cadence {
            Wanted::Rows => None,
            Wanted::Every(every) => Some(Cadence { every, found: None }),
            Wanted::Find => {
                let (every, share) = fold.tally().found()?;
                if guess != Some(every) {
                    (fold, slices) = self.pass(Some(every)).await?;
                }
                Some(Cadence { every, found: Some(share) })
            }
        };
        let mut doubts = cadence.map_or_else(Vec::new, |c| fold.doubts(c.every));
        if fold.failing > 0 {
            doubts.push(format!(
                "unequal rows of the source share a key, {} times: `on_duplicate: fail` fails \
                 their slices",
                fold.failing
            ));
        }
        Ok(Gaps { cadence, refused: fold.refused, series: fold.finish()?, slices, doubts })
    }

    /// The cadence by the first rows; the whole decides in the end.
    async fn guess(&self) -> Result<Option<Every>> {
        let mut fold = Fold::new(None);
        let plan = &self.search.plan;
        let parts = parts(&plan.survey, &plan.slices, GUESSED_ROWS.min(self.most()));
        for (_, interval) in parts.into_iter().take(GUESSED) {
            (fold, _) = self.part(fold, interval, None).await?;
            let tally = fold.tally();
            if tally.differences() >= ENOUGH {
                return Ok(tally.found().ok().map(|(every, _)| every));
            }
        }
        Ok(None)
    }

    /// Looks through all slices, several parts of them at a time.
    async fn pass(&self, every: Option<Every>) -> Result<(Fold, Vec<u64>)> {
        let plan = &self.search.plan;
        let zone = zone(&plan.spec.range.timezone)?;
        let mut fold = Fold::new(every.map(|every| (every, zone)));
        let (slices, rows) = (plan.slices.len() as u64, plan.estimated_rows());
        self.search.watch.on(&Happening::Began { slices, rows, done: 0 });
        let mut found = vec![0; plan.slices.len()];
        // A row that both sides have takes its place twice.
        let most = self.most() / (1 + usize::from(self.there));
        let parts = parts(&plan.survey, &plan.slices, most);
        let last: Vec<bool> = parts
            .iter()
            .enumerate()
            .map(|(i, (slice, _))| parts.get(i + 1).is_none_or(|(next, _)| next != slice))
            .collect();
        let looked = stream::iter(parts.into_iter().zip(last)).map(|(part, last)| async move {
            let stretch = self.stretch(&part.1, self.most()).await?;
            Ok::<_, Error>((part, last, stretch))
        });
        let mut looked = std::pin::pin!(looked.buffered(self.at_once()));
        let mut end = plan.range.start();
        while let Some(next) = looked.next().await {
            let ((slice, interval), last, stretch) = next?;
            if interval.start() > end {
                fold.skip_to(interval.start());
            }
            end = interval.end();
            let rows;
            (fold, rows) = self.part(fold, interval, stretch).await?;
            found[slice] += rows;
            if last {
                self.search.watch.on(&Happening::Searched(plan.slices[slice].id()));
            }
        }
        Ok((fold, found))
    }

    fn at_once(&self) -> usize {
        self.search.plan.spec.limits.concurrency.unwrap_or(2).max(1)
    }

    /// Rows of a stretch that fit into its share of memory.
    fn most(&self) -> usize {
        let share = self.search.plan.spec.limits.memory / (self.at_once() as u64 + 1);
        (share / BYTES_PER_ROW).max(1) as usize
    }

    /// Takes a part, where it was read, else in as many steps as memory asks for.
    async fn part(
        &self,
        mut fold: Fold,
        interval: Interval,
        mut read: Option<Stretch>,
    ) -> Result<(Fold, u64)> {
        let mut todo = vec![interval];
        let mut fillable = 0;
        while let Some(interval) = todo.pop() {
            let halves = interval.halves();
            let most = if halves.is_some() { self.most() } else { usize::MAX };
            let stretch = match read.take() {
                Some(stretch) => Some(stretch),
                None => self.stretch(&interval, most).await?,
            };
            let Some(stretch) = stretch else {
                todo.extend(halves.into_iter().flat_map(|(early, late)| [late, early]));
                continue;
            };
            let taken = compute(self.search.env.as_ref(), move || {
                let rows = fold.take(stretch)?;
                Ok::<_, Error>((fold, rows))
            });
            let rows;
            (fold, rows) = taken.await??;
            fillable += rows;
        }
        Ok((fold, fillable))
    }

    /// A stretch of time; none where it holds more rows than this.
    async fn stretch(&self, interval: &Interval, most: usize) -> Result<Option<Stretch>> {
        self.go_on()?;
        let Some(sides) = self.sides(interval, most).await? else { return Ok(None) };
        let (keyed, rule) = (self.keyed, self.search.plan.spec.rows.on_duplicate);
        compute(self.search.env.as_ref(), move || Some(sides.compare(keyed, rule))).await
    }
}

#[cfg(test)]
mod tests;
