//! `gaps` finds what is missing and only that, and `plan --only-gaps` fills it and only that.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Job, Ran};
use crate::judge;

/// The hours between each station's first and last that its files lack.
fn absent(line: &Value) -> Vec<(String, u64)> {
    let of = |k: &Value| (k["key"]["origin"].as_str().unwrap().into(), k["buckets"].as_u64());
    let list = line["absent"].as_array().unwrap();
    for key in list {
        let buckets = key["holes"].as_array().unwrap().iter().map(|h| h["buckets"].as_u64());
        assert_eq!(buckets.sum::<Option<u64>>(), key["buckets"].as_u64());
    }
    list.iter().map(of).map(|(name, n): (String, _)| (name, n.unwrap())).collect()
}

fn nyc() -> Vec<(String, u64)> {
    [("EWR", 27), ("JFK", 24), ("LGA", 24)].map(|(name, n)| (name.to_owned(), n)).to_vec()
}

pub(crate) fn gaps(job: &Job, args: &[&str]) -> Ran {
    job.call("gaps", &[&["--output", "json"], args].concat())
}

/// The program in the job's directory, with exactly these words.
fn program(job: &Job, words: &[&str]) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(words).current_dir(job.dir.path()).output().unwrap().into()
}

#[test]
fn the_example_has_the_gaps_that_it_has() {
    let job = Job::example();
    let before = gaps(&job, &["--detailed-exitcode"]).ended(10).json();
    assert_eq!((&before["v"], &before["cadence"]), (&1.into(), &"1h".into()));
    assert_eq!(absent(&before), nyc());
    let fillable = &before["fillable"];
    assert_eq!((&fillable["rows"], &fillable["buckets"]), (&26_115.into(), &26_115.into()));
    // Nothing is left where nothing was.
    assert!(!job.path(".retrofill").exists() && !job.table().exists());
    job.run().ended(0);
    let (files, state) = (job.files(), fs::read_dir(job.state()).unwrap().count());
    let after = gaps(&job, &["--detailed-exitcode"]).ended(0).json();
    assert_eq!(absent(&after), nyc());
    assert_eq!(after["absent"], before["absent"]);
    assert_eq!(after["fillable"], json!({ "buckets": 0, "rows": 0, "keys": [] }));
    assert_eq!(files, job.files(), "gaps wrote to the table");
    assert_eq!(fs::read_dir(job.state()).unwrap().count(), state);
    let text = job.call("gaps", &[]).ended(0).stdout;
    assert!(text.contains("  a row every 1h, as 99.8 % of neighbouring rows"), "{text}");
    assert!(text.contains("  absent    75 buckets between others"), "{text}");
    assert!(text.contains("EWR  absent    5 buckets  2013-10-26T00:00:00Z"), "{text}");
    assert!(text.is_ascii(), "{text}");
    let planned = job.call("plan", &["--only-gaps", "-o", "gaps.json", "--detailed-exitcode"]);
    assert!(planned.ended(0).stdout.contains("nothing to fill"));
    assert!(!job.path("gaps.json").exists());
    // A given cadence and the plan of the run find the same.
    let plan = job.state().join("plan.json");
    fs::copy(plan, job.path("plan.json")).unwrap();
    let args = ["gaps", "plan.json", "--every", "60min", "--output", "json"];
    assert_eq!(program(&job, &args).ended(0).json()["absent"], before["absent"]);
}

/// Two holes of one station in May and one hour of all in September, by another writer.
const PUNCHED: [&str; 3] = [
    "origin = 'EWR' AND time_hour >= '2013-05-10T06:00:00Z' AND time_hour < '2013-05-12T10:00:00Z'",
    "origin = 'JFK' AND time_hour = '2013-05-01T00:00:00Z'",
    "time_hour = '2013-09-03T00:00:00Z'",
];

fn punched() -> Job {
    let job = Job::example();
    job.run().ended(0);
    for rows in PUNCHED {
        judge::ask(&job, "delete", &[rows]);
    }
    job
}

/// The months of data files of ours.
fn months(files: impl Iterator<Item = String>) -> BTreeSet<String> {
    let month = |name: &str| name.strip_prefix("part-")?.get(..6).map(str::to_owned);
    files.filter_map(|name| month(&name)).collect()
}

