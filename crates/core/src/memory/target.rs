//! A table in memory with snapshots, versions and receipts.
//!
//! Every commit makes a new version; old ones stay, so that a table can be put back to one. A
//! load stands on the version that was the newest at `begin` and is committed only where no other
//! writer touched its slice since.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};

use super::load::MemoryLoad;
use super::snapshot::Snapshot;
use super::value::{Row, to_batch};
use crate::columns::{ColumnType, Columns};
use crate::connector::{
    Capabilities, Commit, FieldType, Found, Known, Load, ReadRequest, RowSink, Rows, SliceLoad,
    Source, SourceBatch, Standing, SurveyRequest, Target,
};
use crate::error::{Error, Result};
use crate::id::{PlanId, SliceId};
use crate::interval::Interval;
use crate::receipt::Receipt;
use crate::reject::Place;
use crate::spec::Mode;
use crate::survey::Survey;

/// How many rows go into one batch that is read.
pub(super) const BATCH: usize = 16;

/// Says why a row is not taken, if it is not.
type Check = dyn Fn(&Row) -> Option<String> + Send + Sync;

/// A table in memory; clones are handles to the same table.
#[derive(Clone)]
pub struct MemoryTable {
    versions: Arc<Mutex<Vec<Arc<Snapshot>>>>,
    pub(super) check: Option<Arc<Check>>,
    /// Loads of mode fill-missing give way to live rows that come meanwhile.
    pub(super) yields: bool,
}

impl fmt::Debug for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTable(version {})", self.version())
    }
}

impl Default for MemoryTable {
    fn default() -> Self {
        MemoryTable {
            versions: Arc::new(Mutex::new(vec![Arc::default()])),
            check: None,
            yields: false,
        }
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

    /// The same table, with loads that stand on no single state of it.
    pub fn yielding(mut self) -> Self {
        self.yields = true;
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

    pub(super) fn versions(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        // A panic elsewhere cannot leave a version half made: they are pushed whole.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, work: impl FnOnce(&mut Snapshot)) {
        let mut next = (*self.newest()).clone();
        work(&mut next);
        self.versions().push(Arc::new(next));
    }
}

pub(super) async fn push_all(
    columns: &Columns,
    rows: &[&Row],
    sink: &mut dyn RowSink,
) -> Result<()> {
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
            served: true,
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
        let field = |c: &crate::columns::Column| FieldType::new(c.name.clone(), c.ty, true);
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

    async fn shadow(&self, _: &str, _: &str, _: &[Interval]) -> Result<Arc<dyn Target>> {
        let versions = Arc::new(Mutex::new(vec![self.newest()]));
        Ok(Arc::new(MemoryTable { versions, ..self.clone() }))
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        let base = self.newest();
        base.columns()?;
        Ok(Box::new(MemoryLoad::new(self.clone(), slice.clone(), base)))
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
