//! Reading by binary COPY.

use arrow::util::display::array_value_to_string;
use futures::StreamExt as _;
use retrofill_core::columns::Columns;
use retrofill_core::connector::RowSink;
use retrofill_core::error::{Error, Kind as ErrorKind, Result};
use retrofill_core::interval::Interval;
use tokio_postgres::Client;

use super::catalog::Table;
use super::connect::Server;
use super::decode::{Decoded, Decoder};
use super::kind::{Base, Kind};
use super::packing::Packing;
use super::sql::{TableName, ident, instant_literal};

/// The plan's columns in a table: how each travels.
pub(super) fn kinds(table: &Table, columns: &Columns) -> Result<Vec<Kind>> {
    let kind = |column: &retrofill_core::columns::Column| {
        let there = table.column(&column.name).ok_or_else(|| {
            Error::config(format!("the table has no column `{}`", column.name))
                .hint("columns are never added; leave it out of the plan or add it to the table")
        })?;
        let kind = there.kind()?;
        if kind.column_type() != column.ty {
            return Err(Error::config(format!(
                "column `{}` is {} in the table, but another type in the plan",
                column.name, there.type_name
            ))
            .hint("plan again: the table's types win"));
        }
        Ok(kind)
    };
    columns.iter().map(kind).collect()
}

/// The condition for the rows of an interval.
pub(super) fn within(table: &Table, time: &str, interval: &Interval) -> Result<String> {
    let column = table.column(time).ok_or_else(|| Error::config(format!("no column `{time}`")))?;
    let zoned = column.kind()?.base == Base::Timestamptz;
    let time = ident(time)?;
    let (from, to) = (interval.start(), interval.end());
    Ok(format!(
        "{time} >= {} AND {time} < {}",
        instant_literal(from, zoned),
        instant_literal(to, zoned)
    ))
}

/// The statement that reads the plan's columns of these rows.
pub(super) fn statement(
    name: &TableName,
    columns: &Columns,
    packing: &Packing,
    condition: &str,
) -> Result<String> {
    let (list, name) = (packing.list(columns)?, name.sql()?);
    Ok(format!("COPY (SELECT {list} FROM {name} WHERE {condition}) TO STDOUT (FORMAT binary)"))
}

/// Runs a `COPY .. TO STDOUT` and gives every batch to `take`.
pub(super) async fn out(
    (server, client): (&Server, &Client),
    sql: &str,
    mut decoder: Decoder,
    take: &mut (dyn AsyncTake + '_),
) -> Result<()> {
    let failed = |e: &tokio_postgres::Error| {
        server.fault(e, &format!("cannot read from {}", server.label()))
    };
    let stream = client.copy_out(sql).await.map_err(|e| failed(&e))?;
    let mut stream = std::pin::pin!(stream);
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|e| failed(&e))?;
        if let Some(decoded) = decoder.push(&bytes)? {
            take.take(decoded).await?;
        }
    }
    match decoder.end()? {
        Some(decoded) => take.take(decoded).await,
        None => Ok(()),
    }
}

/// Takes batches that were read.
#[async_trait::async_trait]
pub(super) trait AsyncTake: Send {
    async fn take(&mut self, decoded: Decoded) -> Result<()>;
}

/// Hands rows to a sink, and counts them; every value must be had exactly.
pub(super) struct Pour<'a> {
    sink: &'a mut dyn RowSink,
    pub(super) rows: u64,
}

impl<'a> Pour<'a> {
    pub(super) fn new(sink: &'a mut dyn RowSink) -> Self {
        Pour { sink, rows: 0 }
    }
}

#[async_trait::async_trait]
impl AsyncTake for Pour<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        self.rows += decoded.rows.num_rows() as u64;
        self.sink.push(decoded.rows).await
    }
}

/// An error where a value could not be had.
pub(super) fn exact(decoded: &Decoded) -> Result<()> {
    let Some(odd) = decoded.odd.first() else { return Ok(()) };
    let schema = decoded.rows.schema();
    let column = schema.field(odd.column).name();
    // The time is the first of the plan's columns.
    let at = array_value_to_string(decoded.rows.column(0), odd.row).unwrap_or_default();
    let at = if at.is_empty() { at } else { format!(" of {at}") };
    let what = format!("the table holds a row{at} whose `{column}` {}", odd.why);
    Err(Error::new(ErrorKind::Refused, what)
        .hint("a slice with such a row cannot be compared; change the row or narrow the range"))
}
