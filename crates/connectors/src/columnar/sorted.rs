//! A copy of the plan's rows in the state dir, sorted by slice, for sources that cannot be read
//! slice by slice without reading far more than they hold.
//!
//! One pass over the files collects rows until a run of them fills the memory allowed, sorts the
//! run by slice and appends it to the copy, in frames that hold one slice, or some neighbouring
//! ones where each is small. A slice is then read from its frames in all runs. After each run it
//! is noted how far the pass came, so that it can be stopped at any point and goes on from there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use jiff::Timestamp;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{ReadRequest, Rows, SourceBatch, StageRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::Reject;
use retrofill_core::survey::{Block, Survey};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use super::frame::{Frame, Piece, Run};
use super::read::{Placed, Raw, Reader, Stream, Surveyed};
use crate::delta::inside;
pub(super) use crate::files::disk;
use crate::files::sorted_copy::{Emit, InDirectory, SortedCopy, root};
use crate::files::{
    Moment, covers, disjoint, fingerprint, ordered, read_json, touched, write_json,
};

const ROWS: &str = "rows";
const DONE: &str = "manifest.json";

/// Whether the slices can only be read by reading far more than the source holds.
pub(super) fn is_needed(shared: &Shared, survey: &Survey, slices: &[Interval]) -> bool {
    let slices = disjoint(slices);
    let read: u64 = survey.blocks.iter().map(|b| b.length * touched(b, &slices).len() as u64).sum();
    read > shared.sizes.cheap && read > survey.bytes + survey.bytes / 2
}

/// A finished copy. What it was made of is part of its name.
#[derive(Debug)]
pub(crate) struct Sorted {
    dir: PathBuf,
    /// See [`identity`].
    of: String,
    done: Done,
}

/// The last file to be written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Done {
    #[serde(rename = "1")]
    V1 {
        /// In order, without overlap.
        slices: Vec<Interval>,
        /// By run, then by slice.
        frames: Vec<Frame>,
    },
}

/// How far a copy has come after some run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Progress {
    #[serde(rename = "1")]
    V1 {
        frames: Vec<Frame>,
        /// Bytes of the copy.
        length: u64,
        /// Every row before this place is in the copy.
        next: u64,
        /// Rows of the copy.
        #[serde(default)]
        rows: u64,
    },
}

/// What a copy is made of, apart from its slices.
fn identity(survey: &Survey, columns: &Columns) -> Result<String> {
    let all = serde_json::to_vec(&(fingerprint(survey), &survey.time_form, columns));
    let all = all.map_err(|e| Error::bug("cannot write an identity as JSON").because(e))?;
    Ok(format!("{:032x}", xxh3_128(&all)))
}

/// What a copy is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make<'a> {
    pub(crate) state: &'a Path,
    /// Bytes that are sorted in memory at once.
    pub(crate) run: usize,
    pub(crate) request: &'a StageRequest,
}

/// The slices of a copy, in order and without overlap.
pub(crate) struct Slices<'a> {
    list: &'a [Interval],
    spans: Vec<(Moment, Moment)>,
}

impl<'a> Slices<'a> {
    fn new(list: &'a [Interval]) -> Self {
        let span = |s: &Interval| (Moment::new(s.start()), Moment::new(s.end()));
        Slices { list, spans: list.iter().map(span).collect() }
    }

    /// The slice that a time lies in.
    fn of(&self, t: Moment) -> Option<u32> {
        let at = self.spans.partition_point(|(_, end)| *end <= t);
        self.spans.get(at).filter(|(start, _)| *start <= t).map(|_| at as u32)
    }

    /// Whether a time lies in one.
    pub(crate) fn have(&self, t: Moment) -> bool {
        self.of(t).is_some()
    }

    /// Whether a block may hold rows of one.
    pub(crate) fn need(&self, block: &Block) -> bool {
        !touched(block, self.list).is_empty()
    }
}

/// Takes rows in the order of the source, each time with the place behind the last row that was
/// looked at.
pub(crate) type TakeRows<'a> = dyn FnMut(u64, Option<Placed>) -> Result<()> + 'a;

