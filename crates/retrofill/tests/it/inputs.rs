//! Shapes of input that need another way to be read.

use xtask::metrics::Metrics;

use crate::harness::Job;
use crate::judge;

const ROWS: u64 = 20_000;

fn loads(job: &Job) {
    let last = job.run().ended(0).json();
    assert_eq!(last["plan_rows"]["written"], ROWS);
    assert_eq!(judge::equal(job), ROWS);
    job.nothing_to_do();
}

#[test]
fn unordered_lines_land_in_their_slices() {
    if judge::here("inputs::unordered_lines_land_in_their_slices") {
        loads(&Job::metrics(&Metrics { shuffled: true, ..Metrics::new(ROWS, 5) }, ""));
    }
}

#[test]
fn compressed_files_are_read() {
    if judge::here("inputs::compressed_files_are_read") {
        loads(&Job::metrics(&Metrics { gzip: true, ..Metrics::new(ROWS, 5) }, ""));
    }
}

#[test]
fn compressed_and_unordered_files_are_read() {
    if judge::here("inputs::compressed_and_unordered_files_are_read") {
        let metrics = Metrics { gzip: true, shuffled: true, ..Metrics::new(ROWS, 5) };
        loads(&Job::metrics(&metrics, ""));
    }
}

#[test]
fn a_slice_that_does_not_fit_is_halved_or_loaded_but_never_lost() {
    if judge::here("inputs::a_slice_that_does_not_fit_is_halved_or_loaded_but_never_lost") {
        loads(&Job::metrics(&Metrics::new(ROWS, 5), "limits: { memory: 64MiB }"));
    }
}
