//! What hashing costs: encodes and hashes N rows of ten columns (the shape of the benchmark's
//! metrics file) on one core and prints the seconds. `cargo xtask bench trunk` sets it against the
//! CPU time of a whole run.

#[path = "../benches/metrics/mod.rs"]
mod metrics;

use std::time::Instant;

use metrics::{BATCH, batch, columns};
use retrofill_core::digest::{Digest, Hasher};

fn main() {
    let rows: usize =
        std::env::args().nth(1).map_or(5_000_000, |n| n.parse().expect("a number of rows"));
    let columns = columns();
    let batch = batch(&columns);
    let mut hasher = Hasher::new(&columns, &[1; 16]);
    let mut digest = Digest::default();
    let began = Instant::now();
    for _ in 0..rows.div_ceil(BATCH) {
        for hashes in hasher.hash(&batch).expect("the batch has the plan's types") {
            digest.add_row(&hashes);
        }
    }
    println!("{:.3}", began.elapsed().as_secs_f64());
    // The sum is used, so that nothing of the work can be left out.
    assert!(digest.count as usize >= rows);
}
