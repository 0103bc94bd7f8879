//! Creating, loading, sharing commits, and what others do meanwhile.

use retrofill_connectors::delta::{DeltaSettings, DeltaTarget};
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{Source as _, SurveyRequest, Target as _};
use retrofill_core::error::Kind;
use retrofill_core::spec::Mode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let target = open(dir.path());
    assert_eq!(target.table().await.unwrap(), None);
    assert!(target.receipts(&always()).await.unwrap().found.is_empty());
    target.prepare(&columns()).await.unwrap();
    target.prepare(&columns()).await.unwrap();
    let names: Vec<_> =
        target.table().await.unwrap().unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["series", "time", "value"], "the source's order");

    let mut written = rows(0, 3_000);
    written[7].2 = None;
    load(&target, 0, &written).await;
    load(&target, 1, &rows(1, 5)).await;

    let again = open(dir.path());
    assert_eq!(held(&again, 0).await.unwrap(), Kept(written).sorted());
    assert_eq!(held(&again, 1).await.unwrap(), Kept(rows(1, 5)).sorted());
    assert!(held(&again, 2).await.unwrap().is_empty());
    let found = again.receipts(&always()).await.unwrap().found;
    assert_eq!(found.len(), 2);
    assert_eq!(again.receipts(&interval(1)).await.unwrap().found.len(), 1);
    assert_eq!(super::names(dir.path(), ""), {
        let mut names = data_files(dir.path());
        names.extend(["_delta_log".to_owned(), "_retrofill".to_owned()]);
        names.sort();
        names
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_generation_is_committed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (prepared(dir.path()).await, open(dir.path()));
    let slice = slice(0, 1);
    let first = sealed(&one, &slice, &rows(0, 10)).await;
    let zombie = sealed(&other, &slice, &rows(0, 10)).await;
    committed(first.commit(receipt(&slice)).await);
    let error = refused(zombie.commit(receipt(&slice)).await);
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    assert_eq!(data_files(dir.path()).len(), 1, "the loser's file is gone");
    assert_eq!(held(&one, 0).await.unwrap().len(), 10);

    let next = super::slice(0, 2);
    committed(sealed(&one, &next, &[]).await.commit(receipt(&next)).await);
    let found = one.receipts(&always()).await.unwrap().found;
    assert_eq!(found.len(), 1, "only the newest generation counts");
    assert_eq!(found[0].receipt.latest().generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_share_log_entries() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(prepared(dir.path()).await);
    let tasks: Vec<_> = (0..32)
        .map(|hour| {
            let target = target.clone();
            tokio::spawn(async move { load(&target, hour, &rows(hour, 100)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let entries = entries(dir.path()).len();
    assert!(entries < 17, "32 slices took {entries} log entries");
    let again = open(dir.path());
    for hour in 0..32 {
        assert_eq!(held(&again, hour).await.unwrap(), Kept(rows(hour, 100)).sorted());
    }
    assert_eq!(again.receipts(&always()).await.unwrap().found.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_slice_leaves_a_receipt_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &[]).await;
    assert!(data_files(dir.path()).is_empty());
    assert_eq!(open(dir.path()).receipts(&always()).await.unwrap().found.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_arrive_meanwhile_are_shown_before_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (prepared(dir.path()).await, open(dir.path()));
    let slice = slice(0, 1);
    let load = sealed(&ours, &slice, &rows(0, 10)).await;

    // Another plan, so that its transactions are not ours.
    let mut foreign = super::slice(1, 1);
    foreign.plan = PlanId::new("f00d");
    committed(sealed(&theirs, &foreign, &rows(1, 3)).await.commit(receipt(&foreign)).await);
    let mut foreign = super::slice(0, 1);
    foreign.plan = PlanId::new("f00d");
    let late = vec![(5 * 1_000 + 7, Some("late".to_owned()), Some(1.0))];
    committed(sealed(&theirs, &foreign, &late).await.commit(receipt(&foreign)).await);

    let mut load = moved(load.commit(receipt(&slice)).await);
    let load_again = {
        let mut arrived = Kept::default();
        load.arrivals(&mut arrived).await.unwrap();
        assert_eq!(arrived.0, late);
        load
    };
    committed(load_again.commit(receipt(&slice)).await);
    assert_eq!(held(&ours, 0).await.unwrap().len(), 11);
    assert_eq!(held(&ours, 1).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_arrive_elsewhere_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (prepared(dir.path()).await, open(dir.path()));
    let slice = slice(0, 1);
    let waiting = sealed(&ours, &slice, &rows(0, 10)).await;
    load(&theirs, 1, &rows(1, 3)).await;
    committed(waiting.commit(receipt(&slice)).await);
    assert_eq!(entries(dir.path()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_the_same_rows_are_decided_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let one = slice(0, 1);
    let mut two = slice(0, 1);
    two.plan = PlanId::new("f00d");
    let (a, b) =
        (sealed(&target, &one, &rows(0, 4)).await, sealed(&target, &two, &rows(0, 4)).await);
    let (a, b) = tokio::join!(a.commit(receipt(&one)), b.commit(receipt(&two)));
    committed(a);
    let mut b = moved(b);
    let mut arrived = Kept::default();
    b.arrivals(&mut arrived).await.unwrap();
    assert_eq!(arrived.sorted(), Kept(rows(0, 4)).sorted());
    b.abort().await.unwrap();
    assert_eq!(held(&target, 0).await.unwrap().len(), 4);
    assert_eq!(data_files(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let gone = slice(0, 1);
    let load = sealed(&target, &gone, &rows(0, 4)).await;
    {
        let mut commit = Box::pin(load.commit(receipt(&gone)));
        assert!(futures::poll!(commit.as_mut()).is_pending());
    }
    super::load(&target, 1, &rows(1, 4)).await;
    assert_eq!(held(&target, 1).await.unwrap().len(), 4);
    let receipts = target.receipts(&interval(0)).await.unwrap().found.len();
    let held = held(&target, 0).await.unwrap().len();
    assert!((receipts, held) == (0, 0) || (receipts, held) == (1, 4), "{receipts} {held}");
    assert_eq!(data_files(dir.path()).len(), 1 + receipts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    sealed(&target, &slice(0, 1), &rows(0, 4)).await.abort().await.unwrap();
    drop(sealed(&target, &slice(0, 1), &rows(0, 4)).await);
    let mut unsealed = target.begin(&slice(0, 1)).await.unwrap();
    unsealed.write(batch(&rows(0, 4))).await.unwrap();
    unsealed.abort().await.unwrap();
    assert_eq!(super::names(dir.path(), ""), ["_delta_log"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_outside_the_slice_are_a_bug() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let mut load = target.begin(&slice(0, 1)).await.unwrap();
    load.write(batch(&[(HOUR, None, None)])).await.unwrap();
    assert_eq!(load.seal().await.unwrap_err().kind(), Kind::Bug);
    drop(load);
    assert!(data_files(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = DeltaTarget::open(DeltaSettings { path: "s3://b/t".into() }, dir.path()).unwrap_err();
    assert_eq!(s3.kind(), Kind::Config);
    assert!(s3.message().contains("only local paths"));

    std::fs::create_dir(dir.path().join("table")).unwrap();
    let target = open(dir.path());
    assert_eq!(target.table().await.unwrap(), None, "an empty directory is no table");
    std::fs::write(dir.path().join("table/notes.txt"), "mine").unwrap();
    let error = target.prepare(&columns()).await.unwrap_err();
    assert!(error.kind() == Kind::Config && error.message().contains("notes.txt"), "{error}");
    std::fs::remove_file(dir.path().join("table/notes.txt")).unwrap();

    target.prepare(&columns()).await.unwrap();
    let mut list: Vec<Column> = columns().iter().cloned().collect();
    list[2].ty = ColumnType::Text;
    let error = target.prepare(&Columns::new(list.clone()).unwrap()).await.unwrap_err();
    assert!(error.message().contains("`value` is double in the table but string"), "{error}");
    list[2].name = "other".into();
    let error = target.prepare(&Columns::new(list.clone()).unwrap()).await.unwrap_err();
    assert!(error.message().contains("no column `other`"), "{error}");
    list[0].ty = ColumnType::Instant { unit: Precision::Nanosecond };
    let error = target.prepare(&Columns::new(list).unwrap()).await.unwrap_err();
    assert!(error.message().contains("nanoseconds would be lost"), "{error}");

    let first = dir.path().join("table/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&first).unwrap();
    let keep =
        text.replace(r#""configuration":{"#, r#""configuration":{"delta.appendOnly":"true""#);
    assert_ne!(keep, text);
    std::fs::write(&first, keep).unwrap();
    for mode in [Mode::Upsert, Mode::Replace] {
        let mut slice = slice(0, 1);
        slice.mode = mode;
        let error = open(dir.path()).begin(&slice).await.err().unwrap();
        assert!(error.kind() == Kind::Config && error.message().contains("append-only"), "{error}");
    }
    let request = SurveyRequest { time: "value".into(), ..SurveyRequest::default() };
    assert!(target.survey(&request).await.unwrap_err().message().contains("not a time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_creators_make_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let target = open(dir.path());
            tokio::spawn(async move { target.prepare(&columns()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(entries(dir.path()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_plan_lacks_are_null() {
    let dir = tempfile::tempdir().unwrap();
    let mut list: Vec<Column> = columns().iter().cloned().collect();
    list.push(Column {
        name: "note".into(),
        ty: ColumnType::Text,
        role: Role::Value,
        position: 1,
        source: None,
    });
    let wide = Columns::new(list).unwrap();
    let target = open(dir.path());
    target.prepare(&wide).await.unwrap();
    load(&target, 0, &rows(0, 4)).await;
    let mut wide_slice = slice(0, 2);
    wide_slice.columns = Arc::new(wide);
    let mut load = target.begin(&wide_slice).await.unwrap();
    let mut sink = Nulls(0);
    load.held(&mut sink).await.unwrap();
    assert_eq!(sink.0, 4);
}

struct Nulls(usize);

#[async_trait]
impl RowSink for Nulls {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.0 += rows.column_by_name("note").unwrap().null_count();
        Ok(())
    }
}
