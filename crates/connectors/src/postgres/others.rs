//! Finding rows that others put beside ours, where no unique index keeps them out.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use jiff::Timestamp;
use retrofill_core::columns::Columns;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::PlanId;
use retrofill_core::interval::Interval;

use super::Shared;
use super::catalog::Table;
use super::copy::within;
use super::ddl::RECEIPTS;
use super::session::Texts;
use super::sql::{ident, idents, literal};
use super::unindexed::micros;

/// So many doubled keys are told.
const TOLD: usize = 10_000;

/// What the snapshots of the loads tell of other transactions.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// The oldest transaction that any load did not see the end of.
    oldest: Option<u64>,
    /// The next transaction to come, in the earliest snapshot in which none before it was under
    /// way.
    next: Option<u64>,
    /// A load found rows in its slice: some of them may double each other.
    met: bool,
}

impl Quiet {
    /// Takes up the snapshot of a load, as `pg_current_snapshot` writes it.
    pub(super) fn take(&mut self, snapshot: &str) {
        let Some((oldest, next)) = read(snapshot) else { return };
        let least = |known: Option<u64>, new: u64| Some(known.map_or(new, |known| known.min(new)));
        self.oldest = least(self.oldest, oldest);
        if oldest == next {
            self.next = least(self.next, next);
        }
    }

    /// A load found rows in its slice.
    pub(super) fn meet(&mut self) {
        self.met = true;
    }

    /// The first transaction that could have written what no load saw. None where the loads did
    /// not begin in a moment when nobody wrote.
    fn since(&self) -> Option<u64> {
        self.next.filter(|next| self.oldest == Some(*next) && !self.met)
    }

    /// Whether these are all transactions since then; the snapshot is a later one. Every
    /// transaction that writes takes the next number, so that one of others would leave a gap.
    fn is_unbroken(&self, ours: &[String], snapshot: &str) -> bool {
        let Some((since, (_, next))) = self.since().zip(read(snapshot)) else { return false };
        let distinct: HashSet<_> = ours.iter().filter_map(|xid| xid.parse::<u32>().ok()).collect();
        // A row knows the lower half of its transaction's number.
        let lower = |xid: u64| xid as u32;
        next.checked_sub(since) == Some(distinct.len() as u64)
            && (since..next).all(|xid| distinct.contains(&lower(xid)))
    }
}

