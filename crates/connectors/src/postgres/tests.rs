//! Against a real server.

use std::sync::Arc;
use std::time::Duration;

use xtask::servers::Database;

use super::{PostgresSettings, PostgresTarget};

/// A table of this name in a fresh database.
fn target(database: &Database<'_>, table: &str) -> PostgresTarget {
    let settings = PostgresSettings::new(database.url(), table.into()).unwrap();
    let mut target = PostgresTarget::open(settings, std::path::Path::new(".")).unwrap();
    let shared = Arc::get_mut(&mut target.shared).unwrap();
    shared.patience = Duration::from_millis(300);
    target
}

crate::testkit::conformance!(target: || {
    let database = xtask::servers::Postgres::shared().database();
    let target = super::target(&database, "public.readings");
    (std::sync::Arc::new(target) as std::sync::Arc<dyn retrofill_core::connector::Target>, ())
});
