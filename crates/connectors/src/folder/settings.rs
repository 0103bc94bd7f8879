//! The settings of `files`, as a spec and a frozen plan hold them.

use std::sync::Arc;

use retrofill_core::connector::Source;
use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;

use crate::columnar::{ColumnarSource, Format};
use crate::files::FileSource;

/// How the files of a folder are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// CSV.
    #[default]
    Csv,
    /// A JSON object a line.
    Ndjson,
    /// Parquet.
    Parquet,
}

/// What the spec says about a folder of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSettings {
    /// The folder; relative paths are relative to the spec.
    pub path: String,
    /// Default: `csv`.
    #[serde(default)]
    pub format: FileFormat,
    /// Stands between the fields of CSV; one ASCII character. Default: `,`.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether each CSV file starts with the names of its columns. Default: true.
    #[serde(default = "yes")]
    pub header: bool,
    /// The zone of times that name none, by its IANA name. Default: `UTC`.
    #[serde(default = "utc")]
    pub timezone: String,
}

fn comma() -> char {
    ','
}

fn yes() -> bool {
    true
}

fn utc() -> String {
    "UTC".into()
}

/// Endings of packed files.
const PACKED: [&str; 4] = [".gz", ".zst", ".bz2", ".xz"];

impl FileFormat {
    /// The name in a spec.
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Csv => "csv",
            FileFormat::Ndjson => "ndjson",
            FileFormat::Parquet => "parquet",
        }
    }

    /// Endings of such files, the usual one first.
    fn endings(self) -> &'static [&'static str] {
        match self {
            FileFormat::Csv => &["csv", "tsv", "txt"],
            FileFormat::Ndjson => &["ndjson", "jsonl", "json"],
            FileFormat::Parquet => &["parquet"],
        }
    }

    /// The ending of a file's name that is one of this format, without what it is packed with.
    /// A name without an ending may be text of any kind.
    fn ending_of(self, name: &str) -> Option<&str> {
        let packed = PACKED.iter().find_map(|p| name.strip_suffix(p));
        let name = packed.filter(|_| self != FileFormat::Parquet).unwrap_or(name);
        match name.rsplit_once('.') {
            Some((_, ending)) => Some(ending).filter(|e| self.endings().contains(e)),
            None if self == FileFormat::Parquet => None,
            None => Some(self.endings()[0]),
        }
    }

    /// An error where the name of a file says that it is something else.
    pub(super) fn check_name(self, name: &str) -> Result<()> {
        if self.ending_of(name).is_some() {
            return Ok(());
        }
        let other = [FileFormat::Csv, FileFormat::Ndjson, FileFormat::Parquet];
        let other = other.into_iter().find(|f| f.ending_of(name).is_some());
        let what = format!("`{name}` in the folder is no {} file by its name", self.name());
        Err(Error::config(what).hint(match other {
            Some(other) => format!("is the folder of `format: {}`?", other.name()),
            None => "readers of the folder would take it for data: move it away, or begin its \
                     name with `_`"
                .into(),
        }))
    }

    /// The ending that a new file gets beside one of this name.
    pub(super) fn ending_like(self, name: Option<&str>) -> String {
        let ending = name.and_then(|name| self.ending_of(name));
        ending.unwrap_or(self.endings()[0]).to_owned()
    }
}

impl FolderSettings {
    /// One file of the folder as a source. What must be sorted or unpacked goes to `state`. A file
    /// that we write ourselves is `plain` whatever its name.
    pub(super) fn source(
        &self,
        (base, name): (&Path, &str),
        state: &Path,
        plain: bool,
    ) -> Result<Arc<dyn Source>> {
        let unusable = |e| Error::bug("the settings of a folder do not fit its source").because(e);
        let compression = if plain { "none" } else { "auto" };
        let mut settings = json!({ "path": name, "timezone": self.timezone });
        Ok(match self.format {
            FileFormat::Csv => {
                settings["delimiter"] = json!(self.delimiter);
                settings["header"] = json!(self.header);
                settings["compression"] = json!(compression);
                let settings = serde_json::from_value(settings).map_err(unusable)?;
                Arc::new(FileSource::open(settings, base, state)?)
            }
            FileFormat::Ndjson => {
                settings["compression"] = json!(compression);
                let settings = serde_json::from_value(settings).map_err(unusable)?;
                Arc::new(FileSource::ndjson(settings, None, base, state)?)
            }
            FileFormat::Parquet => {
                let settings = serde_json::from_value(settings).map_err(unusable)?;
                Arc::new(ColumnarSource::open(Format::Parquet, settings, base, state)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        use FileFormat::{Csv, Ndjson, Parquet};
        for (format, name, ending) in [
            (Csv, "part-00000-c000.csv", Some("csv")),
            (Csv, "a.b.tsv.gz", Some("tsv")),
            (Csv, "part-00000", Some("csv")),
            (Csv, "a.parquet", None),
            (Csv, "README.md", None),
            (Ndjson, "part-0.json", Some("json")),
            (Ndjson, "a.jsonl.zst", Some("jsonl")),
            (Parquet, "a.snappy.parquet", Some("parquet")),
            (Parquet, "a.parquet.gz", None),
            (Parquet, "part-00000", None),
        ] {
            assert_eq!(format.ending_of(name), ending, "{format:?} {name}");
        }
        let hint = Csv.check_name("a.parquet").unwrap_err();
        assert_eq!(hint.hint_text(), Some("is the folder of `format: parquet`?"));
        assert_eq!(Ndjson.ending_like(Some("part-0.json.gz")), "json");
        assert_eq!(Ndjson.ending_like(None), "ndjson");
    }
}
