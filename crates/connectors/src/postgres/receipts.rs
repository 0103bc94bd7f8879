//! Receipts in `retrofill.receipts`, and what became of commits whose answer got lost.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use retrofill_core::connector::{Commit, Found, Known, Standing};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::{PlanId, SliceId, hex};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::ddl::RECEIPTS;
use super::session::Texts;
use super::sql::{instant_literal, literal};

/// How long one look at the receipts waits for a commit that is under way.
const WAIT: Duration = Duration::from_secs(20);

/// A commit whose answer did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// The transaction.
    pub(super) xid: String,
}

/// What must be the same for the rows to be where the load put them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    /// The table.
    pub(super) table: u32,
    /// The table or those of its partitions that the rows lie in, each with its file.
    pub(super) files: Vec<(u32, u32)>,
    /// The plan's columns with their numbers.
    #[serde(default)]
    pub(super) columns: Vec<(String, i16)>,
}

/// The object ids and files of a table or of all its partitions: `oid`, `filenode`.
pub(super) fn files_query(oid: u32) -> String {
    format!(
        "SELECT {oid}::pg_catalog.oid, pg_catalog.pg_relation_filenode({oid}) \
         UNION SELECT t.relid::pg_catalog.oid, pg_catalog.pg_relation_filenode(t.relid) \
         FROM pg_catalog.pg_partition_tree({oid}) t WHERE t.isleaf"
    )
}

/// Reads the answer to [`files_query`].
pub(super) fn files(rows: &[Texts]) -> Vec<(u32, u32)> {
    let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse().ok());
    rows.iter().filter_map(|row| Some((number(row.first()?)?, number(row.get(1)?)?))).collect()
}

/// Columns of a table: name and number.
fn columns_query(oid: u32) -> String {
    format!(
        "SELECT attname, attnum FROM pg_catalog.pg_attribute \
         WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped"
    )
}

fn numbered(row: &Texts) -> Option<(&str, i16)> {
    Some((row.first()?.as_deref()?, row.get(1)?.as_deref()?.parse().ok()?))
}

/// Whether all is where the load put it: in `files`, as [`files`] reads them, and `columns`.
fn standing(
    anchor: &serde_json::Value,
    files: &[(u32, u32)],
    columns: &HashMap<&str, i16>,
) -> Standing {
    let Ok(anchor) = serde_json::from_value::<Anchor>(anchor.clone()) else {
        return Standing::Recheck("its receipt does not say where its rows lie".into());
    };
    for (oid, file) in &anchor.files {
        match files.iter().find(|(other, _)| other == oid) {
            Some((_, now)) if now == file => {}
            Some(_) => return Standing::Recheck("the table was truncated or rewritten".into()),
            None => return Standing::Recheck("a partition was taken away".into()),
        }
    }
    let other = |(name, number): &&(String, i16)| columns.get(name.as_str()) != Some(number);
    if let Some((name, _)) = anchor.columns.iter().find(other) {
        return Standing::Recheck(format!("column `{name}` was dropped or is another one now"));
    }
    Standing::Sound
}

/// The part of an UPDATE that keeps a manifest.
pub(super) fn set_manifest(bytes: &[u8]) -> String {
    format!(", manifest = pg_catalog.decode('{}', 'hex')", hex(bytes))
}

