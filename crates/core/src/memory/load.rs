//! The load of one slice into a table in memory.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

use super::snapshot::Snapshot;
use super::target::{BATCH, MemoryTable, push_all};
use super::value::{Row, from_batch, to_batch};
use crate::connector::{Commit, CommitOutcome, Load, Look, Refused, RowPicker, RowSink, SliceLoad};
use crate::error::{Error, Kind, Result};
use crate::receipt::Receipt;
use crate::spec::Mode;

pub(super) struct MemoryLoad {
    table: MemoryTable,
    slice: SliceLoad,
    /// The version this load stands on.
    base: Arc<Snapshot>,
    /// The version before, between `Moved` and `arrivals`.
    seen: Option<Arc<Snapshot>>,
    /// Rows on their way.
    written: Vec<Row>,
    /// Rows that can be read back and committed.
    sealed: Vec<Row>,
    /// Held rows that go, by number.
    removed: HashSet<u64>,
    /// Rows that met a live one with their key.
    gave_way: Vec<Row>,
    manifest: Option<Vec<u8>>,
}

impl MemoryLoad {
    /// On this version.
    pub(super) fn new(table: MemoryTable, slice: SliceLoad, base: Arc<Snapshot>) -> Self {
        MemoryLoad {
            table,
            slice,
            base,
            seen: None,
            written: Vec::new(),
            sealed: Vec::new(),
            removed: HashSet::new(),
            gave_way: Vec::new(),
            manifest: None,
        }
    }

    /// Whether the newest version holds other rows in the slice than the one this load stands on:
    /// none, only more rows, or a change that cannot be followed.
    fn compare(&self, newest: &Snapshot) -> Result<Moves> {
        if newest.identity != self.base.identity {
            let gone = Error::new(Kind::Stale, "the table in memory was dropped meanwhile");
            return Ok(Moves::Lost(gone));
        }
        let then = self.base.within(&self.slice.interval)?;
        let now = newest.within(&self.slice.interval)?;
        if then.iter().any(|row| !now.contains(row)) {
            let lost = "another writer changed rows of the slice during the load";
            return Ok(Moves::Lost(Error::unavailable(lost)));
        }
        Ok(if now.len() == then.len() { Moves::None } else { Moves::More })
    }
}

/// A load that gives way.
impl MemoryLoad {
    /// An error where a held row was changed meanwhile: this model does not follow that.
    fn follow(&mut self) -> Result<()> {
        let newest = self.table.newest();
        if let Moves::Lost(e) = self.compare(&newest)? {
            return Err(e);
        }
        self.base = newest;
        Ok(())
    }

    /// Whether a row of the newest state has a key of ours. A server would let that writer wait.
    fn is_met(&self) -> Result<bool> {
        let held = self.base.within(&self.slice.interval)?;
        let width = self.slice.columns.key_width();
        let meets = |row: &Row| held.iter().any(|(_, live)| live[..width] == row[..width]);
        Ok(self.sealed.iter().any(meets))
    }

    fn yield_to_live_rows(&mut self) -> Result<()> {
        self.follow()?;
        let held = self.base.within(&self.slice.interval)?;
        let width = self.slice.columns.key_width();
        let meets = |row: &mut Row| held.iter().any(|(_, live)| live[..width] == row[..width]);
        self.gave_way.extend(self.sealed.extract_if(.., meets));
        Ok(())
    }

    /// Whether the commit can be: no live writer has taken a key meanwhile.
    fn may_commit(&mut self, newest: &Arc<Snapshot>) -> Result<()> {
        if let Moves::Lost(e) = self.compare(newest)? {
            return Err(e);
        }
        self.base = Arc::clone(newest);
        if self.is_met()? {
            return Err(Error::new(Kind::Overloaded, "a live writer waits for a key of ours"));
        }
        Ok(())
    }
}

enum Moves {
    None,
    More,
    Lost(Error),
}

