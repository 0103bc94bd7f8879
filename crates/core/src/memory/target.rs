//! A table in memory with snapshots, versions and receipts.
//!
//! Every commit makes a new version; old ones stay, so that a table can be put back to one. A
//! load stands on the version that was the newest at `begin` and is committed only where no other
//! writer touched its slice since.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::{StreamExt as _, stream};

use super::snapshot::Snapshot;
use super::value::{Row, from_batch, to_batch};
use crate::columns::{ColumnType, Columns};
use crate::connector::{
    Capabilities, Commit, CommitOutcome, FieldType, Found, Known, Load, ReadRequest, Refused,
    RowPicker, RowSink, Rows, SliceLoad, Source, SourceBatch, Standing, SurveyRequest, Target,
};
use crate::error::{Error, Kind, Result};
use crate::id::{PlanId, SliceId};
use crate::interval::Interval;
use crate::receipt::Receipt;
use crate::reject::Place;
use crate::spec::Mode;
use crate::survey::Survey;

/// How many rows go into one batch that is read.
const BATCH: usize = 16;

/// Says why a row is not taken, if it is not.
type Check = dyn Fn(&Row) -> Option<String> + Send + Sync;

/// A table in memory; clones are handles to the same table.
#[derive(Clone)]
pub struct MemoryTable {
    versions: Arc<Mutex<Vec<Arc<Snapshot>>>>,
    check: Option<Arc<Check>>,
}

impl fmt::Debug for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTable(version {})", self.version())
    }
}

impl Default for MemoryTable {
    fn default() -> Self {
        MemoryTable { versions: Arc::new(Mutex::new(vec![Arc::default()])), check: None }
    }
}

impl MemoryTable {
    /// A table with these columns and rows (in plan order).
    pub fn with(columns: Columns, rows: Vec<Row>) -> Self {
        let table = MemoryTable::default();
        table.change(|s| s.columns = Some(columns));
        table.insert(rows);
        table
    }

    /// The same table, refusing rows for which `check` gives a reason.
    pub fn refusing(
        mut self,
        check: impl Fn(&Row) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// The number of the newest version, from 0.
    pub fn version(&self) -> usize {
        self.versions().len() - 1
    }

    /// The newest version.
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(self.versions().last().expect("the first version is never removed"))
    }

    /// All rows of the newest version, in the order they came.
    pub fn rows(&self) -> Vec<Row> {
        self.newest().rows.iter().map(|(_, row)| row.clone()).collect()
    }

    /// Another writer inserts rows (in plan order of columns).
    pub fn insert(&self, rows: Vec<Row>) {
        self.change(|s| s.append(rows));
    }

    /// Another writer changes, adds or removes rows as it likes. The table keeps its identity.
    pub fn rewrite(&self, work: impl FnOnce(&mut Vec<(u64, Row)>)) {
        self.change(|s| {
            work(&mut s.rows);
            s.rewritten += 1;
        });
    }

    /// Rows change in silence, as on a damaged disk: the receipts know nothing of it.
    pub fn damage(&self, work: impl FnOnce(&mut Vec<(u64, Row)>)) {
        self.change(|s| work(&mut s.rows));
    }

    /// Rows and receipts go; whatever is created next is another table.
    pub fn drop_table(&self) {
        self.change(|s| {
            let (identity, rewritten) = (s.identity + 1, s.rewritten + 1);
            *s = Snapshot { identity, rewritten, ..Snapshot::default() };
        });
    }

    /// Puts rows and receipts back to an older version, as a new version.
    pub fn restore(&self, version: usize) {
        let old = Arc::clone(&self.versions()[version]);
        self.change(|s| {
            let rewritten = s.rewritten + 1;
            *s = Snapshot { rewritten, ..(*old).clone() };
        });
    }

    /// Receipts are lost or damaged; that there was a commit is still known.
    pub fn lose_receipts(&self, mut which: impl FnMut(&Receipt) -> bool) {
        self.change(|s| {
            for receipt in s.receipts.extract_if(.., |r| which(r)) {
                let r = receipt.latest();
                let (plan, slice) = (r.plan.clone(), r.slice.clone());
                s.lost.push(Commit { plan, slice, generation: r.generation });
            }
        });
    }

    fn versions(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        // A panic elsewhere cannot leave a version half made: they are pushed whole.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, work: impl FnOnce(&mut Snapshot)) {
        let mut next = (*self.newest()).clone();
        work(&mut next);
        self.versions().push(Arc::new(next));
    }
}

