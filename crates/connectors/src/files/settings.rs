//! The settings of `csv`, as a spec and a frozen plan hold them.

use std::collections::BTreeMap;
use std::path::Path;

use retrofill_core::error::Result;
use serde::{Deserialize, Serialize};

use super::origin::{Options, Origin};

/// How the files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By the ending of each name: `.gz`, `.zst`, `.bz2`, `.xz`; others are not.
    #[default]
    Auto,
    /// No file is.
    None,
    /// Every file is gzip.
    Gzip,
    /// Every file is zstd.
    Zstd,
    /// Every file is bzip2.
    Bzip2,
    /// Every file is xz.
    Xz,
}

/// What the bytes of a file stand for. Everything is handled as UTF-8: offsets into a file of
/// another encoding count the bytes of its text as UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Encoding {
    /// UTF-8; a file that begins with the mark of UTF-16 is read as that.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, in the byte order of the mark at its begin.
    #[serde(rename = "utf-16")]
    Utf16,
    /// UTF-16, low byte first.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// UTF-16, high byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// Windows-1252.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

impl Encoding {
    /// The name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Utf16 => "utf-16",
            Encoding::Utf16Le => "utf-16le",
            Encoding::Utf16Be => "utf-16be",
            Encoding::Latin1 => "latin-1",
            Encoding::Windows1252 => "windows-1252",
        }
    }
}

/// Which columns the files of one pattern may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// The same, in any order.
    #[default]
    Strict,
    /// Any: all columns of all files are read, NULL where a file lacks one.
    Union,
}

/// The settings of `csv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvSettings {
    /// A file, or a pattern of `*`, `**`, `?`, `[..]` and `{a,b}`; relative to the spec, or an
    /// [`Address`](super::Address). Files are read in the order of their paths. Patterns pass over
    /// hidden files unless they name one.
    pub path: String,
    /// Stands between fields; one ASCII character. Default: `,`.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Stands around fields that hold delimiters, quotes or newlines; one ASCII character.
    /// Default: `"`.
    #[serde(default = "double_quote")]
    pub quote: char,
    /// Whether each file starts with the names of its columns. Without, they are called
    /// `column_1` and so on. Default: true.
    #[serde(default = "yes")]
    pub header: bool,
    /// Words that mean NULL where they stand unquoted, besides the empty field. Default: none.
    #[serde(default)]
    pub null: Vec<String>,
    /// Default: `auto`.
    #[serde(default)]
    pub compression: Compression,
    /// The zone of times that name none, by its IANA name. Default: `UTC`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// How times are written, in the words of strptime. Default: recognised.
    #[serde(default)]
    pub time_format: Option<String>,
    /// Default: `utf-8`.
    #[serde(default)]
    pub encoding: Encoding,
    /// Stands before the fraction of a number: `.` or `,`. Times are not meant. Default: `.`.
    #[serde(default = "point")]
    pub decimal: char,
    /// Default: `strict`.
    #[serde(default)]
    pub schema: Schema,
    /// The types of some columns by name, in the words of [`parse_type`]. Default: found.
    ///
    /// [`parse_type`]: super::parse_type
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    /// Whether directories `name=value` in the path of a file are columns of its rows. Default:
    /// true.
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

impl CsvSettings {
    /// Where the files lie; the path then names files, and no directory of a store.
    pub(super) fn origin(&mut self, base: &Path, endings: &[&str]) -> Result<Origin> {
        Origin::of(base, &mut self.path, &self.options, endings)
    }
}

fn comma() -> char {
    ','
}

fn double_quote() -> char {
    '"'
}

pub(crate) fn yes() -> bool {
    true
}

/// Settings that a spec before them did not have are kept where they say something else.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
pub(crate) fn is_yes(set: &bool) -> bool {
    *set
}

fn utc() -> String {
    "UTC".into()
}

fn point() -> char {
    '.'
}

impl Default for CsvSettings {
    fn default() -> Self {
        CsvSettings {
            path: String::new(),
            delimiter: comma(),
            quote: double_quote(),
            header: yes(),
            null: Vec::new(),
            compression: Compression::Auto,
            timezone: utc(),
            time_format: None,
            encoding: Encoding::Utf8,
            decimal: point(),
            schema: Schema::Strict,
            types: BTreeMap::new(),
            hive: yes(),
            checksums: None,
            options: Options::default(),
        }
    }
}

/// The settings of `ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NdjsonSettings {
    /// See [`CsvSettings::path`].
    pub path: String,
    /// Default: `auto`.
    #[serde(default)]
    pub compression: Compression,
    /// See [`CsvSettings::timezone`].
    #[serde(default = "utc")]
    pub timezone: String,
    /// See [`CsvSettings::time_format`].
    #[serde(default)]
    pub time_format: Option<String>,
    /// Default: `strict`: some object of each file has every key.
    #[serde(default)]
    pub schema: Schema,
    /// See [`CsvSettings::types`].
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    /// See [`CsvSettings::hive`].
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub hive: bool,
    /// See [`CsvSettings::checksums`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<String>,
    /// See [`CsvSettings::options`].
    #[serde(default, skip_serializing)]
    pub options: Options,
}

impl From<NdjsonSettings> for CsvSettings {
    fn from(settings: NdjsonSettings) -> Self {
        let NdjsonSettings {
            path,
            compression,
            timezone,
            time_format,
            schema,
            types,
            hive,
            checksums,
            options,
        } = settings;
        CsvSettings {
            path,
            compression,
            timezone,
            time_format,
            schema,
            types,
            hive,
            checksums,
            options,
            ..CsvSettings::default()
        }
    }
}
