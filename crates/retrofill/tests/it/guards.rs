//! What a load must not touch, and what must not be loaded twice or at all.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::harness::{Job, Ran};
use crate::judge;

fn here(test: &str) -> bool {
    judge::here(&format!("guards::{test}"))
}

fn job(rows: &str, more: &str) -> Job {
    Job::new(&format!(
        "name: guard\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: t{rows} }}\n{more}\n"
    ))
}

fn put(job: &Job, text: &str) {
    fs::write(job.path("data/a.csv"), text).unwrap();
}

/// Another job of this directory, by its own spec.
fn other(job: &Job, name: &str, spec: &str) -> Command {
    fs::write(job.path(&format!("{name}.yaml")), spec).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["run", &format!("{name}.yaml"), "--output", "json"]);
    program.current_dir(job.dir.path());
    program
}

fn ended(mut command: Command, code: i32) -> Ran {
    Ran::from(command.output().unwrap()).ended(code)
}

const OURS: &str = "t,k,v\n2020-01-01T06:00:00Z,a,1\n2020-01-01T07:00:00Z,a,2\n";
const LIVE: &str = "t,k,v,note\n2020-02-01T06:00:00Z,x,8,seven\n2020-02-01T07:00:00Z,x,9,\n";

/// Our rows and rows of others in one file of a table that has a column more than our plan.
fn shared() -> Job {
    let job = job(", key: [k]", "range: { every: 1d }");
    fs::create_dir_all(job.path("live")).unwrap();
    fs::write(job.path("live/l.csv"), LIVE).unwrap();
    let spec = "source: { csv: { path: \"live/*.csv\" } }\ntarget: { delta: { path: ./out } }\n\
                rows: { time: t, key: [k] }\n";
    ended(other(&job, "live", spec), 0);
    put(&job, OURS);
    job.run().ended(0);
    judge::ask(&job, "compact", &[]);
    job
}

#[test]
fn columns_that_a_plan_does_not_know_are_kept_for_everybody() {
    if !here("columns_that_a_plan_does_not_know_are_kept_for_everybody") {
        return;
    }
    let undone = shared();
    undone.call("undo", &["20200101T000000Z", "--yes"]).ended(0);
    undone.holds(LIVE);

    // A row in whose place another one is put would lose its value: that is refused.
    let job = shared();
    judge::ask(&job, "update", &["v = 2", "v", "20"]);
    let ran = job.call("run", &["--overwrite-changed", "--yes"]).ended(1);
    assert!(ran.stdout.contains("whose column `note` it lacks"), "{ran:?}");
    job.holds(&format!("{LIVE}2020-01-01T06:00:00Z,a,1,\n2020-01-01T07:00:00Z,a,20,\n"));
}

fn appending(every: &str, name: &str) -> String {
    format!(
        "name: {name}\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: t }}\nrange: {{ every: {every} }}\n"
    )
}

/// Rows without a key, so many, a minute apart.
fn minutes(count: i64) -> String {
    let mut text = "t,v\n".to_owned();
    for n in 0..count {
        let time = jiff::Timestamp::from_second(1_577_836_800 + n * 60).unwrap();
        let _ = writeln!(text, "{time},{n}");
    }
    text
}

#[test]
fn what_a_plan_found_there_already_is_not_appended_by_another() {
    if !here("what_a_plan_found_there_already_is_not_appended_by_another") {
        return;
    }
    let job = job("", "range: { every: 1d }");
    let rows = minutes(3_000);
    put(&job, &rows);
    job.run().ended(0);
    // The same rows in another order: loaded again as another generation, which writes none.
    let (head, body) = rows.split_once('\n').unwrap();
    let mut lines: Vec<_> = body.lines().collect();
    lines.reverse();
    put(&job, &format!("{head}\n{}\n", lines.join("\n")));
    assert_eq!(job.run().ended(0).json()["plan_rows"]["written"], 0);
    let ran = ended(other(&job, "second", &appending("2d", "second")), 2);
    assert!(ran.stderr.contains("was loaded already by plan"), "{ran:?}");
    job.holds(&rows);
}

#[test]
fn two_plans_at_once_append_no_row_twice() {
    if !here("two_plans_at_once_append_no_row_twice") {
        return;
    }
    for _ in 0..3 {
        let job = job("", "range: { every: 1d }");
        put(&job, &minutes(60_000));
        let mut both = [("one", "1d"), ("two", "2d")].map(|(name, every)| {
            let mut command = other(&job, name, &appending(every, name));
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().unwrap()
        });
        let codes = both.each_mut().map(|child| child.wait().unwrap().code());
        assert!(codes.contains(&Some(2)), "nobody stood back: {codes:?}");
        let found = judge::ask(&job, "doubled", &["v"]);
        assert_eq!(found[0]["doubled"], 0, "{codes:?}");
    }
}

