//! Who wrote the rows that a slice holds: what can be proven, and by what.

use super::Shared;
use super::recover::Newest;
use crate::digest::{Digest, RowHashes};
use crate::error::{Kind, Result};
use crate::id::SliceId;
use crate::interval::Interval;
use crate::manifest::{Entry, Manifest, entry};
use crate::planted::{self, Bug};
use crate::receipt::{Receipt, ReceiptV1};

/// By what rows are shown to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The slice holds exactly what its receipt says, and all of that was written by loads of this
    /// job.
    Whole,
    /// The manifest lists them.
    Manifest,
    /// The source still has exactly the rows that the load wrote.
    Source,
}

/// What is known of earlier loads of a slice, before it is held against what the slice holds.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The newest receipt, if it speaks of the plan's columns under the plan's salt.
    pub(super) receipt: Option<ReceiptV1>,
    /// It is the receipt of this very slice, not of one that it is a part of.
    exact: bool,
    /// The rows that it lists.
    manifest: Option<Manifest>,
    /// There is a commit that nothing is known of.
    dark: bool,
}

/// What is known of the rows that a slice holds.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// Those that loads of this job wrote, as far as that is known.
    pub(super) carried: Manifest,
    /// No other row that is held was written by a load of this job.
    pub(super) complete: bool,
    /// Every row that is held was.
    pub(super) whole: bool,
    /// By what they are all known; none where they are not.
    pub(super) basis: Option<Basis>,
    /// Held rows are exactly what the receipt says.
    pub(super) untouched: bool,
    /// Rows of others that earlier loads of this job put others in the place of.
    pub(super) displaced: u64,
}

impl Evidence {
    /// Reads what there is.
    pub(super) async fn gather(shared: &Shared, slice: &SliceId, newest: &Newest) -> Result<Self> {
        let plan = &shared.job.plan;
        let Some(found) = &newest.receipt else {
            return Ok(Evidence { dark: newest.lost, ..Evidence::default() });
        };
        let r = found.latest();
        if r.salt != plan.salt || r.fingerprint != plan.columns.fingerprint() {
            return Ok(Evidence { dark: true, ..Evidence::default() });
        }
        let exact = r.slice == *slice;
        let manifest = listed(shared, found).await?;
        Ok(Evidence { receipt: Some(r.clone()), exact, manifest, dark: newest.lost })
    }

    fn partial(&self) -> bool {
        let own = self.receipt.as_ref().and_then(|r| r.own.as_ref());
        own.and_then(|own| own.manifest.as_ref()).is_some_and(|m| m.partial)
    }

    /// Whether the receipt is still the newest that the target has of its slice. Asked where the
    /// slice holds other rows than it says: a table may have been put back since it was read.
    async fn is_newest(&self, shared: &Shared, interval: &Interval) -> Result<bool> {
        let Some(receipt) = &self.receipt else { return Ok(false) };
        let known = shared.job.target.receipts(interval).await?;
        let kin = |slice: &SliceId| slice.is_kin(&receipt.slice);
        if known.lost.iter().any(|c| c.plan == receipt.plan && kin(&c.slice)) {
            return Ok(false);
        }
        let ours = known.found.iter().map(|f| f.receipt.latest());
        let ours = ours.filter(|r| r.plan == receipt.plan && r.slice == receipt.slice);
        let newest = ours.max_by_key(|r| r.generation);
        let load = |r: &ReceiptV1| (r.generation, r.at, r.digests.clone());
        Ok(newest.is_some_and(|r| load(r) == load(receipt)))
    }

    /// What it says about the rows that the slice holds now.
    pub(super) async fn judge(
        &self,
        shared: &Shared,
        (slice, interval): (&SliceId, &Interval),
        held: &[RowHashes],
        digest: &Digest,
    ) -> Result<Owned> {
        let untouched = self.after().is_some_and(|after| after.matches(digest));
        let unknown = Owned { untouched, ..Owned::default() };
        if digest.count == 0 {
            let basis = Some(Basis::Whole);
            return Ok(Owned { complete: true, whole: true, basis, ..unknown });
        }
        let Some(receipt) = &self.receipt else {
            let (target, plan) = (&shared.job.target, &shared.job.plan.id);
            let complete = !self.dark && !target.is_committed(plan, slice).await?;
            return Ok(Owned { complete, ..unknown });
        };
        let displaced = receipt.displaced();
        if untouched && receipt.is_whole() {
            let carried = Manifest::of(held.iter().map(entry).collect());
            let (complete, whole, basis) = (true, true, Some(Basis::Whole));
            return Ok(Owned { carried, complete, whole, basis, untouched, displaced });
        }
        let Some(listed) = &self.manifest else { return Ok(Owned { displaced, ..unknown }) };
        let carried = Manifest::of(common(held, listed.clone()));
        let whole = carried.len() == digest.count;
        let known = !self.partial() && !self.dark;
        let complete = known && (untouched || self.is_newest(shared, interval).await?);
        let basis = complete.then_some(Basis::Manifest);
        Ok(Owned { carried, complete: complete || whole, whole, basis, untouched, displaced })
    }

    /// What the slice held after its newest load; none where that is not known.
    fn after(&self) -> Option<&Digest> {
        self.receipt.as_ref().filter(|_| self.exact).map(|r| &r.digests.after)
    }
}

/// The manifest that a receipt names; none where there is none to be believed. After an `undo`
/// no row is ours.
async fn listed(shared: &Shared, receipt: &Receipt) -> Result<Option<Manifest>> {
    let r = receipt.latest();
    if r.undone().is_some() {
        return Ok(Some(Manifest::default()));
    }
    let reference = r.own.as_ref().and_then(|own| own.manifest.as_ref());
    let Some(reference) = reference else { return Ok(None) };
    let Some(bytes) = shared.job.target.manifest(receipt).await? else { return Ok(None) };
    match Manifest::from_bytes(&bytes, reference) {
        Ok(list) => Ok(Some(list)),
        Err(e) if e.kind() == Kind::Mismatch => {
            tracing::warn!("slice {}: {e}; it does not count", r.slice);
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The held rows that a list has.
pub(super) fn common(held: &[RowHashes], mut listed: Manifest) -> Vec<Entry> {
    held.iter().map(entry).filter(|e| listed.take(*e)).collect()
}

impl Owned {
    /// Whether a held row was written by a load of this job.
    pub(super) fn has(&self, hashes: &RowHashes) -> bool {
        planted::is(Bug::RestatesOthers) || self.carried.has(entry(hashes))
    }
}
