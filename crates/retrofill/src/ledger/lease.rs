//! Who may append to a plan.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::PlanId;
use retrofill_core::ledger::{Holder, LEASE_TTL, Lease};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{holder, record, sqlite};

/// The last lease of a plan, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    /// Who holds it; none once it was given back.
    pub holder: Option<Holder>,
    /// Its fencing token.
    pub token: u64,
    /// How long ago its holder last said that it lives, by this host's clock.
    pub beat_age: Duration,
}

impl LeaseState {
    /// Whether its holder is believed to live: the lease is held, not expired, and its process
    /// is not known to be gone.
    pub fn is_live(&self) -> bool {
        self.beat_age < LEASE_TTL && self.holder.as_ref().is_some_and(|h| !holder::is_gone(h))
    }
}

/// The last lease of the plan, if it ever had one.
pub(super) fn find(
    connection: &Connection,
    path: &Path,
    plan: &PlanId,
) -> Result<Option<LeaseState>> {
    connection
        .prepare_cached(
            "SELECT token, beat_ms, host, boot, pid, started FROM leases WHERE plan = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([plan.as_str()], |row| {
                    let held = row.get::<_, Option<String>>(2)?;
                    let holder = held
                        .map(|host| {
                            let (boot, pid, started) = (row.get(3)?, row.get(4)?, row.get(5)?);
                            Ok::<_, rusqlite::Error>(Holder { host, boot, pid, started })
                        })
                        .transpose()?;
                    // A clock that was set back must not keep a lease alive: the distance counts.
                    let age_ms = Timestamp::now().as_millisecond().abs_diff(row.get(1)?);
                    let beat_age = Duration::from_millis(age_ms);
                    Ok(LeaseState { holder, token: record::unsigned(row, 0)?, beat_age })
                })
                .optional()
        })
        .map_err(|e| sqlite::cannot(path, "be read", e))
}

/// An error of kind `Fenced` unless this is the plan's newest lease and not given back.
pub(super) fn check(connection: &Connection, path: &Path, lease: &Lease) -> Result<()> {
    let now = find(connection, path, &lease.plan)?;
    if now.as_ref().is_some_and(|l| l.token == lease.token && l.holder.is_some()) {
        return Ok(());
    }
    let by = match now.and_then(|l| l.holder) {
        Some(holder) => format!("process {} on {} holds it now", holder.pid, holder.host),
        None => "it was given back".to_owned(),
    };
    Err(Error::new(Kind::Fenced, format!("this runner lost plan {}: {by}", lease.plan))
        .hint("nothing more is written here; the other runner goes on, or start this one again"))
}

/// Takes the plan, see [`retrofill_core::ledger::Journal::lease`].
pub(super) fn take(
    connection: &mut Connection,
    path: &Path,
    plan: &PlanId,
    holder: &Holder,
) -> Result<Lease> {
    let failed = |e| sqlite::cannot(path, "be written", e);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let last = find(&transaction, path, plan)?;
    if let Some(last) = &last
        && let Some(other) = last.holder.as_ref().filter(|h| *h != holder)
        && last.is_live()
    {
        let message = format!(
            "plan {plan} is held by process {} on {} (heartbeat {:.1} s ago)",
            other.pid,
            other.host,
            last.beat_age.as_secs_f64()
        );
        return Err(Error::new(Kind::Fenced, message).hint(format!(
            "wait for it or stop it; a runner that died elsewhere frees the plan after {} s",
            LEASE_TTL.as_secs()
        )));
    }
    let token = last.map_or(0, |l| l.token) + 1;
    transaction
        .execute(
            "INSERT OR REPLACE INTO leases (plan, token, host, boot, pid, started, beat_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                plan.as_str(),
                token as i64,
                holder.host,
                holder.boot,
                holder.pid,
                holder.started,
                Timestamp::now().as_millisecond()
            ],
        )
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(Lease { plan: plan.clone(), token })
}

/// Says that the holder lives.
pub(super) fn renew(connection: &mut Connection, path: &Path, lease: &Lease) -> Result<()> {
    let beat_ms = Timestamp::now().as_millisecond();
    let sql = "UPDATE leases SET beat_ms = ?2 WHERE plan = ?1";
    change(connection, path, lease, sql, params![lease.plan.as_str(), beat_ms])
}

/// Gives the plan free; the token stays, so that the next lease is newer.
pub(super) fn release(connection: &mut Connection, path: &Path, lease: &Lease) -> Result<()> {
    let sql = "UPDATE leases SET host = NULL, boot = NULL, pid = NULL, started = NULL
               WHERE plan = ?1";
    change(connection, path, lease, sql, params![lease.plan.as_str()])
}

fn change(
    connection: &mut Connection,
    path: &Path,
    lease: &Lease,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<()> {
    let failed = |e| sqlite::cannot(path, "be written", e);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    check(&transaction, path, lease)?;
    transaction.execute(sql, params).map_err(failed)?;
    transaction.commit().map_err(failed)
}
