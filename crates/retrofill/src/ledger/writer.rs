//! The one thread that writes: what queues up while a commit is under way shares the next one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::PlanId;
use retrofill_core::ledger::{Event, Lease};
use rusqlite::{Connection, TransactionBehavior};

use super::append::append;
use super::sqlite;

/// How long an append that nobody waits for may wait for company.
const LINGER: Duration = Duration::from_millis(200);

/// How many commands one transaction takes at most.
const BATCH: usize = 1024;

type Answer<T> = oneshot::Sender<Result<T>>;
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

enum Command {
    Append(Append),
    Flush(Answer<()>),
    Run(Job),
}

struct Append {
    lease: Lease,
    events: Vec<Event>,
    /// Who waits until it is durable, if anybody does.
    answer: Option<Answer<()>>,
}

/// The handle of the writing thread. Dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on its own connection.
    pub(super) fn start(connection: Connection, path: Arc<Path>) -> Result<Self> {
        let (commands, queue) = mpsc::channel();
        let worker = Worker { connection, path, pending: Vec::new(), lost: HashMap::new() };
        let thread = std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || worker.work(&queue))
            .map_err(|e| Error::unavailable("no thread for the ledger").because(e))?;
        Ok(Writer { commands: Some(commands), thread: Some(thread) })
    }

    /// Queues the events; waits for the disk only when `durable`.
    pub(super) async fn append(
        &self,
        lease: &Lease,
        events: Vec<Event>,
        durable: bool,
    ) -> Result<()> {
        let lease = lease.clone();
        if !durable {
            return self.send(Command::Append(Append { lease, events, answer: None }));
        }
        let (give, take) = oneshot::channel();
        self.send(Command::Append(Append { lease, events, answer: Some(give) }))?;
        take.await.map_err(|_| ended())?
    }

    /// Waits until everything queued before is durable.
    pub(super) async fn flush(&self) -> Result<()> {
        let (give, take) = oneshot::channel();
        self.send(Command::Flush(give))?;
        take.await.map_err(|_| ended())?
    }

    /// Runs a transaction of its own after everything queued before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (give, take) = oneshot::channel();
        self.send(Command::Run(Box::new(move |connection| {
            // The caller may be gone; then nobody needs the result.
            let _ = give.send(job(connection));
        })))?;
        take.await.map_err(|_| ended())?
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.as_ref().and_then(|c| c.send(command).ok()).ok_or_else(ended)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the ledger's writing thread panicked");
        }
    }
}

fn ended() -> Error {
    Error::bug("the ledger's writing thread ended")
}

struct Worker {
    connection: Connection,
    path: Arc<Path>,
    /// What the next transaction will hold, in order.
    pending: Vec<Append>,
    /// Appends that nobody waited for and that could not be made: the next one under the same
    /// lease that somebody waits for gets the error, so that no event is lost in silence.
    lost: HashMap<(PlanId, u64), Error>,
}

impl Worker {
    fn work(mut self, queue: &Receiver<Command>) {
        let mut due: Option<Instant> = None;
        loop {
            let first = match due {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(command) => {
                    let mut urgent = self.take(command);
                    for command in queue.try_iter().take(BATCH) {
                        urgent |= self.take(command);
                    }
                    if urgent {
                        self.commit_or_keep();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.commit_or_keep(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            due = match (self.pending.is_empty(), due) {
                (true, _) => None,
                (false, Some(due)) if due > Instant::now() => Some(due),
                (false, _) => Some(Instant::now() + LINGER),
            };
        }
        if let Err(error) = self.commit() {
            tracing::error!(%error, appends = self.pending.len(), "not written to the ledger");
        }
    }

    /// Takes a command in; whether somebody waits for a commit now.
    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Append(append) => {
                self.pending.push(append);
                self.pending.last().is_some_and(|a| a.answer.is_some())
            }
            Command::Flush(answer) => {
                // The caller may be gone; the commit is made all the same.
                let _ = answer.send(self.commit());
                false
            }
            Command::Run(job) => {
                self.commit_or_keep();
                job(&mut self.connection);
                false
            }
        }
    }

    /// Commits; what nobody waits for is tried again after a failure, and who waits was told.
    fn commit_or_keep(&mut self) {
        if let Err(error) = self.commit() {
            tracing::warn!(%error, kept = self.pending.len(), "the ledger could not be written");
        }
    }

    /// Writes everything pending in one transaction and answers who waits. After a failure of
    /// the whole transaction the appends that nobody waits for stay pending, in order.
    fn commit(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.transact() {
            Ok(results) => {
                let answers = self.pending.drain(..).map(|append| append.answer).zip(results);
                for (answer, result) in answers.filter_map(|(a, r)| Some((a?, r))) {
                    // The caller may be gone; the entries stand all the same.
                    let _ = answer.send(result);
                }
                Ok(())
            }
            Err(error) => {
                let (waited_for, kept) =
                    self.pending.drain(..).partition(|append| append.answer.is_some());
                self.pending = kept;
                for answer in waited_for.into_iter().filter_map(|append| append.answer) {
                    // The caller may be gone; nothing was written for it.
                    let _ = answer.send(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// One result per pending append; an error where the transaction as a whole failed.
    fn transact(&mut self) -> Result<Vec<Result<()>>> {
        let failed = |e| sqlite::cannot(&self.path, "be written", e);
        let mut transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let mut results = Vec::with_capacity(self.pending.len());
        for next in &self.pending {
            let key = (next.lease.plan.clone(), next.lease.token);
            if let Some(error) = self.lost.get(&key) {
                results.push(Err(error.clone()));
                if next.answer.is_some() {
                    self.lost.remove(&key);
                }
                continue;
            }
            // One refused append must not cost the others theirs.
            let savepoint = transaction.savepoint().map_err(failed)?;
            let result = append(&savepoint, &self.path, &next.lease, &next.events);
            match &result {
                Ok(()) => savepoint.commit().map_err(failed)?,
                Err(error) if error.kind().is_transient() => return Err(error.clone()),
                Err(error) => {
                    savepoint.finish().map_err(failed)?;
                    if next.answer.is_none() {
                        tracing::error!(%error, "an append to the ledger was refused");
                        self.lost.insert(key, error.clone());
                    }
                }
            }
            results.push(result);
        }
        transaction.commit().map_err(failed)?;
        Ok(results)
    }
}
