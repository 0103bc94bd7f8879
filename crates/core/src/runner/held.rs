//! The rows a slice holds before the load, by key hash: 32 bytes a row.

use std::collections::HashMap;

use crate::digest::RowHashes;

/// A multiset of rows, to be asked by key.
#[derive(Debug, Default)]
pub(super) struct Held {
    rows: Vec<(u128, u128)>,
}

/// How a source row stands to the rows held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No row has its key.
    New,
    /// A row is equal.
    Present,
    /// Rows have its key, none is equal. One of them.
    Conflict(u128),
}

impl Held {
    /// From rows in any order.
    pub(super) fn new(rows: Vec<RowHashes>) -> Self {
        let mut rows: Vec<_> = rows.into_iter().map(|h| (h.key, h.row)).collect();
        rows.sort_unstable();
        Held { rows }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every row of a key.
    fn alike(&self, key: u128) -> &[(u128, u128)] {
        let first = self.rows.partition_point(|(k, _)| *k < key);
        let count = self.rows[first..].partition_point(|(k, _)| *k == key);
        &self.rows[first..first + count]
    }

    /// How many rows are held.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether a row of this key is held.
    pub(super) fn has_key(&self, key: u128) -> bool {
        !self.alike(key).is_empty()
    }

    /// Whether exactly one row of this key is held.
    pub(super) fn is_single(&self, key: u128) -> bool {
        self.alike(key).len() == 1
    }

    /// Whether the only row of its key is equal.
    pub(super) fn is_alone(&self, hashes: &RowHashes) -> bool {
        matches!(self.alike(hashes.key), [(_, row)] if *row == hashes.row)
    }

    /// How a row stands to what is held.
    pub(super) fn standing(&self, hashes: &RowHashes) -> Standing {
        match self.alike(hashes.key) {
            [] => Standing::New,
            alike if alike.iter().any(|(_, row)| *row == hashes.row) => Standing::Present,
            [(_, live), ..] => Standing::Conflict(*live),
        }
    }
}

/// Rows without a key that an earlier generation left in the slice: each stands for one equal row
/// of the source.
#[derive(Debug, Default)]
pub(super) struct Copies(HashMap<u128, u64>);

impl Copies {
    /// From rows in any order.
    pub(super) fn new(rows: &[RowHashes]) -> Self {
        let mut copies = HashMap::new();
        for hashes in rows {
            *copies.entry(hashes.row).or_default() += 1;
        }
        Copies(copies)
    }

    /// One more row of this kind.
    pub(super) fn add(&mut self, row: u128) {
        *self.0.entry(row).or_default() += 1;
    }

    /// Whether an equal row is left; it stands for this one from now on.
    pub(super) fn take(&mut self, hashes: &RowHashes) -> bool {
        let left = self.0.get_mut(&hashes.row).filter(|n| **n > 0);
        left.is_some_and(|n| {
            *n -= 1;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stands_for_one_row_only() {
        let row = |key, row| RowHashes { key, row };
        let mut copies = Copies::new(&[row(1, 7), row(1, 7), row(1, 8)]);
        let taken = [7, 7, 7, 8, 9].map(|n| copies.take(&row(1, n)));
        assert_eq!(taken, [true, true, false, true, false]);
    }

    #[test]
    fn a_repeated_key_is_present_if_any_row_is_equal() {
        let row = |key, row| RowHashes { key, row };
        let held = Held::new(vec![row(5, 1), row(3, 9), row(5, 2)]);
        assert_eq!(held.standing(&row(5, 2)), Standing::Present);
        assert_eq!(held.standing(&row(5, 3)), Standing::Conflict(1));
        assert_eq!(held.standing(&row(4, 9)), Standing::New);
    }
}
