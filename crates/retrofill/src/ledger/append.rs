//! One append: the lease is checked, the entries are chained, the projection follows.

use std::path::Path;

use jiff::Timestamp;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Event, EventV1, Lease, SliceEvent, SliceRecord, chain_text};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{lease, record, sqlite};

/// The sequence and hash of a plan's newest entry.
pub(super) type Head = (u64, [u8; 32]);

/// Appends the events inside the caller's transaction. After an error the caller must undo
/// what was written.
pub(super) fn append(
    connection: &Connection,
    path: &Path,
    lease: &Lease,
    events: &[Event],
) -> Result<()> {
    lease::check(connection, path, lease)?;
    let mut writer = PlanWriter { connection, path, plan: &lease.plan };
    let (mut sequence, mut hash) = head(connection, path, &lease.plan)?.unwrap_or((0, [0; 32]));
    for event in events {
        let at = Timestamp::now();
        let json = serde_json::to_string(event).expect("events are plain JSON");
        sequence += 1;
        hash = chain_text(&hash, sequence, at, &json);
        writer.entry(sequence, at, &json, &hash)?;
        let Event::V1(event) = event;
        writer.project(sequence, at, event)?;
    }
    Ok(())
}

/// The newest entry of a plan, as the projection has it.
pub(super) fn head(connection: &Connection, path: &Path, plan: &PlanId) -> Result<Option<Head>> {
    connection
        .prepare_cached("SELECT sequence, hash FROM plans WHERE plan = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([plan.as_str()], |row| Ok((record::unsigned(row, 0)?, row.get(1)?)))
                .optional()
        })
        .map_err(|e| sqlite::cannot(path, "be read", e))
}

struct PlanWriter<'a> {
    connection: &'a Connection,
    path: &'a Path,
    plan: &'a PlanId,
}

impl PlanWriter<'_> {
    fn failed(&self, error: rusqlite::Error) -> Error {
        sqlite::cannot(self.path, "be written", error)
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|e| self.failed(e))?;
        Ok(())
    }

    fn entry(&self, sequence: u64, at: Timestamp, json: &str, hash: &[u8; 32]) -> Result<()> {
        let (plan, sequence) = (self.plan.as_str(), sequence as i64);
        self.run(
            "INSERT INTO entries (plan, sequence, at, json, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![plan, sequence, at.to_string(), json, hash],
        )?;
        self.run(
            "INSERT INTO plans (plan, sequence, hash) VALUES (?1, ?2, ?3)
             ON CONFLICT (plan) DO UPDATE SET sequence = ?2, hash = ?3",
            params![plan, sequence, hash],
        )
    }

    fn project(&mut self, sequence: u64, at: Timestamp, event: &EventV1) -> Result<()> {
        match event {
            EventV1::PlanFrozen { name, spec_hash, slices, unplaced, .. } => {
                self.freeze(name, spec_hash, *unplaced, at)?;
                self.plan_slices(sequence, slices)
            }
            EventV1::Slice { slice, what } => self.slice(sequence, slice, what),
            EventV1::RunStarted { unplaced: Some(unplaced), .. } => self.run(
                "UPDATE plans SET unplaced = ?2 WHERE plan = ?1",
                params![self.plan.as_str(), *unplaced as i64],
            ),
            EventV1::RunStarted { .. }
            | EventV1::RunEnded { .. }
            | EventV1::AfterDone { .. }
            | EventV1::AfterFailed { .. } => Ok(()),
        }
    }

    fn freeze(&self, name: &str, spec_hash: &str, unplaced: u64, at: Timestamp) -> Result<()> {
        let frozen: bool = self
            .connection
            .query_row(
                "SELECT frozen_at IS NOT NULL FROM plans WHERE plan = ?1",
                [self.plan.as_str()],
                |row| row.get(0),
            )
            .map_err(|e| self.failed(e))?;
        if frozen {
            return Err(Error::bug(format!("plan {} was frozen before", self.plan)));
        }
        self.run(
            "UPDATE plans SET name = ?2, spec_hash = ?3, frozen_at = ?4, unplaced = ?5
             WHERE plan = ?1",
            params![self.plan.as_str(), name, spec_hash, at.to_string(), unplaced as i64],
        )
    }

    fn plan_slices(&self, sequence: u64, slices: &[Interval]) -> Result<()> {
        let mut statement =
            self.connection.prepare_cached(record::WRITE).map_err(|e| self.failed(e))?;
        let mut before: Option<&Interval> = None;
        for interval in slices {
            if before.is_some_and(|b| b.start() >= interval.start()) {
                return Err(Error::bug(format!(
                    "plan {}: slices are not in order at {}",
                    self.plan,
                    interval.start()
                )));
            }
            before = Some(interval);
            let planned = SliceRecord::planned(SliceId::of(interval.start()), *interval);
            record::write(&mut statement, self.plan.as_str(), sequence, &planned)
                .map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn slice(&self, sequence: u64, id: &SliceId, what: &SliceEvent) -> Result<()> {
        let mut record = self
            .find(id)?
            .ok_or_else(|| Error::bug(format!("slice {id} is not in the plan {}", self.plan)))?;
        record.apply(what)?;
        self.write(sequence, &record)?;
        if let SliceEvent::Split { at } = what {
            for half in record.split(*at)? {
                self.write(sequence, &half)?;
            }
        }
        Ok(())
    }

    fn find(&self, id: &SliceId) -> Result<Option<SliceRecord>> {
        const FIND: &str =
            concat!("SELECT ", record::columns!(), " FROM slices WHERE plan = ?1 AND id = ?2");
        self.connection
            .prepare_cached(FIND)
            .and_then(|mut statement| {
                statement.query_row([self.plan.as_str(), id.as_str()], record::from_row).optional()
            })
            .map_err(|e| self.failed(e))
    }

    fn write(&self, sequence: u64, record: &SliceRecord) -> Result<()> {
        self.connection
            .prepare_cached(record::WRITE)
            .and_then(|mut statement| {
                record::write(&mut statement, self.plan.as_str(), sequence, record)
            })
            .map_err(|e| self.failed(e))
    }
}
