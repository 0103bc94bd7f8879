//! A MariaDB table as the source of a job. Its address is a secret: no problem shows it.

use retrofill_connectors::mariadb::MariadbSettings;
use retrofill_core::error::Error;
use retrofill_core::spec::Endpoint;
use serde_json::json;

use super::postgres::told;
use super::problem::Problem;
use super::raw_ends::RawMariadb;
use super::tree::Mark;

/// A source that is one text.
pub(super) fn from_url(text: &str, mark: Mark, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let settings = MariadbSettings::from_url(text);
    told(settings.and_then(|s| endpoint(&s)), mark, problems)
}

/// A source, ready to open.
pub(super) fn source(raw: &RawMariadb, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let address = raw.url.get()?;
    let named = match raw.table.get() {
        Some(table) => MariadbSettings::new(address.clone(), table.clone()),
        None if raw.table.is_absent() => MariadbSettings::from_url(address),
        None => return None,
    };
    let mut settings = told(named, raw.url.mark, problems)?;
    settings.insecure = raw.insecure.or(false);
    settings.sslrootcert = raw.sslrootcert.get().cloned();
    settings.without = raw.without.or(Vec::new());
    told(endpoint(&settings), raw.url.mark, problems)
}

fn endpoint(settings: &MariadbSettings) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        connector: "mariadb".into(),
        identity: settings.identity()?,
        label: settings.label(),
        settings: json!(settings),
    })
}
