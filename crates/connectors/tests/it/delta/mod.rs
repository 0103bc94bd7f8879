//! Delta tables on a real directory.

mod damage;
mod foreign;
mod load;
mod receipts;
mod source;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use async_trait::async_trait;
use jiff::Timestamp;
use retrofill_connectors::delta::{DeltaSettings, DeltaTarget};
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{CommitOutcome, Load, Manners, RowSink, SliceLoad, Target};
use retrofill_core::digest::Hasher;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::{Counts, Digests, Receipt, ReceiptV1};
use retrofill_core::spec::Mode;

/// Microseconds in an hour, the length of every slice here.
pub(crate) const HOUR: i64 = 3_600_000_000;

/// A row: time, series, value.
pub(crate) type Row = (i64, Option<String>, Option<f64>);

pub(crate) fn columns() -> Arc<Columns> {
    let column = |name: &str, role, ty, position| Column {
        name: name.into(),
        ty,
        role,
        position,
        source: None,
    };
    let time = ColumnType::Instant { unit: Precision::Microsecond };
    let list = vec![
        column("series", Role::Key, ColumnType::Text, 0),
        column("time", Role::Time, time, 1),
        column("value", Role::Value, ColumnType::Float { bits: 64 }, 2),
    ];
    Arc::new(Columns::new(list).unwrap())
}

pub(crate) fn interval(hour: i64) -> Interval {
    let at = |n| Timestamp::from_microsecond(n).unwrap();
    Interval::new(at(hour * HOUR), at((hour + 1) * HOUR)).unwrap()
}

pub(crate) fn always() -> Interval {
    Interval::parse("1900-01-01T00:00:00Z", "2200-01-01T00:00:00Z").unwrap()
}

pub(crate) fn slice(hour: i64, generation: u64) -> SliceLoad {
    SliceLoad {
        plan: PlanId::new("9f2c"),
        slice: SliceId::of(interval(hour).start()),
        generation,
        attempt: 1,
        interval: interval(hour),
        columns: columns(),
        mode: Mode::FillMissing,
        repair: generation > 1,
        manners: Manners::default(),
    }
}

pub(crate) fn receipt(slice: &SliceLoad) -> Receipt {
    Receipt::V1(ReceiptV1 {
        plan: slice.plan.clone(),
        spec_hash: String::new(),
        slice: slice.slice.clone(),
        generation: slice.generation,
        interval: slice.interval,
        mode: slice.mode,
        policies: Vec::new(),
        encoding: "retrofill-digest-v1".into(),
        fingerprint: slice.columns.fingerprint(),
        salt: [7; 16],
        blocks: Vec::new(),
        counts: Counts::default(),
        digests: Digests::default(),
        at: Timestamp::from_second(1_700_000_000).unwrap(),
        own: None,
        exceptions: None,
        anchor: serde_json::Value::Null,
    })
}

/// `n` rows inside an hour.
pub(crate) fn rows(hour: i64, n: i64) -> Vec<Row> {
    (0..n).map(|i| (hour * HOUR + i * 1_000, Some(format!("s{}", i % 3)), Some(i as f64))).collect()
}

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let time: TimestampMicrosecondArray = rows.iter().map(|r| Some(r.0)).collect();
    let series: StringArray = rows.iter().map(|r| r.1.clone()).collect();
    let value: Float64Array = rows.iter().map(|r| r.2).collect();
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(time.with_timezone("UTC")), Arc::new(series), Arc::new(value)];
    RecordBatch::try_new(columns().arrow_schema(), arrays).unwrap()
}

pub(crate) fn unbatch(batch: &RecordBatch) -> Vec<Row> {
    let time = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    let series = batch.column(1).as_string::<i32>();
    let value = batch.column(2).as_primitive::<Float64Type>();
    (0..batch.num_rows())
        .map(|i| {
            let series = series.iter().nth(i).flatten().map(str::to_owned);
            (time.value(i), series, value.iter().nth(i).flatten())
        })
        .collect()
}

/// Keeps the rows it is given.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Vec<Row>);

#[async_trait]
impl RowSink for Kept {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        assert_eq!(rows.schema(), columns().arrow_schema());
        self.0.extend(unbatch(&rows));
        Ok(())
    }
}

