//! `trial` loads a sample where nobody sees it, tells what the full run will be like, and leaves
//! nothing behind, not even where it is killed.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::metrics::Metrics;

use crate::harness::Job;
use crate::judge;

fn trial(job: &Job, args: &[&str], code: i32) -> Value {
    job.call("trial", &[&["--output", "json"], args].concat()).ended(code).json()
}

/// What lies in the job's directory beside what the test put there.
fn names(job: &Job) -> Vec<String> {
    let entries = fs::read_dir(job.dir.path()).unwrap().flatten();
    let names = entries.map(|e| e.file_name().into_string().unwrap());
    // Nor what the program said.
    let ours = |name: &String| !name.ends_with(".stdout") && !name.ends_with(".stderr");
    let mut names: Vec<_> = names.filter(ours).collect();
    names.sort();
    names
}

fn within(range: &Value, number: u64) -> bool {
    let at = |name: &str| range[name].as_f64().unwrap();
    (at("from")..=at("to")).contains(&(number as f64))
}

#[test]
fn a_trial_leaves_nothing_and_tells_what_the_run_will_write() {
    let job = Job::example();
    let before = names(&job);
    let text = job.call("trial", &[]).ended(0).stdout;
    assert!(text.contains(" of 12: 12 CSV files"), "{text}");
    assert!(text.contains("the full run takes about"), "{text}");
    assert!(text.ends_with("Next: retrofill run\n"), "{text}");
    let line = trial(&job, &["--slices", "5", "--summary-file", "said.json"], 0);
    let (slices, rows) = (&line["slices"], &line["rows"]);
    assert!(slices["total"].as_u64().unwrap() >= 5, "{line}");
    assert_eq!((&slices["verified"], &line["status"]), (&slices["total"], &"verified".into()));
    assert_eq!(rows["written"], rows["read"]);
    let said: Value =
        serde_json::from_str(&fs::read_to_string(job.path("said.json")).unwrap()).unwrap();
    assert_eq!(said, line);
    fs::remove_file(job.path("said.json")).unwrap();
    assert_eq!(names(&job), before, "something is left");
    assert!(within(&line["forecast"]["written"], 26_115), "{line}");
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 26_115);
}

#[test]
fn rows_that_are_there_are_seen_and_stay_as_they_are() {
    if !judge::here("trial::rows_that_are_there_are_seen_and_stay_as_they_are") {
        return;
    }
    let job = Job::example();
    job.run().ended(0);
    let (files, beside) = (job.files(), names(&job));
    let line = trial(&job, &[], 0);
    assert_eq!((&line["rows"]["written"], &line["rows"]["conflicting"]), (&0.into(), &0.into()));
    assert_eq!(line["rows"]["already_present"], line["rows"]["read"]);
    assert!(line["rows"]["read"].as_u64().unwrap() > 0, "{line}");
    assert_eq!((files, beside), (job.files(), names(&job)), "the target was touched");
    assert_eq!(judge::equal(&job), 26_115);
    job.nothing_to_do();
}

#[test]
fn refused_rows_are_shown_and_counted_ahead() {
    let job = Job::metrics(&Metrics::new(12_000, 4), "");
    let path = job.path("data/metrics.csv");
    let text = fs::read_to_string(&path).unwrap();
    // Every tenth line cannot be loaded.
    let damage = |(n, line): (usize, &str)| match (n % 10, line.rsplit_once(',')) {
        (7, Some((before, _))) => format!("{before},broken\n"),
        _ => format!("{line}\n"),
    };
    fs::write(&path, text.lines().enumerate().map(damage).collect::<String>()).unwrap();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let typed = spec.replace("csv: {", "csv: { types: { usage_steal: float64 },");
    fs::write(job.path("backfill.yaml"), typed).unwrap();
    let text = job.call("trial", &["--set", "range.every=5min"]).ended(6).stdout;
    assert!(text.contains("refused  data/metrics.csv:8  usage_steal: is not a number"), "{text}");
    assert!(text.contains("rejects: { max: 1"), "{text}");
    let forecast = &trial(&job, &["--set", "range.every=5min"], 6)["forecast"];
    assert!(within(&forecast["rejected"], 1_200), "{forecast}");
    assert!(within(&forecast["written"], 10_800), "{forecast}");
    assert!(!within(&forecast["rejected"], 600), "{forecast}");
}

/// The process that waits for the end of a trial in this job's directory.
fn watcher(job: &Job) -> Option<rustix::process::Pid> {
    let here = fs::canonicalize(job.dir.path()).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let waits = |dir: &PathBuf| {
        let words = fs::read(dir.join("cmdline")).unwrap_or_default();
        fs::read_link(dir.join("cwd")).is_ok_and(|cwd| cwd == here)
            && words.split(|b| *b == 0).any(|word| word == b"--sweep")
    };
    let pid = |dir: PathBuf| dir.file_name()?.to_str()?.parse().ok();
    let found = entries.map(|e| e.path()).find(waits);
    rustix::process::Pid::from_raw(found.and_then(pid)?)
}

fn shadows(job: &Job) -> usize {
    names(job).iter().filter(|name| name.starts_with(".out.trial-")).count()
}

/// Waits for what another process does.
#[track_caller]
fn comes(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_mins(1), "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_killed_trial_leaves_is_removed() {
    let job = Job::example();
    for watched in [true, false] {
        let hold = [("RETROFILL_HOLD", "commit:2")];
        let mut started = job.start_as("trial", &[], &hold);
        assert!(started.says("held at commit"), "{}", started.stderr());
        assert_eq!(shadows(&job), 1);
        comes("a watcher", || watcher(&job).is_some());
        // A second trial of the job meanwhile.
        let second = job.call("trial", &[]).ended(5);
        assert!(second.stderr.contains("another trial of this job is under way"));
        if !watched {
            let pid = watcher(&job).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        started.kill();
        if watched {
            comes("a table without a shadow", || shadows(&job) == 0);
        } else {
            assert_eq!(shadows(&job), 1);
            trial(&job, &[], 0);
            assert_eq!(shadows(&job), 0);
        }
    }
    comes("the end of all watchers", || watcher(&job).is_none());
    assert!(!job.table().exists());
    job.run().ended(0);
}
