//! A table of an SQLite database as the source of a job.

use retrofill_connectors::sqlite::SqliteSettings;
use retrofill_core::spec::Endpoint;
use serde_json::json;

use super::endpoint::{check_format, check_path, words};
use super::postgres::told;
use super::problem::Problem;
use super::raw_ends::RawSqlite;
use super::resolve::check_zone;
use super::tree::Mark;

/// A source that is one text.
pub(super) fn from_address(
    text: &str,
    mark: Mark,
    problems: &mut Vec<Problem>,
) -> Option<Endpoint> {
    let settings = told(SqliteSettings::from_address(text), mark, problems)?;
    check_path(&settings.path, "source", mark, problems);
    Some(endpoint(&settings))
}

/// A source, ready to open.
pub(super) fn source(raw: &RawSqlite, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    check_zone(&raw.timezone, "source.sqlite.timezone", problems);
    check_format(&raw.time_format, "source.sqlite.time_format", problems);
    let (path, table) = (raw.path.get()?, raw.table.get()?);
    check_path(path, "source.sqlite.path", raw.path.mark, problems);
    if table.is_empty() {
        problems.push(Problem::at(raw.table.mark, "`source.sqlite.table` is empty"));
    }
    let settings = SqliteSettings {
        timezone: raw.timezone.or("UTC".into()),
        time_format: raw.time_format.get().cloned(),
        types: words(&raw.types),
        ..SqliteSettings::new(path, table)
    };
    Some(endpoint(&settings))
}

/// All settings decide which rows are meant, and none is a secret.
fn endpoint(settings: &SqliteSettings) -> Endpoint {
    Endpoint {
        connector: "sqlite".into(),
        identity: json!(settings),
        label: settings.label(),
        settings: json!(settings),
    }
}
