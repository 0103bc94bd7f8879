//! The settings of `parquet`, as a spec and a frozen plan hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::files::Schema;

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
    ///
    /// [`parse_type`]: crate::files::parse_type
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
