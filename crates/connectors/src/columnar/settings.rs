//! The settings of `parquet`, as a spec and a frozen plan hold them.

use std::collections::BTreeMap;

use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::files::{Schema, list, nearest, parse_type};

/// The settings of `parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetSettings {
    /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`; relative to the spec. Files are
    /// read in the order of their paths. Patterns pass over hidden files unless they name one.
    pub path: String,
    /// The zone of times that name none, by its IANA name. Default: `UTC`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// How times are written that are text, in the words of strptime. Default: recognised.
    #[serde(default)]
    pub time_format: Option<String>,
    /// Which columns the files may have. Default: `strict`.
    #[serde(default)]
    pub schema: Schema,
    /// The types of some columns by name, in the words of [`parse_type`]. Default: those of the
    /// files.
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    /// A list of checksums that every file must fit, as `sha256sum`, `sha512sum` or `md5sum` writes
    /// it; relative to the spec. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<String>,
}

fn utc() -> String {
    "UTC".into()
}

impl Default for ParquetSettings {
    fn default() -> Self {
        ParquetSettings {
            path: String::new(),
            timezone: utc(),
            time_format: None,
            schema: Schema::Strict,
            types: BTreeMap::new(),
            checksums: None,
        }
    }
}

impl ParquetSettings {
    /// The types that are given, ready to use.
    pub(super) fn given_types(&self) -> Result<BTreeMap<String, ColumnType>> {
        let parsed = self.types.iter().map(|(name, word)| {
            let ty = parse_type(word)
                .map_err(|e| wrong_type(name, e.at(format!("`types`: `{name}: {word}`"))))?;
            Ok((name.clone(), ty))
        });
        parsed.collect()
    }

    /// Fails where `types` names a column that no file has.
    pub(super) fn check_types(&self, columns: &[String]) -> Result<()> {
        let Some(unknown) = self.types.keys().find(|name| !columns.contains(name)) else {
            return Ok(());
        };
        let hint = match nearest(unknown, columns.iter().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the columns are {}", list(columns)),
        };
        let what = format!("`types` names `{unknown}`, a column that no file has");
        Err(wrong_type(unknown, Error::config(what).hint(hint)))
    }
}

/// An error about the type that is given for a column.
pub(super) fn wrong_type(column: &str, error: Error) -> Error {
    error.about(format!("source.parquet.types.{column}"))
}
