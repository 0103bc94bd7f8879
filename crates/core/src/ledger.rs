//! The journal of slice events, and the state that is a fold of it.
//!
//! The state table of a slice is one pure function, [`next`]. A journal stores events in a hash
//! chain; what it shows as state must equal the fold over its events, which a test checks for
//! each journal.

mod fold;
mod state;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::id::{PlanId, SliceId, as_hex};
use crate::interval::Interval;
use crate::receipt::Counts;

pub use fold::{Fold, SliceRecord};
pub use state::{State, next};

/// What happened to a slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum SliceEvent {
    /// A runner took it in hand.
    Leased {
        /// Which load of the slice.
        generation: u64,
        /// Which try, from 1.
        attempt: u32,
    },
    /// It was halved before anything of it was committed.
    Split {
        /// Where.
        at: Timestamp,
    },
    /// All rows are with the target, not yet proven.
    Written {
        /// Rows written.
        rows: u64,
    },
    /// Read back; equal.
    Proven {
        /// Row digest of the slice after the load, hex.
        digest: String,
    },
    /// In the target, with its receipt.
    Committed(Outcome),
    /// A receipt of this slice was found in the target: it had been committed before.
    Recovered(Outcome),
    /// The commit's outcome could not be learnt.
    CommitUnknown {
        /// Why not.
        reason: String,
    },
    /// Given up after all tries, or put back because the run stopped.
    Failed {
        /// The class of the failure.
        kind: String,
        /// What happened.
        reason: String,
    },
    /// Put back untouched: the run stopped on purpose.
    Released,
    /// Read back; different.
    Mismatched {
        /// What differed.
        reason: String,
    },
    /// Its source changed, or its receipt or data are gone.
    Stale {
        /// Which.
        reason: String,
    },
    /// What loads of this job had written was taken out again.
    Undone {
        /// The generation of the receipt that says so.
        generation: u64,
        /// How many rows went.
        rows: u64,
    },
}

/// The result of a committed slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which load of the slice.
    pub generation: u64,
    /// Where every row went.
    pub counts: Counts,
    /// Row digest of the slice after the load, hex.
    pub digest: String,
    /// Whether it is proven. False only on targets without transactions.
    pub proven: bool,
    /// When.
    pub at: Timestamp,
}

impl Outcome {
    fn state(&self) -> State {
        match (self.proven, self.counts.read) {
            (false, _) => State::Loaded,
            (true, 0) => State::Empty,
            (true, _) => State::Verified,
        }
    }
}

/// An event of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventV1 {
    /// A plan was frozen; its slices are `planned`.
    PlanFrozen {
        /// The job's name.
        name: String,
        /// SHA-256 of the spec's identity, hex.
        spec_hash: String,
        /// The plan's salt.
        #[serde(with = "as_hex")]
        salt: [u8; 16],
        /// Its slices.
        slices: Vec<Interval>,
        /// Rejects that belong to no slice.
        unplaced: u64,
    },
    /// A runner began.
    RunStarted {
        /// Who.
        holder: String,
        /// Rejects that belong to no slice, where a source that has changed has others.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        unplaced: Option<u64>,
    },
    /// Something happened to a slice.
    Slice {
        /// The slice, or a half of one.
        slice: SliceId,
        /// What.
        #[serde(flatten)]
        what: SliceEvent,
    },
    /// A runner ended.
    RunEnded {
        /// The exit code.
        exit: i32,
        /// Seconds it took, for people.
        seconds: u64,
    },
    /// An action that follows loads was done for these stretches of time.
    AfterDone {
        /// The action's id.
        action: String,
        /// What it is, for people.
        label: String,
        /// What was loaded.
        intervals: Vec<Interval>,
    },
    /// An action that follows loads failed; the next run tries it again.
    AfterFailed {
        /// The action's id.
        action: String,
        /// What it is, for people.
        label: String,
        /// What happened.
        reason: String,
    },
}

/// An event in the version it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum Event {
    /// The first format.
    #[serde(rename = "1")]
    V1(EventV1),
}

impl Event {
    /// An event about one slice.
    pub fn slice(slice: &SliceId, what: SliceEvent) -> Self {
        Event::V1(EventV1::Slice { slice: slice.clone(), what })
    }
}

/// An event with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps, per plan.
    pub sequence: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
    /// SHA-256 over the previous entry's hash, the sequence, the time and the event's JSON.
    #[serde(with = "as_hex")]
    pub hash: [u8; 32],
}

/// The hash of an entry; 32 zero bytes stand before the first.
pub fn chain(previous: &[u8; 32], sequence: u64, at: Timestamp, event: &Event) -> [u8; 32] {
    let json = serde_json::to_string(event).expect("events are plain JSON");
    chain_text(previous, sequence, at, &json)
}

/// The same over the event's JSON as stored, so that a stored text is checked byte for byte.
pub fn chain_text(previous: &[u8; 32], sequence: u64, at: Timestamp, json: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(sequence.to_be_bytes());
    hash.update(at.as_nanosecond().to_be_bytes());
    hash.update(json);
    hash.finalize().into()
}

/// Who holds a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Identifies this boot of the host: after a restart every process is gone.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// When the process started, as the system tells it: pids are used again.
    pub started: String,
}

/// The right to append. Each new lease of a plan has a higher token; the journal refuses appends
/// under an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The plan.
    pub plan: PlanId,
    /// The fencing token.
    pub token: u64,
}

/// How long a lease lives without being renewed.
pub const LEASE_TTL: Duration = Duration::from_secs(10);

/// How often it is renewed.
pub const LEASE_BEAT: Duration = Duration::from_secs(2);

/// The durable journal of one state dir.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Appends the events under the lease, all or none. Returns once they are durable, when
    /// `durable`; else they may be lost with a crash, but never reordered or torn. Appends of
    /// several tasks share one write. An error of kind `Fenced` where the lease is no longer
    /// the newest.
    async fn append(&self, lease: &Lease, events: Vec<Event>, durable: bool) -> Result<()>;

    /// The entries of a plan after a sequence number, in order, with the chain checked.
    async fn read(&self, plan: &PlanId, after: u64) -> Result<Vec<Entry>>;

    /// The state of every slice and half of a plan, by time. Equal to the fold over `read`.
    async fn slices(&self, plan: &PlanId) -> Result<Vec<SliceRecord>>;

    /// Takes the plan for this holder. An error of kind `Fenced` while another holder's lease
    /// lives; one whose process is certainly gone (same host, other boot or no such process)
    /// is taken over at once.
    async fn lease(&self, plan: &PlanId, holder: &Holder) -> Result<Lease>;

    /// Says that the holder lives. An error of kind `Fenced` where the lease was taken over.
    async fn renew(&self, lease: &Lease) -> Result<()>;

    /// Gives the plan free.
    async fn release(&self, lease: Lease) -> Result<()>;
}

#[cfg(test)]
mod tests;
