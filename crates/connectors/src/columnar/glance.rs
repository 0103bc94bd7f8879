//! A first look at files too large to read: what they tell of themselves, and where that does not
//! say when rows were, the times of some stretches.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use arrow::array::Array as _;
use jiff::Timestamp;
use retrofill_core::error::Result;
use retrofill_core::survey::{Block, Sampled, Survey, TimeUnitSeen};

use super::opened::{Opened, Stretch};
use super::survey::{Findings, Look, Numbered, needs_room};
use super::times::Times;
use crate::files::{Course, Moment, disorder};

/// Stretches that are read, of all files together, and of one file at least and at most.
const BUDGET: usize = 32;
const STRETCHES: (usize, usize) = (2, 8);

/// What a file tells of its rows.
pub(super) struct Known {
    /// First and last time of each stretch; none where it has no rows with a time.
    ranges: Vec<Option<(Moment, Moment)>>,
    unit: Option<TimeUnitSeen>,
    /// Rows without a time in each stretch.
    nulls: Vec<u64>,
    /// Of each open column whether it must be wide, as far as it is told.
    wide: Vec<bool>,
}

impl Known {
    /// None where a file does not tell the times of all its stretches.
    pub(super) fn of(look: &Look<'_>, file: &Opened) -> Result<Option<Known>> {
        let name = |at: usize| look.table.columns[at].0.as_str();
        let Some(times @ Times::Typed { .. }) = &look.times else { return Ok(None) };
        let Some(bounds) = file.bounds(name(look.table.time)) else { return Ok(None) };
        let (first, last) = (times.read(&bounds.least)?, times.read(&bounds.greatest)?);
        let mut known = Known { ranges: Vec::new(), unit: None, nulls: Vec::new(), wide: vec![] };
        for (i, (stretch, times)) in
            file.stretches.iter().zip(first.into_iter().zip(last)).enumerate()
        {
            if bounds.nulls.is_null(i) {
                return Ok(None);
            }
            let nulls = bounds.nulls.value(i);
            known.nulls.push(nulls);
            known.ranges.push(match times {
                _ if nulls >= stretch.rows => None,
                (Ok((first, one)), Ok((last, other))) => {
                    known.unit = known.unit.max(Some(one.max(other)));
                    Some((first, last))
                }
                _ => return Ok(None),
            });
        }
        let wide = |at: &usize| {
            let bounds = file.bounds(name(*at));
            bounds.is_some_and(|b| needs_room(&b.least) || needs_room(&b.greatest))
        };
        known.wide = look.open.iter().map(wide).collect();
        Ok(Some(known))
    }
}

/// What is glanced at.
#[derive(Debug)]
pub(super) struct Glance {
    /// Stretches of a file that are read where it does not tell enough.
    stretches: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// First bytes of the stretches that nothing is known of but their rows, with their file.
    unknown: HashSet<(u32, u64)>,
    /// Bytes that were read.
    read: u64,
    /// No row was looked at for what is known.
    told: bool,
}

impl Glance {
    /// So many files share it.
    pub(super) fn new(files: usize) -> Self {
        let stretches = (BUDGET / files.max(1)).clamp(STRETCHES.0, STRETCHES.1);
        Glance { stretches, seen: Mutex::default() }
    }

    /// What can be found of a stretch.
    pub(super) fn at(&self, look: &Look<'_>, numbered: &Numbered, at: usize) -> Result<Findings> {
        let Numbered { index, file, known } = numbered;
        let stretch = &file.stretches[at];
        let found = match known {
            Some(known) => {
                let (block, unplaced) = (block(*index, stretch, known, at), known.nulls[at]);
                let (unit, wide) = (known.unit, known.wide.clone());
                Findings { block: Some(block), unit, wide, unplaced, ..Findings::default() }
            }
            None if self.is_read(at, file.stretches.len()) => look.at(numbered, at, false)?,
            None => {
                let wide = vec![false; look.open.len()];
                let block = Some(empty(*index, stretch, stretch.rows));
                Findings { block, wide, ..Findings::default() }
            }
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() {
            seen.told = true;
        } else if self.is_read(at, file.stretches.len()) {
            seen.read += stretch.length;
        } else {
            seen.unknown.insert((*index, stretch.offset));
        }
        Ok(found)
    }

    /// Whether a stretch of so many is one of those evenly between the first and the last.
    fn is_read(&self, at: usize, all: usize) -> bool {
        all <= self.stretches
            || (0..self.stretches).any(|i| i * (all - 1) / (self.stretches - 1) == at)
    }

    /// Makes a survey of what was seen one of the whole.
    pub(super) fn spread(self, survey: &mut Survey) {
        let Seen { unknown, read, told } =
            self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_unknown = |b: &Block| unknown.contains(&(b.file, b.offset));
        let held: u64 = survey.blocks.iter().map(|b| b.length).sum();
        let bytes = survey.files.iter().map(|f| f.size).sum::<u64>();
        let mut disordered = Vec::new();
        let mut unseen = 0;
        for blocks in survey.blocks.chunk_by_mut(|a, b| a.file == b.file) {
            let looked: Vec<_> = blocks.iter().filter(|b| !is_unknown(b)).cloned().collect();
            let filled: Vec<_> = looked.iter().filter(|b| b.rows > 0).collect();
            let Some(course) = Course::of(&looked) else { continue };
            if !course.is_ordered() && looked.len() < blocks.len() {
                disordered.push(survey.files[blocks[0].file as usize].path.clone());
            }
            for block in blocks.iter_mut().filter(|b| is_unknown(b)) {
                let behind = filled.partition_point(|b| b.offset < block.offset);
                let before = filled[behind.saturating_sub(1)];
                let after = filled[behind.min(filled.len() - 1)];
                (block.min, block.max) = course.between(before, after);
                unseen += block.rows;
            }
        }
        let seen = survey.rows - unseen;
        survey.unplaced = (survey.unplaced as f64 * survey.rows as f64 / seen.max(1) as f64) as u64;
        survey.sampled = Some(Sampled { looked_at: bytes.saturating_sub(held) + read, bytes });
        if told && read == 0 {
            let note = "rows and times are those that the files' footers tell; no row was read";
            survey.notes.push(note.into());
        }
        survey.notes.extend(disorder(&disordered));
    }
}

fn block(file: u32, stretch: &Stretch, known: &Known, at: usize) -> Block {
    let block = empty(file, stretch, stretch.rows.saturating_sub(known.nulls[at]));
    match known.ranges[at] {
        Some((min, max)) => Block { min: min.timestamp(), max: max.timestamp(), ..block },
        None => Block { rows: 0, ..block },
    }
}

/// A block whose times are not known.
fn empty(file: u32, stretch: &Stretch, rows: u64) -> Block {
    let Stretch { offset, length, first, .. } = *stretch;
    let (min, max) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    Block { file, offset, length, line: first + 1, rows, min, max, hash: String::new() }
}
