//! A file that is read by place alone: readers on several threads share it.

use std::io::{self, Read};

use bytes::Bytes;
use retrofill_core::error::Error;

use crate::files::OpenFile;

/// A stretch of a far file of so many bytes is held in memory while it is looked at: hashed and
/// decoded from what was sent once.
const HELD: u64 = 32 << 20;

/// Such a file.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    file: OpenFile,
    /// What is held of it, and where that begins.
    held: Option<(u64, Bytes)>,
}

impl Placed {
    pub(super) fn new(file: OpenFile) -> Self {
        Placed { file, held: None }
    }

    /// The same with these bytes in memory, where that spares a way over the network.
    pub(super) fn holding(&self, at: u64, length: u64) -> io::Result<Placed> {
        let held = match length {
            1..=HELD if self.file.is_far() => {
                let mut bytes = vec![0; length as usize];
                self.file.fill(&mut bytes, at)?;
                Some((at, bytes.into()))
            }
            _ => None,
        };
        Ok(Placed { file: self.file.clone(), held })
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    /// Why it cannot be read any more, where its store has said so.
    pub(super) fn failure(&self) -> Option<Error> {
        self.file.failure()
    }

    /// What is held from this place on; empty where nothing is.
    fn held(&self, at: u64) -> Bytes {
        let held = self.held.as_ref().and_then(|(start, bytes)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            (from < bytes.len()).then(|| bytes.slice(from..))
        });
        held.unwrap_or_default()
    }

    /// Fills `to` with the bytes from this place on.
    pub(super) fn fill(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        let held = self.held(at);
        if held.len() < to.len() {
            return self.file.near(to, at);
        }
        to.copy_from_slice(&held[..to.len()]);
        Ok(())
    }

    /// So many bytes from this place on.
    pub(super) fn bytes(&self, at: u64, length: usize) -> io::Result<Bytes> {
        let held = self.held(at);
        if held.len() >= length {
            return Ok(held.slice(..length));
        }
        let mut bytes = vec![0; length];
        self.file.near(&mut bytes, at)?;
        Ok(bytes.into())
    }

    /// A reader from this place on.
    pub(super) fn from(&self, at: u64) -> From {
        From { file: self.clone(), at }
    }
}

/// A file from some place on.
#[derive(Debug)]
pub(super) struct From {
    file: Placed,
    at: u64,
}

impl Read for From {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let held = self.file.held(self.at);
        let n = if held.is_empty() {
            self.file.file.read_near(to, self.at)?
        } else {
            let n = to.len().min(held.len());
            to[..n].copy_from_slice(&held[..n]);
            n
        };
        self.at += n as u64;
        Ok(n)
    }
}
