//! Where files of a source lie: in a directory of this machine, or as objects in a store. All
//! other code finds and reads files through here, and knows no difference.
//!
//! Reads of objects wait on the thread that asks. What one reader may hold: 16 MiB that were asked
//! for ahead, or 16 windows of 1 MiB for small reads; and the first 64 KiB.

mod address;
mod fault;
mod object;
mod options;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;

pub use address::{Address, Scheme};
pub(crate) use fault::{is_refusal, ours};
pub use options::Options;

use super::open::{local, stale, unreadable};
use object::Object;
use store::Objects;

/// Where files lie.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In directories; relative paths start here.
    Directory(PathBuf),
    /// In a bucket.
    Objects(Arc<Objects>),
}

impl Origin {
    /// The origin of the files of a path or address. An address that ends with `/` becomes a
    /// pattern of all files of these endings below.
    pub(crate) fn of(
        base: &Path,
        path: &mut String,
        options: &Options,
        endings: &[&str],
    ) -> Result<Self> {
        if !Address::is(path) {
            return Ok(Origin::Directory(base.to_owned()));
        }
        let address = Address::parse(path)?.spread(endings);
        *path = address.to_string();
        Ok(Origin::Objects(Arc::new(Objects::open(&address, options, base)?)))
    }

    /// The files of a name or pattern, in the order of their names, as they are now.
    pub(crate) fn find(&self, pattern: &str) -> Result<Vec<FileStamp>> {
        match self {
            Origin::Directory(base) => local(base, pattern),
            Origin::Objects(objects) => objects.find(pattern),
        }
    }

    /// Opens a file that was found.
    pub(crate) fn open(&self, file: &FileStamp) -> Result<OpenFile> {
        let path = &file.path;
        match self {
            Origin::Directory(base) => match fs::File::open(base.join(path)) {
                Ok(file) => Ok(OpenFile::Local(Arc::new(file))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Err(stale(path, "is gone")),
                Err(e) => Err(unreadable(path, e)),
            },
            Origin::Objects(objects) => Ok(OpenFile::Object(Arc::new(objects.object(file)?))),
        }
    }

    /// A list of checksums. A path starts where the files' paths do; for objects it is an address.
    pub(crate) fn list(&self, name: &str) -> Result<String> {
        let bytes = match self {
            Origin::Directory(base) => fs::read(base.join(name)).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::config(format!("there is no file `{name}`"))
                    .hint("it is looked for beside the spec; see `checksums`"),
                _ => Error::config(format!("cannot read `{name}`")).because(e),
            })?,
            Origin::Objects(objects) => objects.text(name)?,
        };
        String::from_utf8(bytes)
            .map_err(|e| Error::config(format!("cannot read `{name}`")).because(e))
    }

    /// What all names begin with: nothing, or the address of the bucket.
    pub(crate) fn root(&self) -> &str {
        match self {
            Origin::Directory(_) => "",
            Origin::Objects(objects) => objects.root(),
        }
    }
}

/// An open file.
#[derive(Debug, Clone)]
pub(crate) enum OpenFile {
    /// Of this machine.
    Local(Arc<fs::File>),
    /// In a store.
    Object(Arc<Object>),
}

impl OpenFile {
    /// Bytes that it has now; an object never has others than were found.
    pub(crate) fn length(&self) -> io::Result<u64> {
        match self {
            OpenFile::Local(file) => Ok(file.metadata()?.len()),
            OpenFile::Object(object) => Ok(object.length()),
        }
    }

    /// Fills `to` with the bytes from this place on.
    pub(crate) fn fill(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            OpenFile::Local(file) => file.read_exact_at(to, at),
            OpenFile::Object(object) => object.fill(to, at),
        }
    }

    /// The same, one of many small reads.
    pub(crate) fn near(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            OpenFile::Local(file) => file.read_exact_at(to, at),
            OpenFile::Object(object) => object.near(to, at),
        }
    }

    /// Some bytes from this place on; none at the end.
    pub(crate) fn read_near(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            OpenFile::Local(file) => file.read_at(to, at),
            OpenFile::Object(object) => {
                let n = (to.len() as u64).min(object.length().saturating_sub(at)) as usize;
                object.near(&mut to[..n], at)?;
                Ok(n)
            }
        }
    }

    /// A reader from this place on.
    pub(crate) fn stream(&self, at: u64) -> Stream {
        match self {
            OpenFile::Local(file) => Stream::Local(Arc::clone(file), at),
            OpenFile::Object(object) => Stream::Object(object::Stream::new(object.clone(), at)),
        }
    }

    /// What kept it from being read, where a reader of its format has lost that.
    pub(crate) fn failure(&self) -> Option<Error> {
        match self {
            OpenFile::Local(_) => None,
            OpenFile::Object(object) => object.failure(),
        }
    }

    /// Whether each read goes over a network.
    pub(crate) fn is_far(&self) -> bool {
        matches!(self, OpenFile::Object(_))
    }
}

/// A file from some place on, in order.
#[derive(Debug)]
pub(crate) enum Stream {
    /// By place: clones of a file share one position.
    Local(Arc<fs::File>, u64),
    /// With what comes next on its way.
    Object(object::Stream),
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Local(file, at) => {
                let n = file.read_at(to, *at)?;
                *at += n as u64;
                Ok(n)
            }
            Stream::Object(stream) => stream.read(to),
        }
    }
}
