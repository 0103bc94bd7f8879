//! The rows of an interval, held against what the survey counted and hashed.

use std::sync::{Arc, PoisonError};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType};
use jiff::tz::TimeZone;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{ReadRequest, Rows, SourceBatch};
use retrofill_core::error::{Error, Result};
use retrofill_core::id::hex;
use retrofill_core::reject::Reject;
use retrofill_core::survey::Block;
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::super::catalog;
use super::super::copy::{self, AsyncTake};
use super::super::decode::{Decoded, Decoder};
use super::super::kind::{Base, Kind};
use super::super::session;
use super::super::sql::instant_literal;
use super::spot::{self, Parts};
use super::{Inner, ROW, Sight, stale};
use crate::columnar::{Sieve, converted};
use crate::counted::{self, Batch, Rest, Tally, poured, unread};

/// Starts to read. With `most` the first rows in the order of time, to look at.
pub(super) fn read(inner: &Arc<Inner>, request: &ReadRequest, most: Option<usize>) -> Rows {
    let blocks = counted::blocks(request);
    let hashes = blocks.iter().map(|b| b.hash.clone()).collect();
    let (inner, request) = (inner.clone(), request.clone());
    let batches = poured(|to| async move { pour(&inner, &request, blocks, (&to, most)).await });
    Rows { batches, blocks: hashes }
}

async fn pour(
    inner: &Inner,
    request: &ReadRequest,
    blocks: Vec<Block>,
    (to, most): (&mpsc::Sender<Batch>, Option<usize>),
) -> Result<()> {
    let shared = &inner.shared;
    let table = shared.known_table().await?;
    let client = inner.begin().await?;
    let columns = &request.columns;
    let sight = Sight::new(shared, table, columns.time().source_name())?;
    let mut tally = Tally::new(blocks);
    let parts = look(inner, &client, &sight, &mut tally, request).await?;
    let (sql, kinds) = statement(&sight, request, most)?;
    let fields = kinds.iter().enumerate().map(|(i, kind)| {
        let name = columns.iter().nth(i).map_or_else(|| format!("\0{i}"), |c| c.name.clone());
        Field::new(name, kind.column_type().arrow(), true)
    });
    let decoder = Decoder::new(&kinds, Arc::new(Schema::new(fields.collect::<Vec<_>>())));
    let mut take = Give { inner, columns, parts, tally, stood: 0, to };
    copy::out((&shared.server, &client), &sql, decoder, &mut take).await?;
    shared.server.roll_back(client).await;
    if most.is_some() {
        return Ok(());
    }
    if !take.tally.is_as_planned() {
        return Err(stale(format!("rows of {} came, went or were changed", shared.name)));
    }
    let mut all = inner.stood.lock().unwrap_or_else(PoisonError::into_inner);
    if *all.entry(request.interval).or_insert(take.stood) == take.stood {
        return Ok(());
    }
    Err(Error::unavailable("rows of the source were moved between two looks at a slice")
        .hint("run again: which of several rows with one key comes first is settled anew"))
}

/// Whether the table is the one that was surveyed, its parts, and what those blocks hold outside
/// of the interval that it cuts through.
async fn look(
    inner: &Inner,
    client: &Client,
    sight: &Sight,
    tally: &mut Tally,
    request: &ReadRequest,
) -> Result<Parts> {
    let shared = &inner.shared;
    let oid = sight.table.oid;
    let mut sql = format!("{};{}", catalog::standing_query(&shared.name)?, spot::query(oid));
    let rest = rest(sight, tally, request)?;
    if !rest.is_empty() {
        sql = format!("{sql};{}", rest.join(" UNION ALL "));
    }
    let answers = session::ask(client, &sql).await.map_err(|e| inner.fault(&e))?;
    let [standing, parts, rest @ ..] = &answers[..] else {
        return Err(Error::bug("a table was looked at in vain"));
    };
    let now = standing
        .first()
        .and_then(|row| Some((row.first()?.as_deref()?.parse().ok()?, row.get(1)?.as_deref()?)));
    if now != Some((oid, sight.table.definition.as_str())) {
        shared.forget_table();
        return Err(stale(format!("{} is another table now, or has other columns", shared.name)));
    }
    for row in rest.iter().flatten() {
        let number = |i: usize| row.get(i).and_then(|t| t.as_deref()?.parse::<i128>().ok());
        let counts = (number(0), number(1), number(2).unwrap_or(0));
        let (Some(block), Some(rows), sum) = counts else {
            return Err(Error::bug("the rest of a block came in another form"));
        };
        tally.add_rest(block as usize, rows as u64, sum);
    }
    Parts::read(parts)
}

