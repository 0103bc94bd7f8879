//! The start of a file: its column names, and where its records begin.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::Shared;
use super::chunks::Chunks;
use super::csv::{Cut, Dialect, Field, Format, LONGEST};
use super::json::Keys;
use super::names::list;
use super::open::{Content, unreadable};
use super::origin::OpenFile;
use super::parts::{PartValues, pairs, seed_of};
use super::settings::{Encoding, Schema};

/// The most columns a file may have.
pub(super) const MOST_COLUMNS: usize = 4096;
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What the start of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    /// First byte behind it.
    pub(super) start: u64,
    /// Line number at `start`.
    pub(super) line: u64,
    /// Hash of the bytes before `start`, and of what the path says.
    pub(super) seed: u64,
    pub(super) encoding: Encoding,
    /// Fields have keys, and `names` is empty unless someone looked for them.
    pub(super) keyed: bool,
}

/// For each column of the source the field in a file, where the file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Option<usize>>", into = "Vec<Option<usize>>")]
pub(super) struct Order {
    /// Behind all fields where the file has none.
    fields: Vec<usize>,
    width: usize,
    /// Where fields have keys: their places.
    keys: Keys,
    /// The columns behind those: alike in all records, as they stand in the file's path.
    parts: PartValues,
}

impl From<Vec<Option<usize>>> for Order {
    fn from(list: Vec<Option<usize>>) -> Self {
        let width = list.iter().flatten().count();
        let fields = list.into_iter().map(|at| at.unwrap_or(usize::MAX)).collect();
        Order { fields, width, ..Order::default() }
    }
}

impl From<Order> for Vec<Option<usize>> {
    fn from(order: Order) -> Self {
        order.fields.into_iter().map(|at| Some(at).filter(|at| *at < usize::MAX)).collect()
    }
}

impl Order {
    /// Of files whose fields have keys: every record has a field for each column.
    pub(super) fn keyed(names: &[String]) -> Self {
        let order = Order::from((0..names.len()).map(Some).collect::<Vec<_>>());
        Order { keys: Keys::new(names), ..order }
    }

    /// The same for a file whose path has these values too.
    pub(super) fn with_parts(self, parts: PartValues) -> Self {
        Order { parts, ..self }
    }

    /// The columns that stand in the file's path.
    pub(super) fn parts(&self) -> &PartValues {
        &self.parts
    }

    /// The value of a column that stands in the file's path: none where it is NULL. None at all
    /// for a column of the file itself.
    #[allow(clippy::option_option, reason = "a NULL of a path is not a column of the file")]
    #[inline]
    pub(super) fn part(&self, column: usize) -> Option<Option<&str>> {
        let at = column.checked_sub(self.fields.len())?;
        Some(self.parts.get(at).and_then(Option::as_deref))
    }

    /// The keys of the columns.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Fields in a record: every field of a file is a column.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The field of a column; an empty one, which is NULL, where the file itself has no such
    /// column.
    #[inline]
    pub(super) fn field(&self, fields: &[Field], column: usize) -> Field {
        self.fields.get(column).and_then(|at| fields.get(*at)).copied().unwrap_or_default()
    }

    /// The fields of all columns of the file itself.
    #[inline]
    pub(super) fn all<'a>(&'a self, fields: &'a [Field]) -> impl Iterator<Item = Field> + 'a {
        self.fields.iter().map(|at| fields.get(*at).copied().unwrap_or_default())
    }
}

/// The columns of a source whose files have these. `Strict` takes those of the first, which all
/// others must then have.
pub(super) fn columns(schema: Schema, files: &[(FileStamp, Header)]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut known = HashSet::new();
    let taken = if schema == Schema::Strict { 1 } else { files.len() };
    for name in files.iter().take(taken).flat_map(|(_, header)| &header.names) {
        if known.insert(name) {
            names.push(name.clone());
        }
    }
    if names.len() > MOST_COLUMNS {
        let what = format!("the files have {} columns in all", names.len());
        return Err(Error::config(what).hint(format!("{MOST_COLUMNS} are possible")));
    }
    Ok(names)
}

impl Header {
    /// The hash of a block of this file. Header and path are part of it: other names, another
    /// order or another directory would give the same bytes another meaning.
    pub(super) fn hash(&self, block: &[u8]) -> String {
        format!("{:032x}", xxh3_128_with_seed(block, self.seed))
    }

    /// Whether a file that begins so has not changed since it was seen to begin like `other`.
    pub(super) fn is_still(&self, other: &Header) -> bool {
        let rest = |h: &Header| (h.start, h.line, h.seed, h.encoding, h.keyed);
        rest(self) == rest(other) && (self.keyed || self.names == other.names)
    }

    /// For each of `names` its field here, or an error that tells the difference.
    pub(super) fn order(
        &self,
        schema: Schema,
        names: &[String],
        path: &str,
        first: &str,
    ) -> Result<Order> {
        if self.keyed {
            return Ok(Order::keyed(names));
        }
        self.check(schema, names, path, first)
    }

