//! Reads the rows of a checkpoint that a writer needs.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use retrofill_core::error::{Error, Result};
use serde_json::Value;

use super::durable::Durable;
use super::schema::{Metadata, Protocol};
use super::state::{AddLine, Line, TxnLine};

/// What is read of each row; the rest (tombstones, partition values, typed statistics) is not.
const WANTED: [&str; 7] = [
    "add.path",
    "add.size",
    "add.stats",
    "add.deletionVector.storageType",
    "txn.",
    "metaData.",
    "protocol.",
];

/// The lines of a checkpoint file.
pub(super) fn read(durable: &Durable, path: &str) -> Result<Vec<Line>> {
    let damaged = |e: &dyn std::fmt::Display| {
        Error::config(format!("the checkpoint `{path}` cannot be read: {e}"))
    };
    let file = durable.disk().open(path).map_err(|e| durable.error("read", path, e))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|e| damaged(&e))?;
    let schema = builder.parquet_schema();
    let leaves: Vec<usize> = schema
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, c)| {
            let name = c.path().string();
            WANTED.iter().any(|w| name == *w || (w.ends_with('.') && name.starts_with(w)))
        })
        .map(|(i, _)| i)
        .collect();
    let mask = ProjectionMask::leaves(schema, leaves);
    let reader = builder.with_projection(mask).build().map_err(|e| damaged(&e))?;
    let mut lines = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(&e))?;
        let part = |name: &str| batch.column_by_name(name).map(AsArray::as_struct);
        let parts = (part("add"), part("txn"), part("metaData"), part("protocol"));
        for row in 0..batch.num_rows() {
            let add = there(parts.0, row).and_then(|s| add(s, row));
            let txn = there(parts.1, row).and_then(|s| txn(s, row));
            let meta_data = there(parts.2, row).and_then(|s| metadata(s, row));
            let protocol = there(parts.3, row).and_then(|s| protocol(s, row));
            if add.is_some() || txn.is_some() || meta_data.is_some() || protocol.is_some() {
                lines.push(Line { add, remove: None, meta_data, protocol, txn });
            }
        }
    }
    Ok(lines)
}

fn there(part: Option<&StructArray>, row: usize) -> Option<&StructArray> {
    part.filter(|p| p.is_valid(row))
}

fn text(part: &StructArray, name: &str, row: usize) -> Option<String> {
    let column = part.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn long(part: &StructArray, name: &str, row: usize) -> Option<i64> {
    let column = part.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    column.is_valid(row).then(|| column.value(row))
}

fn int(part: &StructArray, name: &str, row: usize) -> Option<i32> {
    let column = part.column_by_name(name)?.as_primitive_opt::<Int32Type>()?;
    column.is_valid(row).then(|| column.value(row))
}

fn texts(part: &StructArray, name: &str, row: usize) -> Option<Vec<String>> {
    let column = part.column_by_name(name)?.as_list_opt::<i32>()?;
    if column.is_null(row) {
        return None;
    }
    let values = column.value(row);
    Some(values.as_string_opt::<i32>()?.iter().flatten().map(str::to_owned).collect())
}

fn pairs(part: &StructArray, name: &str, row: usize) -> Option<HashMap<String, Option<String>>> {
    let column = part.column_by_name(name)?.as_map_opt()?;
    if column.is_null(row) {
        return None;
    }
    let entries = column.value(row);
    let keys = entries.column(0).as_string_opt::<i32>()?;
    let values = entries.column(1).as_string_opt::<i32>()?;
    let pairs = keys.iter().zip(values.iter());
    Some(pairs.filter_map(|(k, v)| Some((k?.to_owned(), v.map(str::to_owned)))).collect())
}

fn add(part: &StructArray, row: usize) -> Option<AddLine> {
    let vector = part.column_by_name("deletionVector").and_then(|c| c.as_struct_opt());
    let deleted = there(vector, row).and_then(|v| text(v, "storageType", row));
    Some(AddLine {
        path: text(part, "path", row)?,
        size: u64::try_from(long(part, "size", row)?).ok()?,
        stats: text(part, "stats", row),
        deletion_vector: deleted.map(Value::from),
    })
}

fn txn(part: &StructArray, row: usize) -> Option<TxnLine> {
    Some(TxnLine { app_id: text(part, "appId", row)?, version: long(part, "version", row)? })
}

fn metadata(part: &StructArray, row: usize) -> Option<Metadata> {
    Some(Metadata {
        id: text(part, "id", row)?,
        schema_string: text(part, "schemaString", row)?,
        partition_columns: texts(part, "partitionColumns", row).unwrap_or_default(),
        configuration: pairs(part, "configuration", row).unwrap_or_default(),
    })
}

fn protocol(part: &StructArray, row: usize) -> Option<Protocol> {
    Some(Protocol {
        min_reader_version: int(part, "minReaderVersion", row)?,
        min_writer_version: int(part, "minWriterVersion", row)?,
        reader_features: texts(part, "readerFeatures", row),
        writer_features: texts(part, "writerFeatures", row),
    })
}
