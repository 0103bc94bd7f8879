//! The rows of an interval, held against what the survey counted and hashed.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch, new_null_array};
use jiff::tz::TimeZone;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use retrofill_core::columns::Columns;
use retrofill_core::connector::{ReadRequest, Rows, SourceBatch};
use retrofill_core::error::{Error, Kind as Class, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey};
use tokio::sync::mpsc;

use super::catalog::{Table, ident};
use super::kind::{Builder, Kind, micros, text};
use super::{Shared, Sight, fault, instant};
use crate::columnar::{Bad, Sieve, exactly, is_possible, shown};
use crate::counted::{self, Batch, Rest, Tally, poured, unread};

/// Rows of a batch.
const BATCH: usize = 8_192;

/// Bytes of a batch, but for its last row.
const BYTES: usize = 4 << 20;

/// Starts to read. With `most` the first rows in the order of time, to look at.
pub(super) fn read(shared: &Arc<Shared>, request: &ReadRequest, most: Option<usize>) -> Rows {
    let blocks = counted::blocks(request);
    let hashes = blocks.iter().map(|b| b.hash.clone()).collect();
    let (shared, request) = (shared.clone(), request.clone());
    let batches = poured(|to| async move { pour(&shared, &request, blocks, (&to, most)).await });
    Rows { batches, blocks: hashes }
}

async fn pour(
    shared: &Shared,
    request: &ReadRequest,
    blocks: Vec<Block>,
    (to, most): (&mpsc::Sender<Batch>, Option<usize>),
) -> Result<()> {
    let columns = &request.columns;
    let mut conn = shared.begin().await?;
    let sight = look(shared, &mut conn, columns.time().source_name()).await?;
    let mut tally = Tally::new(blocks);
    let first = rest(shared, &mut conn, &sight, &mut tally, request).await?;
    let builders = columns.iter().enumerate().map(|(i, c)| {
        let name = c.source_name();
        let gone = || shared.stale(&format!("has no column `{name}` any more"));
        let column = sight.table.column(name).ok_or_else(gone)?;
        // A date is a time where it is the time.
        Ok(Builder::new(if i == 0 { Kind::Stamp(6) } else { column.kind }))
    });
    let builders = builders.collect::<Result<Vec<_>>>()?;
    let mut give =
        Give { shared, columns, builders, tally, next: first, odd: Vec::new(), count: 0 };
    let sql = statement(&sight, columns, most);
    let bounds = (instant(request.interval.start()), instant(request.interval.end()));
    let failed = |e| failed(shared, &e);
    let mut rows = conn.exec_iter(sql, bounds).await.map_err(failed)?;
    let mut bytes = 0;
    while let Some(row) = rows.next().await.map_err(failed)? {
        bytes += give.take(&row.unwrap())?;
        if give.count >= BATCH || bytes >= BYTES {
            to.send(Ok(give.batch()?)).await.map_err(|_| unread())?;
            bytes = 0;
        }
    }
    rows.drop_result().await.map_err(failed)?;
    if give.count > 0 {
        to.send(Ok(give.batch()?)).await.map_err(|_| unread())?;
    }
    shared.end(conn).await;
    if most.is_some() || give.tally.is_as_planned() {
        return Ok(());
    }
    Err(shared.stale("has other rows than it had: some came, went or were changed"))
}

/// A column or table that was there a moment ago is gone: the plan is out of date.
fn failed(shared: &Shared, said: &mysql_async::Error) -> Error {
    match fault::code(said) {
        Some(1054 | 1146 | 1412) => shared.stale("is another table now, or has other columns"),
        _ => shared.server.unreadable(said),
    }
}

/// The table as it is now; stale where it cannot be the one that was planned.
async fn look(shared: &Shared, conn: &mut Conn, time: &str) -> Result<Sight> {
    let looked = Table::look(shared, conn).await.and_then(|t| Sight::new(shared, t, time));
    looked.map_err(|e| match e.kind() {
        Class::Config => shared.stale("cannot be read as planned").because(e),
        _ => e,
    })
}

