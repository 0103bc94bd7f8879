//! What the table holds, counted and hashed by the server in one pass.

use std::sync::Arc;

use jiff::Timestamp;
use retrofill_core::connector::SurveyRequest;
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, FileStamp, Survey, TimeUnitSeen};
use tokio_postgres::Client;

use super::super::Shared;
use super::super::catalog::{self, Table};
use super::super::session::{self, Texts};
use super::super::sql::instant_literal;
use super::{Inner, ROW, Sight, spot};
use crate::counted::{KEPT, Length, block};

/// Counts and hashes.
pub(super) async fn survey(inner: &Inner, request: &SurveyRequest) -> Result<Survey> {
    let shared = &inner.shared;
    // What changes between this and the snapshot is seen as a change later; never the other way.
    let stamp = stamp(shared).await?;
    let client = inner.begin().await?;
    let sight = sight(inner, &client, &request.time).await?;
    let table = sight.table.clone();
    let mut survey = Survey {
        columns: table.read_fields(),
        time_unit: Some(TimeUnitSeen::Microsecond),
        bytes: stamp.size,
        ..Survey::default()
    };
    if !sight.zoned {
        let note = format!("`{}` has no time zone and is read as UTC", request.time);
        survey.notes.push(note);
    }
    let (blocks, unplaced) = counted(inner, &client, &sight).await?;
    survey.rows = blocks.iter().map(|b| b.rows).sum();
    survey.blocks = blocks;
    share(&mut survey);
    survey.unplaced = unplaced;
    if unplaced > 0 {
        survey.unplaced_rejects = lost(inner, &client, &sight, &request.time).await?;
    }
    survey.files.push(stamp);
    shared.server.roll_back(client).await;
    request.pulse.beat(survey.bytes, survey.bytes)?;
    Ok(survey)
}

/// Each block has its share of the table's bytes.
fn share(survey: &mut Survey) {
    let mut offset = 0;
    for block in &mut survey.blocks {
        let part = u128::from(survey.bytes) * u128::from(block.rows) / u128::from(survey.rows);
        block.offset = offset;
        block.length = part as u64;
        offset += block.length;
    }
}

async fn sight(inner: &Inner, client: &Client, time: &str) -> Result<Sight> {
    let shared = &inner.shared;
    let answer = session::ask(client, &catalog::query(&shared.name)?).await;
    let rows = answer.map_err(|e| inner.fault(&e))?;
    let json = rows.into_iter().flatten().flatten().flatten().next();
    let json = json.ok_or_else(|| Error::config(format!("there is no table {}", shared.name)))?;
    let table = Arc::new(Table::parse(&json)?);
    table.check(&shared.name)?;
    shared.know(&table);
    Sight::new(shared, table, time)
}

/// The rows by stretches of time, and how many have no time.
async fn counted(inner: &Inner, client: &Client, sight: &Sight) -> Result<(Vec<Block>, u64)> {
    let sql = format!(
        "SELECT {}, {} FROM {} WHERE {}",
        micros(&format!("pg_catalog.min({})", sight.time)),
        micros(&format!("pg_catalog.max({})", sight.time)),
        sight.name,
        sight.finite()
    );
    let rows = session::ask(client, &sql).await.map_err(|e| inner.fault(&e))?;
    let range =
        rows.iter().flatten().next().and_then(|row| Some((number(row, 0)?, number(row, 1)?)));
    let mut length = Length::of(range);
    loop {
        let (blocks, unplaced) = grouped(inner, client, sight, length.seconds()).await?;
        let Some(finer) = length.finer(&blocks) else { return Ok((blocks, unplaced)) };
        length = finer;
    }
}

