//! Encoding and hashing of rows, on one core.

#![allow(missing_docs, reason = "criterion makes a public function of the group")]

mod metrics;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use metrics::{BATCH, batch, columns};
use retrofill_core::digest::{Digest, Hasher};

fn digest(c: &mut Criterion) {
    let columns = columns();
    let batch = batch(&columns);
    let mut hasher = Hasher::new(&columns, &[1; 16]);
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("rows of ten columns", |b| {
        b.iter(|| {
            let mut digest = Digest::default();
            for hashes in hasher.hash(&batch).expect("the batch has the plan's types") {
                digest.add_row(&hashes);
            }
            digest
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = digest
}
criterion_main!(benches);