    /// The order of fields that have places; an error where the file has other columns.
    pub(super) fn check(
        &self,
        schema: Schema,
        names: &[String],
        path: &str,
        first: &str,
    ) -> Result<Order> {
        let mine: HashMap<_, _> = self.names.iter().enumerate().map(|(i, n)| (n, i)).collect();
        let order: Vec<_> = names.iter().map(|n| mine.get(n).copied()).collect();
        let order = Order::from(order);
        let complete = order.width == names.len() || schema == Schema::Union;
        if complete && order.width == self.names.len() {
            return Ok(order);
        }
        let without = |from: &[String], others: &[String]| {
            let others: HashSet<_> = others.iter().collect();
            list(&from.iter().filter(|n| !others.contains(n)).cloned().collect::<Vec<_>>())
        };
        let lacks = without(names, &self.names);
        let more = without(&self.names, names);
        let difference = match (lacks.is_empty(), more.is_empty()) {
            (false, true) => format!("lacks {lacks}"),
            (true, _) => format!("has {more} besides"),
            (false, false) => format!("lacks {lacks} and has {more}"),
        };
        Err(Error::config(format!("`{path}` has other columns than `{first}`: it {difference}"))
            .hint(
                "give all files the same columns, in any order, or set `schema: union`: \
                 it takes all columns of all files, NULL where a file lacks one",
            ))
    }
}

/// Whether the first line is a JSON object, as no header of CSV is.
fn begins_with_an_object(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    line.starts_with(b"{") && serde_json::from_slice::<Map<String, Value>>(line).is_ok()
}

impl Shared {
    /// Opens a file and reads its header; the chunks then start behind it.
    pub(super) fn open_file(
        &self,
        file: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Header, Chunks<Content>)> {
        self.chunks_of(&self.origin.open(file)?, file, done)
    }

    /// The same of a file that is open.
    pub(super) fn chunks_of(
        &self,
        open: &OpenFile,
        file: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Header, Chunks<Content>)> {
        self.chunks_by(self.sizes.chunk, open, file, done)
    }

    /// The same in chunks of so many bytes.
    pub(super) fn chunks_by(
        &self,
        size: usize,
        open: &OpenFile,
        file: &FileStamp,
        done: Arc<AtomicU64>,
    ) -> Result<(Header, Chunks<Content>)> {
        let (content, encoding) = Content::of(open, &self.settings, file, done)?;
        let mut chunks = Chunks::new(content, self.format, size);
        let header = Header { encoding, ..self.read_header(&mut chunks, &file.path)? };
        let path = if self.settings.hive { pairs(&file.path)? } else { Vec::new() };
        let seed = if path.is_empty() { header.seed } else { seed_of(&path, header.seed) };
        let header = Header { seed, ..header };
        chunks.skip(header.start as usize);
        Ok((header, chunks))
    }

    fn read_header<R: Read>(&self, chunks: &mut Chunks<R>, path: &str) -> Result<Header> {
        let Format::Csv(dialect) = self.format else { return keyed(chunks, path) };
        let mut wanted = 16 << 10;
        loop {
            let (bytes, ended) = chunks.peek(wanted).map_err(|e| unreadable(path, e))?;
            if let Some(header) = self.parse_header(dialect, bytes, ended, path)? {
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
    fn parse_header(
        &self,
        dialect: Dialect,
        bytes: &[u8],
        ended: bool,
        path: &str,
    ) -> Result<Option<Header>> {
        let first = if bytes.starts_with(MARK) { MARK.len() } else { 0 };
        if begins_with_an_object(&bytes[first..]) {
            let hint = "read it as `{ ndjson: { path: ... } }`; its keys are the columns";
            return Err(Error::config(format!("`{path}` is NDJSON, not CSV")).hint(hint));
        }
        let (mut at, mut line) = (first, 1);
        let mut fields: Vec<Field> = Vec::new();
        loop {
            fields.clear();
            match dialect.cut(bytes, at, ended, |f| fields.push(f)) {
                Cut::More => return Ok(None),
                Cut::Bad { problem, .. } => {
                    let what =
                        format!("`{path}` line {line}: {}", problem.reason(Encoding::default()));
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
            let value = field.value(bytes, self.format).into_owned();
            let name = String::from_utf8(value).map_err(|e| {
                Error::config(format!("the header of `{path}` is not UTF-8"))
                    .because(e.utf8_error())
                    .hint("set `encoding: latin-1` or `windows-1252` if it is that")
            })?;
            if name.contains('\0') {
                return Err(Error::config(format!("the header of `{path}` holds a NUL byte"))
                    .hint(
                        "set `encoding: utf-16le` or `utf-16be` if it is that; else, is it text?",
                    ));
            }
            Ok(name.trim().to_owned())
        };
        fields.iter().map(name).collect()
    }
}

/// The start of a file whose fields have keys.
fn keyed<R: Read>(chunks: &mut Chunks<R>, path: &str) -> Result<Header> {
    let (bytes, _) = chunks.peek(MARK.len()).map_err(|e| unreadable(path, e))?;
    let before = if bytes.starts_with(MARK) { MARK } else { &[] };
    let header = check(path, Vec::new(), before, 1)?;
    Ok(Header { keyed: true, ..header })
}

fn check(path: &str, names: Vec<String>, before: &[u8], line: u64) -> Result<Header> {
    if names.len() > MOST_COLUMNS {
        let what = format!("`{path}` has {} columns; {MOST_COLUMNS} are possible", names.len());
        return Err(Error::config(what).hint("is `delimiter` right? else split the columns"));
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
    let (start, encoding) = (before.len() as u64, Encoding::default());
    Ok(Header { names, start, line, seed: xxh3_64(before), encoding, keyed: false })
}
