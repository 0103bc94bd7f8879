//! Writes the one data file of a load, on a thread of its own.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use retrofill_core::connector::{FieldType, SliceLoad};
use retrofill_core::error::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::checksum::Summing;
use super::disk::DiskWrite;
use super::durable::{Durable, Temporary, random_name};
use super::stats::Collector;

/// Rows per row group: bounds the memory of a load.
const GROUP: usize = 128 * 1024;
/// Bytes of a column's dictionary in a row group, after which its values are written plain. Few
/// distinct values (names, codes, coarse readings) fit; for fine readings the default of 1 MiB
/// costs a fifth of a load's CPU time and saves nothing.
const DICTIONARY: usize = 64 * 1024;
/// Batches that may wait for the writing thread.
const AHEAD: usize = 4;

/// A data file that is closed and durable, but in no log entry yet.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// Its path below the table.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Their checksum (XXH3, 128 bits, hex), made of what was written before it reached the disk.
    pub(super) sum: String,
    /// Rows.
    pub(super) rows: u64,
    /// The `stats` of its `add` action.
    pub(super) stats: String,
    /// Lowest and highest time in microseconds.
    pub(super) times: Option<(i64, i64)>,
}

enum Message {
    Rows(RecordBatch),
    Seal,
}

/// The file while it is written. Dropped without `seal`, it leaves nothing behind.
pub(super) struct FileWriter {
    schema: SchemaRef,
    send: mpsc::Sender<Message>,
    thread: JoinHandle<Result<Option<Written>>>,
}

/// The Arrow schema of a file with these columns.
fn file_schema(fields: &[FieldType]) -> SchemaRef {
    let fields: Vec<Field> =
        fields.iter().map(|f| Field::new(&f.name, f.ty.arrow(), true)).collect();
    Arc::new(Schema::new(fields))
}

impl FileWriter {
    /// Starts a file for this load; `fields` are its columns in the table's order.
    pub(super) fn start(durable: Durable, slice: &SliceLoad, fields: Vec<FieldType>) -> Self {
        let schema = file_schema(&fields);
        let (send, receive) = mpsc::channel(AHEAD);
        let job = Job {
            durable,
            slice: plain(slice.slice.as_str()),
            generation: slice.generation,
            time: slice.columns.time().name.clone(),
            schema: schema.clone(),
            fields,
        };
        let thread = tokio::task::spawn_blocking(move || job.run(receive));
        FileWriter { schema, send, thread }
    }

    /// Takes some rows, whose columns are found by name.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns: Option<Vec<_>> =
            self.schema.fields().iter().map(|f| rows.column_by_name(f.name()).cloned()).collect();
        let columns = columns.ok_or_else(|| Error::bug("a batch lacks a column of its plan"))?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|e| Error::bug("a batch is not of the plan's types").because(e))?;
        if self.send.send(Message::Rows(rows)).await.is_ok() {
            return Ok(());
        }
        match (&mut self.thread).await {
            Ok(Err(e)) => Err(e),
            Ok(Ok(_)) => Err(Error::bug("rows were written after the end of the file")),
            Err(e) => Err(Error::bug("the writer of a data file ended early").because(e)),
        }
    }

    /// Closes the file and makes it durable under its name.
    pub(super) async fn seal(self) -> Result<Written> {
        // Where the thread is gone, its result says why.
        let _ = self.send.send(Message::Seal).await;
        drop(self.send);
        match self.thread.await {
            Ok(Ok(Some(written))) => Ok(written),
            Ok(Ok(None)) => Err(Error::bug("the data file was not sealed")),
            Ok(Err(e)) => Err(e),
            Err(e) => Err(Error::bug("the writer of a data file ended early").because(e)),
        }
    }

    /// Gives the file up and waits until nothing of it is left.
    pub(super) async fn abort(self) {
        drop(self.send);
        // Its failure, if it had one, no longer matters.
        let _ = self.thread.await;
    }
}

/// Slice ids stand in file names; whatever could part a path or need escapes does not.
pub(crate) fn plain(id: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    id.chars().map(|c| if keep(c) { c } else { '_' }).collect()
}

struct Job {
    durable: Durable,
    slice: String,
    generation: u64,
    time: String,
    schema: SchemaRef,
    fields: Vec<FieldType>,
}

impl Job {
    fn run(self, receive: mpsc::Receiver<Message>) -> Result<Option<Written>> {
        let Temporary { path, file } =
            self.durable.begin("").map_err(|e| self.durable.error("create a file in", "", e))?;
        let done = self.fill(&path, file, receive);
        if !matches!(done, Ok(Some(_))) {
            self.durable.discard(&path);
        }
        done
    }

    fn fill(
        &self,
        temporary: &str,
        file: Box<dyn DiskWrite>,
        mut receive: mpsc::Receiver<Message>,
    ) -> Result<Option<Written>> {
        let failed = |e: parquet::errors::ParquetError| {
            let cause = match e {
                parquet::errors::ParquetError::External(cause) => {
                    match cause.downcast::<std::io::Error>() {
                        Ok(io) => *io,
                        Err(other) => std::io::Error::other(other),
                    }
                }
                other => std::io::Error::other(other),
            };
            self.durable.error("write", temporary, cause)
        };
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP))
            .set_dictionary_page_size_limit(DICTIONARY)
            .set_created_by(concat!("retrofill ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(Summing::new(file), self.schema.clone(), options)
                .map_err(failed)?;
        let mut stats = Collector::new(&self.fields, &self.time);
        loop {
            match receive.blocking_recv() {
                Some(Message::Rows(rows)) => {
                    stats.add(&rows);
                    writer.write(&rows).map_err(failed)?;
                }
                Some(Message::Seal) => break,
                None => return Ok(None),
            }
        }
        let (mut file, sum) = writer.into_inner().map_err(failed)?.finish();
        file.sync().map_err(|e| self.durable.error("sync", temporary, e))?;
        drop(file);
        self.publish(temporary, &stats, sum).map(Some)
    }

    fn publish(&self, temporary: &str, stats: &Collector, sum: String) -> Result<Written> {
        let disk = self.durable.disk();
        let at = |e| self.durable.error("name", temporary, e);
        let path = format!(
            "part-{}-{}-{}.snappy.parquet",
            self.slice,
            self.generation,
            random_name().map_err(at)?
        );
        let size = disk.stat(temporary).map_err(at)?.length;
        disk.rename(temporary, &path).map_err(at)?;
        if let Err(e) = disk.sync_dir("") {
            self.durable.discard(&path);
            return Err(self.durable.error("sync", "", e));
        }
        Ok(Written {
            path,
            size,
            sum,
            rows: stats.rows(),
            stats: stats.json(),
            times: stats.times(&self.time),
        })
    }
}
