//! A file that is read by place alone: clones of a [`File`] share one position, and readers on
//! several threads would move it under each other.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Such a file.
#[derive(Debug, Clone)]
pub(super) struct Placed(Arc<File>);

impl Placed {
    pub(super) fn new(file: File) -> Self {
        Placed(Arc::new(file))
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Fills `to` with the bytes from this place on.
    pub(super) fn fill(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(to, at)
    }

    /// So many bytes from this place on.
    pub(super) fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes, at)?;
        Ok(bytes)
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
        let n = self.file.0.read_at(to, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
