//! `plan --survey sample`: near the truth, by few bytes, and never taken for a plan.

use std::fs;
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;
use xtask::metrics::Metrics;

use crate::harness::{Job, Ran};
use crate::judge::{self, judge};
use crate::objects::on_the_web;

const SAMPLE: [&str; 4] = ["--survey", "sample", "--output", "json"];

/// The estimate, marked as one; nothing was kept for it.
#[track_caller]
fn estimate(job: &Job) -> Value {
    let estimate = job.call("plan", &SAMPLE).ended(0).json();
    assert_eq!(estimate["v"], "estimate");
    assert!(!job.path(".retrofill").exists(), "a state directory was left");
    estimate
}

fn rows(slice: &Value) -> u64 {
    slice["rows"].as_u64().unwrap()
}

fn all_rows(estimate: &Value) -> u64 {
    estimate["slices"].as_array().unwrap().iter().map(rows).sum()
}

/// Fails where a number is not within so many parts of a hundred of the true one.
#[track_caller]
fn near(number: u64, truth: u64, percent: u64) {
    let off = number.abs_diff(truth);
    assert!(off * 100 <= truth * percent, "{number} instead of {truth}, {percent} % are allowed");
}

fn notes(estimate: &Value) -> String {
    estimate["notes"].to_string()
}

fn seconds(time: &Value) -> u64 {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().as_second() as u64
}

/// Rows that the generator writes into every full hour.
fn in_an_hour(hosts: u64) -> u64 {
    3_600_000 / xtask::metrics::STEP_MS as u64 * hosts
}

#[test]
fn a_sample_is_near_the_truth_and_reads_little() {
    if !judge::here("sample::a_sample_is_near_the_truth_and_reads_little") {
        return;
    }
    let (mut web, job, size) = on_the_web(&Metrics::new(300_000, 5));
    let estimate = estimate(&job);
    let served = web.served();
    assert!(served < size / 5, "{served} of {size} were read for a sample");
    let looked_at = estimate["survey"]["sampled"]["looked_at"].as_u64().unwrap();
    assert!(0 < looked_at && looked_at <= served, "{looked_at} of {served}");
    near(all_rows(&estimate), 300_000, 1);
    let slices = estimate["slices"].as_array().unwrap();
    // 60,000 steps of ten seconds: 166 hours, and two thirds of one more.
    assert_eq!(slices.len(), 167);
    assert_eq!(estimate["range"]["from"], "2024-01-01T00:00:00Z");
    assert_eq!(estimate["range"]["to"], "2024-01-07T23:00:00Z");
    for slice in &slices[..166] {
        near(rows(slice), in_an_hour(5), 5);
    }
    near(rows(&slices[166]), in_an_hour(5) * 2 / 3, 10);
    let text = job.call("plan", &["--survey", "sample"]).ended(0).stdout;
    assert!(text.contains("ESTIMATE") && text.contains("about 167 slices"), "{text}");
    let plan = job.call("plan", &["--output", "json"]).ended(0).json();
    assert_eq!((&plan["v"], all_rows(&plan)), (&"1".into(), 300_000));
    assert_eq!(
        (&plan["survey"]["rows"], &plan["survey"]["sampled"]),
        (&300_000.into(), &Value::Null)
    );
}

#[test]
fn nothing_runs_from_an_estimate() {
    let job = Job::example();
    let written = job.call("plan", &["--survey", "sample", "-o", "estimate.json"]).ended(0);
    assert!(written.stdout.contains("ESTIMATE, nothing is planned"), "{}", written.stdout);
    let printed = job.call("plan", &SAMPLE).ended(0).stdout;
    fs::write(job.path("printed.json"), printed).unwrap();
    for name in ["estimate.json", "printed.json"] {
        for command in ["run", "trial", "gaps", "plan"] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
            program.args([command, name]).current_dir(job.dir.path());
            let ran = Ran::from(program.output().unwrap()).ended(2);
            assert!(ran.stderr.contains("is an estimate by a sample"), "{}", ran.stderr);
            assert!(ran.stderr.contains("plan without `--survey sample`"), "{}", ran.stderr);
        }
    }
    assert!(!job.table().exists() && !job.path(".retrofill").exists());
    for flag in ["--only-gaps", "--detailed-exitcode"] {
        let ran = job.call("plan", &["--survey", "sample", flag]).ended(2);
        assert!(ran.stderr.contains(&format!("`{flag}` cannot be told from a sample")));
    }
    // Nor does one that is asked for in the middle of things change anything.
    job.call("plan", &[]).ended(0);
    let frozen = fs::read(job.state().join("plan.json")).unwrap();
    job.call("plan", &SAMPLE).ended(0);
    assert_eq!(fs::read(job.state().join("plan.json")).unwrap(), frozen);
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 26_115, "{last}");
    if judge::here("sample::nothing_runs_from_an_estimate") {
        assert_eq!(judge::equal(&job), 26_115);
    }
}

