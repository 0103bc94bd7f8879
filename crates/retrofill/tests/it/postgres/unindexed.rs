//! Tables without any index, which are not read as a whole for every slice.

use super::*;

const PLAIN: &str = "ALTER TABLE metrics DROP CONSTRAINT metrics_pkey;";

/// Pages with room, behind which a row stands.
const ROOM: &str = "INSERT INTO metrics (ts, hostname, region) \
    SELECT '2010-01-01'::timestamptz + n * interval '1 s', 'old', repeat('x', 60) \
    FROM generate_series(1, 20000) n;
    DELETE FROM metrics WHERE ts < '2010-01-01 05:33:19'; VACUUM metrics;";

#[test]
fn rows_are_proven_wherever_they_land() {
    if !ready("unindexed::rows_are_proven") {
        return;
    }
    for word in ["lock: share-row-exclusive", "live_writers: none"] {
        let database = shared();
        database.ask(&format!("{TABLE}{PLAIN}"));
        for statement in ROOM.split_inclusive(';') {
            database.ask(statement);
        }
        let small = Metrics::new(10_800, 10);
        let job = job(&database.url(), &small, &format!("write: {{ {word} }}"));
        live_rows(&job, &database);
        let size = "SELECT pg_relation_size('metrics')";
        let before = database.ask(size);
        let last = job.run().ended(0).json();
        assert_eq!(number(&last, "rows", "already_present"), 1, "{last}");
        assert_eq!(number(&last, "rows", "conflicting"), 1, "{last}");
        assert_eq!(database.ask(size), before, "the rows did not land in the old pages");
        idle(&job, &database);
        job.call("verify", &[]).ended(0);
        database.ask("DELETE FROM metrics WHERE hostname = 'old'");
        // The row of the history that met another value, and that value.
        assert_eq!(differences(&job, &database), (1, 1));
    }
}

#[test]
fn a_word_that_is_not_kept_is_found_out() {
    if !ready("unindexed::a_word_that_is_not_kept") {
        return;
    }
    let database = shared();
    database.ask(&format!("{TABLE}{PLAIN}"));
    let more = "write: { live_writers: none }\nlimits: { concurrency: 1, rows_per_second: 20000 }";
    let job = job(&database.url(), &metrics(), more);
    let mut runner = job.start(&["--output", "json"], &[]);
    job.wait_for("verified", 2, &mut runner);
    // A slice that was found empty when the run began.
    database.ask(
        "INSERT INTO metrics (ts, hostname, usage_irq) \
         VALUES ('2024-01-01 23:30Z', 'host_0001', -1);",
    );
    assert!(runner.is_running(), "the run was over too soon");
    let ran = runner.end();
    if ran.code == Some(0) {
        // The row landed on a page that the load read back: it was met in time.
        assert_eq!(number(&ran.json(), "rows", "conflicting"), 1, "{ran:?}");
        assert_eq!(differences(&job, &database), (1, 1));
        return;
    }
    let ran = ran.ended(3);
    assert_eq!(number(&ran.json(), "slices", "mismatched"), 1, "{ran:?}");
    let said = job.call("status", &[]).stdout;
    assert!(said.contains("a key twice, at 2024-01-01T23:30:00Z"), "{said}");
    database.ask("DELETE FROM metrics WHERE usage_irq = -1");
    job.call("run", &["--select", "mismatched"]).ended(0);
    equal(&job, &database);
}

#[test]
fn what_was_loaded_before_is_seen() {
    if !ready("unindexed::what_was_loaded_before") {
        return;
    }
    let database = shared();
    database.ask(&format!("{TABLE}{PLAIN}"));
    let job = job(&database.url(), &metrics(), "write: { live_writers: none }");
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:5")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    runner.kill();
    // The ledger is lost too; another plan of another grid finds what is there.
    fs::remove_dir_all(job.state()).unwrap();
    let last = job.call("run", &["--set", "range.every=6h", "--output", "json"]).ended(0).json();
    assert!(number(&last, "rows", "already_present") > 0, "{last}");
    equal(&job, &database);
}

#[test]
fn keys_that_stood_twice_before_are_found_out() {
    if !ready("unindexed::keys_that_stood_twice") {
        return;
    }
    let database = shared();
    database.ask(&format!("{TABLE}{PLAIN}"));
    for _ in 0..2 {
        database.ask(
            "INSERT INTO metrics (ts, hostname, usage_irq) \
             VALUES ('2024-01-01 00:30Z', 'host_0001', -1);",
        );
    }
    let job = job(&database.url(), &metrics(), "write: { live_writers: none }");
    let last = job.run().ended(3).json();
    assert_eq!(number(&last, "slices", "mismatched"), 1, "{last}");
    let said = job.call("status", &[]).stdout;
    assert!(said.contains("a key twice, at 2024-01-01T00:30:00Z"), "{said}");
}

#[test]
fn a_lock_that_is_not_to_be_had_holds_nobody_up() {
    if !ready("unindexed::a_lock_that_is_not_to_be_had") {
        return;
    }
    let database = shared();
    database.ask(&format!("{TABLE}{PLAIN} CREATE INDEX ON metrics (ts);"));
    let job = job(&database.url(), &metrics(), "write: { lock: share-row-exclusive }");
    std::thread::scope(|scope| {
        let open = scope.spawn(|| {
            database.ask(
                "BEGIN; INSERT INTO metrics (ts, hostname) VALUES ('2023-01-01Z', 'open'); \
                 SELECT pg_sleep(4); ROLLBACK",
            )
        });
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'metrics'::regclass \
                    AND mode = 'RowExclusiveLock' AND granted";
        while database.ask(held) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut runner = job.start(&["--output", "json"], &[]);
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'metrics'::regclass \
                     AND NOT granted";
        while database.ask(waits) == "0" {
            assert!(runner.is_running(), "{}", runner.stderr());
        }
        // Whoever writes meanwhile waits for a moment, not as long as the transaction is open.
        while !open.is_finished() {
            database.ask(
                "SET lock_timeout = '1s'; INSERT INTO metrics (ts, hostname) \
                 VALUES ('2023-01-01Z', 'live');",
            );
        }
        open.join().unwrap();
        let ran = runner.end();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(!ran.stderr.contains("is halved"), "{}", ran.stderr);
    });
    database.ask("DELETE FROM metrics WHERE hostname = 'live'");
    equal(&job, &database);
}
