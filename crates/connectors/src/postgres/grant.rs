//! The statements that an administrator runs so that a job may do what it needs, and no more.

use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{End, Wanted};

use super::settings::Address;
use super::sql::ident;
use super::{PostgresSettings, ddl};

/// For the user of this name, or the one in the address.
pub(super) fn grants(
    settings: &PostgresSettings,
    role: Option<&str>,
    wanted: &Wanted,
) -> Result<Vec<String>> {
    let address = Address::parse(&settings.url)?;
    let role = role
        .or(address.config.get_user())
        .ok_or_else(|| Error::config("the address names no user").hint("name one with `--role`"))?;
    let (table, reads) = (settings.table()?, wanted.end == End::Source);
    let label = settings.label();
    let mut out = vec![format!("-- {label}: by the owner of the table or a superuser, once.")];
    if let Some(database) = address.config.get_dbname() {
        // Where other writers come first, rows wait in a temporary table.
        let rights = if reads { "CONNECT" } else { "CONNECT, TEMPORARY" };
        let (database, role) = (ident(database)?, ident(role)?);
        out.push(format!("GRANT {rights} ON DATABASE {database} TO {role}"));
    }
    if reads {
        out.extend(ddl::read_grants(&table, role)?);
    } else {
        out.extend(ddl::receipts_ddl());
        out.extend(ddl::grants(&table, role, wanted.write.replaces())?);
    }
    let end = |s: String| if s.starts_with("--") { s } else { format!("{s};") };
    Ok(out.into_iter().map(end).collect())
}
