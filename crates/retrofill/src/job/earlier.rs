//! What earlier plans left behind that a new one needs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use retrofill_core::connector::Target;
use retrofill_core::error::Result;
use retrofill_core::ledger::{Event, EventV1, Journal as _};
use retrofill_core::plan::Plan;
use retrofill_core::receipt::ReceiptV1;

use crate::ledger::SqliteJournal;

/// The salt under which this very plan was begun before: in the ledger, or, where that is lost, in
/// the target's receipts.
pub(super) async fn known_salt(
    journal: Option<&SqliteJournal>,
    target: &dyn Target,
    plan: &Plan,
) -> Result<Option<[u8; 16]>> {
    let entries = match journal {
        Some(journal) => journal.read(&plan.id, 0).await?,
        None => Vec::new(),
    };
    for entry in entries {
        let Event::V1(event) = entry.event;
        if let EventV1::PlanFrozen { salt, .. } = event {
            return Ok(Some(salt));
        }
    }
    let found = target.receipts(&plan.range).await?.found;
    let of = |wanted: &dyn Fn(&ReceiptV1) -> bool| {
        found.iter().map(|f| f.receipt.latest()).find(|r| wanted(r)).map(|r| r.salt)
    };
    Ok(of(&|r| r.plan == plan.id).or_else(|| of(&|r| r.spec_hash == plan.spec_hash)))
}

/// Where earlier plans of the same spec cut between the plan's own boundaries.
pub(super) async fn earlier_cuts(target: &dyn Target, plan: &Plan) -> Result<Vec<Timestamp>> {
    let found = target.receipts(&plan.range).await?.found;
    let earlier = |r: &&ReceiptV1| r.plan != plan.id && r.spec_hash == plan.spec_hash;
    let ends = |r: &ReceiptV1| [r.interval.start(), r.interval.end()];
    let receipts = found.iter().map(|f| f.receipt.latest());
    let mut cuts: BTreeSet<_> = receipts.filter(earlier).flat_map(ends).collect();
    for slice in &plan.slices {
        cuts.remove(&slice.interval.start());
        cuts.remove(&slice.interval.end());
    }
    Ok(cuts.into_iter().collect())
}
