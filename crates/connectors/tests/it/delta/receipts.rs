//! Receipts, and what became of their data.

use retrofill_core::connector::{Commit, Standing, Target as _};
use retrofill_core::error::Kind;
use serde_json::json;

use super::*;

async fn standing(target: &DeltaTarget) -> Standing {
    let mut found = target.receipts(&always()).await.unwrap().found;
    assert_eq!(found.len(), 1);
    found.remove(0).standing
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_cut_data_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 500)).await;
    assert_eq!(standing(&target).await, Standing::Sound);
    let name = data_files(dir.path()).remove(0);
    let path = dir.path().join("table").join(&name);
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(standing(&target).await, Standing::Recheck(why) if why.contains(&name)));
    let error = held(&target, 0).await.unwrap_err();
    assert!(error.kind() == Kind::Mismatch && error.message().contains(&name), "{error}");

    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 64].fill(0xff);
    let end = torn.len();
    torn[end - 64..end - 8].fill(0xff);
    std::fs::write(&path, &torn).unwrap();
    let error = held(&target, 0).await.unwrap_err();
    assert!(error.kind() == Kind::Mismatch && error.message().contains(&name), "{error}");

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(standing(&target).await, Standing::Recheck(why) if why.contains(&name)));
    let error = held(&target, 0).await.unwrap_err();
    assert!(error.kind() == Kind::Mismatch && error.message().contains("is missing"), "{error}");

    std::fs::write(&path, &whole).unwrap();
    assert_eq!(standing(&target).await, Standing::Sound);
    assert_eq!(held(&target, 0).await.unwrap().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_outlive_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    for hour in 0..105 {
        load(&target, hour, &rows(hour, 1 + hour % 2)).await;
    }
    let checkpoint = "00000000000000000100.checkpoint.parquet".to_owned();
    target.idle().await;
    assert!(names(dir.path(), "_delta_log").contains(&checkpoint));
    // Only the checkpoint can tell now what came before it.
    for version in 0..=100 {
        let entry = dir.path().join(format!("table/_delta_log/{version:020}.json"));
        std::fs::remove_file(entry).unwrap();
    }
    let again = open(dir.path());
    let found = again.receipts(&always()).await.unwrap().found;
    assert_eq!(found.len(), 105);
    assert!(found.iter().all(|f| f.standing == Standing::Sound));
    assert_eq!(again.table().await.unwrap(), target.table().await.unwrap());
    assert_eq!(held(&again, 7).await.unwrap(), Kept(rows(7, 2)).sorted());
    let error =
        refused(sealed(&again, &slice(3, 1), &[]).await.commit(receipt(&slice(3, 1))).await);
    assert_eq!(error.kind(), Kind::Fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_its_transaction_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let receipts = dir.path().join("table/_retrofill/receipts/9f2c");
    let body = receipts.join(&names(dir.path(), "_retrofill/receipts/9f2c")[0]);
    let text = std::fs::read_to_string(&body).unwrap();
    let second = text.replace("\"generation\":1", "\"generation\":2");
    std::fs::write(receipts.join(format!("{}.2.json", slice(0, 1).slice)), second).unwrap();
    std::fs::write(receipts.join("torn.1.json"), &text[..text.len() / 2]).unwrap();
    let found = target.receipts(&always()).await.unwrap().found;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].receipt.latest().generation, 1);

    std::fs::remove_file(&body).unwrap();
    let known = target.receipts(&always()).await.unwrap();
    let (plan, id) = (slice(0, 1).plan, slice(0, 1).slice);
    assert!(known.found.is_empty());
    assert_eq!(known.lost, [Commit { plan: plan.clone(), slice: id.clone(), generation: 1 }]);
    for kin in [id.clone(), id.child(0), id.child(1).child(0)] {
        assert!(target.is_committed(&plan, &kin).await.unwrap(), "{kin}");
    }
    assert!(!target.is_committed(&plan, &slice(1, 1).slice).await.unwrap());
    let again = sealed(&target, &slice(0, 1), &[]).await.commit(receipt(&slice(0, 1))).await;
    assert_eq!(refused(again).kind(), Kind::Fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runners_of_one_generation_leave_the_winners_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let (slice, other) = (slice(0, 1), open(dir.path()));
    let late = sealed(&other, &slice, &rows(0, 9)).await;
    let early = sealed(&target, &slice, &rows(0, 5)).await;
    committed(early.commit(receipt(&slice)).await);
    assert_eq!(refused(late.commit(receipt(&slice)).await).kind(), Kind::Fenced);
    assert_eq!(names(dir.path(), "_retrofill/receipts/9f2c").len(), 1);
    assert_eq!(standing(&target).await, Standing::Sound);

    // One that was stopped between body and log entry leaves its body.
    let path = dir.path().join("table/_retrofill/receipts/9f2c");
    let body = path.join(&names(dir.path(), "_retrofill/receipts/9f2c")[0]);
    let text = std::fs::read_to_string(&body).unwrap();
    let file = data_files(dir.path()).remove(0);
    let stray = text.replace(&file, "part-never-committed.parquet");
    let stray = stray.replace("\"version\":1", "\"version\":2");
    std::fs::write(path.join(format!("{}.1.0000.json", slice.slice)), stray).unwrap();
    assert_eq!(names(dir.path(), "_retrofill/receipts/9f2c").len(), 2);
    assert_eq!(standing(&target).await, Standing::Sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_put_on_files_that_were_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let old = data_files(dir.path()).remove(0);
    let at = |name: &str| dir.path().join("table").join(name);
    std::fs::copy(at(&old), at("compacted.parquet")).unwrap();
    let size = std::fs::metadata(at(&old)).unwrap().len();
    foreign_entry(
        dir.path(),
        &[
            json!({ "remove": { "path": old, "dataChange": false, "deletionTimestamp": 1 } }),
            json!({ "add": {
                "path": "compacted.parquet", "partitionValues": {}, "size": size,
                "modificationTime": 1, "dataChange": false,
            }}),
        ],
    );
    assert!(matches!(standing(&target).await, Standing::Recheck(_)));
    let mut look = target.begin(&slice(0, 1)).await.unwrap();
    look.held(&mut Kept::default()).await.unwrap();
    let found = target.receipts(&always()).await.unwrap().found.remove(0).receipt;
    look.refresh(found).await.unwrap();
    assert_eq!(standing(&target).await, Standing::Sound);
    assert_eq!(names(dir.path(), "_retrofill/receipts/9f2c").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wreck_of_ours_leaves_with_the_load_that_brings_its_rows_back() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 50)).await;
    load(&target, 1, &rows(1, 50)).await;
    let dead = data_files(dir.path()).into_iter().find(|n| n.contains("19700101T000000Z")).unwrap();
    std::fs::remove_file(dir.path().join("table").join(&dead)).unwrap();
    let again = slice(0, 2);
    let repair = sealed(&target, &again, &rows(0, 50)).await;
    committed(repair.commit(receipt(&again)).await);
    assert_eq!(held(&open(dir.path()), 0).await.unwrap(), Kept(rows(0, 50)).sorted());
    assert_eq!(held(&target, 1).await.unwrap().len(), 50);
    let last = entries(dir.path()).pop().unwrap();
    let text = std::fs::read_to_string(dir.path().join("table/_delta_log").join(last)).unwrap();
    assert_eq!(text.matches("\"remove\"").count(), 1, "{text}");
    assert!(text.contains(&dead), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wreck_that_holds_rows_of_others_stays() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 50)).await;
    let add = json!({ "add": {
        "path": "live.parquet", "partitionValues": {}, "size": 7,
        "modificationTime": 0, "dataChange": true,
    }});
    foreign_entry(dir.path(), &[add]);
    let error = target.begin(&slice(0, 2)).await.err().unwrap();
    assert!(error.kind() == Kind::Mismatch && error.message().contains("live.parquet"), "{error}");
    assert!(error.hint_text().unwrap().contains("rows of others"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_in_the_same_place_has_no_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let waiting = sealed(&target, &slice(1, 1), &rows(1, 5)).await;
    std::fs::remove_dir_all(dir.path().join("table/_delta_log")).unwrap();
    for name in data_files(dir.path()) {
        std::fs::remove_file(dir.path().join("table").join(name)).unwrap();
    }
    open(dir.path()).prepare(&columns()).await.unwrap();
    assert!(target.receipts(&always()).await.unwrap().found.is_empty());
    assert!(held(&target, 0).await.unwrap().is_empty());
    let error = refused(waiting.commit(receipt(&slice(1, 1))).await);
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    load(&target, 0, &rows(0, 5)).await;
    assert_eq!(standing(&target).await, Standing::Sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_another_table_identity_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let first =
        std::fs::read_to_string(dir.path().join("table/_delta_log").join(&entries(dir.path())[0]));
    let mut metadata = first
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .find(|l| l.get("metaData").is_some())
        .unwrap();
    foreign_entry(dir.path(), &[metadata.clone()]);
    assert_eq!(target.receipts(&always()).await.unwrap().found.len(), 1);
    metadata["metaData"]["id"] = "another".into();
    foreign_entry(dir.path(), &[metadata]);
    assert!(target.receipts(&always()).await.unwrap().found.is_empty());
    assert_eq!(held(&target, 0).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_rewritten_minus_rows_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 500)).await;
    let name = data_files(dir.path()).remove(0);
    load(&target, 1, &rows(1, 400)).await;
    let other = data_files(dir.path()).into_iter().find(|n| *n != name).unwrap();
    std::fs::copy(dir.path().join("table").join(other), dir.path().join("table").join(&name))
        .unwrap();
    let found = target.receipts(&interval(0)).await.unwrap().found;
    assert!(matches!(&found[0].standing, Standing::Recheck(why) if why.contains(&name)));
    let error = held(&target, 0).await.unwrap_err();
    assert!(error.kind() == Kind::Mismatch && error.message().contains("bytes, not"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_taken_out_of_the_table_is_rechecked() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let next = slice(0, 2);
    let waiting = sealed(&target, &next, &[]).await;
    let name = data_files(dir.path()).remove(0);
    let remove = serde_json::json!({
        "remove": { "path": name, "dataChange": true, "deletionTimestamp": 1 },
    });
    foreign_entry(dir.path(), &[remove]);
    assert!(matches!(standing(&target).await, Standing::Recheck(why) if why.contains(&name)));
    let error = refused(waiting.commit(receipt(&next)).await);
    assert_eq!(error.kind(), Kind::Unavailable, "rows of the slice were removed: {error}");
    assert!(held(&target, 0).await.unwrap().is_empty());
}
