//! Sources other than CSV: another program wrote them, and another one compares.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::exec::exec;
use crate::harness::{Job, Ran};
use crate::judge::{self, judge};

/// The example's rows as Parquet files in `packed/`, with a spec that reads those.
fn packed(order: &str, group: &str, every: &str) -> Job {
    let job = Job::example();
    let dir = job.path("packed");
    let mut pack = judge(&["pack", dir.to_str().unwrap(), order, group]);
    let ran: Ran = pack.args(job.sources()).output().unwrap().into();
    let files = ran.ended(0).stdout;
    let groups: u64 = files
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["groups"].as_u64().unwrap())
        .sum();
    assert!(groups >= 12, "{files}");
    let spec = format!(
        "name: packed\nsource: {{ parquet: {{ path: \"packed/*.parquet\" }} }}\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: time_hour, key: [origin] }}\n\
         range: {{ every: {every} }}\n"
    );
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    job
}

#[test]
fn parquet_files_are_loaded_whole() {
    if !judge::here("formats::parquet_files_are_loaded_whole") {
        return;
    }
    let job = packed("time_hour", "2048", "1mo");
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 26_115, "{last}");
    assert_eq!(judge::equal(&job), 26_115);
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
}

/// Another program writes the objects; half of the files are packed, and no row stands in order.
#[test]
fn ndjson_files_are_loaded_whole() {
    if !judge::here("formats::ndjson_files_are_loaded_whole") {
        return;
    }
    for (order, every) in [("time_hour", "1mo"), ("hash(time_hour, origin)", "1d")] {
        let job = Job::example();
        let dir = job.path("objects");
        let mut made = judge(&["objects", dir.to_str().unwrap(), order]);
        Ran::from(made.args(job.sources()).output().unwrap()).ended(0);
        let spec = format!(
            "name: objects\nsource: \"ndjson:objects/*\"\ntarget: delta:out\n\
             rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: {every} }}\n"
        );
        fs::write(job.path("backfill.yaml"), spec).unwrap();
        let last = job.run().ended(0).json();
        assert_eq!(last["rows"]["written"], 26_115, "{last}");
        assert_eq!(judge::equal(&job), 26_115);
        job.call("verify", &[]).ended(0);
        job.nothing_to_do();
    }
}

/// Arrow and Avro, compressed in every way, in order and without.
#[test]
fn typed_files_are_loaded_whole() {
    if !judge::here("formats::typed_files_are_loaded_whole") {
        return;
    }
    for kind in ["arrow", "avro"] {
        for (order, every) in [("time_hour", "1mo"), ("hash(time_hour, origin)", "1d")] {
            let job = Job::example();
            let dir = job.path("typed");
            let mut made = judge(&["typed", dir.to_str().unwrap(), kind, order]);
            Ran::from(made.args(job.sources()).output().unwrap()).ended(0);
            let spec = format!(
                "name: typed\nsource: \"{kind}:typed/*\"\ntarget: delta:out\n\
                 rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: {every} }}\n"
            );
            fs::write(job.path("backfill.yaml"), spec).unwrap();
            let last = job.run().ended(0).json();
            assert_eq!(last["rows"]["written"], 26_115, "{kind}: {last}");
            assert_eq!(judge::equal(&job), 26_115, "{kind}");
            job.call("verify", &[]).ended(0);
            job.nothing_to_do();
        }
    }
}

/// Every byte of a file that decides what its rows are is seen to have changed.
#[test]
fn changed_and_damaged_typed_files_are_named() {
    if !judge::here("formats::changed_and_damaged_typed_files_are_named") {
        return;
    }
    for kind in ["arrow", "avro"] {
        let job = Job::example();
        let dir = job.path("typed");
        let mut made = judge(&["typed", dir.to_str().unwrap(), kind, "time_hour"]);
        Ran::from(made.args(job.sources()).output().unwrap()).ended(0);
        let spec = format!(
            "name: typed\nsource: {{ {kind}: {{ path: typed/* }} }}\ntarget: delta:out\n\
             rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: 1mo }}\n"
        );
        fs::write(job.path("backfill.yaml"), spec).unwrap();
        job.call("plan", &["-o", "plan.json"]).ended(0);
        let file = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).min().unwrap();
        let good = fs::read(&file).unwrap();
        // In the midst of the rows of the first month.
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, &bad).unwrap();
        let last = exec(&job, "20130101T000000Z").ended(1).json();
        assert_eq!((&last["slices"]["stale"], &last["rows"]["written"]), (&1.into(), &0.into()));
        fs::write(&file, &good[..good.len() - 7]).unwrap();
        let ran = job.call("run", &["--replan"]).ended(2);
        assert!(ran.stderr.contains("is damaged"), "{}", ran.stderr);
        fs::write(&file, "time_hour,origin\n").unwrap();
        let ran = job.call("run", &["--replan"]).ended(2);
        assert!(ran.stderr.contains("is not an"), "{}", ran.stderr);
        fs::write(&file, good).unwrap();
        job.call("run", &["--replan"]).ended(0);
        assert_eq!(judge::equal(&job), 26_115, "{kind}");
    }
}