/// Makes the copy, or finishes it, or finds it finished. Copies of other plans are removed.
/// `settings` are those that decide which rows the source has; `pour` gives all rows of the slices
/// from some place on.
pub(crate) fn build(
    make: &Make<'_>,
    settings: &impl Serialize,
    pour: impl FnOnce(u64, &Slices<'_>, &mut TakeRows<'_>) -> Result<()>,
) -> Result<Sorted> {
    let StageRequest { survey, columns, slices, pulse } = make.request;
    let slices = disjoint(slices);
    let root = root(make.state);
    let of = identity(survey, columns)?;
    let name = serde_json::to_vec(&(&of, settings, &slices))
        .map_err(|e| Error::bug("cannot write an identity as JSON").because(e))?;
    let name = format!("{:032x}", xxh3_128(&name));
    let dir = root.join(&name);
    std::fs::create_dir_all(&dir).map_err(|e| disk(&dir, e))?;
    for entry in std::fs::read_dir(&root).map_err(|e| disk(&root, e))? {
        let entry = entry.map_err(|e| disk(&root, e))?;
        if entry.file_name() != name.as_str() {
            std::fs::remove_dir_all(entry.path()).map_err(|e| disk(&entry.path(), e))?;
        }
    }
    let done = if let Some(done) = read_json(&dir.join(DONE)) {
        done
    } else {
        let mut copy = Copy::resume(&dir)?;
        let mut run = Run::new(&columns.arrow_schema());
        let wanted = Slices::new(&slices);
        let all = survey.blocks.iter().filter(|b| wanted.need(b)).map(|b| b.rows).sum();
        pour(copy.next, &wanted, &mut |end, placed| {
            if let Some(placed) = placed {
                copy.rows += placed.rows.num_rows() as u64;
                run.take(placed, |t| wanted.of(t).unwrap_or(0))?;
            }
            pulse.beat(copy.rows, all)?;
            if run.size() >= make.run { copy.append(&mut run, end) } else { Ok(()) }
        })?;
        copy.append(&mut run, u64::MAX)?;
        let done = Done::V1 { slices, frames: copy.frames };
        write_json(&dir.join(DONE), &done)?;
        done
    };
    Ok(Sorted { dir, of, done })
}

/// Gives the rows of all files from this place on.
pub(super) fn pour(
    shared: &Shared,
    (survey, columns): (&Survey, &Columns),
    (from, slices): (u64, &Slices<'_>),
    take: &mut TakeRows<'_>,
) -> Result<()> {
    let Some(reader) = Reader::new(shared, survey, columns)? else { return Ok(()) };
    let mut blocks = survey.blocks.iter().filter(|b| slices.need(b));
    let mut files = Surveyed::new(shared, survey);
    let mut open: Option<Stream> = None;
    let next = || loop {
        if let Some(stream) = &mut open
            && let Some(raw) = stream.next()?
        {
            if raw.end() > from {
                return Ok(Some(raw));
            }
            continue;
        }
        let Some(block) = blocks.next() else { return Ok(None) };
        open = Some(reader.stream(block.file, &files.block(block)?)?);
    };
    let place = |raw: Raw| Ok((raw.end(), reader.place(&raw, &|t| slices.have(t))?));
    ordered(next, place, |(end, placed)| take(end, placed))
}

/// One copy in the making.
struct Copy<'a> {
    dir: &'a Path,
    file: File,
    frames: Vec<Frame>,
    length: u64,
    next: u64,
    rows: u64,
    runs: usize,
}

fn run_path(dir: &Path, run: usize) -> PathBuf {
    dir.join(format!("run-{run:05}.json"))
}

impl<'a> Copy<'a> {
    /// Goes on behind the last run that is whole.
    fn resume(dir: &'a Path) -> Result<Self> {
        let path = dir.join(ROWS);
        let (mut frames, mut length, mut next, mut rows, mut runs) = (Vec::new(), 0, 0, 0, 0);
        while let Some(Progress::V1 { frames: more, length: l, next: n, rows: r }) =
            read_json(&run_path(dir, runs))
        {
            frames.extend(more);
            (length, next, rows, runs) = (l, n, r, runs + 1);
        }
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).read(true).write(true).open(&path)?;
            // Behind stands what was written of a run that was not finished.
            file.set_len(length)?;
            Ok(file)
        };
        let file = open().map_err(|e| disk(&path, e))?;
        Ok(Copy { dir, file, frames, length, next, rows, runs })
    }

    /// Writes a run; `next` is the place behind its last row.
    fn append(&mut self, run: &mut Run, next: u64) -> Result<()> {
        let path = self.dir.join(ROWS);
        let mut write = |bytes: &[u8]| {
            self.file.write_all_at(bytes, self.length).map_err(|e| disk(&path, e))?;
            let piece = Piece::new(self.length, bytes);
            self.length += bytes.len() as u64;
            Ok(piece)
        };
        let mut frames = run.cut(&mut write)?;
        self.file.sync_data().map_err(|e| disk(&path, e))?;
        let (length, rows) = (self.length, self.rows);
        let progress = Progress::V1 { frames: frames.clone(), length, next, rows };
        write_json(&run_path(self.dir, self.runs), &progress)?;
        self.runs += 1;
        self.frames.append(&mut frames);
        Ok(())
    }
}

