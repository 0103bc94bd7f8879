//! A Delta table as a source: its files are the blocks of the survey.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use retrofill_core::columns::{Column, ColumnType, Columns, Role};
use retrofill_core::connector::{FieldType, ReadRequest, Rows, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::hex;
use retrofill_core::reject::Place;
use retrofill_core::survey::{Block, FileStamp, Survey, TimeUnitSeen};
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use super::scan::{self, Piece, Scan};
use super::state::DataFile;

/// An ordinal is the index of the file and the place of the row in it.
const PLACE_BITS: u32 = 36;

fn hash(file: &DataFile) -> String {
    // Files of a Delta table are never changed: path and size are the content's name.
    hex(&xxh3_128(format!("{}\0{}", file.path, file.size).as_bytes()).to_be_bytes())
}

fn stamp(file: &DataFile) -> FileStamp {
    FileStamp { path: file.path.to_string(), size: file.size, stamp: hash(file) }
}

/// The newest version's files. Blocks.
pub(super) fn stamps(shared: &Shared) -> Result<Vec<FileStamp>> {
    let files = shared.log.newest(|state| state.all())?.unwrap_or_default();
    Ok(files.iter().map(|file| stamp(file)).collect())
}

/// The newest version's files with their rows and time ranges. Blocks.
pub(super) fn survey(shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
    let (fields, files, version) = shared
        .log
        .newest(|state| (state.fields.clone(), state.all(), state.version))?
        .ok_or_else(|| Error::config("there is no Delta table to read"))?;
    let time = fields
        .iter()
        .find(|f| f.name == request.time)
        .ok_or_else(|| Error::config(format!("the table has no column `{}`", request.time)))?;
    if !matches!(time.ty, ColumnType::Instant { .. }) {
        return Err(Error::config(format!("column `{}` is not a time", request.time)));
    }
    let mut survey = Survey {
        columns: fields.clone(),
        time_unit: Some(TimeUnitSeen::Microsecond),
        notes: vec![format!("the table is read as of version {version}")],
        ..Survey::default()
    };
    let total: u64 = files.iter().map(|f| f.size).sum();
    for file in &files {
        let seen = look(shared, file, time)?;
        let index = survey.files.len() as u32;
        survey.files.push(stamp(file));
        survey.bytes += file.size;
        survey.unplaced += seen.nulls;
        if let Some((min, max)) = seen.range {
            survey.rows += seen.rows;
            survey.blocks.push(Block {
                file: index,
                offset: 0,
                length: file.size,
                line: 1,
                rows: seen.rows,
                min,
                max,
                hash: hash(file),
            });
        }
        request.pulse.beat(survey.bytes, total)?;
    }
    Ok(survey)
}

#[derive(Default)]
struct Seen {
    rows: u64,
    nulls: u64,
    range: Option<(Timestamp, Timestamp)>,
}

/// Rows and exact range of one file: by its footer, or where that does not say, by its rows.
fn look(shared: &Shared, file: &Arc<DataFile>, time: &FieldType) -> Result<Seen> {
    let durable = shared.log.durable();
    let name = durable.disk().describe(&file.path);
    let open = scan::open_listed(durable, file)?;
    let metadata = scan::footer(&open).map_err(|e| scan::unreadable(&name, e))?;
    if let Some(seen) = by_footer(&metadata, &time.name) {
        return Ok(seen);
    }
    let all: i64 = metadata.metadata().file_metadata().num_rows();
    let column = Column {
        name: time.name.clone(),
        ty: time.ty,
        role: Role::Time,
        position: 0,
        source: None,
    };
    let columns = Arc::new(Columns::new(vec![column])?);
    let scan = Scan { columns, interval: None, files: vec![file.clone()] };
    let mut range: Option<(i64, i64)> = None;
    let mut rows = 0;
    scan::run(durable, &scan, &mut |piece| {
        let values = piece.rows.column(0);
        let values = values.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        for value in values.iter().flatten() {
            let (low, high) = range.get_or_insert((value, value));
            (*low, *high) = ((*low).min(value), (*high).max(value));
            rows += 1;
        }
        true
    })?;
    let range = range.and_then(|r| instants(r, TimeUnit::Microsecond));
    Ok(Seen { rows, nulls: (all as u64).saturating_sub(rows), range })
}

fn instants((low, high): (i64, i64), unit: TimeUnit) -> Option<(Timestamp, Timestamp)> {
    let at = |n: i64| match unit {
        TimeUnit::Second => Timestamp::from_second(n).ok(),
        TimeUnit::Millisecond => Timestamp::from_millisecond(n).ok(),
        TimeUnit::Microsecond => Timestamp::from_microsecond(n).ok(),
        TimeUnit::Nanosecond => Timestamp::from_nanosecond(i128::from(n)).ok(),
    };
    Some((at(low)?, at(high)?))
}

fn by_footer(metadata: &ArrowReaderMetadata, time: &str) -> Option<Seen> {
    let groups = metadata.metadata().row_groups();
    let rows: u64 = groups.iter().map(|g| g.num_rows() as u64).sum();
    if rows == 0 {
        return Some(Seen::default());
    }
    let DataType::Timestamp(unit, _) = metadata.schema().field_with_name(time).ok()?.data_type()
    else {
        return None;
    };
    let converter =
        StatisticsConverter::try_new(time, metadata.schema(), metadata.parquet_schema()).ok()?;
    let nulls = converter.row_group_null_counts(groups).ok()?;
    let nulls: Option<u64> = nulls.iter().sum();
    let bounds: Option<Vec<_>> = scan::group_bounds(metadata, time)?.into_iter().collect();
    let bounds = bounds?;
    let low = bounds.iter().map(|b| b.0).min()?;
    let high = bounds.iter().map(|b| b.1).max()?;
    let nulls = nulls?;
    Some(Seen { rows: rows - nulls, nulls, range: Some(instants((low, high), *unit)?) })
}

/// The files that a read of this request needs, with their index in the survey.
fn files(shared: &Shared, request: &ReadRequest) -> Result<Vec<(u64, Arc<DataFile>)>> {
    let newest = shared.log.newest(|state| {
        if request.survey.files.is_empty() {
            let time = &request.columns.time().name;
            let found = state.overlapping(time, &request.interval);
            return Ok(found.into_iter().enumerate().map(|(i, f)| (i as u64, f)).collect());
        }
        let blocks = request.survey.overlapping(&request.interval);
        blocks
            .map(|(_, block)| {
                let stamp = &request.survey.files[block.file as usize];
                match state.active(&stamp.path) {
                    Some(file) if hash(file) == block.hash => {
                        Ok((u64::from(block.file), file.clone()))
                    }
                    _ => Err(Error::new(
                        Kind::Stale,
                        format!("the file `{}` is no longer part of the table", stamp.path),
                    )
                    .hint("the source changed since it was planned; plan again")),
                }
            })
            .collect()
    })?;
    newest.unwrap_or_else(|| Err(Error::config("there is no Delta table to read")))
}

/// The rows of the request. Blocks while it finds the files, not while they are read.
pub(super) fn read(shared: &Shared, request: &ReadRequest) -> Result<Rows> {
    let (indexes, files): (Vec<u64>, Vec<_>) = files(shared, request)?.into_iter().unzip();
    let blocks = files.iter().map(|f| hash(f)).collect();
    let scan = Scan { columns: request.columns.clone(), interval: Some(request.interval), files };
    let durable = shared.log.durable().clone();
    let batches = stream::unfold(None, move |pieces| {
        let (durable, scan, indexes) = (durable.clone(), scan.clone(), indexes.clone());
        async move {
            let mut pieces = pieces.unwrap_or_else(|| scan::start(&durable, scan));
            let piece = pieces.next().await?;
            Some((piece.map(|p| batch(p, &indexes)), Some(pieces)))
        }
    });
    Ok(Rows { batches: batches.boxed(), blocks })
}

fn batch(piece: Piece, indexes: &[u64]) -> SourceBatch {
    let file = indexes[piece.file] << PLACE_BITS;
    SourceBatch {
        ordinals: piece.places.iter().map(|place| file | place).collect(),
        rows: piece.rows,
        rejects: Vec::new(),
        filtered: 0,
    }
}

/// File, row number and text of single rows. Blocks.
pub(super) fn locate(
    shared: &Shared,
    survey: &Survey,
    ordinals: &[u64],
) -> Result<Vec<(Place, String)>> {
    let mut wanted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for ordinal in ordinals {
        let place = ordinal & ((1 << PLACE_BITS) - 1);
        wanted.entry(ordinal >> PLACE_BITS).or_default().push(place);
    }
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for (index, places) in &wanted {
        let stamp = named(survey, *index)?;
        let file = Arc::new(DataFile::new(&stamp.path, stamp.size, None));
        let rows = rows_at(shared, &file, &survey.columns, places)?;
        texts.extend(rows.into_iter().map(|(p, text)| (index << PLACE_BITS | p, text)));
    }
    ordinals
        .iter()
        .map(|ordinal| {
            let stamp = named(survey, ordinal >> PLACE_BITS)?;
            let offset = ordinal & ((1 << PLACE_BITS) - 1);
            let place = Place { file: stamp.path.clone(), line: None, offset };
            let text = texts.get(ordinal).cloned().ok_or_else(|| {
                Error::new(Kind::Stale, format!("`{}` has no row {offset}", stamp.path))
            })?;
            Ok((place, text))
        })
        .collect()
}

fn named(survey: &Survey, index: u64) -> Result<&FileStamp> {
    let stamp = usize::try_from(index).ok().and_then(|i| survey.files.get(i));
    stamp.ok_or_else(|| Error::bug(format!("the survey has no file {index}")))
}

fn rows_at(
    shared: &Shared,
    file: &Arc<DataFile>,
    fields: &[FieldType],
    places: &[u64],
) -> Result<Vec<(u64, String)>> {
    let mut time = false;
    let list = fields
        .iter()
        .map(|f| {
            let first = !time && matches!(f.ty, ColumnType::Instant { .. });
            time |= first;
            let role = if first { Role::Time } else { Role::Value };
            Column { name: f.name.clone(), ty: f.ty, role, position: 0, source: None }
        })
        .collect();
    let columns = Arc::new(Columns::new(list)?);
    let scan = Scan { columns, interval: None, files: vec![file.clone()] };
    let mut found = Vec::new();
    let mut failed = None;
    scan::run(shared.log.durable(), &scan, &mut |piece| {
        let first = piece.places.first().copied().unwrap_or(0);
        for place in places {
            let row = place.checked_sub(first).filter(|r| *r < piece.places.len() as u64);
            match row.map(|row| text(&piece.rows, fields, row as usize)) {
                Some(Ok(text)) => found.push((*place, text)),
                Some(Err(e)) => failed = Some(e),
                None => {}
            }
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(found), Err)
}

/// A row as comma-separated values in the table's order.
fn text(rows: &RecordBatch, fields: &[FieldType], row: usize) -> Result<String> {
    let options = FormatOptions::default();
    let values: Result<Vec<String>> = fields
        .iter()
        .filter_map(|f| rows.column_by_name(&f.name))
        .map(|column| {
            let shown = ArrayFormatter::try_new(column, &options)
                .map_err(|e| Error::bug("a value has no text").because(e))?;
            Ok(shown.value(row).to_string())
        })
        .collect();
    Ok(values?.join(","))
}
