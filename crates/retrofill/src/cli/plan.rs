//! `retrofill plan`: freeze what `run` will do.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, ValueEnum};

use jiff::Timestamp;
use retrofill_core::columns::{Column, Role};
use retrofill_core::connector::Capabilities;
use retrofill_core::error::Error;
use retrofill_core::ledger::{Journal as _, State};
use retrofill_core::plan::{Plan, PlanFile};
use retrofill_core::runner::Wanted;
use retrofill_core::spec::{Mode, WriteSpec};

use super::Context;
use super::estimate;
use super::exit::Exit;
use super::flags::{Detailed, Replan};
use super::gaps::{Searched, search};
use super::job::{JobArg, Opened};
use super::output::Failure;
use super::output::{Format, grouped};
use super::summary::{count, extent};
use super::watch::Screen;
use super::work::tell;
use crate::job::Parts;
use crate::ledger::{Summary, holder};

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Write the plan to this file too.
    #[arg(short, long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
    /// Mode fill-missing: plan only the slices in which the target lacks rows that the source has.
    /// Nothing is kept but the file of `--out`, which `run` and `exec` take.
    #[arg(
        long,
        env = "RETROFILL_ONLY_GAPS",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub only_gaps: bool,
    /// How much of the source to read: all, or parts of each file for a first look at huge
    /// archives. A sample gives an estimate: nothing is kept, and nothing can be run from it.
    #[arg(
        long,
        value_name = "EXTENT",
        env = "RETROFILL_SURVEY",
        hide_env = true,
        value_enum,
        default_value_t
    )]
    pub survey: Extent,
    /// Whether to drop an unfinished plan.
    #[command(flatten)]
    pub replan: Replan,
    /// Whether the exit code tells of outstanding work.
    #[command(flatten)]
    pub detailed: Detailed,
}

/// How much of a source is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Extent {
    /// All of it, once: what a run works by.
    #[default]
    Full,
    /// Parts of each file, for an estimate.
    Sample,
}

/// Freezes the plan and prints it.
pub async fn execute(ctx: &Context, args: &PlanArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    if args.survey == Extent::Sample {
        return estimate::execute(ctx, args, opened).await;
    }
    if args.only_gaps {
        return only_gaps(ctx, args, opened).await;
    }
    let screen = Screen::new(ctx.output);
    let parts = Parts::open(&opened.job)?;
    let planned = if opened.plan.is_some() {
        opened.plan
    } else {
        let made = opened.job.plan(&parts, args.replan.replan, screen.survey()).await?;
        made.map(|(plan, origin)| {
            tell(ctx.output, &origin, &plan);
            plan
        })
    };
    screen.finish();
    let Some(plan) = planned else {
        empty(ctx, &opened.job.spec.name);
        return Ok(Exit::Done);
    };
    let standing = take_in(&parts, &plan).await?;
    let done = standing.of(State::Verified) + standing.of(State::Empty);
    write(args, &plan)?;
    match ctx.output.format {
        Format::Json => ctx.output.json(&PlanFile::of(plan)),
        Format::Text => {
            let next = next(&plan, done);
            ctx.output.result(&text(&plan, &parts.target.capabilities(), &next));
        }
    }
    Ok(args.detailed.exit(done < standing.total()))
}

/// There is no plan of nothing.
pub(super) fn empty(ctx: &Context, name: &str) {
    match ctx.output.format {
        Format::Json => ctx.output.json(&serde_json::json!({ "v": 1, "plan": null })),
        Format::Text => {
            ctx.output.result(&format!("{name}: the source is empty; nothing to do"));
        }
    }
}

/// Plans the slices that have something to fill. The plan of the whole job stays the job's.
async fn only_gaps(ctx: &Context, args: &PlanArgs, opened: Opened) -> Result<Exit, Failure> {
    let mode = opened.job.spec.write.mode;
    if mode != Mode::FillMissing {
        let what = format!("`--only-gaps` belongs to mode fill-missing, not {}", mode.as_str());
        let hint = "the mode would do more to a slice than fill what is missing in it";
        return Err(Error::config(what).hint(hint).into());
    }
    let (name, capabilities) = (opened.job.spec.name.clone(), opened.job.target()?.capabilities());
    let (plan, gaps) = match search(ctx, opened, Wanted::Rows).await? {
        Searched::Found(found) => *found,
        Searched::Stopped(exit) => return Ok(exit),
        Searched::Empty => {
            empty(ctx, &name);
            return Ok(Exit::Done);
        }
    };
    for doubt in &gaps.doubts {
        ctx.output.warning(doubt);
    }
    let Some(plan) = plan.only(|slice| gaps.slices[slice] > 0, Timestamp::now())? else {
        match ctx.output.format {
            Format::Json => ctx.output.json(&serde_json::json!({ "v": 1, "slices": [] })),
            Format::Text => ctx.output.result(&format!(
                "{name}: nothing to fill; the target has every row of the source that can be loaded"
            )),
        }
        return Ok(Exit::Done);
    };
    write(args, &plan)?;
    match ctx.output.format {
        Format::Json => ctx.output.json(&PlanFile::of(plan)),
        Format::Text => {
            let rows = count(gaps.fillable_rows(), "row");
            let next = match &args.out {
                Some(out) => format!("Next: retrofill run {}", out.display()),
                None => "Next: retrofill plan --only-gaps -o gaps.json".to_owned(),
            };
            ctx.output.result(&text(&plan, &capabilities, &format!("{rows} to fill\n{next}")));
        }
    }
    Ok(args.detailed.exit(true))
}

