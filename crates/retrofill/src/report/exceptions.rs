//! Rejects and conflicts, from the lists in the state directory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use retrofill_core::env::Scratch;
use retrofill_core::error::Result;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::ledger::SliceRecord;
use retrofill_core::reject::{Conflict, Exception, Reject};
use serde::Serialize;

use crate::lists;

/// How many rejects and how many conflicts are shown.
const FIRST: usize = 25;

/// And how many rejects of one reason, so that a frequent one does not hide the others.
const ALIKE: u64 = 5;

/// How many reasons are told apart; the rest is one.
const REASONS: usize = 20;

/// Characters of a refused record that are shown.
const TEXT: usize = 300;

/// Refused rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rejects {
    /// How many, by the ledger.
    pub rows: u64,
    /// How many the lists hold: fewer where lists were lost.
    pub listed: u64,
    /// How many for each reason, the most frequent first.
    pub by_reason: Vec<Reason>,
    /// The first of each reason, by time of their slice: 5 at most, and 25 in all.
    pub first: Vec<RejectLine>,
    /// Where all of them are listed: patterns of names in the state directory.
    pub lists: Vec<String>,
}

/// Why rows were refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The column, where it was one.
    pub column: Option<String>,
    /// The reason.
    pub reason: String,
    /// How many rows.
    pub rows: u64,
}

/// A refused row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectLine {
    /// Its slice; null where it cannot be placed in time.
    pub slice: Option<SliceId>,
    /// The file or table.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The first byte of the record, from 0.
    pub offset: u64,
    /// The column, where it was one.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The record as it stands in the source; cut after 300 characters.
    pub text: String,
}

/// Rows whose key the target holds with another value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conflicts {
    /// How many, by the ledger.
    pub rows: u64,
    /// How many the lists hold: fewer where lists were lost.
    pub listed: u64,
    /// The first of them, by time of their slice: 25 at most.
    pub first: Vec<ConflictLine>,
    /// Where all of them are listed: patterns of names in the state directory.
    pub lists: Vec<String>,
}

/// A row that lost against the one that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConflictLine {
    /// Its slice.
    pub slice: SliceId,
    /// Its time.
    pub time: Option<Timestamp>,
    /// The key's values, in the spec's order.
    pub key: Vec<Option<String>>,
    /// Hash of the source's row.
    pub source_hash: String,
    /// Hash of the row that stays.
    pub live_hash: String,
}

/// Reads the lists of the committed loads of these slices, which come by time.
pub(super) async fn read(
    scratch: &dyn Scratch,
    plan: &PlanId,
    records: &[SliceRecord],
) -> Result<(Rejects, Conflicts)> {
    let mut found = Found::default();
    lists::each(scratch, plan, records, |slice, exception| {
        found.take(slice, exception);
        Ok(())
    })
    .await?;
    Ok(found.finish(plan))
}

#[derive(Default)]
struct Found {
    rejects: Rejects,
    conflicts: Conflicts,
    reasons: BTreeMap<(Option<String>, String), u64>,
    /// Rejects and conflicts in lists of slices.
    in_slices: (u64, u64),
}

impl Found {
    fn take(&mut self, slice: Option<&SliceId>, exception: Exception) {
        match (exception, slice) {
            (Exception::RejectV1(reject), slice) => self.reject(reject, slice),
            (Exception::ConflictV1(conflict), Some(slice)) => self.conflict(conflict, slice),
            (Exception::ConflictV1(_), None) | (Exception::ReplacedV1(_), _) => {}
        }
    }

    fn reject(&mut self, reject: Reject, slice: Option<&SliceId>) {
        self.rejects.listed += 1;
        self.in_slices.0 += u64::from(slice.is_some());
        let alike = self.reasons.entry((reject.column.clone(), reject.reason.clone())).or_default();
        *alike += 1;
        if *alike <= ALIKE && self.rejects.first.len() < FIRST {
            self.rejects.first.push(RejectLine {
                slice: slice.cloned(),
                file: reject.place.file,
                line: reject.place.line,
                offset: reject.place.offset,
                column: reject.column,
                reason: reject.reason,
                text: cut(&reject.text),
            });
        }
    }

    fn conflict(&mut self, conflict: Conflict, slice: &SliceId) {
        self.conflicts.listed += 1;
        self.in_slices.1 += 1;
        if self.conflicts.first.len() < FIRST {
            self.conflicts.first.push(ConflictLine {
                slice: slice.clone(),
                time: conflict.time,
                key: conflict.key,
                source_hash: conflict.source_hash,
                live_hash: conflict.live_hash,
            });
        }
    }

    fn finish(mut self, plan: &PlanId) -> (Rejects, Conflicts) {
        let pattern = format!("{}*.jsonl", lists::prefix(plan));
        if self.rejects.listed > self.in_slices.0 {
            self.rejects.lists.push(lists::unplaced(plan));
        }
        if self.in_slices.0 > 0 {
            self.rejects.lists.push(pattern.clone());
        }
        if self.in_slices.1 > 0 {
            self.conflicts.lists.push(pattern);
        }
        let mut reasons: Vec<_> = self
            .reasons
            .into_iter()
            .map(|((column, reason), rows)| Reason { column, reason, rows })
            .collect();
        // By frequency, then in the order of the map.
        reasons.sort_by_key(|r| std::cmp::Reverse(r.rows));
        let more = reasons.split_off(reasons.len().min(REASONS));
        if !more.is_empty() {
            let rows = more.iter().map(|r| r.rows).sum();
            let reason = format!("{} other reasons", more.len());
            reasons.push(Reason { column: None, reason, rows });
        }
        self.rejects.by_reason = reasons;
        (self.rejects, self.conflicts)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
