//! One slice from lease to its final state: tries, waits, halves, gives up.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::attempt::{self, Attempt, Ended, request};
use super::heal::Leave;
use super::recover::Newest;
use super::repeats::{self, Repeats};
use super::{Happening, Shared, exceptions, unknown};
use crate::connector::SliceLoad;
use crate::digest::Hasher;
use crate::error::{Error, Kind, Result};
use crate::id::PlanId;
use crate::ledger::{Event, SliceEvent, SliceRecord, State};
use crate::planted::{self, Bug};
use crate::receipt::{Counts, Receipt};
use crate::spec::Mode;

/// Bytes of memory that one row of a slice in hand may take: held hashes and key prefixes.
const BYTES_PER_ROW: u64 = 40;

/// A slice that took too long is cut into about so many parts at most before the next is tried:
/// whether it was too much or the target stood still cannot be told.
const PARTS: u64 = 16;

/// A slice that was halved so often and has no more rows than these is not halved for what the
/// target says: that comes from something else.
const FEW: (usize, u64) = (6, 64);

/// How often live rows may overtake one try before the slice counts as failed.
const OVERTAKEN: u32 = 100;

/// How a slice ended for this run.
pub(super) struct Driven {
    pub(super) record: SliceRecord,
    /// Rows of this run.
    pub(super) counts: Counts,
    /// Its halves, where it was split.
    pub(super) halves: Option<[SliceRecord; 2]>,
    /// Where it took too long: the most rows that a slice may have to be tried from now on.
    pub(super) most: Option<u64>,
    /// What stops the whole run.
    pub(super) stops: Option<Error>,
}

/// The slice in hand and its budgets.
struct Drive {
    shared: Arc<Shared>,
    record: SliceRecord,
    /// Rows it may have.
    estimate: u64,
    /// The most rows with which it is tried.
    most: u64,
    /// See [`Driven`].
    learned: Option<u64>,
    /// Rows that the last try has read.
    read: u64,
    generation: u64,
    tries: u32,
    overloads: u32,
    mismatches: u32,
    overtaken: u32,
    before: Before,
    /// Held rows beyond the slice's share of memory end the try.
    bounded: bool,
    repeats: Repeats,
}

/// What to do after a failed try.
enum Then {
    Again,
    /// And why.
    Split(String),
    End(SliceEvent, Option<Error>),
}

/// What the target knows of earlier loads of a slice, when the run begins, and what this one may
/// do.
#[derive(Debug)]
pub(super) struct Before {
    /// The plan of one whose receipt is there.
    pub(super) by: Option<PlanId>,
    /// The generation of one whose receipt is lost, or 0.
    pub(super) lost: u64,
    /// The newest one.
    pub(super) newest: Newest,
    /// What the user wants beyond the plan's mode.
    pub(super) leave: Leave,
    /// Mode append, unless the user wants it again: how many commits of other plans were known
    /// when they were found not to have loaded the slice.
    pub(super) commits_of_others: Option<u64>,
}

/// Drives one slice of about so many rows, and of no more than `most`. An error means that the
/// journal cannot be written.
pub(super) async fn drive(
    shared: Arc<Shared>,
    record: SliceRecord,
    (estimate, most): (u64, u64),
    before: Before,
) -> Result<Driven> {
    let generation = match record.state {
        State::Stale | State::Mismatched => record.generation + 1,
        _ => record.generation.max(1),
    };
    let generation = generation.max(before.lost + 1);
    let drive = Drive {
        shared,
        record,
        estimate,
        most,
        learned: None,
        read: 0,
        generation,
        tries: 0,
        overloads: 0,
        mismatches: 0,
        overtaken: 0,
        bounded: before.leave.undo.is_none(),
        before,
        repeats: Repeats::default(),
    };
    if let Some(why) = drive.too_large().filter(|_| drive.can_split()) {
        return drive.split(why).await;
    }
    drive.pace().await;
    match drive.shared.may_begin() {
        Ok(()) => drive.work().await,
        Err(stopped) => Ok(drive.driven(Counts::default(), Some(stopped))),
    }
}

impl Drive {
    /// Why the slice is not even tried, where it is too large.
    fn too_large(&self) -> Option<String> {
        let too_much = if self.estimate > self.most {
            "one transaction can take in its time"
        } else if self.estimate.saturating_mul(BYTES_PER_ROW) > self.shared.share() {
            "fit into its share of `limits.memory`"
        } else {
            return None;
        };
        Some(format!("it has about {} rows, more than {too_much}", self.estimate))
    }

    fn can_split(&self) -> bool {
        if self.before.leave.is_told() {
            // What was told to the user was told of the slice as it is.
            return false;
        }
        let states = [State::Planned, State::Loading, State::Failed, State::Stale];
        states.contains(&self.record.state) && self.record.interval.halves().is_some()
    }

