//! Commands that look and change nothing, and what machines are told.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Job, Ran};

#[test]
fn a_preview_shows_rows_and_leaves_nothing_behind() {
    let job = Job::example();
    let ran = job.call("preview", &["-n", "3", "--output", "json"]).ended(0);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["rows"]), (4, &26_115.into()));
    assert_eq!(lines[1]["row"]["origin"], "EWR");
    assert_eq!(lines[1]["row"]["temp"], 39.02);
    let text = job.call("preview", &[]).ended(0).stdout;
    assert!(text.contains("the first 20 rows of 26,115 rows"), "{text}");
    assert!(!job.path(".retrofill").exists() && !job.table().exists());
}

#[test]
fn a_preview_tells_what_would_be_refused() {
    let job = Job::new(
        "source: { csv: { path: \"data/*.csv.gz\", types: { v: int64 } } }\n\
         target: delta:./out\nrows: { time: t, key: [site] }\n",
    );
    let text = "t,site,v\n2020-01-01,a,1\nsoon,b,2\n2020-01-01,c,x\n2020-01-02,,4\n";
    let file = fs::File::create(job.path("data/a.csv.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
    let ran = job.call("preview", &["--output", "json"]).ended(0);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rejects: Vec<_> = lines.iter().filter_map(|l| l.get("reject")).collect();
    let mut places: Vec<_> = rejects.iter().map(|r| r["place"]["line"].as_u64().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, [3, 4, 5], "{}", ran.stdout);
    assert_eq!(lines.iter().filter(|l| l.get("row").is_some()).count(), 1);
    assert!(!job.path(".retrofill").exists());
}

#[test]
fn jobs_are_listed() {
    let job = Job::example();
    let list = |args: &[&str]| -> Ran {
        let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
        program.arg("list").args(args).current_dir(job.dir.path()).output().unwrap().into()
    };
    assert!(list(&[]).ended(0).stdout.contains("no job was planned here"));
    job.call("plan", &[]).ended(0);
    let plans = |ran: Ran| ran.json()["plans"].clone();
    let plan = plans(list(&["--output", "json"]).ended(0))[0].clone();
    assert_eq!((&plan["name"], &plan["state"]), (&"nyc-weather".into(), &"incomplete".into()));
    job.run().ended(0);
    let plan = plans(list(&["--output", "json"]).ended(0))[0].clone();
    assert_eq!((&plan["state"], &plan["rows"]), (&"verified".into(), &26_115.into()));
    let text = list(&[]).ended(0).stdout;
    assert!(text.contains("12/12  26,115"), "{text}");
    fs::write(job.state().join("ledger.db"), "no ledger at all, but long enough").unwrap();
    let ran = list(&[]).ended(2);
    assert!(ran.stderr.contains("ledger.db"), "{}", ran.stderr);
}

#[test]
fn a_call_that_fails_tells_machines_why() {
    let job = Job::example();
    let args = ["--set", "rows.key=[orgin]", "--output", "json", "--summary-file", "last.json"];
    let ran = job.call("run", &args).ended(2);
    let line = ran.json();
    assert_eq!((&line["status"], &line["exit"]), (&"failed".into(), &2.into()));
    assert_eq!(line["error"]["message"], "--set: the source has no column `orgin`");
    let hint = line["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("did you mean `origin`?"), "{hint}");
    let kept = fs::read_to_string(job.path("last.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), line);
    let args = ["--yes", "--output", "json", "--summary-file", "undone.json"];
    let line = job.call("undo", &args).ended(2).json();
    let kept = fs::read_to_string(job.path("undone.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), line);
    let ran = job.call("run", &["--set", "range.evry=1d", "--output", "json"]).ended(2);
    let problem = &ran.json()["error"]["problems"][0];
    assert_eq!((&problem["set"], &problem["line"]), (&"range.evry=1d".into(), &json!(null)));
    let usage = job.call("run", &["--output", "json", "--nonsense"]).ended(2).json();
    assert_eq!(usage["error"]["kind"], "usage");
}

#[test]
fn a_missing_column_is_pointed_to_in_the_spec() {
    let job = Job::example();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    fs::write(job.path("backfill.yaml"), spec.replace("[origin]", "[origin, dets]")).unwrap();
    let ran = job.call("plan", &[]).ended(2);
    let line = spec.lines().position(|l| l.starts_with("rows:")).unwrap() + 1;
    let column = spec.lines().nth(line - 1).unwrap().find("origin]").unwrap() + 9;
    let place = format!("backfill.yaml:{line}:{column}: the source has no column `dets`");
    assert!(ran.stderr.contains(&place), "{place}\n{}", ran.stderr);
}

#[test]
fn a_spec_may_come_from_standard_input() {
    let job = Job::example();
    let spec = json!({
        "name": "piped", "source": "data/*.csv", "target": "delta:./out",
        "rows": { "time": "time_hour", "key": ["origin"] },
    });
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["run", "-", "--set", "source={ csv: { path: 'data/*.csv', null: [NA] } }"]);
    program.args(["--output", "json"]).current_dir(job.dir.path());
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.ended(0).json()["rows"]["written"], 26_115);
    assert!(job.path(".retrofill/piped/ledger.db").exists());
}

#[test]
fn empty_variables_count_as_not_set() {
    let job = Job::example();
    let mut program = job.command("plan", &[]);
    for name in ["OUTPUT", "STATE_DIR", "OUT", "SET", "DETAILED_EXITCODE", "QUIET"] {
        program.env(format!("RETROFILL_{name}"), "");
    }
    let ran: Ran = program.output().unwrap().into();
    assert!(ran.ended(0).stdout.contains("Next: retrofill run"));
    assert!(job.path(".retrofill/nyc-weather/plan.json").exists());
}

#[test]
fn outstanding_work_has_an_exit_code_of_its_own() {
    let job = Job::example();
    job.call("plan", &["--detailed-exitcode"]).ended(10);
    job.call("status", &["--detailed-exitcode"]).ended(10);
    let ran: Ran =
        job.command("status", &[]).env("RETROFILL_DETAILED_EXITCODE", "1").output().unwrap().into();
    ran.ended(10);
    job.run().ended(0);
    job.call("plan", &["--detailed-exitcode"]).ended(0);
    let watched = job.call("status", &["--watch", "--detailed-exitcode"]).ended(0);
    assert!(watched.stdout.contains("done 12/12"), "{}", watched.stdout);
}

/// Who watches a run does not watch forever when it dies.
#[test]
fn watching_ends_with_the_runner() {
    let job = Job::example();
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:1")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    let mut watch = job.start_as("status", &["--watch"], &[]);
    assert!(watch.says("running on"), "it does not see the runner: {}", watch.stderr());
    runner.kill();
    let text = watch.end().ended(0).stdout;
    let last = text.lines().rfind(|l| l.contains("done "));
    assert!(last.is_some_and(|l| !l.contains("done 12/12")), "{text}");
}
