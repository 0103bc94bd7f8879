//! What a command would change that takes rows out at the user's wish: counted first, so that it
//! can be told and asked for. Nothing is written to the target here.

use super::ours::{Basis, Evidence, Owned, common};
use super::recover::{Receipts, held_rows, same_source};
use super::run::{finish, recovered, start};
use super::sinks::Taken;
use super::verify::{compare_all, loaded};
use super::{Happening, Job, Options, Shared};
use crate::digest::{Digest, Hasher, RowHashes};
use crate::error::{Kind, Result};
use crate::ledger::{SliceRecord, State};
use crate::receipt::{Receipt, ReceiptV1};
use crate::spec::Mode;

/// What the user was told of a slice, and allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// So many rows at most.
    pub rows: u64,
    /// An undo: by what they are shown to be ours.
    pub basis: Basis,
}

/// What a load may do beyond what the plan's mode says.
#[derive(Debug, Clone, Default)]
pub(super) struct Leave {
    /// Give rows that are provably ours the source's new values.
    pub(super) restate: bool,
    /// Give rows that were changed since they were loaded the source's values again.
    pub(super) overwrite: Option<Allowed>,
    /// Take out what earlier loads wrote, and write nothing.
    pub(super) undo: Option<Allowed>,
}

impl Leave {
    /// Whether the user was told numbers of this slice.
    pub(super) fn is_told(&self) -> bool {
        self.overwrite.is_some() || self.undo.is_some()
    }
}

/// A slice and what would be done with it.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The slice as it stands.
    pub record: SliceRecord,
    /// What may be done, or why nothing may.
    pub verdict: std::result::Result<Allowed, String>,
    /// Rows of it that stay as they are.
    pub stay: u64,
}

/// For each slice that holds such: how many rows were changed since they were loaded.
pub async fn changed(job: Job, options: Options) -> Result<Vec<Prospect>> {
    each(job, &options, async |shared, receipts, record| {
        let Some(found) = receipts.ours.get(&record.id) else { return Ok(None) };
        changed_in(shared, record, &found.receipt).await
    })
    .await
}

/// For each slice that this job loaded: how many rows an undo would take out.
pub async fn undoable(job: Job, options: Options) -> Result<Vec<Prospect>> {
    each(job, &options, async |shared, receipts, record| {
        let newest = receipts.newest(&record.id);
        let found = receipts.ours.get(&record.id).filter(|_| newest.receipt.is_some());
        let refused = |why: &str| {
            let verdict = Err(why.to_owned());
            Ok(Some(Prospect { record: record.clone(), verdict, stay: 0 }))
        };
        match found {
            Some(found) if found.receipt.latest().undone().is_some() => Ok(None),
            Some(_) => {
                let evidence = Evidence::gather(shared, &record.id, &newest).await?;
                let Some(receipt) = &evidence.receipt else {
                    return refused("its receipt is of another salt or of other columns");
                };
                undoable_in(shared, record, &evidence, receipt).await.map(Some)
            }
            None if newest.lost => refused("its receipt is lost"),
            None => Ok(None),
        }
    })
    .await
}

/// Looks at each slice that is meant, one after the other: memory is for one.
async fn each(
    job: Job,
    options: &Options,
    mut look: impl AsyncFnMut(&Shared, &Receipts, &SliceRecord) -> Result<Option<Prospect>>,
) -> Result<Vec<Prospect>> {
    let shared = start(job).await?;
    let mut work = async || {
        let (records, receipts) = recovered(&shared).await?;
        let wanted = |r: &&SliceRecord| r.state != State::Split && options.means(r);
        let mut found = Vec::new();
        for record in records.iter().filter(wanted) {
            shared.go_on()?;
            found.extend(look(&shared, &receipts, record).await?);
        }
        Ok(found)
    };
    let found = work().await;
    finish(&shared).await;
    found
}

