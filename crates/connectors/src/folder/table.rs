//! The columns of the folder. Text tells no types: those of the first load are written down, and
//! found before it from what source and folder hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{FieldType, ReadRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use serde::{Deserialize, Serialize};

use super::blocking;
use super::contents::{Contents, Shared};
use super::names::COLUMNS;
use super::part::Part;
use super::settings::FileFormat;
use super::writer::in_order;
use crate::delta::Created;

/// The folder's columns, as they are kept in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Record {
    /// The first format.
    #[serde(rename = "1")]
    V1 {
        format: FileFormat,
        /// In the order of the files.
        columns: Vec<FieldType>,
    },
}

/// The columns that are written down; none before the first load. Blocks.
pub(super) fn recorded(shared: &Shared) -> Result<Option<Vec<FieldType>>> {
    let durable = &shared.durable;
    let bytes = match durable.disk().read(COLUMNS) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(durable.error("read", COLUMNS, e)),
    };
    let place = durable.disk().describe(COLUMNS);
    let Record::V1 { format, columns } = serde_json::from_slice(&bytes).map_err(|e| {
        Error::config(format!("`{place}` cannot be read")).because(e).hint(
            "was it written by a newer version? Without it, the types are found anew: plan again \
             with `--replan` then",
        )
    })?;
    if format != shared.settings.format {
        let (is, wanted) = (format.name(), shared.settings.format.name());
        let what = format!("the folder is one of {is} files, not of {wanted}");
        return Err(Error::config(what)
            .hint(format!("set `format: {is}`, or name another folder"))
            .about("target.files.format"));
    }
    Ok(Some(columns))
}

/// The type in which files of this format keep a column, or what would be lost.
pub(super) fn kept(format: FileFormat, ty: ColumnType) -> Result<ColumnType> {
    let name = format.name();
    match ty {
        ColumnType::Bytes if format != FileFormat::Parquet => {
            Err(Error::config(format!("{name} files have no form for bytes that all readers know"))
                .hint("give them as text by a `transform`, such as `encode(x, 'hex')`"))
        }
        ColumnType::Array { .. } => {
            Err(Error::config(format!("{name} files with lists are not written by this version"))
                .hint("leave the column out, or let the source give it as text"))
        }
        ColumnType::Decimal { precision, scale }
            if scale < 0 || scale.unsigned_abs() > precision || precision > 38 =>
        {
            Err(Error::config(format!(
                "{name} files have no decimal of {precision} digits with {scale} after the point"
            ))
            .hint("at most 38 digits, with 0 up to all of them after the point"))
        }
        ColumnType::Instant { unit: Precision::Second } if format == FileFormat::Parquet => {
            Ok(ColumnType::Instant { unit: Precision::Millisecond })
        }
        ColumnType::Json if format == FileFormat::Ndjson => Ok(ty),
        // Kept as their text; the source gives it.
        ColumnType::Time | ColumnType::Uuid | ColumnType::Json => Ok(ColumnType::Text),
        _ => Ok(ty),
    }
}

/// Writes the columns down, or checks that the plan's are those.
pub(super) async fn prepare(shared: &Arc<Shared>, columns: &Columns) -> Result<()> {
    let contents = shared.look(&columns.time().name).await?;
    let mut list = header(&contents, &columns.time().name).await?;
    if list.is_empty() {
        let mut mine: Vec<&Column> = columns.iter().collect();
        mine.sort_by_key(|c| c.position);
        list = mine.into_iter().map(field).collect();
    } else {
        for known in &mut list {
            let mine = columns.iter().find(|c| c.name == known.name);
            known.ty = mine.map_or(known.ty, |c| c.ty);
            known.nullable = true;
        }
    }
    let (shared, columns) = (shared.clone(), columns.clone());
    blocking(move || {
        // The folder may be gone again by then: it is made by whoever writes first.
        let durable = &shared.durable;
        let locked = shared.lock()?;
        if recorded(&shared)?.is_none() {
            let record = Record::V1 { format: shared.settings.format, columns: list };
            let bytes = serde_json::to_vec_pretty(&record)
                .map_err(|e| Error::bug("columns cannot be written as JSON").because(e))?;
            match durable.create(COLUMNS, &bytes) {
                Created::Done | Created::Exists => {}
                Created::Not(e) | Created::Unknown(e) => {
                    return Err(durable.error("write", COLUMNS, e));
                }
            }
        }
        let recorded = recorded(&shared)?
            .ok_or_else(|| Error::unavailable("the folder is gone just after it was made"))?;
        in_order(&recorded, &columns)?;
        shared.sweep(&locked)
    })
    .await
}

fn field(column: &Column) -> FieldType {
    FieldType::new(column.name.clone(), column.ty, true)
}

