//! One slice at a time, as orchestrators do it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Job, Ran};
use crate::judge;

pub(crate) fn exec(job: &Job, slice: &str) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["exec", "plan.json", "--slice", slice, "--output", "json"]);
    program.current_dir(job.dir.path()).output().unwrap().into()
}

#[test]
fn every_slice_by_itself_makes_the_whole() {
    if !judge::here("exec::every_slice_by_itself_makes_the_whole") {
        return;
    }
    let job = Job::example();
    job.call("plan", &["-o", "plan.json"]).ended(0);
    let plan = std::fs::read_to_string(job.path("plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    for month in (1..=12).rev() {
        let slice = format!("2013{month:02}01T000000Z");
        let last = exec(&job, &slice).ended(0).json();
        assert_eq!(last["plan"], plan["id"]);
        assert_eq!(last["exit"], 0);
        assert!(last["rows"]["written"].as_u64().unwrap() > 2_000, "{last}");
        let again = exec(&job, &slice).ended(0).json();
        assert_eq!(again["rows"]["written"], 0, "a slice was loaded twice");
    }
    assert_eq!(judge::equal(&job), 26_115);
    job.nothing_to_do();
}

#[test]
fn an_unknown_slice_is_bad_usage() {
    let job = Job::example();
    job.call("plan", &["-o", "plan.json"]).ended(0);
    let ran = exec(&job, "19990101T000000Z").ended(2);
    assert!(ran.stderr.contains("19990101T000000Z"), "{}", ran.stderr);
    assert!(!job.table().join("_delta_log").exists(), "a refused call wrote a table");
}
