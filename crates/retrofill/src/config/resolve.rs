//! From the spec as typed to core's `Spec`: defaults filled in, everything checked that needs no
//! look at source or target.

use std::time::Duration;

use jiff::tz::TimeZone;
use retrofill_core::calendar::zone;
use retrofill_core::spec::{
    ChangedSource, Limits, LiveWriters, Lock, Mode, OnDuplicate, OnEmptySource, Order, RangeSpec,
    RejectsCap, Retry, RowsSpec, Scope, Spec, VerifySpec, WriteSpec,
};

use super::endpoint::{source, target};
use super::problem::Problem;
use super::raw::{
    RawChangedSource, RawLimits, RawLiveWriters, RawLock, RawMode, RawOnDuplicate,
    RawOnEmptySource, RawOrder, RawRange, RawRetry, RawRows, RawScope, RawSpec, RawVerify,
    RawWrite,
};
use super::read::Field;
use super::transform::transform;
use super::tree::Mark;
use super::values::{Concurrency, Moment, Size, SliceSize, Span, Word};

/// Less memory than this cannot hold the smallest slice and its digests.
const MIN_MEMORY: u64 = 64 << 20;

/// A shorter transaction proves nothing of use.
const MIN_TRANSACTION: Duration = Duration::from_secs(1);

/// The longest name of a job: it becomes a directory.
const MAX_NAME: usize = 100;

/// The spec, where nothing is wrong with it; what is wrong goes to `problems`. `stem` is the name
/// a job has that does not name itself.
pub(super) fn resolve(
    raw: &RawSpec,
    stem: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Spec> {
    if raw.version.get().is_some_and(|v| *v != 1) {
        let problem = Problem::at(raw.version.mark, "this version of the spec is not known");
        problems.push(problem.hint("write `version: 1`, or leave it out"));
    }
    let name = name(&raw.name, stem, problems);
    let source = raw.source.get().and_then(|s| source(s, raw.source.mark, problems));
    let target = raw.target.get().and_then(|t| target(t, raw.target.mark, problems));
    if source.is_some() && source == target {
        problems.push(
            Problem::at(raw.target.mark, "`source` and `target` are the same table")
                .hint("a table cannot be backfilled from itself; name the one to read from"),
        );
    }
    let rows = raw.rows.get().and_then(|r| rows(r, problems));
    let transform = transform(raw, problems);
    let range = section(&raw.range, range, problems);
    let write = write(raw, problems);
    let limits = section(&raw.limits, limits, problems);
    let retry = section(&raw.retry, retry, problems);
    let cap = raw.rejects.get().and_then(|r| r.max.get()).map(|cap| cap.0);
    Some(Spec {
        name: name?,
        source: source?,
        transform: transform?,
        target: target?,
        rows: rows?,
        range: range?,
        write: write?,
        limits: limits?,
        retry: retry?,
        rejects: cap.unwrap_or(RejectsCap::Rows(0)),
        verify: verify(raw.verify.get()),
    })
}

fn verify(raw: Option<&RawVerify>) -> VerifySpec {
    let changed = raw.and_then(|v| v.changed_source.get());
    VerifySpec {
        manifest: raw.and_then(|v| v.manifest.get()).copied().unwrap_or(false),
        changed_source: match changed {
            Some(RawChangedSource::Replan) => ChangedSource::Replan,
            Some(RawChangedSource::Stale) | None => ChangedSource::Stale,
        },
    }
}

/// Resolves a section that may be left out.
fn section<R, T>(
    field: &Field<R>,
    resolve: impl FnOnce(Option<&R>, &mut Vec<Problem>) -> T,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    match field.get() {
        None if !field.is_absent() => None,
        raw => Some(resolve(raw, problems)),
    }
}

fn name(field: &Field<String>, stem: Option<&str>, problems: &mut Vec<Problem>) -> Option<String> {
    let allowed = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if field.is_absent() {
        let Some(stem) = stem else {
            problems.push(
                Problem::general("`name` is missing")
                    .hint("a spec that is not a file has no other name"),
            );
            return None;
        };
        let name: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        let name = name.trim_start_matches('.').chars().take(MAX_NAME).collect::<String>();
        return Some(if name.is_empty() { "backfill".into() } else { name });
    }
    let name = field.get()?;
    let good = !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed);
    if !good || name.chars().count() > MAX_NAME {
        let message = "`name` becomes a directory: letters, digits, `-`, `_` and `.` only";
        let hint = format!("not more than {MAX_NAME} of them, and no `.` first");
        problems.push(Problem::at(field.mark, message).hint(hint));
        return None;
    }
    Some(name.clone())
}

