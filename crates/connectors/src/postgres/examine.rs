//! What can be known of a server and a table before a run.

use retrofill_core::error::{Kind, Result};
use retrofill_core::examine::{self, End, Remark, Wanted};
use retrofill_core::spec::Mode;

use super::catalog::Table;
use super::session::{Opening, Refusal, Texts};
use super::sql::literal;
use super::{Shared, ddl, fit};

/// The oldest release that is known to work.
const OLDEST: u32 = 140_000;

/// Clocks further apart than this make `settle` and the times in receipts mislead.
const SKEW: f64 = 5.0;

/// Looks at everything; changes nothing.
pub(super) async fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let mut remarks = server(shared, wanted).await?;
    // A pooler may know single statements alone.
    match shared.server.begin(&Opening::LOOK.sql()).await {
        Ok((client, _)) => shared.server.roll_back(client).await,
        Err(Refusal::Way(e)) => return Err(e),
        Err(Refusal::Server(e)) => {
            let e = shared.server.fault(&e, "cannot begin a transaction");
            remarks.push(Remark::refused("transactions", &e));
            return Ok(remarks);
        }
    }
    let table = match shared.newest_table().await {
        Ok(table) => table,
        Err(e) if e.kind() == Kind::Config => {
            remarks.push(Remark::refused("table", &e));
            return Ok(remarks);
        }
        Err(e) => return Err(e),
    };
    if wanted.end == End::Target {
        remarks.extend(rights(shared, wanted, table.is_some()).await?);
        remarks.extend(more_rights(shared, table.as_deref()).await?);
        match shared.receipts_fit().await {
            Err(e) if e.kind() == Kind::Config => remarks.push(Remark::refused("receipts", &e)),
            other => other?,
        }
        remarks.push(disk(shared).await?);
    }
    let Some(table) = table else {
        remarks.push(match wanted.end {
            End::Source => Remark::error("table", format!("there is no table {}", shared.name)),
            End::Target => Remark::ok("table", "there is none; the first run creates it"),
        });
        return Ok(remarks);
    };
    remarks.extend(columns(wanted, &table));
    let wanted = &wanted.named_as(&table.read_fields());
    match wanted.end {
        End::Source => {
            remarks.extend(reading(shared, &table).await?);
            remarks.push(time_index(shared, wanted, &table)?);
        }
        End::Target => {
            remarks.extend(writing(shared, wanted, &table)?);
            remarks.push(time_index(shared, wanted, &table)?);
            remarks.extend(unique_index(shared, wanted, &table)?);
        }
    }
    Ok(remarks)
}

impl Shared {
    /// The texts of the one row that the query gives.
    async fn row(&self, sql: &str) -> Result<Texts> {
        let what = format!("cannot look at {}", self.server.label());
        let rows = self.server.ask(sql, &what).await?;
        Ok(rows.into_iter().flatten().next().unwrap_or_default())
    }
}

fn is_true(row: &Texts, at: usize) -> bool {
    row.get(at).and_then(Option::as_deref) == Some("t")
}