impl Kept {
    pub(crate) fn sorted(mut self) -> Vec<Row> {
        self.0.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        self.0
    }
}

pub(crate) fn open(dir: &Path) -> DeltaTarget {
    DeltaTarget::open(DeltaSettings { path: "table".into() }, dir).unwrap()
}

pub(crate) async fn prepared(dir: &Path) -> DeltaTarget {
    let target = open(dir);
    target.prepare(&columns()).await.unwrap();
    target
}

pub(crate) async fn held(target: &DeltaTarget, hour: i64) -> Result<Vec<Row>> {
    let mut load = target.begin(&slice(hour, 1)).await?;
    let mut kept = Kept::default();
    load.held(&mut kept).await?;
    load.abort().await?;
    Ok(kept.sorted())
}

/// A load that is sealed and read back, ready to commit.
pub(crate) async fn sealed(target: &DeltaTarget, slice: &SliceLoad, rows: &[Row]) -> Box<dyn Load> {
    let mut load = target.begin(slice).await.unwrap();
    let mut before = Kept::default();
    load.held(&mut before).await.unwrap();
    for part in rows.chunks(1_000) {
        assert!(load.write(batch(part)).await.unwrap().is_empty());
    }
    load.seal().await.unwrap();
    let mut after = Kept::default();
    load.read_back(&mut after).await.unwrap();
    let mut expected = before;
    expected.0.extend_from_slice(rows);
    assert_eq!(after.sorted(), expected.sorted());
    load
}

pub(crate) async fn load(target: &DeltaTarget, hour: i64, rows: &[Row]) {
    let slice = slice(hour, 1);
    let load = sealed(target, &slice, rows).await;
    committed(load.commit(receipt_of(&slice, rows)).await);
}

/// A receipt that tells what was written.
pub(crate) fn receipt_of(slice: &SliceLoad, rows: &[Row]) -> Receipt {
    let mut receipt = receipt(slice);
    let hashes = Hasher::new(&slice.columns, &[7; 16]).hash(&batch(rows)).unwrap();
    let r = receipt.latest_mut();
    for hash in &hashes {
        r.digests.written.add_row(hash);
    }
    r.digests.after = r.digests.written.clone();
    receipt
}

pub(crate) fn committed(outcome: CommitOutcome) {
    match outcome {
        CommitOutcome::Committed => {}
        CommitOutcome::Moved(_) => panic!("moved"),
        CommitOutcome::NotCommitted(e) => panic!("not committed: {e:?}"),
        CommitOutcome::Unknown(e) => panic!("unknown: {e:?}"),
    }
}

pub(crate) fn refused(outcome: CommitOutcome) -> Error {
    match outcome {
        CommitOutcome::NotCommitted(e) => e,
        CommitOutcome::Committed => panic!("committed"),
        CommitOutcome::Moved(_) => panic!("moved"),
        CommitOutcome::Unknown(e) => panic!("unknown: {e:?}"),
    }
}

pub(crate) fn moved(outcome: CommitOutcome) -> Box<dyn Load> {
    match outcome {
        CommitOutcome::Moved(load) => load,
        CommitOutcome::Committed => panic!("committed"),
        CommitOutcome::NotCommitted(e) => panic!("not committed: {e:?}"),
        CommitOutcome::Unknown(e) => panic!("unknown: {e:?}"),
    }
}

/// Names of the files in a directory of the table, in order.
pub(crate) fn names(dir: &Path, below: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir.join("table").join(below))
        .map(|list| list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == ending)
}

/// Appends a log entry as another engine would.
pub(crate) fn foreign_entry(dir: &Path, lines: &[serde_json::Value]) {
    let version = entries(dir).len();
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let path = dir.join(format!("table/_delta_log/{version:020}.json"));
    std::fs::write(path, text.join("\n")).unwrap();
}

pub(crate) fn data_files(dir: &Path) -> Vec<String> {
    names(dir, "").into_iter().filter(|n| has_ending(n, "parquet")).collect()
}

pub(crate) fn entries(dir: &Path) -> Vec<String> {
    names(dir, "_delta_log").into_iter().filter(|n| has_ending(n, "json")).collect()
}
