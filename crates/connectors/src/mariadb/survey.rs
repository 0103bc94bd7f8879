//! What the table holds, counted and hashed by the server in one pass.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::SurveyRequest;
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, FileStamp, Survey};

use super::catalog::{Table, ident};
use super::kind::text;
use super::{Shared, Sight};
use crate::counted::{KEPT, Length, block, name};

/// From a Monday to 1970, in microseconds, so that weeks are those of the calendar.
const MONDAY: i64 = 3 * 86_400 * 1_000_000;

/// Changes that are so young may share their second with others.
const YOUNG: &str = "INTERVAL 5 SECOND";

/// Counts and hashes.
pub(super) async fn survey(shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
    // What changes between this and the snapshot is seen as a change later; never the other way.
    let settled = settled(shared).await?;
    let mut conn = shared.begin().await?;
    let table = Table::look(shared, &mut conn).await?;
    let sight = Sight::new(shared, table, &request.time)?;
    let mut survey = Survey {
        columns: sight.table.fields(),
        time_unit: Some(sight.unit),
        // To find single rows again.
        time_form: Some(request.time.clone()),
        ..Survey::default()
    };
    let precision = sight.unit.precision();
    for column in survey.columns.iter_mut().filter(|c| c.name == request.time) {
        column.ty = ColumnType::Instant { unit: precision };
    }
    survey.notes.push(format!("`{}` is read as UTC", request.time));
    let (blocks, (unplaced, rest)) = counted(shared, &mut conn, &sight).await?;
    survey.rows = blocks.iter().map(|b| b.rows).sum();
    let sum = blocks.iter().filter_map(|b| i128::from_str_radix(&b.hash, 16).ok()).sum::<i128>();
    survey.blocks = blocks;
    survey.unplaced = unplaced;
    if unplaced > 0 {
        survey.unplaced_rejects = lost(shared, &mut conn, &sight, &request.time).await?;
    }
    shared.end(conn).await;
    let stamp = settled.unwrap_or_else(|| content(survey.rows + unplaced, sum + rest));
    survey.files.push(named(shared, stamp));
    request.pulse.beat(1, 1)?;
    Ok(survey)
}

fn number(values: &[Value], at: usize) -> Option<i128> {
    text(values.get(at)?)?.parse().ok()
}

/// The rows by stretches of time; how many have no time, and the sum of their hashes.
async fn counted(
    shared: &Shared,
    conn: &mut Conn,
    sight: &Sight,
) -> Result<(Vec<Block>, (u64, i128))> {
    let micros = sight.micros();
    let sql = format!("SELECT MIN({micros}), MAX({micros}) FROM {}", sight.name);
    let range: Option<Row> =
        conn.query_first(sql).await.map_err(|e| shared.server.unreadable(&e))?;
    let range = range.map(Row::unwrap);
    let range = range.and_then(|v| Some((number(&v, 0)? as i64, number(&v, 1)? as i64)));
    let mut length = Length::of(range);
    loop {
        let (blocks, unplaced) = grouped(shared, conn, sight, length.seconds()).await?;
        let Some(finer) = length.finer(&blocks) else { return Ok((blocks, unplaced)) };
        length = finer;
    }
}

async fn grouped(
    shared: &Shared,
    conn: &mut Conn,
    sight: &Sight,
    length: i64,
) -> Result<(Vec<Block>, (u64, i128))> {
    let sql = format!(
        "SELECT MIN(m), MAX(m), COUNT(*), SUM(h) FROM (SELECT {} AS m, {} AS h FROM {}) AS r \
         GROUP BY (m + {MONDAY}) DIV {} ORDER BY 1",
        sight.micros(),
        sight.table.hash_sql(),
        sight.name,
        length * 1_000_000
    );
    let rows: Vec<Row> = conn.query(sql).await.map_err(|e| shared.server.unreadable(&e))?;
    let (mut blocks, mut unplaced) = (Vec::new(), (0, 0));
    let mut line = 1;
    for row in rows {
        let values = row.unwrap();
        let odd = || Error::bug("the server's counts cannot be read");
        let (count, sum) =
            (number(&values, 2).ok_or_else(odd)?, number(&values, 3).ok_or_else(odd)?);
        let count = u64::try_from(count).map_err(|_| odd())?;
        let (Some(min), Some(max)) = (number(&values, 0), number(&values, 1)) else {
            unplaced = (unplaced.0 + count, unplaced.1 + sum);
            continue;
        };
        let block = block(count, (min as i64, max as i64), sum)?;
        blocks.push(Block { offset: line - 1, length: count, line, ..block });
        line += count;
    }
    Ok((blocks, unplaced))
}

