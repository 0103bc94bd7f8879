//! What the journal tells beyond the state of the slices.

use jiff::Timestamp;
use retrofill_core::id::hex;
use retrofill_core::ledger::{Entry, Event, EventV1, SliceEvent};
use retrofill_core::receipt::Counts;
use serde::Serialize;

/// The journal of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JournalFacts {
    /// How many entries it has; also the sequence of the newest.
    pub entries: u64,
    /// The hash of the newest entry: it stands for all of them.
    pub head: String,
    /// Runs that took slices in hand.
    pub runs: u64,
    /// Tries of slices in all runs.
    pub tries: u64,
    /// Tries after a first one of the same load.
    pub retries: u64,
    /// Slices that were halved.
    pub halved: u64,
    /// Slices whose receipt was found in the target.
    pub recovered: u64,
    #[serde(skip)]
    pub(super) last_run: Option<LastRun>,
}

/// The newest run, by the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LastRun {
    pub(super) began: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) rows: Counts,
}

impl JournalFacts {
    /// Adds the entries up; they come in order.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut facts = JournalFacts::default();
        for entry in entries {
            facts.take(entry);
        }
        if let Some(last) = entries.last() {
            facts.entries = last.sequence;
            facts.head = hex(&last.hash);
        }
        facts
    }

    fn take(&mut self, entry: &Entry) {
        let Event::V1(event) = &entry.event;
        match event {
            EventV1::RunStarted { .. } => {
                self.runs += 1;
                self.last_run = Some(LastRun { began: entry.at, ..LastRun::default() });
            }
            EventV1::RunEnded { .. } => {
                if let Some(run) = &mut self.last_run {
                    run.ended = Some(entry.at);
                }
            }
            EventV1::Slice { what: SliceEvent::Leased { attempt, .. }, .. } => {
                self.tries += 1;
                self.retries += u64::from(*attempt > 1);
            }
            EventV1::Slice { what: SliceEvent::Split { .. }, .. } => self.halved += 1,
            EventV1::Slice { what: SliceEvent::Recovered(_), .. } => self.recovered += 1,
            EventV1::Slice { what: SliceEvent::Committed(outcome), .. } => {
                if let Some(run) = &mut self.last_run {
                    run.rows.add(&outcome.counts);
                }
            }
            EventV1::Slice { .. }
            | EventV1::PlanFrozen { .. }
            | EventV1::AfterDone { .. }
            | EventV1::AfterFailed { .. } => {}
        }
    }
}
