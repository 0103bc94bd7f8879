//! Tests of the journal as a whole.

mod chain;
mod commit;
mod crash;
mod leases;
mod opening;
mod projection;
mod speed;

use std::path::PathBuf;

use futures::executor::block_on;
use jiff::{SignedDuration, Timestamp};
use retrofill_core::error::Result;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Event, EventV1, Holder, Journal as _, Lease, Outcome, SliceEvent};
use retrofill_core::receipt::Counts;
use tempfile::TempDir;

use super::SqliteJournal;

/// A ledger in a directory of its own, with one leased plan.
struct Bench {
    dir: TempDir,
    journal: SqliteJournal,
    plan: PlanId,
    lease: Lease,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&dir.path().join("ledger.db")).unwrap();
        let plan = PlanId::new("p1");
        let lease = block_on(journal.lease(&plan, &elsewhere("a"))).unwrap();
        Bench { dir, journal, plan, lease }
    }

    /// With hourly slices planned.
    fn frozen(slices: usize) -> Self {
        let bench = Self::new();
        bench.append(vec![freeze(slices)]).unwrap();
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    fn append(&self, events: Vec<Event>) -> Result<()> {
        block_on(self.journal.append(&self.lease, events, true))
    }

    /// Ends the journal and changes its file behind its back.
    fn tamper(self, sql: &str) -> (TempDir, PlanId, SqliteJournal) {
        let path = self.path();
        drop(self.journal);
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "nothing changed by {sql}");
        drop(connection);
        (self.dir, self.plan, SqliteJournal::open(&path).unwrap())
    }
}

/// A holder of which nothing can be known here.
fn elsewhere(host: &str) -> Holder {
    Holder { host: format!("{host}.invalid"), boot: "b".into(), pid: 7, started: "1".into() }
}

/// The start of the hourly slice `n`.
fn hour(n: usize) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(n as i64)
}

fn freeze(slices: usize) -> Event {
    Event::V1(EventV1::PlanFrozen {
        name: "job".into(),
        spec_hash: "5bec".into(),
        salt: [7; 16],
        slices: (0..slices).map(|n| Interval::new(hour(n), hour(n + 1)).unwrap()).collect(),
        unplaced: 3,
    })
}

fn event(n: usize, what: SliceEvent) -> Event {
    Event::slice(&SliceId::of(hour(n)), what)
}

fn leased(n: usize) -> Event {
    event(n, SliceEvent::Leased { generation: 1, attempt: 1 })
}

fn committed(n: usize, rows: u64) -> Event {
    event(n, SliceEvent::Committed(outcome(rows, u128::from(rows))))
}

fn outcome(rows: u64, digest: u128) -> Outcome {
    let counts = Counts { read: rows, written: rows, ..Counts::default() };
    let digest = format!("{digest:032x}");
    Outcome { generation: 1, counts, digest, proven: true, at: hour(5) }
}