/// What blocks hold outside of the interval that cuts through them; gives how many rows stand
/// before the interval's first.
async fn rest(
    shared: &Shared,
    conn: &mut Conn,
    sight: &Sight,
    tally: &mut Tally,
    request: &ReadRequest,
) -> Result<u64> {
    let (hash, time) = (sight.table.hash_sql(), &sight.time);
    let mut first = tally.first();
    for Rest { block, from, to, is_before } in tally.rest(&request.interval) {
        let below = if is_before { "<" } else { "<=" };
        let sql = format!(
            "SELECT COUNT(*), CAST(COALESCE(SUM({hash}), 0) AS CHAR) FROM {} \
             WHERE {time} >= ? AND {time} {below} ?",
            sight.name
        );
        let bounds = (instant(from), instant(to));
        let row: Option<Row> =
            conn.exec_first(sql, bounds).await.map_err(|e| failed(shared, &e))?;
        let values = row.map(Row::unwrap).unwrap_or_default();
        let number = |at: usize| text(values.get(at)?)?.parse::<i128>().ok();
        let (Some(rows), Some(sum)) = (number(0), number(1)) else {
            return Err(Error::bug("the rest of a block came in another form"));
        };
        tally.add_rest(block, rows as u64, sum);
        if block == 0 && is_before {
            first += rows as u64;
        }
    }
    Ok(first)
}

/// What orders rows: their time, their key, and all that they are.
fn order(sight: &Sight) -> String {
    let key = sight.table.key.iter().map(|name| format!("{}, ", ident(name)));
    format!("{}, {}{}", sight.time, key.collect::<String>(), sight.table.hash_sql())
}

/// The plan's columns, and the row's hash behind them.
fn statement(sight: &Sight, columns: &Columns, most: Option<usize>) -> String {
    let list: Vec<_> = columns.iter().map(|c| ident(c.source_name())).collect();
    let limit = most.map_or(String::new(), |n| format!(" LIMIT {n}"));
    format!(
        "SELECT {}, {} FROM {} WHERE {time} >= ? AND {time} < ? ORDER BY {}{limit}",
        list.join(", "),
        sight.table.hash_sql(),
        sight.name,
        order(sight),
        time = sight.time
    )
}

/// Gives rows in the plan's types.
struct Give<'a> {
    shared: &'a Shared,
    columns: &'a Columns,
    builders: Vec<Builder>,
    tally: Tally,
    /// The place of the next row in the order of all.
    next: u64,
    /// Values that are none: row, column, reason.
    odd: Vec<(usize, usize, String)>,
    /// Rows of the batch so far.
    count: usize,
}

