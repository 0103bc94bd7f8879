//! Settings that decide which rows land and when, seen from the table.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::Job;
use crate::judge;

fn job(rows: &str, range: &str, write: &str) -> Job {
    Job::new(&format!(
        "name: set\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: t, key: [site]{rows} }}\n\
         range: {{ every: 1d{range} }}\n{write}\nlimits: {{ concurrency: 1 }}\n"
    ))
}

fn put(job: &Job, rows: &str) {
    fs::write(job.path("data/a.csv"), format!("t,site,v\n{rows}")).unwrap();
}

#[track_caller]
fn holds(job: &Job, rows: &str) {
    job.holds(&format!("t,site,v\n{rows}"));
}

/// Three rows of one key, of which two are equal, and a day without any.
const TWICE: &str =
    "2020-01-01,a,1\n2020-01-01,b,5\n2020-01-01,a,2\n2020-01-01,a,2\n2020-01-02,a,3\n";

#[test]
fn on_duplicate_says_which_row_stays() {
    for (rule, rows, exit) in [
        ("reject", "2020-01-01,b,5\n2020-01-02,a,3\n", 6),
        ("first", "2020-01-01,a,1\n2020-01-01,b,5\n2020-01-02,a,3\n", 0),
        ("last", "2020-01-01,a,2\n2020-01-01,b,5\n2020-01-02,a,3\n", 0),
        ("fail", "2020-01-02,a,3\n", 1),
    ] {
        let job = job(&format!(", on_duplicate: {rule}"), "", "");
        put(&job, TWICE);
        let ran = job.run().ended(exit);
        holds(&job, rows);
        let last = ran.json();
        let (duplicate, rejected) = match rule {
            "reject" => (0, 3),
            "fail" => (0, 0),
            _ => (2, 0),
        };
        assert_eq!(last["rows"]["duplicate"], duplicate, "{rule} {last}");
        assert_eq!(last["rows"]["rejected"], rejected, "{rule} {last}");
        if rule == "fail" {
            assert!(ran.stderr.contains("unequal rows of the source share a key"), "{ran:?}");
        }
        job.run().ended(exit);
        holds(&job, rows);
    }
}

#[test]
fn on_empty_source_decides_between_outage_and_nothing_to_do() {
    let fails = job("", "", "");
    put(&fails, "");
    let ran = fails.run().ended(2);
    assert!(ran.stderr.contains("on_empty_source: skip"), "{ran:?}");
    let skips = job("", "", "write: { on_empty_source: skip }");
    put(&skips, "");
    let ran = skips.call("run", &[]).ended(0);
    assert!(ran.stdout.contains("the source is empty; nothing to do"), "{ran:?}");
    skips.call("run", &["--skip-if-done"]).ended(99);
    let last = skips.call("run", &["--output", "json", "--summary-file", "s.json"]).ended(0);
    assert_eq!((&last.json()["plan"], &last.json()["exit"]), (&Value::Null, &0.into()));
    assert_eq!(fs::read_to_string(skips.path("s.json")).unwrap(), last.stdout);
    assert_eq!(skips.call("plan", &["--output", "json"]).ended(0).json()["plan"], Value::Null);
    for job in [&fails, &skips] {
        assert!(!job.table().exists(), "there is a table");
    }
    // Rows that come later are loaded.
    put(&skips, "2020-01-01,a,1\n");
    skips.run().ended(0);
    holds(&skips, "2020-01-01,a,1\n");
}

#[test]
fn only_clear_lets_an_empty_source_take_rows_out() {
    if !judge::here("settings::only_clear_lets_an_empty_source_take_rows_out") {
        return;
    }
    let range = ", from: 2020-01-01, to: 2020-01-03";
    let rows = "2020-01-01,a,1\n2020-01-02,a,2\n2020-01-05,a,5\n";
    for (rule, exit, left) in
        [("fail", 2, rows), ("skip", 0, rows), ("clear", 0, "2020-01-05,a,5\n")]
    {
        let job = job("", "", "");
        put(&job, rows);
        job.run().ended(0);
        put(&job, "");
        let write = format!("write: {{ mode: replace, scope: all, on_empty_source: {rule} }}");
        let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        let spec = spec.replace("every: 1d", &format!("every: 1d{range}"));
        fs::write(job.path("backfill.yaml"), spec + &write + "\n").unwrap();
        job.call("run", &["--replan", "--yes", "--output", "json"]).ended(exit);
        holds(&job, left);
    }
}

#[test]
fn rows_that_may_still_arrive_are_left_for_later() {
    let ago = |minutes| {
        let time = Timestamp::now() - SignedDuration::from_mins(minutes);
        Timestamp::from_second(time.as_second()).unwrap()
    };
    let (old, young) = (ago(60 * 30), ago(60));
    let rows = format!("{old},a,1\n{young},a,2\n");
    let job = job("", ", settle: 2h", "");
    put(&job, &rows);
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["read"], 1, "{last}");
    holds(&job, &format!("{old},a,1\n"));
    // The later row is none that is missing.
    job.call("verify", &[]).ended(0);
    job.respec("settle: 2h", "settle: 10m");
    let last = job.run().ended(0).json();
    assert_eq!(last["plan_rows"]["read"], 2, "{last}");
    holds(&job, &rows);
}

