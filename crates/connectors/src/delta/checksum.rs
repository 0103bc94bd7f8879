//! Checksums of data files, byte by byte: XXH3 with 128 bits, as `xxh128sum` prints them.
//!
//! A digest proves values. A flipped bit in a footer or a statistic may change no value that we
//! read, and yet make another reader skip rows.

use std::io::{self, ErrorKind, Write};

use retrofill_core::error::Result;
use retrofill_core::receipt::Receipt;
use xxhash_rust::xxh3::Xxh3;

use super::Shared;
use super::anchor::{Anchor, AnchorFile};
use super::disk::DiskFile;
use super::durable::Durable;
use super::receipts;

/// Bytes read at a time.
const CHUNK: u64 = 1024 * 1024;

/// Sums up what is written through it.
pub(crate) struct Summing<W> {
    inner: W,
    sum: Box<Xxh3>,
}

impl<W: Write> Summing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Summing { inner, sum: Box::default() }
    }

    /// What was written into, and its checksum.
    pub(crate) fn finish(self) -> (W, String) {
        (self.inner, hex(&self.sum))
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.sum.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(sum: &Xxh3) -> String {
    format!("{:032x}", sum.digest128())
}

fn of_file(file: &DiskFile) -> io::Result<String> {
    let mut sum = Box::<Xxh3>::default();
    let mut at = 0;
    while at < file.length() {
        let length = CHUNK.min(file.length() - at);
        sum.update(&file.range(at, length)?);
        at += length;
    }
    Ok(hex(&sum))
}

/// Whether a file has just the bytes that were written; one that is gone has not. Blocks.
pub(crate) fn is_intact(durable: &Durable, path: &str, sum: &str) -> Result<bool> {
    let read = durable.disk().open(path).and_then(|file| of_file(&file));
    match read {
        Ok(found) => Ok(found == sum),
        // Gone, or cut while it was read.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(false),
        Err(e) => Err(durable.error("read", path, e)),
    }
}

/// What is wrong with the first file that the receipt rests on, that is still part of the table,
/// and whose bytes are not those that were written. Blocks.
pub(super) fn damage(shared: &Shared, receipt: &Receipt) -> Result<Option<String>> {
    let Some(anchor) = Anchor::of(receipt) else { return Ok(None) };
    let durable = shared.log.durable();
    for file in &anchor.files {
        let Some(sum) = &file.xxh128 else { continue };
        if !is_active(shared, file)? {
            continue;
        }
        let found = match receipts::resized(durable, file) {
            Some(why) => Some(why),
            None if is_intact(durable, &file.path, sum)? => None,
            None => Some(altered(durable, &file.path)),
        };
        // Taken out of the table meanwhile, it is nobody's damage.
        if found.is_some() && is_active(shared, file)? {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What is said of a file with other bytes.
pub(super) fn altered(durable: &Durable, path: &str) -> String {
    format!("the bytes of `{}` are not those that were written", durable.disk().describe(path))
}

fn is_active(shared: &Shared, file: &AnchorFile) -> Result<bool> {
    let found = shared.log.newest(|state| state.active(&file.path).is_some())?;
    Ok(found.unwrap_or(false))
}
