//! Proving again, without writing to the target.

mod compare;
mod drill;
mod pattern;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use self::compare::Differences;
pub(super) use self::compare::{compare_all, conflicts, loaded};
pub use self::drill::{Cell, Class, Difference, Drill, cells};
use super::recover::{self, Receipts, held_rows};
use super::run::{finish, start};
use super::sinks::Taken;
use super::{Happening, Job, Options, Shared};
use crate::error::{Kind, Result};
use crate::ledger::{Event, SliceEvent, SliceRecord, State};
use crate::receipt::{Counts, Receipt};

/// How closely `verify` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Rows are counted.
    Count,
    /// Every value is read and compared by digest.
    Digest,
    /// Where a digest differs, the differing rows are read too.
    Rows {
        /// So many of each class and slice at most.
        most: usize,
    },
}

/// What a slice was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The target holds exactly what the receipt says.
    Verified,
    /// Every row we loaded is there unchanged, and live rows came in beside them.
    Extra {
        /// How many more rows the target holds than its receipt says.
        rows: u64,
        /// How many of them repeat a row of the source that was there already. Whoever wrote
        /// them, it was no load with this receipt.
        doubled: u64,
    },
    /// Rows of the source are not in the target, or not as they were loaded.
    Mismatched {
        /// Rows of the source whose key the target does not hold.
        missing: u64,
        /// Rows of the source whose key the target holds with another value.
        changed: u64,
        /// In one sentence.
        reason: String,
    },
    /// The receipt is gone, or the source is no longer what was loaded: nobody can tell.
    CannotAttribute {
        /// Why.
        reason: String,
    },
}

/// A slice and what it was found to be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The slice as it stands now.
    pub record: SliceRecord,
    /// What was found.
    pub judgement: Judgement,
    /// The rows that differ, where they were asked for.
    pub drill: Drill,
}

/// Proves every done slice again. What no longer holds is journalled as mismatched.
pub async fn verify(job: Job, options: Options, level: Level) -> Result<Vec<Finding>> {
    let shared = start(job).await?;
    let result = inside(&shared, &options, level).await;
    finish(&shared).await;
    result
}

async fn inside(shared: &Shared, options: &Options, level: Level) -> Result<Vec<Finding>> {
    let records = shared.job.journal.slices(&shared.job.plan.id).await?;
    let receipts = recover::receipts(shared).await?;
    let wanted =
        |r: &SliceRecord| (r.state.is_done() || r.state == State::Mismatched) && options.means(r);
    let todo: Vec<_> = records.into_iter().filter(wanted).collect();
    let (slices, rows) = (todo.len() as u64, shared.job.plan.estimated_rows());
    shared.job.watch.on(&Happening::Began { slices, rows, done: 0 });
    let concurrency = shared.job.plan.spec.limits.concurrency.unwrap_or(2).max(1);
    let mut found: Vec<Finding> = stream::iter(todo)
        .map(|record| one(shared, &receipts, record, level))
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    found.sort_by_key(|f| f.record.interval.start());
    Ok(found)
}

async fn one(
    shared: &Shared,
    receipts: &Receipts,
    mut record: SliceRecord,
    level: Level,
) -> Result<Finding> {
    shared.go_on()?;
    let found = receipts.ours.get(&record.id).map(|f| &f.receipt);
    let mut drill = Drill::default();
    let judgement = match found {
        None => Judgement::CannotAttribute { reason: "its receipt is gone".into() },
        Some(receipt) if receipt.latest().undone().is_some() => {
            Judgement::CannotAttribute { reason: "its rows were taken out by `undo`".into() }
        }
        Some(receipt) => match judge(shared, &record, receipt, level, &mut drill).await {
            Ok(judgement) => judgement,
            Err(e) if e.kind() == Kind::Mismatch => {
                Judgement::Mismatched { missing: 0, changed: 0, reason: e.to_string() }
            }
            Err(e) => return Err(e),
        },
    };
    settle(shared, level, &mut record, &judgement, found).await?;
    let counts = record.outcome.as_ref().map_or_else(Counts::default, |o| o.counts);
    shared.job.watch.on(&Happening::Rows(counts.read));
    shared.job.watch.on(&Happening::Slice(record.id.clone(), record.state, counts));
    Ok(Finding { record, judgement, drill })
}

/// Journals a change of state.
async fn settle(
    shared: &Shared,
    level: Level,
    record: &mut SliceRecord,
    judgement: &Judgement,
    receipt: Option<&Receipt>,
) -> Result<()> {
    let event = match judgement {
        Judgement::Verified | Judgement::Extra { .. } => match (record.state, receipt) {
            // Only a full proof of the newest load takes a mismatch back.
            (State::Mismatched, Some(receipt))
                if level != Level::Count && receipt.latest().generation >= record.generation =>
            {
                SliceEvent::Recovered(super::attempt::outcome(receipt))
            }
            _ => return Ok(()),
        },
        Judgement::Mismatched { reason, .. } | Judgement::CannotAttribute { reason } => {
            SliceEvent::Mismatched { reason: reason.clone() }
        }
    };
    record.apply(&event)?;
    let events = vec![Event::slice(&record.id, event)];
    shared.job.journal.append(&shared.lease.lease, events, true).await
}

async fn judge(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &Receipt,
    level: Level,
    drill: &mut Drill,
) -> Result<Judgement> {
    // Looked at first: what is known to be damaged is better not taken apart.
    if level != Level::Count
        && let Some(reason) = shared.job.target.damage(receipt).await?
    {
        return Ok(Judgement::Mismatched { missing: 0, changed: 0, reason });
    }
    let receipt = receipt.latest();
    let plan = &shared.job.plan;
    let hasher = plan.hasher(&receipt.salt);
    let mut sink = Taken::new(shared.env(), &hasher, &record.interval, &plan.columns);
    held_rows(shared, &record.interval, &mut sink).await?;
    let now = sink.sum.digest();
    let after = &receipt.digests.after;
    if now.matches(after) || (level == Level::Count && now.count == after.count) {
        return Ok(Judgement::Verified);
    }
    let most = match level {
        Level::Rows { most } => most,
        Level::Count | Level::Digest => 0,
    };
    let compared = compare_all(shared, record, receipt, &hasher, most).await;
    if let (Ok(Some(found)), Level::Rows { .. }) = (&compared, level) {
        *drill = drill::drill(shared, record, &hasher, &found.sample).await?;
    }
    match compared {
        Ok(None) => Ok(Judgement::CannotAttribute {
            reason: format!(
                "the target holds {} rows where {} were proven, and the list of rejects and \
                 conflicts is lost",
                now.count, after.count
            ),
        }),
        Ok(Some(Differences { missing: 0, changed: 0, doubled, .. })) => {
            Ok(Judgement::Extra { rows: now.count.saturating_sub(after.count), doubled })
        }
        Ok(Some(Differences { missing, changed, .. })) => Ok(Judgement::Mismatched {
            missing,
            changed,
            reason: format!(
                "{missing} rows of the source are missing in the target, {changed} are changed \
                 since load"
            ),
        }),
        Err(e) if e.kind() == Kind::Stale => Ok(Judgement::CannotAttribute {
            reason: format!(
                "the target holds {} rows where {} were proven, and the source has changed: {e}",
                now.count, after.count
            ),
        }),
        Err(e) => Err(e),
    }
}
