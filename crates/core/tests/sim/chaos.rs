//! Where faults come from: a budget of them per seed, dealt by chance at every await point.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use retrofill_core::error::{Error, Kind, Result};

use crate::dice::Dice;
use crate::env::{Process, World};

/// A place where the runner awaits the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Point {
    SourceStage,
    SourceRead,
    SourceNext,
    SourceLocate,
    Prepare,
    Receipts,
    Begin,
    Held,
    Write,
    Remove,
    Seal,
    ReadBack,
    Arrivals,
    Commit,
    Abort,
    Refresh,
    JournalAppend,
    JournalSlices,
    JournalLease,
    JournalRenew,
    JournalRelease,
    ScratchWrite,
    ScratchRename,
    ScratchRead,
    ScratchDelete,
    ScratchList,
}

impl Point {
    /// How much more often faults come where the runner seldom is.
    fn rarity(self) -> u32 {
        use Point as P;
        match self {
            P::Arrivals | P::Refresh | P::ScratchDelete => 10,
            P::Remove | P::SourceLocate | P::ScratchWrite => 4,
            P::ScratchRename | P::ScratchRead => 4,
            _ => 1,
        }
    }

    pub(crate) const ALL: [Point; 26] = [
        Point::SourceStage,
        Point::SourceRead,
        Point::SourceNext,
        Point::SourceLocate,
        Point::Prepare,
        Point::Receipts,
        Point::Begin,
        Point::Held,
        Point::Write,
        Point::Remove,
        Point::Seal,
        Point::ReadBack,
        Point::Arrivals,
        Point::Commit,
        Point::Abort,
        Point::Refresh,
        Point::JournalAppend,
        Point::JournalSlices,
        Point::JournalLease,
        Point::JournalRenew,
        Point::JournalRelease,
        Point::ScratchWrite,
        Point::ScratchRename,
        Point::ScratchRead,
        Point::ScratchDelete,
        Point::ScratchList,
    ];
}

/// What can go wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    UnavailableBefore,
    UnavailableAfter,
    OverloadedBefore,
    OverloadedAfter,
    Delay,
    LiveRows,
    Kill,
    Stop,
    Corrupted,
    RowRefused,
    UnknownDone,
    UnknownNotDone,
    UnknownLate,
    Moved,
}

impl Fault {
    pub(crate) const ALL: [Fault; 14] = [
        Fault::UnavailableBefore,
        Fault::UnavailableAfter,
        Fault::OverloadedBefore,
        Fault::OverloadedAfter,
        Fault::Delay,
        Fault::LiveRows,
        Fault::Kill,
        Fault::Stop,
        Fault::Corrupted,
        Fault::RowRefused,
        Fault::UnknownDone,
        Fault::UnknownNotDone,
        Fault::UnknownLate,
        Fault::Moved,
    ];
}

/// How often each fault happened at each point.
pub(crate) type Tally = BTreeMap<(Point, Fault), u64>;

type Live = Box<dyn FnMut() + Send>;

struct Inner {
    dice: Dice,
    /// Faults per thousand await points.
    permille: u32,
    /// So many faults are left.
    budget: u32,
    tally: Tally,
    /// Where each process awaits now.
    last: BTreeMap<Process, Point>,
    live: Option<Live>,
    /// Processes to be killed or stopped where they await now.
    wanted: BTreeMap<Process, Fault>,
    trace: Vec<String>,
    tracing: bool,
}

/// The faults of one seed.
#[derive(Clone)]
pub(crate) struct Chaos {
    world: World,
    inner: Arc<Mutex<Inner>>,
}

