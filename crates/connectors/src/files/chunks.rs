//! Reads a stream in chunks of whole records, in bounded memory.

use std::io::{self, Read};

use memchr::memchr;

use super::csv::{FARTHEST, Format, LONGEST, Problem};
use super::open::read_up_to;

/// Bytes of a refused line that are kept.
pub(super) const KEPT_TEXT: usize = 64 << 10;

/// A stretch of a stream.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Whole records.
    Records { offset: u64, bytes: Vec<u8> },
    /// A line too long to be held; its first bytes and what is wrong.
    Skipped { offset: u64, text: Vec<u8>, problem: Problem },
}

/// Cuts a stream into chunks. Where they are cut depends on the content alone.
#[derive(Debug)]
pub(super) struct Chunks<R> {
    input: R,
    format: Format,
    /// Bytes of a chunk; more only where one record is longer.
    size: usize,
    /// Read, and not yet given.
    rest: Vec<u8>,
    /// Where `rest` begins.
    offset: u64,
    ended: bool,
}

impl<R: Read> Chunks<R> {
    /// From the start of a stream.
    pub(super) fn new(input: R, format: impl Into<Format>, size: usize) -> Self {
        let format = format.into();
        Chunks { input, format, size, rest: Vec::new(), offset: 0, ended: false }
    }

    /// The next `count` bytes or more, not taken; fewer at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<(&[u8], bool)> {
        self.fill(count)?;
        Ok((&self.rest, self.ended))
    }

    /// Leaves out the next `count` bytes, all of them peeked at before.
    pub(super) fn skip(&mut self, count: usize) {
        self.rest.drain(..count);
        self.offset += count as u64;
    }

    /// The next chunk; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Chunk>> {
        let mut wanted = self.size;
        loop {
            self.fill(wanted)?;
            let whole = self.format.whole(&self.rest, self.ended);
            if whole > 0 {
                let rest = self.rest[whole..].to_vec();
                let mut bytes = std::mem::replace(&mut self.rest, rest);
                bytes.truncate(whole);
                let offset = self.offset;
                self.offset += whole as u64;
                return Ok(Some(Chunk::Records { offset, bytes }));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            if self.rest.len() > LONGEST && !self.is_patient() {
                return self.skip_line().map(Some);
            }
            wanted += self.size;
        }
    }

    /// Whether the end of a record that is too long may still be found, so that none of its lines
    /// is taken for a record.
    fn is_patient(&self) -> bool {
        self.rest.len() <= FARTHEST && self.format.is_open(&self.rest)
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if !self.ended && self.rest.len() < wanted {
            let missing = wanted - self.rest.len();
            self.rest.reserve(missing);
            self.ended = read_up_to(&mut self.input, &mut self.rest, missing)? < missing;
        }
        Ok(())
    }

    fn skip_line(&mut self) -> io::Result<Chunk> {
        let offset = self.offset;
        let text = self.rest[..KEPT_TEXT].to_vec();
        loop {
            if let Some(at) = memchr(b'\n', &self.rest) {
                self.skip(at + 1);
                break;
            }
            self.skip(self.rest.len());
            self.fill(self.size)?;
            if self.rest.is_empty() {
                break;
            }
        }
        Ok(Chunk::Skipped { offset, text, problem: Problem::TooLong })
    }
}

#[cfg(test)]
mod tests {
    use super::super::csv::Dialect;
    use super::*;

    const CHUNK: usize = 4 << 20;
    const COMMA: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn cut(text: &[u8]) -> Vec<(u64, usize)> {
        let mut chunks = Chunks::new(text, COMMA, CHUNK);
        let mut out = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            out.push(match chunk {
                Chunk::Records { offset, bytes } => (offset, bytes.len()),
                Chunk::Skipped { offset, .. } => (offset, 0),
            });
        }
        out
    }

    #[test]
    fn chunks_end_at_records() {
        let line = "0123456789abcde\n";
        let text = line.repeat(2 * CHUNK / 16 + 1);
        let want = [(0, CHUNK), (CHUNK as u64, CHUNK), (2 * CHUNK as u64, 16)];
        assert_eq!(cut(text.as_bytes()), want);
        let long = format!("a\n\"{}\"\nx", "\n".repeat(CHUNK));
        assert_eq!(cut(long.as_bytes()), [(0, 2), (2, CHUNK + 4)]);
    }

    #[test]
    fn a_line_without_end_is_skipped_in_bounded_memory() {
        let long = format!("a\n{}\nb\n", "x".repeat(LONGEST + CHUNK + 1));
        let after = (long.len() - 2) as u64;
        assert_eq!(cut(long.as_bytes()), [(0, 2), (2, 0), (after, 2)]);
    }
}
