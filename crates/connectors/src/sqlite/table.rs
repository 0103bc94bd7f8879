//! The table as the database declares it, and how its rows are ordered and found again.

use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use rusqlite::{Connection, OptionalExtension as _};

use super::Shared;
use super::cells::{Classes, INTEGER, REAL};
use crate::files::{list, nearest};

/// The names under which a row has its number, unless a column is called so.
const NUMBERS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// A name as SQL has it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// Its type as it is declared; may be empty.
    pub(super) words: String,
    pub(super) nullable: bool,
}

impl Declared {
    /// The one type of its values, by SQLite's own rules for what is declared; none where values
    /// of several classes are at home in it.
    pub(super) fn ty(&self) -> Option<ColumnType> {
        let words = self.words.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        if has(&["INT"]) {
            Some(ColumnType::Integer { bits: 64 })
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Some(ColumnType::Text)
        } else if has(&["BLOB"]) {
            Some(ColumnType::Bytes)
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Some(ColumnType::Float { bits: 64 })
        } else if words.starts_with("BOOL") {
            Some(ColumnType::Bool)
        } else {
            None
        }
    }

    /// What it is called where its values are not as they should be.
    pub(super) fn about(&self) -> String {
        match self.words.as_str() {
            "" => "it is declared without a type".into(),
            words => format!("it is declared {words}"),
        }
    }
}

/// The type of a column whose declaration leaves it open, by the classes of its values; none where
/// no type holds them all.
pub(super) fn by_values(found: Classes) -> Option<ColumnType> {
    Some(match found.0 {
        0 => ColumnType::Text,
        INTEGER => ColumnType::Integer { bits: 64 },
        n if n & !(INTEGER | REAL) == 0 => ColumnType::Float { bits: 64 },
        super::cells::TEXT => ColumnType::Text,
        super::cells::BLOB => ColumnType::Bytes,
        _ => return None,
    })
}

/// What orders the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// Each has a number, under this name.
    Number(&'static str),
    /// A table `WITHOUT ROWID`: by its primary key, as SQL has it.
    Key(String),
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// As SQL has it.
    name: String,
    pub(super) columns: Vec<Declared>,
    order: Order,
}