#[test]
fn punched_holes_are_found_and_filled_and_nothing_else_is_touched() {
    if !judge::here("gaps::punched_holes_are_found_and_filled_and_nothing_else_is_touched") {
        return;
    }
    let job = punched();
    let found = gaps(&job, &["--detailed-exitcode"]).ended(10).json();
    assert_eq!(absent(&found), nyc());
    let hole = |from: &str, to: &str, n: u64| json!({ "from": from, "to": to, "buckets": n });
    let all = hole("2013-09-03T00:00:00Z", "2013-09-03T01:00:00Z", 1);
    let key = |name: &str, holes: Vec<Value>, n: u64| {
        let key = json!({ "origin": name });
        json!({ "key": key, "buckets": n, "rows": n, "holes": holes })
    };
    let wanted = json!({ "buckets": 56, "rows": 56, "keys": [
        key("EWR", vec![hole("2013-05-10T06:00:00Z", "2013-05-12T10:00:00Z", 52), all.clone()], 53),
        key("JFK", vec![hole("2013-05-01T00:00:00Z", "2013-05-01T01:00:00Z", 1), all.clone()], 2),
        key("LGA", vec![all], 1),
    ] });
    assert_eq!(found["fillable"], wanted);
    let state = |job: &Job| fs::read(job.state().join("plan.json")).unwrap();
    let (frozen, before) = (state(&job), job.files());
    let args = ["--only-gaps", "-o", "gaps.json", "--detailed-exitcode"];
    let text = job.call("plan", &args).ended(10).stdout;
    assert!(text.contains("2 slices, parts of 2013-05-01 <= t < 2013-10-01 UTC"), "{text}");
    assert!(text.contains("56 rows to fill\nNext: retrofill run gaps.json"), "{text}");
    assert_eq!(before, job.files(), "plan wrote to the table");
    let last = program(&job, &["run", "gaps.json", "--output", "json"]).ended(0).json();
    assert_eq!((&last["rows"]["written"], &last["slices"]["verified"]), (&56.into(), &2.into()));
    // Nothing is claimed of the months between.
    assert_eq!(last["verified_through"], "2013-06-01T00:00:00Z");
    assert_eq!(last["verified_back_to"], "2013-09-01T00:00:00Z");
    let page = fs::read_to_string(job.state().join("report.html")).unwrap();
    assert!(page.contains("parts of 2013-05-01 &lt;= t &lt; 2013-10-01 UTC"));
    assert_eq!(judge::equal(&job), 26_115);
    let after = job.files();
    assert!(before.iter().all(|(path, stamp)| after.get(path) == Some(stamp)), "files changed");
    let new = after.keys().filter(|path| !before.contains_key(*path));
    let name = |p: &std::path::PathBuf| p.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(months(new.map(name)), BTreeSet::from(["201305".into(), "201309".into()]));
    assert_eq!(gaps(&job, &["--detailed-exitcode"]).ended(0).json()["fillable"]["rows"], 0);
    // The plan of the whole job is still the job's, and finds everything in order.
    assert_eq!(frozen, state(&job));
    let whole = job.run().ended(0).json();
    assert_eq!((&whole["slices"]["verified"], &whole["rows"]["written"]), (&12.into(), &0.into()));
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
}

#[test]
fn an_orchestrator_fills_one_slice() {
    if !judge::here("gaps::an_orchestrator_fills_one_slice") {
        return;
    }
    let job = punched();
    let plan = job.call("plan", &["--only-gaps", "-o", "gaps.json", "--output", "json"]);
    let slices = plan.ended(0).json()["slices"].as_array().unwrap().len();
    assert_eq!(slices, 2);
    // Another machine: nothing of the job but the plan.
    let exec = |slice: &str| {
        program(&job, &["exec", "gaps.json", "--slice", slice, "--state-dir", "elsewhere"])
    };
    exec("20130501T000000Z").ended(0);
    assert_eq!(gaps(&job, &[]).ended(0).json()["fillable"]["rows"], 3);
    exec("20130601T000000Z").ended(2);
    exec("20130901T000000Z").ended(0);
    assert_eq!(judge::equal(&job), 26_115);
}

