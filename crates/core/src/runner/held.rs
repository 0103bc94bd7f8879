//! The rows a slice holds before the load, by key hash: 32 bytes a row, and 16 more where not all
//! columns are compared.

use std::collections::HashMap;
use std::ops::Range;

use crate::digest::RowHashes;

/// A multiset of rows, to be asked by key.
#[derive(Debug, Default)]
pub(super) struct Held {
    rows: Vec<(u128, u128)>,
    /// What each of them is by the columns that are compared; empty where all are.
    compared: Vec<u128>,
}

/// How a source row stands to the rows held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No row has its key.
    New,
    /// A row is equal.
    Present,
    /// No row is equal, but one is in the columns that are compared.
    Alike(u128),
    /// Rows have its key, none is alike. One of them.
    Conflict(u128),
}

impl Held {
    /// From rows in any order; beside them what each is by the columns that are compared, or
    /// nothing where all are.
    pub(super) fn new(rows: Vec<RowHashes>, compared: Vec<u128>) -> Self {
        let rows = rows.into_iter().map(|h| (h.key, h.row));
        if compared.is_empty() {
            let mut rows: Vec<_> = rows.collect();
            rows.sort_unstable();
            return Held { rows, compared };
        }
        let mut both: Vec<_> = rows.zip(compared).collect();
        both.sort_unstable();
        let (rows, compared) = both.into_iter().unzip();
        Held { rows, compared }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every row of a key.
    pub(super) fn of(&self, key: u128) -> &[(u128, u128)] {
        &self.rows[self.places(key)]
    }

    fn places(&self, key: u128) -> Range<usize> {
        let first = self.rows.partition_point(|(k, _)| *k < key);
        let count = self.rows[first..].partition_point(|(k, _)| *k == key);
        first..first + count
    }

    /// Every row.
    pub(super) fn iter(&self) -> impl Iterator<Item = RowHashes> {
        self.rows.iter().map(|(key, row)| RowHashes { key: *key, row: *row })
    }

    /// How many rows are held.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether exactly one row of this key is held.
    pub(super) fn is_single(&self, key: u128) -> bool {
        self.of(key).len() == 1
    }

    /// How a row, with what it is by the columns that are compared, stands to what is held.
    pub(super) fn standing(&self, hashes: &RowHashes, compared: u128) -> Standing {
        let places = self.places(hashes.key);
        let alike = self.compared.get(places.clone()).unwrap_or_default();
        let alike = alike.iter().position(|other| *other == compared);
        match (&self.rows[places], alike) {
            ([], _) => Standing::New,
            (held, _) if held.iter().any(|(_, row)| *row == hashes.row) => Standing::Present,
            (held, Some(at)) => Standing::Alike(held[at].1),
            ([(_, live), ..], None) => Standing::Conflict(*live),
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
        let held = Held::new(vec![row(5, 1), row(3, 9), row(5, 2)], Vec::new());
        assert_eq!(held.standing(&row(5, 2), 2), Standing::Present);
        assert_eq!(held.standing(&row(5, 3), 3), Standing::Conflict(1));
        assert_eq!(held.standing(&row(4, 9), 9), Standing::New);
    }

    #[test]
    fn a_row_is_alike_by_what_is_compared_under_its_own_key() {
        let row = |key, row| RowHashes { key, row };
        let held = Held::new(vec![row(5, 2), row(3, 9), row(5, 1)], vec![70, 60, 80]);
        assert_eq!(held.standing(&row(5, 2), 70), Standing::Present);
        assert_eq!(held.standing(&row(5, 3), 80), Standing::Alike(1));
        assert_eq!(held.standing(&row(5, 3), 60), Standing::Conflict(1));
        assert_eq!(held.standing(&row(3, 3), 70), Standing::Conflict(9));
        assert_eq!(held.standing(&row(4, 9), 60), Standing::New);
    }
}
