//! Where fields end: the delimiters and line ends of a buffer.
//!
//! Fields are short, so that a search that starts anew for each costs more than the looking itself.
//! Here 64 bytes are looked at together, and what was found is kept.

/// Finds the bytes that end an unquoted field, in one buffer.
#[derive(Debug)]
pub(super) struct Stops {
    delimiter: u8,
    /// Start of the block in hand.
    block: usize,
    /// Bit `i` is set where byte `block + i` is a delimiter or a newline.
    found: u64,
}

/// Bytes that are looked at together.
const BLOCK: usize = u64::BITS as usize;

impl Stops {
    /// Delimiters and newlines of a buffer, always the same one.
    pub(super) fn new(delimiter: u8) -> Self {
        Stops { delimiter, block: usize::MAX, found: 0 }
    }

    /// The first one at `from` or behind.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        let block = from - from % BLOCK;
        if block != self.block {
            self.look(bytes, block);
        }
        let mut found = self.found & (u64::MAX << (from % BLOCK));
        while found == 0 {
            if self.block + BLOCK >= bytes.len() {
                return None;
            }
            self.look(bytes, self.block + BLOCK);
            found = self.found;
        }
        Some(self.block + found.trailing_zeros() as usize)
    }

    #[inline]
    fn look(&mut self, bytes: &[u8], block: usize) {
        self.block = block;
        let rest = bytes.get(block..).unwrap_or_default();
        self.found = if let Some(whole) = rest.first_chunk::<BLOCK>() {
            marks(whole, self.delimiter)
        } else {
            let mut padded = [0; BLOCK];
            padded[..rest.len()].copy_from_slice(rest);
            // What fills the block up is no stop, whatever the delimiter is.
            marks(&padded, self.delimiter) & !(u64::MAX << rest.len())
        };
    }
}

/// A bit for each byte that is one of the two.
#[inline]
fn marks(bytes: &[u8; BLOCK], delimiter: u8) -> u64 {
    // Each loop on its own is one the compiler makes vector instructions of.
    let alike = bytes.map(|b| u8::from(b == delimiter || b == b'\n'));
    let mut marks = 0;
    for (i, eight) in alike.as_chunks::<8>().0.iter().enumerate() {
        // The product's highest byte has the lowest bit of each byte, in order.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        marks |= bits << (8 * i);
    }
    marks
}

#[cfg(test)]
mod tests {
    use memchr::memchr2;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_search_finds(
            text in "[a,;\n]{0,300}",
            asked in prop::collection::vec(0..300_usize, 1..20),
            delimiter in prop::sample::select(vec![b',', b';', 0]),
        ) {
            let bytes = text.as_bytes();
            let mut stops = Stops::new(delimiter);
            for from in asked {
                let from = from.min(bytes.len());
                let want = memchr2(delimiter, b'\n', &bytes[from..]).map(|n| from + n);
                prop_assert_eq!(stops.next(bytes, from), want);
            }
        }
    }
}
