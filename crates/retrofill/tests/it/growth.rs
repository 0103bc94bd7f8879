//! The source changes after it was planned.

use std::fs;

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
