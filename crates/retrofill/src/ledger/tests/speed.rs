use std::time::{Duration, Instant};

use super::*;

/// 100,000 slices must not be felt. The bounds are for an unoptimised build on a busy machine;
/// what was measured is printed.
#[test]
fn a_hundred_thousand_slices() {
    const SLICES: usize = 100_000;
    let bench = Bench::new();
    let event = freeze(SLICES);
    let timed = |what: &str, limit: u64, work: &dyn Fn()| {
        let started = Instant::now();
        work();
        let took = started.elapsed();
        println!("{what}: {took:.0?}");
        assert!(took < Duration::from_millis(limit), "{what} took {took:?}");
    };
    timed("freeze", 5_000, &|| bench.append(vec![event.clone()]).unwrap());
    for first in (0..SLICES / 2).step_by(1000) {
        let range = first..first + 1000;
        bench.append(range.flat_map(|n| [leased(n), committed(n, 9)]).collect()).unwrap();
    }
    timed("slices", 3_000, &|| {
        assert_eq!(block_on(bench.journal.slices(&bench.plan)).unwrap().len(), SLICES);
    });
    timed("summary", 1_000, &|| {
        let summary = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
        assert_eq!(summary.verified_through, Some(hour(SLICES / 2)));
        assert_eq!(summary.counts.read, 9 * SLICES as u64 / 2);
    });
    timed("read", 10_000, &|| {
        assert_eq!(block_on(bench.journal.read(&bench.plan, 1)).unwrap().len(), SLICES);
    });
}
