//! Proving a load that gave way to live rows which came while it was written.

use async_trait::async_trait;

use super::super::held::{Held, Standing};
use super::super::repeats::prefix;
use super::super::sinks::{Hashed, Taken, hash};
use super::Attempt;
use super::prove::compare;
use crate::connector::{Load, Look, RowSink};
use crate::digest::{Hasher, RowHashes};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::manifest::entry;
use crate::planted::{self, Bug};

/// Keeps the rows that gave way: as many as live writers were faster with.
struct GaveWay<'a> {
    env: &'a dyn Env,
    hasher: Hasher,
    batches: Vec<Hashed>,
}

#[async_trait]
impl RowSink for GaveWay<'_> {
    async fn push(&mut self, rows: arrow::record_batch::RecordBatch) -> Result<()> {
        self.batches.push(hash(self.env, &mut self.hasher, rows).await?);
        Ok(())
    }
}

impl Attempt<'_> {
    /// Looks at the slice as it would be after the commit. Every row that gave way must have met a
    /// live row with its key, and all others must be there as they were written. Held rows that
    /// decided over rows of ours must not have changed.
    pub(super) async fn look(&mut self, load: &mut dyn Load) -> Result<()> {
        let (env, plan) = (self.shared.env(), &self.shared.job.plan);
        let hasher = self.hasher.clone();
        let taken = || Taken::new(env, &hasher, &self.slice.interval, &plan.columns);
        let (mut others, mut ours) = (taken().keeping().at_most(self.share), taken());
        let mut gave_way = GaveWay { env, hasher: hasher.clone(), batches: Vec::new() };
        let look = Look { others: &mut others, ours: &mut ours, gave_way: &mut gave_way };
        load.look(look).await?;
        if others.is_full() {
            let what = "live rows that came meanwhile are more than fit into memory";
            return Err(Error::new(Kind::Overloaded, what));
        }
        let compared = std::mem::take(&mut others.compared);
        let live = Held::new(others.kept.take().unwrap_or_default(), compared);
        self.stands(&live)?;
        let batches = std::mem::take(&mut gave_way.batches);
        for hashed in &batches {
            for row in 0..hashed.hashes.len() {
                self.yielded(hashed, row, &live)?;
            }
        }
        self.exceptions.spill().await?;
        let found = ours.sum.digest();
        compare(&self.digests.written, &found)?;
        self.digests.written = found;
        self.digests.before = others.sum.digest();
        self.digests.after = self.digests.before.clone();
        self.digests.after.add(&self.digests.written);
        if self.digests.before.count > 0 {
            self.owned.whole = false;
        }
        Ok(())
    }

    /// What was held decided over rows of ours, and nothing else is read twice of it: it must still
    /// be there. Else a live writer changed it meanwhile, or it was damaged on its way here.
    fn stands(&self, live: &Held) -> Result<()> {
        // `prefixes` was sorted by the search for repeats.
        let met = |h: &RowHashes| self.prefixes.binary_search(&prefix(h)).is_ok();
        let stands = |h: RowHashes| !met(&h) || self.held.of(h.key) == live.of(h.key);
        if planted::is(Bug::HeldUnproven) || self.held.iter().all(stands) {
            return Ok(());
        }
        let what = "a live row with a key of the source was changed or deleted meanwhile";
        Err(Error::new(Kind::Overloaded, what))
    }

    /// A row that was counted as written is present or a conflict instead.
    fn yielded(&mut self, hashed: &Hashed, row: usize, live: &Held) -> Result<()> {
        let hashes = &hashed.hashes[row];
        let mut one = crate::digest::Digest::default();
        one.add_row(hashes);
        self.digests.written.subtract(&one);
        if planted::is(Bug::GaveWayForgotten) {
            return Ok(());
        }
        let gone = entry(hashes);
        self.entries.retain(|e| *e != gone);
        self.counts.written -= 1;
        match live.standing(hashes, hashed.compared(row)) {
            Standing::Present => self.present(hashes),
            Standing::Alike(_) => self.alike(hashes),
            Standing::Conflict(other) => self.conflict(hashed, row, other, false)?,
            Standing::New => {
                let what = "a live row came before one of ours, and went again";
                return Err(Error::new(Kind::Overloaded, what));
            }
        };
        Ok(())
    }
}
