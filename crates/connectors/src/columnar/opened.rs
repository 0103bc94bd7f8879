//! One file, open: its columns, and the stretches its rows are read by. What is special to Parquet,
//! Arrow or Avro stands in the modules of these names.

use std::error::Error as Cause;
use std::fmt::Debug;
use std::io;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::FileStamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::pages::Pages;
use super::parts::PathColumns;
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

/// What a file tells of the values of a column, stretch by stretch.
pub(super) struct Bounds {
    pub(super) least: ArrayRef,
    pub(super) greatest: ArrayRef,
    /// How many values are NULL.
    pub(super) nulls: UInt64Array,
}

/// How the rows of a file are read.
pub(super) trait Body: Debug + Send + Sync {
    /// The columns, in the file's order.
    fn schema(&self) -> &SchemaRef;

    /// What the file tells of a column, if it tells anything. It may be wrong.
    fn bounds(&self, column: &str) -> Option<Bounds> {
        let _ = column;
        None
    }

    /// The rows of a stretch; of some columns, by their index in the file.
    fn batches(
        &self,
        file: &Placed,
        stretch: (usize, &Stretch),
        columns: &[usize],
    ) -> Result<Batches, Broken>;

    /// What its bytes are compared with, where the file itself says what they must be.
    fn pages(&self, _stretch: usize) -> Option<Pages<'_>> {
        None
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stamp: FileStamp,
    file: Placed,
    body: Box<dyn Body>,
    /// What stands in its path.
    parts: PathColumns,
    pub(super) stretches: Vec<Stretch>,
    /// Other columns would give the same bytes another meaning.
    seed: u64,
}

impl Opened {
    /// Reads what the format says of the file. An error of kind `Config` where it is none of ours.
    pub(super) fn open(shared: &Shared, stamp: &FileStamp) -> Result<Opened> {
        let (path, format) = (&stamp.path, shared.format);
        let file = Placed::new(shared.origin.open(stamp)?);
        let magic = format.magic();
        let begin = file.bytes(0, magic.len());
        if let Some(error) = file.failure() {
            return Err(error);
        }
        if begin.ok().as_deref() != Some(magic) {
            let what = format!("`{path}` is not {} file", format.article());
            let hint = "narrow the pattern to leave it out";
            return Err(Error::config(what).hint(hint));
        }
        let found = match format {
            Format::Parquet => parquet::find(&file),
            Format::Arrow => ipc::find(&file),
            Format::Avro => avro::find(&file),
        };
        let Found { body, stretches, key } = found.map_err(|e| damaged(path, e, &file))?;
        let columns: Vec<_> = body
            .schema()
            .fields()
            .iter()
            .map(|f| format!("{}\0{}\0", f.name(), f.data_type()))
            .collect();
        let seed = xxh3_64(&[columns.concat().as_bytes(), &key].concat());
        let parts = PathColumns::of(shared.settings.hive, path, body.schema())?;
        let seed = parts.seed(seed);
        Ok(Opened { stamp: stamp.clone(), file, body, parts, stretches, seed })
    }

    /// The columns in the file's order; behind them those in its path.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.parts.schema
    }

    /// What the file tells of a column, if it tells anything. It may be wrong.
    pub(super) fn bounds(&self, column: &str) -> Option<Bounds> {
        self.body.bounds(column)
    }

    /// How many of them the file itself holds.
    pub(super) fn held(&self) -> usize {
        self.parts.held
    }

    /// A stretch, to be hashed and read.
    pub(super) fn stretch(&self, at: usize) -> Result<Held<'_>> {
        let Stretch { offset, length, .. } = self.stretches[at];
        let file = self.file.holding(offset, length);
        let file = file.map_err(|e| self.unread(e))?;
        Ok(Held { opened: self, at, file })
    }

    fn unread(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => stale(&self.stamp.path, "is shorter than planned"),
            _ => unreadable(&self.stamp.path, e),
        }
    }
}

/// A stretch in hand.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) opened: &'a Opened,
    pub(super) at: usize,
    file: Placed,
}

impl Held<'_> {
    /// Its place.
    pub(super) fn stretch(&self) -> &Stretch {
        &self.opened.stretches[self.at]
    }

    /// Hash of its bytes, read in small pieces.
    pub(super) fn hash(&self) -> Result<String> {
        self.hash_and(|_, _| Ok(()))
    }

    /// The same, and every checksum that the file has of them is compared. `Config` where one does
    /// not fit.
    pub(super) fn checked_hash(&self) -> Result<String> {
        let Some(mut pages) = self.opened.body.pages(self.at) else { return self.hash() };
        let failed = |e| damaged(&self.opened.stamp.path, e, &self.file);
        let hash = self.hash_and(|at, piece| pages.take(at, piece).map_err(failed))?;
        pages.end().map_err(failed)?;
        Ok(hash)
    }

    fn hash_and(&self, mut see: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<String> {
        let stretch = self.stretch();
        let mut hash = Xxh3::with_seed(self.opened.seed);
        let end = stretch.offset + stretch.length;
        let mut buffer = vec![0; CHUNK.min(stretch.length) as usize];
        let mut at = stretch.offset;
        while at < end {
            let piece = &mut buffer[..CHUNK.min(end - at) as usize];
            self.file.fill(piece, at).map_err(|e| self.opened.unread(e))?;
            hash.update(piece);
            see(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(format!("{:032x}", hash.digest128()))
    }

    /// Its rows in their order; of some columns, by their index in the file.
    pub(super) fn batches(
        &self,
        columns: &[usize],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let (path, file) = (self.opened.stamp.path.clone(), self.file.clone());
        let failed = move |e| damaged(&path, e, &file);
        let (whole, body) = (self.stretch(), &self.opened.body);
        let (held, parts) = self.opened.parts.split(columns);
        let batches = body.batches(&self.file, (self.at, whole), &held).map_err(&failed)?;
        let mut left = Some(whole.rows);
        let mut batches = batches.map(move |batch| parts.add(batch.map_err(&failed)?));
        let (path, file) = (self.opened.stamp.path.clone(), self.file.clone());
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
                Some(Err(damaged(&path, "rows are missing or too many".into(), &file)))
            }
        }))
    }
}

/// A file of the format that cannot be read as that.
fn damaged(path: &str, e: Broken, file: &Placed) -> Error {
    if let Some(error) = file.failure() {
        return error;
    }
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
