//! One object, read by ranges. Every request holds the version that was found: other bytes are
//! never taken for those that were planned.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;

use super::address::Scheme;
use super::fault::{Faults, io};
use super::store::Coming;
use crate::files::stale;

/// First bytes that are read at once and kept: marks, headers, small files.
const HEAD: u64 = 64 << 10;
/// Bytes of a request.
const PIECE: u64 = 4 << 20;
/// Requests that are under way at once, for one reader.
const AHEAD: usize = 4;
/// Windows that small reads are served from, and the bytes of the smallest and the largest.
const WINDOWS: usize = 16;
const SMALL: u64 = 64 << 10;
const LARGE: u64 = 1 << 20;

/// What tells one content of an object from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// Its tag, as the store writes it.
    Tag(String),
    /// When it was changed, where the store gives no tag.
    Changed(String),
}

impl Version {
    pub(super) fn of(meta: &ObjectMeta, scheme: Scheme) -> Self {
        match &meta.e_tag {
            // Lists of Azure, and some servers, leave out the quotes that a request needs.
            Some(tag) if matches!(scheme, Scheme::Az | Scheme::Gs) && !tag.contains('"') => {
                Version::Tag(format!("\"{tag}\""))
            }
            Some(tag) => Version::Tag(tag.clone()),
            None => Version::Changed(meta.last_modified.to_rfc3339()),
        }
    }

    pub(super) fn parse(stamp: &str) -> Self {
        match stamp.strip_prefix("changed ") {
            Some(time) => Version::Changed(time.to_owned()),
            None => Version::Tag(stamp.to_owned()),
        }
    }

    /// What a request may ask for. A weak tag never matches there.
    fn condition(&self) -> Option<String> {
        match self {
            Version::Tag(tag) if !tag.starts_with("W/") => Some(tag.clone()),
            _ => None,
        }
    }

    /// Whether an answer is about it; servers may pass over the condition.
    fn is(&self, meta: &ObjectMeta) -> bool {
        let bare = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_owned();
        match (self, &meta.e_tag) {
            (Version::Tag(tag), Some(now)) => bare(tag) == bare(now),
            (Version::Tag(_), None) => false,
            (Version::Changed(time), _) => *time == meta.last_modified.to_rfc3339(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => f.write_str(tag),
            Version::Changed(time) => write!(f, "changed {time}"),
        }
    }
}

/// An object as it was when it was found.
pub(crate) struct Object {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) location: Path,
    pub(super) version: Version,
    pub(super) file: FileStamp,
    pub(super) faults: Faults,
    /// Kept for as long as the object is open: whoever opens it anew asks anew, and is told where
    /// it was replaced.
    pub(super) head: OnceLock<Bytes>,
    pub(super) windows: Mutex<VecDeque<(u64, Bytes)>>,
    pub(super) failure: OnceLock<Error>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.file.path)
    }
}

/// Bytes that were asked for.
type Asked = Coming<Result<Bytes>>;

impl Object {
    pub(super) fn length(&self) -> u64 {
        self.file.size
    }

