//! Plan, prove and journal historical loads.
//!
//! This crate knows no database, no SQL engine and no clock, so that the whole of it can be
//! simulated with a seed.

pub mod after;
pub mod calendar;
pub mod columns;
pub mod connector;
pub mod digest;
pub mod env;
pub mod error;
pub mod examine;
pub mod id;
pub mod interval;
pub mod ledger;
pub mod manifest;
pub mod memory;
pub mod names;
pub mod plan;
pub mod planted;
pub mod receipt;
pub mod reject;

pub mod runner;
mod scope;
pub mod spec;
pub mod survey;
pub mod throttle;
