//! The parts of the retrofill binary: the spec, the commands and what they print.

pub mod cli;
pub mod config;
