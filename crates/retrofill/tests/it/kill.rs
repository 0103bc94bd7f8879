//! kill -9 in every stage of a slice and at any instant, then the same command again.
//!
//! `RETROFILL_KILLS=50` kills that often, on 2,000,000 rows; `--nocapture` shows the table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xtask::metrics::Metrics;

use crate::harness::Job;
use crate::judge;

const STAGES: [&str; 5] = ["read", "write", "read-back", "commit", "ledger"];

/// What a stage-less kill is called.
const RANDOM: &str = "any instant";

/// Kills at a stage's n-th arrival; true where a slice was in hand.
fn kill_at(job: &Job, stage: &str, arrival: u64) -> bool {
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", &format!("{stage}:{arrival}"))]);
    assert!(runner.says(&format!("held at {stage}")), "{stage}:{arrival}: {}", runner.stderr());
    runner.kill();
    job.count("loading") > 0
}

/// Kills at any instant of a run that takes about `length`; true where a slice was in hand.
fn kill_sometime(job: &Job, length: Duration, dice: &mut ChaCha8Rng) -> bool {
    let mut runner = job.start(&[], &[]);
    std::thread::sleep(length.mul_f64((dice.next_u64() % 1_000) as f64 / 1_000.0));
    runner.kill();
    job.count("loading") > 0
}

/// What must hold after a kill.
#[track_caller]
fn comes_back(job: &Job, rows: u64) {
    let last = job.run().ended(0).json();
    assert_eq!(last["status"], "verified");
    assert_eq!(last["plan_rows"]["written"], rows);
    assert_eq!(judge::equal(job), rows);
    job.nothing_to_do();
}

/// At least `least` kills per stage and `kills` in all, each on a fresh copy of the job.
fn campaign(open: impl Fn() -> Job, rows: u64, arrivals: u64, kills: u64) {
    let mut dice = ChaCha8Rng::seed_from_u64(rows);
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let start = Instant::now();
    open().run().ended(0);
    let length = start.elapsed();
    for number in 0..kills {
        let stage = STAGES.get((number % 6) as usize).copied().unwrap_or(RANDOM);
        let job = open();
        let mut tries = 0;
        loop {
            let hit = match stage {
                RANDOM => kill_sometime(&job, length, &mut dice),
                _ => kill_at(&job, stage, 1 + dice.next_u64() % arrivals),
            };
            if hit {
                break;
            }
            assert_eq!(stage, RANDOM, "a runner held at {stage} had no slice in hand");
            // It came too early or too late: nothing was in hand, the kill does not count.
            tries += 1;
            assert!(tries < 50, "no kill hit a slice in hand");
            for made in ["out", ".retrofill"] {
                let _ = std::fs::remove_dir_all(job.path(made));
            }
        }
        comes_back(&job, rows);
        *done.entry(stage).or_default() += 1;
    }
    println!("{rows} rows, {kills} kills, after each one rerun: no row lost, none twice");
    for (stage, count) in done {
        println!("  {stage:<12} {count:>4}");
    }
}

#[test]
fn the_example_survives_a_kill_in_every_stage() {
    if judge::here("kill::the_example_survives_a_kill_in_every_stage") {
        campaign(Job::example, 26_115, 12, 6);
    }
}

#[test]
fn generated_rows_survive_a_kill_in_every_stage() {
    if !judge::here("kill::generated_rows_survive_a_kill_in_every_stage") {
        return;
    }
    let kills = std::env::var("RETROFILL_KILLS").ok().map(|n| n.parse().unwrap());
    let rows = match kills {
        Some(_) => std::env::var("RETROFILL_KILL_ROWS").map_or(2_000_000, |n| n.parse().unwrap()),
        None => 100_000,
    };
    // 24 hours and a bit.
    let metrics = Metrics::new(rows, rows / 9_000);
    campaign(|| Job::metrics(&metrics, ""), rows, 20, kills.unwrap_or(6));
}
