//! What takes the rows that a target gives back: hashed at once, kept only as hashes.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use jiff::Timestamp;

use crate::columns::Columns;
use crate::connector::RowSink;
use crate::digest::{Digest, Hasher, PARTS, RowHashes, Sum};
use crate::env::{Env, compute};
use crate::error::{Error, Kind, Result};
use crate::interval::Interval;
use crate::scope::Within;

/// Nanoseconds since 1970 of each row's time; none where it is NULL.
pub(super) fn times(rows: &RecordBatch) -> Result<Vec<Option<i128>>> {
    let column = rows.column(0);
    macro_rules! read {
        ($ty:ty, $per:expr) => {{
            let values = column.as_primitive::<$ty>();
            let time = |i| (!values.is_null(i)).then(|| i128::from(values.value(i)) * $per);
            Ok((0..values.len()).map(time).collect())
        }};
    }
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => read!(TimestampSecondType, 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => read!(TimestampMillisecondType, 1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => read!(TimestampMicrosecondType, 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => read!(TimestampNanosecondType, 1),
        other => Err(Error::bug(format!("the time column came as {other}"))),
    }
}

/// A batch with its hashes and times.
pub(super) struct Hashed {
    pub(super) rows: RecordBatch,
    pub(super) hashes: Vec<RowHashes>,
    pub(super) times: Vec<Option<i128>>,
    /// What each row is by the columns that are compared; empty where all are.
    pub(super) compared: Vec<u128>,
}

impl Hashed {
    /// What a row is by the columns that are compared.
    pub(super) fn compared(&self, row: usize) -> u128 {
        self.compared.get(row).copied().unwrap_or(self.hashes[row].row)
    }
}

/// Hashes a batch on the computing threads.
pub(super) async fn hash(env: &dyn Env, hasher: &mut Hasher, rows: RecordBatch) -> Result<Hashed> {
    let mut lent = hasher.lend();
    let (hashed, back) = compute(env, move || {
        let hashed = hashed(&mut lent, rows);
        (hashed, lent)
    })
    .await?;
    *hasher = back;
    hashed
}

fn hashed(hasher: &mut Hasher, rows: RecordBatch) -> Result<Hashed> {
    let hashes = hasher.hash(&rows)?;
    let times = times(&rows)?;
    let compared = hasher.compared(&rows)?;
    Ok(Hashed { rows, hashes, times, compared })
}

/// Sums rows up, with parts of time.
#[derive(Debug, Clone)]
pub(super) struct Summer {
    digest: Digest,
    /// Where part i begins, and the end of the interval: start + floor(i x length / 64).
    starts: [i128; PARTS + 1],
    /// The part of the last row: rows mostly come in order of time.
    part: usize,
    seen: Option<(i128, i128)>,
}

impl Summer {
    pub(super) fn new(interval: &Interval) -> Self {
        let (start, length) = (interval.start().as_nanosecond(), interval.nanoseconds());
        Summer {
            digest: Digest { parts: vec![(0, Sum(0)); PARTS], ..Digest::default() },
            starts: std::array::from_fn(|i| start + i as i128 * length / PARTS as i128),
            part: 0,
            seen: None,
        }
    }

    pub(super) fn add(&mut self, hashes: &RowHashes, time: Option<i128>) {
        self.digest.add_row(hashes);
        if let Some(time) = time {
            if !(self.starts[self.part] <= time && time < self.starts[self.part + 1]) {
                self.part = self.starts.partition_point(|s| *s <= time).clamp(1, PARTS) - 1;
            }
            let (min, max) = self.seen.get_or_insert((time, time));
            *min = time.min(*min);
            *max = time.max(*max);
        }
        let part = &mut self.digest.parts[self.part];
        part.0 += 1;
        part.1.0 = part.1.0.wrapping_add(hashes.row);
    }

    pub(super) fn digest(mut self) -> Digest {
        let times = self.seen.map_or([None, None], |(min, max)| [Some(min), Some(max)]);
        for time in times.into_iter().flatten() {
            if let Ok(time) = Timestamp::from_nanosecond(time) {
                self.digest.see_time(time);
            }
        }
        self.digest
    }
}

/// Takes rows of a target, checks that they lie in the interval, sums them up, and keeps their
/// hashes where asked.
pub(super) struct Taken<'a> {
    env: &'a dyn Env,
    hasher: Hasher,
    interval: Interval,
    columns: &'a Columns,
    pub(super) sum: Summer,
    pub(super) kept: Option<Vec<RowHashes>>,
    /// For each row kept, what it is by the columns that are compared; empty where all are.
    pub(super) compared: Vec<u128>,
    /// So many rows are kept at most.
    most: u64,
    scope: Option<Within>,
    /// For each row kept, whether it lies in the scope; empty without a scope.
    pub(super) inside: Vec<bool>,
}

impl<'a> Taken<'a> {
    pub(super) fn new(
        env: &'a dyn Env,
        hasher: &Hasher,
        interval: &Interval,
        columns: &'a Columns,
    ) -> Self {
        Taken {
            env,
            hasher: hasher.clone(),
            interval: *interval,
            columns,
            sum: Summer::new(interval),
            kept: None,
            compared: Vec::new(),
            most: u64::MAX,
            scope: None,
            inside: Vec::new(),
        }
    }

    /// Keeps the hashes of every row too: 32 bytes a row, 48 where not all columns are compared.
    pub(super) fn keeping(mut self) -> Self {
        self.kept = Some(Vec::new());
        self
    }

    /// Tells of each row that is kept whether it lies in the scope.
    pub(super) fn scoped(mut self, scope: Option<&Within>) -> Self {
        self.scope = scope.cloned();
        self
    }

    /// Keeps no more than fits into so many bytes.
    pub(super) fn at_most(mut self, bytes: u64) -> Self {
        let compared = if self.hasher.is_comparing() { size_of::<u128>() } else { 0 };
        self.most = bytes / (size_of::<RowHashes>() + compared) as u64;
        self
    }

    /// Whether there were more rows than could be kept.
    pub(super) fn is_full(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.len() as u64 > self.most)
    }
}

