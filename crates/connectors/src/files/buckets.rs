//! The files that a sorted copy is made in: records by bucket first, then by slice.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use retrofill_core::error::Result;

use super::read::ordinal;
use super::staging::{HEAD, Piece, disk, number};

/// Bytes before the text of a record that is not sorted yet: those of a sorted one and the slice.
pub(super) const RAW_HEAD: usize = HEAD + 4;
/// Bytes of all buffers of pass 1.
const BUFFERS: usize = 24 << 20;
/// A record of a block: its slice, its place in the block, its line.
pub(super) type Placed = (u32, u32, u32, u64);

/// A block, its records, and where they stand in the source.
pub(super) struct Parsed {
    pub(super) bytes: Vec<u8>,
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) records: Vec<Placed>,
}

/// Where the unsorted records of a bucket stand.
pub(super) fn raw_path(dir: &Path, bucket: usize) -> PathBuf {
    dir.join(format!("bucket-{bucket:04}.raw"))
}

/// Opens what pass 1 wrote.
pub(super) fn open_raw(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| disk(path, e))
}

/// Reads the head of the next record; false at the end.
pub(super) fn read_head(input: &mut impl Read, head: &mut [u8]) -> std::io::Result<bool> {
    let n = input.by_ref().take(1).read(head)?;
    if n > 0 {
        input.read_exact(&mut head[1..])?;
    }
    Ok(n > 0)
}

/// Pieces of whole records, of about `size` bytes.
pub(super) fn cut_pieces(bytes: &[u8], size: usize) -> Vec<&[u8]> {
    let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        at += HEAD + number::<4>(bytes, at + HEAD - 4).unwrap_or(0) as usize;
        if at - from >= size || at >= bytes.len() {
            pieces.push(&bytes[from..at.min(bytes.len())]);
            from = at;
        }
    }
    pieces
}

/// A sorted bucket in the making.
pub(super) struct Output {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    /// For each slice of the bucket.
    pub(super) pieces: Vec<Vec<Piece>>,
}

impl Output {
    /// Appends a piece of a slice of the bucket.
    pub(super) fn piece(&mut self, slice: usize, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| disk(&self.path, e))?;
        self.pieces[slice].push(Piece::new(self.offset, bytes));
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// The buckets of pass 1.
pub(super) struct RawBuckets {
    files: Vec<(PathBuf, File, Vec<u8>)>,
    /// Bytes that a buffer may hold.
    most: usize,
}

impl RawBuckets {
    /// Empty.
    pub(super) fn create(dir: &Path, count: usize) -> Result<Self> {
        let create = |bucket| {
            let path = raw_path(dir, bucket);
            let file = File::create(&path).map_err(|e| disk(&path, e))?;
            Ok((path, file, Vec::new()))
        };
        let files = (0..count).map(create).collect::<Result<_>>()?;
        Ok(RawBuckets { files, most: BUFFERS / count.max(1) })
    }

    /// Appends the records of a block; `buckets` tells the bucket of each slice.
    pub(super) fn append(&mut self, buckets: &[usize], parsed: &Parsed) -> Result<()> {
        for (slice, start, end, line) in &parsed.records {
            let (path, file, buffer) = &mut self.files[buckets[*slice as usize]];
            let at = ordinal(parsed.file, parsed.offset + u64::from(*start));
            buffer.extend_from_slice(&at.to_le_bytes());
            buffer.extend_from_slice(&line.to_le_bytes());
            buffer.extend_from_slice(&(end - start).to_le_bytes());
            buffer.extend_from_slice(&slice.to_le_bytes());
            buffer.extend_from_slice(&parsed.bytes[*start as usize..*end as usize]);
            if buffer.len() >= self.most {
                file.write_all(buffer).map_err(|e| disk(path, e))?;
                buffer.clear();
            }
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) fn finish(self) -> Result<()> {
        for (path, mut file, buffer) in self.files {
            let written = file.write_all(&buffer).and_then(|()| file.sync_all());
            written.map_err(|e| disk(&path, e))?;
        }
        Ok(())
    }
}
