//! The README's first command.

use std::process::Command;

use serde_json::json;

use crate::harness::{Job, example_dir};
use crate::judge;

#[test]
fn the_first_screen_is_the_one_in_the_readme() {
    let job = Job::example();
    let ran = job.call("run", &[]).ended(0);
    for line in [
        "read 26,115 = written 26,115 + updated 0 + present 0 + conflicts 0 + duplicates 0 \
         + rejected 0 + filtered 0",
        "verified 12/12",
        "2013-01-01 <= t < 2014-01-01 UTC",
        "verified through 2014-01-01T00:00:00Z",
    ] {
        assert!(ran.stdout.contains(line), "`{line}` is missing from\n{}", ran.stdout);
    }
    job.nothing_to_do();
}

#[test]
fn the_last_line_is_json_for_machines() {
    let job = Job::example();
    let last = job.run().ended(0).json();
    assert_eq!(last["v"], 1);
    assert_eq!(last["status"], "verified");
    assert_eq!(last["exit"], 0);
    let slices = json!({
        "total": 12, "verified": 12, "empty": 0, "failed": 0, "mismatched": 0, "stale": 0,
        "unknown": 0, "planned": 0,
    });
    assert_eq!(last["slices"], slices);
    let rows = json!({
        "read": 26_115, "written": 26_115, "updated": 0, "already_present": 0, "conflicting": 0,
        "duplicate": 0, "rejected": 0, "filtered": 0,
    });
    assert_eq!(last["rows"], rows);
    assert_eq!(last["plan_rows"], rows);
    assert_eq!(last["verified_through"], "2014-01-01T00:00:00Z");
    assert_eq!(last["verified_back_to"], "2013-01-01T00:00:00Z");
    for field in ["plan", "digest", "seconds", "rows_per_second"] {
        assert!(!last[field].is_null(), "`{field}` is missing");
    }
    let again = job.run().ended(0).json();
    assert_eq!(again["rows"]["read"], 0);
    assert_eq!(again["plan_rows"], rows);
    assert_eq!(again["digest"], last["digest"]);
    assert_eq!(again["plan"], last["plan"]);
}

#[test]
fn the_table_holds_what_the_files_say() {
    if !judge::here("example::the_table_holds_what_the_files_say") {
        return;
    }
    let job = Job::example();
    job.run().ended(0);
    assert_eq!(judge::equal(&job), 26_115);
    let types = &judge::ask(&job, "types", &[])[0];
    assert_eq!(types["origin"], "string");
    assert_eq!(types["hour"], "int64");
    assert_eq!(types["time_hour"], "timestamp[us, tz=UTC]");
    // Whole numbers until far down in the files.
    assert_eq!(types["visib"], "double");
}

#[test]
fn what_the_example_leaves_behind_is_ignored_by_git() {
    let here = example_dir();
    let git = |args: &[&str]| {
        let out = Command::new("git").current_dir(&here).args(args).output();
        out.ok().filter(|o| o.status.success()).map(|o| String::from_utf8(o.stdout).unwrap())
    };
    // In a source archive there is no repository to keep clean.
    if git(&["rev-parse", "--git-dir"]).is_none() {
        return;
    }
    for made in ["out/_delta_log/00000000000000000000.json", ".retrofill/nyc-weather/ledger.db"] {
        assert!(git(&["check-ignore", made]).is_some(), "{made} is not ignored");
    }
}
