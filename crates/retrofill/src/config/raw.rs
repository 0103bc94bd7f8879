//! The spec as typed. The doc comments here are the reference: the JSON Schema is made of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::problem::Problem;
use super::raw_ends::{RawSourceConnector, RawTargetConnector};
use super::read::{Read, choice, section};
use super::transform::Sql;
use super::tree::{Node, NodeKind};
use super::values::{Cap, Concurrency, Moment, Share, Size, SliceSize, Span, Word};

section! {
    /// A backfill: where rows come from, where they go, which rows, and how carefully. Every text
    /// may hold `${VAR}` (unset is an error), `${VAR:-default}`, `${VAR:?message}`,
    /// `${file:/path}`; `$$` is a dollar sign. Relative paths start from the spec's directory.
    pub(super) struct RawSpec needs ["source", "target", "rows"] {
        /// Version of this format. Default: 1.
        #[schemars(extend("default" = 1, "minimum" = 1, "maximum" = 1))]
        pub(super) version: u64,
        /// The job's name: letters, digits, `-`, `_` and `.`. Default: the file's name without
        /// its ending.
        pub(super) name: String,
        /// Free words for people and for reports.
        pub(super) labels: BTreeMap<String, Word>,
        /// Where rows come from. Never written to.
        pub(super) source: RawSource,
        /// What is made of each row before anything else: one SQL `SELECT .. FROM source
        /// [WHERE ..]` of columns and expressions. Default: rows stay as they are.
        pub(super) transform: Sql,
        /// Where rows go.
        pub(super) target: RawTarget,
        /// Which columns say when a row is and to which series it belongs.
        pub(super) rows: RawRows,
        /// Which stretch of time, in which slices. Default: all that the source holds.
        pub(super) range: RawRange,
        /// How rows are written.
        pub(super) write: RawWrite,
        /// What the run may use.
        pub(super) limits: RawLimits,
        /// When and how often a failed slice is tried again.
        pub(super) retry: RawRetry,
        /// How many refused rows are bearable.
        pub(super) rejects: RawRejects,
        /// What is kept for later proofs.
        pub(super) verify: RawVerify,
        /// What the target does once slices are loaded, in this order. What fails makes the run
        /// end with exit code 1 and is done by the next one. Default: nothing.
        pub(super) after: Vec<RawAfter>,
        /// Where the journal of all slices is kept. Default: sqlite.
        #[schemars(extend("default" = "sqlite"))]
        pub(super) ledger: RawLedger,
        /// Who is told how a run ended. Default: nobody.
        pub(super) notify: Vec<RawNotify>,
    }
}

/// A source: one connector by its key, or one text: `data/*.csv`, `csv:data/*.csv` or
/// `delta:./out`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawSource {
    /// A path to CSV files, or another source with what it is before the colon.
    Url(String),
    /// A connector and its settings.
    Connector(Box<RawSourceConnector>),
}

/// A target: one connector by its key, or one text: `delta:./out`, `files:./folder`,
/// `postgres://host/database?table=public.readings`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawTarget {
    /// A connector and where: `delta:./out`.
    Url(String),
    /// A connector and its settings.
    Connector(Box<RawTargetConnector>),
}

impl Read for RawSource {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.kind {
            NodeKind::Scalar(s) if !s.is_null() => {
                String::read(node, what, problems).map(RawSource::Url)
            }
            _ => RawSourceConnector::read(node, what, problems)
                .map(|c| RawSource::Connector(Box::new(c))),
        }
    }
}

impl Read for RawTarget {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.kind {
            NodeKind::Scalar(s) if !s.is_null() => {
                String::read(node, what, problems).map(RawTarget::Url)
            }
            _ => Read::read(node, what, problems).map(|c| RawTarget::Connector(Box::new(c))),
        }
    }
}

section! {
    /// Which columns say when a row is and to which series it belongs.
    pub(super) struct RawRows needs ["time"] {
        /// The time column.
        pub(super) time: String,
        /// The columns that identify a series; the time is always part of a row's key. `[]` is
        /// one series. Left out: rows have no key and can only be appended.
        pub(super) key: Vec<String>,
        /// The columns that tell a conflict from a row already present: one that has the key and
        /// is equal in these stays as it is, whatever its others hold. The proof covers every
        /// column all the same. Not with mode `replace`. Default: every column that both sides
        /// have.
        #[schemars(length(min = 1))]
        pub(super) compare: Vec<String>,
        /// What to do with unequal rows of the source that share a key. Default: reject.
        #[schemars(extend("default" = "reject"))]
        pub(super) on_duplicate: RawOnDuplicate,
    }
}

choice! {
    /// What to do with unequal rows of the source that share a key.
    pub(super) enum RawOnDuplicate {
        /// Refuse all rows of that key.
        Reject = "reject",
        /// Keep the first, by file and place in it.
        First = "first",
        /// Keep the last, by file and place in it.
        Last = "last",
        /// Fail the slice.
        Fail = "fail",
    }
}

