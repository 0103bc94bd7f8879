//! A journal in memory, with a part that survives a crash and one that does not.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::id::PlanId;
use crate::ledger::{Entry, Event, Fold, Holder, Journal, LEASE_TTL, Lease, SliceRecord, chain};

/// Time since some start.
type Clock = dyn Fn() -> Duration + Send + Sync;

/// A journal in memory; clones are handles to the same journal.
#[derive(Clone)]
pub struct MemoryJournal {
    clock: Arc<Clock>,
    state: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    plans: BTreeMap<PlanId, Book>,
    gone: HashSet<String>,
}

/// What is known of one plan.
#[derive(Default)]
struct Book {
    entries: Vec<Entry>,
    /// So many entries survive a crash.
    durable: usize,
    fold: Fold,
    token: u64,
    /// Who holds the plan, and when that was last heard.
    held: Option<(Holder, Duration)>,
}

impl fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryJournal({} plans)", self.state().plans.len())
    }
}

impl MemoryJournal {
    /// An empty journal that lives by this clock.
    pub fn new(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        MemoryJournal { clock: Arc::new(clock), state: Arc::default() }
    }

    /// Declares a holder's process gone.
    pub fn bury(&self, holder: &Holder) {
        self.state().gone.insert(format!("{holder:?}"));
    }

    /// Loses what was not durable, but for the first `keep` entries of it, per plan.
    pub fn crash(&self, keep: usize) {
        for book in self.state().plans.values_mut() {
            book.entries.truncate(book.durable.saturating_add(keep));
            book.durable = book.entries.len();
            book.fold = Fold::of(book.entries.iter().map(|e| &e.event))
                .expect("a prefix of what was accepted is accepted");
        }
    }

    /// The plans that the journal knows.
    pub fn plans(&self) -> Vec<PlanId> {
        self.state().plans.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        (self.clock)()
    }
}

impl Book {
    fn check(&self, lease: &Lease) -> Result<()> {
        if self.token == lease.token && self.held.is_some() {
            return Ok(());
        }
        Err(fenced(format!("the lease of plan {} was taken over", lease.plan)))
    }

    fn append(&mut self, at: Timestamp, events: Vec<Event>) -> Result<()> {
        // All or none: the fold is tried on a copy.
        let mut fold = self.fold.clone();
        for event in &events {
            fold.apply(event)?;
        }
        self.fold = fold;
        for event in events {
            let sequence = self.entries.len() as u64 + 1;
            let previous = self.entries.last().map_or([0; 32], |e| e.hash);
            let hash = chain(&previous, sequence, at, &event);
            self.entries.push(Entry { sequence, at, event, hash });
        }
        Ok(())
    }
}

