//! Real servers for tests and benches, each in a directory of its own, on a free port, as an
//! unprivileged user. Nothing of them stays: they are stopped and removed when the value is
//! dropped, and when the process that started them is gone without dropping it.

mod find;
mod install;
mod keeper;
mod mariadb;
mod pgbouncer;
mod postgres;
mod proxy;
#[cfg(test)]
mod tests;
mod tls;

pub use find::{PROGRAMS, postgres_dir, program};
pub use install::ensure;
pub use mariadb::{Mariadb, MariadbDatabase};
pub use pgbouncer::Pgbouncer;
pub use postgres::{Database, How, Postgres, Setup};
pub use proxy::{Fault, Proxy, Way};
pub use tls::Certificates;