/// Rows without order in few row groups, slices of a day: one pass sorts them.
#[test]
fn shuffled_parquet_files_are_loaded_whole() {
    if !judge::here("formats::shuffled_parquet_files_are_loaded_whole") {
        return;
    }
    let job = packed("hash(time_hour, origin)", "100000", "1d");
    let last = job.run().ended(0).json();
    assert_eq!(last["slices"]["verified"], 364, "{last}");
    assert_eq!(judge::equal(&job), 26_115);
    assert!(!job.state().join("staging").exists(), "the sorted copy was left behind");
    job.nothing_to_do();
}

/// A file that is replaced between plan and run is not loaded; a damaged one is named.
#[test]
fn changed_and_damaged_parquet_files_are_named() {
    if !judge::here("formats::changed_and_damaged_parquet_files_are_named") {
        return;
    }
    let job = packed("time_hour", "100000", "1mo");
    job.call("plan", &["-o", "plan.json"]).ended(0);
    let files: Vec<_> = {
        let mut files: Vec<_> =
            fs::read_dir(job.path("packed")).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        files
    };
    let whole = fs::read(&files[0]).unwrap();
    let mut other = whole.clone();
    other[whole.len() / 3] ^= 1;
    fs::write(&files[0], &other).unwrap();
    let last = exec(&job, "20130101T000000Z").ended(1).json();
    assert_eq!((&last["slices"]["stale"], &last["rows"]["written"]), (&1.into(), &0.into()));
    fs::write(&files[0], &whole[..whole.len() / 2]).unwrap();
    let ran = job.call("run", &["--replan"]).ended(2);
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert!(ran.stderr.contains(name), "{}", ran.stderr);
    fs::write(&files[0], &whole).unwrap();
    job.run().ended(0);
    assert_eq!(judge::equal(&job), 26_115);
}

/// The list is made by another program; what is not as it says is named, and nothing is loaded.
#[test]
fn files_are_held_against_their_checksums() {
    let job = Job::example();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let listed = spec.replace("data/*.csv\",", "data/*.csv\", checksums: SHA256SUMS,");
    assert_ne!(spec, listed);
    fs::write(job.path("backfill.yaml"), listed).unwrap();
    let sums = Command::new("sha256sum").args(job.sources()).output().unwrap();
    let sums = String::from_utf8(sums.stdout).unwrap();
    let sums = sums.replace(&format!("{}/", job.dir.path().display()), "");
    fs::write(job.path("SHA256SUMS"), &sums).unwrap();
    let march = job.path("data/2013-03.csv");
    let whole = fs::read(&march).unwrap();
    let mut altered = whole.clone();
    altered[1000] ^= 1;
    fs::write(&march, &altered).unwrap();
    let refused = |what: &str| {
        let ran = job.run().ended(2);
        assert!(ran.stderr.contains(what), "{}", ran.stderr);
        assert!(!job.table().exists(), "something was loaded");
    };
    refused("`data/2013-03.csv` is not the file that `SHA256SUMS` lists: its checksum is");
    fs::write(&march, &whole).unwrap();
    fs::copy(&march, job.path("data/extra.csv")).unwrap();
    refused("`data/extra.csv` is not listed in `SHA256SUMS`");
    fs::remove_file(job.path("data/extra.csv")).unwrap();
    fs::rename(&march, job.path("march")).unwrap();
    refused("`data/2013-03.csv` is listed in `SHA256SUMS` and not there");
    fs::rename(job.path("march"), &march).unwrap();
    assert_eq!(job.run().ended(0).json()["rows"]["written"], 26_115);

    // Whether files are checked does not decide which rows are meant.
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    job.nothing_to_do();
}

#[test]
fn a_delta_table_is_a_source_too() {
    if !judge::here("formats::a_delta_table_is_a_source_too") {
        return;
    }
    let job = Job::example();
    job.run().ended(0);
    fs::rename(job.table(), job.path("first")).unwrap();
    let spec = "name: copy\nsource: delta:first\ntarget: delta:out\n\
                rows: { time: time_hour, key: [origin] }\nrange: { every: 1w }\n";
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 26_115, "{last}");
    assert_eq!(judge::equal(&job), 26_115);
}
