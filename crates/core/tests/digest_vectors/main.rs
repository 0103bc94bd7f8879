//! The published test vectors of `retrofill-digest-v1`, and proof that damage is found.

#![allow(clippy::unwrap_used, reason = "a test may stop where it cannot go on")]

mod first;
mod later;
mod published;
