//! kill -9 of the program in every stage, and of the server at any instant; then the same command.
//!
//! `RETROFILL_KILLS` and `RETROFILL_SERVER_KILLS` say how often, for the long lane.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xtask::servers::{How, Setup};

use super::*;

const STAGES: [&str; 5] = ["read", "write", "read-back", "commit", "ledger"];

fn times(variable: &str, least: u64) -> u64 {
    std::env::var(variable).map_or(least, |n| n.parse().unwrap())
}

#[test]
fn the_program_survives_a_kill_in_every_stage() {
    if !ready("kill::the_program_survives") {
        return;
    }
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    for number in 0..times("RETROFILL_KILLS", 6) {
        let database = shared();
        let job = job(&database.url(), &metrics(), "");
        let stage = STAGES[(number % 5) as usize];
        let arrival = 1 + dice.next_u64() % 20;
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", &format!("{stage}:{arrival}"))]);
        assert!(runner.says(&format!("held at {stage}")), "{stage}: {}", runner.stderr());
        runner.kill();
        assert!(job.count("loading") > 0, "held at {stage} with no slice in hand");
        comes_back(&job, &database);
        println!("killed at {stage}:{arrival}");
    }
}

#[test]
fn a_server_that_is_killed_loses_no_slice() {
    if !ready("kill::a_server_that_is_killed") {
        return;
    }
    let server = Postgres::with(&Setup::new().set("fsync", "off")).unwrap();
    let mut dice = ChaCha8Rng::seed_from_u64(4);
    let quick = "retry: { attempts: 3, backoff: 20ms, max_backoff: 100ms }";
    for number in 0..times("RETROFILL_SERVER_KILLS", 3) {
        let database = server.database();
        let job = job(&database.url(), &metrics(), quick);
        // Between COPY and COMMIT; between COMMIT and ledger; while a COPY is under way.
        let stage = ["commit", "ledger", "write"][(number % 3) as usize];
        let how = if number % 2 == 0 { How::Immediate } else { How::Kill };
        let arrival = 1 + dice.next_u64() % 12;
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", &format!("{stage}:{arrival}"))]);
        assert!(runner.says(&format!("held at {stage}")), "{stage}: {}", runner.stderr());
        server.stop(how).unwrap();
        runner.kill();
        server.start_again().unwrap();
        comes_back(&job, &database);
        println!("server killed ({how:?}) at {stage}:{arrival}");
    }
}

#[test]
fn a_server_that_comes_back_is_waited_for() {
    if !ready("kill::a_server_that_comes_back") {
        return;
    }
    let server = Postgres::start().unwrap();
    let database = server.database();
    let patient = "retry: { attempts: 20, backoff: 100ms, max_backoff: 1s }\n\
                   limits: { rows_per_second: 60000 }";
    let job = job(&database.url(), &metrics(), patient);
    let mut runner = job.start(&["--output", "json"], &[]);
    job.wait_for("verified", 2, &mut runner);
    server.stop(How::Immediate).unwrap();
    server.start_again().unwrap();
    runner.end().ended(0);
    comes_back(&job, &database);
}
