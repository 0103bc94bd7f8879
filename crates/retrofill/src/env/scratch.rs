//! Files of the state dir: private, durable, and never outside of it.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use retrofill_core::env::Scratch;
use retrofill_core::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Ends the name of a file that is being written; such files are never listed.
const PART: &str = ".part";

/// Scratch files below one directory. Directories get mode 0700, files 0600. No symbolic link
/// is followed below it: each step of a name is opened relative to the one before.
#[derive(Debug, Clone)]
pub struct DirScratch {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    dir: OwnedFd,
    parts: AtomicU64,
}

impl DirScratch {
    /// Opens the directory, creating it (and what is missing above) with mode 0700. One that is
    /// there keeps its mode.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::config(format!("the state dir `{}` cannot be opened", path.display()))
                .because(e)
                .hint("`--state-dir` must name a directory that this user may write to")
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let dir = rustix::fs::open(path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())
            .map_err(|e| failed(e.into()))?;
        let root = Root { path: path.to_owned(), dir, parts: AtomicU64::new(0) };
        Ok(DirScratch { root: Arc::new(root) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(&root))
            .await
            .map_err(|e| Error::bug("work on the state dir ended without a result").because(e))?
    }
}

#[async_trait]
impl Scratch for DirScratch {
    async fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.run(move |root| root.write(&name, &bytes)).await
    }

    async fn append(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.run(move |root| root.append(&name, &bytes)).await
    }

    async fn sync(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |root| root.sync(&name)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.run(move |root| root.rename(&from, &to)).await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.run(move |root| root.read(&name)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |root| root.delete(&name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.run(move |root| root.list(&prefix)).await
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Never waits for the other end of a pipe that somebody put there.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl Root {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (steps, last) = self.split(name)?;
        let dir = self.make_dirs(name, &steps)?;
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = format!(".{last}.{}-{number}{PART}", std::process::id());
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let written = rustix::fs::openat(&dir, &part, flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| Ok(rustix::fs::renameat(&dir, &part, &dir, last)?));
        if let Err(error) = written {
            // It may not exist; what matters is the first error.
            let _ = rustix::fs::unlinkat(&dir, &part, AtFlags::empty());
            return Err(self.failed("written", name, error));
        }
        rustix::fs::fsync(&dir).map_err(|e| self.failed("written", name, e))
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (steps, last) = self.split(name)?;
        let dir = self.make_dirs(name, &steps)?;
        let flags = FILE | OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        rustix::fs::openat(&dir, last, flags, Mode::RUSR | Mode::WUSR)
            .map_err(std::io::Error::from)
            .and_then(|file| File::from(file).write_all(bytes))
            .map_err(|e| self.failed("written", name, e))
    }

    fn sync(&self, name: &str) -> Result<()> {
        let (steps, last) = self.split(name)?;
        let failed = |e: Errno| self.failed("written", name, e);
        let dir = self.find_dir(name, &steps)?.ok_or_else(|| failed(Errno::NOENT))?;
        let file = rustix::fs::openat(&dir, last, FILE | OFlags::RDONLY, Mode::empty());
        rustix::fs::fsync(file.map_err(failed)?).map_err(failed)?;
        rustix::fs::fsync(&dir).map_err(failed)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from_steps, from_last) = self.split(from)?;
        let (to_steps, to_last) = self.split(to)?;
        let failed = |e: Errno| self.failed("renamed", from, e);
        let from_dir = self.find_dir(from, &from_steps)?.ok_or_else(|| failed(Errno::NOENT))?;
        let to_dir = self.make_dirs(to, &to_steps)?;
        rustix::fs::renameat(&from_dir, from_last, &to_dir, to_last).map_err(failed)?;
        rustix::fs::fsync(&to_dir).map_err(failed)?;
        rustix::fs::fsync(&from_dir).map_err(failed)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let (steps, last) = self.split(name)?;
        let Some(dir) = self.find_dir(name, &steps)? else { return Ok(None) };
        let file = match rustix::fs::openat(&dir, last, FILE | OFlags::RDONLY, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.failed("read", name, e)),
        };
        let failed = |e: std::io::Error| self.failed("read", name, e);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(self.no_file(name));
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn delete(&self, name: &str) -> Result<()> {
        let (steps, last) = self.split(name)?;
        let Some(dir) = self.find_dir(name, &steps)? else { return Ok(()) };
        match rustix::fs::unlinkat(&dir, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.failed("deleted", name, e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        // Only the directory that the prefix names can hold what starts with it.
        let above = prefix.rsplit_once('/').map_or("", |(above, _)| above);
        let steps = if above.is_empty() { Vec::new() } else { self.steps(above)? };
        let mut names = Vec::new();
        if let Some(dir) = self.find_dir(prefix, &steps)? {
            let base = if above.is_empty() { String::new() } else { format!("{above}/") };
            self.walk(&dir, &base, prefix, &mut names)?;
        }
        names.sort_unstable();
        Ok(names)
    }

    fn walk(&self, dir: &OwnedFd, base: &str, prefix: &str, into: &mut Vec<String>) -> Result<()> {
        let failed = |e: Errno| self.failed("listed", base, e);
        for entry in Dir::read_from(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(last) = entry.file_name().to_str() else { continue };
            let part = last.starts_with('.') && last.ends_with(PART);
            if matches!(last, "." | "..") || part {
                continue;
            }
            let name = format!("{base}{last}");
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(dir, last, AtFlags::SYMLINK_NOFOLLOW);
                    FileType::from_raw_mode(stat.map_err(failed)?.st_mode)
                }
                known => known,
            };
            let below = format!("{name}/");
            if kind == FileType::RegularFile && name.starts_with(prefix) {
                into.push(name);
            } else if kind == FileType::Directory
                && (below.starts_with(prefix) || prefix.starts_with(&below))
            {
                let dir = rustix::fs::openat(dir, last, DIRECTORY, Mode::empty());
                self.walk(&dir.map_err(failed)?, &below, prefix, into)?;
            }
        }
        Ok(())
    }

    /// The steps of a name; an error of kind `Bug` unless it stays inside.
    fn steps<'a>(&self, name: &'a str) -> Result<Vec<&'a OsStr>> {
        let plain = !name.is_empty() && name.split('/').all(|s| !matches!(s, "" | "." | ".."));
        let steps: Option<Vec<_>> = Path::new(name)
            .components()
            .map(|step| match step {
                Component::Normal(step) => Some(step),
                _ => None,
            })
            .collect();
        steps.filter(|_| plain && !name.contains('\0')).ok_or_else(|| {
            let dir = self.path.display();
            Error::bug(format!("`{}` is no name inside `{dir}`", name.escape_debug()))
        })
    }

    /// The directories of a name and its last step.
    fn split<'a>(&self, name: &'a str) -> Result<(Vec<&'a OsStr>, &'a str)> {
        let mut steps = self.steps(name)?;
        steps.pop();
        Ok((steps, name.rsplit_once('/').map_or(name, |(_, last)| last)))
    }

    /// The directory at the end of the steps, if it is there.
    fn find_dir(&self, name: &str, steps: &[&OsStr]) -> Result<Option<OwnedFd>> {
        let mut dir = self.dir.try_clone().map_err(|e| self.failed("opened", name, e))?;
        for step in steps {
            dir = match rustix::fs::openat(&dir, *step, DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(self.failed("opened", name, e)),
            };
        }
        Ok(Some(dir))
    }

    /// The same, creating what is missing, durably.
    fn make_dirs(&self, name: &str, steps: &[&OsStr]) -> Result<OwnedFd> {
        let failed = |e: Errno| self.failed("written", name, e);
        let mut dir = self.dir.try_clone().map_err(|e| self.failed("written", name, e))?;
        for step in steps {
            match rustix::fs::mkdirat(&dir, *step, Mode::RWXU) {
                Ok(()) => rustix::fs::fsync(&dir).map_err(failed)?,
                Err(Errno::EXIST) => {}
                Err(e) => return Err(failed(e)),
            }
            dir = rustix::fs::openat(&dir, *step, DIRECTORY, Mode::empty()).map_err(failed)?;
        }
        Ok(dir)
    }

    fn no_file(&self, name: &str) -> Error {
        Error::config(format!("`{}` is not a plain file", self.path.join(name).display()))
            .hint("nothing but retrofill may put files there; move it away")
    }

    fn failed(&self, what: &str, name: &str, cause: impl Into<std::io::Error>) -> Error {
        use std::io::ErrorKind as K;
        let cause = cause.into();
        let errno = Errno::from_io_error(&cause);
        if matches!(errno, Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO)) {
            return self.no_file(name).because(cause);
        }
        let message = format!("`{}` cannot be {what}", self.path.join(name).display());
        match cause.kind() {
            K::NotFound | K::PermissionDenied | K::ReadOnlyFilesystem | K::InvalidFilename => {
                Error::config(message).because(cause)
            }
            K::StorageFull | K::QuotaExceeded => {
                Error::unavailable(message).hint("its disk is full").because(cause)
            }
            _ => Error::unavailable(message).because(cause),
        }
    }
}

#[cfg(test)]
mod tests;
