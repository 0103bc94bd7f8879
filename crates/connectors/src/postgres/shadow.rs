//! A table for trials, in our own schema.

use std::sync::Arc;

use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;

use super::ddl::{RECEIPTS, SCHEMA, receipts_ddl};
use super::sql::{TableName, ident, idents, literal};
use super::{PostgresTarget, Shared, copy};

fn name(tag: &str) -> TableName {
    TableName { schema: SCHEMA.into(), name: format!("trial_{tag}") }
}

/// The numbers that a column gets in place of those of the table's own sequence.
fn numbers(tag: &str, n: usize) -> TableName {
    TableName { schema: SCHEMA.into(), name: format!("trial_{tag}_{n}") }
}

impl Shared {
    /// Creates the shadow with the table's rows of these intervals, and opens it. Foreign keys,
    /// triggers, sequences and partitions are the table's alone.
    pub(super) async fn shadow(
        &self,
        tag: &str,
        time: &str,
        within: &[Interval],
    ) -> Result<PostgresTarget> {
        let shadow = name(tag);
        let mut missing = Vec::new();
        if self.has_receipts().await? {
            self.may_have_shadows().await?;
        } else {
            missing.extend(receipts_ddl());
        }
        if let Some(table) = self.newest_table().await? {
            let (from, to) = (self.name.sql()?, shadow.sql()?);
            missing
                .push(format!("CREATE TABLE {to} (LIKE {from} INCLUDING ALL EXCLUDING IDENTITY)"));
            let counted: Vec<_> = table.columns.iter().filter(|c| c.counted).collect();
            for (n, column) in counted.iter().enumerate() {
                let (numbers, column) = (numbers(tag, n).sql()?, ident(&column.name)?);
                missing.push(format!("CREATE SEQUENCE {numbers} OWNED BY {to}.{column}"));
                missing.push(format!(
                    "ALTER TABLE {to} ALTER {column} SET DEFAULT pg_catalog.nextval({})",
                    literal(&numbers)?
                ));
            }
            let columns = table.columns.iter().filter(|c| !c.generated).map(|c| c.name.as_str());
            let list = idents(columns)?;
            for interval in within {
                let condition = copy::within(&table, time, interval)?;
                missing.push(format!(
                    "INSERT INTO {to} ({list}) OVERRIDING SYSTEM VALUE \
                     SELECT {list} FROM {from} WHERE {condition}"
                ));
            }
            for (n, column) in counted.iter().enumerate() {
                missing.push(format!(
                    "SELECT pg_catalog.setval({}, GREATEST(pg_catalog.max({column}), 1)\
                     ::pg_catalog.int8, pg_catalog.max({column}) > 0) FROM {to}",
                    literal(&numbers(tag, n).sql()?)?,
                    column = ident(&column.name)?
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

    /// An error where the user could not make a shadow, or not take it away again.
    async fn may_have_shadows(&self) -> Result<()> {
        let sql = format!(
            "SELECT current_user WHERE NOT (\
             pg_catalog.has_schema_privilege('{SCHEMA}', 'CREATE') \
             AND pg_catalog.has_table_privilege('{RECEIPTS}', 'DELETE'))"
        );
        let Some(user) = self.server.text(&sql, "cannot ask for rights").await? else {
            return Ok(());
        };
        let user = ident(&user)?;
        let what = format!("a trial needs CREATE on the schema {SCHEMA} and DELETE on {RECEIPTS}");
        Err(Error::config(what).hint(format!(
            "GRANT CREATE ON SCHEMA {SCHEMA} TO {user}; GRANT DELETE ON {RECEIPTS} TO {user};"
        )))
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
