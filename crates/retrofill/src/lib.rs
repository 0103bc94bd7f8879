//! What the `retrofill` binary is made of: everything that needs the outside world.

pub mod env;
pub mod ledger;
