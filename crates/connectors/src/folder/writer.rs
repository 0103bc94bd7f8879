//! Writes the one data file of a load, under a name that no reader sees.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, new_null_array};
use arrow::compute::{cast, cast_with_options, max, min};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{FieldType, Refused};
use retrofill_core::error::{Error, Kind, Result};

use super::text::Encoder;
use crate::delta::{DiskWrite, Durable, Summing};

/// Rows per row group: bounds the memory of a load.
const GROUP: usize = 128 * 1024;
/// Bytes of text that are written at once.
const CHUNK: usize = 256 << 10;

type Out = Summing<Box<dyn DiskWrite>>;

/// How the rows of a file are written.
pub(super) enum Form {
    /// As lines, with a line of names where `header`.
    Text { encoder: Encoder, header: bool },
    /// As Parquet: columns in the folder's order, in the types that its files have.
    Parquet { fields: Vec<FieldType>, schema: SchemaRef },
}

/// A file that is closed and durable, and has no name yet.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// Where it lies.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Rows.
    pub(super) rows: u64,
    /// Their checksum, made of what was written before it reached the disk.
    pub(super) sum: String,
    /// Lowest and highest time, in units of the time column.
    pub(super) times: Option<(i64, i64)>,
}

enum Sink {
    Text { out: Out, encoder: Encoder, buffer: Vec<u8> },
    Parquet { writer: Box<ArrowWriter<Out>>, fields: Vec<FieldType>, schema: SchemaRef },
}

/// The file while it is written. Dropped without `seal`, it leaves nothing behind.
pub(super) struct FileWriter {
    durable: Durable,
    path: String,
    /// None once it is closed.
    sink: Option<Sink>,
    rows: u64,
    times: Option<(i64, i64)>,
    keep: bool,
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.keep {
            self.sink = None;
            self.durable.discard(&self.path);
        }
    }
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::bug("rows cannot be put into the columns of a file").because(e)
}

impl FileWriter {
    /// Begins a file in this room. Blocks.
    pub(super) fn start(durable: &Durable, room: &str, form: Form) -> Result<FileWriter> {
        let begun = durable.begin(room).map_err(|e| durable.error("create a file in", room, e))?;
        let mut writer = FileWriter {
            durable: durable.clone(),
            path: begun.path,
            sink: None,
            rows: 0,
            times: None,
            keep: false,
        };
        let out = Summing::new(begun.file);
        writer.sink = Some(match form {
            Form::Text { encoder, header } => {
                let mut buffer = Vec::new();
                if header {
                    encoder.header(&mut buffer);
                }
                Sink::Text { out, encoder, buffer }
            }
            Form::Parquet { fields, schema } => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(GROUP))
                    .set_created_by(concat!("retrofill ", env!("CARGO_PKG_VERSION")).to_owned())
                    .build();
                let options = ArrowWriterOptions::new()
                    .with_properties(properties)
                    .with_skip_arrow_metadata(true);
                let new = ArrowWriter::try_new_with_options(out, schema.clone(), options);
                let new = new.map_err(|e| writer.parquet(e))?;
                Sink::Parquet { writer: Box::new(new), fields, schema }
            }
        });
        Ok(writer)
    }

    fn failed(&self, e: std::io::Error) -> Error {
        self.durable.error("write", &self.path, e)
    }

    fn parquet(&self, e: parquet::errors::ParquetError) -> Error {
        let cause = match e {
            parquet::errors::ParquetError::External(cause) => {
                match cause.downcast::<std::io::Error>() {
                    Ok(io) => *io,
                    Err(other) => std::io::Error::other(other),
                }
            }
            other => std::io::Error::other(other),
        };
        self.failed(cause)
    }

    /// Writes rows, but for those it gives back. Blocks.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        if let Some((low, high)) = range(rows)? {
            let (a, b) = self.times.unwrap_or((low, high));
            self.times = Some((a.min(low), b.max(high)));
        }
        let mut sink = self.sink.take();
        let done = match &mut sink {
            None => Err(Error::bug("rows were written into a closed file")),
            Some(Sink::Text { out, encoder, buffer }) => {
                let refused = encoder.rows(rows, buffer)?;
                if buffer.len() >= CHUNK {
                    out.write_all(buffer).map_err(|e| self.failed(e))?;
                    buffer.clear();
                }
                Ok(refused)
            }
            Some(Sink::Parquet { writer, fields, schema }) => {
                let rows = shaped(rows, fields, schema)?;
                writer.write(&rows).map_err(|e| self.parquet(e))?;
                Ok(Vec::new())
            }
        };
        self.sink = sink;
        let gone = done.as_ref().map_or(0, Vec::len);
        self.rows += (rows.num_rows() - gone) as u64;
        done
    }

    /// Closes the file and makes it durable. Blocks.
    pub(super) fn seal(mut self) -> Result<Written> {
        let (mut file, sum) = match self.sink.take() {
            None => return Err(Error::bug("a file was closed twice")),
            Some(Sink::Text { mut out, buffer, .. }) => {
                out.write_all(&buffer).map_err(|e| self.failed(e))?;
                out.finish()
            }
            Some(Sink::Parquet { writer, .. }) => {
                writer.into_inner().map_err(|e| self.parquet(e))?.finish()
            }
        };
        file.sync().map_err(|e| self.durable.error("sync", &self.path, e))?;
        drop(file);
        let size = self.durable.disk().stat(&self.path).map_err(|e| self.failed(e))?.length;
        self.keep = true;
        Ok(Written { path: self.path.clone(), size, rows: self.rows, sum, times: self.times })
    }
}

