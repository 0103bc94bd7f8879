//! Taking held rows out, by where they stand.

use std::fmt::Write as _;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use async_trait::async_trait;
use retrofill_core::connector::RowPicker;
use retrofill_core::error::{Error, Result};
use std::sync::Arc;

use super::copy::{self, AsyncTake, exact};
use super::decode::{Decoded, Decoder};
use super::kind::{Base, Kind};
use super::load::PostgresLoad;
use super::session;
use super::sql::idents;

/// Rows that go with one statement.
const AT_ONCE: usize = 5_000;

/// Asks the picker about every row, and notes those that go.
struct Pick<'a> {
    picker: &'a mut dyn RowPicker,
    width: usize,
    /// Table, block and place in it.
    gone: Vec<(i64, i64, i64)>,
}

#[async_trait]
impl AsyncTake for Pick<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        let rows = decoded.rows;
        let places: Vec<_> = (self.width..self.width + 3)
            .map(|i| rows.column(i).as_primitive::<Int64Type>().clone())
            .collect();
        let plan: Vec<usize> = (0..self.width).collect();
        let shown: RecordBatch =
            rows.project(&plan).map_err(|e| Error::bug("columns cannot be left out").because(e))?;
        let goes = self.picker.pick(shown).await?;
        for (i, goes) in goes.into_iter().enumerate() {
            if goes {
                self.gone.push((places[0].value(i), places[1].value(i), places[2].value(i)));
            }
        }
        Ok(())
    }
}

impl PostgresLoad {
    /// Shows every row that was held before our own were written, and deletes those picked.
    pub(super) async fn take_out(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let columns = &self.slice.columns;
        let condition = copy::within(&self.table, &columns.time().name, &self.slice.interval)?;
        let list = idents(columns.iter().map(|c| c.name.as_str()))?;
        let name = self.shared.name.sql()?;
        // Rows of this very transaction are our own.
        let sql = format!(
            "COPY (SELECT {list}, tableoid::pg_catalog.int8, \
             pg_catalog.split_part(pg_catalog.btrim(ctid::pg_catalog.text, '()'), ',', 1)\
             ::pg_catalog.int8, \
             pg_catalog.split_part(pg_catalog.btrim(ctid::pg_catalog.text, '()'), ',', 2)\
             ::pg_catalog.int8 FROM {name} WHERE {condition} \
             AND xmin::pg_catalog.text <> ({xid} % 4294967296)::pg_catalog.text) \
             TO STDOUT (FORMAT binary)",
            xid = self.xid
        );
        let mut kinds = self.kinds.clone();
        let mut fields: Vec<Field> =
            columns.arrow_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        for place in ["table", "block", "item"] {
            kinds.push(Kind { base: Base::Int8, element: None });
            fields.push(Field::new(format!("\0{place}"), DataType::Int64, true));
        }
        let decoder = Decoder::new(&kinds, Arc::new(Schema::new(fields)));
        let mut pick = Pick { picker, width: columns.len(), gone: Vec::new() };
        let way = (&self.shared.server, self.client()?);
        copy::out(way, &sql, decoder, &mut pick).await?;
        let gone = pick.gone;
        for some in gone.chunks(AT_ONCE) {
            self.delete(some).await?;
        }
        Ok(())
    }

    async fn delete(&self, rows: &[(i64, i64, i64)]) -> Result<()> {
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
        Err(Error::unavailable("rows that were to go have gone by themselves"))
    }
}
