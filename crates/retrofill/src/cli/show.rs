//! `retrofill show`: one slice in detail.

use clap::Args;

use retrofill_core::error::Error;
use retrofill_core::id::SliceId;
use retrofill_core::ledger::{Entry, Event, EventV1, Journal as _, SliceRecord};

use super::Context;
use super::exit::Exit;
use super::job::{Given, JobArg};
use super::log::line;
use super::output::Failure;
use super::output::Format;
use super::summary::conservation;

/// Arguments of `show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// A spec, a plan file, or a plan's name in the ledger.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The slice, such as `20190101T000000Z`.
    #[arg(value_name = "ID")]
    pub slice: String,
    /// Keys that are given beside the spec.
    #[command(flatten)]
    pub given: Given,
}

/// Shows the slice and its halves.
pub async fn execute(ctx: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let opened = JobArg { text: args.job.clone(), given: args.given.clone() }
        .open(ctx.state_dir.as_deref())?;
    let (journal, row) = opened.meant().await?;
    let family = format!("{}.", args.slice);
    let mine = |id: &SliceId| id.as_str() == args.slice || id.as_str().starts_with(&family);
    let records: Vec<_> =
        journal.slices(&row.plan).await?.into_iter().filter(|r| mine(&r.id)).collect();
    if records.is_empty() {
        return Err(Error::config(format!("plan {} has no slice {}", row.plan, args.slice))
            .hint("`retrofill plan` lists the slices")
            .into());
    }
    let entries: Vec<_> = journal
        .read(&row.plan, 0)
        .await?
        .into_iter()
        .filter(|e| matches!(&e.event, Event::V1(EventV1::Slice { slice, .. }) if mine(slice)))
        .collect();
    match ctx.output.format {
        Format::Json => {
            ctx.output.json(&serde_json::json!({ "v": 1, "slices": records, "events": entries }));
        }
        Format::Text => ctx.output.result(&text(&records, &entries)),
    }
    Ok(Exit::Done)
}

fn text(records: &[SliceRecord], entries: &[Entry]) -> String {
    let mut out = Vec::new();
    for r in records {
        out.push(format!(
            "slice {}   {}   generation {}, tries {}   {}",
            r.id,
            r.state.as_str(),
            r.generation,
            r.attempt,
            r.interval
        ));
        if let Some(outcome) = &r.outcome {
            out.push(format!("  {}", conservation(&outcome.counts)));
            out.push(format!("  digest {}   proven {}", outcome.digest, outcome.at));
        }
        if let Some(reason) = &r.reason {
            out.push(format!("  {reason}"));
        }
    }
    out.extend(entries.iter().map(line));
    out.join("\n")
}
