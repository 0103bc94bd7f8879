//! The one committer of a table: commits of neighbouring slices share a log entry.
//!
//! A commit is decided on one version and put as exactly the next one, which fails where another
//! writer was faster; then everything is decided anew. delta-rs' own conflict check would let a
//! blind append through, so it is not asked.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use retrofill_core::connector::CommitOutcome;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::receipt::Receipt;
use tokio::sync::{mpsc, oneshot};

use super::anchor::Anchor;
use super::datafile::Written;
use super::durable::{Created, parent};
use super::entry::{self, Part};
use super::load::{Arrived, DeltaLoad};
use super::log::entry_path;
use super::receipts;
use super::state::{DataFile, State};
use super::{Shared, upkeep};

/// How long a commit waits for neighbours.
const GATHER: Duration = Duration::from_millis(20);
/// How many loads share a log entry at most.
const TOGETHER: usize = 32;
/// How many receipts wait for the disk at once.
const SYNCS: usize = 8;

/// Hands loads to the committing task.
#[derive(Debug, Default)]
pub(super) struct Committer {
    queue: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
    open: Arc<AtomicUsize>,
}

/// Counts a load that has not yet come to its commit: the committer waits for company only
/// where there can be some.
#[derive(Debug)]
pub(super) struct OpenLoad {
    open: Arc<AtomicUsize>,
    counted: bool,
}

