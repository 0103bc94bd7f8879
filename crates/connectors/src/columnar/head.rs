//! The head of a page of Parquet: as much of Thrift's compact protocol as it takes to find the
//! length and the checksum of the page, which the library keeps to itself.

/// Structs within structs, at most.
const DEEPEST: u32 = 8;

/// What a head says of its page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the page behind it.
    pub(super) size: u64,
    /// Their CRC-32.
    pub(super) sum: Option<u32>,
}

/// Why a head was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It goes on behind the bytes.
    Short,
    /// It is none.
    Bad,
}

impl Head {
    /// The head that the bytes begin with, and its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Head, usize), Stop> {
        let mut left = Left(bytes);
        let (mut kind, mut unpacked, mut size, mut sum) = (None, None, None, None);
        let mut id = 0;
        while let Some(ty) = left.field(&mut id)? {
            match (id, ty) {
                (1, I32) => kind = Some(left.number()?),
                (2, I32) => unpacked = Some(left.number()?),
                (3, I32) => size = Some(left.number()?),
                (4, I32) => sum = Some(left.number()?),
                _ => left.skip(ty, 0)?,
            }
        }
        let (Some(_), Some(_), Some(size)) = (kind, unpacked, size) else { return Err(Stop::Bad) };
        let size = u64::try_from(size).map_err(|_| Stop::Bad)?;
        Ok((Head { size, sum: sum.map(i32::cast_unsigned) }, bytes.len() - left.0.len()))
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Bytes that are not read yet.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.0.split_first().ok_or(Stop::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn pass(&mut self, length: u64) -> Result<(), Stop> {
        let length = usize::try_from(length).map_err(|_| Stop::Bad)?;
        self.0 = self.0.get(length..).ok_or(Stop::Short)?;
        Ok(())
    }

    /// Seven bits in each byte, the lowest first.
    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Stop::Bad)
    }

    fn number(&mut self) -> Result<i32, Stop> {
        let value = u32::try_from(self.varint()?).map_err(|_| Stop::Bad)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The type of the next field, none behind the last. `id` is that of the one before.
    fn field(&mut self, id: &mut i32) -> Result<Option<u8>, Stop> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *id = match byte >> 4 {
            0 => self.number()?,
            more => id.checked_add(i32::from(more)).ok_or(Stop::Bad)?,
        };
        Ok(Some(byte & 0x0f))
    }

    fn skip(&mut self, ty: u8, depth: u32) -> Result<(), Stop> {
        match ty {
            // In a field its type says it all.
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET | MAP | STRUCT if depth == DEEPEST => Err(Stop::Bad),
            LIST | SET => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                (0..count).try_for_each(|_| self.item(byte & 0x0f, depth + 1))
            }
            MAP => {
                let count = self.varint()?;
                let types = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.item(types >> 4, depth + 1)?;
                    self.item(types & 0x0f, depth + 1)
                })
            }
            STRUCT => {
                let mut id = 0;
                while let Some(ty) = self.field(&mut id)? {
                    self.skip(ty, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Stop::Bad),
        }
    }

    /// A value in a list: there, true and false take a byte.
    fn item(&mut self, ty: u8, depth: u32) -> Result<(), Stop> {
        self.skip(if matches!(ty, TRUE | FALSE) { BYTE } else { ty }, depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of 300 bytes with a checksum, statistics and a field that nobody knows yet.
    fn head() -> Vec<u8> {
        let mut bytes = vec![0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0xd8, 0x04];
        // -2 as a number of 32 bits.
        bytes.extend([0x15, 0x03]);
        // Values, encodings, then statistics: a text of 3 bytes and a truth.
        bytes.extend([0x1c, 0x15, 0x02, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06]);
        bytes.extend([0x1c, 0x18, 0x03, b'a', b'b', b'c', 0x61, 0x00, 0x00]);
        // Field 99: a list of two truths; field 100: a map of a number and a double.
        bytes.extend([0x09, 0xc6, 0x01, 0x21, 1, 2]);
        bytes.extend([0x1b, 0x01, 0x57, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.push(0);
        bytes
    }

    #[test]
    fn length_and_checksum_are_found() {
        let mut bytes = head();
        let length = bytes.len();
        let expected = Head { size: 300, sum: Some(0xffff_fffe) };
        bytes.extend([0x15; 20]);
        assert_eq!(Head::parse(&bytes), Ok((expected, length)));
    }

    #[test]
    fn a_head_in_part_is_short() {
        let bytes = head();
        for length in 0..bytes.len() {
            assert_eq!(Head::parse(&bytes[..length]), Err(Stop::Short), "{length}");
        }
    }

    #[test]
    fn what_is_no_head_is_bad() {
        let deep = [0x15, 0, 0x15, 2, 0x15, 2, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c];
        let deep = [&deep[..], &[0x1c; 4]].concat();
        let negative = [0x15, 0, 0x15, 2, 0x15, 1, 0];
        let lacking = [0x15, 0, 0x15, 2, 0];
        let unknown = [0x15, 0, 0x1e, 0];
        let endless = [&[0x15][..], &[0xff; 12]].concat();
        for bytes in [&deep[..], &negative, &lacking, &unknown, &endless, b"PAR1 and so on"] {
            assert_eq!(Head::parse(bytes), Err(Stop::Bad), "{bytes:?}");
        }
    }
}
