//! A table for trials, in our own schema.

use std::sync::Arc;

use retrofill_core::error::Result;
use retrofill_core::interval::Interval;

use super::ddl::{RECEIPTS, SCHEMA, receipts_ddl};
use super::sql::{TableName, idents, literal};
use super::{PostgresTarget, Shared, copy};

fn name(tag: &str) -> TableName {
    TableName { schema: SCHEMA.into(), name: format!("trial_{tag}") }
}

impl Shared {
    /// Creates the shadow with the table's rows of these intervals, and opens it. Foreign keys,
    /// triggers and partitions are the table's alone.
    pub(super) async fn shadow(
        &self,
        tag: &str,
        time: &str,
        within: &[Interval],
    ) -> Result<PostgresTarget> {
        let shadow = name(tag);
        let mut missing = Vec::new();
        if !self.has_receipts().await? {
            missing.extend(receipts_ddl());
        }
        if let Some(table) = self.newest_table().await? {
            let (from, to) = (self.name.sql()?, shadow.sql()?);
            missing.push(format!("CREATE TABLE {to} (LIKE {from} INCLUDING ALL)"));
            let columns = table.columns.iter().filter(|c| !c.generated).map(|c| c.name.as_str());
            let list = idents(columns)?;
            for interval in within {
                let condition = copy::within(&table, time, interval)?;
                missing.push(format!(
                    "INSERT INTO {to} ({list}) OVERRIDING SYSTEM VALUE \
                     SELECT {list} FROM {from} WHERE {condition}"
                ));
            }
        }
        if !missing.is_empty() {
            self.create(&missing).await?;
        }
        let mut settings = self.settings.clone();
        settings.table = shadow.to_string();
        settings.create_partitions = false;
        // Its paths are absolute by now.
        Ok(PostgresTarget { shared: Arc::new(Shared::open(settings, std::path::Path::new("/"))?) })
    }

    /// Drops the shadow and its receipts.
    pub(super) async fn drop_shadow(&self, tag: &str) -> Result<()> {
        let shadow = name(tag);
        let what = format!("cannot remove {shadow}");
        let regclass = format!("pg_catalog.to_regclass({})", literal(&shadow.sql()?)?);
        if self.server.text(&format!("SELECT {regclass}::oid"), &what).await?.is_none() {
            return Ok(());
        }
        self.create(&[
            format!("DELETE FROM {RECEIPTS} WHERE relation = {regclass}::oid"),
            format!("DROP TABLE IF EXISTS {}", shadow.sql()?),
        ])
        .await
    }
}
