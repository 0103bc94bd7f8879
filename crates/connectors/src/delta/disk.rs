//! The few operations of a local disk that durability is made of.
//!
//! Paths are relative to the table, parted by `/`; the table itself is the empty path. All calls
//! block and belong on a blocking thread. Tests put a disk here that loses power.

use std::fmt::Debug;
use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// A disk that holds one table.
pub(crate) trait Disk: Debug + Send + Sync {
    /// The path in words for messages.
    fn describe(&self, path: &str) -> String;
    /// Creates the table's own directory, durably, with its parents.
    fn create_root(&self) -> io::Result<()>;
    /// Creates one directory; its parent is there.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Creates a file; `AlreadyExists` where there is one.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskWrite>>;
    /// Gives a file a second name; `AlreadyExists` where that is taken.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Opens a file for reading.
    fn open(&self, path: &str) -> io::Result<DiskFile>;
    /// The names in a directory, in no order.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;
    /// What is known of one name.
    fn stat(&self, path: &str) -> io::Result<Stat>;

    /// All bytes of a file.
    fn read(&self, path: &str) -> io::Result<Bytes> {
        let file = self.open(path)?;
        file.range(0, file.length)
    }
}

/// A file being written.
pub(crate) trait DiskWrite: Write + Send {
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name.
    pub(crate) name: String,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Bytes.
    pub(crate) length: u64,
    /// Last change.
    pub(crate) modified: SystemTime,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
}

/// Random access to the bytes of an open file.
pub(crate) trait ReadAt: Send + Sync {
    /// Fills the buffer from this offset; `UnexpectedEof` where the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file open for reading, as the Parquet reader takes it.
#[derive(Clone)]
pub(crate) struct DiskFile {
    bytes: Arc<dyn ReadAt>,
    length: u64,
}

impl DiskFile {
    /// A file of this length.
    pub(crate) fn new(bytes: Arc<dyn ReadAt>, length: u64) -> Self {
        DiskFile { bytes, length }
    }

    /// Bytes of the file when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Some bytes of it.
    pub(crate) fn range(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut buffer = vec![0; length as usize];
        self.bytes.read_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }
}

/// Reads a [`DiskFile`] from some offset to its end.
pub(crate) struct Cursor {
    file: DiskFile,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.file.length.saturating_sub(self.at).min(buffer.len() as u64) as usize;
        self.file.bytes.read_at(&mut buffer[..rest], self.at)?;
        self.at += rest as u64;
        Ok(rest)
    }
}

impl Length for DiskFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for DiskFile {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Cursor { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.range(start, length as u64).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The table in this directory, which need not be there.
    pub(crate) fn new(root: PathBuf) -> Self {
        RealDisk { root }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl ReadAt for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl DiskWrite for fs::File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Creates a directory with its parents; each new name is durable before the next is made.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    sync_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

impl Disk for RealDisk {
    fn describe(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn create_root(&self) -> io::Result<()> {
        create_durably(&self.root)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.at(path))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskWrite>> {
        let file = fs::OpenOptions::new().write(true).create_new(true).open(self.at(path))?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.at(from), self.at(to))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        sync_directory(&self.at(path))
    }

    fn open(&self, path: &str) -> io::Result<DiskFile> {
        let file = fs::File::open(self.at(path))?;
        let length = file.metadata()?.len();
        Ok(DiskFile::new(Arc::new(file), length))
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(path))? {
            let entry = entry?;
            // A name that is not UTF-8 was written by none of the programs that share a table.
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
        Ok(entries)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let metadata = fs::metadata(self.at(path))?;
        Ok(Stat {
            length: metadata.len(),
            modified: metadata.modified()?,
            is_dir: metadata.is_dir(),
        })
    }
}
