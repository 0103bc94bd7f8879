//! The spec, ready to use: every default filled in, every value checked. The YAML that the user
//! writes is the business of the `retrofill` crate.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::calendar::Every;
use crate::connector::Manners;
use crate::error::{Error, Result};

/// What to do with rows whose key the target holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Write what is missing; a held row is never changed. The default where there is a key.
    FillMissing,
    /// Replace held rows that differ.
    Upsert,
    /// Remove a declared scope, then write.
    Replace,
    /// Write everything; for rows without a key.
    Append,
}

impl Mode {
    /// As in the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::FillMissing => "fill-missing",
            Mode::Upsert => "upsert",
            Mode::Replace => "replace",
            Mode::Append => "append",
        }
    }
}

/// What to do with unequal rows of the source that share a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDuplicate {
    /// Refuse all rows of that key.
    #[default]
    Reject,
    /// The first in the source's order wins.
    First,
    /// The last in the source's order wins.
    Last,
    /// Fail the slice.
    Fail,
}

/// What to do when the source holds no row at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEmptySource {
    /// A spec error: a source outage must never look like success.
    #[default]
    Fail,
    /// There is nothing to do.
    Skip,
    /// Mode `replace`: what the source does not have goes from the target too.
    Clear,
}

/// In which order slices are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// From the start of the range.
    #[default]
    OldestFirst,
    /// From its end.
    NewestFirst,
}

/// A source or a target as the spec names it. Core never looks inside.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The connector's key in the spec: `csv`, `delta` ...
    pub connector: String,
    /// Its settings with every default filled in and every secret in place. Never persisted.
    #[serde(skip)]
    pub settings: serde_json::Value,
    /// What decides which rows are meant: the settings without user, password and tokens.
    pub identity: serde_json::Value,
    /// For people: `12 CSV files in data/`, `Delta ./out`.
    pub label: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings hold secrets.
        write!(f, "Endpoint({}: {}, {})", self.connector, self.label, self.identity)
    }
}

/// Which columns say when and whose a row is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsSpec {
    /// The time column.
    pub time: String,
    /// The series' identity; none = no key, append only; empty = one series.
    pub key: Option<Vec<String>>,
    /// Columns that decide between conflict and already present; none = all.
    pub compare: Option<Vec<String>>,
    /// See [`OnDuplicate`].
    pub on_duplicate: OnDuplicate,
}

/// Which stretch of time, in which slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSpec {
    /// First instant; none = what the source holds.
    pub from: Option<Timestamp>,
    /// First instant after; none = what the source holds.
    pub to: Option<Timestamp>,
    /// Size of a slice; none = auto.
    pub every: Option<Every>,
    /// IANA name of the zone that days, weeks, months and years are counted in.
    pub timezone: String,
    /// Order of loading.
    pub order: Order,
    /// No slice ends after the time of planning minus this.
    #[serde(with = "as_seconds")]
    pub settle: Duration,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteSpec {
    /// See [`Mode`].
    pub mode: Mode,
    /// See [`OnEmptySource`].
    pub on_empty_source: OnEmptySource,
    /// Mode `replace`: which of the target's rows are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Mode `replace`: a slice is not replaced by fewer rows than this share of those that it
    /// holds in the scope; none = 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_keep: Option<f64>,
    /// What the user asserts of other writers; none = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_writers: Option<LiveWriters>,
    /// How others are kept out while a slice is loaded; none = they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// What a user asserts of other writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveWriters {
    /// There are none while the job runs.
    None,
}

/// How others are kept from writing while a slice is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// PostgreSQL's lock of this name: reading goes on, writing waits.
    ShareRowExclusive,
}

/// Which of the target's rows mode `replace` may take out, inside the slices' intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every row.
    All,
    /// Rows whose columns all have one of these values.
    Where(BTreeMap<String, Vec<String>>),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope::Where(columns) = self else { return f.write_str("every row") };
        let one = |(name, values): (&String, &Vec<String>)| match &values[..] {
            [value] => format!("{name} = {value}"),
            values => format!("{name} in ({})", values.join(", ")),
        };
        let list: Vec<_> = columns.iter().map(one).collect();
        write!(f, "the rows with {}", list.join(" and "))
    }
}

impl WriteSpec {
    /// Whether held rows may be changed.
    pub fn replaces(&self) -> bool {
        matches!(self.mode, Mode::Upsert | Mode::Replace)
    }
}

