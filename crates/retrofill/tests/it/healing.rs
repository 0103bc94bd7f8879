//! After done: rows that were changed or lost, a source that changed its mind, and loads that are
//! taken back.

use std::fs;
use std::process::Command;

use crate::harness::{Job, Ran};
use crate::judge;

const ROWS: &str = "t,site,v\n\
                    2020-01-01T06:00:00Z,a,1\n\
                    2020-01-01T07:00:00Z,a,2\n\
                    2020-01-02T06:00:00Z,a,3\n\
                    2020-01-02T07:00:00Z,b,4\n\
                    2020-01-03T06:00:00Z,b,5\n";

/// A row of somebody else on the second day.
const LIVE: &str = "2020-01-02T08:00:00Z,live,9\n";

fn job(more: &str) -> Job {
    let job = Job::new(&format!(
        "name: heal\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: t, key: [site] }}\n\
         range: {{ every: 1d }}\n{more}\n"
    ));
    fs::write(job.path("data/a.csv"), ROWS).unwrap();
    job
}

fn loaded(more: &str) -> Job {
    let job = job(more);
    job.run().ended(0);
    job
}

/// Another job puts a row into the table.
fn live_row(job: &Job) {
    fs::create_dir_all(job.path("live")).unwrap();
    fs::write(job.path("live/l.csv"), format!("t,site,v\n{LIVE}")).unwrap();
    let spec = "source: { csv: { path: \"live/*.csv\" } }\ntarget: { delta: { path: ./out } }\n\
                rows: { time: t, key: [site] }\n";
    fs::write(job.path("live.yaml"), spec).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["run", "live.yaml", "--output", "json"]).current_dir(job.dir.path());
    Ran::from(program.output().unwrap()).ended(0);
}

/// Another writer changes the rows of one site on one day.
fn update(job: &Job, day: u32, site: &str, value: &str) {
    let stretch = format!(
        "site = '{site}' AND t >= '2020-01-0{day}T00:00:00Z' AND t < '2020-01-0{day}T23:00:00Z'"
    );
    judge::ask(job, "update", &[&stretch, "v", value]);
}

fn here(test: &str) -> bool {
    judge::here(&format!("healing::{test}"))
}

/// The rows with some of them changed.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(ROWS.to_owned(), |rows, (old, new)| {
        assert!(rows.contains(old), "{old}");
        rows.replace(old, new)
    })
}

fn go(job: &Job, args: &[&str]) -> Ran {
    job.call("run", &[&["--output", "json"], args].concat())
}

#[test]
fn a_refill_leaves_changed_rows_alone() {
    if !here("a_refill_leaves_changed_rows_alone") {
        return;
    }
    let job = loaded("");
    update(&job, 2, "a", "30");
    judge::ask(&job, "delete", &["site = 'b' AND t < '2020-01-03T00:00:00Z'"]);
    let words = job.call("verify", &[]).ended(3).stdout;
    assert!(words.contains("1 rows of the source are missing"), "{words}");
    assert!(words.contains("1 are changed since load"), "{words}");
    let last = go(&job, &["--select", "mismatched"]).ended(0).json();
    assert_eq!((&last["rows"]["written"], &last["rows"]["conflicting"]), (&1.into(), &1.into()));
    job.holds(&with(&[("a,3", "a,30")]));
    job.nothing_to_do();
}

#[test]
fn changed_rows_are_restored_only_when_asked_for() {
    if !here("changed_rows_are_restored_only_when_asked_for") {
        return;
    }
    let job = loaded("");
    live_row(&job);
    update(&job, 1, "a", "v + 10");
    let changed = with(&[("a,1", "a,11"), ("a,2", "a,12")]);
    let changed = changed + LIVE;
    let asked = go(&job, &["--overwrite-changed"]).ended(2);
    assert!(asked.stderr.contains("2 rows of 1 slice in Delta ./out were changed"), "{asked:?}");
    assert!(asked.stderr.contains("--yes"), "{asked:?}");
    job.holds(&changed);
    let done = go(&job, &["--overwrite-changed", "--yes"]).ended(0);
    assert_eq!(done.json()["rows"]["updated"], 2, "{done:?}");
    job.holds(&(ROWS.to_owned() + LIVE));
    let listed = list(&job);
    for old in ["v: 11", "v: 12"] {
        assert!(listed.contains(old), "{listed}");
    }
    assert!(listed.contains("of somebody else gave way"), "{listed}");
    job.nothing_to_do();
    job.call("verify", &[]).ended(0);
    let again = go(&job, &["--overwrite-changed", "--yes"]).ended(0);
    assert!(again.stderr.contains("no row was changed"), "{again:?}");
}

