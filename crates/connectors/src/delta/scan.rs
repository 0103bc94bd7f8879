//! Reads rows out of data files: only what may lie in the interval, in the types of the plan.

use std::io::ErrorKind;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, filter, filter_record_batch};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use retrofill_core::columns::Columns;
use retrofill_core::connector::RowSink;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::disk::DiskFile;
use super::durable::Durable;
use super::state::DataFile;

/// Rows per batch.
const BATCH: usize = 8_192;
/// Batches read ahead of the one who takes them.
const AHEAD: usize = 4;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    /// The columns, in this order and of these types.
    pub(super) columns: Arc<Columns>,
    /// Only rows inside; none for every row.
    pub(super) interval: Option<Interval>,
    /// The files, in the order they are read.
    pub(super) files: Vec<Arc<DataFile>>,
}

/// Some rows of one file.
pub(super) struct Piece {
    /// The rows.
    pub(super) rows: RecordBatch,
    /// Index of the file in the scan.
    pub(super) file: usize,
    /// Place of each row in its file.
    pub(super) places: Vec<u64>,
}

/// Pieces as they come from the reading thread.
pub(super) struct Pieces {
    receive: mpsc::Receiver<Result<Piece>>,
    reader: Option<JoinHandle<()>>,
}

impl Pieces {
    /// The next one. An end that the reader did not reach is an error, not an end.
    pub(super) async fn next(&mut self) -> Option<Result<Piece>> {
        if let Some(piece) = self.receive.recv().await {
            return Some(piece);
        }
        match self.reader.take()?.await {
            Ok(()) => None,
            Err(e) => Some(Err(Error::bug("the reader of a data file ended early").because(e))),
        }
    }
}

/// Starts reading on a thread of its own.
pub(super) fn start(durable: &Durable, scan: Scan) -> Pieces {
    let (send, receive) = mpsc::channel(AHEAD);
    let durable = durable.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut deliver = |piece| send.blocking_send(Ok(piece)).is_ok();
        if let Err(e) = run(&durable, &scan, &mut deliver) {
            // Nobody listens any more: then nobody misses the error.
            let _ = send.blocking_send(Err(e));
        }
    });
    Pieces { receive, reader: Some(reader) }
}

/// Reads all of it into a sink.
pub(super) async fn pour(durable: &Durable, scan: Scan, sink: &mut dyn RowSink) -> Result<()> {
    if scan.files.is_empty() {
        return Ok(());
    }
    let mut pieces = start(durable, scan);
    while let Some(piece) = pieces.next().await {
        sink.push(piece?.rows).await?;
    }
    Ok(())
}

/// Reads on this thread until `deliver` says no.
pub(super) fn run(
    durable: &Durable,
    scan: &Scan,
    deliver: &mut dyn FnMut(Piece) -> bool,
) -> Result<()> {
    for (index, file) in scan.files.iter().enumerate() {
        let Some(open) = OpenFile::open(durable, file, scan)? else { continue };
        for group in open.groups() {
            if !open.read(group, index, deliver)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Opens a file that the log names; its absence or another size is a mismatch.
pub(super) fn open_listed(durable: &Durable, file: &DataFile) -> Result<DiskFile> {
    let name = durable.disk().describe(&file.path);
    let open = durable.disk().open(&file.path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::new(Kind::Mismatch, format!("the data file `{name}` is missing"))
                .hint("the table's log names it; something deleted it behind the log's back")
        }
        _ => durable.error("open", &file.path, e),
    })?;
    if open.length() != file.size {
        return Err(Error::new(
            Kind::Mismatch,
            format!("the data file `{name}` has {} bytes, not {}", open.length(), file.size),
        )
        .hint("the table's log gives the size; something changed the file"));
    }
    Ok(open)
}

/// A file of which some columns are read.
struct OpenFile<'a> {
    scan: &'a Scan,
    name: String,
    file: DiskFile,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    time: String,
}

