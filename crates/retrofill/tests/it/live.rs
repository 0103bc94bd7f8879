//! A live writer appends to the same intervals all the time while history is loaded.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use xtask::metrics::Metrics;

use crate::harness::Job;
use crate::judge;

const ROWS: u64 = 300_000;

/// The writer beside the runner; stops when it is told to.
struct Writer<'a> {
    job: &'a Job,
    child: Child,
}

impl<'a> Writer<'a> {
    fn start(job: &'a Job) -> Self {
        let mut command = judge::judge(&["append"]);
        command.arg(job.table()).args([job.path("live.jsonl"), job.path("stop")]);
        command.arg(&job.sources()[0]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Writer { job, child }
    }

    fn commits(&self) -> usize {
        let log = fs::read_to_string(self.job.path("live.jsonl")).unwrap_or_default();
        log.lines().count()
    }

    fn stop(mut self) {
        File::create(self.job.path("stop")).unwrap();
        assert!(self.child.wait().unwrap().success(), "the live writer failed");
    }
}

#[test]
fn live_rows_stay_and_no_key_stands_twice() {
    if !judge::here("live::live_rows_stay_and_no_key_stands_twice") {
        return;
    }
    let job = Job::metrics(&Metrics::new(ROWS, 33), "limits: { rows_per_second: 25000 }");
    let writer = Writer::start(&job);
    while writer.commits() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let before = writer.commits();
    let last = job.run().ended(0).json();
    let during = writer.commits() - before;
    writer.stop();
    assert!(during >= 5, "only {during} live commits fell into the run");
    let log = job.path("live.jsonl");
    let source = job.sources().remove(0);
    let found = judge::ask(&job, "live", &[log.to_str().unwrap(), source.to_str().unwrap()]);
    let conflicts = found[0]["conflicts"].as_u64().unwrap();
    println!("{during} live commits during the run, {conflicts} conflicts");
    assert!(conflicts > 0, "no live row had a key of the source");
    assert_eq!(last["rows"]["conflicting"].as_u64(), Some(conflicts));
    assert_eq!(last["rows"]["written"].as_u64(), Some(ROWS - conflicts));
    assert_eq!(listed(&job), conflicts, "not every conflict is listed");
    job.nothing_to_do();
}

/// How many conflicts stand in the files of the state dir.
fn listed(job: &Job) -> u64 {
    let mut lists = Vec::new();
    let mut open = vec![job.state()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "jsonl") {
                lists.push(path);
            }
        }
    }
    let text: String = lists.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().filter(|line| line.contains("\"conflict_v1\"")).count() as u64
}
