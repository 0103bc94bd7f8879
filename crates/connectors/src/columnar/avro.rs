//! Avro object container files: some neighbouring blocks are a stretch.

use std::io::{BufReader, Cursor, Read as _};

use arrow::datatypes::SchemaRef;
use arrow_avro::reader::{ReaderBuilder, read_header_info};

use super::opened::{BATCH, Batches, Body, Broken, Found, Stretch};
use super::placed::Placed;

/// Bytes of blocks that are taken together.
const TOGETHER: u64 = 4 << 20;
/// Bytes of a number at most.
const NUMBER: usize = 10;
/// Bytes of the mark behind every block.
const SYNC: usize = 16;

#[derive(Debug)]
struct Avro {
    schema: SchemaRef,
    /// What every file begins with: its schema, its codec, its mark.
    header: Vec<u8>,
}

/// Reads the header, and looks for the begin of every block.
pub(super) fn find(file: &Placed) -> Result<Found, Broken> {
    let info = read_header_info(BufReader::new(file.from(0)))?;
    let length = info.header_len();
    let header = file.bytes(0, usize::try_from(length)?)?.to_vec();
    let schema = ReaderBuilder::new().build(Cursor::new(header.clone()))?.schema();
    let end = file.length()?;
    let (mut stretches, mut first, mut at) = (Vec::<Stretch>::new(), 0, length);
    while at < end {
        let (rows, next) = block(file, at, &info.sync())?;
        match stretches.last_mut().filter(|s| s.length < TOGETHER) {
            Some(last) => {
                last.length = next - last.offset;
                last.rows += rows;
            }
            None => stretches.push(Stretch { offset: at, length: next - at, first, rows }),
        }
        (first, at) = (first + rows, next);
    }
    let key = header.clone();
    Ok(Found { body: Box::new(Avro { schema, header }), stretches, key })
}

/// Rows of the block that begins here, and where it ends.
fn block(file: &Placed, at: u64, sync: &[u8; SYNC]) -> Result<(u64, u64), Broken> {
    let mut head = Vec::with_capacity(2 * NUMBER);
    file.from(at).take(2 * NUMBER as u64).read_to_end(&mut head)?;
    let cut = || format!("the file ends inside a block, which begins at byte {at}");
    let (rows, used) = number(&head).ok_or_else(cut)?;
    let (length, more) = number(&head[used..]).ok_or_else(cut)?;
    let behind = (at + (used + more) as u64).checked_add(length).ok_or_else(cut)?;
    let mut mark = [0; SYNC];
    file.fill(&mut mark, behind).map_err(|_| cut())?;
    if mark != *sync {
        return Err(format!("the block that begins at byte {at} is not marked at its end").into());
    }
    Ok((rows, behind + SYNC as u64))
}

/// A whole number that is not negative, and how many bytes it takes.
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(NUMBER).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            // The lowest bit is the sign.
            return (value & 1 == 0).then_some((value >> 1, i + 1));
        }
    }
    None
}

impl Body for Avro {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn batches(
        &self,
        file: &Placed,
        (_, stretch): (usize, &Stretch),
        columns: &[usize],
    ) -> Result<Batches, Broken> {
        let blocks = file.from(stretch.offset).take(stretch.length);
        let file = BufReader::new(Cursor::new(self.header.clone()).chain(blocks));
        let reader = ReaderBuilder::new()
            .with_batch_size(BATCH)
            .with_projection(columns.to_vec())
            .build(file)?;
        Ok(Box::new(reader.map(|batch| Ok(batch?))))
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (bytes, want) in [
            (&[0][..], Some((0, 1))),
            (&[2, 9], Some((1, 1))),
            (&[0x80, 0x01], Some((64, 2))),
            (&[1], None),
            (&[0x80], None),
            (&[], None),
        ] {
            assert_eq!(number(bytes), want, "{bytes:?}");
        }
    }
}