#[async_trait]
impl RowSink for Taken<'_> {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_columns() != self.columns.len() {
            return Err(Error::bug("the target gave other columns than the plan has"));
        }
        let inside = self.scope.as_ref().map(|s| s.mask(&rows)).transpose()?;
        let hashed = hash(self.env, &mut self.hasher, rows).await?;
        let (start, end) =
            (self.interval.start().as_nanosecond(), self.interval.end().as_nanosecond());
        for (hashes, time) in hashed.hashes.iter().zip(&hashed.times) {
            if time.is_none_or(|t| t < start || t >= end) {
                let what = format!("the target gave a row outside {}", self.interval);
                return Err(Error::new(Kind::Mismatch, what));
            }
            self.sum.add(hashes, *time);
        }
        if !self.is_full()
            && let Some(kept) = &mut self.kept
        {
            kept.extend(hashed.hashes);
            self.compared.extend(hashed.compared);
            self.inside.extend(inside.iter().flat_map(|mask| mask.values().iter()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_where_the_formula_says() {
        let t = |n| Timestamp::from_nanosecond(n).unwrap();
        let interval = Interval::new(t(-7), t(1000)).unwrap();
        for time in -7..1000 {
            let mut sum = Summer::new(&interval);
            sum.add(&RowHashes { key: 1, row: 1 }, Some(time));
            let digest = sum.digest();
            let part = digest.parts.iter().position(|p| p.0 == 1).unwrap() as i128;
            let start = |i: i128| -7 + i * 1007 / 64;
            assert!(start(part) <= time && time < start(part + 1), "{time} in {part}");
        }
    }
}
