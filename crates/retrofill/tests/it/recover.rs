//! A table or a ledger is lost, the other is still there.

use std::fs;
use std::path::Path;

use xtask::metrics::Metrics;

use crate::harness::{Job, Ran, copy};
use crate::judge;

const ROWS: u64 = 30_000;

/// 14 hours of 6 hosts.
fn metrics() -> Metrics {
    Metrics::new(ROWS, 6)
}

fn loaded() -> Job {
    let job = Job::metrics(&metrics(), "");
    job.run().ended(0);
    job
}

/// Without a key rows are appended.
fn appended() -> Job {
    let job = Job::metrics_by("rows: { time: ts }", &metrics(), "");
    job.run().ended(0);
    job
}

#[track_caller]
fn whole_again(job: &Job) -> Ran {
    let ran = job.run().ended(0);
    assert_eq!(judge::equal(job), ROWS);
    job.nothing_to_do();
    ran
}

#[test]
fn a_deleted_table_is_loaded_again() {
    if !judge::here("recover::a_deleted_table_is_loaded_again") {
        return;
    }
    for job in [loaded(), appended()] {
        fs::remove_dir_all(job.table()).unwrap();
        let ran = whole_again(&job);
        assert_eq!(ran.json()["rows"]["written"], ROWS, "{}", ran.stderr);
    }
}

#[test]
fn a_table_restored_by_another_program_is_filled_up() {
    if !judge::here("recover::a_table_restored_by_another_program_is_filled_up") {
        return;
    }
    for job in [loaded(), appended()] {
        let newest = fs::read_dir(job.table().join("_delta_log")).unwrap().count() - 1;
        let older = (newest / 2).to_string();
        judge::ask(&job, "restore", &[&older]);
        assert!(!judge::is_equal(&job), "version {older} has all rows");
        whole_again(&job);
    }
}

#[test]
fn a_table_put_back_from_a_backup_is_filled_up() {
    if !judge::here("recover::a_table_put_back_from_a_backup_is_filled_up") {
        return;
    }
    let job = Job::metrics(&metrics(), "");
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:7")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    runner.kill();
    let backup = job.path("backup");
    copy(&job.table(), &backup);
    whole_again(&job);
    fs::remove_dir_all(job.table()).unwrap();
    fs::rename(&backup, job.table()).unwrap();
    whole_again(&job);
}

#[test]
fn a_lost_ledger_is_rebuilt_from_the_receipts() {
    if !judge::here("recover::a_lost_ledger_is_rebuilt_from_the_receipts") {
        return;
    }
    for job in [loaded(), appended()] {
        let plan = job.run().ended(0).json()["plan"].clone();
        let before = job.files();
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
        let last = job.run().ended(0).json();
        assert_eq!(last["plan"], plan);
        assert_eq!(last["rows"]["written"], 0);
        assert_eq!(last["plan_rows"]["written"], ROWS);
        assert_eq!(last["status"], "verified");
        assert_eq!(before, job.files(), "a rebuilt ledger touched the table");
        whole_again(&job);
    }
}

#[test]
fn a_ledger_lost_in_mid_load_loses_no_row() {
    if !judge::here("recover::a_ledger_lost_in_mid_load_loses_no_row") {
        return;
    }
    for rows in ["rows: { time: ts, key: [hostname] }", "rows: { time: ts }"] {
        let job = Job::metrics_by(rows, &metrics(), "");
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", "ledger:6")]);
        assert!(runner.says("held at ledger"), "{}", runner.stderr());
        runner.kill();
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
        whole_again(&job);
    }
}

/// Takes receipts away, or damages them, while ledger and log stay.
fn spoil_receipts(job: &Job, spoil: impl Fn(&Path)) {
    for plan in fs::read_dir(job.table().join("_retrofill/receipts")).unwrap() {
        for body in fs::read_dir(plan.unwrap().path()).unwrap() {
            spoil(&body.unwrap().path());
        }
    }
}

#[test]
fn lost_receipts_never_double_a_row() {
    if !judge::here("recover::lost_receipts_never_double_a_row") {
        return;
    }
    for job in [loaded(), appended()] {
        spoil_receipts(&job, |body| fs::remove_file(body).unwrap());
        whole_again(&job);
        spoil_receipts(&job, |body| fs::write(body, "{").unwrap());
        whole_again(&job);
        spoil_receipts(&job, |body| fs::remove_file(body).unwrap());
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
        whole_again(&job);
    }
}

#[test]
fn append_refuses_what_a_plan_without_receipts_has_loaded() {
    let job = appended();
    spoil_receipts(&job, |body| fs::remove_file(body).unwrap());
    job.respec("every: 1h", "every: 2h");
    let before = job.files();
    let ran = job.call("run", &["--replan"]).ended(2);
    assert!(ran.stderr.contains("the receipt is lost"), "{}", ran.stderr);
    assert_eq!(before, job.files());
}