/// What the run may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Slices at a time; none = auto (cores, at most 8).
    pub concurrency: Option<usize>,
    /// Rows written per second over all slices.
    pub rows_per_second: Option<u64>,
    /// Memory for the rows in hand, bytes.
    pub memory: u64,
    /// The run ends cleanly after this (exit code 4).
    pub max_runtime: Option<Duration>,
    /// No transaction of the target stays open longer; none = what the target thinks fit.
    #[serde(default)]
    pub max_transaction: Option<Duration>,
}

/// When and how often a failed slice is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries in all.
    pub attempts: u32,
    /// Wait before the second try; doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

/// What to do with slices whose files were changed, cut or removed since they were planned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangedSource {
    /// They are not loaded: a damaged source must never look like a small one.
    #[default]
    Stale,
    /// The plan is made anew by what is there now.
    Replan,
}

/// What is kept for later proofs, and what is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySpec {
    /// Keep 16 bytes a row beside each receipt, so that every single row can be told to be ours.
    pub manifest: bool,
    /// See [`ChangedSource`].
    #[serde(default)]
    pub changed_source: ChangedSource,
}

impl VerifySpec {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_default(&self) -> bool {
        *self == VerifySpec::default()
    }
}

/// The cap above which rejects change the exit code to 6.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectsCap {
    /// A number of rows.
    Rows(u64),
    /// A share of the plan's surveyed rows, 0.0 to 1.0.
    Share(f64),
}

impl RejectsCap {
    /// Whether this many rejects are too many for a plan of this many surveyed rows.
    pub fn exceeded(self, rejects: u64, surveyed: u64) -> bool {
        match self {
            RejectsCap::Rows(cap) => rejects > cap,
            RejectsCap::Share(share) => rejects as f64 > share * surveyed as f64,
        }
    }
}

/// Everything the user decided, ready to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The job's name.
    pub name: String,
    /// Where rows come from.
    pub source: Endpoint,
    /// What is made of each row, in words that core does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// Where they go.
    pub target: Endpoint,
    /// See [`RowsSpec`].
    pub rows: RowsSpec,
    /// See [`RangeSpec`].
    pub range: RangeSpec,
    /// See [`WriteSpec`].
    pub write: WriteSpec,
    /// See [`Limits`].
    pub limits: Limits,
    /// See [`Retry`].
    pub retry: Retry,
    /// See [`RejectsCap`].
    pub rejects: RejectsCap,
    /// See [`VerifySpec`].
    #[serde(default, skip_serializing_if = "VerifySpec::is_default")]
    pub verify: VerifySpec,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrency: None,
            rows_per_second: None,
            memory: 384 << 20,
            max_runtime: None,
            max_transaction: None,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 5, backoff: Duration::from_secs(1), max_backoff: Duration::from_mins(2) }
    }
}

impl Default for RejectsCap {
    fn default() -> Self {
        RejectsCap::Rows(0)
    }
}

impl Spec {
    /// SHA-256 over what decides which rows land and how: source, transform, target, rows, range
    /// and write. Name, limits, retry, rejects and verify do not count.
    pub fn hash(&self) -> [u8; 32] {
        let mut identity = serde_json::json!({
            "v": 1,
            "source": { &self.source.connector: self.source.identity },
            "target": { &self.target.connector: self.target.identity },
            "rows": self.rows,
            "range": self.range,
            "write": self.write,
        });
        if let Some(transform) = &self.transform {
            identity["transform"] = transform.as_str().into();
        }
        // serde_json keeps object keys sorted, so the text is canonical.
        Sha256::digest(identity.to_string()).into()
    }

    /// How loads behave towards others who use the table.
    pub fn manners(&self) -> Manners {
        let alone = self.write.live_writers.is_some();
        let longest = self.limits.max_transaction;
        Manners { longest, locks: self.write.lock.is_some(), alone }
    }

    /// Refuses combinations that cannot be kept, before anything is opened.
    pub fn check(&self) -> Result<()> {
        let keyless = self.rows.key.is_none();
        match (keyless, self.write.mode) {
            (true, Mode::Append) => Ok(()),
            (true, mode) => {
                Err(Error::config(format!("mode `{}` needs `rows.key`", mode.as_str()))
                    .hint("name the columns that identify a series, or `key: []` for one series"))
            }
            (false, Mode::Append) => Err(Error::config("mode `append` takes rows without a key")
                .hint("leave `rows.key` out, or use `fill-missing`")),
            (false, Mode::Replace) if self.write.scope.is_none() => {
                Err(Error::config("mode `replace` needs `write.scope`")
                    .hint("`all`, or the columns and values that name the rows to be replaced"))
            }
            (false, _) => Ok(()),
        }
    }
}

/// serde for a duration as whole seconds.
mod as_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(d.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}
