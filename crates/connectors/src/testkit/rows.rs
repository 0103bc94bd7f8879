//! Rows that targets are tested with.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::RowSink;
use retrofill_core::digest::{Digest, Hasher};
use retrofill_core::error::Result;
use retrofill_core::interval::Interval;

pub(super) const SALT: [u8; 16] = [7; 16];
pub(crate) const HOUR: i64 = 3_600_000_000;

pub(crate) fn columns() -> Arc<Columns> {
    let column = |name: &str, ty, role, position| Column {
        name: name.into(),
        ty,
        role,
        position,
        source: None,
    };
    let time = ColumnType::Instant { unit: Precision::Microsecond };
    let list = vec![
        column("Series", ColumnType::Text, Role::Key, 0),
        column("ts", time, Role::Time, 1),
        column("flag", ColumnType::Bool, Role::Value, 2),
        column("count 32", ColumnType::Integer { bits: 32 }, Role::Value, 3),
        column("count", ColumnType::Integer { bits: 64 }, Role::Value, 4),
        column("level", ColumnType::Float { bits: 64 }, Role::Value, 5),
        column("note", ColumnType::Text, Role::Value, 6),
        column("day", ColumnType::Date, Role::Value, 7),
    ];
    Arc::new(Columns::new(list).expect("the columns are well formed"))
}

/// Rows at these times, each with the series' name as its key and values made of `seed`.
pub(crate) fn rows(times: &[i64], series: &str, seed: i64) -> RecordBatch {
    let n = times.len() as i64;
    let int = |i: i64| (i % 3 != 0).then_some(i.wrapping_mul(seed));
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC"))),
        ("Series", Arc::new(StringArray::from(vec![series; times.len()]))),
        ("flag", Arc::new((0..n).map(|i| int(i).map(|v| v % 2 == 0)).collect::<BooleanArray>())),
        ("count 32", Arc::new((0..n).map(|i| int(i).map(|v| v as i32)).collect::<Int32Array>())),
        ("count", Arc::new((0..n).map(int).collect::<Int64Array>())),
        (
            "level",
            Arc::new((0..n).map(|i| int(i).map(|v| v as f64 / 7.0)).collect::<Float64Array>()),
        ),
        (
            "note",
            Arc::new((0..n).map(|i| int(i).map(|v| format!("n{v}"))).collect::<StringArray>()),
        ),
        ("day", Arc::new((0..n).map(|i| int(i).map(|v| v as i32)).collect::<Date32Array>())),
    ];
    let columns = columns();
    let ordered = columns.iter().map(|c| {
        arrays.iter().find(|(name, _)| *name == c.name).expect("every column is made").1.clone()
    });
    RecordBatch::try_new(columns.arrow_schema(), ordered.collect()).expect("types fit")
}

pub(crate) fn digest(rows: &RecordBatch) -> Digest {
    let mut digest = Digest::default();
    for hashes in Hasher::new(&columns(), &SALT).hash(rows).expect("rows can be hashed") {
        digest.add_row(&hashes);
    }
    digest
}

/// Sums up what it is given.
#[derive(Default)]
pub(crate) struct Sum(pub(crate) Digest);

#[async_trait]
impl RowSink for Sum {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.0.add(&digest(&rows));
        Ok(())
    }
}

pub(crate) fn hours(from: i64, to: i64) -> Interval {
    let t = |h: i64| jiff::Timestamp::from_microsecond(h * HOUR).expect("in the calendar");
    Interval::new(t(from), t(to)).expect("not empty")
}
