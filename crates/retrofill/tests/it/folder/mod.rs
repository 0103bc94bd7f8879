//! Folders of files that other programs write too: loaded, killed, raced for and damaged, and
//! judged by other readers.

mod example;
mod faults;
mod loads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::python;

use crate::harness::{Job, Ran, copy};
use crate::judge;

const FORMATS: [&str; 3] = ["csv", "ndjson", "parquet"];

/// Rows of the example that are in the folder before: the second half of the year, and some of
/// June.
const LIVE: &str = "time_hour >= '2013-06-20' AND (month > 6 OR origin = 'EWR')";

fn here(test: &str) -> bool {
    judge::here(&format!("folder::{test}"))
}

/// The judge of folders, run to its end.
#[track_caller]
fn ask(args: &[&str], files: &[PathBuf]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/folder.py");
    let mut command = Command::new(python::found().expect("the test looked for it"));
    let ran: Ran = command.arg(script).args(args).args(files).output().unwrap().into();
    ran.ended(0).stdout
}

fn spec(format: &str, more: &str) -> String {
    format!(
        "name: folder\nsource: {{ csv: {{ path: \"data/*.csv\", null: [\"NA\"] }} }}\n\
         target: {{ files: {{ path: ./out, format: {format} }} }}\n\
         rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: 1mo }}\n{more}\n"
    )
}

/// The example, with a folder that another program has written some of its rows into.
fn begun(format: &str, more: &str) -> Job {
    let job = Job::example();
    fs::write(job.path("backfill.yaml"), spec(format, more)).unwrap();
    let out = job.table();
    ask(&["make", format, out.to_str().unwrap(), "3", LIVE, "NA"], &job.sources());
    copy(&out, &job.path("before"));
    job
}

/// The folder holds what it held before, and what that lacked of the source. Gives the rows.
#[track_caller]
fn equal(job: &Job, format: &str) -> u64 {
    let (out, before) = (job.table(), job.path("before"));
    let (out, before) = (out.to_str().unwrap(), before.to_str().unwrap());
    let said = ask(&["equal", format, out, before, "origin,time_hour", "NA"], &job.sources());
    let said: Value = serde_json::from_str(said.trim()).unwrap();
    said["rows"].as_u64().unwrap()
}

/// The data files of ours.
fn ours(job: &Job) -> Vec<PathBuf> {
    let files = fs::read_dir(job.table()).unwrap().map(|f| f.unwrap().path());
    let name = |p: &Path| p.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = files.filter(|p| name(p).starts_with("retrofill-")).collect();
    files.sort();
    files
}

/// What a run leaves beside the data is receipts, the columns and a lock.
#[track_caller]
fn no_litter(job: &Job) {
    let left: Vec<_> = job.files().into_keys().collect();
    let litter = |p: &&PathBuf| {
        let text = p.to_str().unwrap();
        ["/work.", ".pending", "/.retrofill-"].iter().any(|word| text.contains(word))
    };
    assert!(!left.iter().any(|p| litter(&p)), "{left:?}");
}
