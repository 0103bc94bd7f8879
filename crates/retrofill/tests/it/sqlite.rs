//! SQLite databases as sources: Python's own SQLite writes and changes them.

use std::fs;

use rusqlite::Connection;

use crate::exec::exec;
use crate::gaps::gaps;
use crate::harness::{Job, Ran, tells};
use crate::judge::{self, judge};

/// The example's rows as table `weather` of `weather.db`, with a spec that reads that.
fn lite(order: &str, kept: &str, every: &str) -> Job {
    let job = Job::example();
    let path = job.path("weather.db");
    let mut made = judge(&["lite", path.to_str().unwrap(), order, kept]);
    Ran::from(made.args(job.sources()).output().unwrap()).ended(0);
    let spec = format!(
        "name: lite\nsource: {{ sqlite: {{ path: weather.db, table: weather }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: time_hour, key: [origin] }}\n\
         range: {{ every: {every} }}\n"
    );
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    job
}

/// Another program changes the database.
fn change(job: &Job, sql: &str) {
    let path = job.path("weather.db");
    let ran = judge(&["execute", path.to_str().unwrap(), sql]).output().unwrap();
    Ran::from(ran).ended(0);
}

#[test]
fn tables_are_loaded_whole_however_times_are_kept() {
    if !judge::here("sqlite::tables_are_loaded_whole_however_times_are_kept") {
        return;
    }
    for (order, kept, every) in [
        ("time_hour, origin", "local", "1mo"),
        ("hash(time_hour, origin)", "zoned", "1d"),
        ("origin, time_hour", "epoch", "1w"),
        ("time_hour", "real", "1mo"),
    ] {
        let job = lite(order, kept, every);
        let before = fs::read(job.path("weather.db")).unwrap();
        job.call("check", &["--connect"]).ended(0);
        let last = job.run().ended(0).json();
        assert_eq!(last["rows"]["written"], 26_115, "{kept}: {last}");
        assert_eq!(judge::equal(&job), 26_115, "{kept}");
        job.call("verify", &[]).ended(0);
        job.nothing_to_do();
        assert!(!job.state().join("staging").exists(), "the sorted copy was left behind");
        assert!(before == fs::read(job.path("weather.db")).unwrap(), "the source was written to");
        assert_eq!(fs::read_dir(job.dir.path()).unwrap().flatten().count(), 5, "files were left");
    }
}

#[test]
fn gaps_are_those_of_the_files() {
    if !judge::here("sqlite::gaps_are_those_of_the_files") {
        return;
    }
    let (job, files) = (lite("time_hour", "local", "1mo"), Job::example());
    let (before, want) = (gaps(&job, &[]).ended(0).json(), gaps(&files, &[]).ended(0).json());
    assert_eq!(before["absent"], want["absent"]);
    assert_eq!(before["fillable"]["rows"], 26_115, "{before}");
    job.run().ended(0);
    assert_eq!(gaps(&job, &[]).ended(0).json()["fillable"]["rows"], 0);
}

/// A row that is changed between plan and run is not loaded as what it was planned, and then as
/// what it is.
#[test]
fn a_changed_row_makes_its_slice_stale() {
    if !judge::here("sqlite::a_changed_row_makes_its_slice_stale") {
        return;
    }
    let job = lite("time_hour", "local", "1mo");
    job.call("plan", &["-o", "plan.json"]).ended(0);
    change(
        &job,
        "UPDATE weather SET temp = 0.25 WHERE origin = 'EWR' \
         AND time_hour = '2013-01-01 06:00:00'",
    );
    let last = exec(&job, "20130101T000000Z").ended(1).json();
    assert_eq!((&last["slices"]["stale"], &last["rows"]["written"]), (&1.into(), &0.into()));
    job.run().ended(0);
    assert!(!judge::is_equal(&job), "the change was not seen");
    let january = &job.sources()[0];
    let text = fs::read_to_string(january).unwrap();
    fs::write(january, text.replacen("EWR,2013,1,1,1,39.02", "EWR,2013,1,1,1,0.25", 1)).unwrap();
    assert_eq!(judge::equal(&job), 26_115);
    job.nothing_to_do();
    // Rows that come later are loaded by the next run, and nothing else is.
    change(
        &job,
        "PRAGMA journal_mode = wal; INSERT INTO weather (origin, temp, time_hour) \
         VALUES ('EWR', 1.5, '2013-06-01 00:30:00')",
    );
    assert_eq!(job.run().ended(0).json()["rows"]["written"], 1);
    job.nothing_to_do();
}