pub(super) fn write(args: &PlanArgs, plan: &Plan) -> Result<(), Failure> {
    let Some(out) = &args.out else { return Ok(()) };
    if let Ok(held) = std::fs::read(out)
        && serde_json::from_slice::<PlanFile>(&held).is_err()
    {
        let what = format!("`{}` is there and is no plan; nothing was written", out.display());
        return Err(Error::config(what).hint("name another file").into());
    }
    std::fs::write(out, plan.to_json()?).map_err(|e| {
        Error::config(format!("{} cannot be written", out.display())).because(e).into()
    })
}

/// Makes the ledger know the plan, so that status shows it before the first run.
async fn take_in(parts: &Parts, plan: &Plan) -> Result<Summary, Error> {
    if let Some(standing) = parts.journal.summary(&plan.id).await? {
        return Ok(standing);
    }
    let lease = parts.journal.lease(&plan.id, &holder::this_process()?).await?;
    parts.journal.append(&lease, vec![plan.frozen_event()], true).await?;
    parts.journal.release(lease).await?;
    let standing = parts.journal.summary(&plan.id).await?;
    standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))
}

/// No more slices than this are listed.
pub(super) const LISTED: usize = 24;

/// What is done of a plan, and what comes next.
fn next(plan: &Plan, done: u64) -> String {
    let slices = plan.slices.len() as u64;
    match done {
        0 => "Next: retrofill run".into(),
        n if n == slices => format!("{} of {} done", grouped(n), grouped(slices)),
        n => format!("{} of {} done\nNext: retrofill run", grouped(n), grouped(slices)),
    }
}

fn text(plan: &Plan, target: &Capabilities, next: &str) -> String {
    let mut out = vec![format!(
        "{}: {} -> {}      {}",
        plan.spec.name,
        plan.spec.source.label,
        plan.spec.target.label,
        extent(plan.slices.len() as u64, &plan.range, plan.is_whole())
    )];
    out.push(format!(
        "  plan {}   every {} in {}   mode {}   about {}, {}",
        plan.id,
        plan.every,
        plan.spec.range.timezone,
        mode(&plan.spec.write),
        count(plan.estimated_rows(), "row"),
        bytes(plan.survey.bytes),
    ));
    out.push(format!("  columns  {}", columns(plan)));
    out.push(format!("  {}: {}; {}", target.system, target.rerun, target.fidelity));
    for (rows, place) in [(plan.earlier, "before"), (plan.later, "after")] {
        if rows > 0 {
            out.push(format!("  about {} lie {place} the range and stay out", count(rows, "row")));
        }
    }
    if plan.survey.unplaced > 0 {
        out.push(format!(
            "  {} cannot be placed in time and are rejected: rejects/unplaced.{}.jsonl",
            count(plan.survey.unplaced, "line"),
            plan.id
        ));
    }
    if plan.survey.filtered > 0 {
        out.push(format!(
            "  {} left out by the transform have no time among those that stay",
            count(plan.survey.filtered, "row")
        ));
    }
    out.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    for slice in plan.slices.iter().take(LISTED) {
        out.push(format!("    {}  about {}", slice.id(), count(slice.rows, "row")));
    }
    if plan.slices.len() > LISTED {
        out.push(format!("    and {} more", grouped((plan.slices.len() - LISTED) as u64)));
    }
    out.push(next.to_owned());
    out.join("\n")
}

/// The mode, with what it may take out.
fn mode(write: &WriteSpec) -> String {
    match &write.scope {
        None => write.mode.as_str().to_owned(),
        Some(scope) => format!("{} of {scope}", write.mode.as_str()),
    }
}

pub(super) fn columns(plan: &Plan) -> String {
    let name = |c: &Column| match c.role {
        Role::Time => format!("{} (time)", c.name),
        Role::Key => format!("{} (key)", c.name),
        Role::Value => format!("{} {}", c.name, c.ty.common_name()),
    };
    let list: Vec<_> = plan.columns.iter().take(40).map(name).collect();
    list.join(", ")
}

/// `2.1 MB`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
