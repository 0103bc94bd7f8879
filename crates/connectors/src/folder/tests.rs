//! The contract for every format, and what the other writers of a folder do.

use std::path::Path;
use std::sync::Arc;

use retrofill_core::connector::{CommitOutcome, Load, SliceLoad, Standing, Target};
use retrofill_core::digest::Digest;
use retrofill_core::error::Kind;
use retrofill_core::receipt::Receipt;

use super::{FileFormat, FolderSettings, FolderTarget};
use crate::testkit::rows::{HOUR, Sum, columns, digest, hours, rows};
use crate::testkit::suite::{filled, load, receipt};

fn open(format: FileFormat) -> (Arc<dyn Target>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = serde_json::json!({ "path": "table", "format": format });
    let settings: FolderSettings = serde_json::from_value(settings).expect("well formed");
    let target = FolderTarget::open(settings, dir.path()).expect("opened");
    (Arc::new(target), dir)
}

mod csv {
    crate::testkit::conformance!(target: || super::super::open(super::super::FileFormat::Csv));
}

mod ndjson {
    crate::testkit::conformance!(target: || super::super::open(super::super::FileFormat::Ndjson));
}

mod parquet {
    crate::testkit::conformance!(target: || super::super::open(super::super::FileFormat::Parquet));
}

/// The first ten hours, filled with two rows and not yet committed.
async fn waiting(target: &dyn Target) -> (SliceLoad, Box<dyn Load>, Receipt) {
    target.prepare(&columns()).await.unwrap();
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR], "a", 3));
    let load = filled(target, &slice, &batch).await;
    let proof = receipt(&slice, &digest(&batch), &Digest::default());
    (slice, load, proof)
}

/// Another program adds a row of the fourth hour.
fn live(dir: &Path, name: &str, hour: u32) {
    let header = "Series,ts,flag,count 32,count,level,note,day";
    let text = format!("{header}\nx,1970-01-01T0{hour}:00:00Z,,,,,,\n");
    std::fs::write(dir.join("table").join(name), text).unwrap();
}

#[tokio::test]
async fn rows_of_others_that_come_before_the_commit_are_handed_over() {
    let (target, dir) = open(FileFormat::Csv);
    let (_, load, proof) = waiting(target.as_ref()).await;
    live(dir.path(), "part-0.csv", 3);
    let CommitOutcome::Moved(mut load) = load.commit(proof.clone()).await else {
        panic!("a row that came was not seen")
    };
    let mut sum = Sum::default();
    load.arrivals(&mut sum).await.unwrap();
    assert_eq!(sum.0.count, 1);
    // That very row is changed before the load is committed on it.
    live(dir.path(), "part-0.csv", 4);
    let outcome = load.commit(proof).await;
    let CommitOutcome::NotCommitted(e) = outcome else { panic!("a changed file was not seen") };
    assert_eq!(e.kind(), Kind::Unavailable, "{e}");
}

/// The names in a folder below the target's.
fn names(dir: &Path, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("table").join(below)).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_receipt_counts_from_the_name_of_its_file_on() {
    let (target, dir) = open(FileFormat::Csv);
    let (slice, load, proof) = waiting(target.as_ref()).await;
    assert!(matches!(load.commit(proof).await, CommitOutcome::Committed));
    // As a kill leaves it between the name and the last name of the receipt.
    let receipts = format!("_retrofill/receipts/{}", slice.plan);
    let [body] = &names(dir.path(), &receipts)[..] else { panic!("one receipt") };
    let at = dir.path().join("table").join(&receipts);
    let pending = at.join(body.replace(".json", ".0a.pending"));
    std::fs::rename(at.join(body), &pending).unwrap();
    let known = target.receipts(&slice.interval).await.unwrap();
    assert_eq!((known.found.len(), known.lost.len()), (1, 0));
    assert_eq!(known.found[0].standing, Standing::Sound);
    assert!(target.is_committed(&slice.plan, &slice.slice).await.unwrap());
    // And as it leaves it while a file is not yet whole.
    std::fs::write(at.join(".retrofill-00.tmp"), "{").unwrap();
    std::fs::write(dir.path().join("table/_retrofill/.retrofill-01.tmp"), "").unwrap();
    target.prepare(&columns()).await.unwrap();
    assert_eq!(&names(dir.path(), &receipts), std::slice::from_ref(body));
    assert!(!dir.path().join("table/_retrofill/.retrofill-01.tmp").exists());
    // As it leaves it before the name: there was no such load.
    std::fs::rename(at.join(body), &pending).unwrap();
    let data = names(dir.path(), "").into_iter().find(|n| n.starts_with("retrofill-")).unwrap();
    std::fs::remove_file(dir.path().join("table").join(data)).unwrap();
    let known = target.receipts(&slice.interval).await.unwrap();
    assert_eq!((known.found.len(), known.lost.len()), (0, 0));
    assert!(!target.is_committed(&slice.plan, &slice.slice).await.unwrap());
    target.prepare(&columns()).await.unwrap();
    assert_eq!(names(dir.path(), &receipts), [""; 0]);
}

#[tokio::test]
async fn a_file_without_its_receipt_is_a_lost_commit() {
    let (target, dir) = open(FileFormat::Parquet);
    let (slice, load, proof) = waiting(target.as_ref()).await;
    assert!(matches!(load.commit(proof).await, CommitOutcome::Committed));
    std::fs::remove_dir_all(dir.path().join("table/_retrofill/receipts")).unwrap();
    let known = target.receipts(&slice.interval).await.unwrap();
    assert_eq!((known.found.len(), known.lost.len()), (0, 1));
    assert_eq!(known.lost[0].slice, slice.slice);
    // Its rows are held all the same.
    let settings = serde_json::json!({ "path": "table", "format": "parquet" });
    let settings: FolderSettings = serde_json::from_value(settings).unwrap();
    let again = FolderTarget::open(settings, dir.path()).unwrap();
    let mut load = again.begin(&load_of(2)).await.unwrap();
    let mut sum = Sum::default();
    load.held(&mut sum).await.unwrap();
    assert_eq!(sum.0.count, 2);
}

fn load_of(generation: u64) -> SliceLoad {
    load(hours(0, 10), generation)
}
