//! What `status` shows, straight from the projection.

use std::path::Path;

use jiff::Timestamp;
use retrofill_core::error::Result;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::ledger::State;
use retrofill_core::receipt::Counts;
use rusqlite::{Connection, OptionalExtension as _};

use super::lease::{self, LeaseState};
use super::{record, sqlite};

/// How many reasons a summary carries.
const REASONS: usize = 10;

/// Where a plan stands. Halved slices are counted by their halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Slices per state, in the order of [`State::ALL`], zeros included.
    pub states: [u64; State::ALL.len()],
    /// Where the rows of all done slices went, by their last load.
    pub counts: Counts,
    /// Rejects that belong to no slice; not in `counts`.
    pub unplaced: u64,
    /// Sum of the row digests of all done slices, modulo 2^128.
    pub digest: u128,
    /// End of the unbroken run of done slices from the start; none where the first is not done.
    pub verified_through: Option<Timestamp>,
    /// Start of the unbroken run of done slices to the end; none where the last is not done.
    pub verified_back_to: Option<Timestamp>,
    /// Why slices stand still, the newest first, 10 at most.
    pub reasons: Vec<Reason>,
    /// The plan's last lease.
    pub lease: Option<LeaseState>,
}

/// Why a slice stands as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The slice or half.
    pub slice: SliceId,
    /// Where it stands.
    pub state: State,
    /// What happened.
    pub reason: String,
}

/// A plan of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRow {
    /// Its id.
    pub plan: PlanId,
    /// The job's name.
    pub name: String,
    /// SHA-256 of the spec's identity, hex.
    pub spec_hash: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
}

impl Summary {
    /// How many slices stand there.
    pub fn of(&self, state: State) -> u64 {
        self.states[place(state)]
    }

    /// How many slices the plan has.
    pub fn total(&self) -> u64 {
        self.states.iter().sum()
    }
}

fn place(state: State) -> usize {
    State::ALL.iter().position(|s| *s == state).expect("ALL holds every state")
}

/// The summary of a plan; none where the ledger does not have it frozen.
pub(super) fn summary(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
) -> Result<Option<Summary>> {
    let lease = lease::find(connection, path, plan)?;
    let failed = |e| sqlite::cannot(path, "be read", e);
    let Some(unplaced) = unplaced(connection, plan).map_err(failed)? else { return Ok(None) };
    let mut summary = Summary {
        states: [0; State::ALL.len()],
        counts: add_up(connection, plan).map_err(failed)?,
        unplaced,
        digest: 0,
        verified_through: None,
        verified_back_to: None,
        reasons: reasons(connection, plan).map_err(failed)?,
        lease,
    };
    walk(connection, plan, &mut summary).map_err(failed)?;
    Ok(Some(summary))
}

/// Every frozen plan, by name and age.
pub(super) fn plans(connection: &Connection, path: &Path) -> Result<Vec<PlanRow>> {
    connection
        .prepare_cached(
            "SELECT plan, name, spec_hash, frozen_at FROM plans WHERE frozen_at IS NOT NULL
             ORDER BY name, frozen_at, plan",
        )
        .and_then(|mut statement| {
            let row = |row: &rusqlite::Row<'_>| {
                let frozen_at = row.get_ref(3)?.as_str()?;
                Ok(PlanRow {
                    plan: PlanId::new(row.get::<_, String>(0)?),
                    name: row.get(1)?,
                    spec_hash: row.get(2)?,
                    frozen_at: frozen_at.parse().map_err(|e| record::unreadable(3, e))?,
                })
            };
            statement.query_map([], row)?.collect()
        })
        .map_err(|e| sqlite::cannot(path, "be read", e))
}

/// When the newest entry of a plan was made.
pub(super) fn last_activity(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
) -> Result<Option<Timestamp>> {
    let sql = "SELECT at FROM entries WHERE plan = ?1 ORDER BY sequence DESC LIMIT 1";
    connection
        .query_row(sql, [plan.as_str()], |row| {
            let at = row.get_ref(0)?.as_str()?;
            at.parse().map_err(|e| record::unreadable(0, e))
        })
        .optional()
        .map_err(|e| sqlite::cannot(path, "be read", e))
}

fn unplaced(connection: &Connection, plan: &PlanId) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT unplaced FROM plans WHERE plan = ?1 AND frozen_at IS NOT NULL";
    connection.query_row(sql, [plan.as_str()], |row| record::unsigned(row, 0)).optional()
}

fn reasons(connection: &Connection, plan: &PlanId) -> rusqlite::Result<Vec<Reason>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, state, reason FROM slices WHERE plan = ?1 AND reason IS NOT NULL
         ORDER BY changed DESC LIMIT ?2",
    )?;
    let rows = statement.query_map((plan.as_str(), REASONS as i64), |row| {
        let slice = SliceId::new(row.get::<_, String>(0)?);
        Ok(Reason { slice, state: record::state(row, 1)?, reason: row.get(2)? })
    })?;
    rows.collect()
}

/// Where the rows of the done slices went.
fn add_up(connection: &Connection, plan: &PlanId) -> rusqlite::Result<Counts> {
    let mut statement = connection.prepare_cached(
        "SELECT ifnull(sum(read), 0), ifnull(sum(written), 0), ifnull(sum(updated), 0),
         ifnull(sum(already_present), 0), ifnull(sum(conflicting), 0), ifnull(sum(duplicate), 0),
         ifnull(sum(rejected), 0), ifnull(sum(filtered), 0)
         FROM slices WHERE plan = ?1 AND state IN ('verified', 'empty')",
    )?;
    statement.query_row([plan.as_str()], |row| record::counts(row, 0))
}

/// Slices per state, the digest of the done ones, and how far they reach from either end.
fn walk(connection: &Connection, plan: &PlanId, summary: &mut Summary) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT state, start_s, start_ns, end_s, end_ns, digest
         FROM slices WHERE plan = ?1 AND state <> 'split' ORDER BY start_s, start_ns, id",
    )?;
    let mut rows = statement.query([plan.as_str()])?;
    // A stretch that belongs to no slice ends a run just as a slice that is not done.
    let (mut run, mut from_start) = (None, true);
    while let Some(row) = rows.next()? {
        let start: (i64, i32) = (row.get(1)?, row.get(2)?);
        let end: (i64, i32) = (row.get(3)?, row.get(4)?);
        let state = record::state(row, 0)?;
        summary.states[place(state)] += 1;
        let (done, joined) = (state.is_done(), run.is_none_or(|(_, before)| before == start));
        from_start &= done && joined;
        run = match (done, run) {
            (false, _) => None,
            (true, Some((first, _))) if joined => Some((first, end)),
            (true, _) => Some((start, end)),
        };
        if from_start {
            summary.verified_through = Some(time(end)?);
        }
        if done && let Some(digest) = row.get_ref(5)?.as_str_or_null()? {
            let sum = u128::from_str_radix(digest, 16).map_err(|e| record::unreadable(5, e))?;
            summary.digest = summary.digest.wrapping_add(sum);
        }
    }
    summary.verified_back_to = run.map(|(first, _)| time(first)).transpose()?;
    Ok(())
}

fn time((second, nanosecond): (i64, i32)) -> rusqlite::Result<Timestamp> {
    Timestamp::new(second, nanosecond).map_err(|e| record::unreadable(1, e))
}