/// The first rows that have no time.
async fn lost(shared: &Shared, conn: &mut Conn, sight: &Sight, time: &str) -> Result<Vec<Reject>> {
    let columns: Vec<_> = sight.table.columns.iter().map(|c| ident(&c.name)).collect();
    let sql = format!(
        "SELECT {}, {} FROM {} WHERE {} IS NULL LIMIT {KEPT}",
        sight.time,
        columns.join(", "),
        sight.name,
        sight.micros()
    );
    let rows: Vec<Row> = conn.exec(sql, ()).await.map_err(|e| shared.server.unreadable(&e))?;
    let reject = |row: Row| {
        let values = row.unwrap();
        let reason = match values.first().and_then(text) {
            None => "the time is NULL".to_owned(),
            Some(text) => format!("`{text}` is in no calendar"),
        };
        let texts = values.iter().skip(1).map(|v| text(v).unwrap_or_default());
        Reject {
            place: Place { file: shared.settings.table.clone(), line: None, offset: 0 },
            column: Some(time.to_owned()),
            reason,
            text: texts.collect::<Vec<_>>().join(","),
        }
    };
    Ok(rows.into_iter().map(reject).collect())
}

/// Tells whether the table has changed: by the time of its last change, where the server knows
/// one, else by all that it holds.
pub(super) async fn stamp(shared: &Shared) -> Result<FileStamp> {
    if let Some(stamp) = settled(shared).await? {
        return Ok(named(shared, stamp));
    }
    let mut conn = shared.begin().await?;
    let table = Table::look(shared, &mut conn).await?;
    let sql = format!(
        "SELECT COUNT(*), COALESCE(SUM({}), 0) FROM {}",
        table.hash_sql(),
        ident(&shared.settings.table)
    );
    let row: Option<Row> = conn.query_first(sql).await.map_err(|e| shared.server.unreadable(&e))?;
    shared.end(conn).await;
    let values = row.map(Row::unwrap).unwrap_or_default();
    match (number(&values, 0), number(&values, 1)) {
        (Some(rows), Some(sum)) => Ok(named(shared, content(rows as u64, sum))),
        _ => Err(Error::bug("the server's counts cannot be read")),
    }
}

fn named(shared: &Shared, stamp: String) -> FileStamp {
    FileStamp { path: shared.settings.table.clone(), size: 0, stamp }
}

fn content(rows: u64, sum: i128) -> String {
    format!("{rows} rows, {}", name(sum))
}

/// The time of the last change, where the server knows it and no other can have the same. MySQL,
/// which may tell an old one, is not believed.
async fn settled(shared: &Shared) -> Result<Option<String>> {
    let mut conn = shared.server.connection().await?;
    let sql = format!(
        "SELECT UPDATE_TIME, CREATE_TIME FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND VERSION() LIKE '%MariaDB%' \
         AND ENGINE = 'InnoDB' AND UPDATE_TIME < NOW() - {YOUNG}"
    );
    let row: Option<Row> = conn
        .exec_first(sql, (shared.settings.table.as_str(),))
        .await
        .map_err(|e| shared.server.unreadable(&e))?;
    shared.server.keep(conn);
    let Some(row) = row else { return Ok(None) };
    let times: Vec<_> = row.unwrap().iter().map(|v| text(v).unwrap_or_default()).collect();
    Ok(Some(times.join(" since ")))
}
