//! A PostgreSQL table as an end of a job. Its address is a secret: no problem shows it.

use retrofill_connectors::postgres::PostgresSettings;
use retrofill_core::error::Error;
use retrofill_core::spec::Endpoint;
use serde_json::json;

use super::problem::Problem;
use super::raw_ends::{RawPostgresSource, RawPostgresTarget};
use super::read::Field;
use super::tree::{Mark, Node, NodeKind};

/// Whether a text names a PostgreSQL server.
pub(super) fn is_address(text: &str) -> bool {
    ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme))
}

/// An end that is one text.
pub(super) fn from_url(text: &str, mark: Mark, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let settings = PostgresSettings::from_url(text);
    told(settings.and_then(|s| endpoint(&s)), mark, problems)
}

/// A source, ready to open.
pub(super) fn source(raw: &RawPostgresSource, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let mut settings = named(&raw.url, &raw.table, problems)?;
    settings.insecure = raw.insecure.or(false);
    settings.sslrootcert = raw.sslrootcert.get().cloned();
    settings.snapshot = raw.snapshot.or(false);
    told(endpoint(&settings), raw.url.mark, problems)
}

/// A target, ready to open.
pub(super) fn target(raw: &RawPostgresTarget, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let mut settings = named(&raw.url, &raw.table, problems)?;
    settings.insecure = raw.insecure.or(false);
    settings.create_partitions = raw.create_partitions.or(false);
    settings.sslrootcert = raw.sslrootcert.get().cloned();
    told(endpoint(&settings), raw.url.mark, problems)
}

/// Server and table, by two texts or by one.
fn named(
    url: &Field<String>,
    table: &Field<String>,
    problems: &mut Vec<Problem>,
) -> Option<PostgresSettings> {
    let address = url.get()?;
    let settings = match table.get() {
        Some(table) => PostgresSettings::new(address.clone(), table.clone()),
        None if table.is_absent() => PostgresSettings::from_url(address),
        None => return None,
    };
    told(settings, url.mark, problems)
}

fn endpoint(settings: &PostgresSettings) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        connector: "postgres".into(),
        identity: settings.identity()?,
        label: settings.label(),
        settings: json!(settings),
    })
}

pub(super) fn told<T>(
    result: Result<T, Error>,
    mark: Mark,
    problems: &mut Vec<Problem>,
) -> Option<T> {
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

/// Where addresses with a written out password stand, anywhere in a document.
pub(super) fn passwords(root: &Node) -> Vec<Mark> {
    match &root.kind {
        NodeKind::Scalar(scalar) if has_password(&scalar.written) => vec![root.mark],
        NodeKind::List(entries) => entries.iter().flat_map(passwords).collect(),
        NodeKind::Map(entries) => entries.iter().flat_map(|e| passwords(&e.value)).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text is an address whose password is not wholly a reference to the outside. What
/// stands as the default of a reference is written out too.
fn has_password(text: &str) -> bool {
    let schemes = ["postgres://", "postgresql://", "mariadb://", "mysql://"];
    let Some((_, rest)) = schemes.iter().find_map(|s| text.split_once(s)) else {
        return false;
    };
    let bare = without_references(rest);
    let login = bare.split_once('@').map_or("", |(login, _)| login);
    let asked = |pair: &str| pair.strip_prefix("password=").is_some_and(|word| !word.is_empty());
    login.split_once(':').is_some_and(|(_, word)| !word.is_empty())
        || bare.split(['?', '&']).skip(1).any(asked)
}

/// The text without its `${NAME}`; one with a default is left as it is.
pub(super) fn without_references(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inside, behind)) = after.split_once('}') else { break };
        if inside.split_once(":-").is_some_and(|(_, default)| !default.is_empty()) {
            out.push_str(inside);
        }
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_out_password_is_found() {
        for text in [
            "postgres://u:p@h/d",
            "postgresql://u:a${B}@h/d",
            "postgres://u:${P:-word}@h/d",
            "${URL:-postgres://u:p@h/d}",
            "postgres://h/d?user=u&password=p",
            "mariadb://u:p@h/d",
        ] {
            assert!(has_password(text), "{text}");
        }
        for text in [
            "postgres://u@h:5432/d?table=t",
            "postgres://u:${P}@h/d",
            "postgres://u:${P:-}@h:5432/d",
            "postgres://h/d?password=${P}",
            "${URL}",
            "http://u:p@h",
        ] {
            assert!(!has_password(text), "{text}");
        }
    }
}