    /// Whether less of it would not fare better either. Where no row was read, it may be that the
    /// slice holds too many.
    fn is_small(&self, error: &Error) -> bool {
        let halvings = self.record.id.as_str().matches('.').count();
        let reached = self.read > 0 || !error.is_too_long();
        reached && halvings >= FEW.0 && self.estimate.max(self.read) <= FEW.1
    }

    /// Waits for the rate cap, before anything is open.
    async fn pace(&self) {
        loop {
            let wait = self.shared.throttle.wait(self.shared.env());
            if wait.is_zero() || self.shared.may_begin().is_err() {
                return;
            }
            let note = format!("waiting {:.1} s for limits.rows_per_second", wait.as_secs_f64());
            self.shared.job.watch.on(&Happening::Note(note));
            self.shared.env().sleep(wait.min(Duration::from_secs(1))).await;
        }
    }

    async fn work(mut self) -> Result<Driven> {
        loop {
            if let Err(e) = self.shared.go_on() {
                return Ok(self.driven(Counts::default(), Some(e)));
            }
            let attempt = self.record.attempt + 1;
            let leased = SliceEvent::Leased { generation: self.generation, attempt };
            self.journal(leased, true).await?;
            let then = match self.attempt().await {
                Ok(Ended::Committed(receipt)) => return self.committed(&receipt).await,
                Ok(Ended::Unknown(e)) => {
                    Then::End(SliceEvent::CommitUnknown { reason: e.to_string() }, None)
                }
                Ok(Ended::Repeats(_)) => return Err(Error::bug("repeats were left undecided")),
                Ok(Ended::Overtaken) => self.after_overtaken(),
                Ok(Ended::TooLarge) if self.can_split() => {
                    Then::Split("its rows do not fit into its share of `limits.memory`".into())
                }
                Ok(Ended::TooLarge) => {
                    self.bounded = false;
                    Then::Again
                }
                Err(e) if e.kind() == Kind::Fenced => self.after_fenced(e).await?,
                Err(e) => self.after_error(e),
            };
            match then {
                Then::Again => back_off(&self.shared, self.tries).await,
                Then::Split(why) => return self.split(why).await,
                Then::End(event, stops) => {
                    self.journal(event, true).await?;
                    return Ok(self.driven(Counts::default(), stops));
                }
            }
        }
    }

    /// One try, with a second look at repeated keys where there are any.
    async fn attempt(&mut self) -> Result<Ended> {
        let shared = self.shared.clone();
        let slice = self.load();
        loop {
            let share = if self.bounded { shared.share() } else { u64::MAX };
            let read = AtomicU64::new(0);
            let attempt = Attempt::new(&shared, &slice, &self.repeats, &self.before, share, &read);
            // On the heap: a try holds the state of every phase.
            let ended = Box::pin(attempt.run()).await;
            self.read = read.into_inner();
            if !matches!(ended, Ok(Ended::Committed(_) | Ended::Unknown(_))) {
                shared.job.watch.on(&Happening::Unread(self.read));
            }
            let found = match ended? {
                Ended::Repeats(found) => found,
                ended => return Ok(ended),
            };
            let plan = &shared.job.plan;
            let hasher = Hasher::new(&plan.columns, &plan.salt);
            let all: HashSet<_> = found.union(&self.repeats.prefixes).copied().collect();
            let request = request(&shared, &slice);
            self.repeats = repeats::decide(&shared, &request, &hasher, all).await?;
        }
    }

    fn load(&self) -> SliceLoad {
        let plan = &self.shared.job.plan;
        SliceLoad {
            plan: plan.id.clone(),
            slice: self.record.id.clone(),
            generation: self.generation,
            attempt: self.record.attempt,
            interval: self.record.interval,
            columns: plan.columns.clone(),
            mode: if self.takes_out() { Mode::Upsert } else { plan.spec.write.mode },
            repair: self.generation > 1 && self.before.leave.undo.is_none(),
            manners: plan.spec.manners(),
        }
    }

    /// Whether held rows may go that would stay by the plan's mode.
    fn takes_out(&self) -> bool {
        let leave = &self.before.leave;
        leave.is_told() || (leave.restate && self.before.newest.receipt.is_some())
    }

    async fn committed(mut self, receipt: &Receipt) -> Result<Driven> {
        let counts = receipt.latest().counts;
        self.shared.throttle.spend(self.shared.env(), counts.written + counts.updated);
        let event = attempt::committed(receipt);
        if planted::is(Bug::LedgerBeforeCommit) {
            self.record.apply(&event)?;
        } else {
            self.journal(event, true).await?;
        }
        Ok(self.driven(counts, None))
    }

    fn after_overtaken(&mut self) -> Then {
        self.overtaken += 1;
        if self.overtaken < OVERTAKEN {
            return Then::Again;
        }
        let reason = format!("live rows with the same keys arrived {OVERTAKEN} times meanwhile");
        Then::End(SliceEvent::Failed { kind: "Overloaded".into(), reason }, None)
    }