/// The table is there, but not by this job: another has loaded the months until June.
#[test]
fn a_job_that_was_never_run_fills_what_is_missing() {
    if !judge::here("gaps::a_job_that_was_never_run_fills_what_is_missing") {
        return;
    }
    let job = Job::example();
    job.call("run", &["--set", "range.to=2013-06-01", "--state-dir", "other"]).ended(0);
    let before = job.files();
    let text = job.call("plan", &["--only-gaps", "-o", "gaps.json"]).ended(0).stdout;
    assert!(text.contains("7 slices, 2013-06-01 <= t < 2014-01-01 UTC"), "{text}");
    assert!(!job.path(".retrofill").exists(), "the plan was put in the place of the job's");
    let last = program(&job, &["run", "gaps.json", "--output", "json"]).ended(0).json();
    assert_eq!(
        (&last["rows"]["already_present"], &last["slices"]["total"]),
        (&0.into(), &7.into())
    );
    assert_eq!(judge::equal(&job), 26_115);
    let after = job.files();
    assert!(before.iter().all(|(path, stamp)| after.get(path) == Some(stamp)), "files changed");
    // The whole job takes over what the gaps' plan has proven, and finds the rest present.
    let whole = job.run().ended(0).json();
    assert_eq!((&whole["slices"]["total"], &whole["rows"]["written"]), (&12.into(), &0.into()));
    assert_eq!(whole["slices"]["verified"], 12);
}

const SMALL: &str = "name: small\nsource: { csv: { path: \"data/*.csv\", types: { v: int64 } } }\n\
                     target: delta:./out\nrange: { every: 1d }\n";

/// Rows of a key at these minutes of a day.
fn rows(key: &str, minutes: impl IntoIterator<Item = u32>) -> String {
    let row = |m: u32| format!("2020-01-01T{:02}:{:02}:00Z,{key},{m}\n", m / 60, m % 60);
    minutes.into_iter().map(row).collect()
}

/// The target has live rows that the source lacks; the source has rows that would be refused.
#[test]
fn live_rows_are_no_gaps_and_refused_rows_fill_none() {
    let job = Job::new(&format!("{SMALL}rows: {{ time: t, key: [k] }}\n"));
    let live = rows("a", (0..600).step_by(10)) + &rows("live", (0..60).step_by(10));
    fs::write(job.path("data/a.csv"), format!("t,k,v\n{live}")).unwrap();
    job.run().ended(0);
    // The files are others now: of `a` every tenth minute from 300 to 890, but for 600 and 610.
    let mut now = rows("a", (300..900).step_by(10).filter(|m| ![600, 610].contains(m)));
    // Equal twice, unequal twice, without a key, and one whose value does not fit.
    now += &rows("a", [700]);
    now += "2020-01-01T00:05:00Z,a,1\n2020-01-01T00:05:00Z,a,2\n";
    now += "2020-01-01T09:05:00Z,,3\n2020-01-01T10:10:00Z,a,x\nsoon,a,4\n";
    fs::write(job.path("data/a.csv"), format!("t,k,v\n{now}")).unwrap();
    let found = gaps(&job, &[]).ended(0).json();
    assert_eq!(found["cadence"], "10min");
    let hole = |from: &str, to: &str, n: u64| {
        let at = |time: &str| format!("2020-01-01T{time}:00Z");
        json!({ "from": at(from), "to": at(to), "buckets": n })
    };
    let wanted = json!({ "buckets": 28, "rows": 28, "keys": [
        { "key": { "k": "a" }, "buckets": 28, "rows": 28,
          "holes": [hole("10:20", "15:00", 28)] },
    ] });
    assert_eq!(found["fillable"], wanted);
    let wanted = json!([{ "key": { "k": "a" }, "buckets": 2,
                          "holes": [hole("10:00", "10:20", 2)] }]);
    assert_eq!(found["absent"], wanted);
    assert_eq!(found["refused"], 4);
    // What it says is what a run does.
    let ran = job.run().json();
    assert_eq!(ran["rows"]["written"], 28, "{ran}");
    assert_eq!(gaps(&job, &[]).ended(0).json()["fillable"]["rows"], 0);
}

#[test]
fn rows_without_a_key_are_missing_one_by_one() {
    let job = Job::new(&format!("{SMALL}rows: {{ time: t }}\n"));
    let all = rows("a", 0..40);
    fs::write(job.path("data/a.csv"), format!("t,k,v\n{all}")).unwrap();
    job.run().ended(0);
    let more = rows("a", [5, 5]) + &rows("b", [39, 41]);
    fs::write(job.path("data/a.csv"), format!("t,k,v\n{all}{more}")).unwrap();
    let found = gaps(&job, &[]).ended(0).json();
    assert_eq!((&found["cadence"], &found["fillable"]["rows"]), (&"1min".into(), &4.into()));
    assert_eq!(found["absent"][0]["buckets"], 1);
    let ran = job.call("plan", &["--only-gaps"]).ended(2);
    assert!(ran.stderr.contains("`--only-gaps` belongs to mode fill-missing, not append"));
}

