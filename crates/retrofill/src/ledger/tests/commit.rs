use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use retrofill_core::error::Kind;
use retrofill_core::ledger::State;
use rusqlite::Connection;

use super::*;

/// Runs SQL on the writer's own connection.
fn on_writer(bench: &Bench, sql: &'static str) {
    let job = move |connection: &mut Connection, _: &Path| {
        connection.execute_batch(sql).unwrap();
        Ok(())
    };
    block_on(bench.journal.write_with(job)).unwrap();
}

fn count(path: &Path) -> usize {
    let connection = Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0)).unwrap()
        as usize
}

#[test]
fn many_appends_share_one_write_and_one_refusal_is_alone() {
    let bench = Bench::frozen(300);
    let started = Instant::now();
    let appends = (0..300).map(|n| {
        let what = if n % 3 == 2 { committed(n, 1) } else { leased(n) };
        bench.journal.append(&bench.lease, vec![what], true)
    });
    let results = block_on(join_all(appends));
    for (n, result) in results.into_iter().enumerate() {
        let kind = result.map_err(|e| e.kind());
        assert_eq!(kind, if n % 3 == 2 { Err(Kind::Bug) } else { Ok(()) }, "{n}");
    }
    assert_eq!(block_on(bench.journal.read(&bench.plan, 1)).unwrap().len(), 200);
    // A sync for each would take far longer on any disk; memory file systems sync for free.
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_append_is_all_or_nothing() {
    let bench = Bench::frozen(2);
    let error = bench.append(vec![leased(0), leased(1), committed(7, 1)]).unwrap_err();
    assert_eq!(error.kind(), Kind::Bug);
    assert!(error.message().contains("is not in the plan"), "{error}");
    let slices = block_on(bench.journal.slices(&bench.plan)).unwrap();
    assert!(slices.iter().all(|s| s.state == State::Planned), "{slices:?}");
    bench.append(vec![leased(0)]).unwrap();
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 2);
}

#[test]
fn a_fenced_append_leaves_its_neighbours() {
    let bench = Bench::frozen(2);
    let stale = Lease { token: bench.lease.token + 1, ..bench.lease.clone() };
    let results = block_on(join_all([
        bench.journal.append(&bench.lease, vec![leased(0)], true),
        bench.journal.append(&stale, vec![leased(1)], true),
        bench.journal.append(&bench.lease, vec![committed(0, 1)], true),
    ]));
    let kinds: Vec<_> = results.into_iter().map(|r| r.map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Ok(()), Err(Kind::Fenced), Ok(())]);
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 3);
}

#[test]
fn what_nobody_waits_for_is_written_soon_and_in_order() {
    let bench = Bench::frozen(2);
    let later = |event| block_on(bench.journal.append(&bench.lease, vec![event], false)).unwrap();
    later(leased(0));
    later(event(0, SliceEvent::Written { rows: 1 }));
    assert_eq!(count(&bench.path()), 1, "nothing is written while it may still find company");
    let started = Instant::now();
    while count(&bench.path()) < 3 {
        assert!(started.elapsed() < Duration::from_secs(5), "it was never written");
        std::thread::sleep(Duration::from_millis(5));
    }
    later(committed(0, 1));
    bench.append(vec![leased(1)]).unwrap();
    assert_eq!(count(&bench.path()), 5, "it rides with the next one");
    later(committed(1, 1));
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 6);
}

#[test]
fn dropping_the_journal_writes_what_is_queued() {
    let bench = Bench::frozen(1);
    block_on(bench.journal.append(&bench.lease, vec![leased(0)], false)).unwrap();
    let path = bench.path();
    drop(bench.journal);
    assert_eq!(count(&path), 2);
}

#[test]
fn a_lost_append_is_told_to_the_next_one_that_waits() {
    let bench = Bench::frozen(3);
    block_on(bench.journal.append(&bench.lease, vec![committed(0, 1)], false)).unwrap();
    block_on(bench.journal.append(&bench.lease, vec![leased(1)], false)).unwrap();
    let error = bench.append(vec![leased(2)]).unwrap_err();
    assert!(error.message().contains("planned slice cannot take"), "{error}");
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 1);
    bench.append(vec![leased(2)]).unwrap();
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 2);
}

#[test]
fn a_full_disk_writes_nothing_by_halves_and_passes() {
    let bench = Bench::frozen(10);
    on_writer(&bench, "PRAGMA max_page_count = 1");
    let long = event(1, SliceEvent::Stale { reason: "x".repeat(200_000) });
    block_on(bench.journal.append(&bench.lease, vec![leased(0)], false)).unwrap();
    let results = block_on(join_all([
        bench.journal.append(&bench.lease, vec![leased(2)], true),
        bench.journal.append(&bench.lease, vec![leased(3), long.clone()], true),
    ]));
    assert_eq!(results[1].as_ref().unwrap_err().kind(), Kind::Unavailable);
    assert!(results[1].as_ref().unwrap_err().hint_text().unwrap().contains("full"));
    let kept = results.iter().filter(|r| r.is_ok()).count();
    on_writer(&bench, "PRAGMA max_page_count = 1000000");
    bench.append(vec![long]).unwrap();
    // The plan, the append that nobody waited for, what was acknowledged, and the last.
    let entries = block_on(bench.journal.read(&bench.plan, 0)).unwrap();
    assert_eq!(entries.len(), 3 + kept);
    assert_eq!(entries[1].event, leased(0));
}

#[test]
fn another_writer_in_the_way_is_unavailable_not_lost() {
    let bench = Bench::frozen(2);
    on_writer(&bench, "PRAGMA busy_timeout = 10");
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = bench.append(vec![leased(0)]).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let error = block_on(bench.journal.renew(&bench.lease)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    bench.append(vec![leased(0)]).unwrap();
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 2);
}
