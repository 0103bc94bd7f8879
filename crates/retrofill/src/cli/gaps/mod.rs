//! `retrofill gaps`: what is missing, and what of that can be filled.

mod map;

use std::cmp::Reverse;
use std::sync::Arc;

use clap::Args;
use retrofill_core::calendar::{Every, zone};
use retrofill_core::error::{Error, Result};
use retrofill_core::plan::Plan;
use retrofill_core::runner::{self, Gaps, Hole, Missing, Search, Series, Stop, Wanted};
use retrofill_core::spec::Mode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Context;
use super::exit::Exit;
use super::flags::Detailed;
use super::job::{JobArg, Opened};
use super::output::{Failure, Format};
use super::preview::typed;
use super::summary::{count, interval};
use super::table::cell;
use super::work::{Prospect, prospect};
use crate::signals::Signals;

/// Arguments of `gaps`.
#[derive(Debug, Clone, Args)]
pub struct GapsArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// How often rows of a key should come, such as `1h` or `1d`, as in `range.every` [default: as
    /// they mostly do].
    #[arg(
        long,
        value_name = "LENGTH",
        env = "RETROFILL_EVERY",
        hide_env = true,
        value_parser = length
    )]
    pub every: Option<Every>,
    /// Whether the exit code tells of outstanding work.
    #[command(flatten)]
    pub detailed: Detailed,
}

fn length(text: &str) -> Result<Every> {
    text.parse().map_err(|_| {
        Error::config(format!(
            "`{text}` is no length: a whole number and a unit, s min h (elapsed) or d w mo y \
             (calendar)"
        ))
    })
}

/// Looks for gaps and shows them.
pub async fn execute(ctx: &Context, args: &GapsArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let name = opened.job.spec.name.clone();
    let wanted = args.every.map_or(Wanted::Find, Wanted::Every);
    let (plan, gaps) = match search(ctx, opened, wanted).await? {
        Searched::Found(found) => *found,
        Searched::Stopped(exit) => return Ok(exit),
        Searched::Empty => {
            ctx.output.result(&format!("{name}: the source is empty; nothing to look for"));
            return Ok(Exit::Done);
        }
    };
    for doubt in &gaps.doubts {
        ctx.output.warning(doubt);
    }
    match ctx.output.format {
        Format::Json => ctx.output.json(&line(&plan, &gaps)),
        Format::Text => ctx.output.result(&text(&plan, &gaps)?),
    }
    Ok(args.detailed.exit(gaps.fillable_rows() > 0))
}

/// How a search ended.
pub(super) enum Searched {
    /// What was found, in the slices of this plan.
    Found(Box<(Plan, Gaps)>),
    /// The source is empty, and the spec allows that.
    Empty,
    /// A signal ended it.
    Stopped(Exit),
}

/// Looks through all slices that a run would work on. Writes nothing.
pub(super) async fn search(
    ctx: &Context,
    opened: Opened,
    cadence: Wanted,
) -> Result<Searched, Failure> {
    let Prospect { look, screen, plan } = prospect(ctx, opened).await?;
    let Some(plan) = plan else { return Ok(Searched::Empty) };
    let stop = Arc::new(Stop::default());
    let signals = Signals::listen(stop.clone(), |_| {})?;
    let plan = Arc::new(plan);
    let searched = runner::gaps(Search {
        plan: plan.clone(),
        source: look.source.clone(),
        target: look.target.clone(),
        env: look.env.clone(),
        stop,
        watch: screen.clone(),
        cadence,
    });
    let result = Box::pin(searched).await;
    screen.finish();
    match (result, signals.exit()) {
        (Ok(gaps), _) => Ok(Searched::Found(Box::new((Arc::unwrap_or_clone(plan), gaps)))),
        (Err(_), Some(130)) => Ok(Searched::Stopped(Exit::Interrupted)),
        (Err(_), Some(_)) => Ok(Searched::Stopped(Exit::Terminated)),
        (Err(e), None) => Err(e.into()),
    }
}

/// The line for machines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    v: u8,
    cadence: Option<String>,
    fillable: Fillable<'a>,
    absent: Vec<OfKey<'a>>,
    refused: u64,
    doubts: &'a [String],
}

#[derive(Debug, Serialize)]
struct Fillable<'a> {
    buckets: u64,
    rows: u64,
    keys: Vec<OfKey<'a>>,
}

/// What one key lacks.
#[derive(Debug, Serialize)]
struct OfKey<'a> {
    key: Map<String, Value>,
    buckets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    rows: u64,
    holes: Vec<OneHole<'a>>,
    /// Holes that are counted and not listed.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[derive(Debug, Serialize)]
struct OneHole<'a> {
    #[serde(flatten)]
    interval: &'a retrofill_core::interval::Interval,
    buckets: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn line<'a>(plan: &Plan, gaps: &'a Gaps) -> Line<'a> {
    let of = |part: fn(&Series) -> &Missing| -> Vec<OfKey<'a>> {
        let lacking = gaps.series.iter().filter(|s| part(s).buckets > 0);
        lacking.map(|s| of_key(plan, s, part(s))).collect()
    };
    Line {
        v: 1,
        cadence: gaps.cadence.map(|c| c.every.to_string()),
        fillable: Fillable {
            buckets: sum(gaps, |s| s.fillable.buckets),
            rows: gaps.fillable_rows(),
            keys: of(|s| &s.fillable),
        },
        absent: of(|s| &s.absent),
        refused: gaps.refused,
        doubts: &gaps.doubts,
    }
}

