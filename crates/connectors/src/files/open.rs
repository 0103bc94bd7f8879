//! Finds files by name or pattern and opens them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use flate2::read::MultiGzDecoder;
use globset::GlobBuilder;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::survey::FileStamp;
use walkdir::WalkDir;

use super::Compression;

/// How many bytes one compressed byte may become, above the first [`FREE_BYTES`].
const MOST_TIMES: u64 = 100;
/// Bytes that any file may decompress to.
const FREE_BYTES: u64 = 16 << 20;

/// The files of a name or pattern, in the order of their paths, relative where the pattern is.
pub(super) fn find(base: &Path, pattern: &str) -> Result<Vec<FileStamp>> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    if !pattern.contains(['*', '?', '{', '[']) || base.join(pattern).is_file() {
        return Ok(vec![stamp(base, pattern.to_owned())?]);
    }
    let matcher = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|e| Error::config(format!("`{pattern}` is not a pattern")).because(e))?
        .compile_matcher();
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
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => continue,
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
            .hint(format!("name its files with a pattern: `{name}/*.csv`")));
    }
    if meta.len() == 0 {
        return Err(Error::config(format!("`{path}` is empty"))
            .hint("a CSV file has at least its header; narrow the pattern to leave it out"));
    }
    let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let stamp = changed.map_or_else(String::new, |d| d.as_nanos().to_string());
    Ok(FileStamp { path, size: meta.len(), stamp })
}

/// Whether a file of this name is compressed.
pub(super) fn is_gzip(compression: Compression, path: &str) -> bool {
    match compression {
        Compression::Auto => Path::new(path).extension().is_some_and(|e| e == "gz"),
        Compression::None => false,
        Compression::Gzip => true,
    }
}

/// Checks that a file's first bytes say what its name (or the setting) says.
pub(super) fn check_magic(base: &Path, compression: Compression, path: &str) -> Result<()> {
    let mut first = [0; 2];
    let mut file = open_plain(base, path)?;
    let n = file.read(&mut first).map_err(|e| unreadable(path, e))?;
    let magic = n == 2 && first == [0x1f, 0x8b];
    if magic == is_gzip(compression, path) {
        return Ok(());
    }
    let (what, hint) = match (magic, compression) {
        (false, Compression::Auto) => ("ends in `.gz` but is not gzip", "set `compression: none`"),
        (false, _) => ("is not gzip", "leave `compression` out, or set it to `none`"),
        (true, Compression::Auto) => {
            ("is gzip but does not end in `.gz`", "set `compression: gzip`")
        }
        (true, _) => ("is gzip", "leave `compression` out, or set it to `gzip`"),
    };
    Err(Error::config(format!("`{path}` {what}")).hint(hint))
}

/// Opens a file of the source.
pub(super) fn open_plain(base: &Path, path: &str) -> Result<File> {
    File::open(base.join(path)).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => stale(path, "is gone"),
        _ => unreadable(path, e),
    })
}

/// A file of the source that is no longer what the survey saw.
pub(super) fn stale(path: &str, how: &str) -> Error {
    Error::new(Kind::Stale, format!("`{path}` {how}"))
        .hint("the source changed since it was planned; run again with `--replan`")
}

/// A file of the source that cannot be read.
pub(super) fn unreadable(path: &str, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::config(format!("may not read `{path}`")).because(e)
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Error::config(format!("`{path}` is not whole gzip data")).because(e)
        }
        _ => Error::unavailable(format!("cannot read `{path}`")).because(e),
    }
}

/// The content of a file from its start, decompressed.
#[derive(Debug)]
pub(super) enum Content {
    Plain(io::Take<Counted>),
    Gzip { decoder: Box<MultiGzDecoder<Counted>>, given: u64, size: u64 },
}

impl Content {
    /// Opens; `done` is told the bytes taken from the disk. What was appended to a plain file
    /// since it was stamped is not seen.
    pub(super) fn open(
        base: &Path,
        compression: Compression,
        stamp: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<Self> {
        let file = open_plain(base, &stamp.path)?;
        let counted = Counted { file, done };
        if !is_gzip(compression, &stamp.path) {
            return Ok(Content::Plain(counted.take(stamp.size)));
        }
        let decoder = Box::new(MultiGzDecoder::new(counted));
        Ok(Content::Gzip { decoder, given: 0, size: stamp.size })
    }
}

impl Read for Content {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read(to),
            Content::Gzip { decoder, given, size } => {
                let n = decoder.read(to)?;
                *given += n as u64;
                if *given > (*size * MOST_TIMES).max(FREE_BYTES) {
                    let what = format!("it decompresses to more than {MOST_TIMES} times its size");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Ok(n)
            }
        }
    }
}

/// A file that counts what is read from it.
#[derive(Debug)]
pub(super) struct Counted {
    file: File,
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
        find(base, pattern).unwrap().into_iter().map(|f| f.path).collect()
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
            let error = find(dir.path(), pattern).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.message().starts_with(what), "{error}");
        }
    }
}