#[async_trait]
impl Load for MemoryLoad {
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let rows: Vec<_> =
            self.base.within(&self.slice.interval)?.iter().map(|(_, row)| row).collect();
        push_all(&self.slice.columns, &rows, sink).await
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        for (i, row) in from_batch(&rows)?.into_iter().enumerate() {
            match self.table.check.as_ref().and_then(|check| check(&row)) {
                Some(reason) => refused.push(Refused { row: i, column: None, reason }),
                None => self.written.push(row),
            }
        }
        Ok(refused)
    }

    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        for some in self.base.within(&self.slice.interval)?.chunks(BATCH) {
            let rows: Vec<_> = some.iter().map(|(_, row)| row).collect();
            let goes = picker.pick(to_batch(&self.slice.columns, &rows)?).await?;
            let gone = some.iter().zip(goes).filter(|(_, goes)| *goes);
            self.removed.extend(gone.map(|((id, _), _)| *id));
        }
        Ok(())
    }

    async fn seal(&mut self) -> Result<()> {
        self.sealed.append(&mut self.written);
        if self.gives_way() { self.yield_to_live_rows() } else { Ok(()) }
    }

    fn gives_way(&self) -> bool {
        self.table.yields && self.slice.mode == Mode::FillMissing
    }

    async fn look(&mut self, look: Look<'_>) -> Result<()> {
        self.follow()?;
        if self.is_met()? {
            return Err(Error::new(Kind::Overloaded, "a live writer waits for a key of ours"));
        }
        let columns = &self.slice.columns;
        let others: Vec<_> =
            self.base.within(&self.slice.interval)?.iter().map(|(_, row)| row).collect();
        push_all(columns, &others, look.others).await?;
        push_all(columns, &self.sealed.iter().collect::<Vec<_>>(), look.ours).await?;
        push_all(columns, &self.gave_way.iter().collect::<Vec<_>>(), look.gave_way).await
    }

    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let held = self.base.within(&self.slice.interval)?;
        let stay = held.iter().filter(|(id, _)| !self.removed.contains(id));
        let rows: Vec<_> = stay.map(|(_, row)| row).chain(&self.sealed).collect();
        push_all(&self.slice.columns, &rows, sink).await
    }

    async fn arrivals(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let known: HashSet<_> =
            seen.within(&self.slice.interval)?.iter().map(|(id, _)| *id).collect();
        let now = self.base.within(&self.slice.interval)?;
        let new: Vec<_> =
            now.iter().filter(|(id, _)| !known.contains(id)).map(|(_, r)| r).collect();
        push_all(&self.slice.columns, &new, sink).await?;
        self.seen = None;
        Ok(())
    }

    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.manifest = Some(bytes);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, mut receipt: Receipt) -> CommitOutcome {
        let slice = self.slice.clone();
        let table = self.table.clone();
        // One lock over check and change: a commit is atomic.
        let mut versions = table.versions();
        let newest = Arc::clone(versions.last().expect("the first version is never removed"));
        let twice = |r: &Receipt| r.is_for(&slice.plan, &slice.slice, slice.generation);
        let lost = |c: &Commit| {
            (&c.plan, &c.slice, c.generation) == (&slice.plan, &slice.slice, slice.generation)
        };
        if newest.receipts.iter().any(twice) || newest.lost.iter().any(lost) {
            let message = format!("slice {} has a receipt already", slice.slice);
            return CommitOutcome::NotCommitted(Error::new(Kind::Fenced, message));
        }
        if self.gives_way()
            && let Err(e) = self.may_commit(&newest)
        {
            return CommitOutcome::NotCommitted(e);
        }
        match self.compare(&newest) {
            Ok(Moves::None) => {}
            Ok(Moves::More) => {
                drop(versions);
                // Arrivals are counted from the first look, however often the slice moves.
                self.seen.get_or_insert(std::mem::replace(&mut self.base, newest));
                return CommitOutcome::Moved(self);
            }
            Ok(Moves::Lost(e)) | Err(e) => return CommitOutcome::NotCommitted(e),
        }
        let mut next = (*newest).clone();
        receipt.latest_mut().anchor = next.anchor();
        // In this order: a number is never given twice.
        next.append(std::mem::take(&mut self.sealed));
        next.rows.retain(|(id, _)| !self.removed.contains(id));
        next.receipts.push(receipt);
        if let Some(bytes) = self.manifest.take() {
            let (plan, slice) = (slice.plan.clone(), slice.slice.clone());
            let commit = Commit { plan, slice, generation: self.slice.generation };
            next.manifests.push((commit, bytes));
        }
        versions.push(Arc::new(next));
        CommitOutcome::Committed
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn refresh(self: Box<Self>, receipt: Receipt) -> Result<()> {
        let anchor = self.base.anchor();
        self.table.change(|s| {
            if s.anchor() == anchor {
                let same = s.receipts.iter_mut().filter(|r| **r == receipt);
                same.for_each(|r| r.latest_mut().anchor = anchor.clone());
            }
        });
        Ok(())
    }
}