impl<'a> OpenFile<'a> {
    /// None where the file has no column of times, and so no row of any interval.
    fn open(durable: &Durable, file: &DataFile, scan: &'a Scan) -> Result<Option<Self>> {
        let name = durable.disk().describe(&file.path);
        let open = open_listed(durable, file)?;
        let metadata = footer(&open).map_err(|e| unreadable(&name, e))?;
        let time = scan.columns.time().name.clone();
        if scan.interval.is_some() && metadata.schema().field_with_name(&time).is_err() {
            return Ok(None);
        }
        let wanted = |f: &Arc<Field>| scan.columns.iter().any(|c| c.name == *f.name());
        let fields = metadata.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, f)| wanted(f)).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        Ok(Some(OpenFile { scan, name, file: open, metadata, mask, time }))
    }

    /// The row groups that may hold rows of the interval, with the place of their first row.
    fn groups(&self) -> Vec<(usize, u64)> {
        let groups = self.metadata.metadata().row_groups();
        let keep = self.scan.interval.and_then(|i| self.prune(&i));
        let mut first = 0;
        let mut found = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            if keep.as_ref().is_none_or(|keep| keep[index]) {
                found.push((index, first));
            }
            first += group.num_rows() as u64;
        }
        found
    }

    fn prune(&self, interval: &Interval) -> Option<Vec<bool>> {
        let bounds = group_bounds(&self.metadata, &self.time)?;
        let DataType::Timestamp(unit, _) =
            self.metadata.schema().field_with_name(&self.time).ok()?.data_type()
        else {
            return None;
        };
        let (first, end) = interval.bounds(*unit);
        let may_hold =
            |b: &Option<(i64, i64)>| b.is_none_or(|(low, high)| low < end && first <= high);
        Some(bounds.iter().map(may_hold).collect())
    }

    fn read(
        &self,
        (group, first): (usize, u64),
        index: usize,
        deliver: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<bool> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.file.clone(),
            self.metadata.clone(),
        );
        let reader = builder
            .with_projection(self.mask.clone())
            .with_row_groups(vec![group])
            .with_batch_size(BATCH)
            .build()
            .map_err(|e| unreadable(&self.name, e))?;
        let mut at = first;
        for batch in reader {
            let batch = batch.map_err(|e| unreadable(&self.name, ParquetError::from(e)))?;
            let rows = batch.num_rows() as u64;
            if let Some(piece) = self.piece(&batch, index, at)?
                && !deliver(piece)
            {
                return Ok(false);
            }
            at += rows;
        }
        Ok(true)
    }

    fn piece(&self, batch: &RecordBatch, file: usize, first: u64) -> Result<Option<Piece>> {
        let places = first..first + batch.num_rows() as u64;
        let Some(interval) = &self.scan.interval else {
            return Ok(Some(Piece { rows: self.convert(batch)?, file, places: places.collect() }));
        };
        let time = batch.column_by_name(&self.time).expect("the time column is projected");
        let mask = inside(time, interval).ok_or_else(|| {
            Error::new(Kind::Mismatch, format!("`{}`: `{}` is no time", self.name, self.time))
        })?;
        match mask.true_count() {
            0 => Ok(None),
            n if n == batch.num_rows() => {
                let rows = self.convert(batch)?;
                Ok(Some(Piece { rows, file, places: places.collect() }))
            }
            _ => {
                let all: ArrayRef = Arc::new(arrow::array::UInt64Array::from_iter_values(places));
                let cut = |e| Error::bug("rows cannot be filtered").because(e);
                let places = filter(&all, &mask).map_err(cut)?;
                let rows = filter_record_batch(batch, &mask).map_err(cut)?;
                let places = places.as_primitive::<UInt64Type>().values().to_vec();
                Ok(Some(Piece { rows: self.convert(&rows)?, file, places }))
            }
        }
    }

    /// The plan's columns in the plan's types; a column that the file lacks is NULL.
    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = self.scan.columns.arrow_schema();
        let columns: Result<Vec<ArrayRef>> = schema
            .fields()
            .iter()
            .map(|field| match batch.column_by_name(field.name()) {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some(array) => convert(array, field.data_type()).map_err(|e| {
                    let what = format!(
                        "column `{}` of the data file `{}` does not fit its type in the table",
                        field.name(),
                        self.name
                    );
                    Error::new(Kind::Mismatch, what).because(e)
                }),
            })
            .collect();
        RecordBatch::try_new(schema, columns?)
            .map_err(|e| Error::bug("rows do not fit the plan's schema").because(e))
    }
}

