//! The judges: programs in Python that read tables with other people's readers.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xtask::need::{self, Need};
use xtask::python;

use crate::harness::{Job, Ran};

/// Whether the judges are here. Where they are not, says that this test is skipped.
#[track_caller]
pub(crate) fn here(test: &str) -> bool {
    need::here(test, &[Need::Python])
}

/// The judge, ready to run.
pub(crate) fn judge(args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/judge.py");
    let mut command = Command::new(python::found().expect("the test looked for it"));
    command.arg(script).args(args);
    command
}

/// Runs the judge on the table of a job; gives every line it printed.
#[track_caller]
pub(crate) fn ask(job: &Job, what: &str, args: &[&str]) -> Vec<Value> {
    let ran: Ran = judge(&[what]).arg(job.table()).args(args).output().unwrap().into();
    let ran = ran.ended(0);
    ran.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The table holds exactly the rows of the source files; gives how many.
#[track_caller]
pub(crate) fn equal(job: &Job) -> u64 {
    let sources = job.sources();
    let mut args = vec![job.null];
    args.extend(sources.iter().map(|s| s.to_str().unwrap()));
    ask(job, "equal", &args)[0]["rows"].as_u64().unwrap()
}

/// The same, as an answer.
pub(crate) fn is_equal(job: &Job) -> bool {
    let sources = job.sources();
    let out = judge(&["equal"]).arg(job.table()).arg(job.null).args(sources).output().unwrap();
    out.status.success()
}

impl Job {
    /// The table holds exactly these rows of CSV.
    #[track_caller]
    pub(crate) fn holds(&self, good: &str) {
        if here("Job::holds") {
            let path = self.path("good.csv");
            std::fs::write(&path, good).unwrap();
            let args = ["", path.to_str().unwrap()];
            let rows = ask(self, "equal", &args)[0]["rows"].as_u64().unwrap();
            assert!(rows > 0, "the table is empty");
        }
    }
}

#[test]
fn the_judge_sees_a_missing_and_a_doubled_row() {
    if !here("judge::the_judge_sees_a_missing_and_a_doubled_row") {
        return;
    }
    let job = Job::example();
    job.run().ended(0);
    assert_eq!(equal(&job), 26_115);
    let first = &job.sources()[0];
    let text = std::fs::read_to_string(first).unwrap();
    let line = text.lines().nth(5).unwrap();
    std::fs::write(first, text.replacen(&format!("{line}\n"), "", 1)).unwrap();
    assert!(!is_equal(&job), "a row too many in the table was not seen");
    std::fs::write(first, text.clone() + line + "\n").unwrap();
    assert!(!is_equal(&job), "a row missing from the table was not seen");
    std::fs::write(first, text.replacen("39.02", "39.03", 1)).unwrap();
    assert!(!is_equal(&job), "a changed value was not seen");
}