#[test]
fn of_packed_files_the_head_tells_the_rest() {
    let job = Job::metrics(&Metrics { gzip: true, ..Metrics::new(300_000, 5) }, "");
    let size = fs::metadata(job.path("data/metrics.csv.gz")).unwrap().len();
    let estimate = estimate(&job);
    let looked_at = estimate["survey"]["sampled"]["looked_at"].as_u64().unwrap();
    assert!(looked_at < size / 4, "{looked_at} of {size}");
    near(all_rows(&estimate), 300_000, 5);
    let from = seconds(&estimate["range"]["from"]);
    assert_eq!(estimate["range"]["from"], "2024-01-01T00:00:00Z");
    near(seconds(&estimate["range"]["to"]) - from, 600_000, 5);
    assert!(notes(&estimate).contains("can only be read from its start"), "{estimate}");
}

#[test]
fn rows_without_order_are_told() {
    let job = Job::metrics(&Metrics { shuffled: true, ..Metrics::new(120_000, 5) }, "");
    let estimate = estimate(&job);
    let sampled = &estimate["survey"]["sampled"];
    assert!(sampled["looked_at"].as_u64() < sampled["bytes"].as_u64(), "{sampled}");
    near(all_rows(&estimate), 120_000, 1);
    assert!(notes(&estimate).contains("is not ordered by time"), "{estimate}");
    let ordered = Job::metrics(&Metrics::new(1_000, 5), "");
    let estimate = self::estimate(&ordered);
    assert_eq!(all_rows(&estimate), 1_000, "all of a small file is looked at");
    assert!(!notes(&estimate).contains("ordered"), "{estimate}");
}

/// Files that tell of themselves how many rows they hold: Parquet also when they were.
#[test]
fn typed_files_tell_their_rows() {
    if !judge::here("sample::typed_files_tell_their_rows") {
        return;
    }
    for (kind, make) in [
        ("parquet", &["pack", "DIR", "time_hour", "256"][..]),
        ("arrow", &["typed", "DIR", "arrow", "time_hour"]),
        ("avro", &["typed", "DIR", "avro", "time_hour"]),
    ] {
        let job = Job::example();
        let dir = job.path("made");
        let make: Vec<_> = make
            .iter()
            .map(|arg| if *arg == "DIR" { dir.to_str().unwrap() } else { arg })
            .collect();
        Ran::from(judge(&make).args(job.sources()).output().unwrap()).ended(0);
        let spec = format!(
            "name: made\nsource: {{ {kind}: {{ path: \"made/*\" }} }}\ntarget: delta:out\n\
             rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: 1mo }}\n"
        );
        fs::write(job.path("backfill.yaml"), spec).unwrap();
        let sample = estimate(&job);
        let truth = job.call("plan", &["--output", "json"]).ended(0).json();
        assert_eq!((all_rows(&sample), all_rows(&truth)), (26_115, 26_115), "{kind}");
        assert_eq!(sample["range"], truth["range"], "{kind}");
        let slices = sample["slices"].as_array().unwrap();
        assert_eq!(slices.len(), 12, "{kind}");
        for slice in slices {
            near(rows(slice), 26_115 / 12, 10);
        }
        let told = notes(&sample).contains("no row was read");
        assert_eq!(told, kind == "parquet", "{sample}");
        let sampled = &sample["survey"]["sampled"];
        let part = sampled["looked_at"].as_u64() < sampled["bytes"].as_u64();
        // Blocks of Avro are taken together up to 4 MiB, which is all of such files.
        assert_eq!(part, kind != "avro", "{kind}: {sampled}");
    }
}
