//! The start of a file: its column names, and where its records begin.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::Shared;
use super::chunks::Chunks;
use super::csv::{Cut, Field, LONGEST};
use super::open::{Content, unreadable};

/// The most columns a file may have.
const MOST_COLUMNS: usize = 4096;
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What the start of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    /// First byte behind it.
    pub(super) start: u64,
    /// Line number at `start`.
    pub(super) line: u64,
    /// Hash of the bytes before `start`.
    pub(super) seed: u64,
}

impl Header {
    /// The hash of a block of this file. The header is part of it: other names or another order
    /// of columns would give the same bytes another meaning.
    pub(super) fn hash(&self, block: &[u8]) -> String {
        format!("{:032x}", xxh3_128_with_seed(block, self.seed))
    }

    /// For each of `names` its index here, or an error that tells the difference.
    pub(super) fn order(&self, names: &[String], path: &str, first: &str) -> Result<Vec<usize>> {
        let list = |from: &[String], without: &[String]| {
            let names = from.iter().filter(|n| !without.contains(n));
            names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
        };
        let lacks = list(names, &self.names);
        let more = list(&self.names, names);
        let difference = match (lacks.is_empty(), more.is_empty()) {
            (true, true) => {
                let index = |n| self.names.iter().position(|m| m == n).expect("nothing is missing");
                return Ok(names.iter().map(index).collect());
            }
            (false, true) => format!("lacks {lacks}"),
            (true, false) => format!("has {more} besides"),
            (false, false) => format!("lacks {lacks} and has {more}"),
        };
        Err(Error::config(format!("`{path}` has other columns than `{first}`: it {difference}"))
            .hint("all files of a pattern need the same columns, in any order"))
    }
}

impl Shared {
    /// Opens a file and reads its header; the chunks then start behind it.
    pub(super) fn open_file(
        &self,
        file: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Header, Chunks<Content>)> {
        let content = Content::open(&self.base, self.settings.compression, file, done)?;
        let mut chunks = Chunks::new(content, self.dialect, self.sizes.chunk);
        let header = self.read_header(&mut chunks, &file.path)?;
        chunks.skip(header.start as usize);
        Ok((header, chunks))
    }

    fn read_header<R: Read>(&self, chunks: &mut Chunks<R>, path: &str) -> Result<Header> {
        let mut wanted = 16 << 10;
        loop {
            let (bytes, ended) = chunks.peek(wanted).map_err(|e| unreadable(path, e))?;
            if let Some(header) = self.parse_header(bytes, ended, path)? {
                return Ok(header);
            }
            if ended || bytes.len() > LONGEST {
                return Err(Error::config(format!("`{path}` has no line with text"))
                    .hint("narrow the pattern to leave it out"));
            }
            wanted *= 4;
        }
    }

    /// None where more bytes are needed.
    fn parse_header(&self, bytes: &[u8], ended: bool, path: &str) -> Result<Option<Header>> {
        let first = if bytes.starts_with(MARK) { MARK.len() } else { 0 };
        let (mut at, mut line) = (first, 1);
        let mut fields: Vec<Field> = Vec::new();
        loop {
            fields.clear();
            match self.dialect.cut(bytes, at, ended, |f| fields.push(f)) {
                Cut::More => return Ok(None),
                Cut::Bad { problem, .. } => {
                    let what = format!("`{path}` line {line}: {}", problem.reason());
                    return Err(Error::config(what).hint("the first line decides the columns"));
                }
                Cut::Record { end, next } if end == at && next == bytes.len() && ended => {
                    return Ok(None);
                }
                Cut::Record { end, next } if end == at => {
                    at = next;
                    line += 1;
                }
                Cut::Record { next, .. } => {
                    if !self.settings.header {
                        let names = (1..=fields.len()).map(|n| format!("column_{n}")).collect();
                        return check(path, names, &bytes[..first], 1).map(Some);
                    }
                    line += memchr::memchr_iter(b'\n', &bytes[at..next]).count() as u64;
                    let names = self.names(bytes, &fields, path)?;
                    return check(path, names, &bytes[..next], line).map(Some);
                }
            }
        }
    }

    fn names(&self, bytes: &[u8], fields: &[Field], path: &str) -> Result<Vec<String>> {
        let name = |field: &Field| {
            let value = field.value(bytes, self.dialect.quote).into_owned();
            let name = String::from_utf8(value).map_err(|e| {
                Error::config(format!("the header of `{path}` is not UTF-8"))
                    .because(e)
                    .hint("is it a text file? convert it to UTF-8, or set `compression`")
            })?;
            Ok(name.trim().to_owned())
        };
        fields.iter().map(name).collect()
    }
}

fn check(path: &str, names: Vec<String>, before: &[u8], line: u64) -> Result<Header> {
    if names.len() > MOST_COLUMNS {
        let what = format!("`{path}` has {} columns; {MOST_COLUMNS} are possible", names.len());
        return Err(Error::config(what));
    }
    let hint = "give every column its own name in the header, or set `header: false`";
    if let Some(at) = names.iter().position(String::is_empty) {
        let what = format!("`{path}`: column {} has no name", at + 1);
        return Err(Error::config(what).hint(hint));
    }
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort_unstable();
    if let Some([name, _]) = sorted.array_windows().find(|[a, b]| a == b) {
        let what = format!("`{path}`: column `{name}` occurs twice");
        return Err(Error::config(what).hint(hint));
    }
    Ok(Header { names, start: before.len() as u64, line, seed: xxh3_64(before) })
}
