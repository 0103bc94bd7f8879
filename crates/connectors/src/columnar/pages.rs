//! The checksums that pages of Parquet files may carry, compared as the bytes of a row group go by:
//! those of every column, also of columns that nobody decodes.

use crc32fast::Hasher;
use parquet::file::metadata::RowGroupMetaData;

use super::head::{Head, Stop};
use super::opened::Broken;

/// Bytes that the head of a page is looked for in; twice as many where it is longer.
const FIRST: usize = 64;
/// No head is longer: it may hold values of the column.
const LONGEST: usize = 16 << 20;

/// The pages of a row group.
pub(super) struct Pages<'a> {
    group: &'a RowGroupMetaData,
    at: usize,
    chunks: Vec<Chunk>,
}

/// The pages of one column.
struct Chunk {
    start: u64,
    end: u64,
    /// The page in hand, from 0, and its first byte.
    page: usize,
    page_at: u64,
    state: State,
    /// Whether a page so far had a checksum.
    summed: bool,
}

enum State {
    /// In the head of a page, of which these bytes were seen.
    Head(Vec<u8>),
    /// In its data.
    Data { left: u64, sum: Option<(u32, Hasher)> },
    /// What follows is no page.
    Lost,
    /// Encrypted; the footer lets others read the other columns.
    Sealed,
}

impl<'a> Pages<'a> {
    /// Those of the row group of this number, from 0.
    pub(super) fn new(group: &'a RowGroupMetaData, at: usize) -> Self {
        let chunk = |(start, length)| Chunk {
            start,
            end: start + length,
            page: 0,
            page_at: start,
            state: State::Head(Vec::new()),
            summed: false,
        };
        let chunks = group.columns().iter().map(|c| chunk(c.byte_range())).collect();
        Pages { group, at, chunks }
    }

    /// Takes what follows the bytes before. An error names the page that is not as it was written.
    pub(super) fn take(&mut self, at: u64, piece: &[u8]) -> Result<(), Broken> {
        let behind = at + piece.len() as u64;
        for i in 0..self.chunks.len() {
            let chunk = &mut self.chunks[i];
            let (from, to) = (chunk.start.max(at), chunk.end.min(behind));
            if from < to {
                let part = &piece[(from - at) as usize..(to - at) as usize];
                chunk.take(from, part).map_err(|why| self.broken(i, &why))?;
            }
        }
        Ok(())
    }

    /// Behind the last byte. Files without any checksum are left to whoever decodes them.
    pub(super) fn end(&self) -> Result<(), Broken> {
        if !self.chunks.iter().any(|c| c.summed) {
            return Ok(());
        }
        for (i, chunk) in self.chunks.iter().enumerate() {
            match &chunk.state {
                State::Head(seen) if seen.is_empty() => {}
                State::Sealed => {}
                State::Head(_) | State::Data { .. } => {
                    return Err(self.broken(i, "it is longer than its column"));
                }
                State::Lost => return Err(self.broken(i, "its header cannot be read")),
            }
        }
        Ok(())
    }

    fn broken(&self, column: usize, why: &str) -> Broken {
        let name = self.group.column(column).column_path().string();
        let Chunk { page, page_at, .. } = self.chunks[column];
        let group = self.at;
        format!("column `{name}`, row group {group}, page {page}, at byte {page_at}: {why}").into()
    }
}

impl Chunk {
    /// Takes the bytes from a place on, up to the end of the column at most.
    fn take(&mut self, at: u64, mut bytes: &[u8]) -> Result<(), String> {
        let end = at + bytes.len() as u64;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head(seen) => {
                    let before = seen.len();
                    let more = bytes.len().min(before.max(FIRST));
                    seen.extend_from_slice(&bytes[..more]);
                    match Head::parse(seen) {
                        Ok((head, length)) => {
                            bytes = &bytes[length - before..];
                            self.summed |= head.sum.is_some();
                            let sum = head.sum.map(|sum| (sum, Hasher::new()));
                            self.state = State::Data { left: head.size, sum };
                        }
                        Err(Stop::Short) if seen.len() < LONGEST => bytes = &bytes[more..],
                        Err(_) if self.page == 0 && is_sealed(seen) => self.state = State::Sealed,
                        Err(_) => self.state = State::Lost,
                    }
                }
                State::Data { left, sum } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    if let Some((_, hasher)) = sum {
                        hasher.update(&bytes[..n]);
                    }
                    *left -= n as u64;
                    bytes = &bytes[n..];
                }
                State::Lost | State::Sealed => return Ok(()),
            }
            self.close(end - bytes.len() as u64)?;
        }
        Ok(())
    }

    /// Ends the page in hand where all of it was seen.
    fn close(&mut self, at: u64) -> Result<(), String> {
        let State::Data { left: 0, sum } = &mut self.state else { return Ok(()) };
        if let Some((said, hasher)) = sum.take() {
            let is = hasher.finalize();
            if is != said {
                return Err(format!(
                    "its bytes do not fit its checksum: their CRC-32 is {is:08x}, not {said:08x}"
                ));
            }
        }
        (self.page, self.page_at) = (self.page + 1, at);
        self.state = State::Head(Vec::new());
        Ok(())
    }
}

