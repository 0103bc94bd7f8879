//! What the `retrofill` binary is made of: the spec, the commands and what they print, the
//! ledger and everything else that needs the outside world.

pub mod changes;
pub mod claim;
pub mod cli;
pub mod config;
pub mod env;
mod estimate;
pub mod job;
pub mod ledger;
pub mod lists;
pub mod look;
pub mod notify;
pub mod random;
pub mod report;
pub mod signals;
pub mod trial;
