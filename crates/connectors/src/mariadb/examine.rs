//! What the server and the table tell before rows are read, and the right that is needed.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::examine::{self, Remark, Wanted};

use super::catalog::{Table, ident};
use super::kind::text;
use super::settings::Address;
use super::{MariadbSettings, Shared, Sight};

/// Looks at server and table; changes nothing.
pub(super) async fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let mut conn = shared.begin().await?;
    let looked = look(shared, &mut conn, wanted).await;
    shared.end(conn).await;
    match looked {
        Err(e) if e.kind() == Kind::Config => Ok(vec![Remark::refused("table", &e)]),
        looked => looked,
    }
}

async fn look(shared: &Shared, conn: &mut Conn, wanted: &Wanted) -> Result<Vec<Remark>> {
    let row: Option<Row> = conn
        .query_first("SELECT VERSION(), @@have_ssl")
        .await
        .map_err(|e| shared.server.unreadable(&e))?;
    let values = row.map(Row::unwrap).unwrap_or_default();
    let version = values.first().and_then(text).unwrap_or_default();
    let mut remarks = vec![if version.contains("MariaDB") {
        Remark::ok("server", version)
    } else {
        Remark::warning("server", format!("{version} is not MariaDB"))
            .hint("it is read as if it were one; that is not tested")
    }];
    let table = Table::look(shared, conn).await?;
    remarks.push(Remark::ok("table", format!("`{}`", shared.settings.table)));
    remarks.extend(examine::table(wanted, &table.fields()));
    let time = &wanted.rows.time;
    let leads = table.leading.contains(time);
    if Sight::new(shared, table, time).is_err() {
        // That has been said.
        return Ok(remarks);
    }
    remarks.push(if leads {
        Remark::ok("time index", format!("an index begins with `{time}`"))
    } else {
        let create = format!(
            "CREATE INDEX {} ON {} ({});",
            ident(&format!("{}_{time}", shared.settings.table)),
            ident(&shared.settings.table),
            ident(time)
        );
        let found = format!("no index begins with `{time}`: each slice reads the whole table");
        Remark::warning("time index", found).hint(create)
    });
    Ok(remarks)
}

/// For the user of this name, or the one in the address.
pub(super) fn grants(settings: &MariadbSettings, role: Option<&str>) -> Result<Vec<String>> {
    let address = Address::parse(&settings.url)?;
    let user = role
        .or(address.user.as_deref())
        .ok_or_else(|| Error::config("the address names no user").hint("name one with `--role`"))?;
    let user = user.replace('\\', "\\\\").replace('\'', "''");
    let (database, table) = (ident(&address.database), ident(&settings.table));
    Ok(vec![
        format!("-- {}: by an administrator, once; `%` is any host.", settings.label()),
        format!("GRANT SELECT ON {database}.{table} TO '{user}'@'%';"),
    ])
}