/// The columns of all files, those of the first in front.
async fn header(contents: &Contents, time: &str) -> Result<Vec<FieldType>> {
    let mut list: Vec<FieldType> = Vec::new();
    let mut known = BTreeSet::new();
    for part in contents.values() {
        // What cannot be read of ours is told to whoever loads its slice.
        let survey = match part.survey(time).await {
            Err(_) if part.own.is_some() => continue,
            found => found?,
        };
        let new = survey.columns.iter().filter(|c| known.insert(c.name.clone()));
        list.extend(new.cloned());
        if part.is_sized() {
            // All of ours have every column.
            break;
        }
    }
    Ok(list)
}

/// The folder's columns for rows of a source with these: none where it holds nothing. Columns that
/// both have get the source's type, or the narrowest wider one that all values of the folder fit.
pub(super) async fn suited(
    shared: &Arc<Shared>,
    source: &[FieldType],
    time: &str,
) -> Result<Option<Vec<FieldType>>> {
    let contents = shared.look(time).await?;
    if contents.is_empty() {
        return Ok(None);
    }
    let mut list = header(&contents, time).await?;
    let parquet = shared.settings.format == FileFormat::Parquet;
    let mut open = BTreeSet::new();
    for field in &mut list {
        field.nullable = true;
        let Some(wanted) = counterpart(source, &field.name).filter(|_| !parquet) else { continue };
        let wanted = kept(shared.settings.format, wanted)
            .map_err(|e| e.at(format!("column `{}`", field.name)))?;
        if field.ty != wanted && field.name != time {
            open.insert(field.name.clone());
        }
        field.ty = wanted;
    }
    while !open.is_empty() {
        let misfits = misfits(&contents, &list, time, &open).await?;
        if misfits.is_empty() {
            break;
        }
        for field in &mut list {
            let Some(reason) = misfits.get(&field.name) else { continue };
            field.ty = wider(field.ty).ok_or_else(|| {
                let what = format!(
                    "column `{}` of the folder does not hold {} as the source does: {reason}",
                    field.name,
                    field.ty.common_name()
                );
                Error::config(what).hint("let the source give it as text: `types: { .. : text }`")
            })?;
            if field.ty == ColumnType::Text {
                open.remove(&field.name);
            }
        }
    }
    Ok(Some(list))
}

/// The type of the source's column of this name, or of the only one that differs in case.
fn counterpart(source: &[FieldType], name: &str) -> Option<ColumnType> {
    let lower = name.to_lowercase();
    let mut alike = source.iter().filter(|f| f.name.to_lowercase() == lower);
    let exact = source.iter().find(|f| f.name == name);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none())).map(|f| f.ty)
}

/// A type that holds all values of this one, and more.
fn wider(ty: ColumnType) -> Option<ColumnType> {
    match ty {
        ColumnType::Integer { .. } | ColumnType::Float { bits: 32 } => {
            Some(ColumnType::Float { bits: 64 })
        }
        ColumnType::Float { .. } | ColumnType::Bool => Some(ColumnType::Text),
        _ => None,
    }
}

/// The columns with values that do not fit these types, with the first of them.
async fn misfits(
    contents: &Contents,
    list: &[FieldType],
    time: &str,
    open: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>> {
    let role = |name: &str| if name == time { Role::Time } else { Role::Value };
    let looked = list.iter().filter(|f| f.name == time || open.contains(&f.name));
    let columns = looked.enumerate().map(|(i, f)| Column {
        name: f.name.clone(),
        ty: f.ty,
        role: role(&f.name),
        position: i as u32,
        source: None,
    });
    let columns = Arc::new(Columns::new(columns.collect())?);
    let mut misfits = BTreeMap::new();
    for part in contents.values() {
        look_through(part, &columns, &mut misfits).await?;
    }
    Ok(misfits)
}

async fn look_through(
    part: &Arc<Part>,
    columns: &Arc<Columns>,
    misfits: &mut BTreeMap<String, String>,
) -> Result<()> {
    let survey = part.survey(&columns.time().name).await?;
    let Some((min, max)) = survey.time_range() else { return Ok(()) };
    let end = Timestamp::from_nanosecond(max.as_nanosecond() + 1)
        .map_err(|e| Error::config("a time lies outside the calendar").because(e))?;
    let interval = Interval::new(min, end)?;
    let survey = part.completed(survey, columns)?;
    let request = ReadRequest { interval, columns: columns.clone(), survey };
    let mut rows = part.source.read(&request).await?;
    while let Some(batch) = rows.batches.next().await {
        for reject in batch?.rejects {
            let column = reject.column.unwrap_or_default();
            let place = reject.place;
            misfits.entry(column).or_insert_with(|| format!("{place}: {}", reject.reason));
        }
    }
    Ok(())
}
