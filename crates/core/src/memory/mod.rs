//! The whole contract in one place: a source, a target and a journal in memory. To write a
//! connector, read `target.rs`, copy it and rename.

mod journal;
mod load;
mod snapshot;
mod source;
mod target;
mod value;

pub use journal::MemoryJournal;
pub use snapshot::Snapshot;
pub use source::{Line, MemorySource};
pub use target::MemoryTable;
pub use value::{Row, Value, from_batch, time_of, to_batch};