    /// What kept it from being read, where something did. Readers of formats lose what a read told.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    fn ask(&self, range: Range<u64>) -> Result<Asked> {
        let (store, location) = (Arc::clone(&self.store), self.location.clone());
        let (version, faults, file) =
            (self.version.clone(), self.faults.clone(), self.file.clone());
        Coming::start(async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                if_match: version.condition(),
                ..GetOptions::default()
            };
            let told = |e: &object_store::Error| faults.reading(&file.path, e);
            let answer = store.get_opts(&location, options).await.map_err(|e| told(&e))?;
            if answer.meta.size != file.size || !version.is(&answer.meta) {
                return Err(stale(&file.path, "was replaced"));
            }
            let bytes = answer.bytes().await.map_err(|e| told(&e))?;
            if bytes.len() as u64 != range.end - range.start {
                return Err(Error::unavailable(format!("`{}` was cut on its way", file.path)));
            }
            Ok(bytes)
        })
    }

    fn get(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.waited(self.ask(range))
    }

    fn waited(&self, asked: Result<Asked>) -> io::Result<Bytes> {
        let bytes = asked.and_then(Coming::wait).and_then(|bytes| bytes);
        bytes.map_err(|e| {
            // The first one tells more than what follows from it.
            let _ = self.failure.set(e.clone());
            io(e)
        })
    }

    /// The first bytes. Two threads that want them at once may both ask.
    fn head(&self) -> io::Result<&Bytes> {
        if let Some(head) = self.head.get() {
            return Ok(head);
        }
        let bytes = self.get(0..HEAD.min(self.file.size))?;
        Ok(self.head.get_or_init(|| bytes))
    }

    fn windows(&self) -> MutexGuard<'_, VecDeque<(u64, Bytes)>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `to` with the bytes from this place on, by requests side by side.
    pub(super) fn fill(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        let end = at + to.len() as u64;
        if end > self.file.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kept = self.head.get().is_some() && at < HEAD.min(self.file.size);
        if kept || (at == 0 && end <= HEAD) {
            let head = self.head()?;
            let n = to.len().min(head.len() - at as usize);
            to[..n].copy_from_slice(&head[at as usize..][..n]);
            return if n < to.len() { self.fill(&mut to[n..], at + n as u64) } else { Ok(()) };
        }
        let mut reader = Reader { had: AHEAD, ..Reader::new(self, at, end) };
        let mut done = 0;
        while done < to.len() {
            let bytes = reader.next(self)?;
            to[done..done + bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
        }
        Ok(())
    }

    /// The same where many small reads follow each other: more is read than was asked for, the
    /// more so where they come in order. Sixteen places are kept, of 1 MiB at most.
    pub(super) fn near(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        let (length, size) = (to.len() as u64, self.file.size);
        if length >= LARGE || at + length > size || at + length <= HEAD {
            return self.fill(to, at);
        }
        let mut windows = self.windows();
        let holds = |(start, bytes): &(u64, Bytes)| {
            *start <= at && at + length <= start + bytes.len() as u64
        };
        if let Some((start, bytes)) = windows.iter().find(|w| holds(w)) {
            to.copy_from_slice(&bytes[(at - start) as usize..][..to.len()]);
            return Ok(());
        }
        let grown = windows.iter().position(|(start, bytes)| {
            let (end, more) = (start + bytes.len() as u64, bytes.len() as u64);
            (*start..end + more).contains(&at)
        });
        let last = grown.and_then(|i| windows.remove(i)).map_or(0, |(_, b)| b.len() as u64);
        let wanted = (2 * last).clamp(SMALL, LARGE).max(length);
        // Formats end with what tells of the rest.
        let start = if at + SMALL > size { size.saturating_sub(SMALL).min(at) } else { at };
        drop(windows);
        let bytes = self.get(start..(start + wanted).max(at + length).min(size))?;
        to.copy_from_slice(&bytes[(at - start) as usize..][..to.len()]);
        let mut windows = self.windows();
        if windows.len() >= WINDOWS {
            windows.pop_front();
        }
        windows.push_back((start, bytes));
        Ok(())
    }
}

/// An object from some place on, in order. The farther it gets, the more is asked for ahead, up to
/// four pieces of 4 MiB.
#[derive(Debug)]
pub(super) struct Reader {
    /// First byte that was not asked for.
    next: u64,
    end: u64,
    asked: VecDeque<Asked>,
    /// Pieces that were had.
    had: usize,
}

impl Reader {
    pub(super) fn new(object: &Object, at: u64, end: u64) -> Self {
        let end = end.min(object.file.size);
        Reader { next: at.min(end), end, asked: VecDeque::new(), had: 0 }
    }

    /// The next bytes; none at the end.
    pub(super) fn next(&mut self, object: &Object) -> io::Result<Bytes> {
        if self.next == 0 && self.asked.is_empty() && self.end > 0 {
            let head = object.head()?;
            let n = head.len().min(self.end as usize);
            self.next = n as u64;
            return Ok(head.slice(..n));
        }
        // Who looks at the begin alone is not sent much more than that.
        let ahead = self.had.clamp(1, AHEAD);
        let piece = if self.had == 0 { LARGE } else { PIECE };
        while self.asked.len() < ahead && self.next < self.end {
            let to = self.end.min(self.next + piece);
            self.asked.push_back(object.ask(self.next..to).map_err(io)?);
            self.next = to;
        }
        let Some(asked) = self.asked.pop_front() else { return Ok(Bytes::new()) };
        self.had += 1;
        object.waited(Ok(asked))
    }
}

/// The same as a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    object: Arc<Object>,
    reader: Reader,
    left: Bytes,
}

impl Stream {
    pub(super) fn new(object: Arc<Object>, at: u64) -> Self {
        let reader = Reader::new(&object, at, object.length());
        Stream { object, reader, left: Bytes::new() }
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() && !to.is_empty() {
            self.left = self.reader.next(&self.object)?;
        }
        let n = to.len().min(self.left.len());
        to[..n].copy_from_slice(&self.left.split_to(n));
        Ok(n)
    }
}
