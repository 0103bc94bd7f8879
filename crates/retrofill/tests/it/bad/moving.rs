//! Files that change under the reader.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Case, seen};
use crate::harness::Job;
use crate::judge;

const ROWS: &str = "t,site,v\n2020-01-01,a,1\n2020-01-01,b,2\n";

/// Plans the case, lets `change` loose on its file, and loads the planned slice.
fn between(case: &Case, change: impl FnOnce(&Job)) -> String {
    let job = case.job();
    job.call("plan", &["--out", "plan.json"]).ended(0);
    change(&job);
    let args = ["exec", "plan.json", "--slice", "20200101T000000Z", "--output", "json"];
    let mut exec = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    let ran = exec.args(args).current_dir(job.dir.path()).output().unwrap().into();
    let seen = seen(&job, &ran);
    if fs::metadata(job.path("data/a.csv")).unwrap().len() > ROWS.len() as u64 {
        // A run plans what is there now and loads it.
        job.run().ended(0);
    } else {
        // It might be damaged: that is for somebody to say.
        job.run().ended(1);
        job.call("run", &["--replan"]).ended(0);
    }
    job.holds(&fs::read_to_string(job.path("data/a.csv")).unwrap());
    seen
}

fn write(job: &Job, content: &str) {
    fs::write(job.path("data/a.csv"), content).unwrap();
}

macro_rules! changes {
    ($($name:ident: $change:expr;)*) => {
        $(#[test]
        fn $name() {
            let change: fn(&Job) = $change;
            let seen = between(&Case::csv(ROWS), change);
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(seen); });
        })*
    };
}

changes! {
    replaced_between_plan_and_read: |job| write(job, &ROWS.replace("b,2", "b,3"));
    shortened_between_plan_and_read: |job| write(job, "t,site,v\n2020-01-01,a,1\n");
    columns_turned_between_plan_and_read: |job| {
        write(job, "site,t,v\na,2020-01-01,1\nb,2020-01-01,2\n");
    };
    grown_between_plan_and_read: |job| write(job, &format!("{ROWS}2020-01-02,c,3\n"));
}

/// A writer appends all the time, also in the middle of lines.
#[test]
fn a_file_that_grows_while_it_is_read() {
    let row = |n: u32| format!("2020-01-{:02},s{n},{n}\n", 1 + n % 28);
    let start: String = (0..20_000).map(row).collect();
    let job = Case::csv(format!("t,site,v\n{start}")).every("1mo").job();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let append = || {
            let path = job.path("data/a.csv");
            let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
            for n in 20_000..1_000_000 {
                let row = row(n);
                let (a, b) = row.split_at(7);
                file.write_all(a.as_bytes()).unwrap();
                thread::sleep(Duration::from_micros(200));
                file.write_all(b.as_bytes()).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        scope.spawn(append);
        for _ in 0..3 {
            let ran = job.run();
            // Cut in the middle of a line, that line is a reject or the slice is stale; either
            // way the next run comes back to it.
            assert!(matches!(ran.code, Some(0 | 1 | 6)), "{:?} {}", ran.code, ran.stderr);
        }
        stop.store(true, Ordering::Relaxed);
    });
    for _ in 0..2 {
        job.run();
    }
    if judge::here("bad::moving::a_file_that_grows_while_it_is_read") {
        assert!(judge::equal(&job) > 20_000);
    }
}
