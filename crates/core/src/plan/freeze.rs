//! Freezing a plan: range, slices, ids.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::estimate::Estimate;
use super::{Plan, Planned, estimate};
use crate::calendar::{Every, zone};
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::id::hex;
use crate::interval::Interval;
use crate::spec::{OnEmptySource, Spec};
use crate::survey::Survey;

/// A slice of so many times fewer rows than the fullest one is next to empty: a single wrong time
/// far away stretches the block that it stands in over thousands of such slices.
const SPARSE: u64 = 10_000;

/// The sizes that `every: auto` chooses from.
const LADDER: [Every; 15] = [
    Every::Years(1),
    Every::Months(3),
    Every::Months(1),
    Every::Weeks(1),
    Every::Days(1),
    Every::Hours(12),
    Every::Hours(6),
    Every::Hours(3),
    Every::Hours(1),
    Every::Minutes(30),
    Every::Minutes(15),
    Every::Minutes(5),
    Every::Minutes(1),
    Every::Seconds(10),
    Every::Seconds(1),
];

/// The longest of the sizes that `every: auto` chooses from which is no longer than so many
/// seconds; the shortest where all are.
pub fn at_most(seconds: f64) -> Every {
    let fits = |every: &&Every| every.nominal_seconds() as f64 <= seconds;
    LADDER.iter().find(fits).copied().unwrap_or(Every::Seconds(1))
}

/// What a plan is made of.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The spec.
    pub spec: Spec,
    /// The spec as written.
    pub as_written: serde_json::Value,
    /// Where its relative paths start.
    pub base_dir: String,
    /// What the source holds.
    pub survey: Survey,
    /// The plan's columns.
    pub columns: Columns,
    /// What the user should know so far.
    pub notes: Vec<String>,
    /// With `every: auto`, no slice should hold more rows than this.
    pub most: u64,
    /// Where earlier plans of the same spec cut, off the grid: the new slices are cut there too,
    /// so that what is proven can be taken over.
    pub cuts: Vec<Timestamp>,
    /// The time of planning.
    pub now: Timestamp,
    /// For the digests; a plan that the target knows already keeps the salt it had.
    pub salt: [u8; 16],
}

/// The result of freezing.
#[derive(Debug)]
pub enum Frozen {
    /// A plan.
    Plan(Box<Plan>),
    /// The source is empty, and the spec says that this is fine.
    NothingThere,
}

/// Makes the plan. A pure function: the same inputs give the same plan.
pub fn freeze(inputs: Inputs) -> Result<Frozen> {
    let Inputs { spec, as_written, base_dir, survey, columns, .. } = inputs;
    let Inputs { mut notes, most, cuts, now, salt, .. } = inputs;
    spec.check()?;
    let zone = zone(&spec.range.timezone)?;
    let seen = match (seen(&survey)?, spec.write.on_empty_source) {
        (Some(seen), _) => seen,
        (None, OnEmptySource::Skip) => return Ok(Frozen::NothingThere),
        (None, OnEmptySource::Clear) => to_be_cleared(&spec)?,
        (None, OnEmptySource::Fail) if survey.filtered > 0 => {
            let (label, rows) = (&spec.source.label, survey.filtered);
            let what = format!("{label} holds no row: the transform leaves all {rows} out");
            return Err(Error::config(what)
                .hint("its `WHERE` is true for none")
                .about("transform"));
        }
        (None, OnEmptySource::Fail) if !survey.unplaced_rejects.is_empty() => {
            let (label, lines) = (&spec.source.label, survey.unplaced);
            let first = &survey.unplaced_rejects[0];
            let what = format!("{label} holds no row with a time; refused lines: {lines}");
            return Err(Error::config(what).hint(format!("the first one: {}", first.reason)));
        }
        (None, OnEmptySource::Fail) => {
            return Err(Error::config(format!("{} holds no row", spec.source.label))
                .hint("if that is fine, say `write: { on_empty_source: skip }`"));
        }
    };
    let limits = Limits { seen, settled: settled(&spec, now)? };
    let (every, range, intervals) = match spec.range.every {
        Some(every) => {
            let range = range(&spec, &limits, every, &zone)?;
            (every, range, every.slices(&range, &zone)?)
        }
        None => auto(&spec, &survey, &limits, (&zone, most))?,
    };
    let intervals = cut(intervals, cuts)?;
    let rows = estimate::rows(&survey, &intervals);
    let slices: Vec<_> = intervals
        .into_iter()
        .zip(rows)
        .map(|(interval, estimate)| Planned { interval, rows: estimate.rows })
        .collect();
    let (earlier, later) = estimate::outside(&survey, &range);
    notes.splice(0..0, survey.notes.iter().cloned());
    if range.end() < seen.end() && range.end() == limits.settled {
        let settled = limits.settled;
        notes.push(format!("rows after {settled} have not settled and are left for later"));
    }
    let spec_hash = hex(&spec.hash());
    let id = Plan::identify(&spec_hash, &columns, &range, &slices);
    Ok(Frozen::Plan(Box::new(Plan {
        id,
        spec_hash,
        spec,
        as_written,
        base_dir,
        frozen_at: now,
        salt,
        columns: Arc::new(columns),
        range,
        every,
        later,
        earlier,
        notes,
        survey: Arc::new(survey),
        slices,
    })))
}

