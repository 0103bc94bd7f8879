//! The statements that an administrator runs so that a job may do what it needs, and no more.

use retrofill_core::error::{Error, Result};
use retrofill_core::examine::Wanted;

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
    let mut out = vec![format!("-- By the owner of {} or a superuser, once.", settings.table()?)];
    if let Some(database) = address.config.get_dbname() {
        out.push(format!("GRANT CONNECT ON DATABASE {} TO {}", ident(database)?, ident(role)?));
        // Where other writers come first, rows wait in a temporary table.
        out.push(format!("GRANT TEMPORARY ON DATABASE {} TO {}", ident(database)?, ident(role)?));
    }
    out.extend(ddl::receipts_ddl());
    out.extend(ddl::grants(&settings.table()?, role, wanted.write.replaces())?);
    let end = |s: String| if s.starts_with("--") { s } else { format!("{s};") };
    Ok(out.into_iter().map(end).collect())
}