section! {
    /// Which stretch of time, in which slices.
    pub(super) struct RawRange needs [] {
        /// The first instant: a date (midnight in `timezone`) or a time with its offset.
        /// Default: the earliest row, rounded down to the grid of slices.
        pub(super) from: Moment,
        /// The first instant after; never included. Default: behind the latest row, rounded up
        /// to the grid of slices.
        pub(super) to: Moment,
        /// The size of a slice: `<n>s`, `<n>min`, `<n>h` elapsed, or `<n>d`, `<n>w`, `<n>mo`,
        /// `<n>y` by the calendar of `timezone`. Default: auto, at most a million rows each; in
        /// PostgreSQL 150,000, for which live writers wait less than a second.
        #[schemars(extend("default" = "auto"))]
        pub(super) every: SliceSize,
        /// The zone of days, weeks, months and years: an IANA name. Default: UTC.
        #[schemars(extend("default" = "UTC"))]
        pub(super) timezone: String,
        /// Which end is loaded first. Default: oldest-first.
        #[schemars(extend("default" = "oldest-first"))]
        pub(super) order: RawOrder,
        /// No slice ends after the time of planning minus this: `<n>s`, `<n>m`, `<n>h`, `<n>d`.
        /// Default: 1h.
        #[schemars(extend("default" = "1h"))]
        pub(super) settle: Span,
    }
}

choice! {
    /// Which end of the range is loaded first.
    pub(super) enum RawOrder {
        /// From the start of the range.
        OldestFirst = "oldest-first",
        /// From its end.
        NewestFirst = "newest-first",
    }
}

section! {
    /// How rows are written.
    pub(super) struct RawWrite needs [] {
        /// What to do with rows whose key the target holds. Default: fill-missing; append where
        /// `rows.key` is left out.
        pub(super) mode: RawMode,
        /// What to do when the source holds no row at all, or in mode replace none of a slice.
        /// Default: fail.
        #[schemars(extend("default" = "fail"))]
        pub(super) on_empty_source: RawOnEmptySource,
        /// Mode replace: which of the target's rows are replaced, inside the slices.
        pub(super) scope: RawScope,
        /// Mode replace: a slice fails when fewer rows than this share of those it holds in the
        /// scope would take their place, 0 to 1. Default: 0.9.
        #[schemars(extend("default" = 0.9, "minimum" = 0, "maximum" = 1))]
        pub(super) min_keep: Share,
        /// Assert that nobody else writes into the table while the job runs: for a PostgreSQL table
        /// without a unique key. A row that is there twice at the end makes its slice mismatched.
        /// Default: nothing is asserted.
        pub(super) live_writers: RawLiveWriters,
        /// Keep others from writing while a slice is loaded: for a PostgreSQL table without a
        /// unique key. Default: nobody is kept out.
        pub(super) lock: RawLock,
    }
}

choice! {
    /// What is asserted of other writers.
    pub(super) enum RawLiveWriters {
        /// There are none.
        None = "none",
    }
}

choice! {
    /// How others are kept from writing.
    pub(super) enum RawLock {
        /// PostgreSQL's lock of this name: others can read, but not write, until the slice is
        /// committed.
        ShareRowExclusive = "share-row-exclusive",
    }
}

/// `all`, or columns with the values that name the rows: `{ origin: [EWR, JFK] }`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawScope {
    /// Every row.
    All(RawAll),
    /// Rows whose columns all have one of these values.
    Where(BTreeMap<String, Vec<Word>>),
}

choice! {
    /// Every row.
    pub(super) enum RawAll {
        /// Every row.
        All = "all",
    }
}

impl Read for RawScope {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        match &node.kind {
            NodeKind::Scalar(s) if !s.is_null() => {
                Read::read(node, what, problems).map(RawScope::All)
            }
            _ => Read::read(node, what, problems).map(RawScope::Where),
        }
    }
}

choice! {
    /// What to do with rows whose key the target holds.
    pub(super) enum RawMode {
        /// Write what is missing; a row that is there is never changed.
        FillMissing = "fill-missing",
        /// Write what is missing, and put the source's row in the place of one that differs.
        Upsert = "upsert",
        /// Take out what `scope` names and the source does not have, and write the source's rows.
        Replace = "replace",
        /// Write every row; only for rows without a key.
        Append = "append",
    }
}

choice! {
    /// What to do when the source holds no row at all.
    pub(super) enum RawOnEmptySource {
        /// An error, so that an outage of the source never looks like success.
        Fail = "fail",
        /// There is nothing to do.
        Skip = "skip",
        /// Mode replace: what `scope` names goes.
        Clear = "clear",
    }
}

choice! {
    /// What to do with slices whose files were changed since they were planned.
    pub(super) enum RawChangedSource {
        /// They are not loaded, and end in exit code 1: a damaged source must never look like a
        /// small one.
        Stale = "stale",
        /// The plan is made anew by what is there now.
        Replan = "replan",
    }
}

