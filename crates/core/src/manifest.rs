//! The manifest of a slice: which rows loads of this job wrote, as 16 bytes each.
//!
//! It lies beside the receipt, which names its hash. A held row is ours if the leading eight bytes
//! of its key hash and of its row hash stand in it: a row of another value is taken for ours with
//! probability 2^-64.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::RowHashes;
use crate::error::{Error, Kind, Result};
use crate::id::hex;

/// What the bytes begin with: name and version of the format.
const HEAD: &[u8] = b"retrofill-manifest-v1\n";

/// Bytes of one row.
const WIDTH: usize = 16;

/// The leading bytes of a row's key hash and row hash.
pub type Entry = (u64, u64);

/// The entry of a row.
pub fn entry(hashes: &RowHashes) -> Entry {
    ((hashes.key >> 64) as u64, (hashes.row >> 64) as u64)
}

/// What a receipt says of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// How many rows are in it.
    pub rows: u64,
    /// SHA-256 of its bytes, hex.
    pub hash: String,
    /// Rows of earlier loads may be missing in it, because nobody knew them any more: what is in
    /// it is ours, what is not may be ours too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Rows, each as often as it is there, of which some may have been taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In order.
    rows: Vec<Entry>,
    taken: Vec<bool>,
}

impl Manifest {
    /// From rows in any order.
    pub fn of(mut rows: Vec<Entry>) -> Self {
        rows.sort_unstable();
        let taken = vec![false; rows.len()];
        Manifest { rows, taken }
    }

    /// Where a row is that is left.
    fn find(&self, entry: Entry) -> Option<usize> {
        let first = self.rows.partition_point(|e| *e < entry);
        let alike = self.rows[first..].iter().take_while(|e| **e == entry).count();
        (first..first + alike).find(|at| !self.taken[*at])
    }

    /// Takes a row out; whether it was there.
    pub fn take(&mut self, entry: Entry) -> bool {
        let found = self.find(entry);
        if let Some(at) = found {
            self.taken[at] = true;
        }
        found.is_some()
    }

    /// Whether a row is left.
    pub fn has(&self, entry: Entry) -> bool {
        self.find(entry).is_some()
    }

    /// The rows that are left, in order.
    pub fn left(&self) -> impl Iterator<Item = Entry> {
        self.rows.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(entry, _)| *entry)
    }

    /// How many rows are left.
    pub fn len(&self) -> u64 {
        self.left().count() as u64
    }

    /// Whether no row is left.
    pub fn is_empty(&self) -> bool {
        self.left().next().is_none()
    }

    /// The bytes that are kept, and what the receipt says of them.
    pub fn to_bytes(&self, partial: bool) -> (Vec<u8>, ManifestRef) {
        let mut bytes = HEAD.to_vec();
        for (key, row) in self.left() {
            bytes.extend_from_slice(&key.to_be_bytes());
            bytes.extend_from_slice(&row.to_be_bytes());
        }
        let hash = hex(&Sha256::digest(&bytes));
        let rows = ((bytes.len() - HEAD.len()) / WIDTH) as u64;
        (bytes, ManifestRef { rows, hash, partial })
    }

    /// Reads the bytes that a receipt is bound to; an error of kind `Mismatch` where they are
    /// others.
    pub fn from_bytes(bytes: &[u8], reference: &ManifestRef) -> Result<Self> {
        let other = |what: &str| Error::new(Kind::Mismatch, format!("the manifest {what}"));
        if hex(&Sha256::digest(bytes)) != reference.hash {
            return Err(other("is not the one that the receipt names"));
        }
        let rows = bytes.strip_prefix(HEAD).ok_or_else(|| other("is of an unknown version"))?;
        let (rows, rest) = rows.as_chunks::<WIDTH>();
        if !rest.is_empty() || rows.len() as u64 != reference.rows {
            return Err(other("has not as many rows as the receipt says"));
        }
        let entry = |row: &[u8; WIDTH]| {
            let both = u128::from_be_bytes(*row);
            ((both >> 64) as u64, both as u64)
        };
        Ok(Manifest::of(rows.iter().map(entry).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bound_to_their_receipt() {
        let manifest = Manifest::of(vec![(7, 1), (3, u64::MAX), (7, 1)]);
        let (bytes, reference) = manifest.to_bytes(false);
        assert_eq!((bytes.len(), reference.rows), (HEAD.len() + 48, 3));
        let again = Manifest::from_bytes(&bytes, &reference).unwrap();
        assert_eq!(again, manifest);
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for bad in [&damaged[..], &bytes[..bytes.len() - 16], b""] {
            let error = Manifest::from_bytes(bad, &reference).unwrap_err();
            assert_eq!(error.kind(), Kind::Mismatch);
        }
    }

    #[test]
    fn a_row_is_taken_as_often_as_it_is_there() {
        let mut manifest = Manifest::of(vec![(1, 2), (0, 9), (1, 2)]);
        assert!(manifest.has((1, 2)) && !manifest.has((1, 3)));
        assert_eq!([0; 3].map(|_| manifest.take((1, 2))), [true, true, false]);
        assert_eq!(manifest.left().collect::<Vec<_>>(), [(0, 9)]);
        assert_eq!((manifest.len(), manifest.is_empty()), (1, false));
    }
}
