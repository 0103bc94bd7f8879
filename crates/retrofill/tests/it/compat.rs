//! What earlier versions left on the disk, opened by this one. Each folder of `tests/compat` is
//! what `cargo xtask generate compat-fixture vN` wrote with the version of its time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Job, Ran, copy};

fn versions() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let mut versions: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    versions
}

/// A copy of one version's folder, its source as old as the plan says.
fn opened(version: &Path) -> (Job, Value) {
    let job = Job::new("");
    copy(version, job.dir.path());
    let plan: Value =
        serde_json::from_slice(&fs::read(job.path("state/plan.json")).unwrap()).unwrap();
    for file in plan["survey"]["files"].as_array().unwrap() {
        let stamp: u64 = file["stamp"].as_str().unwrap().parse().unwrap();
        let path = job.path(file["path"].as_str().unwrap());
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(stamp);
        fs::File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
    }
    (job, plan)
}

fn call(job: &Job, command: &str, args: &[&str]) -> Ran {
    job.call(command, &[args, &["--state-dir", "state"]].concat())
}

/// The rows that the fixture's second runs left, as the judge expects them.
const HELD: &str = "t,site,v,note\n2020-01-01T06:00:00Z,a,1,first\n2020-01-01T08:00:00Z,b,3,\n\
                    2020-01-02T06:00:00Z,a,40,live\n2020-01-02T07:00:00Z,b,5,\"with, comma\"\n\
                    2020-01-03T06:00:00Z,a,6,last\n";

#[test]
fn every_version_is_read_as_it_was_written() {
    for version in versions() {
        let (job, plan) = opened(&version);
        let name = version.display();
        let before = job.files();
        let status = call(&job, "status", &["--output", "json"]).ended(0).json();
        assert_eq!(status["slices"]["verified"], 3, "{name}: {status}");
        let log = call(&job, "log", &[]).ended(0).stdout;
        assert!(log.lines().count() > 20 && log.contains("undone"), "{name}: {log}");
        let shown = call(&job, "show", &["20200103T000000Z"]).ended(0).stdout;
        assert!(shown.contains("generation 3"), "{name}: {shown}");
        let last = call(&job, "verify", &["--output", "json"]).ended(0).json();
        assert_eq!(last["slices"]["verified"], 3, "{name}: {last}");
        let report = call(&job, "report", &["--output", "json"]).ended(0).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        let then = fs::read(job.path("report.json")).unwrap();
        let then: Value = serde_json::from_slice(&then).unwrap();
        for field in ["name", "plan_rows", "plan", "proof", "rejects", "conflicts", "slice_list"] {
            assert_eq!(report[field], then[field], "{name}: `{field}` of the report");
        }
        let ran = call(&job, "run", &[]).ended(0);
        assert!(ran.stdout.contains("nothing to do: 3 of 3"), "{name}: {}", ran.stdout);
        assert_eq!(ran.stderr, "", "{name}");
        assert_eq!(before, job.files(), "{name}: looking at the table changed it");
        job.holds(HELD);
        assert!(plan["id"].is_string());
    }
}

#[test]
fn a_plan_file_of_every_version_runs_by_exec() {
    for version in versions() {
        let (job, plan) = opened(&version);
        let here = job.dir.path().to_str().unwrap().to_owned();
        let mut plan = plan;
        plan["base_dir"] = here.into();
        fs::write(job.path("plan.json"), plan.to_string()).unwrap();
        for day in 1..=3 {
            let slice = format!("2020010{day}T000000Z");
            let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_retrofill"));
            program.args(["exec", "plan.json", "--slice", &slice, "--output", "json"]);
            program.args(["--state-dir", "fresh"]).current_dir(job.dir.path());
            let ran = Ran::from(program.output().unwrap()).ended(0);
            assert_eq!(ran.json()["rows"]["written"], 0, "{}: {ran:?}", version.display());
            let receipt: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
            assert_eq!(receipt["plan"], plan["id"]);
        }
        job.holds(HELD);
    }
}

/// The receipts alone, with their manifests, are enough to go on, and to go back.
#[test]
fn receipts_of_every_version_count() {
    for version in versions() {
        let (job, _) = opened(&version);
        fs::remove_dir_all(job.path("state")).unwrap();
        let last = call(&job, "run", &["--output", "json"]).ended(0).json();
        assert_eq!(last["rows"]["written"], 0, "{last}");
        assert_eq!(last["slices"]["verified"], 3, "{last}");
        // The lists of rejects and conflicts are made again, as the next generation.
        call(&job, "run", &["--output", "json"]).ended(0);
        call(&job, "undo", &["--yes"]).ended(0);
        job.holds("t,site,v,note\n2020-01-02T06:00:00Z,a,40,live\n");
    }
}