/// Lowest and highest time of rows.
fn range(rows: &RecordBatch) -> Result<Option<(i64, i64)>> {
    let times = cast(rows.column(0), &DataType::Int64).map_err(broken)?;
    let times = times.as_primitive::<Int64Type>();
    Ok(min(times).zip(max(times)))
}

/// The columns of a Parquet file: ours, but times as `like` has them.
pub(super) fn parquet_schema(fields: &[FieldType], like: Option<&Schema>) -> Result<SchemaRef> {
    let field = |f: &FieldType| {
        let ours = f.ty.arrow();
        let theirs = like.and_then(|s| s.field_with_name(&f.name).ok()).map(Field::data_type);
        let ty = match (&ours, theirs) {
            (DataType::Timestamp(..), Some(theirs @ DataType::Timestamp(_, zone))) => {
                match zone.as_deref() {
                    None => theirs.clone(),
                    Some(_) => DataType::Timestamp(unit(theirs), Some("UTC".into())),
                }
            }
            (DataType::Timestamp(..), Some(theirs)) => {
                let what = format!("the folder's files have the time `{}` as {theirs}", f.name);
                return Err(Error::config(what)
                    .hint("rows can be added to files whose times are timestamps"));
            }
            _ => ours,
        };
        Ok(Field::new(&f.name, ty, true))
    };
    let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn unit(ty: &DataType) -> arrow::datatypes::TimeUnit {
    match ty {
        DataType::Timestamp(unit, _) => *unit,
        _ => arrow::datatypes::TimeUnit::Microsecond,
    }
}

/// Rows in the columns of the file. A time that its type cannot keep ends the load.
fn shaped(rows: &RecordBatch, fields: &[FieldType], schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |(field, wanted): (&FieldType, &Arc<Field>)| -> Result<ArrayRef> {
        let Some(column) = rows.column_by_name(&field.name) else {
            return Ok(new_null_array(wanted.data_type(), rows.num_rows()));
        };
        if column.data_type() == wanted.data_type() {
            return Ok(column.clone());
        }
        let options = arrow::compute::CastOptions { safe: true, ..Default::default() };
        let there = cast_with_options(column, wanted.data_type(), &options).map_err(broken)?;
        let back = cast_with_options(&there, column.data_type(), &options).map_err(broken)?;
        if back.as_ref() == column.as_ref() {
            return Ok(there);
        }
        let what = format!(
            "a time of `{}` is finer than the folder's files keep it, or lies outside of theirs",
            field.name
        );
        Err(Error::new(Kind::Config, what).hint("floor the times first, by a `transform`"))
    };
    let columns = fields.iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(broken)
}

/// The columns that a load writes, in the folder's order: those of the folder that the plan does
/// not know stay NULL.
pub(super) fn in_order(recorded: &[FieldType], columns: &Columns) -> Result<Vec<FieldType>> {
    for column in columns {
        match recorded.iter().find(|f| f.name == column.name) {
            Some(field) if field.ty == column.ty => {}
            Some(field) => {
                let (now, then) = (field.ty.common_name(), column.ty.common_name());
                let what = format!("the folder keeps `{}` as {now}, not as {then}", column.name);
                return Err(Error::config(what).hint("plan again with `--replan`"));
            }
            None => {
                let what = format!("the folder has no column `{}`", column.name);
                return Err(Error::config(what).hint("plan again with `--replan`"));
            }
        }
    }
    Ok(recorded.to_vec())
}