impl Table {
    /// Looks at the table that the settings name.
    pub(super) fn look(shared: &Shared, connection: &Connection) -> Result<Table> {
        let name = &shared.settings.table;
        let found = connection.query_row(
            "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
            [name],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)),
        );
        let Some((kind, keyed)) = shared.had(found.optional())? else {
            return Err(missing(shared, connection)?);
        };
        if kind != "table" {
            let what = format!("`{name}` of `{}` is a {kind}", shared.settings.path);
            return Err(Error::config(what).hint("name a table: its rows can be found again"));
        }
        let columns = columns(shared, connection)?;
        if let Some(nameless) = columns.iter().position(|c| c.0.name.is_empty()) {
            let what = format!("column {} of `{name}` has no name", nameless + 1);
            return Err(Error::config(what).hint("rename it with ALTER TABLE"));
        }
        let order = if keyed {
            let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).collect();
            key.sort_unstable_by_key(|(_, place)| *place);
            Order::Key(key.iter().map(|(c, _)| ident(&c.name)).collect::<Vec<_>>().join(", "))
        } else {
            let taken = |word: &str| columns.iter().any(|(c, _)| c.name.eq_ignore_ascii_case(word));
            let free = NUMBERS.into_iter().find(|word| !taken(word));
            Order::Number(free.ok_or_else(|| {
                let what = format!("the columns of `{name}` hide the numbers of its rows");
                Error::config(what).hint("rename one of `rowid`, `_rowid_` and `oid`")
            })?)
        };
        let columns = columns.into_iter().map(|(column, _)| column).collect();
        Ok(Table { name: ident(name), columns, order })
    }

    /// Whether rows are known by their number, and not by their place in the order of a key.
    pub(super) fn is_numbered(&self) -> bool {
        matches!(self.order, Order::Number(_))
    }

    /// The rows of a stretch of the order, each behind its number. Two parameters: the first and
    /// the last number; else how many rows are before it, and how many it has.
    pub(super) fn stretch_sql<'a>(&self, names: impl Iterator<Item = &'a str>) -> String {
        let columns: Vec<_> = names.map(ident).collect();
        let columns = columns.join(", ");
        match &self.order {
            Order::Number(id) => format!(
                "SELECT {id}, {columns} FROM {name} WHERE {id} BETWEEN ?1 AND ?2 ORDER BY {id}",
                name = self.name
            ),
            Order::Key(key) => format!(
                "SELECT 0, {columns} FROM {name} ORDER BY {key} LIMIT ?2 OFFSET ?1",
                name = self.name
            ),
        }
    }

    /// The values of one column, in the order of rows.
    pub(super) fn values_sql(&self, column: &str) -> String {
        let column = ident(column);
        let order = match &self.order {
            Order::Number(id) => id,
            Order::Key(key) => key.as_str(),
        };
        format!("SELECT {column} FROM {} WHERE {column} IS NOT NULL ORDER BY {order}", self.name)
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Declared> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|c| c.name.clone()).collect()
    }

    /// The time column. An error says what there is instead.
    pub(super) fn time(&self, shared: &Shared, time: &str) -> Result<&Declared> {
        if let Some(column) = self.column(time) {
            shared.types.check_time(time)?;
            return Ok(column);
        }
        let names = self.names();
        let what = format!("`{}` has no column `{time}`", shared.settings.table);
        let hint = match nearest(time, names.iter().map(String::as_str)) {
            Some(name) => {
                format!("did you mean `{name}`? set `rows.time`; its columns are {}", list(&names))
            }
            None => format!("its columns are {}; set `rows.time` to one of them", list(&names)),
        };
        Err(Error::config(what).hint(hint).about("rows.time"))
    }
}

/// The columns that can be read, each with its place in the primary key, from 1; 0 is none.
fn columns(shared: &Shared, connection: &Connection) -> Result<Vec<(Declared, i64)>> {
    let read = || {
        let mut statement = connection.prepare(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 \
             ORDER BY cid",
        )?;
        let rows = statement.query_map([&shared.settings.table], |row| {
            let name = row.get(0)?;
            let (words, not_null): (String, bool) = (row.get(1)?, row.get(2)?);
            Ok((Declared { name, words, nullable: !not_null }, row.get(3)?))
        })?;
        rows.collect()
    };
    shared.had(read())
}

fn missing(shared: &Shared, connection: &Connection) -> Result<Error> {
    let read = || {
        let mut statement = connection.prepare(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let tables: Vec<String> = shared.had(read())?;
    let name = &shared.settings.table;
    let error = Error::config(format!("`{}` has no table `{name}`", shared.settings.path));
    Ok(error.hint(match nearest(name, tables.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if tables.is_empty() => "there is no table in it".into(),
        None => format!("its tables are {}", list(&tables)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_mean_what_sqlite_takes_them_for() {
        let ty =
            |words: &str| Declared { name: "c".into(), words: words.into(), nullable: true }.ty();
        let whole = Some(ColumnType::Integer { bits: 64 });
        for (words, want) in [
            ("INTEGER", whole),
            ("unsigned bigint", whole),
            ("VARCHAR(20)", Some(ColumnType::Text)),
            ("clob", Some(ColumnType::Text)),
            ("BLOB", Some(ColumnType::Bytes)),
            ("DOUBLE PRECISION", Some(ColumnType::Float { bits: 64 })),
            ("FLOAT", Some(ColumnType::Float { bits: 64 })),
            ("boolean", Some(ColumnType::Bool)),
            ("", None),
            ("NUMERIC(10,2)", None),
            ("DATETIME", None),
            ("STRING", None),
        ] {
            assert_eq!(ty(words), want, "{words}");
        }
    }
}
