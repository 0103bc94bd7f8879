//! Which rows in the table are not ours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use retrofill_core::memory::{MemoryTable, Row};

/// Rows of others, by version of the table since which they are so.
#[derive(Clone, Default)]
pub(crate) struct Others {
    history: Arc<Mutex<History>>,
    /// Rows that may give way to the source's.
    yielding: Arc<Mutex<Vec<Row>>>,
    /// Rows that came in equal to rows that we wrote before and lost: nobody can tell them apart.
    twins: Arc<Mutex<Vec<Row>>>,
    /// Nobody changes or removes rows meanwhile.
    gentle: Arc<AtomicBool>,
}

type History = Vec<(usize, Vec<Row>)>;

impl Others {
    pub(crate) fn now(&self) -> Vec<Row> {
        self.history.lock().unwrap().last().map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    pub(crate) fn set(&self, version: usize, rows: Vec<Row>) {
        self.history.lock().unwrap().push((version, rows));
    }

    /// Others have these rows too.
    pub(crate) fn add(&self, version: usize, rows: impl IntoIterator<Item = Row>) {
        let mut all = self.now();
        all.extend(rows);
        self.set(version, all);
    }

    /// These rows of others may give way to the source's; no others may.
    pub(crate) fn yield_to(&self, rows: &[Row]) {
        *self.yielding.lock().unwrap() = rows.to_vec();
    }

    /// Whether this row of others may give way.
    pub(crate) fn yields(&self, row: &Row) -> bool {
        self.yielding.lock().unwrap().contains(row) || self.twins.lock().unwrap().contains(row)
    }

    /// Such a row came in.
    pub(crate) fn twin(&self, row: &Row) {
        self.twins.lock().unwrap().push(row.clone());
    }

    /// What was taken for ours and is gone was ours.
    pub(crate) fn forget_twins(&self, table: &MemoryTable) {
        let (rows, mut all) = (table.rows(), self.now());
        let twins = self.twins.lock().unwrap();
        all.retain(|row| rows.contains(row) || !twins.contains(row));
        drop(twins);
        self.set(table.version(), all);
    }

    /// From now on other hands only add rows, or not.
    pub(crate) fn be_gentle(&self, gentle: bool) {
        self.gentle.store(gentle, Ordering::SeqCst);
    }

    /// See [`Others::be_gentle`].
    pub(crate) fn is_gentle(&self) -> bool {
        self.gentle.load(Ordering::SeqCst)
    }

    /// As they were in an old version of the table.
    pub(crate) fn at(&self, version: usize) -> Vec<Row> {
        let history = self.history.lock().unwrap();
        let then = history.iter().rev().find(|(v, _)| *v <= version);
        then.map(|(_, rows)| rows.clone()).unwrap_or_default()
    }
}
