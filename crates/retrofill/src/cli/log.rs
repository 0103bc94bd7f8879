//! `retrofill log`: the journal.

use clap::Args;

use retrofill_core::id::hex;
use retrofill_core::ledger::{Entry, Event, EventV1, Journal as _, SliceEvent};

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;
use super::output::Format;
use super::summary::{conservation, count, interval};

/// Arguments of `log`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
}

/// Prints the journal, one entry a line, with the chain checked.
pub async fn execute(ctx: &Context, args: &LogArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let (journal, row) = opened.meant().await?;
    for entry in journal.read(&row.plan, 0).await? {
        match ctx.output.format {
            Format::Json => ctx.output.json(&entry),
            Format::Text => ctx.output.result(&line(&entry)),
        }
    }
    Ok(Exit::Done)
}

/// One entry for people: when, what, and the head of the chain there.
pub(super) fn line(entry: &Entry) -> String {
    let Event::V1(event) = &entry.event;
    let what = match event {
        EventV1::PlanFrozen { name, slices, .. } => {
            format!("plan of {name} frozen, {}", count(slices.len() as u64, "slice"))
        }
        EventV1::RunStarted { holder, .. } => format!("run started by {holder}"),
        EventV1::RunEnded { exit: 0, seconds } => format!("run ended after {seconds} s"),
        EventV1::RunEnded { seconds, .. } => format!("run stopped early after {seconds} s"),
        EventV1::Slice { slice, what } => format!("{slice}  {}", slice_line(what)),
        EventV1::AfterDone { label, intervals, .. } => {
            let list: Vec<_> = intervals.iter().map(interval).collect();
            format!("{label} done for {}", list.join("; "))
        }
        EventV1::AfterFailed { label, reason, .. } => format!("{label} failed: {reason}"),
    };
    let at = entry.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    format!("{:>6}  {at}  {}  {what}", entry.sequence, &hex(&entry.hash)[..8])
}

fn slice_line(what: &SliceEvent) -> String {
    match what {
        SliceEvent::Leased { generation, attempt } => {
            format!("loading, generation {generation}, try {attempt}")
        }
        SliceEvent::Split { at } => format!("halved at {at}"),
        SliceEvent::Written { rows } => format!("written, {}", count(*rows, "row")),
        SliceEvent::Proven { digest } => format!("proven, digest {digest}"),
        SliceEvent::Committed(o) => format!("committed, {}", conservation(&o.counts)),
        SliceEvent::Recovered(o) => {
            format!("receipt found, {}", conservation(&o.counts))
        }
        SliceEvent::CommitUnknown { reason } => format!("outcome of the commit unknown: {reason}"),
        SliceEvent::Failed { reason, .. } => format!("failed: {reason}"),
        SliceEvent::Released => "put back: the run stopped".into(),
        SliceEvent::Mismatched { reason } => format!("mismatched: {reason}"),
        SliceEvent::Stale { reason } => format!("stale: {reason}"),
        SliceEvent::Undone { generation, rows } => {
            format!("undone, generation {generation}, {} taken out", count(*rows, "row"))
        }
    }
}
