//! SipHash-2-4 with 128 bits (Aumasson and Bernstein 2012) of many texts at a time.
//!
//! The rounds of one text wait for each other; those of eight texts need not, and where the
//! processor has wide registers the compiler puts the eight side by side: every loop over lanes
//! is written so that it can.

#![expect(clippy::inline_always, reason = "what is not inlined cannot use wide registers")]

use std::ops::Range;

use fearless_simd::{Level, dispatch};

/// Texts that are hashed side by side.
const LANES: usize = 8;

/// One word of each lane.
type Words = [u64; LANES];

/// Appends the hashes of these parts of `bytes`, in their order.
pub(super) fn hash(
    key: &[u8; 16],
    bytes: &[u8],
    parts: impl Iterator<Item = Range<usize>>,
    out: &mut Vec<u128>,
) {
    let level = Level::new();
    let mut parts = parts.map(|part| &bytes[part]);
    loop {
        let mut lanes: [&[u8]; LANES] = [&[]; LANES];
        let used = lanes.iter_mut().zip(&mut parts).map(|(lane, part)| *lane = part).count();
        let hashes = dispatch!(level, _simd => side_by_side(key, &lanes));
        out.extend_from_slice(&hashes[..used]);
        if used < LANES {
            return;
        }
    }
}

#[inline(always)]
fn side_by_side(key: &[u8; 16], texts: &[&[u8]; LANES]) -> [u128; LANES] {
    let mut state = State::new(key);
    let words = texts.map(|text| text.len() / 8);
    let (least, most) = words.iter().fold((usize::MAX, 0), |(l, m), w| (l.min(*w), m.max(*w)));
    for i in 0..least {
        let word = texts.map(|text| full(text, i));
        state.take(&word);
    }
    // From here on some lanes may have ended; each ends with a word of its own.
    for i in least..=most {
        let mut word = [0; LANES];
        let mut on = [0; LANES];
        for (lane, text) in texts.iter().enumerate() {
            if i <= words[lane] {
                on[lane] = u64::MAX;
                word[lane] = if i < words[lane] { full(text, i) } else { last(text) };
            }
        }
        state.take_some(&word, &on);
    }
    state.finish()
}

/// Word `i` of a text that has it whole.
#[inline(always)]
fn full(text: &[u8], i: usize) -> u64 {
    text[8 * i..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// What is left of a text after its whole words, below the lowest byte of its length.
#[inline(always)]
fn last(text: &[u8]) -> u64 {
    let left = text.len() % 8;
    let word = match text.last_chunk() {
        _ if left == 0 => 0,
        Some(word) => u64::from_le_bytes(*word) >> (64 - 8 * left),
        None => text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    word | (text.len() as u64) << 56
}

/// The four words of state of each lane.
struct State([Words; 4]);

impl State {
    #[inline(always)]
    fn new(key: &[u8; 16]) -> Self {
        let key = u128::from_le_bytes(*key);
        let (low, high) = (key as u64, (key >> 64) as u64);
        // The text "somepseudorandomlygeneratedbytes"; 0xee stands for 128 bits.
        let start = [
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ];
        State(start.map(|word| [word; LANES]))
    }

    /// Takes a word in every lane.
    #[inline(always)]
    fn take(&mut self, word: &Words) {
        let [a, b, c, d] = &mut self.0;
        for lane in 0..LANES {
            let new = rounds::<2>([a[lane], b[lane], c[lane], d[lane] ^ word[lane]]);
            (a[lane], b[lane], c[lane], d[lane]) = (new[0] ^ word[lane], new[1], new[2], new[3]);
        }
    }

    /// Takes a word in those lanes where all bits of `on` are set; elsewhere none of them is.
    #[inline(always)]
    fn take_some(&mut self, word: &Words, on: &Words) {
        let [a, b, c, d] = &mut self.0;
        for lane in 0..LANES {
            let new = rounds::<2>([a[lane], b[lane], c[lane], d[lane] ^ word[lane]]);
            let choose = |new: u64, old: u64| new & on[lane] | old & !on[lane];
            a[lane] = choose(new[0] ^ word[lane], a[lane]);
            b[lane] = choose(new[1], b[lane]);
            c[lane] = choose(new[2], c[lane]);
            d[lane] = choose(new[3], d[lane]);
        }
    }

    /// The reference implementation's 16 bytes of output are two words, little-endian each; read
    /// as one big-endian number they are what its test vectors show.
    #[inline(always)]
    fn finish(self) -> [u128; LANES] {
        let [a, b, c, d] = &self.0;
        let (mut first, mut second) = ([0; LANES], [0; LANES]);
        for lane in 0..LANES {
            let new = rounds::<4>([a[lane], b[lane], c[lane] ^ 0xee, d[lane]]);
            first[lane] = new[0] ^ new[1] ^ new[2] ^ new[3];
            let new = rounds::<4>([new[0], new[1] ^ 0xdd, new[2], new[3]]);
            second[lane] = new[0] ^ new[1] ^ new[2] ^ new[3];
        }
        let whole = |lane: usize| {
            u128::from(first[lane].swap_bytes()) << 64 | u128::from(second[lane].swap_bytes())
        };
        std::array::from_fn(whole)
    }
}

#[inline(always)]
fn rounds<const N: usize>([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    for _ in 0..N {
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128 as _, SipHasher24};

    use super::*;

    /// Another implementation's hash of one text.
    fn other(key: &[u8; 16], text: &[u8]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(text);
        u128::from_be_bytes(hasher.finish128().as_bytes())
    }

    proptest! {
        #[test]
        fn texts_of_any_lengths_hash_as_one_by_one(
            key: [u8; 16],
            lengths in prop::collection::vec(0_usize..70, 0..40),
            alike in 0_usize..300,
        ) {
            let lengths: Vec<_> = lengths.into_iter().chain([alike; 17]).collect();
            let bytes: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|i| i as u8).collect();
            let mut end = 0;
            let parts: Vec<_> = lengths.iter().map(|length| {
                end += length;
                end - length..end
            }).collect();
            let mut hashes = Vec::new();
            hash(&key, &bytes, parts.iter().cloned(), &mut hashes);
            let wanted: Vec<_> = parts.into_iter().map(|part| other(&key, &bytes[part])).collect();
            prop_assert_eq!(hashes, wanted);
        }
    }
}
