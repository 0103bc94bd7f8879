//! Creating what is not there yet, and checking what is.

use retrofill_core::columns::Columns;
use retrofill_core::error::{Error, Kind, Result};

use super::session::{self, Opening};
use super::{Shared, copy, ddl, kind};

/// One preparation at a time, over all runners of a database.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7310594182661459488)";

/// Names mean the same whatever the session is set to, and nobody waits at length.
const OPENING: Opening = Opening { isolation: "READ COMMITTED", read_only: false, longest: None };

impl Shared {
    /// Creates the table and the receipts, or checks that they fit.
    pub(super) async fn prepare(&self, columns: &Columns) -> Result<()> {
        for column in columns {
            let kept =
                kind::keeps(column.ty).map_err(|e| e.at(format!("column `{}`", column.name)))?;
            if self.newest_table().await?.is_none() && kept != column.ty {
                let what = format!("column `{}` is of no type PostgreSQL has", column.name);
                return Err(Error::bug(what));
            }
        }
        let mut missing = Vec::new();
        if !self.has_receipts().await? {
            missing.extend(ddl::receipts_ddl());
        }
        if self.newest_table().await?.is_none() {
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