impl OpenLoad {
    fn leave(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn enter(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.open.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenLoad {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A load that waits for its commit.
pub(super) struct Waiting {
    load: Box<DeltaLoad>,
    receipt: Receipt,
    reply: oneshot::Sender<CommitOutcome>,
}

impl Waiting {
    fn refuse(self, error: Error) {
        // The load takes its file with it, before anyone acts on the answer.
        drop(self.load);
        // Who asked may be gone.
        let _ = self.reply.send(CommitOutcome::NotCommitted(error));
    }

    fn app_id(&self) -> String {
        receipts::app_id(&self.load.slice.plan, &self.load.slice.slice)
    }
}

impl Committer {
    /// Counts a load in.
    pub(super) fn open(&self) -> OpenLoad {
        let mut open = OpenLoad { open: self.open.clone(), counted: false };
        open.enter();
        open
    }

    /// Commits a load together with its neighbours.
    pub(super) async fn commit(
        &self,
        shared: &Arc<Shared>,
        mut load: Box<DeltaLoad>,
        receipt: Receipt,
    ) -> CommitOutcome {
        load.open.leave();
        let (reply, answer) = oneshot::channel();
        self.enqueue(shared, Waiting { load, receipt, reply });
        answer.await.unwrap_or_else(|_| {
            let error = Error::new(Kind::Unavailable, "the committer ended before it answered");
            CommitOutcome::Unknown(error)
        })
    }

    fn enqueue(&self, shared: &Arc<Shared>, mut waiting: Waiting) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let send = queue.get_or_insert_with(|| {
                let (send, receive) = mpsc::unbounded_channel();
                tokio::spawn(serve(Arc::downgrade(shared), self.open.clone(), receive));
                send
            });
            match send.send(waiting) {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => waiting = back,
            }
            // The task ended, with its runtime or by a panic: begin another one.
            *queue = None;
        }
    }
}

async fn serve(
    shared: std::sync::Weak<Shared>,
    open: Arc<AtomicUsize>,
    mut receive: mpsc::UnboundedReceiver<Waiting>,
) {
    while let Some(first) = receive.recv().await {
        let batch = gather(first, &open, &mut receive).await;
        let Some(shared) = shared.upgrade() else { return };
        let at = shared.clone();
        // A panic drops the replies: each caller learns that its outcome is not known.
        let committed = tokio::task::spawn_blocking(move || rounds(&at, batch)).await;
        if let Ok(Some(version)) = committed {
            upkeep::after_commit(&shared, version);
        }
    }
}

async fn gather(
    first: Waiting,
    open: &AtomicUsize,
    receive: &mut mpsc::UnboundedReceiver<Waiting>,
) -> Vec<Waiting> {
    let mut batch = vec![first];
    let end = tokio::time::Instant::now() + GATHER;
    while batch.len() < TOGETHER {
        if open.load(Ordering::Relaxed) == 0 {
            match receive.try_recv() {
                Ok(waiting) => batch.push(waiting),
                Err(_) => break,
            }
            continue;
        }
        match tokio::time::timeout_at(end, receive.recv()).await {
            Ok(Some(waiting)) => batch.push(waiting),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Commits until every load is answered; gives the last version that was committed. Blocks.
fn rounds(shared: &Shared, mut waiting: Vec<Waiting>) -> Option<u64> {
    let mut committed = None;
    while !waiting.is_empty() {
        let sorted = shared.log.newest(|state| sort(state, std::mem::take(&mut waiting)));
        let sorted = match sorted {
            Ok(Some(sorted)) => sorted,
            Ok(None) => {
                let gone = Error::unavailable("the table is gone");
                refuse_all(waiting, &gone);
                return committed;
            }
            Err(e) => {
                refuse_all(waiting, &e);
                return committed;
            }
        };
        for (waiting, verdict) in sorted.answered {
            answer(waiting, verdict);
        }
        waiting = sorted.later;
        let version = sorted.version + 1;
        let ready = prepare(shared, sorted.ready, &sorted.table_id, version);
        if ready.is_empty() {
            continue;
        }
        match put(shared, &ready, version) {
            Created::Done => {
                committed = Some(version);
                for mut w in ready {
                    w.load.keep = true;
                    // Who asked may be gone; the receipt tells whoever asks next.
                    let _ = w.reply.send(CommitOutcome::Committed);
                }
            }
            Created::Exists => waiting.extend(ready),
            Created::Not(e) => {
                let error = shared.log.durable().error("commit to", &entry_path(version), e);
                refuse_all(ready, &error);
            }
            Created::Unknown(e) => {
                let error = shared.log.durable().error("commit to", &entry_path(version), e);
                for mut w in ready {
                    w.load.keep = true;
                    let _ = w.reply.send(CommitOutcome::Unknown(error.clone()));
                }
            }
        }
    }
    committed
}

fn refuse_all(waiting: Vec<Waiting>, error: &Error) {
    for one in waiting {
        one.refuse(error.clone());
    }
}

/// The loads of a batch, by what is to be done with them on one version.
struct Sorted {
    version: u64,
    table_id: String,
    ready: Vec<Waiting>,
    later: Vec<Waiting>,
    answered: Vec<(Waiting, Verdict)>,
}

enum Verdict {
    Ready,
    Committed,
    Moved(Arrived),
    Refused(Error),
}

fn sort(state: &mut State, batch: Vec<Waiting>) -> Sorted {
    let mut sorted = Sorted {
        version: state.version,
        table_id: state.metadata.id.clone(),
        ready: Vec::new(),
        later: Vec::new(),
        answered: Vec::new(),
    };
    let mut apps = HashSet::new();
    for mut waiting in batch {
        if waiting.reply.is_closed() {
            continue;
        }
        match judge(state, &mut waiting) {
            Verdict::Ready => {
                // Two loads that touch the same rows are decided one after the other.
                let interval = waiting.load.slice.interval;
                let meets = |w: &Waiting| w.load.slice.interval.overlaps(&interval);
                if sorted.ready.iter().any(meets) || !apps.insert(waiting.app_id()) {
                    sorted.later.push(waiting);
                } else {
                    sorted.ready.push(waiting);
                }
            }
            verdict => sorted.answered.push((waiting, verdict)),
        }
    }
    sorted
}

fn judge(state: &State, waiting: &mut Waiting) -> Verdict {
    let app_id = waiting.app_id();
    let load = &mut waiting.load;
    let slice = &load.slice;
    let generation = i64::try_from(slice.generation).unwrap_or(i64::MAX);
    if state.txn(&app_id).is_some_and(|version| version >= generation) {
        return Verdict::Committed;
    }
    let moved = |what: &str| {
        Verdict::Refused(Error::unavailable(format!(
            "{what} while slice {} was loaded",
            slice.slice
        )))
    };
    if state.epoch != load.base.epoch {
        return moved("the table was replaced or its columns changed");
    }
    let Some(changes) = state.since(load.base.version) else {
        return moved("the table's log was cut");
    };
    let time = &slice.columns.time().name;
    let mut files: Vec<Arc<DataFile>> = Vec::new();
    for change in changes {
        for gone in &change.removed {
            if load.base.files.iter().any(|f| f.path == gone.path) {
                return moved("files with rows of the slice were removed or rewritten");
            }
            files.retain(|f| f.path != gone.path);
            load.wreck.retain(|f| f.path != gone.path);
        }
        files.extend(change.added.iter().filter(|f| f.may_hold(time, &slice.interval)).cloned());
    }
    if files.is_empty() {
        return Verdict::Ready;
    }
    Verdict::Moved(Arrived { version: state.version, files })
}

fn answer(mut waiting: Waiting, verdict: Verdict) {
    match verdict {
        Verdict::Moved(arrived) => {
            waiting.load.arrived = Some(arrived);
            waiting.load.open.enter();
            let _ = waiting.reply.send(CommitOutcome::Moved(waiting.load));
        }
        Verdict::Committed => {
            let error = receipts::already_committed(&waiting.load.slice);
            waiting.refuse(error);
        }
        Verdict::Refused(error) => waiting.refuse(error),
        Verdict::Ready => waiting.refuse(Error::bug("a load that was ready was not committed")),
    }
}

/// Looks at each data file once more and writes the receipts' bodies, side by side because each
/// waits for the disk; what fails is answered.
fn prepare(shared: &Shared, mut ready: Vec<Waiting>, table_id: &str, version: u64) -> Vec<Waiting> {
    let share = ready.len().div_ceil(SYNCS).max(1);
    let anchored: Vec<Result<String>> = thread::scope(|scope| {
        let parts: Vec<_> = ready
            .chunks_mut(share)
            .map(|part| {
                let anchor = |w: &mut Waiting| anchor(shared, w, table_id, version);
                (part.len(), scope.spawn(move || part.iter_mut().map(anchor).collect()))
            })
            .collect();
        parts.into_iter().flat_map(|(loads, part)| part.join().unwrap_or(failed(loads))).collect()
    });
    let mut dirs = HashSet::new();
    let mut whole = Vec::new();
    for (waiting, anchored) in ready.into_iter().zip(anchored) {
        match anchored {
            Ok(path) => {
                dirs.insert(parent(&path).to_owned());
                whole.push(waiting);
            }
            Err(e) => waiting.refuse(e),
        }
    }
    for dir in dirs {
        if let Err(e) = shared.log.durable().disk().sync_dir(&dir) {
            let error = shared.log.durable().error("sync", &dir, e);
            refuse_all(std::mem::take(&mut whole), &error);
        }
    }
    whole
}

fn failed(loads: usize) -> Vec<Result<String>> {
    vec![Err(Error::bug("a thread that writes receipts ended early")); loads]
}

fn anchor(shared: &Shared, waiting: &mut Waiting, table_id: &str, version: u64) -> Result<String> {
    let load = &waiting.load;
    let anew = load.rewritten.iter().filter_map(|r| r.new.as_ref());
    for file in load.written.iter().chain(anew) {
        check_file(shared, file)?;
    }
    let rows_held = waiting.receipt.latest().digests.before.count > 0;
    let held = if rows_held { load.others() } else { Vec::new() };
    let anchor = Anchor::of_load(table_id, version, load, &held);
    waiting.receipt.latest_mut().anchor = anchor.to_json();
    let durable = shared.log.durable();
    waiting.load.manifest_file = receipts::write_manifest(durable, &waiting.load)?;
    let load = &waiting.load;
    let path = receipts::write_body(durable, &load.slice, &load.word, &waiting.receipt)?;
    waiting.load.body = Some(path.clone());
    Ok(path)
}

/// A foreign VACUUM takes files that no log entry names yet.
fn check_file(shared: &Shared, written: &Written) -> Result<()> {
    let durable = shared.log.durable();
    match durable.disk().stat(&written.path) {
        Ok(stat) if stat.length == written.size => Ok(()),
        Ok(stat) => Err(Error::new(
            Kind::Mismatch,
            format!(
                "the data file `{}` has {} bytes, but {} were written",
                durable.disk().describe(&written.path),
                stat.length,
                written.size
            ),
        )),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::unavailable(format!(
            "the data file `{}` was removed before its commit",
            durable.disk().describe(&written.path)
        ))
        .hint("a VACUUM with a retention shorter than a load takes files that are not committed")),
        Err(e) => Err(durable.error("look at", &written.path, e)),
    }
}

fn put(shared: &Shared, ready: &[Waiting], version: u64) -> Created {
    let parts: Vec<Part<'_>> = ready
        .iter()
        .map(|w| Part {
            slice: &w.load.slice,
            written: w.load.written.as_ref(),
            wreck: &w.load.wreck,
            rewritten: &w.load.rewritten,
            receipt: &w.receipt,
        })
        .collect();
    match entry::of_loads(&parts, version) {
        Ok(bytes) => shared.log.durable().create(&entry_path(version), &bytes),
        Err(e) => Created::Not(std::io::Error::other(e)),
    }
}