#[test]
fn values_that_do_not_fit_are_rejected_and_loaded_once_mended() {
    if !judge::here("sqlite::values_that_do_not_fit_are_rejected_and_loaded_once_mended") {
        return;
    }
    let job = lite("time_hour, origin", "local", "1mo");
    change(
        &job,
        "UPDATE weather SET temp = 'cold' WHERE rowid = 7; \
         UPDATE weather SET time_hour = NULL WHERE rowid = 20000",
    );
    let last = job.run().ended(6).json();
    assert_eq!((&last["rows"]["written"], &last["rows"]["rejected"]), (&26_113.into(), &2.into()));
    tells(
        &job.listed_rejects(),
        &["weather.db:7", "`cold` is text; it is declared REAL", "weather.db:20000"],
    );
    // Mended by the very rows of the files.
    let good = lite("time_hour, origin", "local", "1mo");
    fs::copy(good.path("weather.db"), job.path("weather.db")).unwrap();
    job.run().ended(0);
    assert_eq!(judge::equal(&job), 26_115);
    job.nothing_to_do();
}

#[test]
fn a_transform_stands_before_a_table() {
    if !judge::here("sqlite::a_transform_stands_before_a_table") {
        return;
    }
    let job = lite("hash(time_hour)", "epoch", "1mo");
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let sql = "SELECT time_hour AS at, origin, temp * 2 AS twice FROM source WHERE origin = 'JFK'";
    let spec = spec.replace("time: time_hour", "time: at");
    let spec = spec.replace(
        "{ sqlite: { path: weather.db, table: weather } }",
        "\"sqlite:weather.db?table=weather\"",
    );
    fs::write(job.path("backfill.yaml"), format!("{spec}transform: {sql}\n")).unwrap();
    job.run().ended(0);
    let mut args = vec![
        "SELECT CAST(time_hour AS TIMESTAMPTZ) AS at, origin, \
         2 * CAST(NULLIF(temp, 'NA') AS DOUBLE) AS twice FROM source WHERE origin = 'JFK'"
            .to_owned(),
    ];
    args.extend(job.sources().iter().map(|s| s.to_str().unwrap().to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let rows = judge::ask(&job, "sql", &args)[0]["rows"].as_u64().unwrap();
    assert_eq!(rows, 8_706);
    job.nothing_to_do();
}

#[test]
fn what_is_wrong_is_told_with_its_class() {
    if !judge::here("sqlite::what_is_wrong_is_told_with_its_class") {
        return;
    }
    let job = lite("time_hour", "local", "1mo");
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(spec.contains(from));
        fs::write(job.path("backfill.yaml"), spec.replace(from, to)).unwrap();
    };
    with("weather.db", "other.db");
    job.call("run", &[]).refused(2, &["there is no file `other.db`"]);
    with("table: weather", "table: Weather");
    job.call("plan", &[]).refused(2, &["has no table `Weather`", "did you mean `weather`?"]);
    with("time: time_hour", "time: timehour");
    job.call("plan", &[]).refused(2, &["backfill.yaml:4:", "did you mean `time_hour`?"]);
    job.call("check", &["--connect"]).refused(2, &["did you mean `time_hour`?"]);
    with("table: weather", "table: weather, types: { temp: real }");
    job.call("check", &[]).refused(2, &["did you mean `float64`?"]);
    fs::write(job.path("backfill.yaml"), &spec).unwrap();
    let lock = Connection::open(job.path("weather.db")).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    job.call("plan", &[]).refused(1, &["database is locked", "another program"]);
    drop(lock);
    fs::write(job.path("weather.db"), "time_hour,origin\n".repeat(500)).unwrap();
    job.call("run", &[]).refused(2, &["is not a database", "is it encrypted?"]);
}
