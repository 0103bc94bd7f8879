//! The source changes after it was planned.

use std::fs;
use std::process::Command;

use crate::harness::Job;
use crate::judge;

fn rows(days: &[u32], site: &str) -> String {
    let row = |day: &u32| format!("2020-01-{day:02}T06:00:00Z,{site},{day}\n");
    format!("t,site,v\n{}", days.iter().map(row).collect::<String>())
}

fn job(rows_spec: &str) -> Job {
    let job = Job::new(&format!(
        "source: {{ csv: {{ path: \"data/*.csv\" }} }}\ntarget: {{ delta: {{ path: ./out }} }}\n\
         {rows_spec}\nrange: {{ every: 1d }}\n"
    ));
    fs::write(job.path("data/a.csv"), rows(&[1, 3], "a")).unwrap();
    job
}

#[track_caller]
fn settled(job: &Job, count: u64) {
    job.run().ended(0);
    assert_eq!(judge::equal(job), count);
    job.nothing_to_do();
    job.call("verify", &[]).ended(0);
}

/// Late rows inside the proven range, then a longer range, then the table is dropped; with a key
/// and without.
#[test]
fn late_and_later_rows_are_loaded_and_kept() {
    if !judge::here("growth::late_and_later_rows_are_loaded_and_kept") {
        return;
    }
    for spec in ["rows: { time: t, key: [site] }", "rows: { time: t }"] {
        let job = job(spec);
        settled(&job, 2);
        fs::write(job.path("data/b.csv"), rows(&[1, 2, 3], "b")).unwrap();
        settled(&job, 5);
        fs::write(job.path("data/a.csv"), rows(&[1, 3, 9], "a")).unwrap();
        settled(&job, 6);
        fs::remove_dir_all(job.state()).unwrap();
        settled(&job, 6);
        fs::remove_dir_all(job.table()).unwrap();
        settled(&job, 6);
    }
}

/// Rows outside of the range are counted, exactly once all is done; `plan` drops a plan that no
/// longer fits, and only when it is told to.
#[test]
fn what_a_range_leaves_out_is_counted_and_a_plan_can_be_dropped() {
    let job = job("rows: { time: t, key: [site] }");
    fs::write(job.path("data/a.csv"), rows(&[1, 3, 5, 9, 9 + 19], "a")).unwrap();
    let spec = |range: &str| {
        let text = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("range:"));
        let text = lines.chain([range]).fold(String::new(), |all, line| all + line + "\n");
        fs::write(job.path("backfill.yaml"), text).unwrap();
    };
    job.call("plan", &[]).ended(0);
    spec("range: { every: 1d, from: 2020-01-03, to: 2020-01-09 }");
    assert!(job.call("plan", &[]).ended(5).stderr.contains("`--replan`"));
    job.call("plan", &["--replan"]).ended(0);
    let last = job.run().ended(0).json();
    assert_eq!((&last["rows"]["written"], &last["outside"]), (&2.into(), &3.into()));
    job.holds(&rows(&[3, 5], "a"));
}

/// A table that others write to tells of it, too.
#[test]
fn a_delta_source_that_grew_is_noticed() {
    if !judge::here("growth::a_delta_source_that_grew_is_noticed") {
        return;
    }
    let job = Job::new(
        "source: { delta: { path: ./src } }\ntarget: { delta: { path: ./out } }\n\
         rows: { time: t, key: [site] }\nrange: { every: 1d }\n",
    );
    let first = "source: { csv: { path: \"data/*.csv\" } }\ntarget: { delta: { path: ./src } }\n\
                 rows: { time: t, key: [site] }\nrange: { every: 1d }\n";
    fs::write(job.path("first.yaml"), first).unwrap();
    let feed = |days: &[u32]| {
        fs::write(job.path("data/a.csv"), rows(days, "a")).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
        program.args(["run", "first.yaml", "-q"]).current_dir(job.dir.path());
        assert!(program.status().unwrap().success());
    };
    feed(&[1, 3]);
    settled(&job, 2);
    for days in [&[1, 2, 3][..], &[1, 2, 3, 5]] {
        feed(days);
        let found = job.call("gaps", &["--output", "json", "--every", "1d"]).ended(0).json();
        assert_eq!(found["fillable"]["rows"], 1, "{found}");
        settled(&job, days.len() as u64);
    }
}

/// Rows that were planned and are there no more, or others: nothing of them is loaded until
/// somebody says so, and each file is named.
#[test]
fn a_source_that_was_damaged_since_it_was_planned_is_not_taken_for_a_small_one() {
    if !judge::here("growth::a_source_that_was_damaged_since_it_was_planned") {
        return;
    }
    let damages = [
        ("`data/b.csv` is gone", None),
        ("`data/b.csv` is shorter", Some("t,site,v\n2020-01-05T06:00:00Z,b,".to_owned())),
        ("`data/b.csv` was changed", Some(rows(&[5, 7], "c"))),
    ];
    for (said, now) in damages {
        let job = job("rows: { time: t, key: [site] }");
        fs::write(job.path("data/b.csv"), rows(&[5, 6], "b")).unwrap();
        job.call("plan", &[]).ended(0);
        let file = job.path("data/b.csv");
        now.map_or_else(|| fs::remove_file(&file), |text| fs::write(&file, text)).unwrap();
        for _ in 0..2 {
            let ran = job.run().ended(1);
            assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
            assert!(ran.stderr.contains("`run --replan`"), "{}", ran.stderr);
            assert_eq!(ran.json()["slices"]["stale"], 2, "{said}");
        }
        job.holds(&rows(&[1, 3], "a"));
        let last = job.call("run", &["--replan", "--output", "json"]).ended(0).json();
        assert_eq!(last["status"], "verified");
        judge::equal(&job);
    }
    let spec = "rows: { time: t, key: [site] }\nverify: { changed_source: replan }";
    let job = job(spec);
    fs::write(job.path("data/b.csv"), rows(&[5, 6], "b")).unwrap();
    job.call("plan", &[]).ended(0);
    fs::remove_file(job.path("data/b.csv")).unwrap();
    let ran = job.run().ended(0);
    assert!(ran.stderr.contains("`data/b.csv` is gone"), "{}", ran.stderr);
    assert_eq!(judge::equal(&job), 2);
}

/// A slice that was planned but not yet loaded reads what the source holds now.
#[test]
fn an_unfinished_plan_takes_in_what_came_since() {
    if !judge::here("growth::an_unfinished_plan_takes_in_what_came_since") {
        return;
    }
    let job = job("rows: { time: t, key: [site] }");
    job.call("run", &["--to", "2020-01-02"]).ended(0);
    fs::write(job.path("data/a.csv"), rows(&[1, 2, 3], "a")).unwrap();
    settled(&job, 3);
}
