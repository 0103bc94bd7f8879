use arrow::record_batch::RecordBatch;
use futures::executor::block_on;

use super::*;
use crate::columns::{Column, Precision, Role};
use crate::connector::CommitOutcome;
use crate::digest::ENCODING;
use crate::error::Kind;
use crate::id::{PlanId, SliceId};
use crate::memory::{Value, from_batch};
use crate::receipt::{Counts, Digests, ReceiptV1};

struct Gather(Vec<Row>);

#[async_trait]
impl RowSink for Gather {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.0.extend(from_batch(&rows)?);
        Ok(())
    }
}

fn columns() -> Columns {
    let time = ColumnType::Instant { unit: Precision::Second };
    let column =
        |name: &str, ty, role| Column { name: name.into(), ty, role, position: 0, source: None };
    Columns::new(vec![
        column("t", time, Role::Time),
        column("v", ColumnType::Integer { bits: 64 }, Role::Value),
    ])
    .unwrap()
}

fn row(t: i64, v: i64) -> Row {
    vec![Value::Instant(t), Value::Integer(v)]
}

fn slice() -> SliceLoad {
    let interval = Interval::parse("1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z").unwrap();
    SliceLoad {
        plan: PlanId::new("p"),
        slice: SliceId::of(interval.start()),
        generation: 1,
        attempt: 1,
        interval,
        columns: Arc::new(columns()),
        mode: Mode::FillMissing,
        repair: false,
        manners: crate::connector::Manners::default(),
    }
}

fn receipt(slice: &SliceLoad) -> Receipt {
    Receipt::V1(ReceiptV1 {
        spec_hash: String::new(),
        plan: slice.plan.clone(),
        slice: slice.slice.clone(),
        generation: slice.generation,
        interval: slice.interval,
        mode: slice.mode,
        policies: vec![],
        encoding: ENCODING.into(),
        fingerprint: columns().fingerprint(),
        salt: [0; 16],
        blocks: vec![],
        counts: Counts::default(),
        digests: Digests::default(),
        at: "2020-01-01T00:00:00Z".parse().unwrap(),
        own: None,
        exceptions: None,
        anchor: serde_json::Value::Null,
    })
}

fn batch(rows: &[Row]) -> RecordBatch {
    to_batch(&columns(), &rows.iter().collect::<Vec<_>>()).unwrap()
}

fn held(load: &mut Box<dyn Load>) -> Vec<Row> {
    let mut sink = Gather(vec![]);
    block_on(load.held(&mut sink)).unwrap();
    sink.0
}

fn read_back(load: &mut Box<dyn Load>) -> Vec<Row> {
    let mut sink = Gather(vec![]);
    block_on(load.read_back(&mut sink)).unwrap();
    sink.0
}

#[test]
fn a_load_sees_its_slice_only_and_nothing_shows_before_the_commit() {
    let table = MemoryTable::with(columns(), vec![row(9, 1), row(10, 2), row(20, 3)]);
    let slice = slice();
    let mut load = block_on(table.begin(&slice)).unwrap();
    assert_eq!(held(&mut load), [row(10, 2)]);
    block_on(load.write(batch(&[row(11, 4)]))).unwrap();
    block_on(load.seal()).unwrap();
    assert_eq!(read_back(&mut load), [row(10, 2), row(11, 4)]);
    assert_eq!(table.rows().len(), 3);
    assert!(matches!(block_on(load.commit(receipt(&slice))), CommitOutcome::Committed));
    assert_eq!(table.rows().last(), Some(&row(11, 4)));
    let found = block_on(table.receipts(&slice.interval)).unwrap().found;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].standing, Standing::Sound);
    table.rewrite(|_| {});
    let found = block_on(table.receipts(&slice.interval)).unwrap().found;
    assert!(matches!(found[0].standing, Standing::Recheck(_)));
}

#[test]
fn arrivals_move_the_load_and_another_slice_does_not() {
    let table = MemoryTable::with(columns(), vec![row(10, 1)]);
    let slice = slice();
    let mut load = block_on(table.begin(&slice)).unwrap();
    block_on(load.write(batch(&[row(12, 2)]))).unwrap();
    block_on(load.seal()).unwrap();
    table.insert(vec![row(20, 9)]);
    table.insert(vec![row(11, 8)]);
    let CommitOutcome::Moved(load) = block_on(load.commit(receipt(&slice))) else {
        panic!("the slice has moved")
    };
    table.insert(vec![row(13, 7)]);
    let CommitOutcome::Moved(mut load) = block_on(load.commit(receipt(&slice))) else {
        panic!("the slice has moved again")
    };
    let mut sink = Gather(vec![]);
    block_on(load.arrivals(&mut sink)).unwrap();
    assert_eq!(sink.0, [row(11, 8), row(13, 7)]);
    assert!(matches!(block_on(load.commit(receipt(&slice))), CommitOutcome::Committed));
    assert_eq!(table.rows().len(), 5);
}

#[test]
fn a_second_receipt_and_a_changed_row_are_not_committed() {
    let table = MemoryTable::with(columns(), vec![row(10, 1)]);
    let slice = slice();
    let [first, second, third] = [1, 2, 2].map(|generation| {
        let slice = SliceLoad { generation, ..slice.clone() };
        block_on(table.begin(&slice)).unwrap()
    });
    assert!(matches!(block_on(first.commit(receipt(&slice))), CommitOutcome::Committed));
    let again = block_on(table.begin(&slice)).unwrap();
    let outcome = block_on(again.commit(receipt(&slice)));
    assert!(matches!(outcome, CommitOutcome::NotCommitted(e) if e.kind() == Kind::Fenced));
    table.rewrite(|rows| rows[0].1[1] = Value::Integer(5));
    let outcome = block_on(second.commit(receipt(&slice)));
    assert!(matches!(outcome, CommitOutcome::NotCommitted(e) if e.kind() == Kind::Unavailable));
    table.drop_table();
    let outcome = block_on(third.commit(receipt(&slice)));
    assert!(matches!(outcome, CommitOutcome::NotCommitted(e) if e.kind() == Kind::Stale));
}

#[test]
fn refused_rows_are_named_and_not_written() {
    let check = |row: &Row| (row[1] == Value::Integer(13)).then(|| "unlucky".to_owned());
    let table = MemoryTable::with(columns(), vec![]).refusing(check);
    let mut load = block_on(table.begin(&slice())).unwrap();
    let refused = block_on(load.write(batch(&[row(10, 1), row(11, 13)]))).unwrap();
    assert_eq!(refused[0].row, 1);
    assert!(read_back(&mut load).is_empty());
    block_on(load.seal()).unwrap();
    assert_eq!(read_back(&mut load), [row(10, 1)]);
}

#[test]
fn restoring_takes_rows_and_receipts_back() {
    let table = MemoryTable::with(columns(), vec![row(10, 1)]);
    let version = table.version();
    let slice = slice();
    let mut load = block_on(table.begin(&slice)).unwrap();
    block_on(load.write(batch(&[row(12, 2)]))).unwrap();
    block_on(load.seal()).unwrap();
    assert!(matches!(block_on(load.commit(receipt(&slice))), CommitOutcome::Committed));
    table.restore(version);
    assert_eq!(table.rows(), [row(10, 1)]);
    assert!(block_on(table.receipts(&slice.interval)).unwrap().found.is_empty());
    assert_eq!(table.version(), version + 2);
}
