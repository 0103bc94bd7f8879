//! What the target does once slices are loaded, such as refreshing what is computed from them.
//!
//! The journal says which stretches of time each action was done for. What was loaded since is
//! pending, so an action that failed is done by the next run, for exactly what it has missed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{SliceId, hex};
use crate::interval::Interval;
use crate::ledger::{Entry, Event, EventV1, SliceEvent, SliceRecord};

/// An action of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Compute a materialized view anew.
    RefreshMaterializedView(String),
    /// Run a statement.
    Sql(Vec<SqlPart>),
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlPart {
    /// As written.
    Text(String),
    /// The start of a loaded stretch of time.
    From,
    /// Its end, which is not part of it.
    To,
}

impl After {
    /// What stands for it in the journal. Its text may hold secrets, and never gets there.
    pub fn id(&self) -> String {
        let json = serde_json::to_string(self).expect("an action is plain JSON");
        hex(&Sha256::digest(json)[..8])
    }

    /// Whether it is done once for each loaded stretch of time, not once for all.
    pub fn is_by_interval(&self) -> bool {
        match self {
            After::RefreshMaterializedView(_) => false,
            After::Sql(parts) => parts.iter().any(|p| !matches!(p, SqlPart::Text(_))),
        }
    }
}

/// For people. Of a statement only that it is one.
impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            After::RefreshMaterializedView(name) => write!(f, "refresh_materialized_view {name}"),
            After::Sql(_) => write!(f, "sql {}", &self.id()[..6]),
        }
    }
}

/// The stretches of time that were loaded and that the action was not done for yet, by time;
/// those that touch are one. A slice that was found empty counts too: it may have been cleared, and
/// it joins its neighbours. `ours` are the slices whose receipt in the target is of this plan:
/// a receipt of an earlier plan was taken over, nothing was loaded for it.
pub fn pending(
    action: &str,
    entries: &[Entry],
    records: &[SliceRecord],
    ours: &BTreeSet<SliceId>,
) -> Vec<Interval> {
    let intervals: BTreeMap<&SliceId, Interval> =
        records.iter().map(|r| (&r.id, r.interval)).collect();
    let mut open: BTreeMap<&SliceId, Interval> = BTreeMap::new();
    for entry in entries {
        let Event::V1(event) = &entry.event;
        match event {
            EventV1::Slice { slice, what } => {
                let loaded = match what {
                    SliceEvent::Committed(_) => true,
                    SliceEvent::Recovered(_) => ours.contains(slice),
                    _ => false,
                };
                if let Some(interval) = intervals.get(slice).filter(|_| loaded) {
                    open.insert(slice, *interval);
                }
            }
            EventV1::AfterDone { action: done, intervals, .. } if done == action => {
                open.retain(|_, open| !intervals.iter().any(|i| i.intersect(open) == Some(*open)));
            }
            _ => {}
        }
    }
    joined(open.into_values().collect())
}

/// Stretches that touch or overlap become one.
fn joined(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by_key(|i| (i.start(), i.end()));
    let mut out: Vec<Interval> = Vec::new();
    for next in intervals {
        if let Some(last) = out.last_mut().filter(|last| last.end() >= next.start()) {
            let end = last.end().max(next.end());
            *last = Interval::new(last.start(), end).expect("it grows");
        } else {
            out.push(next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Outcome;
    use crate::receipt::Counts;

    fn hour(from: i64) -> Interval {
        let at = |h: i64| jiff::Timestamp::from_second(h * 3_600).unwrap();
        Interval::new(at(from), at(from + 1)).unwrap()
    }

    fn record(from: i64) -> SliceRecord {
        SliceRecord::planned(SliceId::of(hour(from).start()), hour(from))
    }

    fn outcome() -> Outcome {
        let (counts, at) = (Counts::default(), jiff::Timestamp::UNIX_EPOCH);
        Outcome { generation: 1, counts, digest: String::new(), proven: true, at }
    }

    fn entries(events: Vec<EventV1>) -> Vec<Entry> {
        let entry = |(sequence, event): (usize, EventV1)| Entry {
            sequence: sequence as u64 + 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            event: Event::V1(event),
            hash: [0; 32],
        };
        events.into_iter().enumerate().map(entry).collect()
    }

    fn slice(from: i64, what: SliceEvent) -> EventV1 {
        EventV1::Slice { slice: record(from).id, what }
    }

    fn done(action: &str, intervals: Vec<Interval>) -> EventV1 {
        EventV1::AfterDone { action: action.into(), label: String::new(), intervals }
    }

    fn span(from: i64, hours: i64) -> Interval {
        Interval::new(hour(from).start(), hour(from + hours - 1).end()).unwrap()
    }

    #[test]
    fn what_was_loaded_since_is_pending() {
        let records: Vec<_> = (0..6).map(record).collect();
        let none = BTreeSet::new();
        let committed = |from| slice(from, SliceEvent::Committed(outcome()));
        let mut events = vec![committed(0), committed(1), committed(3)];
        let of = |events: &[EventV1]| pending("a", &entries(events.to_vec()), &records, &none);
        assert_eq!(of(&events), [span(0, 2), hour(3)]);
        events.push(done("b", vec![span(0, 6)]));
        assert_eq!(of(&events).len(), 2, "another action is no matter");
        events.push(done("a", vec![span(0, 2)]));
        assert_eq!(of(&events), [hour(3)]);
        events.push(committed(1));
        assert_eq!(of(&events), [hour(1), hour(3)], "loaded again");
        events.push(done("a", vec![hour(1), hour(3)]));
        assert_eq!(of(&events), []);
    }

    #[test]
    fn a_receipt_counts_where_it_is_ours() {
        let records = [record(0), record(1)];
        let found = |from| slice(from, SliceEvent::Recovered(outcome()));
        let events = entries(vec![found(0), found(1)]);
        let ours = BTreeSet::from([records[1].id.clone()]);
        assert_eq!(pending("a", &events, &records, &ours), [hour(1)]);
    }

    #[test]
    fn an_action_is_known_by_its_text_and_does_not_show_it() {
        let text = |t: &str| After::Sql(vec![SqlPart::Text(t.into())]);
        let (one, other) = (text("SELECT 'hunter2'"), text("SELECT 2"));
        assert_ne!(one.id(), other.id());
        assert_eq!(one.id(), text("SELECT 'hunter2'").id());
        assert!(!one.to_string().contains("hunter"));
        assert!(!one.is_by_interval());
        assert!(After::Sql(vec![SqlPart::From]).is_by_interval());
    }
}