#[test]
fn the_newest_slices_come_first_when_asked_for() {
    let days: Vec<_> = (1..=5).map(|day| format!("2020-01-{day:02},a,{day}\n")).collect();
    for (order, first) in [("oldest-first", "20200101"), ("newest-first", "20200105")] {
        let job = job("", &format!(", order: {order}"), "");
        put(&job, &days.concat());
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", "ledger:1")]);
        assert!(runner.says("held at ledger"), "{}", runner.stderr());
        runner.kill();
        // What was committed first is all that is there.
        let day: u32 = first[6..].parse().unwrap();
        holds(&job, &days[day as usize - 1]);
        let last = job.run().ended(0).json();
        assert_eq!(last["slices"]["verified"], 5, "{last}");
        holds(&job, &days.concat());
    }
}

#[test]
fn compare_tells_conflicts_from_rows_that_are_present() {
    if !judge::here("settings::compare_tells_conflicts_from_rows_that_are_present") {
        return;
    }
    let head = "t,site,v,note\n";
    let old =
        "2020-01-01T06:00:00Z,a,1,x\n2020-01-01T07:00:00Z,a,2,x\n2020-01-02T06:00:00Z,a,3,x\n";
    let new = "2020-01-01T06:00:00Z,a,1,y\n2020-01-01T07:00:00Z,a,20,y\n\
               2020-01-02T06:00:00Z,a,3,x\n2020-01-02T07:00:00Z,b,4,z\n";
    let filled = format!("{head}{old}2020-01-02T07:00:00Z,b,4,z\n");
    let put_in = filled.replace("a,2,x", "a,20,y");
    for (mode, left, moved) in
        [("fill-missing", filled, "conflicting"), ("upsert", put_in, "updated")]
    {
        let job = job(", compare: [v]", "", &format!("write: {{ mode: {mode} }}"));
        fs::write(job.path("data/a.csv"), format!("{head}{old}")).unwrap();
        job.run().ended(0);
        fs::write(job.path("data/a.csv"), format!("{head}{new}")).unwrap();
        let last = job.call("run", &["--replan", "--output", "json"]).ended(0).json();
        let rows = &last["rows"];
        assert_eq!(rows["already_present"], 2, "{last}");
        assert_eq!(rows["written"], 1, "{last}");
        assert_eq!(rows[moved], 1, "{last}");
        job.holds(&left);
        // The row that is alike only was so when the slice was proven.
        job.call("verify", &[]).ended(0);
        // Compared or not, a value of ours that changes is seen.
        judge::ask(&job, "update", &["v = 3", "note", "'changed'"]);
        let ran = job.call("verify", &[]).ended(3);
        assert!(ran.stdout.contains("1 are changed since load"), "{ran:?}");
        // It is present as far as the user compares, and stays.
        job.call("run", &["--select", "mismatched"]).ended(0);
        job.holds(&left.replace("a,3,x", "a,3,changed"));
        job.call("verify", &[]).ended(0);
        // A second such row is told from the first.
        judge::ask(&job, "update", &["v = 4", "note", "'changed'"]);
        let ran = job.call("verify", &[]).ended(3);
        assert!(ran.stdout.contains("1 are changed since load"), "{ran:?}");
    }
}

#[test]
fn what_is_compared_decides_over_what_is_told_and_restored() {
    if !judge::here("settings::what_is_compared_decides_over_what_is_told_and_restored") {
        return;
    }
    let rows = "t,site,v,note\n2020-01-01T06:00:00Z,a,1,x\n2020-01-01T07:00:00Z,a,2,x\n";
    // No row is only alike when it is loaded: one that is so later is ours, and can be restored.
    let job = job(", compare: [v]", "", "");
    fs::write(job.path("data/a.csv"), rows).unwrap();
    job.run().ended(0);
    judge::ask(&job, "update", &["v = 2", "note", "'changed'"]);
    job.call("verify", &[]).ended(3);
    job.call("run", &["--select", "mismatched", "--overwrite-changed", "--yes"]).ended(0);
    job.holds(rows);

    // Where rows of others are only alike, one that goes is missing, and the rest is not accused.
    let job = self::job(", compare: [v]", "", "");
    fs::write(job.path("data/a.csv"), rows.replace(",x", ",live")).unwrap();
    job.run().ended(0);
    fs::write(job.path("data/a.csv"), rows).unwrap();
    let last = job.call("run", &["--replan", "--output", "json"]).ended(0).json();
    assert_eq!(last["rows"]["already_present"], 2, "{last}");
    judge::ask(&job, "delete", &["v = 1"]);
    let ran = job.call("verify", &[]).ended(3);
    assert!(ran.stdout.contains("1 rows of the source are missing in the target, 0"), "{ran:?}");
}
