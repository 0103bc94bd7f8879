//! The ledger of a state dir: core's journal in one `SQLite` file.

mod append;
pub mod holder;
mod lease;
mod reader;
mod record;
mod sqlite;
mod summary;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::PlanId;
use retrofill_core::ledger::{Entry, Event, Holder, Journal, Lease, SliceRecord};

pub use lease::LeaseState;
pub use summary::{PlanRow, Reason, Summary};

use reader::Reader;
use writer::Writer;

/// The journal in a `SQLite` file (write-ahead log, every awaited append synced).
///
/// Two threads serve it, one writes and one reads, so that no call blocks the caller's thread.
/// A read sees every append made before it through the same journal, durable or not. Dropping
/// the journal writes what is still queued. Several processes may have the same file open.
#[derive(Debug)]
pub struct SqliteJournal {
    path: Arc<Path>,
    // Dropped before the writer, which then closes the file last and can fold the log into it.
    reader: Reader,
    writer: Option<Writer>,
}

impl SqliteJournal {
    /// Opens the ledger, creating the file (mode 0600) where there is none; its directory must
    /// exist. An error of kind `Config` where the file is not a ledger, is damaged, or has a
    /// newer format.
    pub fn open(path: &Path) -> Result<Self> {
        let shared: Arc<Path> = path.into();
        let writer = Writer::start(sqlite::open(path)?, Arc::clone(&shared))?;
        Ok(SqliteJournal { writer: Some(writer), ..Self::open_read_only(path)? })
    }

    /// Opens an existing ledger to look at it, also while a runner works. Appends and leases
    /// through it are errors of kind `Bug`.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let path: Arc<Path> = path.into();
        let reader = Reader::start(sqlite::open_read_only(&path)?, Arc::clone(&path))?;
        Ok(SqliteJournal { path, writer: None, reader })
    }

    /// Where a plan stands; none where it is not in the ledger. Much cheaper than
    /// [`Journal::slices`].
    pub async fn summary(&self, plan: &PlanId) -> Result<Option<Summary>> {
        let plan = plan.clone();
        self.read_with(move |connection, path| summary::summary(connection, path, &plan)).await
    }

    /// Every frozen plan, by name, then age.
    pub async fn plans(&self) -> Result<Vec<PlanRow>> {
        self.read_with(|connection, path| summary::plans(connection, path)).await
    }

    /// When a plan's newest entry was made.
    pub async fn last_activity(&self, plan: &PlanId) -> Result<Option<Timestamp>> {
        let plan = plan.clone();
        self.read_with(move |connection, path| summary::last_activity(connection, path, &plan))
            .await
    }

    /// The sequence and hash of a plan's newest entry.
    pub async fn head(&self, plan: &PlanId) -> Result<Option<(u64, [u8; 32])>> {
        let plan = plan.clone();
        self.read_with(move |connection, path| append::head(connection, path, &plan)).await
    }

    /// Checks a plan's chain of entries from the first to the newest. An error of kind `Config`
    /// where one was changed or is missing.
    pub async fn check_chain(&self, plan: &PlanId) -> Result<()> {
        let plan = plan.clone();
        self.read_with(move |connection, path| reader::walk(connection, path, &plan, 0, drop)).await
    }

    /// Waits until every append made before is durable.
    pub async fn flush(&self) -> Result<()> {
        match &self.writer {
            Some(writer) => writer.flush().await,
            None => Ok(()),
        }
    }

    async fn read_with<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Transaction<'_>, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.flush().await?;
        self.reader.run(query).await
    }

    fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| {
            Error::bug(format!("the ledger `{}` is open for reading only", self.path.display()))
        })
    }

    async fn write_with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut rusqlite::Connection, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = Arc::clone(&self.path);
        self.writer()?.run(move |connection| job(connection, &path)).await
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, lease: &Lease, events: Vec<Event>, durable: bool) -> Result<()> {
        self.writer()?.append(lease, events, durable).await
    }

    async fn read(&self, plan: &PlanId, after: u64) -> Result<Vec<Entry>> {
        let plan = plan.clone();
        self.read_with(move |connection, path| reader::entries(connection, path, &plan, after))
            .await
    }

    async fn slices(&self, plan: &PlanId) -> Result<Vec<SliceRecord>> {
        let plan = plan.clone();
        self.read_with(move |connection, path| reader::slices(connection, path, &plan)).await
    }

    async fn lease(&self, plan: &PlanId, holder: &Holder) -> Result<Lease> {
        let (plan, holder) = (plan.clone(), holder.clone());
        self.write_with(move |connection, path| lease::take(connection, path, &plan, &holder)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.write_with(move |connection, path| lease::renew(connection, path, &lease)).await
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.write_with(move |connection, path| lease::release(connection, path, &lease)).await
    }
}
