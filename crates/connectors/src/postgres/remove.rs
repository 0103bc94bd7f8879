//! Taking held rows out, by where they stand.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use retrofill_core::connector::{RowPicker, RowSink};
use retrofill_core::error::{Error, Result};

use super::copy::{self, AsyncTake, exact};
use super::decode::{Decoded, Decoder};
use super::kind::{Base, Kind};
use super::load::PostgresLoad;
use super::session;
use super::sql::idents;

/// Rows that go with one statement.
const AT_ONCE: usize = 5_000;

/// Where a row stands: its table, its block, its place in that. It stands there for as long as a
/// transaction sees it.
pub(super) type Spot = (u32, u32, u16);

/// The table and place of a row, as columns behind those of the plan.
const SPOT: &str = "tableoid::pg_catalog.int8, \
    pg_catalog.split_part(pg_catalog.btrim(ctid::pg_catalog.text, '()'), ',', 1)::pg_catalog.int8, \
    pg_catalog.split_part(pg_catalog.btrim(ctid::pg_catalog.text, '()'), ',', 2)::pg_catalog.int8";

/// Takes the columns of [`SPOT`] off.
fn parted(rows: &RecordBatch) -> Result<(RecordBatch, Vec<Spot>)> {
    let width = rows.num_columns() - 3;
    let plan = rows
        .project(&(0..width).collect::<Vec<_>>())
        .map_err(|e| Error::bug("columns cannot be left out").because(e))?;
    let [table, block, item] =
        [0, 1, 2].map(|i| rows.column(width + i).as_primitive::<Int64Type>().values());
    let spots = table.iter().zip(block).zip(item);
    // The server gave them as numbers of these widths.
    Ok((plan, spots.map(|((t, b), i)| (*t as u32, *b as u32, *i as u16)).collect()))
}

/// Hands held rows on, and remembers where they stand.
struct Remember<'a> {
    sink: &'a mut dyn RowSink,
    spots: Vec<Spot>,
}

#[async_trait]
impl AsyncTake for Remember<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        let (rows, spots) = parted(&decoded.rows)?;
        self.spots.extend(spots);
        self.sink.push(rows).await
    }
}

/// Asks the picker about every row that was held, and notes those that go.
struct Pick<'a> {
    picker: &'a mut dyn RowPicker,
    held: &'a [Spot],
    gone: Vec<Spot>,
}

#[async_trait]
impl AsyncTake for Pick<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        let (rows, mut spots) = parted(&decoded.rows)?;
        // Whatever stands elsewhere this very transaction has written.
        let was_held = |spot: &Spot| self.held.binary_search(spot).is_ok();
        let mask: BooleanArray = spots.iter().map(|spot| Some(was_held(spot))).collect();
        let rows = filter_record_batch(&rows, &mask)
            .map_err(|e| Error::bug("rows cannot be filtered").because(e))?;
        spots.retain(was_held);
        let goes = self.picker.pick(rows).await?;
        self.gone.extend(spots.into_iter().zip(goes).filter(|(_, goes)| *goes).map(|(s, _)| s));
        Ok(())
    }
}

impl PostgresLoad {
    /// The rows that the slice holds; where they stand is remembered.
    pub(super) async fn rows_with_spots(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let mut take = Remember { sink, spots: Vec::new() };
        self.read_spots(&mut take).await?;
        let mut spots = take.spots;
        spots.sort_unstable();
        if !spots.is_empty() {
            self.shared.quiet().meet();
        }
        self.held = spots;
        Ok(())
    }

    /// Shows every row that was held, and deletes those picked.
    pub(super) async fn take_out(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        let mut pick = Pick { picker, held: &held, gone: Vec::new() };
        self.read_spots(&mut pick).await?;
        let gone = pick.gone;
        for some in gone.chunks(AT_ONCE) {
            self.delete(some).await?;
        }
        Ok(())
    }

    async fn read_spots(&self, take: &mut (dyn AsyncTake + '_)) -> Result<()> {
        let columns = &self.slice.columns;
        let condition = copy::within(&self.table, &columns.time().name, &self.slice.interval)?;
        let list = idents(columns.iter().map(|c| c.name.as_str()))?;
        let name = self.shared.name.sql()?;
        let sql = format!(
            "COPY (SELECT {list}, {SPOT} FROM {name} WHERE {condition}) TO STDOUT (FORMAT binary)"
        );
        let mut kinds = self.kinds.clone();
        let schema = columns.arrow_schema();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        for place in ["table", "block", "item"] {
            kinds.push(Kind { base: Base::Int8, element: None });
            fields.push(Arc::new(Field::new(format!("\0{place}"), DataType::Int64, true)));
        }
        let decoder = Decoder::new(&kinds, Arc::new(Schema::new(fields)));
        copy::out((&self.shared.server, self.client()?), &sql, decoder, take).await
    }

    async fn delete(&self, rows: &[Spot]) -> Result<()> {
        let mut list = String::new();
        for (table, block, item) in rows {
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}({table}::pg_catalog.oid,'({block},{item})'");
            list.push_str("::pg_catalog.tid)");
        }
        let name = self.shared.name.sql()?;
        let sql = format!(
            "WITH gone AS (DELETE FROM {name} t USING (VALUES {list}) AS g(t, c) \
             WHERE t.ctid = g.c AND t.tableoid = g.t RETURNING 1) \
             SELECT pg_catalog.count(*) FROM gone"
        );
        let answer = session::ask(self.client()?, &sql).await.map_err(|e| self.broken(&e))?;
        let count = answer.first().and_then(|rows| rows.first()?.first()?.as_deref());
        if count.and_then(|c| c.parse::<usize>().ok()) == Some(rows.len()) {
            return Ok(());
        }
        let what = "not every row that was to go went: a trigger keeps some";
        Err(Error::new(retrofill_core::error::Kind::Mismatch, what)
            .hint("a BEFORE DELETE trigger must be switched off for this"))
    }
}