/// What a plan of some slices leaves out is neither filled nor missing, and it is not the job's
/// plan.
#[test]
fn a_plan_of_gaps_says_nothing_about_the_rest() {
    let hourly = SMALL.replace("1d", "1h");
    let job = Job::new(&format!("{hourly}rows: {{ time: t, key: [k] }}\n"));
    let write = |minutes: Vec<u32>| {
        fs::write(job.path("data/a.csv"), format!("t,k,v\n{}", rows("a", minutes))).unwrap();
    };
    write((0..600).filter(|m| !(130..140).contains(m) && !(400..405).contains(m)).collect());
    job.run().ended(0);
    write((0..600).collect());
    job.call("plan", &[]).ended(0);
    job.call("plan", &["--only-gaps", "-o", "g.json"]).ended(0);
    let of_gaps = |command: &str| -> Ran {
        let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
        program.args([command, "g.json", "--output", "json"]).current_dir(job.dir.path());
        program.output().unwrap().into()
    };
    assert_eq!(of_gaps("run").ended(0).json()["slices"]["total"], 2);
    let found = of_gaps("gaps").ended(0).json();
    assert_eq!((&found["fillable"]["rows"], &found["absent"]), (&0.into(), &json!([])));
    assert_eq!(of_gaps("status").ended(0).json()["total"], 2);
    assert_eq!(job.call("status", &["--output", "json"]).ended(0).json()["total"], 10);
    // Nothing that is no plan is written over.
    let ran = job.call("plan", &["-o", "data/a.csv"]).ended(2);
    assert!(ran.stderr.contains("is no plan"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(job.path("data/a.csv")).unwrap().lines().count(), 601);
}

/// A source that must be sorted to be read leaves nothing behind either.
#[test]
fn a_packed_source_is_sorted_aside() {
    let job =
        Job::new(&format!("{SMALL}rows: {{ time: t, key: [k] }}\n").replace(".csv", ".csv.gz"));
    let file = fs::File::create(job.path("data/a.csv.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let text = format!("t,k,v\n{}", rows("a", (0..300).rev().filter(|m| *m != 77)));
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    packed.finish().unwrap();
    let found = gaps(&job, &[]).ended(0).json();
    assert_eq!(
        (&found["fillable"]["rows"], &found["absent"][0]["buckets"]),
        (&299.into(), &1.into())
    );
    assert!(!job.path(".retrofill").exists());
}

/// What standard error says is what the snapshot has.
macro_rules! said {
    ($ran:expr) => {{
        let said = $ran.stderr;
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(said); });
    }};
}

#[test]
fn a_wrong_cadence_is_named() {
    let job = Job::new(&format!("{SMALL}rows: {{ time: t, key: [k] }}\n"));
    let write = |text: String| fs::write(job.path("data/a.csv"), format!("t,k,v\n{text}")).unwrap();
    // Every 10, 20 and 30 minutes in turn: none of them is the one.
    let irregular = (0..60).scan(0, |at, n| {
        *at += [10, 20, 30][n % 3];
        Some(*at)
    });
    write(rows("a", irregular));
    said!(job.call("gaps", &[]).ended(2));
    let line = gaps(&job, &[]).ended(2).json();
    assert_eq!(line["error"]["kind"], "config");
    write(rows("fast", 0..90) + &rows("slow", (0..1_200).step_by(60)));
    said!(job.call("gaps", &[]).ended(2));
    write(rows("a", (0..1_200).step_by(60)));
    said!(job.call("gaps", &["--every", "1min", "-q"]).ended(0));
    said!(job.call("gaps", &["--every", "6h", "-q"]).ended(0));
    assert_eq!(job.call("gaps", &["-q"]).ended(0).stderr, "");
    let line = gaps(&job, &["--every", "1min"]).ended(0).json();
    assert!(line["doubts"][0].as_str().unwrap().contains("every 1h, not every 1min"), "{line}");
    job.call("gaps", &["--every", "soon"]).ended(2);
}
