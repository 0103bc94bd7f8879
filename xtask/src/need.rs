//! What tests need beside a Rust toolchain, and what happens where it is missing.

use std::io::Write as _;

use crate::{python, servers};

/// The variable that turns a skip into a failure: names of needs, separated by commas.
pub const REQUIRE: &str = "RETROFILL_REQUIRE";

/// Something that a test needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The Python packages that read tables.
    Python,
    /// `PostgreSQL` with its clients.
    Postgres,
    /// `PgBouncer`.
    Pgbouncer,
    /// `MariaDB` with its client.
    Mariadb,
}

impl Need {
    /// Everything there is.
    pub const ALL: &[Need] = &[Need::Python, Need::Postgres, Need::Pgbouncer, Need::Mariadb];

    /// The servers.
    pub const SERVERS: &[Need] = &[Need::Postgres, Need::Pgbouncer, Need::Mariadb];

    /// As in `RETROFILL_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Need::Python => "python",
            Need::Postgres => "postgres",
            Need::Pgbouncer => "pgbouncer",
            Need::Mariadb => "mariadb",
        }
    }

    /// Debian's packages, where it has any.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Need::Python => &[],
            Need::Postgres => &["postgresql"],
            Need::Pgbouncer => &["pgbouncer"],
            // Without the one that would make it a service.
            Need::Mariadb => &["mariadb-server-core", "mariadb-client-core"],
        }
    }

    /// Whether it is here.
    pub fn is_here(self) -> bool {
        match self {
            Need::Python => python::found().is_some(),
            Need::Postgres => servers::postgres_dir().is_some(),
            Need::Pgbouncer => servers::program("pgbouncer").is_some(),
            Need::Mariadb => {
                let programs = ["mariadbd", "mariadb", "mariadb-install-db"];
                programs.iter().all(|name| servers::program(name).is_some())
            }
        }
    }
}

/// The needs that are met here, or all of them in CI: the value of [`REQUIRE`] for tests that
/// have just been prepared. A need that is met and then not found is a failure too.
pub fn required() -> String {
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    let met = Need::ALL.iter().filter(|n| ci || n.is_here());
    met.map(|n| n.name()).collect::<Vec<_>>().join(",")
}

/// Whether all of these are here. Where one is not, says on standard output that this test is
/// skipped; it fails where [`REQUIRE`] names it.
///
/// # Panics
/// Where something required is missing.
#[track_caller]
pub fn here(test: &str, needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find(|n| !n.is_here()) else { return true };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    let name = missing.name();
    assert!(!required.split(',').any(|r| r == name), "{test} needs {name}");
    // Not `println!`: the harness would swallow it.
    writeln!(std::io::stdout(), "skipped: {test} ({name})").expect("standard output is open");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_name_of_its_own() {
        let mut names: Vec<_> = Need::ALL.iter().map(|n| n.name()).collect();
        names.dedup();
        assert_eq!(names.len(), Need::ALL.len());
        assert!(Need::SERVERS.iter().all(|n| !n.packages().is_empty()));
    }
}
