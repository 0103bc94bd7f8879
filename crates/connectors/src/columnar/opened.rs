//! One file, open: its columns, and the stretches its rows are read by. What is special to Parquet,
//! Arrow or Avro stands in the modules of these names.

use std::error::Error as Cause;
use std::fmt::Debug;
use std::fs::File;
use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::FileStamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::parts::Parts;
use super::placed::Placed;
use super::{Format, Shared, avro, ipc, parquet};
use crate::files::{stale, unreadable};

/// Rows per batch.
pub(super) const BATCH: usize = 8_192;
/// Bytes hashed at a time.
const CHUNK: u64 = 1 << 20;

/// What is hashed, and read, as a whole: a row group, a record batch, some blocks.
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

/// Why a file that looks like one of its format cannot be read as that.
pub(super) type Broken = Box<dyn Cause + Send + Sync>;

/// The rows of a stretch, in their order.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Broken>> + Send>;

/// What a format says of a file.
pub(super) struct Found {
    pub(super) body: Box<dyn Body>,
    pub(super) stretches: Vec<Stretch>,
    /// Bytes outside of all stretches that decide what those inside mean, beside the columns.
    pub(super) key: Vec<u8>,
}

/// How the rows of a file are read.
pub(super) trait Body: Debug + Send + Sync {
    /// The columns, in the file's order.
    fn schema(&self) -> &SchemaRef;

    /// The rows of a stretch; of some columns, by their index in the file.
    fn batches(
        &self,
        file: &Placed,
        stretch: (usize, &Stretch),
        columns: &[usize],
    ) -> Result<Batches, Broken>;
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stamp: FileStamp,
    file: Placed,
    body: Box<dyn Body>,
    /// What stands in its path.
    parts: Parts,
    pub(super) stretches: Vec<Stretch>,
    /// Other columns would give the same bytes another meaning.
    seed: u64,
}

impl Opened {
    /// Reads what the format says of the file. An error of kind `Config` where it is none of ours.
    pub(super) fn open(shared: &Shared, stamp: &FileStamp) -> Result<Opened> {
        let (path, format) = (&stamp.path, shared.format);
        let file = File::open(shared.base.join(path)).map_err(|e| unreadable(path, e))?;
        let file = Placed::new(file);
        let magic = format.magic();
        if file.bytes(0, magic.len()).ok().as_deref() != Some(magic) {
            let what = format!("`{path}` is not {} file", format.article());
            let hint = "narrow the pattern to leave it out";
            return Err(Error::config(what).hint(hint));
        }
        let found = match format {
            Format::Parquet => parquet::find(&file),
            Format::Arrow => ipc::find(&file),
            Format::Avro => avro::find(&file),
        };
        let Found { body, stretches, key } = found.map_err(|e| damaged(path, e))?;
        let columns: Vec<_> = body
            .schema()
            .fields()
            .iter()
            .map(|f| format!("{}\0{}\0", f.name(), f.data_type()))
            .collect();
        let seed = xxh3_64(&[columns.concat().as_bytes(), &key].concat());
        let parts = Parts::of(shared.settings.hive, path, body.schema())?;
        let seed = parts.seed(seed);
        Ok(Opened { stamp: stamp.clone(), file, body, parts, stretches, seed })
    }

    /// The columns in the file's order; behind them those in its path.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.parts.schema
    }

    /// How many of them the file itself holds.
    pub(super) fn held(&self) -> usize {
        self.parts.held
    }

    /// Hash of the bytes of a stretch, read in small pieces.
    pub(super) fn hash(&self, stretch: &Stretch) -> Result<String> {
        let mut hash = Xxh3::with_seed(self.seed);
        let end = stretch.offset + stretch.length;
        let mut buffer = vec![0; CHUNK.min(stretch.length) as usize];
        let mut at = stretch.offset;
        while at < end {
            let piece = &mut buffer[..CHUNK.min(end - at) as usize];
            self.file.fill(piece, at).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => stale(&self.stamp.path, "is shorter than planned"),
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
        let whole = &self.stretches[stretch];
        let (held, parts) = self.parts.split(columns);
        let batches = self.body.batches(&self.file, (stretch, whole), &held).map_err(&failed)?;
        let mut left = Some(whole.rows);
        let mut batches = batches.map(move |batch| parts.add(batch.map_err(&failed)?));
        let path = self.stamp.path.clone();
        Ok(std::iter::from_fn(move || match batches.next() {
            Some(batch) => {
                let rows = batch.as_ref().map_or(0, |b| b.num_rows() as u64);
                left = left.and_then(|left| left.checked_sub(rows));
                Some(batch)
            }
            // More rows, or fewer, than the file says it has.
            None if left.take().is_some_and(|left| left == 0) => None,
            None => {
                left = Some(0);
                Some(Err(damaged(&path, "rows are missing or too many".into())))
            }
        }))
    }
}

/// A file of the format that cannot be read as that.
fn damaged(path: &str, e: Broken) -> Error {
    let mut cause: Option<&(dyn Cause + 'static)> = Some(e.as_ref());
    while let Some(inner) = cause {
        let damage = [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData];
        if inner.downcast_ref::<io::Error>().is_some_and(|io| !damage.contains(&io.kind())) {
            return Error::unavailable(format!("cannot read `{path}`")).because(e);
        }
        cause = inner.source();
    }
    Error::new(Kind::Config, format!("`{path}` is damaged")).because(e).hint(
        "get it anew from where it came from, or narrow the pattern to leave it out; nothing of \
         it was loaded",
    )
}
