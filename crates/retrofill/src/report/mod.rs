//! The report: the receipt of a whole job, for people and machines.
//!
//! [`Report`] is gathered once, from plan, ledger and lists of exceptions, and shown in three ways:
//! as a page (`html`), for a ticket (`markdown`), and as JSON, which is its serialization. The
//! JSON has a version; fields may be added to it, none changes its meaning or goes.

mod exceptions;
mod gather;
mod headline;
mod heat;
mod html;
mod journal;
mod markdown;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::State;
use retrofill_core::receipt::Counts;
use serde::Serialize;

use crate::cli::summary::{SliceCounts, Status, interval};

pub use exceptions::{ConflictLine, Conflicts, Reason, RejectLine, Rejects};
pub use gather::{Inputs, JustEnded, gather};
pub use headline::headline;
pub use journal::JournalFacts;
pub use resources::Resources;

/// The name of the report in the state directory.
pub const FILE: &str = "report.html";

/// Everything there is to say about a job. Times are RFC 3339 in UTC, hashes lower-case hex.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this format: 1.
    pub v: u32,
    /// The job's name.
    pub name: String,
    /// Free words of the spec.
    pub labels: BTreeMap<String, String>,
    /// Where rows come from, without secrets.
    pub source: String,
    /// Where they go, without secrets.
    pub target: String,
    /// How all of it stands, in one sentence.
    pub headline: String,
    /// How the plan stands.
    pub status: Status,
    /// Slices per state. A halved slice counts as its halves.
    pub slices: SliceCounts,
    /// Where the rows of the whole plan went.
    pub plan_rows: Counts,
    /// End of the run of done slices from the start of the plan.
    pub verified_through: Option<Timestamp>,
    /// Start of the run of done slices to the end of the plan.
    pub verified_back_to: Option<Timestamp>,
    /// What was planned.
    pub plan: PlanFacts,
    /// The last run; null where there was none.
    pub run: Option<RunFacts>,
    /// What one needs to check the proof without this program.
    pub proof: Proof,
    /// Refused rows.
    pub rejects: Rejects,
    /// Rows whose key the target holds with another value.
    pub conflicts: Conflicts,
    /// The ledger's journal of this plan, whose chain was checked.
    pub journal: JournalFacts,
    /// What this process used, where the system tells; null in reports made later.
    pub resources: Option<Resources>,
    /// Who could not be told how the run ended, and why.
    pub not_told: Vec<String>,
    /// When this report was made.
    pub made_at: Timestamp,
    /// The version of the program that made it.
    pub retrofill: &'static str,
    /// Every slice by time; halves instead of those that were halved.
    pub slice_list: Vec<SliceLine>,
}

impl Report {
    /// What the plan covers; of one that leaves out slices between others, only parts.
    pub(crate) fn extent(&self) -> String {
        let joined = |w: &[SliceLine]| w[0].interval.end() == w[1].interval.start();
        let part = if self.slice_list.windows(2).all(joined) { "" } else { "parts of " };
        format!("{part}{}", interval(&self.plan.range))
    }
}

/// What was planned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanFacts {
    /// A pure function of spec, schema, range and slices.
    pub id: PlanId,
    /// SHA-256 of what the spec says about rows.
    pub spec_hash: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
    /// First instant and first instant after.
    #[serde(flatten)]
    pub range: Interval,
    /// The size of a slice.
    pub every: String,
    /// The zone of days, weeks, months and years.
    pub timezone: String,
    /// What is done with rows whose key the target holds.
    pub mode: &'static str,
    /// Files of the source.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lines of the source that belong to no slice; they count as read and rejected.
    pub unplaced: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    /// When it began to load; null where it ended before.
    pub began: Option<Timestamp>,
    /// When it ended; null where it has not, or was killed.
    pub ended: Option<Timestamp>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// Where its rows went.
    pub rows: Counts,
    /// Rows read per second.
    pub rows_per_second: Option<u64>,
    /// The exit code; null in reports made later.
    pub exit: Option<u8>,
    /// What ended it before its time.
    pub error: Option<String>,
}

/// What one needs to check the proof without this program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// Name and version of encoding, hash and sum.
    pub encoding: &'static str,
    /// Sum of the row hashes of all done slices as read back, modulo 2^128; null before the
    /// first.
    pub digest: Option<String>,
    /// The random salt of the hashes.
    pub salt: String,
    /// SHA-256 of `columns` as JSON without spaces.
    pub fingerprint: String,
    /// Name, type and role of each column, in the order they are hashed.
    pub columns: Vec<(String, &'static str, &'static str)>,
}

/// A slice or a half of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceLine {
    /// Its id.
    pub id: SliceId,
    /// First instant and first instant after.
    #[serde(flatten)]
    pub interval: Interval,
    /// Where it stands.
    pub state: State,
    /// Counts up when it is loaded again on purpose; 0 before the first load.
    pub generation: u64,
    /// Tries of this generation.
    pub attempts: u32,
    /// Where its rows went; null before the first load.
    pub rows: Option<Counts>,
    /// Sum of its row hashes as read back.
    pub digest: Option<String>,
    /// When it was proven; null where it never was.
    pub at: Option<Timestamp>,
    /// Why it is not done.
    pub reason: Option<String>,
}

/// What became of the rows that were read, in the words of the summary.
pub fn fates(c: &Counts) -> [(&'static str, u64); 7] {
    [
        ("written", c.written),
        ("updated", c.updated),
        ("present", c.already_present),
        ("conflicts", c.conflicting),
        ("duplicates", c.duplicate),
        ("rejected", c.rejected),
        ("filtered", c.filtered),
    ]
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One self-contained page.
    Html,
    /// For a ticket or a pull request.
    Markdown,
    /// Everything, for machines.
    Json,
}

impl Form {
    /// That of a file's ending.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Form::Html),
            "md" | "markdown" => Some(Form::Markdown),
            "json" => Some(Form::Json),
            _ => None,
        }
    }
}

impl Report {
    /// The whole text, with a line end.
    pub fn write(&self, form: Form) -> String {
        match form {
            Form::Html => html::page(self),
            Form::Markdown => markdown::page(self),
            Form::Json => self.json_line() + "\n",
        }
    }

    /// One line, without its end.
    pub fn json_line(&self) -> String {
        serde_json::to_string(self).expect("a report is plain JSON")
    }

    /// Slices that are not done, by time.
    fn open(&self) -> impl Iterator<Item = &SliceLine> {
        self.slice_list.iter().filter(|s| !s.state.is_done())
    }
}
