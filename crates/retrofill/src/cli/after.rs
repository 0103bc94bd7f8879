//! After the loads: what the spec's `after` asks of the target.

use std::collections::BTreeSet;

use retrofill_core::after::{After, pending};
use retrofill_core::error::Result;
use retrofill_core::id::SliceId;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Event, EventV1, Journal as _, Lease};

use super::exit::Exit;
use super::summary::Followed;
use super::work::Done;
use crate::ledger::holder;

/// Does what has not been done yet for what is loaded, in the order of the spec, up to the first
/// failure. What fails or is left out is pending, and done by the next run.
pub(super) async fn follow(done: &mut Done) {
    let held_up = [Exit::Held, Exit::Interrupted, Exit::Terminated];
    if done.job.after.is_empty() || held_up.contains(&done.summary.exit) {
        return;
    }
    let mut list = Vec::new();
    if let Err(e) = all(done, &mut list).await {
        list.push(Followed {
            action: "the actions after the loads".into(),
            failed: Some(e.to_string()),
        });
    }
    if list.iter().any(|f| f.failed.is_some()) {
        done.summary.exit = done.summary.exit.and(Exit::Failed);
    }
    done.summary.after = list;
}

async fn all(done: &Done, list: &mut Vec<Followed>) -> Result<()> {
    let (plan, parts) = (&done.plan, &done.parts);
    let entries = parts.journal.read(&plan.id, 0).await?;
    let records = parts.journal.slices(&plan.id).await?;
    let known = parts.target.receipts(&plan.range).await?;
    let receipts = known.found.iter().map(|f| f.receipt.latest());
    let ours: BTreeSet<SliceId> =
        receipts.filter(|r| r.plan == plan.id).map(|r| r.slice.clone()).collect();
    let todo: Vec<_> = done
        .job
        .after
        .iter()
        .map(|action| (action, pending(&action.id(), &entries, &records, &ours)))
        .filter(|(_, intervals)| !intervals.is_empty())
        .collect();
    if todo.is_empty() {
        return Ok(());
    }
    let lease = parts.journal.lease(&plan.id, &holder::this_process()?).await?;
    let mut result = Ok(());
    for (action, intervals) in todo {
        result = one(done, &lease, action, intervals, list).await;
        if result.is_err() || list.last().is_some_and(|f| f.failed.is_some()) {
            break;
        }
    }
    parts.journal.release(lease).await?;
    result
}

/// One action for all that is pending. What was done is journalled at once: a statement that runs
/// for each stretch of time goes on behind those that succeeded.
async fn one(
    done: &Done,
    lease: &Lease,
    action: &After,
    pending: Vec<Interval>,
    list: &mut Vec<Followed>,
) -> Result<()> {
    let parts = &done.parts;
    let (id, label) = (action.id(), action.to_string());
    let calls: Vec<(Option<Interval>, Vec<Interval>)> = if action.is_by_interval() {
        pending.into_iter().map(|i| (Some(i), vec![i])).collect()
    } else {
        vec![(None, pending)]
    };
    let mut failed = None;
    for (bounds, intervals) in calls {
        let (action_id, label) = (id.clone(), label.clone());
        let event = match parts.target.follow(action, bounds.as_ref()).await {
            Ok(()) => EventV1::AfterDone { action: action_id, label, intervals },
            Err(e) => {
                let reason = e.to_string();
                failed = Some(reason.clone());
                EventV1::AfterFailed { action: action_id, label, reason }
            }
        };
        parts.journal.append(lease, vec![Event::V1(event)], true).await?;
        if failed.is_some() {
            break;
        }
    }
    list.push(Followed { action: label, failed });
    Ok(())
}
