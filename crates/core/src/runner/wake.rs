//! Making done slices stale that the options want to be loaded again, or undone.

use std::collections::BTreeMap;

use super::recover::Receipts;
use super::{Options, Shared, exceptions};
use crate::error::Result;
use crate::id::SliceId;
use crate::ledger::{Event, SliceEvent, SliceRecord};
use crate::receipt::Receipt;
use crate::reject::Exception;

/// Makes them stale, with the reason.
pub(super) async fn wake(
    shared: &Shared,
    options: &Options,
    receipts: &Receipts,
    all: &mut BTreeMap<SliceId, SliceRecord>,
) -> Result<()> {
    let mut events = Vec::new();
    for record in all.values_mut().filter(|r| r.state.is_done() && options.means(r)) {
        let newest = receipts.ours.get(&record.id).map(|found| &found.receipt);
        let Some(reason) = reason(shared, options, record, newest).await? else { continue };
        let what = SliceEvent::Stale { reason: reason.into() };
        record.apply(&what)?;
        events.push(Event::slice(&record.id, what));
    }
    if events.is_empty() {
        return Ok(());
    }
    shared.job.journal.append(&shared.lease.lease, events, true).await
}

/// Why a done slice is taken in hand again, if it is.
async fn reason(
    shared: &Shared,
    options: &Options,
    record: &SliceRecord,
    newest: Option<&Receipt>,
) -> Result<Option<&'static str>> {
    if !options.undo.is_empty() {
        let asked = options.undo.contains_key(&record.id);
        return Ok(asked.then_some("what was loaded is taken out again"));
    }
    if options.overwrite.contains_key(&record.id) {
        return Ok(Some("rows that were changed get the source's values again"));
    }
    let counts = record.outcome.as_ref().map(|o| o.counts).unwrap_or_default();
    if options.replay && counts.rejected > 0 {
        return Ok(Some("its refused rows are tried again"));
    }
    if options.restate && counts.conflicting > 0 && restated(shared, newest).await? {
        return Ok(Some("rows of ours get the values that the source has given them since"));
    }
    Ok(None)
}

/// Whether the list of the newest load has rows whose held ones are ours.
async fn restated(shared: &Shared, newest: Option<&Receipt>) -> Result<bool> {
    let Some(name) = newest.and_then(|r| r.latest().exceptions.as_ref()) else { return Ok(false) };
    let list = exceptions::read(shared.env().scratch().as_ref(), name).await?;
    let is_restated = |e: &Exception| matches!(e, Exception::ConflictV1(c) if c.restated);
    Ok(list.unwrap_or_default().iter().any(is_restated))
}