    /// The lease is gone, or another runner was faster with this one slice.
    async fn after_fenced(&mut self, error: Error) -> Result<Then> {
        if self.shared.go_on().is_err() {
            // The journal belongs to another runner now.
            return Err(error);
        }
        match unknown::resolve(&self.shared, &self.load(), error).await? {
            unknown::Resolved::Committed(receipt) => {
                exceptions::publish(self.shared.env(), &receipt).await;
                Ok(Then::End(attempt::recovered(&receipt), None))
            }
            unknown::Resolved::NotCommitted(e) | unknown::Resolved::Unknown(e) => {
                Ok(self.after_error(e))
            }
        }
    }

    fn after_error(&mut self, error: Error) -> Then {
        self.tries += 1;
        let retry = &self.shared.job.plan.spec.retry;
        let failed = |e: &Error| SliceEvent::Failed {
            kind: format!("{:?}", e.kind()),
            reason: with_hint(e),
        };
        match error.kind() {
            Kind::Stopped => Then::End(SliceEvent::Released, Some(error)),
            Kind::Stale => Then::End(SliceEvent::Stale { reason: error.to_string() }, None),
            Kind::Mismatch => {
                self.mismatches += 1;
                if self.mismatches < 2 {
                    self.note("tried again", &error);
                    return Then::Again;
                }
                Then::End(SliceEvent::Mismatched { reason: with_hint(&error) }, None)
            }
            Kind::Unavailable | Kind::Overloaded => {
                if error.kind() == Kind::Overloaded {
                    self.overloads += 1;
                    let again = self.overloads < 2 && !error.is_too_long();
                    let whole = again || self.before.leave.is_told();
                    if !whole && !self.is_small(&error) && self.record.interval.halves().is_some() {
                        if error.is_too_long() {
                            // What was read has still to be read back.
                            let (half, fits) = (self.estimate / 2, self.read / 2);
                            let most = fits.clamp(half.div_ceil(PARTS / 2), half).max(1);
                            self.learned = Some(most);
                        }
                        return Then::Split(error.to_string());
                    }
                }
                if self.tries < retry.attempts {
                    self.note("tried again", &error);
                    return Then::Again;
                }
                // What comes next would be cut as small, and take as long.
                let stops = error.is_too_long() && self.is_small(&error);
                Then::End(failed(&error), stops.then(|| error.clone()))
            }
            Kind::Refused => Then::End(failed(&error), None),
            Kind::Config | Kind::Bug | Kind::Fenced => {
                Then::End(failed(&error), Some(error.clone()))
            }
        }
    }

    fn note(&self, done: &str, error: &Error) {
        let note = format!("slice {} is {done}: {error}", self.record.id);
        self.shared.job.watch.on(&Happening::Note(note));
    }

    async fn split(mut self, why: String) -> Result<Driven> {
        let Some((early, _)) = self.record.interval.halves() else {
            return Err(Error::bug("one time unit cannot be split"));
        };
        let halves = self.record.split(early.end())?;
        self.journal(SliceEvent::Split { at: early.end() }, true).await?;
        self.shared.job.watch.on(&Happening::Halved(self.record.id.clone(), why));
        let mut driven = self.driven(Counts::default(), None);
        driven.halves = Some(halves);
        Ok(driven)
    }

    async fn journal(&mut self, what: SliceEvent, durable: bool) -> Result<()> {
        self.record.apply(&what)?;
        let events = vec![Event::slice(&self.record.id, what)];
        self.shared.job.journal.append(&self.shared.lease.lease, events, durable).await
    }

    fn driven(self, counts: Counts, stops: Option<Error>) -> Driven {
        let what = Happening::Slice(self.record.id.clone(), self.record.state, counts);
        self.shared.job.watch.on(&what);
        Driven { record: self.record, counts, halves: None, most: self.learned, stops }
    }
}

/// Waits after this many failed tries: doubling, capped, with up to half of it taken off by
/// chance.
pub(super) async fn back_off(shared: &Shared, tries: u32) {
    let retry = &shared.job.plan.spec.retry;
    if tries == 0 {
        return;
    }
    let doubled = retry.backoff.saturating_mul(1 << (tries - 1).min(16));
    let longest = doubled.min(retry.max_backoff);
    let jitter = shared.env().random() % 512;
    let wait = longest.mul_f64(1.0 - jitter as f64 / 1024.0);
    let step = Duration::from_millis(250);
    let mut left = wait;
    while !left.is_zero() && !shared.job.stop.is_asked() {
        let nap = left.min(step);
        shared.env().sleep(nap).await;
        left = left.saturating_sub(nap);
    }
}

fn with_hint(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error.to_string(),
    }
}
