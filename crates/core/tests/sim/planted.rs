//! The judge is judged: each bug planted in the runner must be caught by some seed, and the
//! replay of that seed must catch it again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use retrofill_core::planted::{ALL, Bug, plant};

use crate::{RARE, play_safely};

/// A bug that so many seeds do not catch, nor those that once failed, is not caught.
const SEEDS: u64 = 10_000;

/// The first seed that fails with the bug, and why.
fn caught(bug: Bug) -> Option<(u64, String)> {
    plant(Some(bug));
    let found =
        (0..SEEDS).chain(RARE).find_map(|seed| Some((seed, play_safely(seed, false).failure?)));
    let again = found.as_ref().and_then(|(seed, _)| play_safely(*seed, false).failure);
    plant(None);
    if let Some((seed, reason)) = &found {
        assert_eq!(again.as_ref(), Some(reason), "the replay of seed {seed} with {bug:?}");
        assert_eq!(play_safely(*seed, false).failure, None, "seed {seed} without {bug:?}");
    }
    found
}

#[test]
fn planted_bugs_are_caught() {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(&bug) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match caught(bug) {
                        Some((seed, reason)) => {
                            let short: String = reason.chars().take(160).collect();
                            println!("bug {bug:?} caught at seed {seed}: {short}");
                        }
                        None => missed.lock().unwrap().push(bug),
                    }
                }
            });
        }
    });
    assert_eq!(*missed.lock().unwrap(), [], "bugs that {SEEDS} seeds do not catch");
}
