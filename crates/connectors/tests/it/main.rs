//! The connectors as a program uses them: one binary, a module per connector.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod delta;
