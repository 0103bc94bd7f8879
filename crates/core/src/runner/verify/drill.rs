//! Showing differences: the rows themselves, and what they have in common.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::Array as _;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use futures::StreamExt as _;
use jiff::Timestamp;

use super::super::Shared;
use super::super::sinks::hash;
use super::compare::{Sample, of_source};
use super::pattern::patterns;
use crate::connector::ReadRequest;
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::ledger::SliceRecord;
use crate::reject::Place;
use crate::survey::Survey;

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The source has it, the target does not.
    Missing,
    /// The target holds its key with another value.
    Changed,
    /// Only the target has it: no mismatch by itself.
    Extra,
}

impl Class {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Missing => "missing",
            Class::Changed => "changed",
            Class::Extra => "extra",
        }
    }
}

/// A value of a row: none is NULL.
pub type Cell = Option<String>;

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub class: Class,
    /// Its time.
    pub time: Option<Timestamp>,
    /// Its key, in the spec's order.
    pub key: Vec<Cell>,
    /// Where it stands in the source; none for extra rows.
    pub place: Option<Place>,
    /// The columns that differ, with the value of the source and the value of the target; all
    /// beside the key where only one side has the row.
    pub columns: Vec<(String, Cell, Cell)>,
}

/// The differing rows of a slice, as far as they are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drill {
    /// Some of the rows, by class and time.
    pub rows: Vec<Difference>,
    /// What they have in common, in plain words: "every `temp` is 1 more in the target".
    pub patterns: Vec<String>,
}

/// A row as text.
pub(super) struct Line {
    pub(super) time: Option<i128>,
    pub(super) cells: Vec<Cell>,
}

/// Rows by key hash and row hash.
type Lines = HashMap<(u128, u128), Line>;

/// Reads the rows of a sample and says how they differ.
pub(super) async fn drill(
    shared: &Shared,
    record: &SliceRecord,
    hasher: &Hasher,
    sample: &Sample,
) -> Result<Drill> {
    let job = &shared.job;
    let ours: Vec<_> = sample.missing.iter().chain(&sample.changed).collect();
    let ordinals: Vec<_> = ours.iter().map(|(_, ordinal)| *ordinal).collect();
    let places = job.source.locate(&job.plan.survey, &ordinals).await?;
    let wanted: HashSet<_> = ours.iter().map(|(h, _)| (h.key, h.row)).collect();
    let of_source = of_source(shared, record, &record.interval);
    let source = lines(shared, hasher, of_source, true, |key, row| wanted.contains(&(key, row)));
    let source = source.await?;
    let keys: HashSet<_> = sample.changed.iter().map(|(h, _)| h.key).collect();
    let extra: HashSet<_> = sample.extra.iter().map(|h| (h.key, h.row)).collect();
    let request = ReadRequest {
        interval: record.interval,
        columns: job.plan.columns.clone(),
        survey: Survey::default().into(),
    };
    let target = lines(shared, hasher, request, false, |key, row| {
        keys.contains(&key) || extra.contains(&(key, row))
    })
    .await?;
    let held: HashMap<u128, &Line> = target.iter().map(|((key, _), line)| (*key, line)).collect();
    let mut rows = Vec::new();
    for (n, ((hashes, _), (place, _))) in ours.iter().zip(places).enumerate() {
        let Some(line) = source.get(&(hashes.key, hashes.row)) else { continue };
        let class = if n < sample.missing.len() { Class::Missing } else { Class::Changed };
        let other = held.get(&hashes.key).filter(|_| class == Class::Changed).copied();
        rows.push(difference(shared, class, Some(place), Some(line), other));
    }
    for hashes in &sample.extra {
        let Some(line) = target.get(&(hashes.key, hashes.row)) else { continue };
        rows.push(difference(shared, Class::Extra, None, None, Some(line)));
    }
    rows.sort_by(|a, b| (a.class, a.time, &a.key).cmp(&(b.class, b.time, &b.key)));
    let patterns = patterns(&rows);
    Ok(Drill { rows, patterns })
}

/// The rows of one side that are wanted, as text.
async fn lines(
    shared: &Shared,
    hasher: &Hasher,
    request: ReadRequest,
    of_source: bool,
    wanted: impl Fn(u128, u128) -> bool,
) -> Result<Lines> {
    let job = &shared.job;
    let mut rows = if of_source {
        job.source.read(&request).await?
    } else {
        job.target.read(&request).await?
    };
    let (mut found, mut hasher) = (Lines::new(), hasher.clone());
    while let Some(batch) = rows.batches.next().await {
        shared.go_on()?;
        let hashed = hash(shared.env(), &mut hasher, batch?.rows).await?;
        for (at, hashes) in hashed.hashes.iter().enumerate() {
            if wanted(hashes.key, hashes.row) {
                let line = Line { time: hashed.times[at], cells: cells(&hashed.rows, at)? };
                found.insert((hashes.key, hashes.row), line);
            }
        }
    }
    Ok(found)
}

/// The values of one row, in the order of its columns.
pub fn cells(rows: &RecordBatch, at: usize) -> Result<Vec<Cell>> {
    let cell = |column: &arrow::array::ArrayRef| {
        if column.is_null(at) {
            return Ok(None);
        }
        array_value_to_string(column, at)
            .map(Some)
            .map_err(|e| Error::bug("a value cannot be shown as text").because(e))
    };
    rows.columns().iter().map(cell).collect()
}

fn difference(
    shared: &Shared,
    class: Class,
    place: Option<Place>,
    source: Option<&Line>,
    target: Option<&Line>,
) -> Difference {
    let columns = &shared.job.plan.columns;
    let width = columns.key_width();
    let line = source.or(target);
    let cell = |line: Option<&Line>, at: usize| line.and_then(|l| l.cells[at].clone());
    let both = source.is_some() && target.is_some();
    let differing = columns
        .iter()
        .enumerate()
        .skip(width)
        .map(|(at, column)| (column.name.clone(), cell(source, at), cell(target, at)))
        .filter(|(_, ours, theirs)| !both || ours != theirs);
    Difference {
        class,
        time: line.and_then(|l| l.time).and_then(|t| Timestamp::from_nanosecond(t).ok()),
        key: line.map(|l| l.cells[1..width].to_vec()).unwrap_or_default(),
        place,
        columns: differing.collect(),
    }
}

/// Differences by class, in their order.
pub(super) fn by_class(rows: &[Difference]) -> BTreeMap<Class, Vec<&Difference>> {
    let mut classes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        classes.entry(row.class).or_default().push(row);
    }
    classes
}
