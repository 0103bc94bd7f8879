//! `retrofill run`: load and prove.

use std::path::Path;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, ValueEnum};

use jiff::Timestamp;
use retrofill_core::calendar::zone;
use retrofill_core::error::Error;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::State;
use retrofill_core::plan::Plan;
use retrofill_core::runner::Options;
use retrofill_core::spec::Mode;

use super::Context;
use super::after;
use super::exit::Exit;
use super::flags::{Replan, SummaryFile};
use super::job::{JobArg, Opened};
use super::output::Failure;
use super::tell;
use super::work::{May, finish, finish_empty, forget_summary, work};
use crate::config::Moment;

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Only slices that end after this: a date in the spec's time zone, or RFC 3339.
    #[arg(
        long,
        value_name = "TIME",
        env = "RETROFILL_FROM",
        hide_env = true,
        value_parser = Moment::parse
    )]
    pub from: Option<Moment>,
    /// Only slices that start before this.
    #[arg(
        long,
        value_name = "TIME",
        env = "RETROFILL_TO",
        hide_env = true,
        value_parser = Moment::parse
    )]
    pub to: Option<Moment>,
    /// Only slices in these states, separated by commas.
    #[arg(
        long,
        value_name = "STATES",
        env = "RETROFILL_SELECT",
        hide_env = true,
        value_enum,
        value_delimiter = ','
    )]
    pub select: Vec<Selected>,
    /// Whether to drop an unfinished plan.
    #[command(flatten)]
    pub replan: Replan,
    /// Append although rows of this stretch of time were appended before.
    #[arg(
        long,
        env = "RETROFILL_AGAIN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub again: bool,
    /// Mode fill-missing: give rows that were changed since they were loaded the source's values
    /// again, also in mismatched slices. Tells how many and asks for the plan's id; the values that
    /// they had are listed.
    #[arg(
        long,
        env = "RETROFILL_OVERWRITE_CHANGED",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub overwrite_changed: bool,
    /// Mode fill-missing: where the source has changed a row since it was loaded, and the target
    /// provably holds it as this job wrote it, write the new value. The old ones are listed.
    #[arg(
        long,
        env = "RETROFILL_RESTATE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub restate: bool,
    /// Take rows out (mode replace, `--overwrite-changed`) without asking for the plan's id.
    #[arg(
        long,
        env = "RETROFILL_YES",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub yes: bool,
    /// Exit with 99 instead of 0 where there was nothing to do.
    #[arg(
        long,
        env = "RETROFILL_SKIP_IF_DONE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub skip_if_done: bool,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
}

/// States that can be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Selected {
    /// Given up after all tries.
    Failed,
    /// Read back different.
    Mismatched,
    /// Source, receipt or data changed since.
    Stale,
}

/// Loads and proves.
pub async fn execute(ctx: &Context, args: &RunArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let overwrite = args.overwrite_changed;
    let may = May { replan: args.replan.replan, yes: args.yes, overwrite };
    let ending = Ending { summary_file: args.summary_file.path(), skip_if_done: args.skip_if_done };
    load(ctx, opened, may, ending, |plan| options(plan, args)).await
}

/// How a load is told of in the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending<'a> {
    /// See [`RunArgs::summary_file`].
    pub(super) summary_file: Option<&'a Path>,
    /// See [`RunArgs::skip_if_done`].
    pub(super) skip_if_done: bool,
}

/// Loads what the options choose, prints the summary, writes the report and tells who wants to
/// know.
pub(super) async fn load(
    ctx: &Context,
    opened: Opened,
    may: May,
    ending: Ending<'_>,
    options: impl FnOnce(&Plan) -> Result<Options, Failure>,
) -> Result<Exit, Failure> {
    let called = Timestamp::now();
    let name = opened.job.spec.name.clone();
    forget_summary(ending.summary_file)?;
    let job = opened.job.clone();
    let done = match Box::pin(work(ctx, opened, may, options)).await {
        Ok(done) => done,
        Err(failure) => {
            tell::failed(ctx, called, &job, &failure).await;
            return Err(failure);
        }
    };
    let Some(mut done) = done else {
        let exit = Exit::Done.skipped(ending.skip_if_done, true);
        finish_empty(ctx, &name, exit, ending.summary_file)?;
        return Ok(exit);
    };
    after::follow(&mut done).await;
    let summary = &mut done.summary;
    let all_done = summary.nothing_to_do && summary.slices.done() == summary.slices.total;
    summary.exit = summary.exit.skipped(ending.skip_if_done, all_done);
    let report = tell::report(ctx, called, &mut done).await;
    finish(ctx, &done.summary, ending.summary_file)?;
    tell::notify(ctx, &done, report).await;
    Ok(done.summary.exit)
}

/// The flags that change held rows in a mode that leaves them alone.
fn check_mode(plan: &Plan, args: &RunArgs) -> Result<(), Failure> {
    let flags = [("--overwrite-changed", args.overwrite_changed), ("--restate", args.restate)];
    let mode = plan.spec.write.mode;
    let given = flags.into_iter().find(|(_, given)| *given && mode != Mode::FillMissing);
    let Some((flag, _)) = given else { return Ok(()) };
    let hint = match mode {
        Mode::Append => "rows without a key cannot be told to be changed",
        _ => {
            "the mode puts the source's rows in the place of others by itself; mismatched slices \
              are chosen with `--select mismatched`"
        }
    };
    let what = format!("`{flag}` belongs to mode fill-missing, not {}", mode.as_str());
    Err(Error::config(what).hint(hint).into())
}

fn options(plan: &Plan, args: &RunArgs) -> Result<Options, Failure> {
    check_mode(plan, args)?;
    let zone = zone(&plan.spec.range.timezone)?;
    let from = args.from.map(|m| m.instant(&zone)).transpose()?;
    let to = args.to.map(|m| m.instant(&zone)).transpose()?;
    let within = match (from, to) {
        (None, None) => None,
        (from, to) => {
            Some(Interval::new(from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX))?)
        }
    };
    let state = |s: &Selected| match s {
        Selected::Failed => State::Failed,
        Selected::Mismatched => State::Mismatched,
        Selected::Stale => State::Stale,
    };
    Ok(Options {
        select: args.select.iter().map(state).collect(),
        within,
        again: args.again,
        restate: args.restate,
        ..Options::default()
    })
}