impl Chaos {
    pub(crate) fn new(seed: u64, world: &World, tracing: bool) -> Self {
        let mut dice = Dice::new(seed, 3);
        let permille = *dice.pick(&[0, 10, 30, 30, 60, 120]);
        let budget = dice.between(1, 30) as u32;
        Chaos {
            world: world.clone(),
            inner: Arc::new(Mutex::new(Inner {
                dice,
                permille,
                budget,
                tally: Tally::new(),
                last: BTreeMap::new(),
                live: None,
                wanted: BTreeMap::new(),
                trace: Vec::new(),
                tracing,
            })),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// What the live writer does when its turn comes.
    pub(crate) fn set_live(&self, live: Live) {
        self.inner().live = Some(live);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        self.inner().budget = 0;
    }

    /// From now on so many things may go wrong.
    pub(crate) fn stir(&self, budget: u32) {
        self.inner().budget = budget;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.inner().tally.clone()
    }

    /// Notes something for the trace of a replayed seed.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        let now = self.world.now();
        let mut inner = self.inner();
        if inner.tracing {
            let line = format!("{:>12.6} {}", now.as_secs_f64(), text());
            inner.trace.push(line);
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.inner().trace.clone()
    }

    /// Counts a fault that another hand made, where the process awaited last.
    pub(crate) fn count_at_last(&self, process: Process, fault: Fault) {
        let mut inner = self.inner();
        if let Some(point) = inner.last.get(&process).copied() {
            *inner.tally.entry((point, fault)).or_default() += 1;
        }
        drop(inner);
        self.note(|| format!("[{process}] {fault:?}"));
    }

    /// Whether this fault happens here and now.
    pub(crate) fn strikes(
        &self,
        process: Process,
        point: Point,
        fault: Fault,
        weight: u32,
    ) -> bool {
        let mut inner = self.inner();
        inner.last.insert(process, point);
        let chance = inner.permille * weight * point.rarity();
        if inner.budget == 0 || !inner.dice.permille(chance) {
            return false;
        }
        inner.budget -= 1;
        *inner.tally.entry((point, fault)).or_default() += 1;
        drop(inner);
        self.note(|| format!("[{process}] {fault:?} at {point:?}"));
        true
    }

    /// Whether the process is to be killed or stopped now.
    pub(crate) fn wanted(&self, process: Process) -> Option<Fault> {
        self.inner().wanted.remove(&process)
    }

    /// A number below `n`, by the chance of the faults.
    pub(crate) fn below(&self, n: usize) -> usize {
        self.inner().dice.below(n)
    }

    /// Goes before every call.
    pub(crate) async fn before(&self, process: Process, point: Point) -> Result<()> {
        self.note(|| format!("[{process}] {point:?}"));
        self.turn(process, point).await;
        self.fail(process, point, Fault::UnavailableBefore, Fault::OverloadedBefore)
    }

    /// Goes after every call: what was done stays done, but the answer is lost.
    pub(crate) async fn after(&self, process: Process, point: Point) -> Result<()> {
        self.turn(process, point).await;
        self.fail(process, point, Fault::UnavailableAfter, Fault::OverloadedAfter)
    }

    /// The others' turn: a delay, and the live writer.
    pub(crate) async fn turn(&self, process: Process, point: Point) {
        let delay = if self.strikes(process, point, Fault::Delay, 1) {
            let millis = [1, 300, 3_000, 12_000];
            Duration::from_millis(millis[self.below(millis.len())])
        } else {
            Duration::from_micros(self.below(200) as u64)
        };
        // Kills come at any poll; where the runner seldom is, some must be aimed.
        for fault in [Fault::Kill, Fault::Stop] {
            if point.rarity() > 1 && self.strikes(process, point, fault, 1) {
                self.inner().wanted.insert(process, fault);
            }
        }
        self.world.sleep(process, delay).await;
        let weight = if point == Point::Commit { 6 } else { 2 };
        if self.strikes(process, point, Fault::LiveRows, weight) {
            let live = self.inner().live.take();
            if let Some(mut live) = live {
                live();
                self.inner().live = Some(live);
            }
        }
    }

    fn fail(&self, process: Process, point: Point, lost: Fault, busy: Fault) -> Result<()> {
        if self.strikes(process, point, lost, 1) {
            return Err(Error::unavailable(format!("{point:?} cannot be reached")));
        }
        if self.strikes(process, point, busy, 1) {
            return Err(Error::new(Kind::Overloaded, format!("{point:?} has too much to do")));
        }
        Ok(())
    }
}