/// A value that the type cannot hold is an error. Nanoseconds are floored: Arrow's own cast
/// would move the last one before 1970 into it.
fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    match (array.as_primitive_opt::<TimestampNanosecondType>(), to) {
        (Some(nanos), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            let micros = nanos.unary::<_, TimestampMicrosecondType>(|n| n.div_euclid(1_000));
            cast_with_options(&micros.with_timezone("UTC"), to, &options)
        }
        _ => cast_with_options(array, to, &options),
    }
}

/// Reads the footer. The writer's own Arrow types are ignored: Delta's types rule. The 96-bit
/// times that Spark may write are taken as microseconds, which hold every year.
pub(crate) fn footer(file: &impl ChunkReader) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(file, options.clone())?;
    let root = metadata.parquet_schema().root_schema().get_fields();
    let old =
        |i: usize| root[i].is_primitive() && root[i].get_physical_type() == PhysicalType::INT96;
    if !(0..root.len()).any(old) {
        return Ok(metadata);
    }
    let fields: Vec<Field> = metadata
        .schema()
        .fields()
        .iter()
        .enumerate()
        .map(|(i, f)| {
            let field = f.as_ref().clone();
            if !old(i) {
                return field;
            }
            field.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None))
        })
        .collect();
    let options = options.with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)
}

/// Lowest and highest value of a column of times per row group, in the file's own unit; none
/// where the file does not say.
pub(super) fn group_bounds(
    metadata: &ArrowReaderMetadata,
    column: &str,
) -> Option<Vec<Option<(i64, i64)>>> {
    let converter =
        StatisticsConverter::try_new(column, metadata.schema(), metadata.parquet_schema()).ok()?;
    let groups = metadata.metadata().row_groups();
    let low = wholes(&converter.row_group_mins(groups).ok()?)?;
    let high = wholes(&converter.row_group_maxes(groups).ok()?)?;
    Some(low.into_iter().zip(high).map(|(l, h)| Some((l?, h?))).collect())
}

fn wholes(array: &ArrayRef) -> Option<Vec<Option<i64>>> {
    if !matches!(array.data_type(), DataType::Timestamp(_, _)) {
        return None;
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(array, &DataType::Int64, &options).ok()?;
    Some(array.as_primitive::<Int64Type>().iter().collect())
}

/// Which of these times lie in the interval; none where they are no times.
pub(crate) fn inside(time: &ArrayRef, interval: &Interval) -> Option<BooleanArray> {
    let DataType::Timestamp(unit, _) = time.data_type() else { return None };
    let (first, end) = interval.bounds(*unit);
    let values = match unit {
        TimeUnit::Second => time.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => time.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => time.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => time.as_primitive::<TimestampNanosecondType>().values(),
    };
    let hits = arrow::buffer::BooleanBuffer::collect_bool(values.len(), |i| {
        first <= values[i] && values[i] < end
    });
    let hits = match time.nulls() {
        Some(nulls) => &hits & nulls.inner(),
        None => hits,
    };
    Some(BooleanArray::new(hits, None))
}

/// A file that opens but cannot be read is not what was written.
pub(super) fn unreadable(name: &str, e: ParquetError) -> Error {
    let disk = match &e {
        ParquetError::External(cause) => cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|c| c.kind() != ErrorKind::UnexpectedEof),
        _ => false,
    };
    let kind = if disk { Kind::Unavailable } else { Kind::Mismatch };
    Error::new(kind, format!("the data file `{name}` cannot be read")).because(e)
}