/// What an empty source is to clear: exactly what the spec names.
fn to_be_cleared(spec: &Spec) -> Result<Interval> {
    match (spec.range.from, spec.range.to, spec.range.every) {
        (Some(from), Some(to), Some(_)) => Interval::new(from, to),
        _ => Err(Error::config(format!(
            "{} holds no row, and the spec does not say what is to be cleared",
            spec.source.label
        ))
        .hint("`on_empty_source: clear` needs `range.from`, `range.to` and `range.every`")),
    }
}

/// Cuts intervals, which are in order, wherever one of the instants lies inside.
fn cut(intervals: Vec<Interval>, mut cuts: Vec<Timestamp>) -> Result<Vec<Interval>> {
    cuts.sort_unstable();
    let mut out = Vec::with_capacity(intervals.len() + cuts.len());
    let mut next = cuts.into_iter().peekable();
    for mut rest in intervals {
        while let Some(at) = next.next_if(|at| *at < rest.end()) {
            if at > rest.start() {
                out.push(Interval::new(rest.start(), at)?);
                rest = Interval::new(at, rest.end())?;
            }
        }
        out.push(rest);
    }
    Ok(out)
}

/// What the source holds, as an interval that ends one unit after the latest time.
fn seen(survey: &Survey) -> Result<Option<Interval>> {
    let Some((min, max)) = survey.time_range() else { return Ok(None) };
    let unit = survey.time_unit.map_or(1_000, super::super::survey::TimeUnitSeen::nanoseconds);
    let end = Timestamp::from_nanosecond(max.as_nanosecond() + unit)
        .map_err(|e| Error::config(format!("{max} lies outside the calendar")).because(e))?;
    Interval::new(min, end).map(Some)
}

fn settled(spec: &Spec, now: Timestamp) -> Result<Timestamp> {
    let settle = spec.range.settle.max(Duration::ZERO);
    let limit = now
        .checked_sub(settle)
        .map_err(|e| Error::config("`range.settle` is too long").because(e))?;
    Timestamp::from_second(limit.as_second())
        .map_err(|e| Error::bug("a clock outside the calendar").because(e))
}

/// What bounds a range besides the spec.
struct Limits {
    seen: Interval,
    settled: Timestamp,
}