fn list(job: &Job) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["rejects", "list", "backfill.yaml", "--conflicts"]);
    Ran::from(program.current_dir(job.dir.path()).output().unwrap()).ended(0).stdout
}

#[test]
fn flags_that_change_rows_belong_to_fill_missing() {
    for (rows, write, flag) in [
        ("rows: { time: t }", "", "--restate"),
        ("rows: { time: t, key: [site] }", "write: { mode: upsert }", "--overwrite-changed"),
    ] {
        let job = job("");
        let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        let spec = spec.replace("rows: { time: t, key: [site] }", rows);
        fs::write(job.path("backfill.yaml"), format!("{spec}{write}\n")).unwrap();
        let ran = go(&job, &[flag]).ended(2);
        assert!(ran.stderr.contains("belongs to mode fill-missing"), "{}", ran.stderr);
        assert!(!job.table().join("_delta_log").exists());
    }
}

#[test]
fn a_restated_source_is_followed_where_the_held_row_is_ours() {
    if !here("a_restated_source_is_followed_where_the_held_row_is_ours") {
        return;
    }
    for (more, live) in [("", false), ("verify: { manifest: true }", true)] {
        let job = loaded(more);
        let mut rest = String::new();
        if live {
            live_row(&job);
            rest.push_str(LIVE);
        }
        // One row is corrected by hand, and the source changes it too.
        update(&job, 1, "a", "CASE WHEN v = 2 THEN 22 ELSE v END");
        let new = with(&[("a,1", "a,100"), ("a,2", "a,200"), ("b,4", "b,400")]);
        fs::write(job.path("data/a.csv"), &new).unwrap();
        let last = go(&job, &[]).ended(0).json();
        assert_eq!(last["rows"]["conflicting"], 3, "{last}");
        job.holds(&(with(&[("a,2", "a,22")]) + &rest));
        let restated = list(&job).matches("restated").count();
        // Without a manifest nobody can tell in a slice where something was changed.
        assert_eq!(restated, if live { 2 } else { 1 }, "{}", list(&job));
        let last = go(&job, &["--restate"]).ended(0).json();
        assert_eq!(last["rows"]["updated"], restated, "{last}");
        let hundred = if live { "a,100" } else { "a,1" };
        let now = with(&[("a,1", hundred), ("a,2", "a,22"), ("b,4", "b,400")]);
        job.holds(&(now + &rest));
        assert!(list(&job).contains("v: 4,") || list(&job).contains("v: 4\n"), "{}", list(&job));
        job.nothing_to_do();
        job.call("verify", &[]).ended(0);
    }
}

#[test]
fn what_was_loaded_is_taken_back_and_loaded_again() {
    if !here("what_was_loaded_is_taken_back_and_loaded_again") {
        return;
    }
    let job = loaded("verify: { manifest: true }");
    live_row(&job);
    update(&job, 1, "a", "CASE WHEN v = 2 THEN 22 ELSE v END");
    let asked = job.call("undo", &[]).ended(2);
    let told = "4 rows that this job wrote in 3 slices go from Delta ./out, 2 rows of others";
    assert!(asked.stderr.contains(told), "{asked:?}");
    assert!(asked.stderr.contains("nobody is there to be asked"), "{asked:?}");
    let only = job.call("undo", &["--dry-run"]).ended(0);
    assert!(only.stderr.contains("slice 20200102T000000Z: 2 rows go, 1 row stay"), "{only:?}");
    let one = job.call("undo", &["20200102T000000Z", "--yes"]).ended(0);
    assert!(one.stdout.contains("undone 1 slice"), "{one:?}");
    let left = with(&[("a,2", "a,22"), ("2020-01-02T06:00:00Z,a,3\n", "")]);
    let left = left.replace("2020-01-02T07:00:00Z,b,4\n", "") + LIVE;
    job.holds(&left);
    let status = job.call("status", &[]).ended(0).stdout;
    assert!(status.contains("undone: 2 rows were taken out"), "{status}");
    assert!(job.call("log", &[]).ended(0).stdout.contains("2 rows taken out"));
    let last = job.call("undo", &["--yes", "--output", "json"]).ended(0).json();
    assert_eq!(last["undone"]["slices"], 2, "{last}");
    assert_eq!(last["slices"]["stale"], 3, "{last}");
    assert_eq!(last["plan_rows"]["written"], 0, "{last}");
    job.holds(&format!("t,site,v\n2020-01-01T07:00:00Z,a,22\n{LIVE}"));
    assert!(job.call("undo", &["--yes"]).ended(0).stderr.contains("nothing to undo"));
    // The plain run loads everything again, but for the key that is taken now.
    let last = job.run().ended(0).json();
    assert_eq!((&last["rows"]["written"], &last["rows"]["conflicting"]), (&4.into(), &1.into()));
    job.holds(&(with(&[("a,2", "a,22")]) + LIVE));
    job.nothing_to_do();
}