impl Give<'_> {
    /// Takes a row; tells about how many bytes it has.
    fn take(&mut self, values: &[Value]) -> Result<usize> {
        let [values @ .., hash] = values else {
            return Err(Error::bug("a row came without its columns"));
        };
        let hash = text(hash).and_then(|t| t.parse().ok());
        let time = values.first().and_then(micros);
        let (Some(hash), Some(time)) = (hash, time) else {
            return Err(Error::bug("a row came without its hash or its time"));
        };
        self.tally.add(time, hash);
        let mut bytes = 0;
        for (column, (builder, value)) in self.builders.iter_mut().zip(values).enumerate() {
            if let Err(reason) = builder.push(value) {
                self.odd.push((self.count, column, reason));
            }
            bytes += match value {
                Value::Bytes(bytes) => bytes.len(),
                _ => 8,
            };
        }
        self.count += 1;
        Ok(bytes)
    }

    /// What was taken since the last batch.
    fn batch(&mut self) -> Result<SourceBatch> {
        let mut ordinals: Vec<u64> = (self.next..self.next + self.count as u64).collect();
        self.next += self.count as u64;
        self.count = 0;
        let raw: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let mut refused = std::mem::take(&mut self.odd);
        let mut arrays = Vec::with_capacity(raw.len());
        for (i, (column, array)) in self.columns.iter().zip(&raw).enumerate() {
            let (array, bad) = converted(array, column.ty)?;
            refused.extend(bad.into_iter().map(|(row, why)| (row, i, why)));
            arrays.push(array);
        }
        let broken = |e| Error::bug("rows do not fit the plan's columns").because(e);
        let rows = RecordBatch::try_new(self.columns.arrow_schema(), arrays).map_err(broken)?;
        if refused.is_empty() {
            return Ok(SourceBatch { rows, ordinals, rejects: Vec::new(), filtered: 0 });
        }
        refused.sort_unstable();
        refused.dedup_by_key(|(row, ..)| *row);
        let sieve = Sieve::without(ordinals.len(), refused.iter().map(|(row, ..)| *row));
        let rejects = refused.into_iter().map(|(row, column, reason)| {
            let values =
                raw.iter().map(|a| if a.is_null(row) { String::new() } else { shown(a, row) });
            Reject {
                place: self.shared.place(ordinals[row]),
                column: self.columns.iter().nth(column).map(|c| c.source_name().to_owned()),
                reason,
                text: values.collect::<Vec<_>>().join(","),
            }
        });
        let rejects = rejects.collect();
        sieve.list(&mut ordinals);
        Ok(SourceBatch { rows: sieve.rows(&rows)?, ordinals, rejects, filtered: 0 })
    }
}

fn converted(array: &ArrayRef, to: retrofill_core::columns::ColumnType) -> Result<(ArrayRef, Bad)> {
    if is_possible(array.data_type(), to) {
        return exactly(array, to, &TimeZone::UTC);
    }
    let rows = (0..array.len()).filter(|row| array.is_valid(*row));
    let why = |row| (row, format!("`{}` is no {}", shown(array, row), to.common_name()));
    Ok((new_null_array(&to.arrow(), array.len()), rows.map(why).collect()))
}

impl Shared {
    fn place(&self, ordinal: u64) -> Place {
        Place { file: self.settings.table.clone(), line: Some(ordinal + 1), offset: ordinal }
    }
}

/// Place and text of single rows.
pub(super) async fn locate(
    shared: &Shared,
    survey: &Survey,
    ordinals: &[u64],
) -> Result<Vec<(Place, String)>> {
    // The survey calls so the column that its times are in.
    let time = survey.time_form.as_deref();
    let time = time.ok_or_else(|| Error::bug("the survey names no time column"))?;
    let mut conn = shared.begin().await?;
    let sight = look(shared, &mut conn, time).await?;
    let list: Vec<_> = sight.table.columns.iter().map(|c| ident(&c.name)).collect();
    let mut found = Vec::with_capacity(ordinals.len());
    for n in ordinals {
        let at = survey.blocks.partition_point(|b| b.offset <= *n);
        let block = at.checked_sub(1).and_then(|at| survey.blocks.get(at));
        let block = block.ok_or_else(|| Error::bug(format!("the survey has no row {n}")))?;
        let sql = format!(
            "SELECT {} FROM {} WHERE {time} >= ? AND {time} <= ? ORDER BY {} LIMIT 1 OFFSET {}",
            list.join(", "),
            sight.name,
            order(&sight),
            n - block.offset,
            time = sight.time
        );
        let bounds = (instant(block.min), instant(block.max));
        let row: Option<Row> =
            conn.exec_first(sql, bounds).await.map_err(|e| failed(shared, &e))?;
        let gone = || shared.stale("has lost a row");
        let values = row.ok_or_else(gone)?.unwrap();
        let texts = values.iter().map(|v| text(v).unwrap_or_default());
        found.push((shared.place(*n), texts.collect::<Vec<_>>().join(",")));
    }
    shared.end(conn).await;
    Ok(found)
}
