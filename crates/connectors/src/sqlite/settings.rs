//! The settings of `sqlite`, as a spec and a frozen plan hold them.

use std::collections::BTreeMap;

use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What stands before a path in a spec that names its source by one text.
const SCHEME: &str = "sqlite:";

/// A table of an SQLite database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqliteSettings {
    /// The database: a file; relative to the spec.
    pub path: String,
    /// The table.
    pub table: String,
    /// The zone of times that name none, by its IANA name. Default: `UTC`.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub timezone: String,
    /// How times are written that are text, in the words of strptime. Default: recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_format: Option<String>,
    /// The types of some columns by name, in the words of [`parse_type`]. Default: those that are
    /// declared, or those of the values where none is.
    ///
    /// [`parse_type`]: crate::files::parse_type
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
}

fn utc() -> String {
    "UTC".into()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

impl SqliteSettings {
    /// Settings with everything else at its default.
    pub fn new(path: impl Into<String>, table: impl Into<String>) -> Self {
        SqliteSettings {
            path: path.into(),
            table: table.into(),
            timezone: utc(),
            time_format: None,
            types: BTreeMap::new(),
        }
    }

    /// Whether a text names a database and a table, or tries to.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Settings from one text: `sqlite:history.db?table=readings`.
    pub fn from_address(text: &str) -> Result<Self> {
        let named = text.strip_prefix(SCHEME).and_then(|rest| rest.rsplit_once("?table="));
        match named {
            Some((path, table)) if !path.is_empty() && !table.is_empty() => {
                Ok(Self::new(path, table))
            }
            _ => Err(Error::config("the address of the SQLite database names no table")
                .hint("`sqlite:history.db?table=readings`")),
        }
    }

    /// For people: `SQLite history.db readings`.
    pub fn label(&self) -> String {
        format!("SQLite {} {}", self.path, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_names_file_and_table() {
        let of = |text| SqliteSettings::from_address(text).ok();
        assert_eq!(of("sqlite:a/b.db?table=t"), Some(SqliteSettings::new("a/b.db", "t")));
        assert_eq!(of("sqlite:a?table=b?table=t"), Some(SqliteSettings::new("a?table=b", "t")));
        for wrong in ["sqlite:a.db", "sqlite:?table=t", "sqlite:a.db?table=", "a.db?table=t"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_at_its_default_is_not_written() {
        let written = serde_json::to_value(SqliteSettings::new("a.db", "t")).unwrap();
        assert_eq!(written, serde_json::json!({ "path": "a.db", "table": "t" }));
    }
}