fn fenced(message: String) -> Error {
    Error::new(Kind::Fenced, message).hint("another runner is at work on this plan")
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, lease: &Lease, events: Vec<Event>, durable: bool) -> Result<()> {
        let at = Timestamp::UNIX_EPOCH + self.now();
        let mut state = self.state();
        let book = state.plans.entry(lease.plan.clone()).or_default();
        book.check(lease)?;
        book.append(at, events)?;
        if durable {
            book.durable = book.entries.len();
        }
        Ok(())
    }

    async fn read(&self, plan: &PlanId, after: u64) -> Result<Vec<Entry>> {
        let state = self.state();
        let Some(book) = state.plans.get(plan) else { return Ok(Vec::new()) };
        let mut previous = [0; 32];
        for (i, entry) in book.entries.iter().enumerate() {
            let sequence = i as u64 + 1;
            previous = chain(&previous, sequence, entry.at, &entry.event);
            if previous != entry.hash || sequence != entry.sequence {
                return Err(Error::bug(format!("entry {sequence} of plan {plan} was altered")));
            }
        }
        Ok(book.entries.get(after as usize..).unwrap_or_default().to_vec())
    }

    async fn slices(&self, plan: &PlanId) -> Result<Vec<SliceRecord>> {
        let state = self.state();
        let book = state.plans.get(plan);
        Ok(book.map_or_else(Vec::new, |b| b.fold.slices.values().cloned().collect()))
    }

    async fn lease(&self, plan: &PlanId, holder: &Holder) -> Result<Lease> {
        let now = self.now();
        let mut state = self.state();
        let gone = state.gone.clone();
        let book = state.plans.entry(plan.clone()).or_default();
        if let Some((other, heard)) = &book.held {
            let lives = *heard + LEASE_TTL > now && !gone.contains(&format!("{other:?}"));
            if lives && other != holder {
                return Err(fenced(format!("plan {plan} is held by pid {}", other.pid)));
            }
        }
        book.token += 1;
        book.held = Some((holder.clone(), now));
        Ok(Lease { plan: plan.clone(), token: book.token })
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        let now = self.now();
        let mut state = self.state();
        let book = state.plans.entry(lease.plan.clone()).or_default();
        book.check(lease)?;
        if let Some((_, heard)) = &mut book.held {
            *heard = now;
        }
        Ok(())
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        let mut state = self.state();
        let book = state.plans.entry(lease.plan.clone()).or_default();
        book.check(&lease)?;
        book.held = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::executor::block_on;

    use super::*;
    use crate::id::SliceId;
    use crate::interval::Interval;
    use crate::ledger::{EventV1, SliceEvent, State};

    fn journal() -> (MemoryJournal, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = Arc::clone(&clock);
        let now = move || Duration::from_secs(seconds.load(Ordering::Relaxed));
        (MemoryJournal::new(now), clock)
    }

    fn holder(pid: u32) -> Holder {
        Holder { host: "h".into(), boot: "b".into(), pid, started: "0".into() }
    }

    fn interval() -> Interval {
        Interval::parse("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z").unwrap()
    }

    fn frozen() -> Event {
        Event::V1(EventV1::PlanFrozen {
            name: "n".into(),
            spec_hash: String::new(),
            salt: [1; 16],
            slices: vec![interval()],
            unplaced: 0,
        })
    }

    fn leased(attempt: u32) -> Event {
        let id = SliceId::of(interval().start());
        Event::slice(&id, SliceEvent::Leased { generation: 1, attempt })
    }

    #[test]
    fn a_crash_takes_only_a_suffix_that_nobody_awaited() {
        let (journal, _) = journal();
        let plan = PlanId::new("p");
        let lease = block_on(journal.lease(&plan, &holder(1))).unwrap();
        block_on(journal.append(&lease, vec![frozen()], true)).unwrap();
        block_on(journal.append(&lease, vec![leased(1)], false)).unwrap();
        block_on(journal.append(&lease, vec![leased(2)], false)).unwrap();
        journal.crash(1);
        assert_eq!(block_on(journal.read(&plan, 0)).unwrap().len(), 2);
        assert_eq!(block_on(journal.slices(&plan)).unwrap()[0].attempt, 1);
        block_on(journal.append(&lease, vec![leased(2)], true)).unwrap();
        journal.crash(0);
        assert_eq!(block_on(journal.read(&plan, 1)).unwrap().len(), 2);
    }

    #[test]
    fn events_that_cannot_follow_change_nothing() {
        let (journal, _) = journal();
        let plan = PlanId::new("p");
        let lease = block_on(journal.lease(&plan, &holder(1))).unwrap();
        let wrong = Event::slice(&SliceId::new("x"), SliceEvent::Released);
        let both = block_on(journal.append(&lease, vec![frozen(), wrong], true));
        assert_eq!(both.map_err(|e| e.kind()), Err(Kind::Bug));
        assert!(block_on(journal.slices(&plan)).unwrap().is_empty());
    }

    #[test]
    fn a_lease_is_taken_over_after_its_time_and_the_old_one_is_fenced() {
        let (journal, clock) = journal();
        let plan = PlanId::new("p");
        let old = block_on(journal.lease(&plan, &holder(1))).unwrap();
        block_on(journal.append(&old, vec![frozen()], true)).unwrap();
        clock.store(9, Ordering::Relaxed);
        assert!(block_on(journal.lease(&plan, &holder(2))).is_err());
        clock.store(10, Ordering::Relaxed);
        let new = block_on(journal.lease(&plan, &holder(2))).unwrap();
        assert!(new.token > old.token);
        for refused in [
            block_on(journal.append(&old, vec![leased(1)], true)),
            block_on(journal.renew(&old)),
            block_on(journal.release(old)),
        ] {
            assert_eq!(refused.map_err(|e| e.kind()), Err(Kind::Fenced));
        }
        assert_eq!(block_on(journal.slices(&plan)).unwrap()[0].state, State::Planned);
        block_on(journal.release(new)).unwrap();
        block_on(journal.lease(&plan, &holder(3))).unwrap();
    }

    #[test]
    fn the_lease_of_a_dead_process_is_free_at_once() {
        let (journal, _) = journal();
        let plan = PlanId::new("p");
        block_on(journal.lease(&plan, &holder(1))).unwrap();
        journal.bury(&holder(1));
        block_on(journal.lease(&plan, &holder(2))).unwrap();
    }

    #[test]
    fn an_altered_entry_is_found() {
        let (journal, _) = journal();
        let plan = PlanId::new("p");
        let lease = block_on(journal.lease(&plan, &holder(1))).unwrap();
        block_on(journal.append(&lease, vec![frozen(), leased(1)], true)).unwrap();
        journal.state().plans.get_mut(&plan).unwrap().entries[1].event = leased(2);
        assert!(block_on(journal.read(&plan, 0)).is_err());
    }
}