/// The oldest transaction under way and the next to come.
fn read(snapshot: &str) -> Option<(u64, u64)> {
    let mut parts = snapshot.split(':').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

impl Shared {
    /// What loads have seen of other transactions.
    pub(super) fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Times of keys that stand in the table more than once, at most some. Rows that this plan
    /// wrote double none of each other: each load was proven to be of different keys.
    pub(super) async fn doubled(
        &self,
        plan: &PlanId,
        columns: &Columns,
        within_: &Interval,
    ) -> Result<Vec<Timestamp>> {
        let table = self.known_table().await?;
        let time = &columns.time().name;
        let condition = within(&table, time, within_)?;
        if !self.has_others(&table, plan, &condition).await? {
            return Ok(Vec::new());
        }
        let key = idents(columns.iter().take(columns.key_width()).map(|c| c.name.as_str()))?;
        let (name, time) = (self.name.sql()?, ident(time)?);
        let sql = format!(
            "SELECT {} FROM {name} WHERE {condition} GROUP BY {key} \
             HAVING pg_catalog.count(*) > 1 ORDER BY 1 LIMIT {TOLD}",
            micros(&time)
        );
        let answer = self.server.ask(&sql, &format!("cannot recount {}", self.name)).await?;
        let read = |text: &str| Timestamp::from_microsecond(text.parse().ok()?).ok();
        let times = answer.into_iter().flatten().map(|row| read(row.first()?.as_deref()?));
        times.collect::<Option<_>>().ok_or_else(|| Error::bug("a time came in another form"))
    }

    /// Whether the table may hold rows within this condition that no load of this plan wrote and
    /// none could see. The transaction that wrote a row wrote its slice's receipt too.
    async fn has_others(&self, table: &Table, plan: &PlanId, condition: &str) -> Result<bool> {
        let what = format!("cannot recount {}", self.name);
        let (oid, plan) = (table.oid, literal(plan.as_str())?);
        // Slices that an earlier plan has loaded were not looked at by this one.
        let sql = format!(
            "SELECT r.xmin FROM {RECEIPTS} r WHERE r.relation = {oid} AND r.plan = {plan};\
             SELECT 1 FROM {RECEIPTS} r WHERE r.relation = {oid} AND r.plan <> {plan} LIMIT 1;\
             SELECT pg_catalog.pg_current_snapshot()"
        );
        let answers = self.server.ask(&sql, &what).await?;
        let [ours, earlier, snapshot] = answers.as_slice() else {
            return Err(Error::bug("a recount came in another form"));
        };
        let first = |row: &Texts| row.first().cloned().flatten();
        let ours: Vec<_> = ours.iter().filter_map(first).collect();
        let snapshot = snapshot.first().and_then(first).unwrap_or_default();
        // Who writes to a part of the table on another server takes no number here.
        let spared = earlier.is_empty() && table.is_plain();
        if spared && self.quiet().is_unbroken(&ours, &snapshot) {
            return Ok(false);
        }
        let list = format!("'{{{}}}'::pg_catalog.xid[]", ours.join(","));
        let other = match ours.len() {
            // Compared one by one: quicker than a look into a hash table.
            0..=16 => format!("xmin <> ALL ({list})"),
            _ => format!("xmin NOT IN (SELECT pg_catalog.unnest({list}))"),
        };
        // A count of all, for which the server takes more than one process.
        let name = self.name.sql()?;
        let sql = format!("SELECT pg_catalog.count(*) FROM {name} WHERE {other} AND {condition}");
        let rows = self.server.ask(&sql, &what).await?;
        let count = rows.first().and_then(|rows| rows.first()?.first()?.as_deref());
        Ok(count != Some("0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(snapshots: &[&str]) -> Quiet {
        let mut quiet = Quiet::default();
        for snapshot in snapshots {
            quiet.take(snapshot);
        }
        quiet
    }

    #[test]
    fn a_gap_in_the_numbers_is_another_writer() {
        let all = quiet(&["100:101:100", "100:100:"]);
        let unbroken = |ours: &[&str], end: &str| {
            all.is_unbroken(&ours.iter().map(|x| (*x).to_owned()).collect::<Vec<_>>(), end)
        };
        assert!(unbroken(&["101", "100"], "102:102:") && unbroken(&["100"], "101:101:"));
        assert!(!unbroken(&["101", "100"], "103:103:"), "102 is another's");
        assert!(!unbroken(&["102", "100"], "103:103:"), "101 is another's");
        assert!(!unbroken(&["99", "100", "101"], "102:102:"), "99 was before");
        assert!(!unbroken(&["100", "100"], "102:102:"));
        assert!(!unbroken(&["100", "101"], ""));
        let wide = quiet(&["4294967295:4294967295:"]);
        assert!(wide.is_unbroken(&["4294967295".into(), "0".into()], "4294967297:4294967297:"));
    }

    #[test]
    fn who_wrote_when_it_began_may_be_unseen() {
        let ours = ["101".to_owned()];
        assert!(!quiet(&[]).is_unbroken(&[], "7:7:"));
        assert!(!quiet(&["100:102:100"]).is_unbroken(&ours, "102:102:"));
        // The first load did not see 100, which had ended when the second began.
        assert!(!quiet(&["100:101:100", "101:101:"]).is_unbroken(&ours, "102:102:"));
        let mut all = quiet(&["101:101:", "101:102:101"]);
        assert!(all.is_unbroken(&ours, "102:102:"));
        all.meet();
        assert!(!all.is_unbroken(&ours, "102:102:"), "what was met may be doubled");
    }
}
