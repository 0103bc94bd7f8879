//! Where rows stand: that orders them, and finds them again.
//!
//! An ordinal is the table or partition among its kin, the block, and the place in that.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use retrofill_core::error::{Error, Result};
use retrofill_core::reject::Place;
use tokio_postgres::Client;

use super::super::session::{self, Texts};
use super::{Inner, ROW, stale};

/// Bits of the place in a block, which has fewer than 1,200 rows at most.
const ITEM: u32 = 11;
/// Bits of block and place.
const WHOLE: u32 = 32 + ITEM;

/// A recursive query `parts(oid)`: the table and all that inherit from it.
pub(super) fn parts_sql(oid: u32) -> String {
    format!(
        "RECURSIVE parts(oid) AS (SELECT {oid}::pg_catalog.oid UNION SELECT i.inhrelid \
         FROM pg_catalog.pg_inherits i JOIN parts p ON i.inhparent = p.oid)"
    )
}

/// The table and all that inherit from it, in order.
pub(super) struct Parts(Vec<(u32, String)>);

/// A query for [`Parts`].
pub(super) fn query(oid: u32) -> String {
    format!(
        "WITH {} SELECT p.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM parts p \
         JOIN pg_catalog.pg_class c ON c.oid = p.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY p.oid",
        parts_sql(oid)
    )
}

impl Parts {
    /// Reads the answer to [`query`].
    pub(super) fn read(rows: &[Texts]) -> Result<Self> {
        let part = |row: &Texts| {
            Some((row.first()?.as_deref()?.parse().ok()?, row.get(1)?.as_deref()?.to_owned()))
        };
        let parts: Option<Vec<_>> = rows.iter().map(part).collect();
        parts.map(Parts).ok_or_else(|| Error::bug("the parts of a table came in another form"))
    }

    pub(super) async fn ask(inner: &Inner, client: &Client, oid: u32) -> Result<Self> {
        let rows = session::ask(client, &query(oid)).await.map_err(|e| inner.fault(&e))?;
        Self::read(rows.first().map_or(&[], Vec::as_slice))
    }

    /// The ordinals of rows by table and spot.
    pub(super) fn ordinal(&self, oid: u32, spot: i64) -> Option<u64> {
        let part = self.0.binary_search_by_key(&oid, |(oid, _)| *oid).ok()? as u64;
        let (block, item) = (spot as u64 >> 16, spot as u64 & 0xffff);
        let fits = part >> (64 - WHOLE) == 0 && item >> ITEM == 0;
        fits.then_some(part << WHOLE | block << ITEM | item)
    }

    /// Where the row of an ordinal stands: its table's name, and its place as SQL has it.
    fn spot(&self, ordinal: u64) -> Option<(&str, String)> {
        let (_, name) = self.0.get((ordinal >> WHOLE) as usize)?;
        let (block, item) = (ordinal >> ITEM & 0xffff_ffff, ordinal & ((1 << ITEM) - 1));
        Some((name, format!("({block},{item})")))
    }
}

/// A place as the server writes it: `(block,item)`.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (block, item) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some(block.parse::<i64>().ok()? << 16 | item.parse::<i64>().ok()?)
}

/// Place and text of single rows.
pub(super) async fn locate(inner: &Inner, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
    let table = inner.shared.known_table().await?;
    let client = inner.begin().await?;
    let parts = Parts::ask(inner, &client, table.oid).await?;
    let mut by_table: BTreeMap<&str, Vec<(u64, String)>> = BTreeMap::new();
    let gone = || stale("a row of the source is no longer where it was".into());
    for ordinal in ordinals {
        let (name, spot) = parts.spot(*ordinal).ok_or_else(gone)?;
        by_table.entry(name).or_default().push((*ordinal, spot));
    }
    let mut texts = HashMap::new();
    for (name, rows) in &by_table {
        let mut list = String::new();
        for (_, spot) in rows {
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}\"{spot}\"");
        }
        let sql = format!(
            "SELECT {ROW}.ctid, {ROW}::pg_catalog.text FROM ONLY {name} AS {ROW} \
             WHERE ctid = ANY ('{{{list}}}'::pg_catalog.tid[])"
        );
        let answer = session::ask(&client, &sql).await.map_err(|e| inner.fault(&e))?;
        let found: HashMap<String, String> = answer
            .into_iter()
            .flatten()
            .filter_map(|row| {
                let [spot, text] = <[Option<String>; 2]>::try_from(row).ok()?;
                Some((spot?, text?))
            })
            .collect();
        for (ordinal, spot) in rows {
            texts.insert(*ordinal, found.get(spot).ok_or_else(gone)?.clone());
        }
    }
    inner.shared.server.roll_back(client).await;
    let file = inner.shared.name.to_string();
    ordinals
        .iter()
        .map(|ordinal| {
            let text = texts.get(ordinal).ok_or_else(gone)?.clone();
            Ok((Place { file: file.clone(), line: None, offset: *ordinal }, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_orders_rows_and_finds_them_again() {
        let parts = Parts(vec![(7, "public.a".into()), (9, "public.b".into())]);
        let at = |oid, text| parts.ordinal(oid, parse(text).unwrap());
        let rows = [(7, "(0,1)"), (7, "(0,2)"), (7, "(4294967295,1171)"), (9, "(0,1)")];
        let ordinals: Vec<_> = rows.iter().map(|(oid, t)| at(*oid, t).unwrap()).collect();
        assert!(ordinals.is_sorted_by(|a, b| a < b), "{ordinals:?}");
        let spots: Vec<_> = ordinals.iter().map(|o| parts.spot(*o).unwrap()).collect();
        let name = |oid| if oid == 7 { "public.a" } else { "public.b" };
        assert_eq!(spots, rows.map(|(oid, text)| (name(oid), text.to_owned())));
        assert_eq!(at(8, "(0,1)"), None, "no part of the table");
        assert_eq!(at(7, "(0,2048)"), None, "no place in any block");
    }
}
