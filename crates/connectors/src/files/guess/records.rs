//! All records of the files, a stretch at a time, as the reader cuts them.

use std::borrow::Cow;
use std::sync::Arc;

use retrofill_core::error::Result;
use retrofill_core::survey::FileStamp;

use super::super::Shared;
use super::super::chunks::{Chunk, Chunks};
use super::super::csv::{Cut, Field};
use super::super::header::{Header, Order, columns};
use super::super::open::{Content, unreadable};
use super::super::parallel::ordered;
use super::super::parts::Parts;
use super::super::records::Records;
use super::super::settings::{Encoding, Schema};

/// A file, and where its columns stand.
struct InputFile {
    stamp: FileStamp,
    header: Header,
    order: Order,
}

/// The files and their columns.
pub(super) struct Input {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Vec<String>,
    files: Vec<InputFile>,
    most: Option<u64>,
    differs: bool,
    doubled: bool,
}

/// Records of one file.
pub(super) struct Stretch<'a> {
    bytes: &'a [u8],
    order: &'a Order,
    width: usize,
    encoding: Encoding,
}

/// What a look at one stretch found.
pub(super) trait Found: Default + Send {
    /// Takes what the next stretch gave.
    fn merge(&mut self, next: Self);
}

impl Input {
    /// Opens every file once, for its header.
    pub(super) fn open(shared: Arc<Shared>, most: Option<u64>) -> Result<Self> {
        let mut opened = Vec::new();
        for stamp in shared.origin.find(&shared.settings.path)? {
            let (header, _) = shared.open_file(&stamp, Arc::default())?;
            opened.push((stamp, header));
        }
        let mut names = columns(Schema::Union, &opened)?;
        let stamps: Vec<_> = opened.iter().map(|(stamp, _)| stamp.clone()).collect();
        let hive = shared.settings.hive;
        let parts = Parts::find(hive, Schema::Union, &stamps)?;
        let doubled = parts.check(&stamps[0].path, &names).is_err();
        let differs = opened.iter().any(|(_, header)| header.names.len() != names.len())
            || Parts::find(hive, Schema::Strict, &stamps).is_err();
        let mut files = Vec::new();
        for (i, (stamp, header)) in opened.into_iter().enumerate() {
            let order = header.order(Schema::Union, &names, &stamp.path, &stamps[0].path)?;
            let order = order.with_parts(Arc::clone(parts.of(i)));
            files.push(InputFile { stamp, header, order });
        }
        names.extend_from_slice(parts.names());
        Ok(Input { shared, names, files, most, differs, doubled })
    }

    /// Whether a column stands both in a file and in a path.
    pub(super) fn is_doubled(&self) -> bool {
        self.doubled
    }

    /// Whether files have other columns than others.
    pub(super) fn differs(&self) -> bool {
        self.differs
    }

    /// Looks at all records on all cores; what is found is put together in their order. Also
    /// whether records were left out.
    pub(super) fn each<F: Found>(
        &self,
        work: impl Fn(Stretch<'_>) -> F + Sync,
    ) -> Result<(F, bool)> {
        let mut all = F::default();
        let mut source =
            Stretches { input: self, next: 0, open: None, left: self.most, cut: false };
        ordered(
            || source.next(),
            |(file, bytes): (usize, Vec<u8>)| {
                let InputFile { header, order, .. } = &self.files[file];
                let (width, encoding) = (order.width(), header.encoding);
                Ok(work(Stretch { bytes: &bytes, order, width, encoding }))
            },
            |found| {
                all.merge(found);
                Ok(())
            },
        )?;
        Ok((all, source.cut))
    }

    /// The first stretch that has records.
    pub(super) fn start<T>(&self, work: impl FnOnce(Stretch<'_>) -> T) -> Result<Option<T>> {
        let mut source =
            Stretches { input: self, next: 0, open: None, left: self.most, cut: false };
        let Some((file, bytes)) = source.next()? else { return Ok(None) };
        let InputFile { header, order, .. } = &self.files[file];
        let (width, encoding) = (order.width(), header.encoding);
        Ok(Some(work(Stretch { bytes: &bytes, order, width, encoding })))
    }
}

impl Stretch<'_> {
    /// The value of a column in a record, and whether it is quoted: then it is a text.
    pub(super) fn value(
        &self,
        shared: &Shared,
        fields: &[Field],
        at: usize,
    ) -> (Cow<'_, [u8]>, bool) {
        if let Some(part) = self.order.part(at) {
            return (part.unwrap_or_default().as_bytes().into(), false);
        }
        let field = self.order.field(fields, at);
        (field.value(self.bytes, shared.format), field.quoted)
    }

    /// Shows every record, or why a line is none.
    pub(super) fn records(
        &self,
        shared: &Shared,
        mut take: impl FnMut(Result<&[Field], String>) -> bool,
    ) {
        let mut records = Records::new(shared.csv(), self.bytes, self.width, 1);
        let mut fields = Vec::new();
        while let Some(line) = records.next(&mut fields) {
            let more = match line.problem {
                None => take(Ok(&fields)),
                Some(problem) => take(Err(problem.reason(self.encoding))),
            };
            if !more {
                return;
            }
        }
    }
}

struct Stretches<'a> {
    input: &'a Input,
    next: usize,
    open: Option<Chunks<Content>>,
    /// Records that may still be given.
    left: Option<u64>,
    cut: bool,
}

impl Stretches<'_> {
    fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        loop {
            if let Some(chunks) = &mut self.open {
                let path = &self.input.files[self.next - 1].stamp.path;
                match chunks.next().map_err(|e| unreadable(path, e))? {
                    Some(Chunk::Records { bytes, .. }) => {
                        if self.left == Some(0) {
                            self.cut = true;
                            return Ok(None);
                        }
                        return Ok(Some((self.next - 1, self.limited(bytes))));
                    }
                    Some(Chunk::Skipped { .. }) => continue,
                    None => self.open = None,
                }
            }
            let Some(file) = self.input.files.get(self.next) else { return Ok(None) };
            self.open = Some(self.input.shared.open_file(&file.stamp, Arc::default())?.1);
            self.next += 1;
        }
    }

    /// Leaves out what is more than was asked for.
    fn limited(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let Some(left) = &mut self.left else { return bytes };
        let mut at = 0;
        while at < bytes.len() && *left > 0 {
            match self.input.shared.csv().cut(&bytes, at, true, |_| ()) {
                Cut::Record { end, next } => {
                    *left -= u64::from(end > at);
                    at = next;
                }
                Cut::Bad { next, .. } => at = next,
                Cut::More => break,
            }
        }
        self.cut |= at < bytes.len();
        bytes.truncate(at);
        bytes
    }
}