#[test]
fn what_cannot_be_told_apart_is_not_taken_back() {
    if !here("what_cannot_be_told_apart_is_not_taken_back") {
        return;
    }
    // The second day holds a live row before the load, the first is changed after it.
    let job = job("");
    live_row(&job);
    job.run().ended(0);
    update(&job, 1, "a", "CASE WHEN v = 2 THEN 22 ELSE v END");
    // The source still proves both.
    let only = job.call("undo", &["--dry-run"]).ended(0);
    assert!(only.stderr.contains("slice 20200101T000000Z: 1 row go, 1 row stay"), "{only:?}");
    // With the source changed, only the third day proves itself.
    fs::write(job.path("data/a.csv"), with(&[("a,1", "a,7"), ("b,4", "b,7")])).unwrap();
    let ran = job.call("undo", &["--yes"]).ended(1);
    for day in ["20200101", "20200102"] {
        let told = format!("slice {day}T000000Z cannot be undone: ");
        assert!(ran.stderr.contains(&told), "{ran:?}");
    }
    assert!(ran.stderr.contains("no manifest tells"), "{ran:?}");
    let left = with(&[("a,2", "a,22"), ("2020-01-03T06:00:00Z,b,5\n", "")]);
    job.holds(&(left + LIVE));
}

#[test]
fn replaced_rows_are_not_brought_back() {
    if !here("replaced_rows_are_not_brought_back") {
        return;
    }
    let job = job("write: { mode: upsert }");
    let live = LIVE.replace("08:00:00Z,live", "06:00:00Z,a");
    live_row(&job);
    fs::write(job.path("live/l.csv"), format!("t,site,v\n{live}")).unwrap();
    live_row_again(&job);
    job.run().ended(0);
    let ran = job.call("undo", &["--yes"]).ended(1);
    let told = "20200102T000000Z cannot be undone: its loads put rows in the place of others";
    assert!(ran.stderr.contains(told), "{ran:?}");
    let second = "t,site,v\n2020-01-02T06:00:00Z,a,3\n2020-01-02T07:00:00Z,b,4\n";
    job.holds(&(second.to_owned() + LIVE));
}

fn live_row_again(job: &Job) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["run", "live.yaml", "--output", "json"]).current_dir(job.dir.path());
    Ran::from(program.output().unwrap()).ended(0);
}

#[test]
fn an_undo_killed_at_any_stage_ends_whole() {
    if !here("an_undo_killed_at_any_stage_ends_whole") {
        return;
    }
    for stage in ["remove:2", "read-back:2", "commit:2", "ledger:2"] {
        let job = loaded("limits: { concurrency: 1 }");
        live_row(&job);
        let args = ["--yes"];
        let mut runner = job.start_as("undo", &args, &[("RETROFILL_HOLD", stage)]);
        let name = stage.split(':').next().unwrap();
        assert!(runner.says(&format!("held at {name}")), "{}", runner.stderr());
        runner.kill();
        job.call("undo", &args).ended(0);
        job.holds(&format!("t,site,v\n{LIVE}"));
        job.run().ended(0);
        job.holds(&(ROWS.to_owned() + LIVE));
        job.nothing_to_do();
    }
}
