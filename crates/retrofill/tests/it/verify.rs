//! `verify` finds what happened to the data files of a table, and only that.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::Job;
use crate::judge;

/// The slice whose file is damaged.
const HIT: &str = "20130501T000000Z";

fn loaded() -> (Job, PathBuf) {
    let job = Job::example();
    let plan = job.run().ended(0).json()["plan"].as_str().unwrap().to_owned();
    let receipts = fs::read_dir(job.table().join(format!("_retrofill/receipts/{plan}"))).unwrap();
    let mut receipts = receipts.map(|e| e.unwrap());
    let ours = |e: &fs::DirEntry| e.file_name().to_str().unwrap().starts_with(HIT);
    let receipt = receipts.find(ours).unwrap().path();
    let receipt: Value = serde_json::from_str(&fs::read_to_string(receipt).unwrap()).unwrap();
    let file = job.table().join(receipt["anchor"]["files"][0]["path"].as_str().unwrap());
    (job, file)
}

/// `verify` ends with 3, blames the slice that was hit and no other.
#[track_caller]
fn only_the_hit_slice_is_mismatched(job: &Job) {
    let last = job.call("verify", &["--output", "json"]).ended(3).json();
    assert_eq!(last["status"], "mismatched");
    assert_eq!(last["slices"]["mismatched"], 1, "{last}");
    assert_eq!(last["slices"]["verified"], 11, "{last}");
    assert_eq!(last["exit"], 3);
    let words = job.call("verify", &[]).ended(3).stdout;
    assert!(words.contains(&format!("slice {HIT} mismatched")), "{words}");
    assert_eq!(job.count("mismatched"), 1);
    assert_eq!(job.count("verified"), 11);
}

/// A person selects what is mismatched: every row is back, and none twice.
#[track_caller]
fn repaired(job: &Job) {
    let done = job.call("run", &["--select", "mismatched", "--output", "json"]).ended(0).json();
    assert_eq!(done["slices"]["verified"], 12, "{done}");
    if judge::here("verify::repaired") {
        assert_eq!(judge::equal(job), 26_115);
    }
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
}

#[test]
fn an_untouched_table_is_verified() {
    let (job, _) = loaded();
    let before = job.files();
    let last = job.call("verify", &["--output", "json"]).ended(0).json();
    assert_eq!(last["status"], "verified");
    assert_eq!(last["slices"]["verified"], 12);
    assert_eq!(last["rows"]["read"], 0);
    assert_eq!(last["plan_rows"]["read"], 26_115);
    assert_eq!(before, job.files(), "verify wrote to the table");
}

#[test]
fn a_deleted_data_file_is_found() {
    let (job, file) = loaded();
    fs::remove_file(file).unwrap();
    only_the_hit_slice_is_mismatched(&job);
    repaired(&job);
}

#[test]
fn a_truncated_data_file_is_found() {
    let (job, file) = loaded();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    only_the_hit_slice_is_mismatched(&job);
    repaired(&job);
}

#[test]
fn a_damaged_data_file_is_found() {
    let (job, file) = loaded();
    let mut bytes = fs::read(&file).unwrap();
    // The middle of the file is a data page.
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 8] {
        *byte ^= 0x55;
    }
    fs::write(&file, bytes).unwrap();
    only_the_hit_slice_is_mismatched(&job);
    repaired(&job);
}

/// Every value can still be read: only the bytes tell.
#[test]
fn a_flipped_bit_that_changes_no_value_is_found() {
    let (job, file) = loaded();
    let mut bytes = fs::read(&file).unwrap();
    let author = bytes.windows(9).rposition(|w| w == b"retrofill").unwrap();
    bytes[author] ^= 1;
    fs::write(&file, bytes).unwrap();
    if judge::here("verify::a_flipped_bit_that_changes_no_value_is_found") {
        assert_eq!(judge::equal(&job), 26_115);
    }
    only_the_hit_slice_is_mismatched(&job);
    repaired(&job);
}

#[test]
fn a_data_file_rewritten_without_some_rows_is_found() {
    if !judge::here("verify::a_data_file_rewritten_without_some_rows_is_found") {
        return;
    }
    let (job, file) = loaded();
    let dropped = judge::ask(&job, "thin", &[file.to_str().unwrap()]);
    assert!(dropped[0]["dropped"].as_u64().unwrap() > 100);
    only_the_hit_slice_is_mismatched(&job);
    repaired(&job);
}

/// Another writer changes, moves and deletes rows: each is shown, and what they have in common.
#[test]
fn rows_that_differ_are_shown() {
    if !judge::here("verify::rows_that_differ_are_shown") {
        return;
    }
    let (job, _) = loaded();
    let stretch = |day: &str| {
        format!(
            "origin = 'EWR' AND time_hour >= '2013-05-{day}T06:00:00Z' \
             AND time_hour < '2013-05-{day}T10:00:00Z'"
        )
    };
    judge::ask(&job, "update", &[&stretch("03"), "temp", "temp + 1"]);
    judge::ask(&job, "delete", &[&stretch("10")]);
    let ran = job.call("verify", &["--level", "rows", "--output", "json"]).ended(3);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |class: &str| lines.iter().filter(|l| l["class"] == class).collect::<Vec<_>>();
    let (changed, missing) = (of("changed"), of("missing"));
    assert_eq!((changed.len(), missing.len(), of("extra").len()), (4, 4, 0), "{}", ran.stdout);
    assert_eq!(changed[0]["time"], "2013-05-03T06:00:00Z");
    assert_eq!(changed[0]["key"], serde_json::json!(["EWR"]));
    let temp = &changed[0]["columns"]["temp"];
    let number = |v: &Value| v.as_str().unwrap().parse::<f64>().unwrap();
    assert!((number(&temp["target"]) - number(&temp["source"]) - 1.0).abs() < 1e-9, "{temp}");
    assert_eq!(changed[0]["columns"].as_object().unwrap().len(), 1);
    let place = &missing[0]["place"];
    let line = place["line"].as_u64().unwrap() as usize;
    let file = fs::read_to_string(job.path(place["file"].as_str().unwrap())).unwrap();
    assert!(file.lines().nth(line - 1).unwrap().ends_with("2013-05-10T06:00:00Z"), "{place}");
    let words = job.call("verify", &["--level", "rows", "-n", "2"]).ended(3).stdout;
    assert_eq!(words.matches("    missing ").count(), 2, "{words}");
    assert!(ran.stdout.contains("every differing `temp` is 1 more in the target"), "{words}");
}
