//! Rows made others of by SQL, judged by what DuckDB makes of the same files.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::harness::{Job, Ran};
use crate::judge;

const ROWS: usize = 6_000;

/// Milliseconds, two sites, a number with a unit to be converted, a mark, in an order of their
/// own where they are `shuffled`.
fn lines(shuffled: bool) -> Vec<String> {
    let line = |i: usize| {
        let time = 1_700_000_000_000_u64 + i as u64 * 60_000;
        let mark = if i.is_multiple_of(7) { "bad" } else { "ok" };
        format!("{time},{},m{},{}.5,{mark}\n", ["north", "south"][i % 2], i % 3, i % 400)
    };
    // 2,999 has no factor in common with their number.
    (0..ROWS).map(|i| line(if shuffled { i * 2_999 % ROWS } else { i })).collect()
}

const HEADER: &str = "ts_ms,site,Meter,degF,mark\n";

/// The same in our words and in those of `DuckDB`.
const OURS: &str = "SELECT to_timestamp_millis(ts_ms) AS ts, site || '/' || Meter AS series, \
                    (degF - 32) * 5 / 9 AS celsius, CASE WHEN mark = 'ok' THEN 1 ELSE 0 END AS ok, \
                    degF FROM source WHERE mark <> 'bad' AND site IN ('north', 'south')";
const THEIRS: &str = "SELECT epoch_ms(ts_ms) AS ts, site || '/' || Meter AS series, \
                      (CAST(degF AS DOUBLE) - 32) * 5 / 9 AS celsius, \
                      CASE WHEN mark = 'ok' THEN 1 ELSE 0 END AS ok, degF FROM source \
                      WHERE mark <> 'bad'";

fn spec(sql: &str, more: &str) -> String {
    format!(
        "name: made\nsource: {{ csv: {{ path: \"data/*\" }} }}\ntransform: |\n  {sql}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: ts, key: [series] }}\n\
         range: {{ every: 1d }}\n{more}\n"
    )
}

fn job(sql: &str, files: &[(&str, &[String])]) -> Job {
    let job = Job::new(&spec(sql, ""));
    for (name, lines) in files {
        fs::write(job.path("data").join(name), HEADER.to_owned() + &lines.concat()).unwrap();
    }
    job
}

#[track_caller]
fn judged(job: &Job, sql: &str) -> u64 {
    let sources = job.sources();
    let mut args = vec![sql];
    args.extend(sources.iter().map(|s| s.to_str().unwrap()));
    judge::ask(job, "sql", &args)[0]["rows"].as_u64().unwrap()
}

