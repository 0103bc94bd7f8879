//! One file, open: its columns, and the stretches its rows are read by. Nothing else here knows
//! that it is Parquet.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::FileStamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::delta::footer;
use crate::files::{stale, unreadable};

/// Rows per batch.
const BATCH: usize = 8_192;
/// Bytes hashed at a time.
const CHUNK: u64 = 1 << 20;
/// What every Parquet file begins with.
const MAGIC: &[u8] = b"PAR1";

/// A row group: what is hashed, and read, as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
    /// Place of its first row in the file, from 0.
    pub(super) first: u64,
    /// Rows.
    pub(super) rows: u64,
}

/// A file that is read by place alone: clones of a [`File`] share one position, and readers on
/// several threads would move it under each other.
#[derive(Debug, Clone)]
struct Placed(std::sync::Arc<File>);

impl Length for Placed {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |m| m.len())
    }
}

impl ChunkReader for Placed {
    type T = std::io::BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(std::io::BufReader::new(From { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Such a file from some place on.
#[derive(Debug)]
struct From {
    file: Placed,
    at: u64,
}

impl std::io::Read for From {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.0.read_at(to, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stamp: FileStamp,
    file: Placed,
    metadata: ArrowReaderMetadata,
    pub(super) stretches: Vec<Stretch>,
    /// Other columns would give the same bytes another meaning.
    seed: u64,
}

impl Opened {
    /// Reads the footer. An error of kind `Config` where the file is none of ours.
    pub(super) fn open(base: &Path, stamp: &FileStamp) -> Result<Opened> {
        let path = &stamp.path;
        let file = File::open(base.join(path)).map_err(|e| unreadable(path, e))?;
        let mut magic = [0; 4];
        if file.read_exact_at(&mut magic, 0).is_err() || magic != MAGIC {
            let what = format!("`{path}` is not a Parquet file");
            let hint = "narrow the pattern to leave it out";
            return Err(Error::config(what).hint(hint));
        }
        let metadata = footer(&file).map_err(|e| damaged(path, e))?;
        let mut first = 0;
        let stretches = metadata.metadata().row_groups().iter().map(|group| {
            let ranges = || group.columns().iter().map(ColumnChunkMetaData::byte_range);
            let offset = ranges().map(|(at, _)| at).min().unwrap_or(0);
            let end = ranges().map(|(at, length)| at + length).max().unwrap_or(0);
            let rows = group.num_rows() as u64;
            first += rows;
            Stretch { offset, length: end - offset, first: first - rows, rows }
        });
        let stretches = stretches.collect();
        let columns: Vec<_> = metadata
            .schema()
            .fields()
            .iter()
            .map(|f| format!("{}\0{}\0", f.name(), f.data_type()))
            .collect();
        let seed = xxh3_64(columns.concat().as_bytes());
        let file = Placed(std::sync::Arc::new(file));
        Ok(Opened { stamp: stamp.clone(), file, metadata, stretches, seed })
    }

    /// The columns, in the file's order.
    pub(super) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Hash of the bytes of a stretch, read in small pieces.
    pub(super) fn hash(&self, stretch: &Stretch) -> Result<String> {
        let mut hash = Xxh3::with_seed(self.seed);
        let end = stretch.offset + stretch.length;
        let mut buffer = vec![0; CHUNK.min(stretch.length) as usize];
        let mut at = stretch.offset;
        while at < end {
            let piece = &mut buffer[..CHUNK.min(end - at) as usize];
            self.file.0.read_exact_at(piece, at).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    stale(&self.stamp.path, "is shorter than planned")
                }
                _ => unreadable(&self.stamp.path, e),
            })?;
            hash.update(piece);
            at += piece.len() as u64;
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    /// The rows of a stretch in their order; of some columns, by their index in the file.
    pub(super) fn batches(
        &self,
        stretch: usize,
        columns: &[usize],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let path = self.stamp.path.clone();
        let failed = move |e| damaged(&path, e);
        let file = self.file.clone();
        let roots = columns.iter().copied();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(mask)
                .with_row_groups(vec![stretch])
                .with_batch_size(BATCH)
                .build()
                .map_err(&failed)?;
        Ok(reader.map(move |batch| batch.map_err(|e| failed(ParquetError::from(e)))))
    }
}

/// A file that is Parquet, and cannot be read as that.
fn damaged(path: &str, e: ParquetError) -> Error {
    if let ParquetError::External(cause) = &e
        && let Some(io) = cause.downcast_ref::<std::io::Error>()
        && io.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Error::unavailable(format!("cannot read `{path}`")).because(e);
    }
    Error::new(Kind::Config, format!("`{path}` is damaged")).because(e).hint(
        "get it anew from where it came from, or narrow the pattern to leave it out; nothing of \
         it was loaded",
    )
}
