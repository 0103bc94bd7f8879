//! What hashing costs: encodes and hashes N rows of ten columns (the shape of the benchmark's
//! metrics file) on one core and prints the seconds. `cargo xtask bench trunk` sets it against the
//! CPU time of a whole run.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::digest::{Digest, Hasher};

const BATCH: usize = 8192;

fn main() {
    let rows: usize =
        std::env::args().nth(1).map_or(5_000_000, |n| n.parse().expect("a number of rows"));
    let columns = columns();
    let batch = batch(&columns);
    let mut hasher = Hasher::new(&columns, &[1; 16]);
    let mut digest = Digest::default();
    let began = Instant::now();
    for _ in 0..rows.div_ceil(BATCH) {
        for hashes in hasher.hash(&batch).expect("the batch has the plan's types") {
            digest.add_row(&hashes);
        }
    }
    println!("{:.3}", began.elapsed().as_secs_f64());
    // The sum is used, so that nothing of the work can be left out.
    assert!(digest.count as usize >= rows);
}

fn columns() -> Columns {
    let floats = ["usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait"];
    let time = ColumnType::Instant { unit: Precision::Microsecond };
    let mut list = vec![
        ("ts", time, Role::Time),
        ("hostname", ColumnType::Text, Role::Key),
        ("region", ColumnType::Text, Role::Value),
        ("usage_irq", ColumnType::Integer { bits: 64 }, Role::Value),
        ("usage_steal", ColumnType::Integer { bits: 64 }, Role::Value),
    ];
    list.extend(floats.map(|name| (name, ColumnType::Float { bits: 64 }, Role::Value)));
    let column = |(i, (name, ty, role)): (usize, (&str, ColumnType, Role))| Column {
        name: name.into(),
        ty,
        role,
        position: i as u32,
        source: None,
    };
    Columns::new(list.into_iter().enumerate().map(column).collect()).expect("well formed")
}

fn batch(columns: &Columns) -> RecordBatch {
    let n = BATCH as i64;
    let times = (0..n).map(|i| 1_704_067_200_000_000 + i * 10_000);
    let array = |c: &Column| -> ArrayRef {
        match c.ty {
            ColumnType::Instant { .. } => Arc::new(
                TimestampMicrosecondArray::from_iter_values(times.clone()).with_timezone("UTC"),
            ),
            ColumnType::Text => {
                let texts = (0..n).map(|i| format!("{}_{:04}", &c.name[..4], i % 1000));
                Arc::new(StringArray::from_iter_values(texts))
            }
            ColumnType::Integer { .. } => Arc::new(Int64Array::from_iter_values(0..n)),
            _ => Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64 / 7.0))),
        }
    };
    let arrays = columns.iter().map(array).collect();
    RecordBatch::try_new(columns.arrow_schema(), arrays).expect("types fit")
}
