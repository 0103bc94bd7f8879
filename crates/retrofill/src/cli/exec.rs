//! `retrofill exec`: load and prove exactly one slice.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};

use retrofill_core::id::SliceId;
use retrofill_core::runner::Options;

use super::Context;
use super::exit::Exit;
use super::flags::SummaryFile;
use super::job::{Given, JobArg};
use super::output::Failure;
use super::output::Format;
use super::work::{Done, May, finish, work};

/// Arguments of `exec`.
#[derive(Debug, Clone, Args)]
pub struct ExecArgs {
    /// A plan file, or a plan's name in the ledger.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Keys that are given beside the spec.
    #[command(flatten)]
    pub given: Given,
    /// The slice, such as `20190101T000000Z`.
    #[arg(long, value_name = "ID", env = "RETROFILL_SLICE", hide_env = true)]
    pub slice: String,
    /// Mode replace: take rows out without asking for the plan's id.
    #[arg(
        long,
        env = "RETROFILL_YES",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub yes: bool,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
}

/// Loads and proves the slice; prints its receipt.
pub async fn execute(ctx: &Context, args: &ExecArgs) -> Result<Exit, Failure> {
    let opened = JobArg { text: args.plan.clone(), given: args.given.clone() }
        .open(ctx.state_dir.as_deref())?;
    let slice = SliceId::new(args.slice.clone());
    let only = Options { only: Some(slice.clone()), ..Options::default() };
    let may = May { yes: args.yes, ..May::default() };
    let done = work(ctx, opened, may, |_| Ok(only)).await?;
    let Some(Done { plan, parts, summary, .. }) = done else {
        ctx.output.note("the source is empty; nothing to do");
        return Ok(Exit::Done);
    };
    let family = format!("{slice}.");
    for found in parts.target.receipts(&plan.range).await?.found {
        let r = found.receipt.latest();
        if r.plan == plan.id && (r.slice == slice || r.slice.as_str().starts_with(&family)) {
            ctx.output.json(&found.receipt);
        }
    }
    if ctx.output.format == Format::Json {
        finish(ctx, &summary, args.summary_file.path())?;
    } else {
        for trouble in &summary.troubles {
            ctx.output.note(trouble);
        }
    }
    Ok(summary.exit)
}
