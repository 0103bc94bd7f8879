//! The beginning of a load: its transaction, its receipt's row, its snapshot.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use retrofill_core::connector::{Load, SliceLoad};
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::Mode;
use xxhash_rust::xxh3::xxh3_64;

use super::bound::{self, Bound};
use super::catalog::{self, Table};
use super::load::PostgresLoad;
use super::session::{Opening, Refusal, Texts};
use super::sql::{instant_literal, literal};
use super::{Shared, ddl, fault, fit, yielding};

/// Between two tries at a slice that another load has in hand.
const PAUSE: Duration = Duration::from_millis(50);

/// A key that a live transaction is about to insert is waited for no longer than this: others may
/// wait for rows of ours meanwhile. Where the server looks for whom to break off earlier than after
/// a second, it is half of that.
const KEY_TIMEOUT: Duration = Duration::from_millis(200);

/// A lock on the whole table is waited for no longer at a time: whoever writes to it waits behind
/// us.
const TABLE_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest that others have the table to themselves between two tries.
const TABLE_PAUSE: Duration = Duration::from_secs(3);

/// Begins a load. A slice that another load has in hand is waited for.
pub(super) async fn begin(shared: &Arc<Shared>, slice: &SliceLoad) -> Result<Box<dyn Load>> {
    let first = Instant::now();
    let mut locked = TABLE_TIMEOUT;
    loop {
        let table = shared.known_table().await?;
        fit::accepts(&shared.name, &table, (&slice.columns, slice.mode, slice.manners))?;
        let began = Instant::now();
        let longest = bound::longest(slice.manners, &table, &slice.columns.time().name);
        let gives_way = yielding::is_due(shared, slice, &table);
        let opening = Opening {
            isolation: if gives_way { "READ COMMITTED" } else { "REPEATABLE READ" },
            read_only: false,
            longest,
        };
        let sql = format!("{}{}", opening.sql(), claim(shared, slice, &table)?);
        let bound = Bound { began, longest };
        let answer = bound.of(async { Ok(shared.server.begin(&sql).await) });
        match answer.await? {
            Ok((client, answers)) => {
                let Some(claim) = Claim::read(&answers) else {
                    shared.server.roll_back(client).await;
                    return Err(Error::bug("a transaction began with an unknown answer"));
                };
                if let Err(e) = claim.check(shared, slice, &table) {
                    shared.server.roll_back(client).await;
                    if !claim.is_in_the_way() || first.elapsed() >= shared.patience {
                        return Err(e);
                    }
                    tokio::time::sleep(pause(slice)).await;
                    continue;
                }
                if gives_way && !yielding::make_room(shared, slice, &client).await? {
                    shared.server.roll_back(client).await;
                    continue;
                }
                shared.quiet().take(&claim.snapshot);
                let moving = gives_way.then(|| yielding::moving(shared, slice)).transpose()?;
                let parts = (shared.clone(), slice.clone(), table);
                let claim = (claim.claimed, claim.xid);
                let load = PostgresLoad::new(parts, client, claim, (bound, moving))?;
                return Ok(Box::new(load));
            }
            Err(Refusal::Way(e)) => return Err(e),
            // Somebody holds the row or has just committed it, or the table is locked.
            Err(Refusal::Server(e)) if matches!(fault::code(&e), Some("55P03" | "40001")) => {
                if first.elapsed() >= shared.patience {
                    return Err(in_the_way(shared, slice, &e));
                }
                if slice.manners.locks {
                    locked = TABLE_PAUSE.min(locked * 2);
                    tokio::time::sleep(locked).await;
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(Refusal::Server(e)) => return Err(refused(shared, &e)),
        }
    }
}

/// What is needed did not become free.
fn in_the_way(shared: &Shared, slice: &SliceLoad, e: &tokio_postgres::Error) -> Error {
    let what = if slice.manners.locks {
        format!("{} or slice {} cannot be locked", shared.name, slice.slice)
    } else {
        format!("slice {} is in the hands of another load", slice.slice)
    };
    let error = shared.server.fault(e, &what);
    Error::unavailable(error.to_string())
        .hint("some transaction stays open for long: pg_stat_activity tells which")
}

/// Two plans that stand in each other's way do not come back at the same moment.
fn pause(slice: &SliceLoad) -> Duration {
    let own = xxh3_64(format!("{}/{}", slice.plan, slice.slice).as_bytes()) % 50;
    PAUSE + Duration::from_millis(own)
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
        format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE;",
            TABLE_TIMEOUT.as_millis()
        )
    } else {
        String::new()
    };
    let (own, others) = append_lock(slice, table);
    let (plan, id) = (literal(slice.plan.as_str())?, literal(slice.slice.as_str())?);
    // Loads of other plans that are about the same stretch of time.
    let key = xxh3_64(format!("{}/{}", table.oid, slice.slice).as_bytes()) as i64;
    Ok(format!(
        "{lock}{own}INSERT INTO {} \
         (relation, plan, slice, generation, table_name, from_time, to_time) \
         VALUES ({}, {plan}, {id}, {}, {}, {}, {}) ON CONFLICT DO NOTHING RETURNING 1;\
         SELECT pg_catalog.pg_try_advisory_xact_lock({key}), pg_catalog.pg_current_xact_id(), \
         pg_catalog.set_config('lock_timeout', LEAST({}, GREATEST(1, extract(epoch FROM \
         pg_catalog.current_setting('deadlock_timeout')::pg_catalog.interval) * 500))\
         ::pg_catalog.int4::pg_catalog.text, true), {others}, \
         pg_catalog.pg_current_snapshot();{}",
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

/// Mode append knows rows of another plan by its receipts alone, and those of a load that is under
/// way are not to be seen: a statement that says that this plan appends to the table, for as long
/// as the transaction lasts, and an expression that tells whether no other plan has said so. Of two
/// that say so at once, at least one sees the other.
fn append_lock(slice: &SliceLoad, table: &Table) -> (String, String) {
    if slice.mode != Mode::Append || slice.manners.alone {
        return (String::new(), "true".into());
    }
    let (oid, plan) = (table.oid, xxh3_64(slice.plan.as_str().as_bytes()) as u32);
    let (first, second) = (oid.cast_signed(), plan.cast_signed());
    let own = format!("SELECT pg_catalog.pg_advisory_xact_lock_shared({first}, {second});");
    let others = format!(
        "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' \
         AND l.objsubid = 2 AND l.classid = {oid} AND l.objid <> {plan} AND l.database = \
         (SELECT d.oid FROM pg_catalog.pg_database d \
         WHERE d.datname = pg_catalog.current_database()))"
    );
    (own, others)
}

/// The answers to [`claim`].
struct Claim {
    claimed: bool,
    locked: bool,
    /// No other plan appends to the table.
    alone: bool,
    xid: String,
    /// Which other transactions it does not see.
    snapshot: String,
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
            alone: fact(3)? == "t",
            xid: fact(1)?.to_owned(),
            snapshot: fact(4)?.to_owned(),
            table,
        })
    }

    /// Whether another load has what this one needs, and only that is wrong.
    fn is_in_the_way(&self) -> bool {
        !self.locked || !self.alone
    }

    fn check(&self, shared: &Shared, slice: &SliceLoad, table: &Table) -> Result<()> {
        if !self.locked {
            let what = format!("slice {} is in the hands of another plan's load", slice.slice);
            return Err(Error::unavailable(what));
        }
        if !self.alone {
            let what = format!("another plan appends to {} at the moment", shared.name);
            return Err(Error::unavailable(what)
                .hint("rows have no key: two plans at once could append the same"));
        }
        let now = self.table.as_ref().map(|(oid, definition)| (*oid, definition.as_str()));
        if now != Some((table.oid, table.definition.as_str())) {
            shared.forget_table();
            return Err(Error::unavailable(format!("{} was changed meanwhile", shared.name)));
        }
        Ok(())
    }
}