#[test]
fn nothing_is_replaced_while_a_line_has_no_time() {
    if !here("nothing_is_replaced_while_a_line_has_no_time") {
        return;
    }
    let job = job(
        ", key: [k]",
        "range: { every: 1d }\nwrite: { mode: replace, scope: all, min_keep: 0 }",
    );
    put(&job, OURS);
    job.call("run", &["--yes"]).ended(0);
    put(&job, &OURS.replace("2020-01-01T07", "BROKEN"));
    let ran = job.call("run", &["--yes"]).ended(6);
    assert!(ran.stdout.contains("1 line has no time that can be read"), "{ran:?}");
    job.holds(OURS);
}

/// What stands in the quotes of a record that is refused is text, not records.
#[test]
fn lines_within_a_field_are_never_taken_for_rows() {
    if !here("lines_within_a_field_are_never_taken_for_rows") {
        return;
    }
    let row = |hour: u32, text: &str| format!("2020-01-01T{hour:02}:00:00Z,a,{text}\n");
    let phantom = "2020-01-01T12:00:00Z,PHANTOM,99\n";
    let long = format!("\"{phantom}{}\"", phantom.repeat(17 * 32_768));
    for field in [format!("\"x\n{phantom}more\" "), long] {
        let job = job(", key: [k]", "");
        put(&job, &format!("t,k,v\n{}{}{}", row(1, "7"), row(2, &field), row(3, "8")));
        let last = job.run().ended(6).json();
        assert_eq!((&last["rows"]["written"], &last["rows"]["rejected"]), (&2.into(), &1.into()));
        job.holds(&format!("t,k,v\n{}{}", row(1, "7"), row(3, "8")));
    }
}

#[test]
fn a_transform_that_computes_nothing_loads_what_it_names() {
    if !here("a_transform_that_computes_nothing_loads_what_it_names") {
        return;
    }
    let columns = "SELECT t, k, v, 'fix' AS w FROM source";
    for (sql, rows) in [
        ("SELECT * FROM source", OURS.to_owned()),
        (
            columns,
            OURS.replace(",v\n", ",v,w\n").replace(",1\n", ",1,fix\n").replace(",2\n", ",2,fix\n"),
        ),
    ] {
        let job = job(", key: [k]", &format!("transform: \"{sql}\""));
        put(&job, OURS);
        job.run().ended(0);
        job.holds(&rows);
    }
}

#[test]
fn a_plan_is_not_judged_by_another_spec() {
    let job = job(", key: [k]", "");
    put(&job, OURS);
    job.run().ended(0);
    for (command, more) in [
        ("verify", "target.delta.path=./elsewhere"),
        ("verify", "source.csv.path=nowhere.csv"),
        ("undo", "target.delta.path=./elsewhere"),
    ] {
        let ran = job.call(command, &["--set", more]).ended(5);
        assert!(ran.stderr.contains("the spec has changed since plan"), "{ran:?}");
    }
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
    // A plan of which nothing is loaded yet is not a proven one.
    fs::remove_dir_all(job.table()).unwrap();
    job.call("plan", &["--set", "range.every=1h", "--set", "name=fresh"]).ended(0);
    let fresh = ["--set", "range.every=1h", "--set", "name=fresh"];
    let ran = job.call("verify", &fresh).ended(2);
    assert!(ran.stderr.contains("no slice of plan"), "{ran:?}");
}

#[test]
fn runners_that_start_at_once_load_once() {
    let job = job(", key: [k]", "range: { every: 1d }");
    let text = minutes(5_000).replace("t,v\n", "t,v,k\n").replace("Z,", "Z,a,");
    put(&job, &text.replace("t,v,k", "t,k,v"));
    let runners: Vec<_> = (0..6).map(|_| job.start(&[], &[])).collect();
    for mut runner in runners {
        let ran = runner.end();
        assert!(matches!(ran.code, Some(0 | 5)), "{ran:?}");
    }
    let last = job.run().ended(0).json();
    assert_eq!(last["plan_rows"]["written"], last["plan_rows"]["read"], "{last}");
    let left = fs::read_dir(job.state()).unwrap();
    let parts =
        left.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
}
