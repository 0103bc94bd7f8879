//! Files that are whole and durable before anyone can see them.
//!
//! Every file is written under a temporary name, made durable, given its real name in one step,
//! and the directory is made durable after that. Temporary names start with a dot: no reader of
//! a Delta table looks at them.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use retrofill_core::error::{Error, Kind};
use retrofill_core::id::hex;

use super::disk::{Disk, DiskWrite};

const TEMPORARY: &str = ".retrofill-";

/// How a file that must not replace another one was put.
#[derive(Debug)]
pub(crate) enum Created {
    /// It is there, durably.
    Done,
    /// The name was taken; nothing was changed.
    Exists,
    /// It is not there, certainly.
    Not(io::Error),
    /// It may be there.
    Unknown(io::Error),
}

/// Durable writing over a disk. All calls block.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    disk: Arc<dyn Disk>,
    /// Directories that are there durably.
    known: Arc<Mutex<HashSet<String>>>,
}

/// A file under its temporary name.
pub(crate) struct Temporary {
    /// Where it lies until it gets its name.
    pub(crate) path: String,
    /// Takes the bytes.
    pub(crate) file: Box<dyn DiskWrite>,
}

/// The directory of a path; empty for a name in the table itself.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a name is one of ours that never became a real one.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// 32 random hex digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex(&bytes))
}

impl Durable {
    /// Over this disk.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Durable { disk, known: Arc::default() }
    }

    /// The disk below.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Makes a directory with its parents, durably. Even one that is there is synced once: its
    /// maker may not have come so far.
    pub(crate) fn ensure_dir(&self, path: &str) -> io::Result<()> {
        let known = |p: &str| self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(p);
        if known(path) {
            return Ok(());
        }
        if path.is_empty() {
            self.disk.create_root()?;
        } else {
            self.ensure_dir(parent(path))?;
            match self.disk.create_dir(path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                other => other?,
            }
            self.disk.sync_dir(parent(path))?;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Ok(())
    }

    /// Begins a file in this directory under a temporary name.
    pub(crate) fn begin(&self, dir: &str) -> io::Result<Temporary> {
        self.ensure_dir(dir)?;
        let begin = || -> io::Result<Temporary> {
            let name = format!("{TEMPORARY}{}.tmp", random_name()?);
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            Ok(Temporary { file: self.disk.create(&path)?, path })
        };
        match begin() {
            // Someone deleted the table under us; the memory of its directories is void.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.ensure_dir(dir)?;
                begin()
            }
            other => other,
        }
    }

    fn written(&self, path: &str, bytes: &[u8]) -> io::Result<String> {
        let mut temporary = self.begin(parent(path))?;
        let done = temporary.file.write_all(bytes).and_then(|()| temporary.file.sync());
        drop(temporary.file);
        if let Err(e) = done {
            self.discard(&temporary.path);
            return Err(e);
        }
        Ok(temporary.path)
    }

    /// Takes away what is no longer wanted, as well as it can be.
    pub(crate) fn discard(&self, path: &str) {
        if let Err(e) = self.disk.remove(path)
            && e.kind() != ErrorKind::NotFound
        {
            tracing::debug!(path = %self.disk.describe(path), error = %e, "left behind");
        }
    }

    /// Gives a durable temporary file its name, unless the name is taken.
    pub(crate) fn publish(&self, temporary: &str, path: &str) -> Created {
        let linked = self.disk.link(temporary, path);
        self.discard(temporary);
        match linked {
            Ok(()) => match self.disk.sync_dir(parent(path)) {
                Ok(()) => Created::Done,
                Err(e) => Created::Unknown(e),
            },
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Created::Exists,
            Err(e) if clean_refusal(&e) => Created::Not(e),
            Err(e) => Created::Unknown(e),
        }
    }

    /// Puts a file that must not replace another one.
    pub(crate) fn create(&self, path: &str, bytes: &[u8]) -> Created {
        match self.written(path, bytes) {
            Ok(temporary) => self.publish(&temporary, path),
            Err(e) => Created::Not(e),
        }
    }

    /// Puts a file, replacing what is there. The name is durable after `sync_dir` of its parent.
    pub(crate) fn replace_unsynced(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.written(path, bytes)?;
        self.disk.rename(&temporary, path).inspect_err(|_| self.discard(&temporary))
    }

    /// Puts a file durably, replacing what is there.
    pub(crate) fn replace(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_unsynced(path, bytes)?;
        self.disk.sync_dir(parent(path))
    }

    /// A failure of the disk as an error that says where.
    pub(crate) fn error(&self, doing: &str, path: &str, cause: io::Error) -> Error {
        let message = format!("cannot {doing} `{}`", self.disk.describe(path));
        match cause.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Error::config(message).hint("check the owner and mode of the table's directory")
            }
            ErrorKind::Unsupported => Error::config(message)
                .hint("the file system must support hard links; place the table on another one"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Error::unavailable(message).hint("the disk is full; make room and run again")
            }
            ErrorKind::FileTooLarge => Error::unavailable(message)
                .hint("no file may become so large here: see `ulimit -f` and the file system"),
            ErrorKind::NotADirectory => Error::config(message)
                .hint("a file stands where the table or a directory above it should be"),
            ErrorKind::InvalidFilename => Error::config(message),
            _ => Error::new(Kind::Unavailable, message),
        }
        .because(cause)
    }
}

/// Failures of `link` that leave nothing behind.
fn clean_refusal(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    fn durable() -> (tempfile::TempDir, Durable) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path().join("a/b"));
        (dir, Durable::new(Arc::new(disk)))
    }

    #[test]
    fn a_created_file_never_replaces_another() {
        let (_dir, durable) = durable();
        assert!(matches!(durable.create("x/y/1", b"one"), Created::Done));
        assert!(matches!(durable.create("x/y/1", b"two"), Created::Exists));
        assert_eq!(durable.disk().read("x/y/1").unwrap(), "one");
        durable.replace("x/y/1", b"three").unwrap();
        assert_eq!(durable.disk().read("x/y/1").unwrap(), "three");
        let names = durable.disk().list("x/y").unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn a_deleted_table_is_made_again() {
        let (dir, durable) = durable();
        assert!(matches!(durable.create("x/1", b"one"), Created::Done));
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert!(matches!(durable.create("x/1", b"one"), Created::Done));
    }
}
