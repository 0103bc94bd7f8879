//! The table as the server's catalog tells it.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};

use super::Shared;
use super::kind::{Kind, Told, text};
use crate::files::{check_without, list, unkept};

/// A name as SQL has it.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

/// A table that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// The columns of the primary key, in its order.
    pub(super) key: Vec<String>,
    /// The first column of each index.
    pub(super) leading: Vec<String>,
}

const COLUMNS: &str = "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, \
    CAST(COALESCE(NUMERIC_PRECISION, 0) AS UNSIGNED), \
    CAST(COALESCE(NUMERIC_SCALE, 0) AS UNSIGNED), \
    CAST(COALESCE(DATETIME_PRECISION, 0) AS UNSIGNED), IS_NULLABLE = 'YES' \
    FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? \
    ORDER BY ORDINAL_POSITION";

const INDEXES: &str = "SELECT COLUMN_NAME, INDEX_NAME, CAST(SEQ_IN_INDEX AS UNSIGNED) \
    FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? \
    AND COLUMN_NAME IS NOT NULL ORDER BY INDEX_NAME, SEQ_IN_INDEX";

fn word(values: &[Value], at: usize) -> Option<String> {
    text(values.get(at)?)
}

fn number(values: &[Value], at: usize) -> Option<u64> {
    word(values, at)?.parse().ok()
}

impl Table {
    /// Looks at it. An error of kind `Config` where there is none, or none that can be read.
    pub(super) async fn look(shared: &Shared, conn: &mut Conn) -> Result<Table> {
        let name = &shared.settings.table;
        let failed = |e| shared.server.unreadable(&e);
        let kind = "SELECT TABLE_TYPE FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let kind: Option<String> = conn.exec_first(kind, (name.as_str(),)).await.map_err(failed)?;
        match kind.as_deref() {
            None => return Err(missing(shared, conn).await?),
            Some("BASE TABLE" | "SYSTEM VERSIONED") => {}
            Some(other) => {
                let what = format!("`{name}` is a {}", other.to_lowercase());
                return Err(Error::config(what).hint("name a table"));
            }
        }
        let odd = || Error::bug("the catalog's answer cannot be read");
        let rows: Vec<Row> = conn.exec(COLUMNS, (name.as_str(),)).await.map_err(failed)?;
        let (mut columns, mut odd_types) = (Vec::with_capacity(rows.len()), Vec::new());
        let rows: Vec<Vec<Value>> = rows.into_iter().map(Row::unwrap).collect();
        let names = rows.iter().map(|values| word(values, 0)).collect::<Option<Vec<_>>>();
        let without = &shared.settings.without;
        check_without(without, &names.ok_or_else(odd)?, &format!("`{name}`"))?;
        for values in rows {
            let told = Told {
                base: word(&values, 1).ok_or_else(odd)?.to_lowercase(),
                full: word(&values, 2).ok_or_else(odd)?.to_lowercase(),
                precision: number(&values, 3).ok_or_else(odd)?,
                scale: number(&values, 4).ok_or_else(odd)?,
                second_digits: number(&values, 5).ok_or_else(odd)?,
            };
            let name = word(&values, 0).ok_or_else(odd)?;
            if without.contains(&name) {
                continue;
            }
            let Some(kind) = Kind::of(&told) else {
                odd_types.push((format!("column `{name}` is of type {}", told.full), name));
                continue;
            };
            let nullable = number(&values, 6).ok_or_else(odd)? == 1;
            columns.push(Column { name, kind, nullable });
        }
        let (told, odd_types): (Vec<_>, Vec<_>) = odd_types.into_iter().unzip();
        if let Some(first) = told.into_iter().next() {
            return Err(unkept(first, &odd_types));
        }
        let rows: Vec<Row> = conn.exec(INDEXES, (name.as_str(),)).await.map_err(failed)?;
        let (mut key, mut leading) = (Vec::new(), Vec::new());
        for row in rows {
            let values = row.unwrap();
            let column = word(&values, 0).ok_or_else(odd)?;
            if number(&values, 2) == Some(1) {
                leading.push(column.clone());
            }
            if word(&values, 1).as_deref() == Some("PRIMARY") {
                key.push(column);
            }
        }
        Ok(Table { columns, key, leading })
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The columns for the seam.
    pub(super) fn fields(&self) -> Vec<FieldType> {
        let field = |c: &Column| FieldType::new(c.name.clone(), c.kind.column_type(), c.nullable);
        self.columns.iter().map(field).collect()
    }

    /// The server's hash of a whole row: a number of 64 bits. Each value stands behind its length,
    /// so that no two rows give the same text.
    pub(super) fn hash_sql(&self) -> String {
        let part = |c: &Column| {
            let value = c.kind.hashed_sql(&ident(&c.name));
            format!("COALESCE(CONCAT(LENGTH({value}), ':', {value}), '-')")
        };
        let parts: Vec<_> = self.columns.iter().map(part).collect();
        // A row that is too long for the server to put together has no hash.
        format!(
            "COALESCE(CAST(CONV(LEFT(MD5(CONCAT({})), 16), 16, 10) AS UNSIGNED), 0)",
            parts.join(", ")
        )
    }
}

async fn missing(shared: &Shared, conn: &mut Conn) -> Result<Error> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
               AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME LIMIT 1000";
    let tables: Vec<String> = conn.query(sql).await.map_err(|e| shared.server.unreadable(&e))?;
    let (name, label) = (&shared.settings.table, shared.server.label());
    let error = Error::config(format!("there is no table `{name}` that may be read: {label}"));
    Ok(error.hint(match crate::files::nearest(name, tables.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if tables.is_empty() => "the user may read no table of this database".into(),
        None => format!("its tables are {}", list(&tables)),
    }))
}