async fn grouped(
    inner: &Inner,
    client: &Client,
    sight: &Sight,
    length: i64,
) -> Result<(Vec<Block>, u64)> {
    // The first Monday, so that weeks are those of the calendar.
    let origin = instant_literal(Timestamp::from_second(345_600).unwrap_or_default(), sight.zoned);
    let sql = format!(
        "SELECT {}, {}, pg_catalog.count(*), pg_catalog.sum(h) FROM (SELECT {} AS t, \
         ({}) IS TRUE AS placed, {} AS h FROM {} AS {ROW}) AS r GROUP BY CASE WHEN placed THEN \
         pg_catalog.date_bin('{length} seconds'::pg_catalog.interval, t, {origin}) END ORDER BY 1",
        micros("pg_catalog.min(t) FILTER (WHERE placed)"),
        micros("pg_catalog.max(t) FILTER (WHERE placed)"),
        sight.time,
        sight.finite(),
        sight.hash()?,
        sight.name
    );
    let rows = session::ask(client, &sql).await.map_err(|e| inner.fault(&e))?;
    let (mut blocks, mut unplaced) = (Vec::new(), 0);
    for row in rows.iter().flatten() {
        let odd = || Error::bug("the server's counts cannot be read");
        let count = number(row, 2).and_then(|n| u64::try_from(n).ok()).ok_or_else(odd)?;
        let (Some(min), Some(max)) = (number(row, 0), number(row, 1)) else {
            unplaced += count;
            continue;
        };
        let sum: i128 = row.get(3).and_then(|t| t.as_deref()?.parse().ok()).ok_or_else(odd)?;
        blocks.push(block(count, (min, max), sum)?);
    }
    Ok((blocks, unplaced))
}

fn micros(of: &str) -> String {
    format!("(extract(epoch FROM {of}) * 1000000)::pg_catalog.int8")
}

fn number(row: &Texts, at: usize) -> Option<i64> {
    row.get(at)?.as_deref()?.parse().ok()
}

impl Sight {
    /// The condition for times that are some: neither NULL nor infinite nor beyond any calendar.
    fn finite(&self) -> String {
        let (first, last) = (Timestamp::MIN, Timestamp::MAX);
        format!(
            "{time} >= {} AND {time} < {}",
            instant_literal(first, self.zoned),
            instant_literal(last, self.zoned),
            time = self.time
        )
    }
}

/// The first rows that have no time.
async fn lost(inner: &Inner, client: &Client, sight: &Sight, time: &str) -> Result<Vec<Reject>> {
    let parts = spot::Parts::ask(inner, client, sight.table.oid).await?;
    let sql = format!(
        "SELECT {ROW}.tableoid, {ROW}.ctid, {} IS NULL, {ROW}::pg_catalog.text FROM {} AS {ROW} \
         WHERE ({}) IS NOT TRUE ORDER BY 1, {ROW}.ctid LIMIT {KEPT}",
        sight.time,
        sight.name,
        sight.finite()
    );
    let rows = session::ask(client, &sql).await.map_err(|e| inner.fault(&e))?;
    let reject = |row: &Texts| -> Option<Reject> {
        let part = row.first()?.as_deref()?.parse().ok()?;
        let offset = parts.ordinal(part, spot::parse(row.get(1)?.as_deref()?)?)?;
        let null = row.get(2)?.as_deref()? == "t";
        let reason = if null { "the time is NULL" } else { "the time is in no calendar" };
        Some(Reject {
            place: Place { file: inner.shared.name.to_string(), line: None, offset },
            column: Some(time.to_owned()),
            reason: reason.into(),
            text: row.get(3)?.clone()?,
        })
    };
    let list = rows.iter().flatten().map(reject).collect::<Option<_>>();
    list.ok_or_else(|| Error::bug("rows without a time came in another form"))
}

/// Tells whether the table has changed, without reading it. On a standby, which counts no changes,
/// whatever its server does may be one.
pub(super) async fn stamp(shared: &Shared) -> Result<FileStamp> {
    let table = shared.newest_table().await?;
    let oid = table.map(|t| t.oid);
    let oid = oid.ok_or_else(|| Error::config(format!("there is no table {}", shared.name)))?;
    let sql = format!(
        "WITH {parts} SELECT pg_catalog.sum(pg_catalog.pg_relation_size(oid)), \
         pg_catalog.md5(pg_catalog.concat(CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
         pg_catalog.pg_last_wal_replay_lsn() END, pg_catalog.string_agg(pg_catalog.concat_ws('/', \
         oid, pg_catalog.pg_relation_filenode(oid), n_tup_ins, n_tup_upd, n_tup_del), ',' \
         ORDER BY oid))) FROM parts LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = oid",
        parts = spot::parts_sql(oid)
    );
    let what = format!("cannot look at {}", shared.server.label());
    let rows = shared.server.ask(&sql, &what).await?;
    let row = rows.into_iter().flatten().next().unwrap_or_default();
    let size = number(&row, 0).and_then(|n| u64::try_from(n).ok());
    let stamp = row.get(1).cloned().flatten();
    let (Some(size), Some(stamp)) = (size, stamp) else {
        return Err(Error::bug("the server does not say how large a table is"));
    };
    Ok(FileStamp { path: shared.name.to_string(), size, stamp })
}
