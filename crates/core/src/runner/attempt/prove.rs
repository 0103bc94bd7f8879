//! Proving what was written by reading it back, and committing it with its receipt.

use super::super::ours::Owned;
use super::super::repeats::{prefix, row_prefix};
use super::super::sinks::{Summer, Taken};
use super::super::{exceptions, unknown};
use super::{Attempt, Ended, abort, outcome};
use crate::connector::{CommitOutcome, Load};
use crate::digest::{Digest, ENCODING, PARTS_FROM_ROWS};
use crate::error::{Error, Kind, Result};
use crate::ledger::{Event, SliceEvent};
use crate::manifest::{Manifest, ManifestRef};
use crate::planted::{self, Bug};
use crate::receipt::{Digests, Own, Receipt, ReceiptV1};
use crate::spec::Mode;

impl Attempt<'_> {
    /// Seals, reads back and compares; gives the receipt to commit.
    pub(super) async fn prove(&mut self, load: &mut dyn Load) -> Result<Receipt> {
        self.counts.check()?;
        let shared = self.shared;
        if !planted::is(Bug::SkipBarrier) {
            load.seal().await?;
        }
        let written = SliceEvent::Written { rows: self.counts.written };
        self.journal(written).await?;
        self.digests.written =
            std::mem::replace(&mut self.written, Summer::new(&self.slice.interval)).digest();
        let plan = &shared.job.plan;
        if load.gives_way() {
            // Parts of time are of no use here: single rows are taken off again.
            self.digests.written.parts.clear();
            shared.env().reached("read-back");
            self.look(load).await?;
            self.counts.check()?;
        } else {
            self.read_back(load).await?;
        }
        self.journal(SliceEvent::Proven { digest: self.digests.after.to_hex() }).await?;
        let exceptions = self.exceptions.write().await?;
        let mut receipt = self.receipt(exceptions);
        if plan.spec.verify.manifest {
            let (bytes, reference) = self.manifest();
            load.keep_manifest(bytes).await?;
            if let Some(own) = &mut receipt.latest_mut().own {
                own.manifest = Some(reference);
            }
        }
        Ok(receipt)
    }

    /// Reads back; it must be what was there, without what goes, with what was written.
    async fn read_back(&mut self, load: &mut dyn Load) -> Result<()> {
        let (shared, plan) = (self.shared, &self.shared.job.plan);
        let mut expected = self.digests.before.clone();
        expected.subtract(&self.digests.removed);
        expected.add(&self.digests.written);
        if planted::is(Bug::SkipReadBack) {
            self.digests.after = expected;
            return Ok(());
        }
        let mut sink = Taken::new(shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        shared.env().reached("read-back");
        load.read_back(&mut sink).await?;
        self.digests.after = sink.sum.digest();
        compare(&expected, &self.digests.after)
    }

    /// The rows of the slice that loads of this job wrote, this one included.
    fn manifest(&mut self) -> (Vec<u8>, ManifestRef) {
        let mut rows = std::mem::take(&mut self.entries);
        if self.undo().is_some() {
            return Manifest::default().to_bytes(false);
        }
        rows.extend(self.owned.carried.left());
        Manifest::of(rows).to_bytes(!self.owned.complete)
    }

    /// What is known of who wrote the rows of the slice.
    fn own(&self) -> Own {
        let Owned { whole, displaced, .. } = self.owned;
        match self.undo() {
            None => Own { whole, displaced: displaced + self.displaced, ..Own::default() },
            Some(_) => Own {
                whole: self.digests.after.count == 0,
                undone: Some(self.digests.removed.count),
                ..Own::default()
            },
        }
    }

    async fn journal(&self, what: SliceEvent) -> Result<()> {
        let shared = self.shared;
        let event = Event::slice(&self.slice.slice, what);
        shared.job.journal.append(&shared.lease.lease, vec![event], false).await
    }

    fn receipt(&self, exceptions: Option<String>) -> Receipt {
        let (plan, slice) = (&self.shared.job.plan, self.slice);
        let thin = |d: &Digest| d.clone().without_parts();
        let d = &self.digests;
        let many = d.after.count >= PARTS_FROM_ROWS;
        Receipt::V1(ReceiptV1 {
            plan: slice.plan.clone(),
            spec_hash: plan.spec_hash.clone(),
            slice: slice.slice.clone(),
            generation: slice.generation,
            interval: slice.interval,
            mode: self.mode,
            policies: Vec::new(),
            encoding: ENCODING.into(),
            fingerprint: plan.columns.fingerprint(),
            salt: if planted::is(Bug::SaltLost) { [0; 16] } else { plan.salt },
            blocks: self.blocks.clone(),
            counts: self.counts,
            digests: Digests {
                read: thin(&d.read),
                written: thin(&d.written),
                removed: thin(&d.removed),
                present: thin(&d.present),
                alike: thin(&d.alike),
                conflict_source: thin(&d.conflict_source),
                conflict_live: thin(&d.conflict_live),
                before: thin(&d.before),
                after: if many { d.after.clone() } else { thin(&d.after) },
            },
            own: Some(self.own()),
            at: self.shared.env().now(),
            exceptions,
            anchor: serde_json::Value::Null,
        })
    }

    pub(super) async fn commit(
        mut self,
        mut load: Box<dyn Load>,
        mut receipt: Receipt,
    ) -> Result<Ended> {
        if planted::is(Bug::LedgerBeforeCommit) {
            let event = Event::slice(&self.slice.slice, SliceEvent::Committed(outcome(&receipt)));
            let lease = &self.shared.lease.lease;
            self.shared.job.journal.append(lease, vec![event], true).await?;
        }
        loop {
            if let Err(e) = self.shared.go_on() {
                return Err(self.give_up(load, &receipt, e).await);
            }
            self.shared.env().reached("commit");
            match load.commit(receipt.clone()).await {
                CommitOutcome::Committed => return self.committed(&receipt).await,
                CommitOutcome::NotCommitted(e) => {
                    self.discard(&receipt).await;
                    return Err(e);
                }
                CommitOutcome::Unknown(e) => return self.resolve(&receipt, e).await,
                CommitOutcome::Moved(moved) => {
                    load = moved;
                    match self.overtaken(load.as_mut(), &mut receipt).await {
                        Ok(false) => {}
                        Ok(true) => {
                            load.abort().await?;
                            self.discard(&receipt).await;
                            return Ok(Ended::Overtaken);
                        }
                        Err(e) => return Err(self.give_up(load, &receipt, e).await),
                    }
                }
            }
        }
    }

    /// Takes in the rows that arrived since `held`; true where one of them has a key of ours.
    async fn overtaken(&mut self, load: &mut dyn Load, receipt: &mut Receipt) -> Result<bool> {
        let plan = &self.shared.job.plan;
        let mut sink =
            Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns)
                .keeping()
                .scoped(self.changes.scope.as_ref());
        load.arrivals(&mut sink).await?;
        if planted::is(Bug::ArrivalsIgnored) {
            return Ok(false);
        }
        let arrived = sink.kept.unwrap_or_default();
        if sink.inside.contains(&true) {
            // What may be replaced has grown.
            return Ok(true);
        }
        let append = self.mode == Mode::Append && self.undo().is_none();
        if append {
            self.refuse_others().await?;
        }
        if append && !self.again && self.loaded_before().await? {
            // The table was put back to a state that has this slice: its rows are among these.
            return Ok(true);
        }
        let leading = if append { row_prefix } else { prefix };
        // `prefixes` was sorted by the search for repeats.
        if arrived.iter().any(|h| self.prefixes.binary_search(&leading(h)).is_ok()) {
            return Ok(true);
        }
        let sum = sink.sum.digest();
        if let Some(own) = receipt.latest_mut().own.as_mut().filter(|_| sum.count > 0) {
            own.whole = false;
        }
        let digests = &mut receipt.latest_mut().digests;
        digests.before.add(&sum.clone().without_parts());
        self.digests.after.add(&sum);
        let many = self.digests.after.count >= PARTS_FROM_ROWS;
        digests.after = if many {
            self.digests.after.clone()
        } else {
            self.digests.after.clone().without_parts()
        };
        // The arrivals decide over our own rows: what was heard of them is proven too.
        let mut sink =
            Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        if !planted::is(Bug::ArrivalsUnproven) {
            load.read_back(&mut sink).await?;
            compare(&self.digests.after, &sink.sum.digest())?;
        }
        Ok(false)
    }

    async fn resolve(&self, receipt: &Receipt, reason: Error) -> Result<Ended> {
        if planted::is(Bug::UnknownTakenForCommitted) {
            return self.committed(receipt).await;
        }
        match unknown::resolve(self.shared, self.slice, reason).await? {
            unknown::Resolved::Committed(receipt) => self.committed(&receipt).await,
            unknown::Resolved::NotCommitted(e) => {
                self.discard(receipt).await;
                Err(e)
            }
            unknown::Resolved::Unknown(e) => Ok(Ended::Unknown(e)),
        }
    }

    async fn committed(&self, receipt: &Receipt) -> Result<Ended> {
        self.shared.env().reached("ledger");
        exceptions::publish(self.shared.env(), receipt).await;
        Ok(Ended::Committed(Box::new(receipt.clone())))
    }

    async fn give_up(&self, load: Box<dyn Load>, receipt: &Receipt, error: Error) -> Error {
        self.discard(receipt).await;
        abort(load, error).await
    }

    async fn discard(&self, receipt: &Receipt) {
        if let Some(name) = &receipt.latest().exceptions {
            let scratch = self.shared.env().scratch();
            if let Err(e) = exceptions::discard(scratch.as_ref(), name).await {
                tracing::warn!("{name} of a failed try stays behind: {e}");
            }
        }
    }
}

pub(super) fn compare(expected: &Digest, found: &Digest) -> Result<()> {
    if expected.matches(found) {
        return Ok(());
    }
    let part = expected.parts.iter().zip(&found.parts).position(|(a, b)| a != b);
    let place = part.map_or_else(String::new, |p| format!(", first in part {} of 64", p + 1));
    Err(Error::new(
        Kind::Mismatch,
        format!(
            "read back {} rows with digest {}, expected {} rows with digest {}{place}",
            found.count,
            found.to_hex(),
            expected.count,
            expected.to_hex()
        ),
    )
    .hint("a trigger, a rule, a damaged disk or a bug changed what was written"))
}
