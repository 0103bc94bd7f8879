//! Two runners on one plan, and runners that are told to stop.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use xtask::metrics::Metrics;

use crate::harness::Job;
use crate::judge;

const ROWS: u64 = 400_000;

/// Longer than a lease lives without a heartbeat.
const LEASE_GONE: Duration = Duration::from_secs(11);

/// Some seconds of loading: time to interfere.
fn slow() -> Job {
    Job::metrics(&Metrics::new(ROWS, 44), "limits: { concurrency: 1 }")
}

#[test]
fn a_second_runner_stands_back() {
    let job = slow();
    let mut first = job.start(&[], &[]);
    job.wait_for("loading", 1, &mut first);
    let second = job.run().ended(5);
    assert!(second.stderr.contains("is held by process"), "{}", second.stderr);
    first.end().ended(0);
    job.nothing_to_do();
}

#[test]
fn a_stopped_runner_is_taken_over_and_writes_nothing_more() {
    if !judge::here("runners::a_stopped_runner_is_taken_over_and_writes_nothing_more") {
        return;
    }
    let job = slow();
    let mut old = job.start(&[], &[]);
    job.wait_for("verified", 2, &mut old);
    job.wait_for("loading", 1, &mut old);
    old.signal(Signal::STOP);
    job.run().ended(5);
    sleep(LEASE_GONE);
    job.run().ended(0);
    assert_eq!(judge::equal(&job), ROWS);
    let before = job.files();
    old.signal(Signal::CONT);
    old.end().ended(5);
    let after = job.files();
    let new: Vec<_> = after.iter().filter(|(path, _)| !before.contains_key(*path)).collect();
    assert!(new.is_empty(), "the old runner left {new:?}");
    assert_eq!(judge::equal(&job), ROWS);
    job.nothing_to_do();
}

#[test]
fn one_interrupt_finishes_the_slice_in_hand() {
    let job = slow();
    let mut runner = job.start(&[], &[]);
    job.wait_for("verified", 1, &mut runner);
    job.wait_for("loading", 1, &mut runner);
    let (done, in_hand) = (job.count("verified"), job.count("loading"));
    runner.signal(Signal::INT);
    runner.end().ended(130);
    assert_eq!(job.count("loading"), 0);
    assert!(job.count("verified") >= done + in_hand, "{:?}", job.states());
    assert!(job.count("planned") > 0, "nothing was left: {:?}", job.states());
    finishes(&job);
}

#[test]
fn two_interrupts_roll_back_at_once() {
    let job = slow();
    let mut runner = job.start(&[], &[]);
    job.wait_for("loading", 1, &mut runner);
    runner.signal(Signal::INT);
    sleep(Duration::from_millis(100));
    let start = Instant::now();
    if runner.is_running() {
        runner.signal(Signal::INT);
    }
    runner.end().ended(130);
    assert!(start.elapsed() < Duration::from_secs(5), "rolling back took {:?}", start.elapsed());
    assert_eq!(job.count("loading"), 0, "{:?}", job.states());
    finishes(&job);
}

/// Nothing is in hand yet, so there is nothing to finish: a source of terabytes sorts for hours.
#[test]
fn an_interrupt_ends_the_sorting_of_the_source() {
    let metrics = Metrics { gzip: true, ..Metrics::new(ROWS, 44) };
    let job = Job::metrics(&metrics, "");
    let mut runner = job.start(&[], &[]);
    let made = |name: &str| {
        let copies = fs::read_dir(job.path(".retrofill/metrics/staging")).into_iter().flatten();
        copies.flatten().any(|copy| copy.path().join(name).exists())
    };
    while !made("bucket-0000.raw") {
        assert!(runner.is_running(), "nothing was sorted: {}", runner.stderr());
        sleep(Duration::from_millis(2));
    }
    runner.signal(Signal::INT);
    runner.end().ended(130);
    assert!(!made("distributed.json"), "the whole source was read");
    assert_eq!(job.states().keys().collect::<Vec<_>>(), ["planned"]);
    finishes(&job);
}

/// The same command again does the rest.
#[track_caller]
fn finishes(job: &Job) {
    let last = job.call("run", &["--output", "json"]).ended(0).json();
    assert_eq!(last["status"], "verified");
    assert_eq!(last["plan_rows"]["read"], ROWS);
    assert_eq!(last["plan_rows"]["written"], ROWS);
    job.nothing_to_do();
    if judge::here("runners: equality after an interrupt") {
        assert_eq!(judge::equal(job), ROWS);
    }
}
