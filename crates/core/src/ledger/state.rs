//! The state table of a slice.

use serde::{Deserialize, Serialize};

use super::SliceEvent;
use crate::error::{Error, Result};

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
        (S::Split, E::Mismatched { .. } | E::Stale { .. } | E::Undone { .. }) => None,
        (_, E::Mismatched { .. }) => Some(S::Mismatched),
        (_, E::Stale { .. } | E::Undone { .. }) => Some(S::Stale),
        _ => None,
    };
    to.ok_or_else(|| Error::bug(format!("a {} slice cannot take {event:?}", state.as_str())))
}
