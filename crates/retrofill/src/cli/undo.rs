//! `retrofill undo`: take out what this job wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use retrofill_core::error::Error;
use retrofill_core::id::SliceId;
use retrofill_core::ledger::State;
use retrofill_core::runner::{self, Options, Prospect, Report, Stop};
use serde_json::json;

use super::Context;
use super::consent;
use super::exit::{Exit, Facts, decide};
use super::flags::SummaryFile;
use super::job::{Given, JobArg};
use super::output::{Failure, Format, seconds};
use super::summary::{Summary, count};
use super::watch::Screen;
use super::work::{explained, facts, sum_up, write_summary};
use crate::job::Parts;
use crate::signals::Signals;

/// Arguments of `undo`.
#[derive(Debug, Clone, Args)]
pub struct UndoArgs {
    /// A spec, a plan file, or a plan's name in the ledger.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The slices, such as `20190101T000000Z`. Default: all that were loaded.
    #[arg(value_name = "ID")]
    pub slices: Vec<String>,
    /// Take rows out without asking for the plan's id.
    #[arg(
        long,
        env = "RETROFILL_YES",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub yes: bool,
    /// Only tell what would go.
    #[arg(
        long,
        env = "RETROFILL_DRY_RUN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub dry_run: bool,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
    /// Keys that are given beside the spec.
    #[command(flatten)]
    pub given: Given,
}

/// Tells what would go, asks, and takes it out.
pub async fn execute(ctx: &Context, args: &UndoArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let opened = JobArg { text: args.job.clone(), given: args.given.clone() }
        .open(ctx.state_dir.as_deref())?;
    let plan = opened
        .run_plan("where only its state is lost, `retrofill run` finds the receipts again")?;
    let plan = Arc::new(plan);
    let parts = Parts::open(&opened.job)?;
    let screen = Screen::new(ctx.output);
    let stop = Arc::new(Stop::default());
    let output = ctx.output;
    let signals = Signals::listen(stop.clone(), move |text| output.note(text))?;
    let job = parts.for_runner(&plan, stop, screen.clone())?;
    let prospects = runner::undoable(job.clone(), Options::default()).await;
    let chosen = chosen(&args.slices, prospects?)?;
    let told = Told::of(&chosen);
    tell(ctx, &chosen);
    if told.slices == 0 || args.dry_run {
        let nothing = if told.slices == 0 { "nothing to undo" } else { "nothing was changed" };
        ctx.output.note(nothing);
        return Ok(if told.refused > 0 { Exit::Failed } else { Exit::Done });
    }
    let what = format!(
        "takes out {} that this job wrote in {} of {}; leaves {} of others or changed since",
        count(told.rows, "row"),
        count(told.slices, "slice"),
        plan.spec.target.label,
        count(told.stay, "row"),
    );
    consent::confirm(ctx.output, &what, plan.id.as_str(), args.yes)?;
    let undo: BTreeMap<_, _> =
        chosen.into_iter().filter_map(|p| Some((p.record.id, p.verdict.ok()?))).collect();
    let options = Options { undo, ..Options::default() };
    let result = runner::run(job, options.clone()).await;
    screen.finish();
    let report = explained(result, &signals)?;
    let standing = parts.journal.summary(&plan.id).await?;
    let standing = standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))?;
    let mut summary = sum_up(&plan, &standing, began.elapsed().as_secs_f64());
    let done = Undone::of(&report, &options);
    summary.exit = decide(Facts {
        failed: told.refused > 0 || done.slices < told.slices,
        rejects: false,
        mismatched: false,
        ..facts(&plan, &options, &report, &summary, signals.exit())
    });
    finish(ctx, args, &summary, &done)?;
    Ok(summary.exit)
}

/// The slices that are meant.
fn chosen(ids: &[String], prospects: Vec<Prospect>) -> Result<Vec<Prospect>, Failure> {
    if ids.is_empty() {
        return Ok(prospects);
    }
    let is = |p: &Prospect, id: &String| {
        let own = p.record.id.as_str();
        own == id || own.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('.'))
    };
    if let Some(id) = ids.iter().find(|id| !prospects.iter().any(|p| is(p, id))) {
        let error = Error::config(format!("slice {id} is not one that this job has loaded"));
        return Err(error.hint("`retrofill status` and `retrofill plan` list the slices").into());
    }
    Ok(prospects.into_iter().filter(|p| ids.iter().any(|id| is(p, id))).collect())
}

/// What is asked for.
#[derive(Default)]
struct Told {
    slices: u64,
    rows: u64,
    stay: u64,
    refused: u64,
}

impl Told {
    fn of(prospects: &[Prospect]) -> Self {
        let mut told = Told::default();
        for prospect in prospects {
            match &prospect.verdict {
                Ok(allowed) => {
                    told.slices += 1;
                    told.rows += allowed.rows;
                    told.stay += prospect.stay;
                }
                Err(_) => told.refused += 1,
            }
        }
        told
    }
}

/// Slice by slice.
fn tell(ctx: &Context, prospects: &[Prospect]) {
    for prospect in prospects {
        let id = &prospect.record.id;
        let line = match &prospect.verdict {
            Ok(allowed) => {
                let (rows, stay) = (count(allowed.rows, "row"), count(prospect.stay, "row"));
                format!("slice {id}: takes out {rows}, leaves {stay}")
            }
            Err(why) => format!("slice {id} cannot be undone: {why}"),
        };
        ctx.output.note(&line);
    }
}

/// What was done.
struct Undone {
    slices: u64,
    stopped: Option<Error>,
}

impl Undone {
    fn of(report: &Report, options: &Options) -> Self {
        let asked = |id: &SliceId| options.undo.contains_key(id);
        let undone = report
            .slices
            .iter()
            .filter(|s| asked(&s.id) && s.state == State::Stale && s.outcome.is_none());
        Undone { slices: undone.count() as u64, stopped: report.stopped.clone() }
    }
}

fn finish(ctx: &Context, args: &UndoArgs, summary: &Summary, done: &Undone) -> Result<(), Failure> {
    if let Some(e) = &done.stopped {
        ctx.output.note(&format!("stopped early: {e}"));
    }
    write_summary(summary, args.summary_file.path())?;
    match ctx.output.format {
        Format::Json => {
            let mut line = serde_json::to_value(summary).expect("a summary is plain JSON");
            line["undone"] = json!({ "slices": done.slices });
            ctx.output.result(&line.to_string());
        }
        Format::Text => ctx.output.result(&format!(
            "{}: undone {}   {}\n  proven by reading back\n\
             Next: retrofill status | run (loads them again)",
            summary.job,
            count(done.slices, "slice"),
            seconds(summary.seconds),
        )),
    }
    for trouble in &summary.troubles {
        ctx.output.note(trouble);
    }
    Ok(())
}
