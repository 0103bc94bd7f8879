//! The settings of `parquet`, `arrow` and `avro`, as a spec and a frozen plan hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::files::{Options, Schema, is_yes, yes};

/// How the files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// Arrow IPC files, also called Feather 2.
    Arrow,
    /// Avro object container files.
    Avro,
}

impl Format {
    /// The connector's key in a spec.
    pub(super) fn key(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            Format::Avro => "avro",
        }
    }

    /// How the names of its files end.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Parquet => &["parquet"],
            Format::Arrow => &["arrow", "feather"],
            Format::Avro => &["avro"],
        }
    }

    /// What every file begins with.
    pub(super) fn magic(self) -> &'static [u8] {
        match self {
            Format::Parquet => b"PAR1",
            Format::Arrow => b"ARROW1",
            Format::Avro => b"Obj\x01",
        }
    }

    /// Its name, behind the article.
    pub(super) fn article(self) -> &'static str {
        match self {
            Format::Parquet => "a Parquet",
            Format::Arrow => "an Arrow IPC",
            Format::Avro => "an Avro",
        }
    }
}

/// The settings of files of typed columns, alike for all formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnarSettings {
    /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`; relative to the spec, or an
    /// [`Address`](crate::files::Address). Files are read in the order of their paths. Patterns
    /// pass over hidden files unless they name one.
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
    /// Columns of the files that are left out. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// See [`CsvSettings::hive`]. Default: true.
    ///
    /// [`CsvSettings::hive`]: crate::files::CsvSettings::hive
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub hive: bool,
    /// A list of checksums that every file must fit, as `sha256sum`, `sha512sum` or `md5sum` writes
    /// it; relative to the spec. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<String>,
    /// What the store needs that the files lie in. Never written out: it holds secrets.
    #[serde(default, skip_serializing)]
    pub options: Options,
}

fn utc() -> String {
    "UTC".into()
}

impl Default for ColumnarSettings {
    fn default() -> Self {
        ColumnarSettings {
            path: String::new(),
            timezone: utc(),
            time_format: None,
            schema: Schema::Strict,
            types: BTreeMap::new(),
            without: Vec::new(),
            hive: yes(),
            checksums: None,
            options: Options::default(),
        }
    }
}