/// Whether a head was encrypted: then its length comes first, in four bytes of which the higher are
/// zero. In a plain one a field begins there, so no single flipped byte gives that.
fn is_sealed(seen: &[u8]) -> bool {
    seen.get(2..4) == Some(&[0, 0])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    /// A page of this data; perhaps with its checksum.
    fn page(data: &[u8], sum: bool) -> Vec<u8> {
        let number = |value: u32| {
            let mut left = value.cast_signed();
            left = left << 1 ^ left >> 31;
            let (mut left, mut bytes) = (left.cast_unsigned(), Vec::new());
            while left > 0x7f {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
            bytes
        };
        let size = number(data.len() as u32);
        let mut bytes = [&[0x15, 0, 0x15][..], &size, &[0x15], &size].concat();
        if sum {
            bytes.push(0x15);
            bytes.extend(number(crc32fast::hash(data)));
        }
        // The values' statistics, longer than what is looked at first.
        bytes.extend([if sum { 0x18 } else { 0x28 }, 100]);
        bytes.extend([7; 100]);
        bytes.push(0);
        bytes.extend(data);
        bytes
    }

    /// What is said of two columns, `a` and `b`, that lie behind each other from byte 4 on.
    fn said(columns: [&[u8]; 2], step: usize) -> Result<(), String> {
        let text = "message m { required int64 a; required int64 b; }";
        let schema = Arc::new(parse_message_type(text).unwrap());
        let schema = Arc::new(SchemaDescriptor::new(schema));
        let mut at = 4;
        let mut metadata = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            let builder = ColumnChunkMetaData::builder(schema.column(i)).set_data_page_offset(at);
            let builder = builder.set_total_compressed_size(column.len() as i64);
            metadata.push(builder.build().unwrap());
            at += column.len() as i64;
        }
        let group =
            RowGroupMetaData::builder(schema).set_column_metadata(metadata).build().unwrap();
        let mut pages = Pages::new(&group, 3);
        let mut at = 4;
        for piece in columns.concat().chunks(step) {
            pages.take(at, piece).map_err(|e| e.to_string())?;
            at += piece.len() as u64;
        }
        pages.end().map_err(|e| e.to_string())
    }

    #[test]
    fn whole_pages_pass_in_pieces_of_any_size() {
        let a = [page(b"", true), page(&[1; 300], true), page(&[2; 70], false)].concat();
        let b = [page(b"x", false), page(&[3; 5], true), page(b"", true)].concat();
        for step in [1, 2, 7, 64, 65, 1_000, 10_000] {
            assert_eq!(said([&a, &b], step), Ok(()), "{step}");
        }
    }

    #[test]
    fn every_flipped_bit_of_data_is_named() {
        let first = page(&[1; 300], true);
        let b = [&first[..], &page(&[3; 5], true)].concat();
        let a = page(b"a", true);
        let data = |at: usize| (first.len() - 300..first.len()).contains(&at) || at + 5 >= b.len();
        for bit in 0..b.len() * 8 {
            if data(bit / 8) {
                let mut flipped = b.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let (page, start) = if bit / 8 < first.len() { (0, 0) } else { (1, first.len()) };
                let start = 4 + a.len() + start;
                let place = format!("column `b`, row group 3, page {page}, at byte {start}: its ");
                let said = said([&a, &flipped], 100).unwrap_err();
                assert!(said.starts_with(&place) && said.contains("CRC-32"), "{said}");
            }
        }
    }

    #[test]
    fn pages_that_cannot_be_told_apart_are_damage_only_beside_checksums() {
        let (summed, plain) = (page(&[1; 9], true), page(&[1; 9], false));
        let mut lost = plain.clone();
        lost[0] = 0xff;
        let long = &plain[..plain.len() - 1];
        for (b, why) in [(&lost[..], "its header cannot be read"), (long, "longer than its column")]
        {
            assert_eq!(said([&plain, b], 50), Ok(()));
            let said = said([&summed, b], 50).unwrap_err();
            assert!(said.starts_with("column `b`, row group 3, page 0,"), "{said}");
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_encrypted_column_is_passed_over() {
        let sealed = [&[90, 0, 0, 0][..], &[0x5a; 200]].concat();
        assert_eq!(said([&page(b"a", true), &sealed], 10_000), Ok(()));
    }
}
