//! A first look at files too large to read: their heads, their tails and places evenly between,
//! and what those tell of the rest. What can only be read from its start is looked at there alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use memchr::memchr_iter;
use retrofill_core::error::Result;
use retrofill_core::survey::{Block, FileStamp, Sampled, Survey};

use super::Shared;
use super::chunks::Chunk;
use super::course::{Course, disorder, said};
use super::csv::LONGEST;
use super::header::Header;
use super::open::unreadable;
use super::settings::Encoding;
use super::unpack::Packing;

/// Bytes of all files together, unless there are too many files for that.
const BUDGET: u64 = 128 << 20;
/// Bytes of a place, at least and at most.
const PLACE: (u64, u64) = (16 << 10, 128 << 10);
/// Places in one file, at least and at most.
const PLACES: (u64, u64) = (2, 32);
/// Ends of lines behind which the first record of a place is looked for: lines of quoted fields
/// are none.
const TRIES: usize = 64;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// From one byte to another.
    Range(u64, u64),
    /// The begin of what cannot be entered in its middle.
    Head,
}

/// What was read of a piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Bytes of the file as it lies there.
    bytes: u64,
    /// Of a head: nothing comes behind it.
    all: bool,
}

/// A sample of all files.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Bytes of a place, and places in a file.
    share: OnceLock<(u64, u64)>,
    /// Of each file that was looked at, by its index.
    taken: Mutex<BTreeMap<usize, Taken>>,
}

impl Sample {
    /// So many files share the sample.
    pub(super) fn divide(&self, files: usize) {
        let each = BUDGET / (files as u64).max(1);
        let place = (each / PLACES.1).clamp(PLACE.0, PLACE.1);
        self.share.get_or_init(|| (place, (each / place).clamp(PLACES.0, PLACES.1)));
    }

    /// The parts of a file to look at, in order. All of it in one where they are half of it.
    pub(super) fn pieces(&self, shared: &Shared, stamp: &FileStamp, header: &Header) -> Vec<Piece> {
        let packed = Packing::of(shared.settings.compression, &stamp.path).is_some();
        if packed || header.encoding != Encoding::Utf8 {
            return vec![Piece::Head];
        }
        let (place, places) = *self.share.get_or_init(|| (PLACE.1, PLACES.1));
        let (start, end) = (header.start, stamp.size);
        let length = end.saturating_sub(start);
        if length <= 2 * place * places {
            return vec![Piece::Range(start, end)];
        }
        let at = |i: u64| start + (length - place) / (places - 1) * i;
        let mut pieces: Vec<_> = (0..places).map(|i| Piece::Range(at(i), at(i) + place)).collect();
        pieces[places as usize - 1] = Piece::Range(end - place, end);
        pieces
    }

    /// The parts of a file, read.
    pub(super) fn chunks(
        &self,
        shared: &Shared,
        stamp: &FileStamp,
        header: &Header,
    ) -> impl Iterator<Item = Result<Chunk>> + Send {
        let pieces = self.pieces(shared, stamp, header).into_iter();
        let read = |piece| self.read(shared, (stamp, header), piece, |_| true);
        pieces.filter_map(move |piece| read(piece).map(|(chunk, _)| chunk).transpose())
    }

    /// Whole records of a part of a file; none where there is nothing behind its header. `begins`
    /// tells whether bytes begin with a record.
    pub(super) fn read(
        &self,
        shared: &Shared,
        (stamp, header): (&FileStamp, &Header),
        piece: Piece,
        begins: impl Fn(&[u8]) -> bool,
    ) -> Result<(Option<Chunk>, Taken)> {
        let file = shared.origin.open(stamp)?;
        let failed = |e| unreadable(&stamp.path, e);
        let Piece::Range(from, mut to) = piece else {
            let (place, places) = *self.share.get_or_init(|| (PLACE.1, PLACES.1));
            let size = (place * places).min(shared.sizes.chunk as u64) as usize;
            let done = Arc::new(AtomicU64::new(0));
            let (_, mut chunks) = shared.chunks_by(size, &file, stamp, Arc::clone(&done))?;
            let chunk = chunks.next().map_err(failed)?;
            let (rest, ended) = chunks.peek(1).map_err(failed)?;
            let all = ended && rest.is_empty();
            let bytes = if all { stamp.size } else { done.load(Ordering::Relaxed) };
            return Ok((chunk, Taken { bytes, all }));
        };
        loop {
            let mut bytes = vec![0; (to - from) as usize];
            file.fill(&mut bytes, from).map_err(failed)?;
            let ended = to == stamp.size;
            let skipped = if from == header.start { 0 } else { first_record(&bytes, &begins) };
            bytes.drain(..skipped);
            let whole = shared.format.whole(&bytes, ended);
            let taken = Taken { bytes: to - from, all: true };
            if whole > 0 || ended || bytes.len() > LONGEST {
                bytes.truncate(whole);
                let chunk = Chunk::Records { offset: from + skipped as u64, bytes };
                return Ok(((whole > 0).then_some(chunk), taken));
            }
            to = stamp.size.min(from + 4 * (to - from));
        }
    }