fn range(spec: &Spec, limits: &Limits, every: Every, zone: &TimeZone) -> Result<Interval> {
    let Limits { seen, settled } = *limits;
    let from = match spec.range.from {
        Some(from) => from,
        None => every.floor(seen.start(), zone)?,
    };
    let to = match spec.range.to {
        Some(to) => to,
        // Rows of the year 9999 have no boundary behind them, and need none.
        None if seen.end() >= settled => settled,
        None => every.ceil(seen.end(), zone)?,
    };
    if from >= settled {
        return Err(Error::config(format!("no row before {settled} to load: the rest is too new"))
            .hint("`range.settle` keeps slices away from rows that may still arrive"));
    }
    Interval::new(from, to.min(settled))
}

/// The largest natural unit with at most so many rows in any slice, and at least four slices
/// where the data allow it; runs of empty slices become one.
fn auto(
    spec: &Spec,
    survey: &Survey,
    limits: &Limits,
    (zone, most): (&TimeZone, u64),
) -> Result<(Every, Interval, Vec<Interval>)> {
    let span = (limits.seen.nanoseconds() / 1_000_000_000) as u64;
    let mut chosen = None;
    for every in LADDER {
        // Cutting finer than this would make more slices than a plan may have.
        if span / every.nominal_seconds() > crate::calendar::MAX_SLICES as u64 / 2 {
            break;
        }
        if span < 4 * every.nominal_seconds() && every != Every::Seconds(1) {
            continue;
        }
        let range = range(spec, limits, every, zone)?;
        let intervals = every.slices(&range, zone)?;
        let rows = estimate::rows(survey, &intervals);
        let fullest = rows.iter().map(|e| e.rows).max().unwrap_or(0);
        chosen = Some((every, range, merged(intervals, &rows, (fullest / SPARSE, most))?));
        if fullest <= most {
            break;
        }
    }
    chosen.ok_or_else(|| {
        Error::config("no slice size fits the source's time range").hint("give `range.every`")
    })
}

/// Neighbouring intervals of no more than `few` rows become one of at most `most`, apart from those
/// that no block reaches: these become one as well.
fn merged(
    intervals: Vec<Interval>,
    estimates: &[Estimate],
    (few, most): (u64, u64),
) -> Result<Vec<Interval>> {
    #[derive(PartialEq)]
    enum Kind {
        Empty,
        Sparse,
        Full,
    }
    let mut out: Vec<(Interval, Kind, u64)> = Vec::new();
    for (interval, estimate) in intervals.into_iter().zip(estimates) {
        let kind = match estimate {
            Estimate { reached: false, .. } => Kind::Empty,
            Estimate { rows, .. } if few > 0 && *rows <= few => Kind::Sparse,
            _ => Kind::Full,
        };
        match out.last_mut() {
            Some((last, of, rows))
                if *of == kind && kind != Kind::Full && *rows + estimate.rows <= most =>
            {
                *last = Interval::new(last.start(), interval.end())?;
                *rows += estimate.rows;
            }
            _ => out.push((interval, kind, estimate.rows)),
        }
    }
    Ok(out.into_iter().map(|(interval, ..)| interval).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_to_empty_slices_become_one() {
        let t = |s: i64| Timestamp::from_second(s).unwrap();
        let intervals: Vec<_> = (0..9).map(|i| Interval::new(t(i), t(i + 1)).unwrap()).collect();
        let estimate = |rows| Estimate { rows, reached: rows > 0 };
        let rows = [1, 0, 0, 7, 90, 90, 900_000, 80, 91].map(estimate);
        let ends = |few| {
            let merged = merged(intervals.clone(), &rows, (few, 1_000_000)).unwrap();
            merged.iter().map(|i| i.end().as_second()).collect::<Vec<_>>()
        };
        assert_eq!(ends(90), [1, 3, 6, 7, 8, 9]);
        assert_eq!(ends(0), [1, 3, 4, 5, 6, 7, 8, 9]);
        // Together they stay below what a slice should hold.
        let many = [400_000; 9].map(estimate);
        let merged = merged(intervals.clone(), &many, (400_000, 1_000_000)).unwrap();
        assert_eq!(merged.len(), 5);
    }
}