/// The COPY, and how its columns travel: the plan's, the row's hash, its table, its place.
fn statement(
    sight: &Sight,
    request: &ReadRequest,
    most: Option<usize>,
) -> Result<(String, Vec<Kind>)> {
    let (mut list, mut kinds) = (Vec::new(), Vec::new());
    for column in request.columns.iter() {
        let name = column.source_name();
        let gone = || stale(format!("the source has no column `{name}` any more"));
        let there = sight.table.column(name).ok_or_else(gone)?;
        list.push(there.read_sql()?);
        let text = Kind { base: Base::Text { most: None, padded: false }, element: None };
        kinds.push(there.read_kind().unwrap_or(text));
    }
    list.push(sight.hash()?);
    list.push(format!("{ROW}.tableoid::pg_catalog.int8"));
    list.push(format!("{ROW}.ctid"));
    kinds.extend([Base::Int8, Base::Int8, Base::Spot].map(|base| Kind { base, element: None }));
    let (from, to) = (request.interval.start(), request.interval.end());
    let order = most.map_or(String::new(), |n| format!(" ORDER BY {} LIMIT {n}", sight.time));
    let sql = format!(
        "COPY (SELECT {} FROM {} AS {ROW} WHERE {time} >= {} AND {time} < {}{order}) \
         TO STDOUT (FORMAT binary)",
        list.join(", "),
        sight.name,
        instant_literal(from, sight.zoned),
        instant_literal(to, sight.zoned),
        time = sight.time
    );
    Ok((sql, kinds))
}

/// Queries for what blocks hold outside of the interval.
fn rest(sight: &Sight, tally: &Tally, request: &ReadRequest) -> Result<Vec<String>> {
    let (hash, time) = (sight.hash()?, &sight.time);
    let at = |t| instant_literal(t, sight.zoned);
    let query = |rest: Rest| {
        let Rest { block, from, to, is_before } = rest;
        let below = if is_before { "<" } else { "<=" };
        format!(
            "SELECT {block}, pg_catalog.count(*), pg_catalog.sum({hash}) FROM {} AS {ROW} \
             WHERE {time} >= {} AND {time} {below} {}",
            sight.name,
            at(from),
            at(to)
        )
    };
    Ok(tally.rest(&request.interval).into_iter().map(query).collect())
}

/// Gives every batch in the plan's types to the reader of the slice.
struct Give<'a> {
    inner: &'a Inner,
    columns: &'a Columns,
    parts: Parts,
    tally: Tally,
    /// Tells where the rows stood.
    stood: u64,
    to: &'a mpsc::Sender<Batch>,
}

#[async_trait::async_trait]
impl AsyncTake for Give<'_> {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        let Decoded { rows, odd } = decoded;
        let width = self.columns.len();
        let numbers = |i: usize| rows.column(width + i).as_primitive::<Int64Type>().values();
        let (hashes, tables, spots) = (numbers(0), numbers(1), numbers(2));
        let times = rows.column(0).as_primitive::<TimestampMicrosecondType>().values();
        let mut ordinals = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            self.tally.add(times[row], hashes[row].into());
            let ordinal = self.parts.ordinal(tables[row] as u32, spots[row]);
            let ordinal = ordinal.ok_or_else(|| Error::bug("a row stands nowhere"))?;
            self.stood =
                self.stood.wrapping_add(stir(ordinal ^ (hashes[row] as u64).rotate_left(32)));
            ordinals.push(ordinal);
        }
        let mut refused: Vec<(usize, usize, String)> = odd
            .into_iter()
            .filter(|o| o.column < width)
            .map(|o| (o.row, o.column, o.why.to_owned()))
            .collect();
        let mut arrays = Vec::with_capacity(width);
        for (i, column) in self.columns.iter().enumerate() {
            let (array, bad) =
                converted(&readable(rows.column(i), column.ty), column.ty, &TimeZone::UTC)?;
            refused.extend(bad.into_iter().map(|(row, why)| (row, i, why)));
            arrays.push(array);
        }
        let plan = RecordBatch::try_new(self.columns.arrow_schema(), arrays)
            .map_err(|e| Error::bug("rows do not fit the plan's columns").because(e))?;
        let batch = self.sorted_out(plan, ordinals, refused).await?;
        self.to.send(Ok(batch)).await.map_err(|_| unread())
    }
}

impl Give<'_> {
    /// Takes out the rows with a value that cannot be had, and says why.
    async fn sorted_out(
        &self,
        rows: RecordBatch,
        mut ordinals: Vec<u64>,
        mut refused: Vec<(usize, usize, String)>,
    ) -> Result<SourceBatch> {
        if refused.is_empty() {
            return Ok(SourceBatch { rows, ordinals, rejects: Vec::new(), filtered: 0 });
        }
        refused.sort_unstable();
        refused.dedup_by_key(|(row, ..)| *row);
        let wanted: Vec<u64> = refused.iter().map(|(row, ..)| ordinals[*row]).collect();
        let places = spot::locate(self.inner, &wanted).await?;
        let name = |i: usize| self.columns.iter().nth(i).map(|c| c.source_name().to_owned());
        let rejects = refused.iter().zip(places).map(|((_, column, why), (place, text))| Reject {
            place,
            column: name(*column),
            reason: why.clone(),
            text,
        });
        let rejects = rejects.collect();
        let sieve = Sieve::without(rows.num_rows(), refused.iter().map(|(row, ..)| *row));
        sieve.list(&mut ordinals);
        let rows = sieve.rows(&rows)?;
        Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 })
    }
}

/// UUIDs as their text, where they are not kept as what they are.
fn readable(array: &ArrayRef, to: ColumnType) -> ArrayRef {
    match array.as_fixed_size_binary_opt() {
        Some(uuids) if to == ColumnType::Text => {
            let text = |bytes: &[u8]| {
                let hex = hex(bytes);
                let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
                parts.join("-")
            };
            Arc::new(uuids.iter().map(|uuid| uuid.map(text)).collect::<StringArray>())
        }
        _ => array.clone(),
    }
}

/// Spreads all bits over all others.
fn stir(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}
