//! The sorted copy of a source in the state dir: its layout, and reading from it.
//!
//! `staging/<key>/` holds a manifest, and per bucket (a run of neighbouring slices) the records
//! of each slice in the order of the source, in pieces with a hash each. A record is its ordinal,
//! its line number, its length (all little-endian) and the bytes as they stand in the source.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use retrofill_core::connector::ReadRequest;
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::Survey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Shared;
use super::header::Order;
use super::read::file_of;
use super::sorted_copy::{Emit, InDirectory};
use super::taker::Taker;

/// Bytes before the text of a staged record.
pub(super) const HEAD: usize = 20;
const MANIFEST: &str = "manifest.json";

/// A stretch of a bucket that is read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) hash: String,
}

impl Piece {
    pub(super) fn new(offset: u64, bytes: &[u8]) -> Self {
        let hash = format!("{:032x}", xxh3_128(bytes));
        Piece { offset, length: bytes.len() as u64, hash }
    }
}

/// What all sorted buckets hold. The last file to be written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
pub(super) enum Manifest {
    /// The first version.
    #[serde(rename = "1")]
    V1 {
        /// Of the survey the copy was made from.
        survey: String,
        /// In order, without overlap.
        slices: Vec<Interval>,
        /// For each slice its bucket.
        buckets: Vec<usize>,
        /// For each slice its pieces.
        pieces: Vec<Vec<Piece>>,
        /// For each file.
        orders: Vec<Order>,
    },
}

/// A finished copy.
#[derive(Debug)]
pub(super) struct Staging {
    dir: PathBuf,
    manifest: Manifest,
}

/// Identifies a survey's content.
pub(crate) fn fingerprint(survey: &Survey) -> String {
    let mut hash = Xxh3::new();
    for file in &survey.files {
        hash.update(file.path.as_bytes());
        hash.update(&[0]);
    }
    for block in &survey.blocks {
        hash.update(&block.file.to_le_bytes());
        hash.update(&block.offset.to_le_bytes());
        hash.update(&block.line.to_le_bytes());
        hash.update(block.hash.as_bytes());
    }
    format!("{:032x}", hash.digest128())
}

/// Where the bytes of a bucket stand.
pub(super) fn bucket_path(dir: &Path, bucket: usize) -> PathBuf {
    dir.join(format!("bucket-{bucket:04}.sorted"))
}

/// A failure of the state dir's disk.
pub(crate) fn disk(path: &Path, e: io::Error) -> Error {
    let what = format!("cannot use `{}` for the sorted copy of the source", path.display());
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::config(what).because(e)
        }
        _ => Error::unavailable(what).because(e).hint("is the disk of the state dir full?"),
    }
}

/// Writes a small file so that it is whole or not there, whatever happens.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|e| Error::bug("cannot write a manifest as JSON").because(e))?;
    let part = path.with_extension("part");
    let write = || {
        let mut file = File::create(&part)?;
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()?;
        settle(&part, path)
    };
    write().map_err(|e| disk(path, e))
}