impl Shared {
    /// The manifest beside a receipt.
    pub(super) async fn kept_manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        let Some(table) = self.newest_table().await? else { return Ok(None) };
        if !self.has_receipts().await? {
            return Ok(None);
        }
        let r = receipt.latest();
        let sql = format!(
            "SELECT pg_catalog.encode(manifest, 'hex') FROM {RECEIPTS} WHERE relation = {} \
             AND plan = {} AND slice = {} AND generation = {}",
            table.oid,
            literal(r.plan.as_str())?,
            literal(r.slice.as_str())?,
            r.generation
        );
        // It has some megabytes: however long that takes.
        let answers = self.server.ask(&sql, "cannot read a manifest").await?;
        let text = answers.into_iter().flatten().flatten().next().flatten();
        let Some(text) = text else { return Ok(None) };
        let byte = |i: usize| u8::from_str_radix(text.get(i..i + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.map(Some).ok_or_else(|| Error::bug("a manifest came as something else than hex"))
    }

    /// Everything known of commits in this interval.
    pub(super) async fn find(&self, within: &Interval) -> Result<Known> {
        self.await_lost().await?;
        let Some(table) = self.newest_table().await? else { return Ok(Known::default()) };
        if !self.has_receipts().await? {
            return Ok(Known::default());
        }
        let sql = format!(
            "SELECT plan, slice, generation, body FROM {RECEIPTS} WHERE relation = {} \
             AND from_time < {} AND to_time > {}; {}; {}",
            table.oid,
            instant_literal(within.end(), true),
            instant_literal(within.start(), true),
            files_query(table.oid),
            columns_query(table.oid)
        );
        let answers = self.server.ask(&sql, "cannot read the receipts").await?;
        let [rows, places, columns] = &answers[..] else {
            return Err(Error::bug("the receipts came without the table's files"));
        };
        let places = files(places);
        let columns: HashMap<&str, i16> = columns.iter().filter_map(numbered).collect();
        let mut known = Known::default();
        for row in rows {
            let [Some(plan), Some(slice), Some(generation), body] = &row[..] else {
                return Err(Error::bug("a receipt lacks its name"));
            };
            let receipt = body.as_deref().and_then(|b| serde_json::from_str::<Receipt>(b).ok());
            match receipt {
                Some(receipt) if receipt.latest().interval.overlaps(within) => {
                    let standing = standing(&receipt.latest().anchor, &places, &columns);
                    known.found.push(Found { receipt, standing });
                }
                Some(_) => {}
                None => known.lost.push(Commit {
                    plan: PlanId::new(plan.as_str()),
                    slice: SliceId::new(slice.as_str()),
                    generation: generation.parse().unwrap_or(0),
                }),
            }
        }
        Ok(known)
    }

    /// Whether a slice or its kin was ever committed.
    pub(super) async fn committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        self.await_lost().await?;
        let Some(table) = self.newest_table().await? else { return Ok(false) };
        if !self.has_receipts().await? {
            return Ok(false);
        }
        let root = slice.as_str().split('.').next().unwrap_or_default();
        let sql = format!(
            "SELECT slice FROM {RECEIPTS} WHERE relation = {} AND plan = {} \
             AND pg_catalog.starts_with(slice, {})",
            table.oid,
            literal(plan.as_str())?,
            literal(root)?
        );
        let answers = self.server.ask_soon(&sql, "cannot read the receipts").await?;
        let mut slices = answers.into_iter().flatten().filter_map(|row| row.into_iter().next()?);
        Ok(slices.any(|other| slice.is_kin(&SliceId::new(other))))
    }

    /// How many receipts of other plans this table has.
    pub(super) async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        self.await_lost().await?;
        let Some(table) = self.newest_table().await? else { return Ok(0) };
        if !self.has_receipts().await? {
            return Ok(0);
        }
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {RECEIPTS} WHERE relation = {} AND plan <> {}",
            table.oid,
            literal(plan.as_str())?
        );
        let count = self.server.text(&sql, "cannot count the receipts").await?;
        let count = count.and_then(|text| text.parse().ok());
        count.ok_or_else(|| Error::bug("a count of receipts is no number"))
    }

    /// Whether the table of receipts is there.
    pub(super) async fn has_receipts(&self) -> Result<bool> {
        let sql = format!("SELECT pg_catalog.to_regclass('{RECEIPTS}')");
        Ok(self.server.text(&sql, "cannot look for the receipts").await?.is_some())
    }

    /// Remembers a commit whose answer did not come.
    pub(super) fn remember(&self, lost: Lost) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(lost);
    }

    /// Waits until no commit whose answer got lost can still take effect. The server knows of
    /// every transaction whether it is still going on; one that it has never heard of went down
    /// with another server.
    async fn await_lost(&self) -> Result<()> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let began = Instant::now();
        for commit in lost {
            while self.is_going_on(&commit).await? {
                if began.elapsed() > WAIT {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!("the transaction {} of a lost connection goes on", commit.xid),
                    ));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|other| *other != commit);
        }
        Ok(())
    }

    async fn is_going_on(&self, commit: &Lost) -> Result<bool> {
        let sql = format!(
            "SELECT CASE WHEN x.id < pg_catalog.pg_snapshot_xmax(\
             pg_catalog.pg_current_snapshot()) THEN pg_catalog.pg_xact_status(x.id) END \
             FROM (SELECT {}::pg_catalog.xid8 AS id) x",
            literal(&commit.xid)?
        );
        let status = self.server.text(&sql, "cannot ask how a commit ended").await?;
        Ok(status.as_deref() == Some("in progress"))
    }
}
