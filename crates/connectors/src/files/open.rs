//! Finds files by name or pattern and opens them.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use globset::{GlobBuilder, GlobMatcher};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::FileStamp;
use walkdir::WalkDir;

use super::Shared;
use super::encoding::{self, Decoded};
use super::origin::{OpenFile, Origin, Stream, ours};
use super::settings::{CsvSettings, Encoding};
use super::unpack::{self, Damage, Packing, Unpacked};

/// Bytes that tell how a file is encoded.
const MARK: usize = 3;

/// The files of a name or pattern below a directory, in the order of their paths, relative where
/// the pattern is.
pub(super) fn local(base: &Path, pattern: &str) -> Result<Vec<FileStamp>> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    if !pattern.contains(['*', '?', '{', '[']) || base.join(pattern).is_file() {
        return Ok(vec![stamp(base, pattern.to_owned())?]);
    }
    let matcher = matcher(pattern)?;
    // The walk starts at the deepest directory that the pattern names.
    let fixed: PathBuf = Path::new(pattern)
        .iter()
        .take_while(|part| !part.to_string_lossy().contains(['*', '?', '{', '[']))
        .collect();
    let root = base.join(&fixed);
    let hidden = pattern.contains("/.") || pattern.starts_with('.');
    let mut names = Vec::new();
    let walk = WalkDir::new(&root).follow_links(true).min_depth(1).into_iter();
    for entry in walk.filter_entry(|e| {
        e.depth() == 0 || hidden || !e.file_name().to_string_lossy().starts_with('.')
    }) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                let name = e.path().and_then(|path| path.strip_prefix(&root).ok());
                if let Some(name) = name.map(|inside| fixed.join(inside)) {
                    refuse_broken(base, &name, pattern, &matcher)?;
                }
                continue;
            }
            Err(e) => {
                let what = format!("cannot look for `{pattern}` in `{}`", root.display());
                return Err(Error::config(what).because(e));
            }
        };
        let inside = entry.path().strip_prefix(&root).expect("the walk stays below its root");
        let name = fixed.join(inside);
        if !entry.file_type().is_dir() && matcher.is_match(&name) {
            let name = name.into_os_string().into_string().map_err(|name| {
                Error::config(format!("the file name {} is not UTF-8", name.display()))
            })?;
            names.push(name);
        }
    }
    names.sort_unstable();
    if names.is_empty() {
        return Err(Error::config(format!("no file matches `{pattern}` in `{}`", base.display()))
            .hint(
                "`*` stays within a directory, `**` crosses them; paths are relative to the spec",
            ));
    }
    names.into_iter().map(|name| stamp(base, name)).collect()
}

/// A link to nowhere is a file that is missing, or a disk that is not mounted; what was merely
/// removed meanwhile is none.
fn refuse_broken(base: &Path, name: &Path, pattern: &str, matcher: &GlobMatcher) -> Result<()> {
    let deep = pattern.contains("**") || Path::new(pattern).iter().count() > name.iter().count();
    let meant = matcher.is_match(name) || (deep && name.extension().is_none());
    if !meant || !base.join(name).is_symlink() {
        return Ok(());
    }
    let what = format!("`{}` is a link to what is not there", name.display());
    Err(Error::config(what).hint("is a disk not mounted? a narrower pattern leaves it out"))
}

/// What tells whether a path fits a pattern.
pub(super) fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    let glob =
        glob.map_err(|e| Error::config(format!("`{pattern}` is not a pattern")).because(e))?;
    Ok(glob.compile_matcher())
}

fn stamp(base: &Path, path: String) -> Result<FileStamp> {
    let full = base.join(&path);
    let meta = std::fs::metadata(&full).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::config(format!("there is no file `{path}`"))
            .hint(format!("it was looked for at `{}`", full.display())),
        _ => Error::config(format!("cannot look at `{path}`")).because(e),
    })?;
    if meta.is_dir() {
        let name = path.trim_end_matches('/').to_owned();
        return Err(Error::config(format!("`{path}` is a directory"))
            .hint(format!("name its files with a pattern: `{name}/*`")));
    }
    if meta.len() == 0 {
        return Err(
            Error::config(format!("`{path}` is empty")).hint("narrow the pattern to leave it out")
        );
    }
    let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let stamp = changed.map_or_else(String::new, |d| d.as_nanos().to_string());
    Ok(FileStamp { path, size: meta.len(), stamp })
}

