//! A PostgreSQL table as an end of a job. Its address is a secret: no problem shows it.

use retrofill_connectors::postgres::PostgresSettings;
use retrofill_core::error::Error;
use retrofill_core::spec::Endpoint;
use serde_json::json;

use super::problem::Problem;
use super::raw_ends::{RawPostgresSource, RawPostgresTarget};
use super::read::Field;
use super::tree::Mark;

/// Whether a text names a PostgreSQL server.
pub(super) fn is_address(text: &str) -> bool {
    ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme))
}

/// An end that is one text.
pub(super) fn from_url(text: &str, mark: Mark, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let settings = PostgresSettings::from_url(text);
    told(settings.and_then(endpoint), mark, problems)
}

/// What both ends have.
struct Common<'a> {
    url: &'a Field<String>,
    table: &'a Field<String>,
    insecure: &'a Field<bool>,
    sslrootcert: &'a Field<String>,
}

/// A source, ready to open.
pub(super) fn source(raw: &RawPostgresSource, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let RawPostgresSource { url, table, insecure, sslrootcert, columns, snapshot } = raw;
    let mut settings = common(&Common { url, table, insecure, sslrootcert }, problems)?;
    settings.columns = columns.get().cloned();
    if settings.columns.as_ref().is_some_and(Vec::is_empty) {
        problems.push(Problem::at(columns.mark, "`source.postgres.columns` names no column"));
    }
    settings.snapshot = snapshot.or(false);
    told(endpoint(settings), url.mark, problems)
}

/// A target, ready to open.
pub(super) fn target(raw: &RawPostgresTarget, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let RawPostgresTarget { url, table, insecure, sslrootcert, create_partitions } = raw;
    let mut settings = common(&Common { url, table, insecure, sslrootcert }, problems)?;
    settings.create_partitions = create_partitions.or(false);
    told(endpoint(settings), url.mark, problems)
}

fn common(raw: &Common<'_>, problems: &mut Vec<Problem>) -> Option<PostgresSettings> {
    let url = raw.url.get()?;
    let settings = match raw.table.get() {
        Some(table) => PostgresSettings::new(url.clone(), table.clone()),
        None if raw.table.is_absent() => PostgresSettings::from_url(url),
        None => return None,
    };
    let mut settings = told(settings, raw.url.mark, problems)?;
    settings.insecure = raw.insecure.or(false);
    settings.sslrootcert = raw.sslrootcert.get().cloned();
    Some(settings)
}

fn endpoint(settings: PostgresSettings) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        connector: "postgres".into(),
        identity: settings.identity()?,
        label: settings.label(),
        settings: json!(settings),
    })
}

fn told<T>(result: Result<T, Error>, mark: Mark, problems: &mut Vec<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let problem = Problem::at(mark, error.message());
            problems.push(match error.hint_text() {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
            None
        }
    }
}
