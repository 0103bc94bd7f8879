//! Sources and targets; one file or folder each.

pub mod files;