/// Checks that a file is compressed in the way that its name (or the setting) says.
pub(super) fn check_magic(settings: &CsvSettings, path: &str, file: &OpenFile) -> Result<()> {
    let checked = unpack::check_magic(settings.compression, path, file.stream(0));
    checked.map_err(|e| unreadable(path, e))?
}

/// Which files begin with the mark of another encoding than UTF-8. Each slice asks that of its
/// files, and each answer takes a request where they lie in a store.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<FileStamp, bool>>);

impl Marks {
    fn has(&self, origin: &Origin, file: &FileStamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(marked) = known.get(file) {
            return *marked;
        }
        drop(known);
        // What cannot be opened is told by whoever reads it.
        let Some(marked) = origin.open(file).ok().and_then(|file| is_marked(&file)) else {
            return false;
        };
        known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(file.clone(), marked);
        marked
    }
}

impl Shared {
    /// Whether any place of a file is found only by reading what is before it: it is compressed,
    /// or not UTF-8.
    pub(super) fn is_stream(&self, file: &FileStamp) -> bool {
        self.settings.encoding != Encoding::Utf8
            || Packing::of(self.settings.compression, &file.path).is_some()
            || self.marks.has(&self.origin, file)
    }
}

/// Whether a file begins with the mark of another encoding than UTF-8; none where it cannot be
/// read.
pub(super) fn is_marked(file: &OpenFile) -> Option<bool> {
    let mut first = Vec::new();
    file.stream(0).take(MARK as u64).read_to_end(&mut first).ok()?;
    Some(encoding::marked(&first).is_some_and(|e| e != Encoding::Utf8))
}

/// A file of the source that is no longer what the survey saw.
pub(crate) fn stale(path: &str, how: &str) -> Error {
    Error::new(Kind::Stale, format!("`{path}` {how}"))
        .hint("the source changed since it was planned; run again with `--replan`")
}

/// A file of the source that cannot be read.
pub(crate) fn unreadable(path: &str, e: io::Error) -> Error {
    if let Some(error) = ours(&e) {
        return error;
    }
    if let Some(damage) = Damage::of(&e) {
        return Error::config(format!("`{path}` {damage}")).hint(damage.hint());
    }
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::config(format!("may not read `{path}`")).because(e)
        }
        _ => Error::unavailable(format!("cannot read `{path}`")).because(e),
    }
}

/// The content of a file from its start, unpacked, as UTF-8.
pub(super) enum Content {
    /// As it stands in the file.
    Plain(io::Take<Counted>),
    /// Made on the way.
    Stream(Box<dyn Read + Send>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Content::Plain(_) => "Plain",
            Content::Stream(_) => "Stream",
        })
    }
}

impl Content {
    /// Opens, and tells how the file is encoded; `done` is told the bytes taken from the file.
    /// What was appended since the file was stamped is not seen.
    pub(super) fn open(
        origin: &Origin,
        settings: &CsvSettings,
        stamp: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Self, Encoding)> {
        Self::of(&origin.open(stamp)?, settings, stamp, done)
    }