fn rows(raw: &RawRows, problems: &mut Vec<Problem>) -> Option<RowsSpec> {
    let time = column(&raw.time, problems);
    let key = columns(&raw.key, "rows.key", time, problems);
    let compare = columns(&raw.compare, "rows.compare", time, problems);
    if let (Some(compare), Some(key)) = (compare, key)
        && compare.iter().any(|c| key.contains(c))
    {
        let message = "`rows.compare` names a column of `rows.key`";
        let problem = Problem::at(raw.compare.mark, message);
        problems.push(problem.hint("rows are compared only where their keys are equal"));
    }
    if compare.is_some_and(<[String]>::is_empty) {
        let problem = Problem::at(raw.compare.mark, "`rows.compare` names no column");
        problems.push(problem.hint("leave it out to compare every column"));
    }
    if raw.key.is_absent() {
        for (name, mark) in [("compare", raw.compare.key), ("on_duplicate", raw.on_duplicate.key)] {
            if let Some(mark) = mark {
                let message = format!("`rows.{name}` needs `rows.key`");
                let hint = "name the columns that identify a series, or `key: []` for one series";
                problems.push(Problem::at(mark, message).hint(hint));
            }
        }
    }
    Some(RowsSpec {
        time: time?.into(),
        key: key.map(<[String]>::to_vec),
        compare: compare.map(<[String]>::to_vec),
        on_duplicate: match raw.on_duplicate.or(RawOnDuplicate::Reject) {
            RawOnDuplicate::Reject => OnDuplicate::Reject,
            RawOnDuplicate::First => OnDuplicate::First,
            RawOnDuplicate::Last => OnDuplicate::Last,
            RawOnDuplicate::Fail => OnDuplicate::Fail,
        },
    })
}

fn column<'a>(field: &'a Field<String>, problems: &mut Vec<Problem>) -> Option<&'a str> {
    let name = field.get()?;
    if name.is_empty() {
        problems.push(Problem::at(field.mark, "a column needs a name"));
    }
    Some(name)
}

fn columns<'a>(
    field: &'a Field<Vec<String>>,
    what: &str,
    time: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<&'a [String]> {
    let list = field.get()?;
    for (i, name) in list.iter().enumerate() {
        // A name may come from outside: only its place is shown.
        if name.is_empty() {
            problems.push(Problem::at(field.mark, format!("`{what}` has a column without a name")));
        } else if Some(name.as_str()) == time {
            let problem = Problem::at(field.mark, format!("`{what}` names the time column"));
            problems.push(problem.hint("leave it out: the time is always part of a row's key"));
        } else if list[..i].contains(name) {
            problems.push(Problem::at(field.mark, format!("`{what}` names a column twice")));
        }
    }
    Some(list)
}

