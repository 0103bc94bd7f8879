//! Kills, races, foreign files that come meanwhile, and files that are lost or altered.

use std::thread;

use rustix::process::Signal;
use xtask::metrics::Metrics;

use super::*;

const STAGES: [&str; 5] = ["read", "write", "read-back", "commit", "ledger"];

#[test]
fn a_kill_in_any_stage_loses_and_doubles_nothing() {
    if !here("faults::a_kill_in_any_stage_loses_and_doubles_nothing") {
        return;
    }
    for (format, stage) in FORMATS.into_iter().cycle().zip(STAGES) {
        let job = begun(format, "");
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", &format!("{stage}:3"))]);
        assert!(runner.says(&format!("held at {stage}")), "{stage}: {}", runner.stderr());
        runner.kill();
        assert!(job.count("loading") > 0, "{stage}: {:?}", job.states());
        let last = job.run().ended(0).json();
        assert_eq!(last["status"], "verified", "{stage}: {last}");
        assert_eq!(equal(&job, format), 26_115, "{stage}");
        no_litter(&job);
        job.nothing_to_do();
    }
}

/// Other plans of the same rows, one with a ledger of its own, one with slices of its own.
#[test]
fn runners_that_know_nothing_of_each_other_double_nothing() {
    if !here("faults::runners_that_know_nothing_of_each_other_double_nothing") {
        return;
    }
    let job = begun("csv", "");
    fs::write(job.path("weekly.yaml"), spec("csv", "").replace("1mo", "1w")).unwrap();
    thread::scope(|scope| {
        for (spec, state) in [("backfill.yaml", "a"), ("backfill.yaml", "b"), ("weekly.yaml", "c")]
        {
            let dir = job.dir.path();
            scope.spawn(move || {
                for _ in 0..3 {
                    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
                    program.args(["run", spec, "--state-dir", state]).current_dir(dir);
                    let ran = Ran::from(program.output().unwrap());
                    // Whom another one overtakes ends with 1 or 5, and tries again.
                    assert!(matches!(ran.code, Some(0 | 1 | 5)), "{ran:?}");
                    if ran.code == Some(0) {
                        return;
                    }
                }
                panic!("{spec} with {state} never ends");
            });
        }
    });
    assert_eq!(equal(&job, "csv"), 26_115);
    no_litter(&job);
}

/// A writer that adds a file while slices are in hand: with keys of the source, and its own.
#[test]
fn a_file_that_comes_meanwhile_is_seen() {
    let metrics = Metrics::new(100_000, 11);
    let job = Job::metrics(&metrics, "limits: { concurrency: 1 }");
    let text = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let text = text.replace("{ delta: { path: ./out } }", "{ files: { path: ./out } }");
    fs::write(job.path("backfill.yaml"), text).unwrap();
    let source = fs::read_to_string(job.path("data/metrics.csv")).unwrap();
    let mut lines = source.lines();
    let header = lines.next().unwrap();
    let all: Vec<&str> = lines.collect();
    let mut runner = job.start(&["--output", "json"], &[]);
    job.wait_for("loading", 1, &mut runner);
    runner.signal(Signal::STOP);
    // Every hundredth row is there at once, as it is in the source.
    let live: Vec<&str> = all.iter().step_by(100).copied().collect();
    fs::write(job.path("out/.part-0"), format!("{header}\n{}\n", live.join("\n"))).unwrap();
    fs::rename(job.path("out/.part-0"), job.path("out/part-0.csv")).unwrap();
    runner.signal(Signal::CONT);
    let last = runner.end().ended(0).json();
    let present = last["rows"]["already_present"].as_u64().unwrap();
    // Slices that were proven before it came do not know of it.
    assert!(present > 900, "{last}");
    let rows: usize =
        ours(&job).iter().map(|p| fs::read_to_string(p).unwrap().lines().count() - 1).sum();
    assert_eq!(rows as u64 + present, 100_000, "{last}");
}

#[test]
fn a_file_that_is_gone_is_found_and_loaded_again() {
    if !here("faults::a_file_that_is_gone_is_found_and_loaded_again") {
        return;
    }
    for format in FORMATS {
        let job = begun(format, "");
        job.run().ended(0);
        fs::remove_file(&ours(&job)[1]).unwrap();
        job.call("verify", &[]).ended(3);
        job.call("run", &["--select", "mismatched"]).ended(0);
        assert_eq!(equal(&job, format), 26_115, "{format}");
        job.call("verify", &[]).ended(0);
        job.nothing_to_do();
        // Without being asked too.
        fs::remove_file(&ours(&job)[2]).unwrap();
        job.run().ended(0);
        assert_eq!(equal(&job, format), 26_115, "{format}");
    }
}

#[test]
fn a_file_that_was_altered_is_found_and_mended() {
    if !here("faults::a_file_that_was_altered_is_found_and_mended") {
        return;
    }
    for format in FORMATS {
        let job = begun(format, "");
        job.run().ended(0);
        let path = ours(&job)[1].clone();
        let bytes = fs::read(&path).unwrap();
        // Cut in the middle of a line, or of a page.
        fs::write(&path, &bytes[..bytes.len() / 2 + 3]).unwrap();
        job.call("verify", &[]).ended(3);
        job.call("run", &["--select", "mismatched"]).ended(0);
        assert_eq!(equal(&job, format), 26_115, "{format}");
        job.call("verify", &[]).ended(0);
        job.nothing_to_do();
        let aside = job.path("out/_retrofill/removed");
        assert_eq!(fs::read_dir(aside).unwrap().count(), 1, "{format}");
    }
}

/// Somebody corrects a value by hand: that row is live, and stays.
#[test]
fn a_value_that_was_corrected_stays() {
    let job = begun_small();
    job.run().ended(0);
    let path = ours(&job)[0].clone();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(",a,2\n", ",a,9\n")).unwrap();
    job.call("verify", &[]).ended(3);
    let last = job.call("run", &["--select", "mismatched", "--output", "json"]).ended(0).json();
    assert_eq!(last["rows"]["conflicting"], 1, "{last}");
    assert!(fs::read_to_string(&path).unwrap().contains(",a,9\n"));
    job.nothing_to_do();
}

fn begun_small() -> Job {
    let job = Job::new(
        "source: { csv: { path: \"data/*.csv\" } }\ntarget: files:out\n\
         rows: { time: t, key: [site] }\nrange: { every: 1d }\n",
    );
    let rows = "t,site,v\n2020-01-01T06:00:00Z,a,2\n2020-01-01T07:00:00Z,a,3\n";
    fs::write(job.path("data/a.csv"), rows).unwrap();
    job
}
