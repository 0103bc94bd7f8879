//! Refused rows: listed, taken out, mended and tried again.

use std::fs;
use std::process::{Command, Stdio};

use xtask::metrics::Metrics;

use crate::harness::{Job, Ran};
use crate::judge;

const ROWS: u64 = 12_000;

fn rejects(job: &Job, what: &str, args: &[&str]) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["rejects", what, "backfill.yaml"]).args(args);
    program.current_dir(job.dir.path()).stdin(Stdio::null()).output().unwrap().into()
}

/// Three lines that cannot be loaded, the last of which has no time; gives the whole file.
fn damaged(rows: &str) -> (Job, String) {
    let job = Job::metrics_by(rows, &Metrics::new(ROWS, 4), "");
    let path = job.path("data/metrics.csv");
    let whole = fs::read_to_string(&path).unwrap();
    let damage = |(n, line): (usize, &str)| match n {
        900 | 9_000 => {
            let (before, _) = line.rsplit_once(',').unwrap();
            format!("{before},broken\n")
        }
        5_000 => format!("not a time,{}\n", line.split_once(',').unwrap().1),
        _ => format!("{line}\n"),
    };
    let text: String = whole.lines().enumerate().map(damage).collect();
    fs::write(&path, text).unwrap();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    // Else the column becomes one of texts.
    let typed = spec.replace("csv: {", "csv: { types: { usage_steal: float64 },");
    fs::write(job.path("backfill.yaml"), typed).unwrap();
    (job, whole)
}

#[test]
fn a_mended_line_is_loaded_and_the_others_stay() {
    if !judge::here("rejects::a_mended_line_is_loaded_and_the_others_stay") {
        return;
    }
    for rows in ["rows: { time: ts, key: [hostname] }", "rows: { time: ts }"] {
        let (job, whole) = damaged(rows);
        let last = job.run().ended(6).json();
        assert_eq!(last["plan_rows"]["rejected"], 3, "{last}");
        let listed = rejects(&job, "list", &[]).ended(0);
        assert_eq!(listed.stdout.lines().count(), 6, "{}", listed.stdout);
        for line in ["metrics.csv:901", "metrics.csv:9001", "metrics.csv:5001   in no slice"] {
            assert!(listed.stdout.contains(line), "{}", listed.stdout);
        }
        rejects(&job, "export", &["-o", "bad.csv"]).ended(0);
        let table = fs::read_to_string(job.path("bad.csv")).unwrap();
        assert!(table.starts_with("slice,file,line,byte,column,reason,record\n"), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
        // Tried again as it stands, it is refused again.
        let last = rejects(&job, "replay", &["--output", "json"]).ended(6).json();
        assert_eq!((&last["rows"]["rejected"], &last["rows"]["written"]), (&2.into(), &0.into()));
        fs::write(job.path("data/metrics.csv"), whole).unwrap();
        let last = rejects(&job, "replay", &["--output", "json"]).ended(0).json();
        assert_eq!(last["plan_rows"]["rejected"], 0, "{last}");
        assert_eq!(last["rows"]["written"], 3, "{last}");
        assert_eq!(judge::equal(&job), ROWS);
        job.nothing_to_do();
        job.call("verify", &[]).ended(0);
    }
}

#[test]
fn lost_lists_are_made_again() {
    let (job, _) = damaged("rows: { time: ts, key: [hostname] }");
    job.run().ended(6);
    let before = rejects(&job, "list", &[]).ended(0).stdout;
    fs::remove_dir_all(job.state().join("rejects")).unwrap();
    let lost = rejects(&job, "list", &[]).ended(0);
    assert!(lost.stderr.contains("3 rejects not listed any more"), "{}", lost.stderr);
    let last = job.run().ended(6);
    assert!(last.stderr.contains("is lost"), "{}", last.stderr);
    assert_eq!(last.json()["rows"]["written"], 0);
    assert_eq!(rejects(&job, "list", &[]).ended(0).stdout, before);
}

#[test]
fn what_a_spreadsheet_would_run_is_defused() {
    let job = Job::new(
        "source: { csv: { path: \"data/*.csv\", types: { v: int64 } } }\n\
         target: delta:./out\nrows: { time: t, key: [site] }\n",
    );
    let bad = ["=cmd|'/c calc'!A0,a,1", "+1,a,1", "-1+1,a,1", "@SUM(A1),a,1"];
    let text = format!("t,site,v\n2020-01-01,a,1\n{}\n", bad.join("\n"));
    fs::write(job.path("data/a.csv"), text).unwrap();
    job.run().ended(6);
    rejects(&job, "export", &["-o", "bad.csv"]).ended(0);
    let table = fs::read_to_string(job.path("bad.csv")).unwrap();
    for line in bad {
        assert!(table.contains(&format!("\"'{line}\"")), "{line} in {table}");
    }
    // What an export wrote is written over by the next, and nothing else.
    for out in ["bad.csv", "bad.jsonl", "bad.jsonl"] {
        rejects(&job, "export", &["-o", out]).ended(0);
    }
    for own in ["backfill.yaml", "data/a.csv"] {
        let before = fs::read(job.path(own)).unwrap();
        let said = rejects(&job, "export", &["-o", own]).ended(2).stderr;
        assert!(said.contains("is no such list"), "{said}");
        assert_eq!(fs::read(job.path(own)).unwrap(), before);
    }
}
