//! Rows of ten columns, in the shape of the benchmark's metrics file.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};

/// Rows of a batch.
pub(crate) const BATCH: usize = 8192;

/// The columns of the benchmark's metrics file.
pub(crate) fn columns() -> Columns {
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

/// Some rows of them.
pub(crate) fn batch(columns: &Columns) -> RecordBatch {
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
