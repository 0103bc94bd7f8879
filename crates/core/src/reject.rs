//! Refused rows and conflicts: what is written aside, so that nothing vanishes silently.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a row stands in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file or table, as the source names it.
    pub file: String,
    /// The line, from 1, where lines are known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<u64>,
    /// The first byte of the record, from 0.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => write!(f, "{} at byte {}", self.file, self.offset),
        }
    }
}

/// A refused row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Where it stands.
    pub place: Place,
    /// The column that was refused, where it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The record as it stands in the source.
    pub text: String,
}

/// A key that the target holds with another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The row's time.
    pub time: Option<Timestamp>,
    /// The key's values, as text, in the spec's order.
    pub key: Vec<Option<String>>,
    /// Key hash, hex.
    pub key_hash: String,
    /// Row hash of the source's row, hex.
    pub source_hash: String,
    /// Row hash of the row that stays, hex.
    pub live_hash: String,
    /// The row that stays was written by a load of this job: since then the source has given the
    /// row another value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restated: bool,
}

/// A held row in whose place another one was put, by `--overwrite-changed` or `--restate`: all of
/// it, so that nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Whether a load of this job had written it.
    pub ours: bool,
    /// Its columns in the plan's order, with their values as text; none is NULL.
    pub columns: Vec<(String, Option<String>)>,
    /// Key hash, hex.
    pub key_hash: String,
    /// Row hash, hex: proves the text.
    pub row_hash: String,
}

/// One line of an exception list, JSON lines, versioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Exception {
    /// See [`Reject`].
    RejectV1(Reject),
    /// See [`Conflict`].
    ConflictV1(Conflict),
    /// See [`Replaced`].
    ReplacedV1(Replaced),
}
