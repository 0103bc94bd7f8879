//! Creating what is not there yet, and checking what is.

use retrofill_core::columns::Columns;
use retrofill_core::error::{Error, Kind, Result};

use super::catalog::{self, Table};
use super::session::{self, Opening};
use super::sql::{NAME, TableName, ident, literal};
use super::{Shared, copy, ddl, fit, kind};

/// One preparation at a time, over all runners of a database.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7310594182661459488)";

/// Names mean the same whatever the session is set to, and nobody waits at length.
const OPENING: Opening = Opening { isolation: "READ COMMITTED", read_only: false, longest: None };

/// The most columns of a table.
const COLUMNS: usize = 1_600;

/// Names that every table has already.
const TAKEN: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// An error where no table can have these columns.
fn can_be_created(columns: &Columns) -> Result<()> {
    if columns.len() > COLUMNS {
        let what = format!("{} columns are more than a table can have", columns.len());
        return Err(Error::config(what).hint(format!("PostgreSQL allows {COLUMNS}")));
    }
    for column in columns {
        let name = &column.name;
        let kept = kind::keeps(column.ty).map_err(|e| e.at(format!("column `{name}`")))?;
        if kept != column.ty {
            return Err(Error::bug(format!("column `{name}` is of no type PostgreSQL has")));
        }
        if name.len() > NAME || TAKEN.contains(&name.as_str()) {
            let why = if name.len() > NAME { "is longer than 63 bytes" } else { "is a system's" };
            return Err(Error::config(format!("the name of column `{name}` {why}"))
                .hint("give it another one by a transform, or create the table first"));
        }
    }
    Ok(())
}

impl Shared {
    /// An error where the table, which is not there yet, could not be created.
    pub(super) async fn can_create(&self, columns: &Columns) -> Result<()> {
        can_be_created(columns)?;
        let schema = &self.name.schema;
        let sql =
            format!("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}", literal(schema)?);
        if self.server.text(&sql, "cannot look for the schema").await?.is_some() {
            return Ok(());
        }
        let create = format!("CREATE SCHEMA {};", ident(schema)?);
        Err(Error::config(format!("there is no schema {schema}")).hint(create))
    }

    /// Creates the table and the receipts, or checks that they fit.
    pub(super) async fn prepare(&self, columns: &Columns) -> Result<()> {
        let there = self.newest_table().await?.is_some();
        if !there {
            can_be_created(columns)?;
        }
        let mut missing = Vec::new();
        if self.has_receipts().await? {
            self.receipts_fit().await?;
        } else {
            missing.extend(ddl::receipts_ddl());
        }
        if !there {
            missing.extend(ddl::table_ddl(&self.name, columns, !columns.keys().is_empty())?);
        }
        if !missing.is_empty() {
            self.create(&missing).await?;
        }
        let table = self
            .newest_table()
            .await?
            .ok_or_else(|| Error::unavailable("the table is gone just after it was created"))?;
        copy::kinds(&table, columns).map(drop)
    }

    /// An error where something else goes by the name of the receipts, or does not keep them.
    pub(super) async fn receipts_fit(&self) -> Result<()> {
        let name = TableName { schema: ddl::SCHEMA.into(), name: "receipts".into() };
        let json = self.server.text(&catalog::query(&name)?, "cannot look at the receipts").await?;
        let Some(json) = json else { return Ok(()) };
        let table = Table::parse(&json)?;
        let unfit = |what: String| {
            Err(Error::config(what).hint(format!(
                "move {name} away and run again: the next run creates it, and proves anew what \
                 it then finds"
            )))
        };
        table.check(&name)?;
        if let Some(flaw) = fit::flaws(&name, &table)?.into_iter().next() {
            return Err(flaw);
        }
        let columns = ["relation", "plan", "slice", "generation", "from_time", "to_time", "body"];
        if let Some(lacks) = columns.iter().find(|c| table.column(c).is_none()) {
            return unfit(format!("{name} has no column `{lacks}`"));
        }
        if !table.has_unique_of(&columns[..4]) {
            return unfit(format!("{name} has no primary key: it cannot keep two loads apart"));
        }
        match table.triggers.iter().find(|t| t.comes_before()) {
            Some(trigger) => unfit(format!("{name} has the trigger `{}`", trigger.name)),
            None => Ok(()),
        }
    }

    pub(super) async fn create(&self, missing: &[String]) -> Result<()> {
        let what = format!("cannot create what is missing in {}", self.server.label());
        let client = self.server.fresh().await?;
        let sql = format!("{}{LOCK}; {}; COMMIT", OPENING.sql(), missing.join("; "));
        match session::ask(&client, &sql).await {
            Ok(_) => {
                self.server.keep(client);
                Ok(())
            }
            Err(e) => {
                let error = self.server.fault(&e, &what);
                self.server.roll_back(client).await;
                Err(match error.kind() {
                    Kind::Config => {
                        error.hint(format!("let somebody who may run: {};", missing.join("; ")))
                    }
                    _ => error,
                })
            }
        }
    }
}
