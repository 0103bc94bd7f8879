//! A folder of files as the target of a job.

use retrofill_core::spec::Endpoint;
use serde_json::json;

use super::endpoint::{check_byte, check_path};
use super::problem::Problem;
use super::raw_ends::{RawFileFormat, RawFolder};
use super::resolve::check_zone;

/// A target that is one text: a folder of CSV files.
pub(super) fn from_path(path: &str) -> Endpoint {
    endpoint(path, RawFileFormat::Csv, Vec::new())
}

/// A target, ready to open.
pub(super) fn target(raw: &RawFolder, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let path = raw.path.get()?;
    let format = raw.format.or(RawFileFormat::Csv);
    check_path(path, "target.files.path", raw.path.mark, problems);
    check_byte(&raw.delimiter, "target.files.delimiter", problems);
    check_zone(&raw.timezone, "target.files.timezone", problems);
    if raw.delimiter.get().is_some_and(|d| d == "\"") {
        let message = "`target.files.delimiter` is what quotes a text";
        problems.push(Problem::at(raw.delimiter.mark, message));
    }
    for (name, key) in [("delimiter", raw.delimiter.key), ("header", raw.header.key)] {
        if let Some(mark) = key.filter(|_| format != RawFileFormat::Csv) {
            let message = format!("`target.files.{name}` belongs to `format: csv`");
            problems.push(Problem::at(mark, message));
        }
    }
    let all = [
        ("delimiter", json!(raw.delimiter.or(",".into())), json!(",")),
        ("header", json!(raw.header.or(true)), json!(true)),
        ("timezone", json!(raw.timezone.or("UTC".into())), json!("UTC")),
    ];
    let given = all.into_iter().filter(|(_, value, default)| value != default);
    Some(endpoint(path, format, given.map(|(name, value, _)| (name, value)).collect()))
}

/// Every setting decides what the rows of the folder are, and none is a secret.
fn endpoint(
    path: &str,
    format: RawFileFormat,
    given: Vec<(&'static str, serde_json::Value)>,
) -> Endpoint {
    let mut settings = json!({ "path": path, "format": format.as_str() });
    for (name, value) in given {
        settings[name] = value;
    }
    let label = match format {
        RawFileFormat::Csv => format!("CSV files {path}"),
        RawFileFormat::Ndjson => format!("NDJSON files {path}"),
        RawFileFormat::Parquet => format!("Parquet files {path}"),
    };
    Endpoint { connector: "files".into(), identity: settings.clone(), settings, label }
}