    /// Notes what was read of a file.
    pub(super) fn take(&self, file: usize, taken: Taken) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(file).or_insert(Taken { bytes: 0, all: true });
        of.bytes += taken.bytes;
        of.all &= taken.all;
    }

    /// Makes a survey of the sample, whose blocks are all there is in it, one of the whole.
    pub(super) fn spread(&self, survey: &mut Survey) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked = std::mem::take(&mut survey.blocks);
        looked.retain(|block| block.length > 0);
        let files: Vec<_> = looked.chunk_by(|a, b| a.file == b.file).collect();
        let courses: Vec<_> = files.iter().map(|blocks| Course::of(blocks)).collect();
        let (mut disordered, mut headed) = (Vec::new(), Vec::new());
        for (i, blocks) in files.iter().enumerate() {
            let (index, course) = (blocks[0].file as usize, courses[i]);
            let path = &survey.files[index].path;
            survey.blocks.extend(course.map_or(blocks.to_vec(), |c| filled(blocks, &c)));
            if course.is_some_and(|c| !c.is_ordered()) {
                disordered.push(path.clone());
            }
            let of = taken.get(&index).copied().filter(|of| !of.all);
            if let (Some(of), Some(course)) = (of, course) {
                headed.push(path.clone());
                let next = courses.get(i + 1).copied().flatten().map(|c| c.start());
                let left = survey.files[index].size.saturating_sub(of.bytes);
                let times = left as f64 / of.bytes.max(1) as f64;
                survey.blocks.push(behind(blocks, times, course.behind(times, next)));
            }
        }
        forget_lines(survey, &files);
        let bytes = |blocks: &[Block]| blocks.iter().map(|b| b.length).sum::<u64>();
        let scale = bytes(&survey.blocks) as f64 / bytes(&looked).max(1) as f64;
        let scaled = |n: u64| (n as f64 * scale).round() as u64;
        survey.unplaced = scaled(survey.unplaced);
        survey.filtered = scaled(survey.filtered);
        survey.rows = survey.blocks.iter().map(|b| b.rows).sum();
        survey.bytes = bytes(&survey.blocks);
        let sampled = Sampled {
            looked_at: taken.values().map(|of| of.bytes).sum(),
            bytes: survey.files.iter().map(|f| f.size).sum(),
        };
        survey.sampled = Some(sampled);
        survey.notes.extend(notes(&disordered, &headed));
    }
}

/// Where the first record begins behind the first line's end; right behind that where none is
/// found.
fn first_record(bytes: &[u8], begins: impl Fn(&[u8]) -> bool) -> usize {
    let mut lines = memchr_iter(b'\n', bytes).map(|end| end + 1).take(TRIES).peekable();
    let first = lines.peek().copied().unwrap_or(bytes.len());
    lines.find(|at| begins(&bytes[*at..])).unwrap_or(first)
}

/// The blocks of a file with one more in each gap between them.
fn filled(blocks: &[Block], course: &Course) -> Vec<Block> {
    let mut out = Vec::with_capacity(2 * blocks.len());
    let mut before: Option<&Block> = None;
    for block in blocks {
        let end = out.last().map_or(block.offset, |b: &Block| b.offset + b.length);
        let gap = block.offset.saturating_sub(end);
        if gap > 0 {
            let near = before.unwrap_or(block);
            let density = (near.rows + block.rows) as f64 / (near.length + block.length) as f64;
            let (a, b) = if near.rows == 0 { (block, block) } else { (near, block) };
            let b = if b.rows == 0 { a } else { b };
            let rows = if a.rows == 0 { 0 } else { (gap as f64 * density).round() as u64 };
            out.push(guessed(block, (end, gap), rows, course.between(a, b)));
        }
        out.push(block.clone());
        before = Some(block);
    }
    out
}

/// What comes behind the head of a file, so many times as much.
fn behind(head: &[Block], times: f64, range: (Timestamp, Timestamp)) -> Block {
    let last = &head[head.len() - 1];
    let all = |of: fn(&Block) -> u64| head.iter().map(of).sum::<u64>() as f64;
    let length = (all(|b| b.length) * times).round() as u64;
    let rows = (all(|b| b.rows) * times).round() as u64;
    guessed(last, (last.offset + last.length, length), rows, range)
}

/// A block of the same file that nobody looked at.
fn guessed(
    near: &Block,
    (offset, length): (u64, u64),
    rows: u64,
    (min, max): (Timestamp, Timestamp),
) -> Block {
    Block { offset, length, rows, min, max, hash: String::new(), ..near.clone() }
}

/// How many lines stand before a place in the middle of a file is not known.
fn forget_lines(survey: &mut Survey, files: &[&[Block]]) {
    let mut known: HashMap<&str, u64> = HashMap::new();
    for blocks in files {
        let mut end = blocks[0].offset;
        for block in *blocks {
            if block.offset == end {
                end += block.length;
            }
        }
        known.insert(&survey.files[blocks[0].file as usize].path, end);
    }
    for reject in &mut survey.unplaced_rejects {
        let end = known.get(reject.place.file.as_str()).copied().unwrap_or(0);
        if reject.place.offset >= end {
            reject.place.line = None;
        }
    }
}

fn notes(disordered: &[String], headed: &[String]) -> impl Iterator<Item = String> {
    let head = said(
        headed,
        "can only be read from its start: its rows are guessed from its size, their times from \
         the pace of its head",
        "can only be read from their start: their rows are guessed from their sizes, their times \
         from the pace of their heads",
    );
    disorder(disordered).into_iter().chain(head)
}
