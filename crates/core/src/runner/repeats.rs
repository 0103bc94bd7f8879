//! Rows of the source that share a key: found by sorting eight bytes a row, decided by looking
//! again only at the keys that repeat.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::Shared;
use super::sinks::hash;
use crate::connector::ReadRequest;
use crate::digest::{Hasher, RowHashes};
use crate::error::{Error, Kind, Result};
use crate::spec::OnDuplicate;

/// What becomes of a row whose key repeats, if it is not the one that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It repeats the row that stays, or lost against it by `on_duplicate`.
    Duplicate,
    /// All rows of its key are refused.
    Rejected,
}

/// What is known of repeated keys so far.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Leading eight bytes of the key hashes that were looked at.
    pub(super) prefixes: HashSet<u64>,
    /// By ordinal.
    pub(super) fates: HashMap<u64, Fate>,
}

/// The leading bytes of a key hash that the search for repeats sorts.
pub(super) fn prefix(hashes: &RowHashes) -> u64 {
    (hashes.key >> 64) as u64
}

/// The leading bytes of a row hash, for rows without a key.
pub(super) fn row_prefix(hashes: &RowHashes) -> u64 {
    (hashes.row >> 64) as u64
}

/// The prefixes that occur more than once. Sorts the list.
pub(super) fn repeated(prefixes: &mut [u64]) -> HashSet<u64> {
    prefixes.sort_unstable();
    prefixes.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect()
}

/// Reads the slice again and decides for every row whose key may repeat.
pub(super) async fn decide(
    shared: &Shared,
    request: &ReadRequest,
    hasher: &Hasher,
    prefixes: HashSet<u64>,
) -> Result<Repeats> {
    let mut groups: HashMap<u128, Vec<(u64, u128)>> = HashMap::new();
    let mut rows = shared.job.source.read(request).await?;
    let mut hasher = hasher.clone();
    while let Some(batch) = rows.batches.next().await {
        let batch = batch?;
        shared.go_on()?;
        let hashed = hash(shared.env(), &mut hasher, batch.rows).await?;
        for (hashes, ordinal) in hashed.hashes.iter().zip(&batch.ordinals) {
            if prefixes.contains(&prefix(hashes)) {
                groups.entry(hashes.key).or_default().push((*ordinal, hashes.row));
            }
        }
    }
    let mut fates = HashMap::new();
    let rule = shared.job.plan.spec.rows.on_duplicate;
    for mut group in groups.into_values().filter(|g| g.len() > 1) {
        group.sort_unstable();
        settle(&group, rule, &mut fates)?;
    }
    Ok(Repeats { prefixes, fates })
}

/// Decides for the rows of one key, in the source's order.
fn settle(group: &[(u64, u128)], rule: OnDuplicate, fates: &mut HashMap<u64, Fate>) -> Result<()> {
    let equal = group.windows(2).all(|w| w[0].1 == w[1].1);
    let stays = match (equal, rule) {
        (true, _) | (false, OnDuplicate::First) => 0,
        (false, OnDuplicate::Last) => group.len() - 1,
        (false, OnDuplicate::Reject) => {
            fates.extend(group.iter().map(|(ordinal, _)| (*ordinal, Fate::Rejected)));
            return Ok(());
        }
        (false, OnDuplicate::Fail) => {
            return Err(Error::new(Kind::Refused, "unequal rows of the source share a key").hint(
                "`rows.on_duplicate` may say reject, first or last; `fail` stops the slice",
            ));
        }
    };
    let lost = group.iter().enumerate().filter(|(i, _)| *i != stays);
    fates.extend(lost.map(|(_, (ordinal, _))| (*ordinal, Fate::Duplicate)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(rows: &[(u64, u128)], rule: OnDuplicate) -> Vec<(u64, Fate)> {
        let mut fates = HashMap::new();
        settle(rows, rule, &mut fates).unwrap();
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.sort_by_key(|f| f.0);
        fates
    }

    #[test]
    fn the_winner_depends_on_the_order_of_the_source_alone() {
        use Fate::{Duplicate, Rejected};
        let (equal, unequal) = ([(1, 7), (4, 7), (9, 7)], [(1, 7), (4, 7), (9, 8)]);
        assert_eq!(fates(&equal, OnDuplicate::Reject), [(4, Duplicate), (9, Duplicate)]);
        assert_eq!(fates(&unequal, OnDuplicate::First), [(4, Duplicate), (9, Duplicate)]);
        assert_eq!(fates(&unequal, OnDuplicate::Last), [(1, Duplicate), (4, Duplicate)]);
        let all = [(1, Rejected), (4, Rejected), (9, Rejected)];
        assert_eq!(fates(&unequal, OnDuplicate::Reject), all);
        assert!(settle(&unequal, OnDuplicate::Fail, &mut HashMap::new()).is_err());
    }

    #[test]
    fn repeats_are_found_in_any_order() {
        assert_eq!(repeated(&mut [5, 1, 5, 2, 1]), HashSet::from([1, 5]));
        assert!(repeated(&mut [3, 1, 2]).is_empty());
    }
}
