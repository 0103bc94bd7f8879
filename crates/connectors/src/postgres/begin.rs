//! The beginning of a load: its transaction, its receipt's row, its snapshot.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use retrofill_core::columns::{Column, Columns};
use retrofill_core::connector::{Load, Manners, SliceLoad};
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::Mode;
use xxhash_rust::xxh3::xxh3_64;

use super::catalog::{self, Table};
use super::load::PostgresLoad;
use super::session::{Opening, Refusal, Texts};
use super::sql::{TableName, instant_literal, literal};
use super::{MODES, Shared, ddl, fault};

/// Between two tries at a slice that another load has in hand.
const PAUSE: Duration = Duration::from_millis(50);

/// Begins a load. A slice that another load has in hand is waited for.
pub(super) async fn begin(shared: &Arc<Shared>, slice: &SliceLoad) -> Result<Box<dyn Load>> {
    accepts_mode(slice.mode)?;
    let first = Instant::now();
    loop {
        let table = shared.known_table().await?;
        accepts(&shared.name, &table, (&slice.columns, slice.mode, slice.manners))?;
        let began = Instant::now();
        let opening = Opening {
            isolation: "REPEATABLE READ",
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
                let parts = (shared.clone(), slice.clone(), table);
                let load = PostgresLoad::new(parts, client, (claim.claimed, claim.xid), began)?;
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

/// An error where rows that are held would have to go.
pub(super) fn accepts_mode(mode: Mode) -> Result<()> {
    if MODES.contains(&mode) {
        return Ok(());
    }
    Err(Error::config("a PostgreSQL table is only added to: its rows are not taken out yet").hint(
        "`write: { mode: fill-missing }` or `append`; `undo`, `overwrite` and `restate` too \
               would take rows out",
    ))
}

/// An error where the table would change, hide or double rows.
pub(super) fn accepts(
    name: &TableName,
    table: &Table,
    (columns, mode, manners): (&Columns, Mode, Manners),
) -> Result<()> {
    let refused = |what: String, hint: &str| Err(Error::config(what).hint(hint));
    if let Some(rule) = table.rules.first() {
        let what = format!("{name} has the rule `{rule}` on INSERT, which binary COPY goes past");
        return refused(what, "drop the rule, or load into the table that it leads to");
    }
    if table.hides_rows {
        let what = format!("row-level security of {name} hides rows from this user");
        return refused(what, "load as the table's owner, or as a role with BYPASSRLS");
    }
    if table.inherited {
        let what = format!("other tables inherit from {name}: no unique index holds for them all");
        return refused(what, "load into a table that nothing inherits from");
    }
    if table.persistence != "p" {
        let what = format!("{name} is not a permanent table: a crash of the server empties it");
        return refused(what, "ALTER TABLE .. SET LOGGED");
    }
    let generated = |c: &&Column| table.column(&c.name).is_some_and(|there| there.generated);
    if let Some(column) = columns.iter().find(generated) {
        let what = format!("column `{}` of {name} is generated: nobody writes it", column.name);
        return refused(what, "leave it out of the source");
    }
    if mode == Mode::Append { Ok(()) } else { accepts_key(name, table, columns, manners) }
}

/// Whether a live row with a key of ours could slip in unseen: the snapshot does not show it, and
/// nothing but a unique index makes the two collide.
fn accepts_key(name: &TableName, table: &Table, columns: &Columns, manners: Manners) -> Result<()> {
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let key = &names[..columns.key_width()];
    if let Some(part) = key.iter().find(|n| table.column(n).is_some_and(|c| !c.can_be_key())) {
        return Err(Error::config(format!(
            "column `{part}` of {name} cannot be part of the key: the server compares it otherwise"
        ))
        .hint("a type with exact comparison is needed, such as text with its usual collation"));
    }
    if manners.locks || table.has_unique(key) {
        return Ok(());
    }
    Err(Error::config(format!("{name} has no unique index on the key")).hint(format!(
        "run: {}; or let others wait with `write: {{ lock: share-row-exclusive }}`",
        ddl::unique_index_ddl(name, key)?
    )))
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
         pg_catalog.pg_is_in_recovery();{}",
        ddl::RECEIPTS,
        table.oid,
        slice.generation,
        literal(&shared.name.to_string())?,
        instant_literal(slice.interval.start(), true),
        instant_literal(slice.interval.end(), true),
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