impl InDirectory for Sorted {
    fn directory(&self) -> &Path {
        &self.dir
    }
}

impl SortedCopy<Sorted> {
    /// The rows of a request, from the copy where there is one that has them.
    pub(crate) async fn rows(
        &self,
        request: &ReadRequest,
        direct: impl FnOnce(&ReadRequest, &mut Emit<'_>) -> Result<()> + Send + 'static,
    ) -> Rows {
        let sorted = self.lock().await.clone().filter(|s| s.serves(request));
        let blocks = request.survey.overlapping(&request.interval).map(|(_, b)| b.hash.clone());
        let blocks = blocks.collect();
        let request = request.clone();
        let batches = self.deliver(sorted, move |sorted, emit| match sorted {
            Some(sorted) => sorted.read(&request, emit),
            None => direct(&request, emit),
        });
        Rows { batches, blocks }
    }
}

impl Sorted {
    /// Whether every row of the request that the survey saw is here, in the plan's types.
    pub(crate) fn serves(&self, request: &ReadRequest) -> bool {
        let Done::V1 { slices, .. } = &self.done;
        let (survey, interval) = (&request.survey, &request.interval);
        if identity(survey, &request.columns).ok().as_ref() != Some(&self.of) {
            return false;
        }
        survey.time_range().is_some_and(|range| covers(slices, interval, range))
    }

    /// Reads the rows of an interval that this copy serves.
    pub(crate) fn read(&self, request: &ReadRequest, emit: &mut Emit<'_>) -> Result<()> {
        let Done::V1 { slices, frames } = &self.done;
        let interval = &request.interval;
        let first = slices.partition_point(|s| s.end() <= interval.start());
        let end = slices.partition_point(|s| s.start() < interval.end());
        let path = self.dir.join(ROWS);
        let file = File::open(&path).map_err(|e| damaged(&path).because(e))?;
        let wanted = |f: &&Frame| (f.first as usize) < end && first < (f.first + f.slices) as usize;
        for frame in frames.iter().filter(wanted) {
            let (rows, rejects) = frame.read(&file).map_err(|e| damaged(&path).because(e))?;
            let inside = |(t, _): &(Timestamp, Reject)| interval.contains(*t);
            let rejects = rejects.into_iter().filter(inside).map(|(_, r)| r).collect();
            if !emit(batch(request, rows, rejects)?) {
                break;
            }
        }
        Ok(())
    }
}

/// The rows that lie in the interval.
fn batch(
    request: &ReadRequest,
    rows: Option<(RecordBatch, Vec<u64>)>,
    rejects: Vec<Reject>,
) -> Result<SourceBatch> {
    let schema = request.columns.arrow_schema();
    let Some((rows, ordinals)) = rows else {
        let rows = RecordBatch::new_empty(schema);
        return Ok(SourceBatch { rows, ordinals: Vec::new(), rejects, filtered: 0 });
    };
    let broken = |e| Error::bug("the sorted copy holds other columns").because(e);
    let rows = rows.with_schema(schema).map_err(broken)?;
    let mask = inside(rows.column(0), &request.interval)
        .ok_or_else(|| Error::bug("the time column of a plan is no instant"))?;
    if mask.true_count() == rows.num_rows() {
        return Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 });
    }
    let mut keep = mask.values().iter();
    let ordinals = ordinals.into_iter().filter(|_| keep.next().unwrap_or(false)).collect();
    let rows = filter_record_batch(&rows, &mask).map_err(broken)?;
    Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 })
}

fn damaged(path: &Path) -> Error {
    Error::unavailable(format!("the sorted copy `{}` is damaged", path.display()))
        .hint("it is made anew by the next try")
}