/// Gives a synced file its name, durably.
pub(super) fn settle(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    let dir = to.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// What is in a file of ours; none where it is missing or cannot be understood.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Whether the slices hold all rows of the interval, where rows lie between these times alone.
pub(crate) fn covers(
    slices: &[Interval],
    interval: &Interval,
    (min, max): (Timestamp, Timestamp),
) -> bool {
    let mut from = interval.start().max(min);
    let first = slices.partition_point(|s| s.end() <= from);
    for slice in &slices[first..] {
        if from >= interval.end() || from > max || slice.start() > from {
            break;
        }
        from = slice.end();
    }
    from >= interval.end() || from > max
}

impl InDirectory for Staging {
    fn directory(&self) -> &Path {
        &self.dir
    }
}

impl Staging {
    /// A finished copy in this directory, if there is one.
    pub(super) fn open(dir: &Path) -> Option<Self> {
        let manifest = read_json(&dir.join(MANIFEST))?;
        Some(Staging { dir: dir.to_owned(), manifest })
    }

    /// Finishes a copy.
    pub(super) fn create(dir: &Path, manifest: Manifest) -> Result<Self> {
        write_json(&dir.join(MANIFEST), &manifest)?;
        Ok(Staging { dir: dir.to_owned(), manifest })
    }

    /// Whether every row of the interval that the survey saw is here.
    pub(super) fn serves(&self, survey: &Survey, interval: &Interval) -> bool {
        let Manifest::V1 { survey: of, slices, .. } = &self.manifest;
        let range = survey.time_range().filter(|_| *of == fingerprint(survey));
        range.is_some_and(|range| covers(slices, interval, range))
    }

    /// Reads the rows of an interval that this copy serves.
    pub(super) fn read(
        &self,
        shared: &Shared,
        request: &ReadRequest,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let Manifest::V1 { slices, buckets, pieces, orders, .. } = &self.manifest;
        let orders = &*shared.orders(&request.survey, orders)?;
        let Some(mut taker) = Taker::new(shared, request)? else { return Ok(()) };
        let mut open: Option<(usize, File)> = None;
        let first = slices.partition_point(|s| s.end() <= request.interval.start());
        for i in first..slices.len() {
            if slices[i].start() >= request.interval.end() {
                break;
            }
            for piece in &pieces[i] {
                let path = bucket_path(&self.dir, buckets[i]);
                let file = match open.take() {
                    Some((bucket, file)) if bucket == buckets[i] => file,
                    _ => File::open(&path).map_err(|e| damaged(&path).because(e))?,
                };
                let bytes = piece_bytes(&file, piece, &path)?;
                open = Some((buckets[i], file));
                if !records(shared, &mut taker, &bytes, orders, emit)? {
                    return Ok(());
                }
            }
        }
        taker.finish(emit).map(|_| ())
    }
}

fn damaged(path: &Path) -> Error {
    Error::unavailable(format!("the sorted copy of the source is damaged: `{}`", path.display()))
        .hint("the next try reads the source itself")
}

fn piece_bytes(file: &File, piece: &Piece, path: &Path) -> Result<Vec<u8>> {
    let length = file.metadata().map_err(|e| disk(path, e))?.len();
    if length < piece.offset + piece.length {
        return Err(damaged(path));
    }
    let mut bytes = vec![0; piece.length as usize];
    file.read_exact_at(&mut bytes, piece.offset).map_err(|e| disk(path, e))?;
    if Piece::new(piece.offset, &bytes) != *piece {
        return Err(damaged(path));
    }
    Ok(bytes)
}

/// A number of a staged record's head.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field: [u8; N] = bytes.get(at..at + N)?.try_into().ok()?;
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&field);
    Some(u64::from_le_bytes(wide))
}

fn records(
    shared: &Shared,
    taker: &mut Taker<'_>,
    bytes: &[u8],
    orders: &[Order],
    emit: &mut Emit<'_>,
) -> Result<bool> {
    let broken = || Error::bug("the sorted copy of the source holds what is no record");
    let mut fields = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let ordinal = number::<8>(bytes, at).ok_or_else(broken)?;
        let line = number::<8>(bytes, at + 8).ok_or_else(broken)?;
        let length = number::<4>(bytes, at + 16).ok_or_else(broken)? as usize;
        let (start, end) = (at + HEAD, at + HEAD + length);
        let content = bytes.get(..end).ok_or_else(broken)?;
        let order = orders.get(file_of(ordinal)).ok_or_else(broken)?;
        if !shared.fields(content, start, order, &mut fields) {
            return Err(broken());
        }
        taker.record(bytes, (start, end), line, ordinal, &fields, order);
        if taker.is_full() && !taker.flush(bytes, emit)? {
            return Ok(false);
        }
        at = end;
    }
    taker.flush(bytes, emit)
}
