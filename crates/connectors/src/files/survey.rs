//! The one pass over all files before planning.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::{FieldType, SurveyRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey, TimeUnitSeen};

use super::Shared;
use super::chunks::{Chunk, Chunks, KEPT_TEXT};
use super::columns::{SurveyedFile, check_time, given_type, headers, no_time};
use super::csv::{Field, Format};
use super::form::{find_form, note};
use super::header::{Header, Order};
use super::open::{Content, unreadable};
use super::parallel::ordered;
use super::parts;
use super::read::MOST_BYTES;
use super::records::{Line, Records};
use super::sample::Sample;
use super::time::{Clock, Last, Moment};
use super::transformed;
use super::types::Seen;

/// About how many blocks all files are cut into, unless the blocks would be too small or large.
const MOST_BLOCKS: u64 = 4096;
/// Unplaced lines that are listed, and bytes of text they may hold together; all are counted.
pub(super) const KEPT_LINES: usize = 10_000;
pub(super) const KEPT_BYTES: usize = 16 << 20;

/// What a chunk is looked at with.
struct Look<'a> {
    shared: &'a Shared,
    files: &'a [SurveyedFile],
    names: &'a [String],
    /// Index of the time column; behind all where there is none.
    time: usize,
    /// Rows without a time are noted, and the others placed in their block.
    placed: bool,
    clock: Option<Clock>,
    /// Columns whose type is found from their values.
    inferred: Vec<bool>,
    block_size: u64,
}

/// What was seen in one chunk; line numbers count from the chunk's first line.
#[derive(Debug, Default)]
struct Findings {
    file: usize,
    blocks: Vec<Block>,
    seen: Vec<Seen>,
    unit: Option<TimeUnitSeen>,
    unplaced: u64,
    rejects: Vec<Reject>,
    reject_bytes: usize,
    lines: u64,
}

/// Looks at all files, or takes a sample of them.
pub(super) fn survey(shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
    if !request.sample {
        return look(shared, request, None);
    }
    let sample = Sample::default();
    let mut survey = look(shared, request, Some(&sample))?;
    sample.spread(&mut survey);
    Ok(survey)
}

fn look(shared: &Shared, request: &SurveyRequest, sample: Option<&Sample>) -> Result<Survey> {
    if let Some(transform) = &shared.transform {
        return transformed::survey(shared, request, transform, sample);
    }
    let (names, files) = headers(shared, sample)?;
    shared.types.check(&names)?;
    check_time(&names, &files, &request.time)?;
    let time = names.iter().position(|n| *n == request.time);
    let time = time.ok_or_else(|| no_time(&files[0].stamp, &names, &request.time))?;
    let first = First { names: &names, files: &files, time: Some(time), placed: true, sample };
    first.pass(shared, request)
}

/// What the first pass looks for.
pub(super) struct First<'a> {
    pub(super) names: &'a [String],
    pub(super) files: &'a [SurveyedFile],
    /// The column that is read as a time.
    pub(super) time: Option<usize>,
    /// Rows need a time, and are placed by it.
    pub(super) placed: bool,
    /// Only so much is looked at.
    pub(super) sample: Option<&'a Sample>,
}

