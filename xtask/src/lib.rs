//! The project's task runner: `cargo xtask COMMAND`. The tests of the binary use its generator.

pub mod commands;
pub mod metrics;
pub mod python;
pub mod shell;
pub mod tally;
pub mod tidy;
