//! Rules that no process may break at any moment, watched from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use retrofill_core::id::SliceId;
use retrofill_core::ledger::{Event, EventV1, Lease, SliceEvent};
use retrofill_core::memory::MemoryTable;

use crate::env::Process;

#[derive(Default)]
struct Inner {
    broken: Vec<String>,
    newest_token: u64,
    tokens: BTreeMap<Process, u64>,
    loads: BTreeSet<(Process, SliceId)>,
    excused: BTreeSet<Process>,
}

/// The rules of one seed. Clones are handles.
#[derive(Clone, Default)]
pub(crate) struct Rules(Arc<Mutex<Inner>>);

impl Rules {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What was broken.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.inner().broken.clone()
    }

    pub(crate) fn leased(&self, process: Process, lease: &Lease) {
        let mut inner = self.inner();
        inner.newest_token = inner.newest_token.max(lease.token);
        inner.tokens.insert(process, lease.token);
    }

    /// A new journal counts tokens from the start.
    pub(crate) fn forget_leases(&self) {
        let mut inner = self.inner();
        inner.newest_token = 0;
        inner.tokens.clear();
    }

    /// A load begins: the one before of the same slice must have ended.
    pub(crate) fn begun(&self, process: Process, slice: &SliceId) {
        let mut inner = self.inner();
        if !inner.loads.insert((process, slice.clone())) {
            inner.broken.push(format!("slice {slice} begins again while its last load is open"));
        }
    }

    pub(crate) fn ended(&self, process: Process, slice: &SliceId) {
        self.inner().loads.remove(&(process, slice.clone()));
    }

    /// A commit is asked for: only the holder of the newest lease may.
    pub(crate) fn commits(&self, process: Process, slice: &SliceId) {
        let mut inner = self.inner();
        let token = inner.tokens.get(&process).copied().unwrap_or(0);
        if token < inner.newest_token {
            inner.broken.push(format!("a fenced runner commits slice {slice}"));
        }
    }

    /// The table was put back under the feet of this process: what it knows of receipts is old.
    pub(crate) fn excuse(&self, process: Process) {
        self.inner().excused.insert(process);
    }

    /// Events were taken by the journal: it must not run ahead of the target.
    pub(crate) fn journalled(&self, process: Process, events: &[Event], table: &MemoryTable) {
        if self.inner().excused.contains(&process) {
            return;
        }
        for event in events {
            let Event::V1(EventV1::Slice { slice, what }) = event else { continue };
            let generation = match what {
                SliceEvent::Committed(o) | SliceEvent::Recovered(o) => o.generation,
                SliceEvent::Undone { generation, .. } => *generation,
                _ => continue,
            };
            let newest = table.newest();
            let there = |generation| {
                let of = |r: &retrofill_core::receipt::Receipt| {
                    let r = r.latest();
                    r.slice == *slice && r.generation == generation
                };
                let lost =
                    newest.lost.iter().any(|c| c.slice == *slice && c.generation == generation);
                lost || newest.receipts.iter().any(of)
            };
            if !there(generation) {
                self.inner().broken.push(format!(
                    "slice {slice} generation {generation} is committed by the journal, not by \
                     the target"
                ));
            }
        }
    }
}