impl First<'_> {
    /// Finds types, blocks and, where there is one, times.
    pub(super) fn pass(&self, shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
        let First { names, files, time, placed, sample } = *self;
        let named = |time: usize| find_form(shared, files, &names[time], time, sample);
        let form = time.map(named).transpose()?.flatten();
        let mut notes: Vec<_> = form.and_then(|f| note(shared, f)).into_iter().collect();
        let given: Vec<_> =
            names.iter().map(|n| given_type(shared, &request.types, n, &mut notes)).collect();
        if let Some(time) = time {
            shared.types.check_time(&names[time])?;
        }
        let total: u64 = files.iter().map(|f| f.stamp.size).sum();
        let look = Look {
            shared,
            files,
            names,
            time: time.unwrap_or(usize::MAX),
            placed,
            clock: form.map(|f| shared.clock(f)),
            inferred: given.iter().map(Option::is_none).collect(),
            block_size: (total / MOST_BLOCKS).clamp(shared.sizes.block, shared.sizes.chunk as u64),
        };
        let mut survey = Survey {
            files: files.iter().map(|f| f.stamp.clone()).collect(),
            time_form: form.map(|f| f.name().to_owned()),
            notes,
            ..Survey::default()
        };
        let seen = match sample {
            None => pass_all(&look, request, total, &mut survey)?,
            Some(sample) => pass_some(&look, request, sample, &mut survey)?,
        };
        let unit = survey.time_unit.unwrap_or(TimeUnitSeen::Second);
        let column = |(i, given): (usize, Option<ColumnType>)| {
            let (found, nullable) = match files[0].order.part(i) {
                Some(_) => parts::column_type(files.iter().map(|f| f.order.part(i).flatten())),
                None => (seen[i].column_type(), seen[i].nullable()),
            };
            let instant = ColumnType::Instant { unit: unit.precision() };
            let found = if Some(i) == time { instant } else { found };
            FieldType::new(names[i].clone(), given.unwrap_or(found), nullable)
        };
        survey.columns = given.into_iter().enumerate().map(column).collect();
        survey.in_paths = files[0].order.parts().len() as u64;
        survey.notes.extend(parts::note(&names[names.len() - files[0].order.parts().len()..]));
        Ok(survey)
    }
}

/// Gives chunk after chunk of all files.
struct AllChunks<'a> {
    look: &'a Look<'a>,
    next: usize,
    open: Option<Chunks<Content>>,
    done: Arc<AtomicU64>,
}

impl AllChunks<'_> {
    fn next(&mut self) -> Result<Option<(usize, Chunk)>> {
        loop {
            if let Some(chunks) = &mut self.open {
                let path = &self.look.files[self.next - 1].stamp.path;
                if let Some(chunk) = chunks.next().map_err(|e| unreadable(path, e))? {
                    return Ok(Some((self.next - 1, chunk)));
                }
            }
            let Some(file) = self.look.files.get(self.next) else { return Ok(None) };
            let path = &file.stamp.path;
            let (header, chunks) =
                self.look.shared.open_file(&file.stamp, Arc::clone(&self.done))?;
            if !header.is_still(&file.header) {
                return Err(Error::unavailable(format!("`{path}` changes while it is read")));
            }
            self.open = Some(chunks);
            self.next += 1;
        }
    }
}

fn pass_all(
    look: &Look<'_>,
    request: &SurveyRequest,
    total: u64,
    survey: &mut Survey,
) -> Result<Vec<Seen>> {
    let done = Arc::new(AtomicU64::new(0));
    let mut all = AllChunks { look, next: 0, open: None, done: Arc::clone(&done) };
    let tell = || request.pulse.beat(done.load(Ordering::Relaxed).min(total), total);
    pass(look, survey, || all.next(), |(file, chunk)| Ok(look.at(file, chunk)), tell)
}

fn pass_some(
    look: &Look<'_>,
    request: &SurveyRequest,
    sample: &Sample,
    survey: &mut Survey,
) -> Result<Vec<Seen>> {
    let mut pieces = Vec::new();
    for (i, SurveyedFile { stamp, header, .. }) in look.files.iter().enumerate() {
        let of_file = sample.pieces(look.shared, stamp, header);
        pieces.extend(of_file.into_iter().map(|piece| (i, piece)));
    }
    let total = pieces.len() as u64;
    let mut pieces = pieces.into_iter();
    let mut done = 0;
    let tell = || {
        done += 1;
        request.pulse.beat(done, total)
    };
    let work = |(i, piece)| {
        let SurveyedFile { stamp, header, .. } = &look.files[i];
        let begins = |bytes: &[u8]| look.begins(i, bytes);
        let (chunk, taken) = sample.read(look.shared, (stamp, header), piece, begins)?;
        sample.take(i, taken);
        Ok(chunk.map_or(Findings { file: i, ..Findings::default() }, |chunk| look.at(i, chunk)))
    };
    pass(look, survey, || Ok(pieces.next()), work, tell)
}

