//! The runner: takes a plan to verified slices.
//!
//! `run` brings ledger and receipts together (`recover`), then drives each open slice through
//! its attempts (`drive`, `attempt`) until the plan is done, stopped or fenced. It knows the
//! target only by its trait.

mod attempt;
mod drive;
mod exceptions;
mod gaps;
mod heal;
mod held;
mod lease;
mod ours;
mod recover;
mod repeats;
mod run;
mod sinks;
mod unknown;
mod verify;
mod wake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::connector::{Source, Target};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::id::SliceId;
use crate::interval::Interval;
use crate::ledger::{Holder, Journal, SliceRecord, State};
use crate::plan::Plan;
use crate::receipt::Counts;
use crate::throttle::Throttle;

pub use gaps::{Cadence, Gaps, Hole, Missing, Search, Series, Wanted, gaps};
pub use heal::{Allowed, Prospect, changed, undoable};
pub use ours::Basis;
pub use run::run;
pub use verify::{Cell, Class, Difference, Drill, Finding, Judgement, Level, cells, verify};

/// Everything a run works with.
#[derive(Clone)]
pub struct Job {
    /// The frozen plan.
    pub plan: Arc<Plan>,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub target: Arc<dyn Target>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// The world.
    pub env: Arc<dyn Env>,
    /// Who runs.
    pub holder: Holder,
    /// Set from outside to stop.
    pub stop: Arc<Stop>,
    /// Told what happens, for bars and lines.
    pub watch: Arc<dyn Watch>,
}

/// What this invocation may touch.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only slices in these states; empty = everything that is not done, except mismatched.
    pub select: Vec<State>,
    /// Only slices that overlap this.
    pub within: Option<Interval>,
    /// Only this slice (or its halves).
    pub only: Option<SliceId>,
    /// Load slices with refused rows again, beside what is not done: the target, the source or
    /// the spec may have been mended since.
    pub replay: bool,
    /// Load again what another plan's receipt already covers (append).
    pub again: bool,
    /// Rows that are provably ours get the values that the source has given them since; slices
    /// that listed such are loaded again.
    pub restate: bool,
    /// In these slices rows that were changed since they were loaded get the source's values again,
    /// as [`changed`] told.
    pub overwrite: BTreeMap<SliceId, Allowed>,
    /// Nothing is loaded: in these slices, and no others, the rows that loads of this job wrote are
    /// taken out, as [`undoable`] told.
    pub undo: BTreeMap<SliceId, Allowed>,
}

impl Options {
    /// Whether the slice is the only one asked for or a part of it, or all are asked for.
    pub fn names(&self, record: &SliceRecord) -> bool {
        self.only.as_ref().is_none_or(|only| {
            record.id == *only || record.id.as_str().starts_with(&format!("{only}."))
        })
    }

    /// Whether the slice is one that is asked for, whatever its state.
    pub fn means(&self, record: &SliceRecord) -> bool {
        self.names(record) && self.within.is_none_or(|w| w.overlaps(&record.interval))
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rows of this invocation.
    pub rows: Counts,
    /// Every slice of the plan as it stands now.
    pub slices: Vec<SliceRecord>,
    /// How many slices this invocation took in hand.
    pub touched: u64,
    /// What ended the run before its time.
    pub stopped: Option<Error>,
}

/// A request to stop, seen between batches.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Finish the slices in hand, begin no other.
    pub fn gracefully(&self) {
        self.0.fetch_max(1, Ordering::SeqCst);
    }

    /// Roll back the slices in hand.
    pub fn now(&self) {
        self.0.fetch_max(2, Ordering::SeqCst);
    }

    /// Whether no other slice may begin.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 1
    }

    /// Whether slices in hand must be rolled back.
    pub fn is_now(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 2
    }
}

/// Something to show.
#[derive(Debug, Clone)]
pub enum Happening {
    /// Slices and estimated rows this invocation will do, and how many slices are done already.
    Began {
        /// Slices to do.
        slices: u64,
        /// Estimated rows in them.
        rows: u64,
        /// Slices that are done already.
        done: u64,
    },
    /// The source sorts itself before the first slice is read: work done and in all.
    Staging(u64, u64),
    /// Rows read from the source.
    Rows(u64),
    /// So many of them by a try that came to nothing: they are read again.
    Unread(u64),
    /// A slice reached this state.
    Slice(SliceId, State, Counts),
    /// A slice was looked through, and is left as it stands.
    Searched(SliceId),
    /// A slice was halved, and why: one more to do.
    Halved(SliceId, String),
    /// Something that slows the run down or changes its course.
    Note(String),
}

/// Is told what happens. Must return at once.
pub trait Watch: Send + Sync {
    /// Something happened.
    fn on(&self, what: &Happening);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watch for Silent {
    fn on(&self, _: &Happening) {}
}

/// What the tasks of one run share.
struct Shared {
    job: Job,
    lease: lease::Beat,
    throttle: Throttle,
    /// When `limits.max_runtime` is used up, by the clock that never goes back.
    deadline: Option<Duration>,
}

impl Shared {
    fn env(&self) -> &dyn Env {
        self.job.env.as_ref()
    }

    /// An error where the slice in hand must be rolled back.
    fn go_on(&self) -> Result<()> {
        if self.job.stop.is_now() {
            return Err(Error::new(Kind::Stopped, "stopped by request"));
        }
        self.lease.check(self.env())
    }

    /// An error where no other slice may begin.
    fn may_begin(&self) -> Result<()> {
        if self.job.stop.is_asked() {
            return Err(Error::new(Kind::Stopped, "stopped by request"));
        }
        if self.deadline.is_some_and(|at| self.env().uptime() >= at) {
            return Err(Error::new(Kind::Stopped, "`limits.max_runtime` is used up"));
        }
        Ok(())
    }

    /// Bytes that one slice in hand may take.
    fn share(&self) -> u64 {
        let limits = &self.job.plan.spec.limits;
        limits.memory / limits.concurrency.unwrap_or(2).max(1) as u64
    }
}
