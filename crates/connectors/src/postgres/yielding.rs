//! Writing beside live writers that insert the same keys all the time.
//!
//! A snapshot does not show what they insert meanwhile, and a unique index ends a transaction that
//! meets it. After that has happened twice the slice is loaded without a snapshot: each row goes in
//! if no live row has its key, else it gives way and stays in a temporary table, so that its live
//! row can be looked at. From then on the key is taken: others wait for our commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use retrofill_core::connector::{Look, RowSink, SliceLoad};
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::Mode;
use tokio_postgres::Client;

use super::catalog::{On, Table};
use super::copy::{self, AsyncTake, Pour, exact};
use super::decode::{Decoded, Decoder};
use super::kind::{Base, Kind};
use super::load::PostgresLoad;
use super::sql::idents;
use super::{Shared, fault};

/// So often a slice is begun anew with a snapshot after another writer came first.
const TIMES: u32 = 2;

/// Rows on their way in, and those that gave way.
pub(super) const COMING: &str = "pg_temp.retrofill_coming";
/// Keys of the rows that went in.
const TAKEN: &str = "pg_temp.retrofill_taken";

/// Whether the load gives way: it has lost often enough, and a unique index of exactly the key
/// tells it who came first. Where a rule is on UPDATE the server takes no `ON CONFLICT`.
pub(super) fn is_due(shared: &Shared, slice: &SliceLoad, table: &Table) -> bool {
    slice.mode == Mode::FillMissing
        && !slice.manners.locks
        && shared.times_contended(slice) >= TIMES
        && table.has_unique_of(&key(slice))
        && table.rule(On::Update).is_none()
        && !shared.no_temporary.load(Ordering::Relaxed)
}

fn key(slice: &SliceLoad) -> Vec<&str> {
    slice.columns.iter().take(slice.columns.key_width()).map(|c| c.name.as_str()).collect()
}

/// Makes room for rows on their way, which goes with the transaction; false where the user may not
/// have any.
pub(super) async fn make_room(shared: &Shared, slice: &SliceLoad, client: &Client) -> Result<bool> {
    match client.batch_execute(&room(shared, slice)?).await {
        Ok(()) => Ok(true),
        Err(e) if fault::code(&e) == Some("42501") => {
            shared.no_temporary.store(true, Ordering::Relaxed);
            Ok(false)
        }
        Err(e) => Err(shared.server.fault(&e, "cannot make a temporary table")),
    }
}

fn room(shared: &Shared, slice: &SliceLoad) -> Result<String> {
    let all = idents(slice.columns.iter().map(|c| c.name.as_str()))?;
    let (key, name) = (idents(key(slice))?, shared.name.sql()?);
    let make = |room: &str, columns: &str| {
        let room = room.trim_start_matches("pg_temp.");
        format!(
            "CREATE TEMPORARY TABLE {room} ON COMMIT DROP AS SELECT {columns} FROM {name} \
             WITH NO DATA;"
        )
    };
    Ok(format!("{}{}", make(COMING, &all), make(TAKEN, &key)))
}

/// The statement that moves what was copied into the table, but for the rows whose key is there.
pub(super) fn moving(shared: &Shared, slice: &SliceLoad) -> Result<String> {
    let name = shared.name.sql()?;
    let all = idents(slice.columns.iter().map(|c| c.name.as_str()))?;
    let (key, same) = (idents(key(slice))?, same(slice, "c", "n")?);
    Ok(format!(
        "WITH n AS (INSERT INTO {name} ({all}) OVERRIDING SYSTEM VALUE \
         SELECT {all} FROM {COMING} ON CONFLICT ({key}) DO NOTHING RETURNING {key}), \
         gone AS (DELETE FROM {COMING} c USING n WHERE {same}) \
         INSERT INTO {TAKEN} ({key}) SELECT {key} FROM n"
    ))
}

/// Tells rows of ours from those of others by the last column.
struct Apart<'a> {
    ours: &'a mut dyn RowSink,
    others: &'a mut dyn RowSink,
}

#[async_trait]
impl AsyncTake for Apart<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        let rows = decoded.rows;
        let width = rows.num_columns() - 1;
        let ours = rows.column(width).as_boolean().clone();
        let plan = rows.project(&(0..width).collect::<Vec<_>>()).map_err(parted)?;
        let others: BooleanArray = ours.iter().map(|ours| ours.map(|ours| !ours)).collect();
        self.ours.push(part(&plan, &ours)?).await?;
        self.others.push(part(&plan, &others)?).await
    }
}

fn part(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    filter_record_batch(rows, mask).map_err(parted)
}

fn parted(e: arrow::error::ArrowError) -> Error {
    Error::bug("rows cannot be told apart").because(e)
}

impl PostgresLoad {
    /// All of the slice in one look, and what gave way.
    pub(super) async fn look_apart(&self, look: Look<'_>) -> Result<()> {
        let (columns, slice) = (&self.slice.columns, &self.slice);
        let name = self.shared.name.sql()?;
        let condition = copy::within(&self.table, &columns.time().name, &slice.interval)?;
        let list = |of: &str| -> Result<String> {
            let names: Result<Vec<_>> = columns
                .iter()
                .map(|c| Ok(format!("{of}.{}", idents([c.name.as_str()])?)))
                .collect();
            Ok(names?.join(", "))
        };
        let sql = format!(
            "COPY (SELECT {}, EXISTS (SELECT FROM {TAKEN} n WHERE {}) FROM {name} c \
             WHERE {condition}) TO STDOUT (FORMAT binary)",
            list("c")?,
            same(slice, "c", "n")?
        );
        let mut kinds = self.kinds.clone();
        kinds.push(Kind { base: Base::Bool, element: None });
        let schema = columns.arrow_schema();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("\0ours", DataType::Boolean, false)));
        let decoder = Decoder::new(&kinds, Arc::new(Schema::new(fields)));
        let way = (&self.shared.server, self.client()?);
        let mut apart = Apart { ours: look.ours, others: look.others };
        copy::out(way, &sql, decoder, &mut apart).await?;
        let sql = format!("COPY (SELECT {} FROM {COMING} c) TO STDOUT (FORMAT binary)", list("c")?);
        let decoder = Decoder::new(&self.kinds, columns.arrow_schema());
        copy::out(way, &sql, decoder, &mut Pour::new(look.gave_way)).await
    }
}

/// The condition that two relations have the same key.
fn same(slice: &SliceLoad, one: &str, other: &str) -> Result<String> {
    let part = |name: &str| idents([name]).map(|name| format!("{one}.{name} = {other}.{name}"));
    let parts: Result<Vec<_>> = key(slice).into_iter().map(part).collect();
    Ok(parts?.join(" AND "))
}