fn pass<T: Send>(
    look: &Look<'_>,
    survey: &mut Survey,
    next: impl FnMut() -> Result<Option<T>> + Send,
    work: impl Fn(T) -> Result<Findings> + Sync,
    mut tell: impl FnMut() -> Result<()>,
) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); look.inferred.len()];
    // By the files before the one that is looked at.
    let mut settled = seen.clone();
    let (mut file, mut line, mut kept) = (usize::MAX, 0, 0);
    let collect = |mut found: Findings| {
        if found.file != file {
            settled.clone_from(&seen);
            file = found.file;
            line = look.files[file].header.line;
        }
        for block in &mut found.blocks {
            if block.offset + block.length > MOST_BYTES {
                let path = &look.files[file].stamp.path;
                return Err(Error::config(format!("`{path}` is larger than 1 TiB"))
                    .hint("split it; a place in a file has 40 bits"));
            }
            block.line += line;
            survey.rows += block.rows;
            survey.bytes += block.length;
        }
        survey.blocks.append(&mut found.blocks);
        for (i, (all, one)) in seen.iter_mut().zip(&found.seen).enumerate() {
            all.merge(*one);
            if look.inferred[i] && settled[i].turned_into(*all) {
                let (name, path) = (&look.names[i], &look.files[file].stamp.path);
                let ty = |seen: Seen| seen.column_type().common_name();
                survey.notes.push(format!(
                    "`{name}` is {} because of `{path}`: in the files before it is {}",
                    ty(*all),
                    ty(settled[i])
                ));
                settled[i] = *all;
            }
        }
        survey.time_unit = survey.time_unit.max(found.unit);
        survey.unplaced += found.unplaced;
        for mut reject in found.rejects {
            if survey.unplaced_rejects.len() < KEPT_LINES && kept < KEPT_BYTES {
                kept += reject.text.len();
                reject.place.line = reject.place.line.map(|n| n + line);
                survey.unplaced_rejects.push(reject);
            }
        }
        line += found.lines;
        tell()
    };
    ordered(next, work, collect)?;
    Ok(seen)
}