fn of_key<'a>(plan: &Plan, series: &'a Series, missing: &'a Missing) -> OfKey<'a> {
    let columns = plan.columns.keys().iter().zip(&series.key);
    let value = |(column, cell): (&retrofill_core::columns::Column, &Option<String>)| {
        (column.source_name().to_owned(), typed(cell.as_deref(), column.ty))
    };
    let hole = |hole: &'a Hole| OneHole { interval: &hole.interval, buckets: hole.buckets };
    OfKey {
        key: columns.map(value).collect(),
        buckets: missing.buckets,
        rows: missing.rows,
        holes: missing.holes.iter().map(hole).collect(),
        left_out: missing.left_out,
    }
}

fn sum(gaps: &Gaps, part: impl Fn(&Series) -> u64) -> u64 {
    gaps.series.iter().map(part).sum()
}

/// A key in a few words.
fn named(series: &Series) -> String {
    let cells: Vec<_> = series.key.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
    if cells.is_empty() { "all rows".to_owned() } else { cell(&cells.join(" ")) }
}

/// No more holes than these are listed.
const LONGEST: usize = 8;

fn text(plan: &Plan, gaps: &Gaps) -> Result<String> {
    let mut out = vec![format!(
        "{}: {} -> {}      {}, {}",
        plan.spec.name,
        plan.spec.source.label,
        plan.spec.target.label,
        count(gaps.series.len() as u64, "key"),
        interval(&plan.range)
    )];
    if let Some(cadence) = gaps.cadence {
        out.push(match cadence.found {
            None => format!("  a row every {}, as given", cadence.every),
            Some(share) => format!(
                "  a row every {}, as {:.1} % of neighbouring rows lie so far apart",
                cadence.every,
                (share * 1_000.0).floor() / 10.0
            ),
        });
    }
    out.push(match gaps.fillable_rows() {
        0 => "  fillable  nothing: the target has every row that the source can give".to_owned(),
        rows => format!(
            "  fillable  {} in {}: the source has them, the target lacks them",
            count(rows, "row"),
            count(sum(gaps, |s| s.fillable.buckets), "bucket")
        ),
    });
    let absent = count(sum(gaps, |s| s.absent.buckets), "bucket");
    out.push(format!("  absent    {absent} between others: neither has a row there"));
    if gaps.refused > 0 {
        out.push(format!(
            "  refused   {} of the source would be; they count as not there",
            count(gaps.refused, "row")
        ));
    }
    if let Some(cadence) = gaps.cadence {
        let zone = zone(&plan.spec.range.timezone)?;
        let map = map::Map::new(&gaps.series, cadence.every, &zone);
        out.push(map.draw(map::Style::of_stdout())?);
    }
    out.extend(longest(gaps));
    out.push(match (gaps.fillable_rows(), plan.spec.write.mode) {
        (0, _) => "Next: retrofill verify | status".to_owned(),
        (_, Mode::FillMissing) => "Next: retrofill run | plan --only-gaps -o gaps.json".to_owned(),
        _ => "Next: retrofill run".to_owned(),
    });
    Ok(out.join("\n"))
}

/// The longest holes of both kinds.
fn longest(gaps: &Gaps) -> Vec<String> {
    let of = |s: &'_ Series, missing: &'_ Missing, word: &'static str| -> Vec<_> {
        let name = named(s);
        missing.holes.iter().map(|h| (*h, word, name.clone())).collect()
    };
    let mut holes: Vec<(Hole, &str, String)> = Vec::new();
    let mut all = 0;
    for series in &gaps.series {
        for (missing, word) in [(&series.fillable, "fillable"), (&series.absent, "absent")] {
            holes.extend(of(series, missing, word));
            all += missing.holes.len() as u64 + missing.left_out;
        }
        // Never more in hand than those of one key and the longest so far.
        holes.sort_by_key(|(h, word, _)| (Reverse(h.buckets), Reverse(*word), h.interval.start()));
        holes.truncate(LONGEST);
    }
    if holes.is_empty() {
        return Vec::new();
    }
    let width = holes.iter().map(|(_, _, name)| name.chars().count()).max().unwrap_or(0);
    let buckets: Vec<_> = holes.iter().map(|(h, ..)| count(h.buckets, "bucket")).collect();
    let wide = buckets.iter().map(String::len).max().unwrap_or(0);
    let mut out = vec![if all > holes.len() as u64 {
        format!("  the longest of {}", count(all, "hole"))
    } else {
        format!("  {}", count(all, "hole"))
    }];
    for ((hole, word, name), buckets) in holes.iter().zip(buckets) {
        let space = " ".repeat(width - name.chars().count());
        out.push(format!("    {name}{space}  {word:<8}  {buckets:>wide$}  {}", hole.interval));
    }
    out
}
