//! A slice's row in the projection.

use jiff::Timestamp;
use retrofill_core::id::SliceId;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Outcome, SliceRecord, State};
use retrofill_core::receipt::Counts;
use rusqlite::types::Type;
use rusqlite::{Row, Statement, params};

/// The columns that [`from_row`] reads, in its order.
macro_rules! columns {
    () => {
        "start_s, start_ns, id, end_s, end_ns, state, generation, attempt, reason, loaded, \
         read, written, updated, already_present, conflicting, duplicate, rejected, filtered, \
         digest, proven, at"
    };
}
pub(super) use columns;

/// Replaces the slice's row; parameters as [`write`] gives them.
pub(super) const WRITE: &str = concat!(
    "INSERT INTO slices (plan, changed, ",
    columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
     ?19, ?20, ?21, ?22, ?23) ON CONFLICT (plan, start_s, start_ns, id) DO UPDATE SET \
     changed = ?2, state = ?8, generation = ?9, attempt = ?10, reason = ?11, loaded = ?12, \
     read = ?13, written = ?14, updated = ?15, already_present = ?16, conflicting = ?17, \
     duplicate = ?18, rejected = ?19, filtered = ?20, digest = ?21, proven = ?22, at = ?23"
);

/// Writes the row with a statement made of [`WRITE`].
pub(super) fn write(
    statement: &mut Statement<'_>,
    plan: &str,
    changed: u64,
    record: &SliceRecord,
) -> rusqlite::Result<()> {
    let (start_s, start_ns) = split_time(record.interval.start());
    let (end_s, end_ns) = split_time(record.interval.end());
    let outcome = record.outcome.as_ref();
    let count = |of: fn(&Counts) -> u64| outcome.map(|o| of(&o.counts) as i64);
    statement.execute(params![
        plan,
        changed as i64,
        start_s,
        start_ns,
        record.id.as_str(),
        end_s,
        end_ns,
        record.state.as_str(),
        record.generation as i64,
        record.attempt,
        record.reason,
        outcome.map(|o| o.generation as i64),
        count(|c| c.read),
        count(|c| c.written),
        count(|c| c.updated),
        count(|c| c.already_present),
        count(|c| c.conflicting),
        count(|c| c.duplicate),
        count(|c| c.rejected),
        count(|c| c.filtered),
        outcome.map(|o| o.digest.as_str()),
        outcome.map(|o| o.proven),
        outcome.map(|o| o.at.to_string()),
    ])?;
    Ok(())
}

/// The record in a row of [`columns!`].
pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<SliceRecord> {
    Ok(SliceRecord {
        id: SliceId::new(row.get::<_, String>(2)?),
        interval: interval(row, [0, 1, 3, 4])?,
        state: state(row, 5)?,
        generation: unsigned(row, 6)?,
        attempt: row.get(7)?,
        reason: row.get(8)?,
        outcome: outcome(row)?,
    })
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<Option<Outcome>> {
    if row.get_ref(9)?.data_type() == Type::Null {
        return Ok(None);
    }
    let at = row.get_ref(20)?.as_str()?;
    Ok(Some(Outcome {
        generation: unsigned(row, 9)?,
        counts: counts(row, 10)?,
        digest: row.get(18)?,
        proven: row.get(19)?,
        at: at.parse().map_err(|e| unreadable(20, e))?,
    }))
}

/// Eight counts in the order of [`columns!`], from a column on.
pub(super) fn counts(row: &Row<'_>, first: usize) -> rusqlite::Result<Counts> {
    Ok(Counts {
        read: unsigned(row, first)?,
        written: unsigned(row, first + 1)?,
        updated: unsigned(row, first + 2)?,
        already_present: unsigned(row, first + 3)?,
        conflicting: unsigned(row, first + 4)?,
        duplicate: unsigned(row, first + 5)?,
        rejected: unsigned(row, first + 6)?,
        filtered: unsigned(row, first + 7)?,
    })
}

/// A state's word.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    let word = row.get_ref(column)?.as_str()?;
    State::ALL.into_iter().find(|s| s.as_str() == word).ok_or_else(|| {
        unreadable(column, std::io::Error::other(format!("`{word}` is no state of a slice")))
    })
}

/// An interval from the columns of start and end, seconds and nanoseconds each.
pub(super) fn interval(row: &Row<'_>, columns: [usize; 4]) -> rusqlite::Result<Interval> {
    let time = |s: usize, ns: usize| {
        Timestamp::new(row.get(s)?, row.get(ns)?).map_err(|e| unreadable(s, e))
    };
    let [start_s, start_ns, end_s, end_ns] = columns;
    Interval::new(time(start_s, start_ns)?, time(end_s, end_ns)?)
        .map_err(|e| unreadable(start_s, e))
}

/// A number that was stored with the same bits; `SQLite` has signed ones only.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)? as u64)
}

/// A stored value that no retrofill wrote.
pub(super) fn unreadable(
    column: usize,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(cause))
}

/// Seconds rounded down and the nanoseconds above, so that pairs sort as times do.
pub(super) fn split_time(time: Timestamp) -> (i64, i32) {
    let (second, nanosecond) = (time.as_second(), time.subsec_nanosecond());
    if nanosecond < 0 { (second - 1, nanosecond + 1_000_000_000) } else { (second, nanosecond) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_sort_as_times_do() {
        let times = ["-000001-01-01T00:00:00.5Z", "1969-12-31T23:59:58.9Z", "1969-12-31T23:59:59Z"]
            .into_iter()
            .chain(["1969-12-31T23:59:59.000000001Z", "1970-01-01T00:00:00Z"])
            .map(|t| t.parse::<Timestamp>().unwrap());
        let pairs: Vec<_> = times.clone().map(split_time).collect();
        assert!(pairs.is_sorted());
        assert_eq!(pairs[1], (-2, 900_000_000));
        for (time, (second, nanosecond)) in times.zip(pairs) {
            assert_eq!(Timestamp::new(second, nanosecond).unwrap(), time);
        }
    }
}
