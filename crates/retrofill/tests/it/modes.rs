//! The modes that change rows which are there: upsert and replace.

use std::fs;

use xtask::metrics::Metrics;

use crate::harness::{Job, Ran};
use crate::judge;

const ROWS: u64 = 12_000;
const HOSTS: u64 = 4;

/// A table that was loaded by one plan, and compacted into one file, so that all slices share it.
fn loaded() -> Job {
    let job = Job::metrics(&Metrics::new(ROWS, HOSTS), "");
    job.run().ended(0);
    if judge::here("modes::loaded") {
        judge::ask(&job, "compact", &[]);
    }
    job
}

/// The same source with other values, in every third line.
fn mended(job: &Job) {
    let mut metrics = Metrics::new(ROWS, HOSTS);
    metrics.seed = 2;
    let other = job.path("other.csv");
    metrics.write(&other).unwrap();
    let path = job.path("data/metrics.csv");
    let (old, new) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(&other).unwrap());
    let pick = |(n, (old, new)): (usize, (&str, &str))| {
        let line = if n % 3 == 1 { new } else { old };
        line.to_owned() + "\n"
    };
    let mixed: String = old.lines().zip(new.lines()).enumerate().map(pick).collect();
    fs::write(path, mixed).unwrap();
}

/// Keeps the lines of the source whose number passes.
fn thinned(job: &Job, keep: impl Fn(usize) -> bool) -> u64 {
    let path = job.path("data/metrics.csv");
    let text = fs::read_to_string(&path).unwrap();
    let kept = text.lines().enumerate().filter(|(n, _)| *n == 0 || keep(*n));
    let kept: Vec<_> = kept.map(|(_, line)| line).collect();
    fs::write(path, kept.join("\n") + "\n").unwrap();
    kept.len() as u64 - 1
}

fn write(job: &Job, how: &str) {
    let path = job.path("backfill.yaml");
    let spec = fs::read_to_string(&path).unwrap();
    let spec: Vec<_> = spec.lines().filter(|l| !l.starts_with("write:")).collect();
    fs::write(path, format!("{}\nwrite: {how}\n", spec.join("\n"))).unwrap();
}

fn go(job: &Job, more: &[&str]) -> Ran {
    job.call("run", &[&["--replan", "--output", "json"], more].concat())
}

#[test]
fn upsert_puts_the_sources_rows_in_the_place_of_others() {
    if !judge::here("modes::upsert_puts_the_sources_rows_in_the_place_of_others") {
        return;
    }
    let job = loaded();
    mended(&job);
    write(&job, "{ mode: upsert }");
    let last = go(&job, &[]).ended(0).json();
    assert_eq!(judge::equal(&job), ROWS);
    let rows = &last["rows"];
    assert_eq!(rows["updated"], ROWS / 3, "{last}");
    assert_eq!(rows["already_present"], ROWS - ROWS / 3, "{last}");
    job.nothing_to_do();
    job.call("verify", &[]).ended(0);
    // Rows that the source does not have stay.
    let whole = fs::read(job.path("data/metrics.csv")).unwrap();
    thinned(&job, |n| n % 2 == 0);
    go(&job, &[]).ended(0);
    fs::write(job.path("data/metrics.csv"), whole).unwrap();
    assert_eq!(judge::equal(&job), ROWS);
}

#[test]
fn an_upsert_killed_at_any_stage_is_whole_after_a_rerun() {
    if !judge::here("modes::an_upsert_killed_at_any_stage_is_whole_after_a_rerun") {
        return;
    }
    for stage in ["write:5", "remove:3", "read-back:4", "commit:5", "ledger:6"] {
        let job = loaded();
        mended(&job);
        write(&job, "{ mode: upsert }");
        let mut runner = job.start(&["--replan"], &[("RETROFILL_HOLD", stage)]);
        let name = stage.split(':').next().unwrap();
        assert!(runner.says(&format!("held at {name}")), "{}", runner.stderr());
        runner.kill();
        go(&job, &[]).ended(0);
        assert_eq!(judge::equal(&job), ROWS, "killed at {stage}");
        job.nothing_to_do();
    }
}

#[test]
fn replace_leaves_exactly_what_the_source_has() {
    if !judge::here("modes::replace_leaves_exactly_what_the_source_has") {
        return;
    }
    let job = loaded();
    mended(&job);
    let left = thinned(&job, |n| n % 20 != 7);
    write(&job, "{ mode: replace, scope: all }");
    let asked = go(&job, &[]).ended(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert!(asked.stderr.contains("every row"), "{}", asked.stderr);
    assert!(!judge::is_equal(&job));
    go(&job, &["--yes"]).ended(0);
    assert_eq!(judge::equal(&job), left);
    job.nothing_to_do();
    job.call("verify", &[]).ended(0);
}

#[test]
fn a_source_that_lost_rows_replaces_nothing() {
    let job = loaded();
    thinned(&job, |n| n % 2 == 0);
    write(&job, "{ mode: replace, scope: all }");
    let before = fs::read_dir(job.table().join("_delta_log")).unwrap().count();
    let ran = go(&job, &["--yes"]).ended(1);
    assert!(ran.stderr.contains("min_keep") || ran.stdout.contains("min_keep"), "{ran:?}");
    assert_eq!(before, fs::read_dir(job.table().join("_delta_log")).unwrap().count());
    write(&job, "{ mode: replace, scope: all, min_keep: 0.4 }");
    go(&job, &["--yes"]).ended(0);
    if judge::here("modes::a_source_that_lost_rows_replaces_nothing") {
        assert_eq!(judge::equal(&job), ROWS / 2);
    }
}

#[test]
fn what_lies_outside_of_the_scope_stays() {
    if !judge::here("modes::what_lies_outside_of_the_scope_stays") {
        return;
    }
    let job = loaded();
    let path = job.path("data/metrics.csv");
    let all = fs::read_to_string(&path).unwrap();
    // Only two of four hosts, and of these a few rows less.
    let ours = |l: &str| l.contains("host_0000") || l.contains("host_0001");
    let scope = "{ mode: replace, scope: { hostname: [host_0000, host_0001] } }";
    let some: Vec<_> = all.lines().enumerate().filter(|(n, l)| *n == 0 || ours(l)).collect();
    let some: Vec<_> = some.into_iter().filter(|(n, _)| n % 20 != 5).map(|(_, l)| l).collect();
    fs::write(&path, some.join("\n") + "\n").unwrap();
    write(&job, scope);
    go(&job, &["--yes"]).ended(0);
    let rest: Vec<_> = all.lines().skip(1).filter(|l| !ours(l)).collect();
    fs::write(&path, [&some[..], &rest[..]].concat().join("\n") + "\n").unwrap();
    assert_eq!(judge::equal(&job), (some.len() - 1 + rest.len()) as u64);

    // A row outside of the scope in the source: nothing is committed.
    fs::write(&path, all).unwrap();
    let ran = go(&job, &["--yes"]).ended(1);
    assert!(format!("{ran:?}").contains("outside of `write.scope`"), "{ran:?}");
}
