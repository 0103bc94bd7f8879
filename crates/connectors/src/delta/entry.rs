//! The log entries that retrofill writes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Add, CommitInfo, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use retrofill_core::columns::Columns;
use retrofill_core::connector::SliceLoad;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::hex;
use retrofill_core::receipt::Receipt;
use retrofill_core::spec::Mode;
use serde_json::{Value, json};

use super::datafile::Written;
use super::receipts;
use super::rewrite::Rewrite;
use super::schema;
use super::state::DataFile;

/// Who wrote an entry.
const ENGINE: &str = concat!("retrofill/", env!("CARGO_PKG_VERSION"));

/// One load in an entry.
pub(super) struct Part<'a> {
    pub(super) slice: &'a SliceLoad,
    pub(super) written: Option<&'a Written>,
    /// Files of ours that are gone or damaged.
    pub(super) wreck: &'a [Arc<DataFile>],
    /// Files from which rows were taken out.
    pub(super) rewritten: &'a [Rewrite],
    pub(super) receipt: &'a Receipt,
}

fn bytes(data: &CommitData) -> Result<Bytes> {
    data.get_bytes().map_err(|e| Error::bug("a log entry cannot be written as JSON").because(e))
}

/// The entry that commits these loads as this version.
pub(super) fn of_loads(parts: &[Part<'_>], version: u64) -> Result<Bytes> {
    let now = parts.iter().map(|p| p.receipt.latest().at.as_millisecond()).max().unwrap_or(0);
    let intervals: Vec<String> = parts.iter().map(|p| predicate(p.slice)).collect();
    let operation = DeltaOperation::Write {
        mode: if parts.iter().all(|p| p.rewritten.is_empty()) {
            SaveMode::Append
        } else {
            SaveMode::Overwrite
        },
        partition_by: None,
        predicate: Some(intervals.join(" OR ")),
    };
    let mut actions = vec![info(&operation, now, parts, version)];
    let mut txns = Vec::new();
    for part in parts {
        actions.extend(part.wreck.iter().map(|f| remove(f, now)));
        for rewrite in part.rewritten {
            actions.push(remove(&rewrite.old, now));
            actions.extend(rewrite.new.as_ref().map(|w| add(w, now)));
        }
        actions.extend(part.written.map(|w| add(w, part.receipt.latest().at.as_millisecond())));
        txns.push(Transaction {
            app_id: receipts::app_id(&part.slice.plan, &part.slice.slice),
            version: i64::try_from(part.slice.generation)
                .map_err(|e| Error::bug("a generation is out of range").because(e))?,
            last_updated: Some(now),
        });
    }
    bytes(&CommitData::new(actions, operation, HashMap::new(), txns))
}

fn predicate(slice: &SliceLoad) -> String {
    let time = slice.columns.time().name.replace('`', "``");
    let (from, to) = (slice.interval.start(), slice.interval.end());
    format!("(`{time}` >= TIMESTAMP '{from}' AND `{time}` < TIMESTAMP '{to}')")
}

fn info<'a>(operation: &DeltaOperation, now: i64, parts: &'a [Part<'a>], version: u64) -> Action {
    let anew = |p: &Part<'a>| p.rewritten.iter().filter_map(|r| r.new.as_ref());
    let written = || parts.iter().flat_map(move |p| p.written.into_iter().chain(anew(p)));
    let metrics = json!({
        "numFiles": written().count().to_string(),
        "numOutputRows": written().map(|w| w.rows).sum::<u64>().to_string(),
        "numOutputBytes": written().map(|w| w.size).sum::<u64>().to_string(),
    });
    Action::CommitInfo(CommitInfo {
        timestamp: Some(now),
        engine_info: Some(ENGINE.to_owned()),
        read_version: version.checked_sub(1),
        is_blind_append: Some(
            parts.iter().all(|p| p.slice.mode == Mode::Append && p.wreck.is_empty()),
        ),
        info: HashMap::from([("operationMetrics".to_owned(), metrics)]),
        ..operation.get_commit_info()
    })
}

fn add(written: &Written, now: i64) -> Action {
    Action::Add(Add {
        path: written.path.clone(),
        partition_values: HashMap::new(),
        size: written.size as i64,
        modification_time: now,
        data_change: true,
        stats: Some(written.stats.clone()),
        ..Add::default()
    })
}

fn remove(file: &DataFile, now: i64) -> Action {
    Action::Remove(Remove {
        path: file.path.to_string(),
        data_change: true,
        deletion_timestamp: Some(now),
        size: i64::try_from(file.size).ok(),
        ..Remove::default()
    })
}

/// The first entry of a new table. `id` is 16 random bytes, `now` milliseconds since 1970.
pub(super) fn of_new_table(columns: &Columns, id: [u8; 16], now: i64) -> Result<Bytes> {
    let metadata = json!({
        "id": uuid(id),
        "format": { "provider": "parquet", "options": {} },
        "schemaString": schema::new_schema(columns)?,
        "partitionColumns": [],
        "configuration": {},
        "createdTime": now,
    });
    let lines: [Value; 3] = [
        json!({ "commitInfo": {
            "timestamp": now, "operation": "CREATE TABLE", "operationParameters": {},
            "engineInfo": ENGINE,
        }}),
        json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }),
        json!({ "metaData": metadata }),
    ];
    Ok(lines.map(|l| l.to_string()).join("\n").into())
}

/// A random UUID (version 4) of these bytes.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let h = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}