/// read = all the others, for the plan and for each slice.
#[track_caller]
fn conserved(job: &Job, read: u64) {
    let status = job.call("status", &["--output", "json"]).ended(0).json();
    let rows = &status["plan_rows"];
    let of = |name: &str| rows[name].as_u64().unwrap();
    let parts = ["written", "already_present", "conflicting", "duplicate", "rejected", "filtered"];
    assert_eq!(of("read"), parts.iter().map(|p| of(p)).sum::<u64>(), "{rows}");
    assert_eq!(of("read") + status["unplaced"].as_u64().unwrap(), read, "{rows}");
    let db = rusqlite::Connection::open(job.state().join("ledger.db")).unwrap();
    let odd: i64 = db
        .query_row(
            "SELECT count(*) FROM slices WHERE read <> written + updated + already_present +
             conflicting + duplicate + rejected + filtered",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(odd, 0);
}

#[test]
fn rows_are_converted_renamed_and_filtered() {
    if !judge::here("transform::rows_are_converted_renamed_and_filtered") {
        return;
    }
    let lines = lines(false);
    let job = job(OURS, &[("a.csv", &lines[..2_000]), ("b.csv", &lines[2_000..])]);
    let last = job.run().ended(0).json();
    let left_out = ROWS.div_ceil(7) as u64;
    let rows = &last["plan_rows"];
    assert_eq!((&rows["read"], &rows["filtered"]), (&ROWS.into(), &left_out.into()), "{last}");
    assert_eq!(judged(&job, THEIRS), ROWS as u64 - left_out);
    conserved(&job, ROWS as u64);
    job.nothing_to_do();
    job.call("verify", &["--level", "rows"]).ended(0);
}

#[test]
fn packed_and_unordered_files_are_sorted_by_the_computed_time() {
    if !judge::here("transform::packed_and_unordered_files_are_sorted_by_the_computed_time") {
        return;
    }
    let lines = lines(true);
    let job = job(OURS, &[("b.csv", &lines[3_000..])]);
    let packed = fs::File::create(job.path("data/a.csv.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packed.write_all((HEADER.to_owned() + &lines[..3_000].concat()).as_bytes()).unwrap();
    packed.finish().unwrap();
    let last = job.run().ended(0).json();
    assert!(last["slices"]["total"].as_u64().unwrap() > 3, "{last}");
    assert_eq!(last["plan_rows"]["read"], ROWS, "{last}");
    judged(&job, THEIRS);
    conserved(&job, ROWS as u64);
    job.nothing_to_do();
}

#[test]
fn a_row_that_fails_is_refused_with_its_line_and_the_others_stay() {
    if !judge::here("transform::a_row_that_fails_is_refused_with_its_line_and_the_others_stay") {
        return;
    }
    let mut lines = lines(false);
    // A word among numbers, a time that is none, one that is missing in a row that stays and in
    // one that does not.
    lines[100] = lines[100].replacen(",12", ",x", 1).replace(".5,", "?,");
    lines[201] = lines[201].replacen("17", "y17", 1);
    lines[302] = format!(",{}", lines[302].split_once(',').unwrap().1);
    lines[301] = format!(",{}", lines[301].split_once(',').unwrap().1);
    let sql = "SELECT to_timestamp_millis(CAST(ts_ms AS BIGINT)) AS ts, site || Meter AS series, \
               1000000 / CAST(CAST(degF AS DOUBLE) AS BIGINT) AS ratio \
               FROM source WHERE mark = 'ok'";
    let job = job(sql, &[("a.csv", &lines)]);
    let last = job.run().ended(6).json();
    let rows = &last["plan_rows"];
    assert_eq!(rows["read"], ROWS, "{last}");
    // Each 400th number is 0.5, which is cut to 0.
    let zeros = (0..ROWS).filter(|i| i % 400 == 0 && i % 7 != 0).count();
    assert_eq!(rows["rejected"], zeros + 3, "{last}");
    conserved(&job, ROWS as u64);
    let listed = rejects(&job);
    for wanted in [
        "data/a.csv:102   slice 20231114T000000Z `ratio`: cannot cast string",
        "data/a.csv:203   in no slice `ts`: cannot cast string 'y1700012060000'",
        "data/a.csv:304   in no slice `ts`: the time is NULL",
        "data/a.csv:402   slice 20231115T000000Z `ratio`: divide by zero error",
    ] {
        assert!(listed.contains(wanted), "no `{wanted}` in\n{listed}");
    }
    let good = "SELECT epoch_ms(CAST(ts_ms AS BIGINT)) AS ts, site || Meter AS series, \
                1000000 // CAST(trunc(CAST(degF AS DOUBLE)) AS BIGINT) AS ratio FROM source \
                WHERE mark = 'ok' AND TRY_CAST(ts_ms AS BIGINT) IS NOT NULL \
                AND trunc(TRY_CAST(degF AS DOUBLE)) <> 0";
    judged(&job, good);
}

fn rejects(job: &Job) -> String {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["rejects", "list", "backfill.yaml", "--limit", "0"]);
    let ran: Ran = program.current_dir(job.dir.path()).output().unwrap().into();
    ran.ended(0).stdout
}

#[test]
fn a_time_that_is_passed_on_is_read_as_ever() {
    if !judge::here("transform::a_time_that_is_passed_on_is_read_as_ever") {
        return;
    }
    let job = Job::new(&spec(
        "SELECT * EXCLUDE (at, v), at AS ts, v / 2 AS half FROM source \
         WHERE at >= '2024-01-02' AND v IS NOT NULL",
        "",
    ));
    let mut text = String::from("at,series,zip,v\n");
    for hour in 0..96 {
        let day = hour / 24 + 1;
        let v = if hour % 10 == 3 { String::new() } else { hour.to_string() };
        writeln!(text, "2024-01-{day:02}T{:02}:00:00Z,s,00{hour},{v}", hour % 24).unwrap();
    }
    fs::write(job.path("data/a.csv"), text).unwrap();
    let last = job.run().ended(0).json();
    let rows = &last["plan_rows"];
    // The first day lies before all rows that stay: it belongs to no slice, but is counted.
    assert_eq!(last["slices"]["total"], 3, "{last}");
    assert_eq!((&rows["read"], &rows["filtered"]), (&96.into(), &31.into()), "{last}");
    let theirs = "SELECT series, CAST(zip AS VARCHAR) AS zip, \"at\" AS ts, v // 2 AS half \
                  FROM source WHERE \"at\" >= '2024-01-02' AND v IS NOT NULL";
    judged(&job, theirs);
    conserved(&job, 96);
    job.nothing_to_do();
}

#[test]
fn another_transform_is_another_plan() {
    let lines = lines(false);
    let job = job(OURS, &[("a.csv", &lines)]);
    job.call("plan", &[]).ended(0);
    fs::write(job.path("backfill.yaml"), spec(&OURS.replace("<> 'bad'", "= 'ok'"), "")).unwrap();
    let ran = job.run().ended(5);
    assert!(ran.stderr.contains("--replan"), "{}", ran.stderr);
    let last = job.call("run", &["--replan", "--output", "json"]).ended(0).json();
    assert_eq!(last["plan_rows"]["read"], ROWS, "{last}");
}

#[test]
fn columns_that_are_not_there_are_named_with_their_very_place() {
    let lines = lines(false);
    let job = job(&OURS.replace("Meter AS", "meter AS"), &[("a.csv", &lines)]);
    let ran = job.call("plan", &[]).ended(2);
    let column = 3 + OURS.find("Meter").unwrap();
    let wanted = format!("backfill.yaml:4:{column}: the source has no column `meter`");
    assert!(ran.stderr.contains(&wanted), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `Meter`?"), "{}", ran.stderr);
    assert!(!Path::new(&job.path("out")).exists());
}

#[test]
fn the_targets_types_are_kept_exactly() {
    let table = "SELECT to_timestamp_millis(ts_ms) AS ts, site AS series, \
                 CAST(1 AS INT) AS n FROM source WHERE ts_ms < 1700000060000";
    let lines = lines(false);
    let job = job(table, &[("a.csv", &lines)]);
    job.run().ended(0);
    // 64 bits now: what has no place in 32 is refused, and is no other number.
    let more = "SELECT to_timestamp_millis(ts_ms) AS ts, Meter AS series, \
                CAST(degF AS BIGINT) * 20000000 AS n FROM source WHERE site = 'north'";
    fs::write(job.path("backfill.yaml"), spec(more, "")).unwrap();
    let last = job.call("run", &["--replan", "--output", "json"]).ended(6).json();
    let refused = (0..ROWS).filter(|i| i % 2 == 0 && i % 400 > 107).count();
    assert_eq!(last["plan_rows"]["rejected"], refused, "{last}");
    let text = more.replace("CAST(degF AS BIGINT) * 20000000", "upper(mark)");
    fs::write(job.path("backfill.yaml"), spec(&text, "")).unwrap();
    let ran = job.call("run", &["--replan"]).ended(2);
    assert!(ran.stderr.contains("the transform gives text"), "{}", ran.stderr);
}
