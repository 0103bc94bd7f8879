//! The thread that reads, on a connection of its own: it never holds up the writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::PlanId;
use retrofill_core::ledger::{Entry, SliceRecord, chain_text};
use rusqlite::{Connection, Row, Transaction};

use super::append::Head;
use super::{append, record, sqlite};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The handle of the reading thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: Arc<Path>,
}

impl Reader {
    /// Starts the thread on its own connection.
    pub(super) fn start(mut connection: Connection, path: Arc<Path>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("ledger-reader".into())
            .spawn(move || queue.iter().for_each(|job| job(&mut connection)))
            .map_err(|e| Error::unavailable("no thread for the ledger").because(e))?;
        Ok(Reader { jobs: Some(jobs), thread: Some(thread), path })
    }

    /// Runs a query that sees one moment of the ledger.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Transaction<'_>, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (give, take) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let job: Job = Box::new(move |connection| {
            let result = connection
                .transaction()
                .map_err(|e| sqlite::cannot(&path, "be read", e))
                .and_then(|transaction| query(&transaction, &path));
            // The caller may be gone; then nobody needs the result.
            let _ = give.send(result);
        });
        let ended = || Error::bug("the ledger's reading thread ended");
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(ended)?;
        take.await.map_err(|_| ended())?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the ledger's reading thread panicked");
        }
    }
}

/// Every slice and half of a plan, by time.
pub(super) fn slices(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
) -> Result<Vec<SliceRecord>> {
    const ALL: &str = concat!(
        "SELECT ",
        record::columns!(),
        " FROM slices WHERE plan = ?1 ORDER BY start_s, start_ns, id"
    );
    connection
        .prepare_cached(ALL)
        .and_then(|mut statement| {
            statement.query_map([plan.as_str()], record::from_row)?.collect::<Result<_, _>>()
        })
        .map_err(|e| sqlite::cannot(path, "be read", e))
}

/// The entries of a plan after a sequence number, each checked against the one before and the
/// last against the plan's head, so that a row that was changed or is missing is found.
pub(super) fn entries(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
    after: u64,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(connection, path, plan, after, |entry| entries.push(entry))?;
    Ok(entries)
}

/// Gives each entry of [`entries`] away as soon as it is checked.
pub(super) fn walk(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
    after: u64,
    mut give: impl FnMut(Entry),
) -> Result<()> {
    let failed = |e| sqlite::cannot(path, "be read", e);
    let mut chain = Chain { path, plan, head: hash_of(connection, path, plan, after)? };
    let mut statement = connection
        .prepare_cached(
            "SELECT sequence, at, json, hash FROM entries WHERE plan = ?1 AND sequence > ?2
             ORDER BY sequence",
        )
        .map_err(failed)?;
    let mut rows = statement
        .query((plan.as_str(), i64::try_from(after).unwrap_or(i64::MAX)))
        .map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        give(chain.next(row)?);
    }
    let head = append::head(connection, path, plan)?;
    if head.is_some_and(|head| head.0 > after && head != chain.head) {
        return Err(chain.broken(chain.head.0 + 1));
    }
    Ok(())
}

/// The hash of the entry with this sequence; what stands before the first for 0, or where there
/// is none.
fn hash_of(connection: &Connection, path: &Path, plan: &PlanId, sequence: u64) -> Result<Head> {
    use rusqlite::OptionalExtension as _;
    let hash = connection
        .query_row(
            "SELECT hash FROM entries WHERE plan = ?1 AND sequence = ?2",
            (plan.as_str(), i64::try_from(sequence).unwrap_or(i64::MAX)),
            |row| row.get(0),
        )
        .optional()
        .map_err(|e| sqlite::cannot(path, "be read", e))?;
    Ok((sequence, hash.unwrap_or_default()))
}

struct Chain<'a> {
    path: &'a Path,
    plan: &'a PlanId,
    head: Head,
}

impl Chain<'_> {
    fn next(&mut self, row: &Row<'_>) -> Result<Entry> {
        let expected = self.head.0 + 1;
        let stored = |row: &Row<'_>| -> rusqlite::Result<_> {
            let at: jiff::Timestamp =
                row.get_ref(1)?.as_str()?.parse().map_err(|e| record::unreadable(1, e))?;
            Ok((record::unsigned(row, 0)?, at, row.get::<_, [u8; 32]>(3)?))
        };
        let (sequence, at, hash) = stored(row).map_err(|e| self.broken(expected).because(e))?;
        let json = row
            .get_ref(2)
            .and_then(|text| Ok(text.as_str()?))
            .map_err(|e| self.broken(expected).because(e))?;
        if sequence != expected || hash != chain_text(&self.head.1, sequence, at, json) {
            return Err(self.broken(expected));
        }
        let event = serde_json::from_str(json).map_err(|e| {
            Error::config(format!(
                "the ledger `{}`: entry {sequence} of plan {} has a format that this retrofill \
                 does not know",
                self.path.display(),
                self.plan
            ))
            .hint("use the retrofill that wrote it, or a newer one")
            .because(e)
        })?;
        self.head = (sequence, hash);
        Ok(Entry { sequence, at, event, hash })
    }

    fn broken(&self, sequence: u64) -> Error {
        sqlite::damaged(self.path, "be trusted")
            .at(format!("entry {sequence} of plan {} breaks the chain", self.plan))
    }
}
