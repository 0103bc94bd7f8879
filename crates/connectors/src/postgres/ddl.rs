//! Statements that create what is needed, and the rights for it.

use retrofill_core::columns::{Column, Columns};
use retrofill_core::error::Result;

use super::kind;
use super::sql::{TableName, ident, idents};

/// The schema with everything of ours.
pub const SCHEMA: &str = "retrofill";
/// The table with a row per committed slice, as SQL has it.
pub const RECEIPTS: &str = "retrofill.receipts";

/// Statements that create the table of receipts; they change nothing where it is there.
pub fn receipts_ddl() -> Vec<String> {
    vec![
        format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}"),
        format!(
            "CREATE TABLE IF NOT EXISTS {RECEIPTS} (\
             relation oid NOT NULL, plan text NOT NULL, slice text NOT NULL, \
             generation bigint NOT NULL, table_name text NOT NULL, \
             from_time timestamptz NOT NULL, to_time timestamptz NOT NULL, \
             proven_at timestamptz NOT NULL DEFAULT pg_catalog.now(), body text, \
             manifest bytea, \
             PRIMARY KEY (relation, plan, slice, generation))"
        ),
    ]
}

/// The statement that creates a table for these columns, in the source's order. The key begins
/// with the key's columns, so that it serves a look at one series too; a second index begins with
/// the time.
pub fn table_ddl(table: &TableName, columns: &Columns, keyed: bool) -> Result<Vec<String>> {
    let mut list: Vec<&Column> = columns.iter().collect();
    list.sort_by_key(|c| c.position);
    let part_of_key =
        |c: &Column| keyed && columns.iter().take(columns.key_width()).any(|k| k.name == c.name);
    let mut parts = Vec::new();
    for column in list {
        let null = if part_of_key(column) { " NOT NULL" } else { "" };
        parts.push(format!("{} {}{null}", ident(&column.name)?, kind::type_sql(column.ty)));
    }
    let time = ident(&columns.time().name)?;
    let mut out = Vec::new();
    if keyed {
        let keys = columns.keys().iter().map(|c| c.name.as_str());
        let names = idents(keys.chain([columns.time().name.as_str()]))?;
        parts.push(format!("PRIMARY KEY ({names})"));
    }
    let sql = table.sql()?;
    out.push(format!("CREATE TABLE IF NOT EXISTS {sql} ({})", parts.join(", ")));
    if !(keyed && columns.keys().is_empty()) {
        out.push(format!("CREATE INDEX ON {sql} ({time})"));
    }
    Ok(out)
}

/// The statement that creates the unique index which a load needs.
pub fn unique_index_ddl(table: &TableName, key: &[&str]) -> Result<String> {
    Ok(format!("CREATE UNIQUE INDEX CONCURRENTLY ON {} ({})", table.sql()?, idents(key.to_vec())?))
}

/// The statement that creates an index which begins with the time.
pub fn time_index_ddl(table: &TableName, time: &str) -> Result<String> {
    Ok(format!("CREATE INDEX CONCURRENTLY ON {} ({})", table.sql()?, ident(time)?))
}

/// The rights that a load of this table needs, and no more. `replaces`: rows are taken out too.
pub fn grants(table: &TableName, role: &str, replaces: bool) -> Result<Vec<String>> {
    let role = ident(role)?;
    let (schema, sql) = (ident(&table.schema)?, table.sql()?);
    let delete = if replaces { ", DELETE" } else { "" };
    Ok(vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT, INSERT{delete} ON {sql} TO {role}"),
        format!("GRANT USAGE ON SCHEMA {SCHEMA} TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE ON {RECEIPTS} TO {role}"),
    ])
}

/// The rights that reading a table needs.
pub fn read_grants(table: &TableName, role: &str) -> Result<Vec<String>> {
    let role = ident(role)?;
    Ok(vec![
        format!("GRANT USAGE ON SCHEMA {} TO {role}", ident(&table.schema)?),
        format!("GRANT SELECT ON {} TO {role}", table.sql()?),
    ])
}

#[cfg(test)]
mod tests {
    use retrofill_core::columns::{ColumnType, Precision, Role};

    use super::*;

    #[test]
    fn a_table_has_the_sources_order_and_a_key() {
        let column = |name: &str, ty, role, position| Column {
            name: name.into(),
            ty,
            role,
            position,
            source: None,
        };
        let columns = Columns::new(vec![
            column("V", ColumnType::Float { bits: 64 }, Role::Value, 0),
            column("t", ColumnType::Instant { unit: Precision::Microsecond }, Role::Time, 1),
            column("id", ColumnType::Text, Role::Key, 2),
        ])
        .unwrap();
        let table = TableName::parse("Grid.r").unwrap();
        assert_eq!(
            table_ddl(&table, &columns, true).unwrap(),
            [
                "CREATE TABLE IF NOT EXISTS \"Grid\".\"r\" (\"V\" double precision, \
                 \"t\" timestamptz NOT NULL, \"id\" text NOT NULL, PRIMARY KEY (\"id\", \"t\"))",
                "CREATE INDEX ON \"Grid\".\"r\" (\"t\")",
            ]
        );
        let plain = table_ddl(&table, &columns, false).unwrap();
        assert!(!plain[0].contains("PRIMARY") && !plain[0].contains("NOT NULL"), "{plain:?}");
    }
}