fn text(row: &Texts, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

/// The server itself: its release, its clock, whether it takes writes and keeps them.
async fn server(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let row = shared
        .row(
            "SELECT pg_catalog.current_setting('server_version'), \
             pg_catalog.current_setting('server_version_num'), current_user, \
             pg_catalog.pg_is_in_recovery(), \
             pg_catalog.current_setting('default_transaction_read_only') = 'on', \
             pg_catalog.current_setting('fsync') = 'on', \
             pg_catalog.current_setting('full_page_writes') = 'on', \
             extract(epoch FROM pg_catalog.clock_timestamp())",
        )
        .await?;
    let now = jiff::Timestamp::now().as_microsecond() as f64 / 1e6;
    let mut remarks = vec![Remark::ok("connection", format!("as user {}", text(&row, 2)))];
    let version = text(&row, 0);
    remarks.push(match text(&row, 1).parse::<u32>() {
        Ok(number) if number >= OLDEST => Remark::ok("version", version),
        _ => Remark::error("version", format!("{version} is older than 14")),
    });
    remarks.push(skew(text(&row, 7).parse().unwrap_or(now) - now));
    if wanted.end == End::Source {
        return Ok(remarks);
    }
    if is_true(&row, 3) {
        let found = "the server is a standby and takes no writes";
        remarks.push(Remark::error("writes", found).hint("name the primary in the address"));
    } else if is_true(&row, 4) {
        let found = "transactions are read-only by default (default_transaction_read_only)";
        remarks.push(Remark::error("writes", found).hint("change it for the user or the database"));
    } else {
        remarks.push(Remark::ok("writes", "the server takes them"));
    }
    for (at, name) in [(5, "fsync"), (6, "full_page_writes")] {
        if is_true(&row, at) {
            continue;
        }
        let found = "it is off: a power cut can take proven rows, or the whole database, away";
        remarks.push(Remark::warning(name, found).hint(format!("ALTER SYSTEM SET {name} = on")));
    }
    Ok(remarks)
}

fn skew(seconds: f64) -> Remark {
    if seconds.abs() <= SKEW {
        return Remark::ok("clock", format!("{seconds:+.1} s against this machine"));
    }
    let found = format!("the server's clock is {seconds:+.1} s off against this machine's");
    Remark::warning("clock", found).hint("`range.settle` counts by this machine's clock")
}

/// What the user may do, and what an administrator would have to run.
async fn rights(shared: &Shared, wanted: &Wanted, there: bool) -> Result<Vec<Remark>> {
    let (schema, name) = (literal(&shared.name.schema)?, literal(&shared.name.name)?);
    let delete = if wanted.write.replaces() { ", DELETE" } else { "" };
    let row = shared
        .row(&format!(
            "WITH s AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema}), \
             t AS (SELECT c.oid FROM pg_catalog.pg_class c JOIN s ON c.relnamespace = s.oid \
             WHERE c.relname = {name}), \
             r AS (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = 'retrofill' AND c.relname = 'receipts') \
             SELECT (SELECT pg_catalog.has_schema_privilege(oid, 'USAGE') FROM s), \
             (SELECT pg_catalog.has_schema_privilege(oid, 'CREATE') FROM s), \
             (SELECT pg_catalog.has_table_privilege(oid, 'SELECT') FROM t), \
             (SELECT pg_catalog.has_table_privilege(oid, 'INSERT') FROM t), \
             (SELECT pg_catalog.has_table_privilege(oid, 'DELETE') FROM t), \
             EXISTS (SELECT FROM r), \
             (SELECT pg_catalog.has_table_privilege(oid, 'SELECT') \
             AND pg_catalog.has_table_privilege(oid, 'INSERT') \
             AND pg_catalog.has_table_privilege(oid, 'UPDATE') FROM r), \
             (SELECT pg_catalog.has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace \
             WHERE nspname = 'retrofill'), \
             (SELECT pg_catalog.has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace \
             WHERE nspname = 'retrofill'), \
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
             current_user"
        ))
        .await?;
    let may_write = is_true(&row, 2) && is_true(&row, 3) && (delete.is_empty() || is_true(&row, 4));
    let grants = || ddl::grants(&shared.name, text(&row, 10), wanted.write.replaces());
    let mut remarks = vec![match (there, is_true(&row, 0)) {
        (true, true) if may_write => Remark::ok("rights", format!("SELECT, INSERT{delete}")),
        (true, _) => {
            let found = format!("the user lacks SELECT, INSERT{delete} on {}", shared.name);
            Remark::error("rights", found).hint(statements(&grants()?))
        }
        (false, _) if is_true(&row, 1) => Remark::ok("rights", "it may create the table"),
        (false, _) => {
            let found = format!("the user may not create a table in {}", shared.name.schema);
            Remark::error("rights", found).hint("retrofill grants")
        }
    }];
    let schema_there = row.get(7).is_some_and(Option::is_some);
    remarks.push(match (is_true(&row, 5), is_true(&row, 6) && is_true(&row, 7)) {
        (true, true) => Remark::ok("receipts", ddl::RECEIPTS),
        (true, false) => {
            let found = format!("the user lacks SELECT, INSERT, UPDATE on {}", ddl::RECEIPTS);
            Remark::error("receipts", found).hint(statements(&grants()?))
        }
        (false, _) if is_true(&row, 8) || (!schema_there && is_true(&row, 9)) => {
            Remark::ok("receipts", format!("the first run creates {}", ddl::RECEIPTS))
        }
        (false, _) => {
            let found = format!("there is no {}, and the user may not create it", ddl::RECEIPTS);
            Remark::error("receipts", found).hint(statements(&ddl::receipts_ddl()))
        }
    });
    Ok(remarks)
}

/// What some tables and settings need besides.
async fn more_rights(shared: &Shared, table: Option<&Table>) -> Result<Vec<Remark>> {
    let mut remarks = Vec::new();
    let Some(table) = table else { return Ok(remarks) };
    let sql = format!(
        "SELECT pg_catalog.format('GRANT USAGE ON SEQUENCE %I.%I TO %I;', n.nspname, q.relname, \
         current_user) FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend e \
         ON e.objid = f.oid AND e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass \
         JOIN pg_catalog.pg_class q ON q.oid = e.refobjid \
         JOIN pg_catalog.pg_namespace n ON n.oid = q.relnamespace WHERE f.adrelid = {oid} \
         AND CASE q.relkind WHEN 'S' THEN \
         NOT pg_catalog.has_sequence_privilege(q.oid, 'USAGE, UPDATE') END; \
         SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = {oid} AND NOT (\
         pg_catalog.pg_has_role(c.relowner, 'USAGE') \
         AND pg_catalog.has_schema_privilege(c.relnamespace, 'CREATE'))",
        oid = table.oid
    );
    let what = format!("cannot look at {}", shared.server.label());
    let answers = shared.server.ask(&sql, &what).await?;
    for grant in answers.first().into_iter().flatten().flatten().flatten() {
        let found = "the user may not draw the numbers of a column, where the source lacks it";
        remarks.push(Remark::warning("rights", found).hint(grant.clone()));
    }
    let foreign = answers.get(1).is_some_and(|rows| !rows.is_empty());
    if shared.settings.create_partitions && table.is_partitioned() && foreign {
        let found = "`create_partitions` takes the table's owner, with CREATE on its schema";
        let hint = "make the partitions beforehand, or let a member of the owner load";
        remarks.push(Remark::warning("rights", found).hint(hint));
    }
    Ok(remarks)
}

fn statements(list: &[String]) -> String {
    list.iter().map(|s| format!("{s};")).collect::<Vec<_>>().join("\n")
}

/// Space that is left is known to the server's machine alone; what is known is what is there.
async fn disk(shared: &Shared) -> Result<Remark> {
    let row = shared
        .row(
            "SELECT pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(\
             pg_catalog.current_database()))",
        )
        .await?;
    let found = format!("the database takes {}; what is free only the server knows", text(&row, 0));
    Ok(Remark::ok("disk", found))
}

/// The columns that the spec names, and every type.
fn columns(wanted: &Wanted, table: &Table) -> Vec<Remark> {
    if wanted.end == End::Source {
        let mut remarks = examine::table(wanted, &table.read_fields());
        let texts = table.columns.iter().filter(|c| c.read_kind().is_none());
        let found =
            texts.map(|c| format!("`{}`, which is {}, is read as text", c.name, c.type_name));
        remarks.extend(found.map(|found| Remark::warning("types", found)));
        return remarks;
    }
    let mut remarks = examine::table(wanted, &table.fields());
    let mut exact = 0;
    for column in &table.columns {
        match column.kind() {
            Ok(_) => exact += 1,
            Err(e) => {
                let found = format!("{}; it cannot be loaded", e.message());
                remarks.push(Remark::warning("types", found));
            }
        }
    }
    let all = table.columns.len();
    remarks.push(Remark::ok("types", format!("{exact} of {all} columns are kept exactly")));
    remarks
}

/// Whether the user may read, and sees every row.
async fn reading(shared: &Shared, table: &Table) -> Result<Vec<Remark>> {
    let sql =
        format!("SELECT pg_catalog.has_table_privilege({}, 'SELECT'), current_user", table.oid);
    let row = shared.row(&sql).await?;
    let mut remarks = vec![if is_true(&row, 0) {
        Remark::ok("rights", "SELECT")
    } else {
        let found = format!("the user lacks SELECT on {}", shared.name);
        let grants = ddl::read_grants(&shared.name, text(&row, 1))?;
        Remark::error("rights", found).hint(statements(&grants))
    }];
    if table.hides_rows {
        let found = format!("row-level security of {} hides rows from this user", shared.name);
        let hint = "read as the table's owner, or as a role with BYPASSRLS";
        remarks.push(Remark::error("row security", found).hint(hint));
    }
    Ok(remarks)
}

/// What happens to rows on their way in and out.
fn writing(shared: &Shared, wanted: &Wanted, table: &Table) -> Result<Vec<Remark>> {
    let mut remarks: Vec<Remark> = fit::flaws(&shared.name, table)?
        .iter()
        .map(|flaw| Remark::refused("table", flaw))
        .collect();
    if let Err(e) = fit::lets_go(&shared.name, table)
        && wanted.write.replaces()
    {
        remarks.push(Remark::refused("replacing", &e));
    }
    for trigger in table.triggers.iter().filter(|t| t.changes_rows()) {
        let found = format!("`{}` runs before each insert and can change rows", trigger.name);
        let hint = "a changed row is a mismatch; switch the trigger off for the load";
        remarks.push(Remark::warning("trigger", found).hint(hint));
    }
    for trigger in table.triggers.iter().filter(|t| t.follows_rows()) {
        let found = format!("`{}` runs after an insert", trigger.name);
        let hint = "what it does outside of the slice, or to other tables, no proof sees";
        remarks.push(Remark::warning("trigger", found).hint(hint));
    }
    Ok(remarks)
}

/// The index that makes a look at a slice quick.
fn time_index(shared: &Shared, wanted: &Wanted, table: &Table) -> Result<Remark> {
    let time = wanted.rows.time.as_str();
    let leads = |columns: &[Option<String>]| columns.first() == Some(&Some(time.to_owned()));
    if let Some(index) = table.indexes.iter().find(|i| !i.partial && leads(&i.columns)) {
        return Ok(Remark::ok("time index", format!("`{}`", index.name)));
    }
    let found = format!("no index begins with `{time}`: each look reads the whole table");
    let ddl = ddl::time_index_ddl(&shared.name, time)?;
    Ok(Remark::warning("time index", found).hint(format!("{ddl};")))
}

/// The index that keeps doubles out.
fn unique_index(shared: &Shared, wanted: &Wanted, table: &Table) -> Result<Option<Remark>> {
    if wanted.write.mode == Mode::Append {
        return Ok(None);
    }
    // The time in front: the index leads to the rows of a slice too.
    let names = std::iter::once(&wanted.rows.time).chain(wanted.rows.key.iter().flatten());
    let key: Vec<&str> = names.map(String::as_str).collect();
    let inside = |columns: &[Option<String>]| {
        columns.iter().all(|c| c.as_deref().is_some_and(|c| key.contains(&c)))
    };
    let unique = table.indexes.iter().find(|i| i.unique && !i.partial && inside(&i.columns));
    let locks = wanted.write.lock.is_some() || wanted.write.live_writers.is_some();
    Ok(Some(match (fit::accepts_key(&shared.name, table, &key, locks), unique) {
        (Err(e), _) => Remark::refused("unique index", &e),
        (Ok(()), Some(index)) => Remark::ok("unique index", format!("`{}`", index.name)),
        (Ok(()), None) => {
            let found = "none of key and time: nothing in the table keeps doubles out";
            Remark::warning("unique index", found)
                .hint(format!("{};", ddl::unique_index_ddl(&shared.name, &key)?))
        }
    }))
}

#[cfg(test)]
mod tests {
    use retrofill_core::examine::Verdict;

    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(skew(-4.9).verdict, Verdict::Ok);
        let far = skew(-61.0);
        assert_eq!(far.verdict, Verdict::Warning);
        assert!(far.found.contains("-61.0 s"), "{far:?}");
    }
}
