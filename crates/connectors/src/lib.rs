//! Sources and targets for retrofill.

pub mod delta;