fn range(raw: Option<&RawRange>, problems: &mut Vec<Problem>) -> RangeSpec {
    let Some(raw) = raw else {
        return RangeSpec {
            from: None,
            to: None,
            every: None,
            timezone: "UTC".into(),
            order: Order::OldestFirst,
            settle: Duration::from_hours(1),
        };
    };
    let timezone = raw.timezone.or("UTC".into());
    check_zone(&raw.timezone, "range.timezone", problems);
    // A zone that is not known is reported; what follows is still looked at.
    let zone = zone(&timezone).unwrap_or(TimeZone::UTC);
    let mut instant = |field: &Field<Moment>| match field.get()?.instant(&zone) {
        Ok(t) => Some(t),
        Err(error) => {
            problems.push(Problem::at(field.mark, error.message()));
            None
        }
    };
    let (from, to) = (instant(&raw.from), instant(&raw.to));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let word = if from == to { "an empty" } else { "a reversed" };
        let problem = Problem::at(raw.to.mark, format!("`range` is {word} stretch of time"));
        problems.push(problem.hint("`to` is exclusive and must lie after `from`"));
    }
    let settle = raw.settle.or(Span(Duration::from_hours(1))).0;
    if settle.subsec_nanos() != 0 {
        problems.push(Problem::at(raw.settle.mark, "`range.settle` counts whole seconds"));
    }
    RangeSpec {
        from,
        to,
        every: raw.every.or(SliceSize(None)).0,
        timezone,
        order: match raw.order.or(RawOrder::OldestFirst) {
            RawOrder::OldestFirst => Order::OldestFirst,
            RawOrder::NewestFirst => Order::NewestFirst,
        },
        settle,
    }
}

/// Reports a name that is no time zone.
pub(super) fn check_zone(field: &Field<String>, what: &str, problems: &mut Vec<Problem>) {
    if field.get().is_some_and(|name| zone(name).is_err()) {
        let problem = Problem::at(field.mark, format!("`{what}` is not a time zone"));
        problems.push(problem.hint("an IANA name such as `Europe/Berlin`, or `UTC`"));
    }
}

/// The mode's default and what it may be hang on `rows.key`, so the whole spec is looked at.
fn write(raw: &RawSpec, problems: &mut Vec<Problem>) -> Option<WriteSpec> {
    let keyless = raw.rows.get().map(|r| r.key.is_absent());
    let default = if keyless == Some(true) { RawMode::Append } else { RawMode::FillMissing };
    let given: Option<&RawWrite> = raw.write.get();
    if given.is_none() && !raw.write.is_absent() {
        return None;
    }
    let mode = given.map_or(default, |w| w.mode.or(default));
    if let (Some(write), Some(keyless)) = (given, keyless) {
        check_mode(mode, keyless, write.mode.mark, problems);
    }
    if let Some(write) = given {
        check_replace(mode, write, problems);
    }
    if mode == RawMode::Replace
        && let Some(mark) = raw.rows.get().and_then(|rows| rows.compare.key)
    {
        let problem = Problem::at(mark, "`rows.compare` has no meaning with mode `replace`");
        problems.push(problem.hint("that mode leaves exactly the source's rows"));
    }
    Some(WriteSpec {
        mode: match mode {
            RawMode::FillMissing => Mode::FillMissing,
            RawMode::Upsert => Mode::Upsert,
            RawMode::Replace => Mode::Replace,
            RawMode::Append => Mode::Append,
        },
        on_empty_source: match given.and_then(|w| w.on_empty_source.get()) {
            Some(RawOnEmptySource::Skip) => OnEmptySource::Skip,
            Some(RawOnEmptySource::Clear) => OnEmptySource::Clear,
            Some(RawOnEmptySource::Fail) | None => OnEmptySource::Fail,
        },
        scope: given.and_then(|w| w.scope.get()).map(scope),
        min_keep: given.and_then(|w| w.min_keep.get()).map(|share| share.0),
        live_writers: given
            .and_then(|w| w.live_writers.get())
            .map(|RawLiveWriters::None| LiveWriters::None),
        lock: given
            .and_then(|w| w.lock.get())
            .map(|RawLock::ShareRowExclusive| Lock::ShareRowExclusive),
    })
}

fn scope(raw: &RawScope) -> Scope {
    match raw {
        RawScope::All(_) => Scope::All,
        RawScope::Where(columns) => {
            let words = |w: &Vec<Word>| w.iter().map(|w| w.0.clone()).collect();
            Scope::Where(columns.iter().map(|(name, w)| (name.clone(), words(w))).collect())
        }
    }
}

