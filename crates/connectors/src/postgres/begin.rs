//! The beginning of a load: its transaction, its receipt's row, its snapshot.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use retrofill_core::connector::{Load, SliceLoad};
use retrofill_core::error::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::catalog::{self, Table};
use super::load::PostgresLoad;
use super::session::{Opening, Refusal, Texts};
use super::sql::{instant_literal, literal};
use super::{Shared, ddl, fault, fit, yielding};

/// Between two tries at a slice that another load has in hand.
const PAUSE: Duration = Duration::from_millis(50);

/// A key that a live transaction is about to insert is waited for no longer than this: others may
/// wait for rows of ours meanwhile, and after a second a server looks for whom to break off.
const KEY_TIMEOUT: Duration = Duration::from_millis(200);

/// Begins a load. A slice that another load has in hand is waited for.
pub(super) async fn begin(shared: &Arc<Shared>, slice: &SliceLoad) -> Result<Box<dyn Load>> {
    let first = Instant::now();
    loop {
        let table = shared.known_table().await?;
        fit::accepts(&shared.name, &table, (&slice.columns, slice.mode, slice.manners))?;
        let began = Instant::now();
        let gives_way = yielding::is_due(shared, slice, &table);
        let opening = Opening {
            isolation: if gives_way { "READ COMMITTED" } else { "REPEATABLE READ" },
            read_only: false,
            longest: slice.manners.longest,
        };
        let sql = format!("{}{}", opening.sql(), claim(shared, slice, &table)?);
        match shared.server.begin(&sql).await {
            Ok((client, answers)) => {
                let Some(claim) = Claim::read(&answers) else {
                    shared.server.roll_back(client).await;
                    return Err(Error::bug("a transaction began with an unknown answer"));
                };
                if let Err(e) = claim.check(shared, slice, &table) {
                    shared.server.roll_back(client).await;
                    if claim.locked || first.elapsed() >= shared.patience {
                        return Err(e);
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                if gives_way && !yielding::make_room(shared, slice, &client).await? {
                    shared.server.roll_back(client).await;
                    continue;
                }
                let moving = gives_way.then(|| yielding::moving(shared, slice)).transpose()?;
                let parts = (shared.clone(), slice.clone(), table);
                let claim = (claim.claimed, claim.xid);
                let load = PostgresLoad::new(parts, client, claim, (began, moving))?;
                return Ok(Box::new(load));
            }
            Err(Refusal::Way(e)) => return Err(e),
            // Somebody holds the row or has just committed it, or the table is locked.
            Err(Refusal::Server(e)) if matches!(fault::code(&e), Some("55P03" | "40001")) => {
                if first.elapsed() >= shared.patience {
                    let what = format!("slice {} is in the hands of another load", slice.slice);
                    return Err(shared.server.fault(&e, &what));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(Refusal::Server(e)) => return Err(refused(shared, &e)),
        }
    }
}

fn refused(shared: &Shared, e: &tokio_postgres::Error) -> Error {
    let error = shared.server.fault(e, &format!("cannot load into {}", shared.server.label()));
    match fault::code(e) {
        Some("42P01" | "3F000") => {
            // The table may be another one by now.
            shared.forget_table();
            Error::unavailable(format!("{} or {} is gone", shared.name, ddl::RECEIPTS))
                .hint("`retrofill run` creates what is missing")
        }
        _ => error,
    }
}

impl Shared {
    pub(super) fn forget_table(&self) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The statements that claim the slice. The lock on the table comes before the first statement
/// that takes a snapshot.
fn claim(shared: &Shared, slice: &SliceLoad, table: &Table) -> Result<String> {
    let name = shared.name.sql()?;
    let lock = if slice.manners.locks {
        format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE;")
    } else {
        String::new()
    };
    let (plan, id) = (literal(slice.plan.as_str())?, literal(slice.slice.as_str())?);
    // Loads of other plans that are about the same stretch of time.
    let key = xxh3_64(format!("{}/{}", table.oid, slice.slice).as_bytes()) as i64;
    Ok(format!(
        "{lock}INSERT INTO {} (relation, plan, slice, generation, table_name, from_time, to_time) \
         VALUES ({}, {plan}, {id}, {}, {}, {}, {}) ON CONFLICT DO NOTHING RETURNING 1;\
         SELECT pg_catalog.pg_try_advisory_xact_lock({key}), pg_catalog.pg_current_xact_id(), \
         pg_catalog.set_config('lock_timeout', '{}', true);{}",
        ddl::RECEIPTS,
        table.oid,
        slice.generation,
        literal(&shared.name.to_string())?,
        instant_literal(slice.interval.start(), true),
        instant_literal(slice.interval.end(), true),
        KEY_TIMEOUT.as_millis(),
        catalog::standing_query(&shared.name)?
    ))
}

/// The answers to [`claim`].
struct Claim {
    claimed: bool,
    locked: bool,
    xid: String,
    /// Object id and definition of the table now.
    table: Option<(u32, String)>,
}

impl Claim {
    fn read(answers: &[Vec<Texts>]) -> Option<Self> {
        let [.., claimed, facts, table] = answers else { return None };
        let fact = |i: usize| facts.first()?.get(i)?.as_deref();
        let table = table
            .first()
            .and_then(|row| Some((row.first()?.as_deref()?.parse().ok()?, row.get(1)?.clone()?)));
        Some(Claim {
            claimed: !claimed.is_empty(),
            locked: fact(0)? == "t",
            xid: fact(1)?.to_owned(),
            table,
        })
    }

    fn check(&self, shared: &Shared, slice: &SliceLoad, table: &Table) -> Result<()> {
        if !self.locked {
            let what = format!("slice {} is in the hands of another plan's load", slice.slice);
            return Err(Error::unavailable(what));
        }
        let now = self.table.as_ref().map(|(oid, definition)| (*oid, definition.as_str()));
        if now != Some((table.oid, table.definition.as_str())) {
            shared.forget_table();
            return Err(Error::unavailable(format!("{} was changed meanwhile", shared.name)));
        }
        Ok(())
    }
}