section! {
    /// What the run may use.
    pub(super) struct RawLimits needs [] {
        /// Slices at a time. Default: auto, one per core, at most 8.
        #[schemars(extend("default" = "auto"))]
        pub(super) concurrency: Concurrency,
        /// Rows written per second, over all slices. Default: no limit.
        #[schemars(extend("minimum" = 1))]
        pub(super) rows_per_second: u64,
        /// Memory for rows in hand: `384MiB`, `1GiB`. At least 64MiB. Default: 384MiB.
        #[schemars(extend("default" = "384MiB"))]
        pub(super) memory: Size,
        /// The run ends cleanly after this, with exit code 4: `<n>s`, `<n>m`, `<n>h`, `<n>d`.
        /// Default: no limit.
        pub(super) max_runtime: Span,
        /// A transaction of PostgreSQL that takes longer is given up, and its slice halved: `<n>s`,
        /// `<n>m`. Live writers of the same keys wait no longer than that. Default: 1500ms; 10s
        /// where no index begins with the time, so that every slice reads the whole table.
        pub(super) max_transaction: Span,
    }
}

section! {
    /// When and how often a failed slice is tried again.
    pub(super) struct RawRetry needs [] {
        /// Tries in all, from 1. Default: 5.
        #[schemars(extend("default" = 5, "minimum" = 1, "maximum" = 1000))]
        pub(super) attempts: u64,
        /// The wait before the second try; it doubles each time, with jitter. Default: 1s.
        #[schemars(extend("default" = "1s"))]
        pub(super) backoff: Span,
        /// The longest wait. Default: 2m.
        #[schemars(extend("default" = "2m"))]
        pub(super) max_backoff: Span,
    }
}

section! {
    /// How many refused rows are bearable.
    pub(super) struct RawRejects needs [] {
        /// A number of rows, or a share of all rows surveyed such as `0.1%`; more end the run
        /// with exit code 6, all else proven. Default: 0.
        #[schemars(extend("default" = 0))]
        pub(super) max: Cap,
    }
}

section! {
    /// What is kept for later proofs. Every slice is always proven by its digest.
    pub(super) struct RawVerify needs [] {
        /// Keep 16 bytes a row beside each receipt, from the next load of each slice on: `undo` and
        /// `run --restate` can then tell every single row that this job wrote from those of others.
        /// Default: false.
        #[schemars(extend("default" = false))]
        pub(super) manifest: bool,
        /// Files of a source that are shorter, other or gone since they were planned and not yet
        /// loaded. Files that are new or longer are always planned anew. Default: stale.
        #[schemars(extend("default" = "stale"))]
        pub(super) changed_source: RawChangedSource,
    }
}

section! {
    /// One action of the target, for what was loaded since it was done last.
    pub(super) struct RawAfter needs [] {
        /// A materialized view to compute anew: `schema.view`. Readers are not held up where the
        /// view has a unique index.
        pub(super) refresh_materialized_view: String,
        /// SQL to run. Where it uses `:from` or `:to` it is one statement and is run once for
        /// each unbroken stretch of time that was loaded, with its bounds; `:to` is not part of
        /// it.
        pub(super) sql: String,
    }
}

choice! {
    /// Where the journal is kept.
    pub(super) enum RawLedger {
        /// In an `SQLite` file in the state directory.
        Sqlite = "sqlite",
    }
}

section! {
    /// Somebody who is told how a run ended: a webhook or a command. What fails here is a warning
    /// and never changes the exit code.
    pub(super) struct RawNotify needs [] {
        /// The address of a webhook, which is treated as a secret: best `${VAR:-}`. An empty text
        /// switches the entry off.
        pub(super) url: String,
        /// A program and its arguments. It gets the summary as JSON on standard input.
        #[schemars(length(min = 1))]
        pub(super) command: Vec<Word>,
        /// What is told. Default: all four.
        #[schemars(length(min = 1))]
        pub(super) on: Vec<RawOccasion>,
        /// What is sent to the webhook. Default: auto.
        #[schemars(extend("default" = "auto"))]
        pub(super) format: RawNotifyFormat,
        /// Allow `http` without TLS to another machine. Default: false.
        #[schemars(extend("default" = false))]
        pub(super) insecure: bool,
    }
}

choice! {
    /// How a run ended.
    pub(super) enum RawOccasion {
        /// Everything that was selected is proven.
        Completed = "completed",
        /// Slices failed, rows were refused beyond the cap, or the run could not be made.
        Failed = "failed",
        /// A slice was read back different.
        Mismatched = "mismatched",
        /// Stopped on purpose or by a signal, with work left.
        Paused = "paused",
    }
}

choice! {
    /// What is sent to a webhook.
    pub(super) enum RawNotifyFormat {
        /// By the host of the URL.
        Auto = "auto",
        /// JSON: a readable text and the whole summary.
        Generic = "generic",
        /// A message for Slack.
        Slack = "slack",
        /// A card for Microsoft Teams.
        Teams = "teams",
    }
}