/// The keys of mode `replace` and no other.
fn check_replace(mode: RawMode, write: &RawWrite, problems: &mut Vec<Problem>) {
    let replaces = mode == RawMode::Replace;
    if replaces && write.scope.is_absent() {
        let problem = Problem::at(write.mode.mark, "mode `replace` needs `write.scope`");
        problems.push(problem.hint("`all`, or columns and values: `{ origin: [EWR, JFK] }`"));
    }
    if let Some(RawScope::Where(columns)) = write.scope.get()
        && (columns.is_empty() || columns.values().any(Vec::is_empty))
    {
        let problem = Problem::at(write.scope.mark, "`write.scope` names no row");
        problems.push(problem.hint("`all`, or columns with at least one value each"));
    }
    for (name, key) in [("scope", write.scope.key), ("min_keep", write.min_keep.key)] {
        if let Some(mark) = key.filter(|_| !replaces) {
            let message = format!("`write.{name}` belongs to mode `replace`");
            problems.push(Problem::at(mark, message));
        }
    }
    if !replaces && write.on_empty_source.get() == Some(&RawOnEmptySource::Clear) {
        let message = "`on_empty_source: clear` belongs to mode `replace`";
        problems.push(Problem::at(write.on_empty_source.mark, message));
    }
}

fn check_mode(mode: RawMode, keyless: bool, mark: Mark, problems: &mut Vec<Problem>) {
    let (message, hint) = match (mode, keyless) {
        (RawMode::FillMissing | RawMode::Upsert | RawMode::Replace, true) => (
            format!("mode `{}` needs `rows.key`", mode.as_str()),
            "name the columns that identify a series, or `key: []` for one series",
        ),
        (RawMode::Append, false) => (
            "mode `append` takes rows without a key".to_owned(),
            "leave `rows.key` out, or use `fill-missing`",
        ),
        _ => return,
    };
    problems.push(Problem::at(mark, message).hint(hint));
}

fn limits(raw: Option<&RawLimits>, problems: &mut Vec<Problem>) -> Limits {
    let default = Limits::default();
    let Some(raw) = raw else { return default };
    if raw.rows_per_second.get() == Some(&0) {
        let problem = Problem::at(raw.rows_per_second.mark, "`limits.rows_per_second` is 0");
        problems.push(problem.hint("leave it out for no limit"));
    }
    let memory = raw.memory.or(Size(default.memory)).0;
    if memory < MIN_MEMORY {
        let problem = Problem::at(raw.memory.mark, "`limits.memory` is less than 64MiB");
        problems.push(problem.hint("the default is 384MiB"));
    }
    if raw.max_runtime.get().is_some_and(|s| s.0.is_zero()) {
        let problem = Problem::at(raw.max_runtime.mark, "`limits.max_runtime` is no time at all");
        problems.push(problem.hint("leave it out for no limit"));
    }
    if raw.max_transaction.get().is_some_and(|s| s.0 < MIN_TRANSACTION) {
        let message = "`limits.max_transaction` is less than a second";
        problems.push(Problem::at(raw.max_transaction.mark, message));
    }
    Limits {
        concurrency: raw.concurrency.or(Concurrency(None)).0,
        rows_per_second: raw.rows_per_second.get().copied(),
        memory,
        max_runtime: raw.max_runtime.get().map(|s| s.0),
        max_transaction: raw.max_transaction.get().map(|s| s.0),
    }
}

fn retry(raw: Option<&RawRetry>, problems: &mut Vec<Problem>) -> Retry {
    let default = Retry::default();
    let Some(raw) = raw else { return default };
    let attempts = raw.attempts.or(u64::from(default.attempts));
    if !(1..=1000).contains(&attempts) {
        let message = "`retry.attempts` must lie between 1 and 1000";
        problems.push(Problem::at(raw.attempts.mark, message));
    }
    let backoff = raw.backoff.or(Span(default.backoff)).0;
    let max_backoff = raw.max_backoff.or(Span(default.max_backoff)).0;
    if backoff > max_backoff {
        let given = if raw.max_backoff.is_absent() { &raw.backoff } else { &raw.max_backoff };
        let message = "`retry.backoff` is longer than `retry.max_backoff`";
        problems.push(Problem::at(given.mark, message).hint("the default of `max_backoff` is 2m"));
    }
    Retry { attempts: attempts as u32, backoff, max_backoff }
}