async fn changed_in(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &Receipt,
) -> Result<Option<Prospect>> {
    let (plan, r) = (&shared.job.plan, receipt.latest());
    let hasher = plan.hasher(&r.salt);
    let (digest, _) = held(shared, record, &hasher, false).await?;
    let alike = digest.matches(&r.digests.after) || r.undone().is_some();
    if plan.spec.write.mode != Mode::FillMissing || alike {
        return Ok(None);
    }
    let refused = |why: String| {
        Ok(Some(Prospect { record: record.clone(), verdict: Err(why), stay: digest.count }))
    };
    if !same_source(shared, &record.interval, receipt) {
        return refused("its source has changed since it was loaded".into());
    }
    let rows = match compare_all(shared, record, r, &hasher, 0).await {
        Ok(Some(found)) if found.restorable == 0 && found.changed > 0 => {
            return refused(
                "rows that differ from the source's cannot be told from live ones: several have \
                 their key, or `rows.compare` leaves out what differs"
                    .into(),
            );
        }
        Ok(Some(found)) if found.restorable == 0 => return Ok(None),
        Ok(Some(found)) => found.restorable,
        Ok(None) => return refused("its list of rejects and conflicts is lost".into()),
        Err(e) if e.kind() == Kind::Stale => {
            return refused(format!("its source has changed since it was loaded: {e}"));
        }
        Err(e) => return Err(e),
    };
    let allowed = Allowed { rows, basis: Basis::Source };
    let stay = digest.count.saturating_sub(rows);
    Ok(Some(Prospect { record: record.clone(), verdict: Ok(allowed), stay }))
}

async fn undoable_in(
    shared: &Shared,
    record: &SliceRecord,
    evidence: &Evidence,
    receipt: &ReceiptV1,
) -> Result<Prospect> {
    let plan = &shared.job.plan;
    let hasher = Hasher::new(&plan.columns, &plan.salt);
    let (digest, kept) = held(shared, record, &hasher, true).await?;
    let owned = evidence.judge(shared, (&record.id, &record.interval), &kept, &digest).await?;
    let prospect = |rows: u64, verdict| {
        let stay = digest.count.saturating_sub(rows);
        Ok(Prospect { record: record.clone(), verdict, stay })
    };
    if owned.displaced > 0 {
        let why = "its loads put rows in the place of others, which nobody can bring back: ";
        return prospect(0, Err(format!("{why}{}", owned.displaced)));
    }
    if let Some(basis) = owned.basis {
        let rows = owned.carried.len();
        return prospect(rows, Ok(Allowed { rows, basis }));
    }
    if !first_and_alone(record, receipt) {
        return prospect(0, Err(unknown(&owned)));
    }
    let of = (&record.id, &record.interval);
    match loaded(shared, of, receipt, &hasher).await {
        Ok(Some(written)) => {
            let rows = common(&kept, written).len() as u64;
            prospect(rows, Ok(Allowed { rows, basis: Basis::Source }))
        }
        Ok(None) => prospect(0, Err(unknown(&owned))),
        Err(e) if e.kind() == Kind::Stale => {
            prospect(0, Err(format!("{}, and the source has changed: {e}", unknown(&owned))))
        }
        Err(e) => Err(e),
    }
}

/// Whether no other load of the slice can have left rows in it.
fn first_and_alone(record: &SliceRecord, receipt: &ReceiptV1) -> bool {
    let empty = receipt.digests.before.count == 0;
    empty || (receipt.generation == 1 && record.id.parent().is_none())
}

fn unknown(owned: &Owned) -> String {
    let rows = if owned.untouched {
        "it held rows before it was loaded"
    } else {
        "rows of it came or went since it was loaded"
    };
    format!("{rows}, and no manifest tells which of them are ours")
}

/// What the slice holds, summed up, and row by row where asked.
async fn held(
    shared: &Shared,
    record: &SliceRecord,
    hasher: &Hasher,
    keep: bool,
) -> Result<(Digest, Vec<RowHashes>)> {
    let columns = &shared.job.plan.columns;
    let sink = Taken::new(shared.env(), hasher, &record.interval, columns);
    let mut sink = if keep { sink.keeping() } else { sink };
    held_rows(shared, &record.interval, &mut sink).await?;
    let kept = sink.kept.take().unwrap_or_default();
    shared.job.watch.on(&Happening::Rows(0));
    Ok((sink.sum.digest(), kept))
}
