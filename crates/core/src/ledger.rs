//! The journal of slice events, and the state that is a fold of it.
//!
//! The state table of a slice is one pure function, [`next`]. A journal stores events in a hash
//! chain; what it shows as state must equal the fold over its events, which a test checks for
//! each journal.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::id::{PlanId, SliceId, as_hex};
use crate::interval::Interval;
use crate::receipt::Counts;

/// Where a slice stands. Done = verified or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was done yet.
    Planned,
    /// A runner has it in hand.
    Loading,
    /// Committed but not proven: only on targets without transactions.
    Loaded,
    /// Committed and proven by reading back.
    Verified,
    /// Proven to hold nothing to load.
    Empty,
    /// Given up after all tries.
    Failed,
    /// What was read back is not what was written. A person must look.
    Mismatched,
    /// Its source changed, or its receipt or data are gone from the target.
    Stale,
    /// A commit's outcome is not known; the receipts will tell.
    Unknown,
    /// Halved: its halves stand for it.
    Split,
}

impl State {
    /// All states.
    pub const ALL: [State; 10] = [
        State::Planned,
        State::Loading,
        State::Loaded,
        State::Verified,
        State::Empty,
        State::Failed,
        State::Mismatched,
        State::Stale,
        State::Unknown,
        State::Split,
    ];

    /// Whether nothing is left to do.
    pub fn is_done(self) -> bool {
        matches!(self, State::Verified | State::Empty)
    }

    /// The word in every output.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Loading => "loading",
            State::Loaded => "loaded",
            State::Verified => "verified",
            State::Empty => "empty",
            State::Failed => "failed",
            State::Mismatched => "mismatched",
            State::Stale => "stale",
            State::Unknown => "unknown",
            State::Split => "split",
        }
    }
}

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

/// The state after an event; an error of kind `Bug` where the event cannot follow.
pub fn next(state: State, event: &SliceEvent) -> Result<State> {
    use SliceEvent as E;
    use State as S;
    let to = match (state, event) {
        (S::Verified | S::Empty | S::Split, E::Leased { .. }) => None,
        (_, E::Leased { .. }) => Some(S::Loading),
        (S::Planned | S::Loading | S::Failed | S::Stale, E::Split { .. }) => Some(S::Split),
        (S::Loading, E::Written { .. }) => Some(S::Loading),
        (S::Loading, E::Proven { .. }) => Some(S::Loading),
        (S::Loaded, E::Proven { .. }) => Some(S::Verified),
        (S::Loading | S::Unknown, E::Committed(o)) => Some(o.state()),
        (S::Split, E::Recovered(_)) => None,
        (_, E::Recovered(o)) => Some(o.state()),
        (S::Loading, E::CommitUnknown { .. }) => Some(S::Unknown),
        (S::Loading | S::Unknown | S::Loaded, E::Failed { .. }) => Some(S::Failed),
        (S::Loading, E::Released) => Some(S::Planned),
        (S::Split, E::Mismatched { .. } | E::Stale { .. }) => None,
        (_, E::Mismatched { .. }) => Some(S::Mismatched),
        (_, E::Stale { .. }) => Some(S::Stale),
        _ => None,
    };
    to.ok_or_else(|| Error::bug(format!("a {} slice cannot take {event:?}", state.as_str())))
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

/// What the fold knows of one slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRecord {
    /// The slice or half.
    pub id: SliceId,
    /// What it covers.
    pub interval: Interval,
    /// Where it stands.
    pub state: State,
    /// The generation last leased or committed; 0 before the first.
    pub generation: u64,
    /// Tries of this generation so far.
    pub attempt: u32,
    /// The last result, where there is one.
    pub outcome: Option<Outcome>,
    /// Why it stands so, where that needs a reason.
    pub reason: Option<String>,
}

impl SliceRecord {
    /// A slice or half of which nothing was done yet.
    pub fn planned(id: SliceId, interval: Interval) -> Self {
        SliceRecord {
            id,
            interval,
            state: State::Planned,
            generation: 0,
            attempt: 0,
            outcome: None,
            reason: None,
        }
    }

    /// Takes one event. The one place that turns events into state: journals with tables of
    /// their own call it too.
    pub fn apply(&mut self, event: &SliceEvent) -> Result<()> {
        self.state = next(self.state, event).map_err(|e| e.at(format!("slice {}", self.id)))?;
        self.reason = None;
        match event {
            SliceEvent::Leased { generation, attempt } => {
                self.generation = *generation;
                self.attempt = *attempt;
            }
            SliceEvent::Committed(outcome) | SliceEvent::Recovered(outcome) => {
                self.generation = outcome.generation;
                self.outcome = Some(outcome.clone());
            }
            SliceEvent::CommitUnknown { reason }
            | SliceEvent::Failed { reason, .. }
            | SliceEvent::Mismatched { reason }
            | SliceEvent::Stale { reason } => self.reason = Some(reason.clone()),
            _ => {}
        }
        Ok(())
    }

    /// The two halves that a split at `at` makes.
    pub fn split(&self, at: Timestamp) -> Result<[SliceRecord; 2]> {
        let early = Interval::new(self.interval.start(), at)?;
        let late = Interval::new(at, self.interval.end())?;
        Ok([
            SliceRecord::planned(self.id.child(0), early),
            SliceRecord::planned(self.id.child(1), late),
        ])
    }
}

/// The state of a whole plan: a fold over its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    /// Every slice and half by start, then id.
    pub slices: BTreeMap<(Timestamp, SliceId), SliceRecord>,
    starts: BTreeMap<SliceId, Timestamp>,
    /// Rejects that belong to no slice.
    pub unplaced: u64,
    /// The salt, once the plan is frozen.
    pub salt: Option<[u8; 16]>,
}

impl Fold {
    /// Takes one event.
    pub fn apply(&mut self, event: &Event) -> Result<()> {
        let Event::V1(event) = event;
        match event {
            EventV1::PlanFrozen { slices, unplaced, salt, .. } => {
                self.unplaced = *unplaced;
                self.salt = Some(*salt);
                for interval in slices {
                    let record = SliceRecord::planned(SliceId::of(interval.start()), *interval);
                    self.insert(record);
                }
            }
            EventV1::Slice { slice, what } => {
                let start = self.starts.get(slice).copied();
                let record =
                    start
                        .and_then(|start| self.slices.get_mut(&(start, slice.clone())))
                        .ok_or_else(|| Error::bug(format!("slice {slice} is not in the plan")))?;
                record.apply(what)?;
                if let SliceEvent::Split { at } = what {
                    for half in record.split(*at)? {
                        self.insert(half);
                    }
                }
            }
            EventV1::RunStarted { .. } | EventV1::RunEnded { .. } => {}
        }
        Ok(())
    }

    /// The fold over all entries.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self> {
        let mut fold = Fold::default();
        for event in events {
            fold.apply(event)?;
        }
        Ok(fold)
    }

    fn insert(&mut self, record: SliceRecord) {
        let start = record.interval.start();
        self.starts.insert(record.id.clone(), start);
        self.slices.insert((start, record.id.clone()), record);
    }

    /// The slices that stand for themselves: everything that was not split, by time.
    pub fn leaves(&self) -> impl Iterator<Item = &SliceRecord> {
        self.slices.values().filter(|s| s.state != State::Split)
    }
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