    /// The same of a file that is open.
    pub(super) fn of(
        file: &OpenFile,
        settings: &CsvSettings,
        stamp: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Self, Encoding)> {
        let path = &stamp.path;
        let counted = Counted { file: file.stream(0), done }.take(stamp.size);
        let mut first = Vec::new();
        let Some(packing) = Packing::of(settings.compression, path) else {
            first.resize(MARK, 0);
            let n = file.read_near(&mut first, 0).map_err(|e| unreadable(path, e))?;
            let encoding = encoding::actual(settings.encoding, &first[..n], path)?;
            let content = match encoding {
                Encoding::Utf8 => Content::Plain(counted),
                _ => Content::Stream(Box::new(Decoded::new(counted, encoding))),
            };
            return Ok((content, encoding));
        };
        let mut unpacked =
            Unpacked::new(counted, packing, stamp.size).map_err(|e| unreadable(path, e))?;
        read_up_to(&mut unpacked, &mut first, MARK).map_err(|e| unreadable(path, e))?;
        let encoding = encoding::actual(settings.encoding, &first, path)?;
        let whole = Cursor::new(first).chain(unpacked);
        let stream: Box<dyn Read + Send> = match encoding {
            Encoding::Utf8 => Box::new(whole),
            _ => Box::new(Decoded::new(whole, encoding)),
        };
        Ok((Content::Stream(stream), encoding))
    }
}

impl Read for Content {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read(to),
            Content::Stream(stream) => stream.read(to),
        }
    }
}

/// A file that counts what is read from it.
#[derive(Debug)]
pub(super) struct Counted {
    file: Stream,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(to)?;
        self.done.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Appends up to `count` bytes; fewer only at the end.
pub(super) fn read_up_to(
    from: &mut impl Read,
    to: &mut Vec<u8>,
    count: usize,
) -> io::Result<usize> {
    from.by_ref().take(count as u64).read_to_end(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path, pattern: &str) -> Vec<String> {
        local(base, pattern).unwrap().into_iter().map(|f| f.path).collect()
    }

    #[test]
    fn patterns() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/e/.hidden")).unwrap();
        for name in
            ["d/2.csv", "d/10.csv", "d/e/3.csv", "d/e/3.tsv", "d/e/.hidden/4.csv", "d/[x].csv"]
        {
            std::fs::write(dir.path().join(name), "t\n").unwrap();
        }
        assert_eq!(names(dir.path(), "d/*.csv"), ["d/10.csv", "d/2.csv", "d/[x].csv"]);
        assert_eq!(names(dir.path(), "./d/?.csv"), ["d/2.csv"]);
        assert_eq!(names(dir.path(), "d/{2,10}.csv"), ["d/10.csv", "d/2.csv"]);
        assert_eq!(names(dir.path(), "**/3.{csv,tsv}"), ["d/e/3.csv", "d/e/3.tsv"]);
        assert_eq!(names(dir.path(), "d/[x].csv"), ["d/[x].csv"]);
        let absolute = format!("{}/d/e/*.csv", dir.path().display());
        assert_eq!(names(Path::new("/"), &absolute).len(), 1);
    }

    #[test]
    fn a_link_to_nowhere_is_a_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        std::fs::write(dir.path().join("d/1.csv"), "t\n").unwrap();
        let link = |name: &str| std::os::unix::fs::symlink("/nowhere", dir.path().join(name));
        link("d/latest.log").unwrap();
        assert_eq!(names(dir.path(), "d/**/*.csv"), ["d/1.csv"]);
        let refused = |pattern: &str| local(dir.path(), pattern).unwrap_err().to_string();
        link("d/2.csv").unwrap();
        assert!(refused("d/*.csv").contains("`d/2.csv` is a link"), "{}", refused("d/*.csv"));
        std::fs::remove_file(dir.path().join("d/2.csv")).unwrap();
        link("d/e/2019").unwrap();
        assert_eq!(names(dir.path(), "d/*.csv"), ["d/1.csv"]);
        for pattern in ["d/**/*.csv", "d/e/*/*.csv"] {
            assert!(refused(pattern).contains("`d/e/2019` is a link"), "{}", refused(pattern));
        }
    }

    #[test]
    fn what_cannot_be_a_source_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("empty.csv"), "").unwrap();
        for (pattern, what) in [
            ("no.csv", "there is no file `no.csv`"),
            ("*.txt", "no file matches `*.txt`"),
            ("no/*.csv", "no file matches `no/*.csv`"),
            ("d", "`d` is a directory"),
            ("empty.csv", "`empty.csv` is empty"),
            ("{a.csv", "`{a.csv` is not a pattern"),
        ] {
            let error = local(dir.path(), pattern).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.message().starts_with(what), "{error}");
        }
    }
}
