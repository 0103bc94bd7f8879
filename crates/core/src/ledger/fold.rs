//! What the events of a plan add up to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Event, EventV1, Outcome, SliceEvent, State, next};
use crate::error::{Error, Result};
use crate::id::SliceId;
use crate::interval::Interval;

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
            SliceEvent::Undone { generation, rows } => {
                self.generation = *generation;
                self.outcome = None;
                self.reason = Some(format!("undone; rows taken out: {rows}"));
            }
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
            EventV1::RunStarted { unplaced, .. } => {
                self.unplaced = unplaced.unwrap_or(self.unplaced);
            }
            EventV1::RunEnded { .. } | EventV1::AfterDone { .. } | EventV1::AfterFailed { .. } => {}
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