async fn push_all(columns: &Columns, rows: &[&Row], sink: &mut dyn RowSink) -> Result<()> {
    for some in rows.chunks(BATCH) {
        sink.push(to_batch(columns, some)?).await?;
    }
    Ok(())
}

#[async_trait]
impl Source for MemoryTable {
    async fn survey(&self, _: &SurveyRequest) -> Result<Survey> {
        let columns = self.table().await?.unwrap_or_default();
        Ok(Survey { columns, rows: self.rows().len() as u64, ..Survey::default() })
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let now = self.newest();
        let rows: Vec<_> = now.within(&request.interval)?.iter().map(|(_, row)| row).collect();
        let mut batches = Vec::new();
        for (i, some) in rows.chunks(BATCH).enumerate() {
            let first = (i * BATCH) as u64;
            batches.push(Ok(SourceBatch {
                rows: to_batch(&request.columns, some)?,
                ordinals: (first..first + some.len() as u64).collect(),
                rejects: Vec::new(),
                filtered: 0,
            }));
        }
        Ok(Rows { batches: stream::iter(batches).boxed(), blocks: Vec::new() })
    }

    async fn locate(&self, _: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let place = |n: &u64| Place { file: "memory".into(), line: None, offset: *n };
        Ok(ordinals.iter().map(|n| (place(n), String::new())).collect())
    }
}

#[async_trait]
impl Target for MemoryTable {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "memory",
            atomic: true,
            receipts: true,
            modes: &[Mode::FillMissing, Mode::Append, Mode::Upsert, Mode::Replace],
            rerun: "skips slices whose receipt is there",
            fidelity: "everything survives",
        }
    }

    async fn table(&self) -> Result<Option<Vec<FieldType>>> {
        let now = self.newest();
        let Some(columns) = &now.columns else { return Ok(None) };
        let mut list: Vec<_> = columns.iter().collect();
        list.sort_by_key(|c| c.position);
        let field = |c: &crate::columns::Column| FieldType {
            name: c.name.clone(),
            ty: c.ty,
            nullable: true,
        };
        Ok(Some(list.into_iter().map(field).collect()))
    }

    fn keeps(&self, ty: ColumnType) -> Result<ColumnType> {
        Ok(ty)
    }

    async fn prepare(&self, columns: &Columns) -> Result<()> {
        let now = self.newest();
        let Some(there) = &now.columns else {
            self.change(|s| s.columns = Some(columns.clone()));
            return Ok(());
        };
        if there.fingerprint() == columns.fingerprint() {
            return Ok(());
        }
        Err(Error::config("the table in memory has other columns than the plan"))
    }

    async fn receipts(&self, within: &Interval) -> Result<Known> {
        let now = self.newest();
        let anchor = now.anchor();
        let found = |receipt: &Receipt| Found {
            receipt: receipt.clone(),
            standing: if receipt.latest().anchor == anchor {
                Standing::Sound
            } else {
                Standing::Recheck("the table's rows were rewritten".into())
            },
        };
        let overlapping = now.receipts.iter().filter(|r| r.latest().interval.overlaps(within));
        Ok(Known { found: overlapping.map(found).collect(), lost: now.lost.clone() })
    }

    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        let now = self.newest();
        let receipts = now.receipts.iter().map(|r| (&r.latest().plan, &r.latest().slice));
        let mut all = receipts.chain(now.lost.iter().map(|c| (&c.plan, &c.slice)));
        Ok(all.any(|(p, s)| p == plan && slice.is_kin(s)))
    }

    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        let now = self.newest();
        let plans = now.receipts.iter().map(|r| &r.latest().plan);
        Ok(plans.chain(now.lost.iter().map(|c| &c.plan)).filter(|p| *p != plan).count() as u64)
    }

    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        let of = |c: &Commit| receipt.is_for(&c.plan, &c.slice, c.generation);
        let now = self.newest();
        let found = now.manifests.iter().rev().find(|(commit, _)| of(commit));
        Ok(found.map(|(_, bytes)| bytes.clone()))
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        let base = self.newest();
        base.columns()?;
        let table = self.clone();
        Ok(Box::new(MemoryLoad {
            table,
            slice: slice.clone(),
            base,
            seen: None,
            written: Vec::new(),
            sealed: Vec::new(),
            removed: HashSet::new(),
            manifest: None,
        }))
    }
}

struct MemoryLoad {
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
    manifest: Option<Vec<u8>>,
}

impl MemoryLoad {
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
        Ok(())
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
        let slice = &self.slice;
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

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
