//! Runs of rows in memory, and the frames that they are written in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch, UInt64Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use jiff::Timestamp;
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::Reject;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::read::Placed;
use crate::files::Moment;

/// Slices share a frame until it has so many rows.
const FEW: usize = 512;
/// A frame has so many rows at most.
const MANY: usize = 32_768;

/// A stretch of the copy that is read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    offset: u64,
    length: u64,
    hash: String,
}

impl Piece {
    pub(super) fn new(offset: u64, bytes: &[u8]) -> Self {
        let hash = format!("{:032x}", xxh3_128(bytes));
        Piece { offset, length: bytes.len() as u64, hash }
    }

    /// Its bytes, if they are those that were written.
    fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        // A damaged list must not make us ask for memory that no file fills.
        if file.metadata()?.len() < self.offset.saturating_add(self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; self.length as usize];
        file.read_exact_at(&mut bytes, self.offset)?;
        if format!("{:032x}", xxh3_128(&bytes)) != self.hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "other bytes were written"));
        }
        Ok(bytes)
    }
}

/// Rows of one slice, or of some neighbouring ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frame {
    pub(super) first: u32,
    pub(super) slices: u32,
    rows: Option<Piece>,
    rejects: Option<Piece>,
}

impl Frame {
    /// Its rows with their ordinals, and its rejects with their times.
    #[allow(clippy::type_complexity, reason = "it is taken apart at once")]
    pub(super) fn read(
        &self,
        file: &File,
    ) -> io::Result<(Option<(RecordBatch, Vec<u64>)>, Vec<(Timestamp, Reject)>)> {
        let rejects = match &self.rejects {
            Some(piece) => serde_json::from_slice(&piece.read(file)?)?,
            None => Vec::new(),
        };
        let rows = match &self.rows {
            Some(piece) => Some(decoded(&piece.read(file)?).map_err(io::Error::other)?),
            None => None,
        };
        Ok((rows, rejects))
    }
}

/// The plan's columns, and the ordinals behind them.
fn with_ordinals(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    // No column of a file can have this name, as none is empty.
    fields.push(Arc::new(Field::new("", DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

fn decoded(bytes: &[u8]) -> Result<(RecordBatch, Vec<u64>), ArrowError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    let batch = reader.next().ok_or_else(|| ArrowError::IpcError("an empty frame".into()))??;
    let last = batch.num_columns() - 1;
    let ordinals = batch.column(last).as_primitive::<UInt64Type>().values().to_vec();
    let columns: Vec<usize> = (0..last).collect();
    Ok((batch.project(&columns)?, ordinals))
}

/// Where a row of a run stands.
#[derive(Debug, Clone, Copy)]
struct At {
    slice: u32,
    batch: u32,
    row: u32,
}

/// Rows that wait to be sorted.
pub(super) struct Run {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: Vec<At>,
    rejects: Vec<(u32, Timestamp, Reject)>,
    size: usize,
}

impl Run {
    /// `schema` is that of the plan's rows.
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let schema = with_ordinals(schema);
        Run { schema, batches: Vec::new(), rows: Vec::new(), rejects: Vec::new(), size: 0 }
    }

    /// About how many bytes it holds.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes rows in the order of the source.
    pub(super) fn take(&mut self, placed: Placed, slice_of: impl Fn(Moment) -> u32) -> Result<()> {
        let Placed { rows, ordinals, moments, rejects } = placed;
        let batch = self.batches.len() as u32;
        let at = |(row, t): (usize, &Moment)| At { slice: slice_of(*t), batch, row: row as u32 };
        self.rows.extend(moments.iter().enumerate().map(at));
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from(ordinals)));
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(broken)?;
        self.size += rows.get_array_memory_size() + moments.len() * size_of::<At>();
        self.batches.push(rows);
        for (t, reject) in rejects {
            self.size += reject.text.len() + size_of::<Reject>();
            self.rejects.push((slice_of(Moment::new(t)), t, reject));
        }
        Ok(())
    }

    /// Gives all of it away in frames, in the order of the slices and in each in that of the
    /// source. `write` puts bytes somewhere and tells where.
    pub(super) fn cut(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Result<Piece>,
    ) -> Result<Vec<Frame>> {
        self.rows.sort_by_key(|at| at.slice);
        self.rejects.sort_by_key(|(slice, ..)| *slice);
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let (mut frames, mut rows) = (Vec::new(), &self.rows[..]);
        while let Some(first) = rows.first() {
            let mut count = 0;
            while count < rows.len() {
                let slice = rows[count].slice;
                let more = rows[count..].iter().take_while(|at| at.slice == slice).count();
                if count > 0 && count + more > MANY {
                    break;
                }
                count += more;
                if count >= FEW {
                    break;
                }
            }
            let count = count.min(MANY);
            let indices: Vec<_> =
                rows[..count].iter().map(|at| (at.batch as usize, at.row as usize)).collect();
            let batch = interleave_record_batch(&batches, &indices).map_err(broken)?;
            let slices = rows[count - 1].slice - first.slice + 1;
            let rows_at = Some(write(&encoded(&batch)?)?);
            frames.push(Frame { first: first.slice, slices, rows: rows_at, rejects: None });
            rows = &rows[count..];
        }
        for part in self.rejects.chunks(MANY) {
            let (Some((first, ..)), Some((last, ..))) = (part.first(), part.last()) else { break };
            let list: Vec<_> = part.iter().map(|(_, t, reject)| (t, reject)).collect();
            let bytes = serde_json::to_vec(&list)
                .map_err(|e| Error::bug("rejects cannot be written as JSON").because(e))?;
            let rejects = Some(write(&bytes)?);
            frames.push(Frame { first: *first, slices: last - first + 1, rows: None, rejects });
        }
        self.batches.clear();
        self.rows.clear();
        self.rejects.clear();
        self.size = 0;
        Ok(frames)
    }
}

fn encoded(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut write = || {
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()
    };
    write().map_err(broken)?;
    Ok(bytes)
}

fn broken(e: ArrowError) -> Error {
    Error::bug("rows cannot be sorted").because(e)
}