impl Look<'_> {
    fn at(&self, file: usize, chunk: Chunk) -> Findings {
        let mut found = Findings { file, ..Findings::default() };
        match chunk {
            Chunk::Skipped { offset, text, problem } => {
                found.lines = 1;
                let reason = problem.reason(self.files[file].header.encoding);
                self.unplaced(&mut found, 0, offset, None, reason, &text);
            }
            Chunk::Records { offset, bytes } => self.records(&mut found, offset, &bytes),
        }
        found
    }

    fn records(&self, found: &mut Findings, offset: u64, bytes: &[u8]) {
        let file = &self.files[found.file];
        let mut records = Records::of(self.shared.format, bytes, &file.order, 0);
        let mut fields = Vec::new();
        let mut seen = vec![Seen::default(); self.names.len()];
        let mut block = OpenBlock::new(0, 0);
        let mut last = Last::default();
        while let Some(line) = records.next(&mut fields) {
            if (line.start - block.start) as u64 >= self.block_size {
                found.blocks.push(block.close(found.file, &file.header, offset, bytes, line.start));
                block = OpenBlock::new(line.start, line.number);
            }
            match self.time(&line, &fields, file, bytes, &mut last) {
                Ok((moment, unit)) => {
                    if self.placed {
                        block.add(moment);
                    }
                    found.unit = found.unit.max(Some(unit));
                    self.values(&mut seen, &fields, &file.order, bytes);
                }
                Err(_) if !self.placed && line.problem.is_none() => {
                    self.values(&mut seen, &fields, &file.order, bytes);
                }
                Err((column, reason)) => {
                    let text = &bytes[line.start..line.end];
                    let at = offset + line.start as u64;
                    self.unplaced(found, line.number, at, column, reason, text);
                }
            }
        }
        found.blocks.push(block.close(found.file, &file.header, offset, bytes, bytes.len()));
        found.lines = records.line();
        found.seen = seen;
    }

    /// Whether a record with a time, or any record where none is read, begins these bytes.
    fn begins(&self, file: usize, bytes: &[u8]) -> bool {
        let file = &self.files[file];
        let (mut records, mut fields) =
            (Records::of(self.shared.format, bytes, &file.order, 0), Vec::new());
        let Some(line) = records.next(&mut fields).filter(|line| line.start == 0) else {
            return false;
        };
        let timeless = self.time == usize::MAX && line.problem.is_none();
        timeless || self.time(&line, &fields, file, bytes, &mut Last::default()).is_ok()
    }

    /// The time of a line, or why it has none and in which column.
    fn time(
        &self,
        line: &Line,
        fields: &[Field],
        file: &SurveyedFile,
        bytes: &[u8],
        last: &mut Last,
    ) -> Result<(Moment, TimeUnitSeen), (Option<String>, String)> {
        if let Some(problem) = line.problem {
            return Err((None, problem.reason(file.header.encoding)));
        }
        let column = || self.names.get(self.time).cloned();
        if self.time == usize::MAX {
            return Err((None, String::new()));
        }
        match (&self.clock, self.shared.value(bytes, fields, &file.order, self.time)) {
            (Some(clock), Some(value)) => {
                clock.read_on(&value, last).map_err(|reason| (column(), reason.into_owned()))
            }
            _ => Err((column(), "the time is NULL".into())),
        }
    }

    #[inline]
    fn values(&self, seen: &mut [Seen], fields: &[Field], order: &Order, bytes: &[u8]) {
        for (i, (seen, field)) in seen.iter_mut().zip(order.all(fields)).enumerate() {
            let raw = field.raw(bytes);
            if self.shared.is_null(raw, field.quoted) {
                seen.null();
            } else if !self.inferred[i] || i == self.time {
            } else if self.shared.format == Format::Json {
                seen.member(raw, field.quoted);
            } else {
                // A doubled quote is text in any case.
                seen.value(raw, self.shared.settings.decimal);
            }
        }
    }

    fn unplaced(
        &self,
        found: &mut Findings,
        line: u64,
        offset: u64,
        column: Option<String>,
        reason: String,
        text: &[u8],
    ) {
        found.unplaced += 1;
        if found.rejects.len() >= KEPT_LINES || found.reject_bytes >= KEPT_BYTES {
            return;
        }
        let text = &text[..text.len().min(KEPT_TEXT)];
        found.reject_bytes += text.len();
        let file = self.files[found.file].stamp.path.clone();
        let place = Place { file, line: Some(line), offset };
        let text = String::from_utf8_lossy(text).into_owned();
        found.rejects.push(Reject { place, column, reason, text });
    }
}

/// A block whose end is not found yet.
struct OpenBlock {
    start: usize,
    line: u64,
    rows: u64,
    range: Option<(Moment, Moment)>,
}

impl OpenBlock {
    fn new(start: usize, line: u64) -> Self {
        OpenBlock { start, line, rows: 0, range: None }
    }

    #[inline]
    fn add(&mut self, t: Moment) {
        self.rows += 1;
        self.range = Some(self.range.map_or((t, t), |(min, max)| (min.min(t), max.max(t))));
    }

    fn close(&self, file: usize, header: &Header, offset: u64, bytes: &[u8], end: usize) -> Block {
        let (min, max) = match self.range {
            Some((min, max)) => (min.timestamp(), max.timestamp()),
            // Without rows the range means nothing.
            None => (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
        };
        Block {
            file: file as u32,
            offset: offset + self.start as u64,
            length: (end - self.start) as u64,
            line: self.line,
            rows: self.rows,
            min,
            max,
            hash: header.hash(&bytes[self.start..end]),
        }
    }
}
