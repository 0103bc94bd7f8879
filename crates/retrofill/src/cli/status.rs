//! `retrofill status`: how far the job is.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};

use std::fmt::Write as _;
use std::time::Duration;

use retrofill_core::error::Error;
use retrofill_core::ledger::State;

use super::Context;
use super::exit::Exit;
use super::flags::Detailed;
use super::job::JobArg;
use super::output::Failure;
use super::output::{Format, grouped};
use super::summary::conservation;
use crate::job::Job;
use crate::ledger::{LeaseState, PlanRow, Summary};

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Show it again every two seconds, until all is done or the runner that was seen has ended.
    #[arg(
        long,
        env = "RETROFILL_WATCH",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub watch: bool,
    /// Whether the exit code tells of outstanding work.
    #[command(flatten)]
    pub detailed: Detailed,
}

/// Shows where the job stands.
pub async fn execute(ctx: &Context, args: &StatusArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let mut seen = false;
    loop {
        let (journal, row) = opened.meant().await?;
        let standing = journal.summary(&row.plan).await?;
        let mut standing = standing.ok_or_else(|| Error::bug("the ledger lost the plan"))?;
        let nowhere = left_out(&opened.job, &row)?;
        standing.counts.read += nowhere;
        standing.counts.filtered += nowhere;
        let done = standing.of(State::Verified) + standing.of(State::Empty);
        match ctx.output.format {
            Format::Text => ctx.output.result(&text(&row, &standing, done)),
            Format::Json => ctx.output.json(&json(&row, &standing)),
        }
        let runs = standing.lease.as_ref().is_some_and(LeaseState::is_live);
        let ended = done == standing.total() || (seen && !runs);
        seen |= runs;
        if !args.watch || ended {
            return Ok(args.detailed.exit(done < standing.total()));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Rows that the transform left out and that are in no slice. The plan itself knows them, and is
/// read only where there can be any: it is large.
fn left_out(job: &Job, row: &PlanRow) -> Result<u64, Error> {
    if job.spec.transform.is_none() {
        return Ok(0);
    }
    let plan = job.frozen()?.filter(|plan| plan.id == row.plan);
    Ok(plan.map_or(0, |plan| plan.survey.filtered))
}

fn text(row: &PlanRow, standing: &Summary, done: u64) -> String {
    let mut out = vec![format!(
        "{}: plan {}, frozen {}",
        row.name,
        row.plan,
        row.frozen_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )];
    let mut states = format!("  done {}/{}", grouped(done), grouped(standing.total()));
    for state in State::ALL {
        let n = standing.of(state);
        if n > 0 && state != State::Split {
            let _ = write!(states, ", {} {}", state.as_str(), grouped(n));
        }
    }
    out.push(states);
    let mut counts = standing.counts;
    counts.read += standing.unplaced;
    counts.rejected += standing.unplaced;
    out.push(format!("  {}", conservation(&counts)));
    if let Some(t) = standing.verified_through {
        out.push(format!("  verified through {t}"));
    }
    if let Some(t) = standing.verified_back_to {
        out.push(format!("  verified back to {t}"));
    }
    if let Some(holder) =
        standing.lease.as_ref().filter(|l| l.is_live()).and_then(|l| l.holder.as_ref())
    {
        out.push(format!("  running on {} as process {}", holder.host, holder.pid));
    }
    for r in &standing.reasons {
        out.push(format!("  slice {} {}: {}", r.slice, r.state.as_str(), r.reason));
    }
    out.join("\n")
}

fn json(row: &PlanRow, standing: &Summary) -> serde_json::Value {
    let states: serde_json::Map<_, _> = State::ALL
        .into_iter()
        .filter(|s| *s != State::Split)
        .map(|s| (s.as_str().to_owned(), standing.of(s).into()))
        .collect();
    let reasons: Vec<_> = standing
        .reasons
        .iter()
        .map(|r| serde_json::json!({ "slice": r.slice, "state": r.state, "reason": r.reason }))
        .collect();
    serde_json::json!({
        "v": 1,
        "name": row.name,
        "plan": row.plan,
        "frozen_at": row.frozen_at,
        "total": standing.total(),
        "slices": states,
        "plan_rows": standing.counts,
        "unplaced": standing.unplaced,
        "verified_through": standing.verified_through,
        "verified_back_to": standing.verified_back_to,
        "running": standing.lease.as_ref().is_some_and(LeaseState::is_live),
        "reasons": reasons,
    })
}
