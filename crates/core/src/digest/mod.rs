//! `retrofill-digest-v1`: order-free, additive digests of rows.
//!
//! A row is encoded canonically ([`encode`]), hashed with SipHash-2-4-128 under a key made of
//! schema and salt, and the hashes are added modulo 2^128: the MSet-Add-Hash construction of
//! Clarke, Devadas, van Dijk, Gassend and Suh (2003) over a keyed pseudo-random function. Two
//! different multisets of rows with unique keys agree with probability 2^-128; with repeated
//! rows at most 2^-96. It finds every kind of damage, but it does not resist somebody who knows
//! the salt.

pub mod encode;
mod hasher;
pub mod json;
mod sip;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use hasher::{Hasher, RowHashes};

use crate::id::{hex, unhex};

/// Name and version of encoding, hash and sum, as receipts state it.
pub const ENCODING: &str = "retrofill-digest-v1";

/// Into how many equal parts of time a digest over an interval is divided.
pub const PARTS: usize = 64;

/// Digests below this many rows carry no parts: their rows are compared directly.
pub const PARTS_FROM_ROWS: u64 = 16_384;

/// A sum of hashes modulo 2^128; hex text when persisted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum(pub u128);

impl Sum {
    /// 32 hex digits.
    pub fn to_hex(self) -> String {
        hex(&self.0.to_be_bytes())
    }
}

impl Serialize for Sum {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = unhex::<16>(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not 16 bytes of hex")))?;
        Ok(Sum(u128::from_be_bytes(bytes)))
    }
}

/// A multiset of rows, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How many rows.
    pub count: u64,
    /// Sum of the key hashes.
    pub keys: Sum,
    /// Sum of the row hashes.
    pub rows: Sum,
    /// Earliest time. Informative: it cannot be subtracted, so it is not compared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min: Option<Timestamp>,
    /// Latest time. Informative.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<Timestamp>,
    /// Count and sum of row hashes of up to 64 equal parts of the interval; empty where not kept.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub parts: Vec<(u64, Sum)>,
}

impl Digest {
    /// Adds one row.
    pub fn add_row(&mut self, hashes: &RowHashes) {
        self.count += 1;
        self.keys.0 = self.keys.0.wrapping_add(hashes.key);
        self.rows.0 = self.rows.0.wrapping_add(hashes.row);
    }

    /// Widens min and max.
    pub fn see_time(&mut self, time: Timestamp) {
        self.min = Some(self.min.map_or(time, |t| t.min(time)));
        self.max = Some(self.max.map_or(time, |t| t.max(time)));
    }

    /// Adds another multiset.
    pub fn add(&mut self, other: &Digest) {
        // A subtraction may have wrapped: what is wrong must be found by comparing, not here.
        self.count = self.count.wrapping_add(other.count);
        self.keys.0 = self.keys.0.wrapping_add(other.keys.0);
        self.rows.0 = self.rows.0.wrapping_add(other.rows.0);
        for time in [other.min, other.max].into_iter().flatten() {
            self.see_time(time);
        }
        if self.parts.is_empty() {
            self.parts.clone_from(&other.parts);
        } else {
            for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
                mine.0 = mine.0.wrapping_add(theirs.0);
                mine.1.0 = mine.1.0.wrapping_add(theirs.1.0);
            }
        }
    }

    /// Takes a multiset out that is contained in this one. Min and max stay as they are.
    pub fn subtract(&mut self, other: &Digest) {
        self.count = self.count.wrapping_sub(other.count);
        self.keys.0 = self.keys.0.wrapping_sub(other.keys.0);
        self.rows.0 = self.rows.0.wrapping_sub(other.rows.0);
        for (mine, theirs) in self.parts.iter_mut().zip(&other.parts) {
            mine.0 = mine.0.wrapping_sub(theirs.0);
            mine.1.0 = mine.1.0.wrapping_sub(theirs.1.0);
        }
    }

    /// Whether it stands for no row.
    pub fn is_empty(&self) -> bool {
        *self == Digest::default()
    }

    /// Whether both stand for the same rows. Min and max follow from the rows and do not count;
    /// parts are compared where both have them.
    pub fn matches(&self, other: &Digest) -> bool {
        let parts = self.parts.is_empty() || other.parts.is_empty() || self.parts == other.parts;
        self.count == other.count && self.keys == other.keys && self.rows == other.rows && parts
    }

    /// The same without parts, for records that need none.
    pub fn without_parts(mut self) -> Self {
        self.parts.clear();
        self
    }

    /// The row sum as 32 hex digits: what people see as "the digest".
    pub fn to_hex(&self) -> String {
        self.rows.to_hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[u128]) -> Digest {
        let mut d = Digest::default();
        for &row in rows {
            d.add_row(&RowHashes { key: row ^ 7, row });
        }
        d
    }

    #[test]
    fn addition_knows_no_order_and_subtraction_undoes_it() {
        let mut sum = digest(&[1, u128::MAX]);
        sum.add(&digest(&[5]));
        assert!(sum.matches(&digest(&[5, u128::MAX, 1])));
        sum.subtract(&digest(&[5]));
        assert!(sum.matches(&digest(&[u128::MAX, 1])));
        assert!(!sum.matches(&digest(&[u128::MAX, 2])));
    }
}
