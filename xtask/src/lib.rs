//! The project's task runner: `cargo xtask COMMAND`. The tests of the other crates use its
//! generator and its servers.

pub mod commands;
pub mod consent;
pub mod metrics;
pub mod need;
pub mod python;
pub mod servers;
pub mod shell;
pub mod tally;
pub mod tidy;
