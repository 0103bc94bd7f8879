//! Two passes over all files before planning: types over all rows, then what the transform makes
//! of each row and where it lies in time. A third one looks again at blocks in which rows are left
//! out both within and beyond the times of those that stay.

use std::sync::Arc;

use jiff::Timestamp;
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::connector::{FieldType, Pulse, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey, TimeUnitSeen};

use super::super::Shared;
use super::super::blocks::Surveyed;
use super::super::chunks::KEPT_TEXT;
use super::super::columns::{check_time, headers, held_type};
use super::super::header::Order;
use super::super::parallel::ordered;
use super::super::sample::Sample;
use super::super::survey::{First, KEPT_BYTES, KEPT_LINES};
use super::super::time::Moment;
use super::{Failure, Fate, Judged, Loom, Time, is_time, moments};
use crate::transform::{Origin, Program, Ran, Room, Transform, check_kinds};

/// Looks at all files.
pub(in super::super) fn survey(
    shared: &Shared,
    request: &SurveyRequest,
    transform: &Transform,
    sample: Option<&Sample>,
) -> Result<Survey> {
    let (names, files) = headers(shared, sample)?;
    shared.types.check(&names)?;
    let wiring = transform.wire(&names)?;
    wiring.check(&request.time, "rows.time")?;
    let time = wiring.passed_on(&request.time);
    if let Some(time) = time {
        check_time(&names, &files, &names[time])?;
    }
    let first = First { names: &names, files: &files, time, placed: false, sample };
    let quiet = SurveyRequest {
        time: request.time.clone(),
        // The target's types are those of what the transform gives, not of what it reads.
        types: Vec::new(),
        pulse: half(request, 0),
        sample: request.sample,
    };
    let mut survey = first.pass(shared, &quiet)?;
    let input = std::mem::take(&mut survey.columns);
    let form = survey.time_form.as_deref();
    let held = names.len() - files[0].order.parts().len();
    let columns_of_files = (input.clone(), held);
    let loom = Loom::wired(shared, transform, &wiring, columns_of_files, form, &request.time)?;
    survey.input = Some(input);
    let time_type = loom.time_type(&mut survey.notes)?;
    let fine = fine(&loom, request);
    let mut sieve = Sieve { loom: &loom, fine: &fine, seen: None };
    let units = sieve.place_all(&mut survey, &half(request, 1))?;
    if let Time::Computed(..) = &loom.time {
        survey.time_unit = match time_type {
            ColumnType::Date => Some(TimeUnitSeen::Day),
            _ => units[0],
        };
    }
    survey.columns = columns(&loom, request, &survey, &fine, &units)?;
    Ok(survey)
}

/// Told of one of two halves of the work.
fn half(request: &SurveyRequest, which: u64) -> Pulse {
    let pulse = request.pulse.clone();
    Pulse::new(move |done, all| pulse.beat(which * all + done, 2 * all))
}

/// Expressions that give times so fine that a target may not keep them: how fine the values are
/// decides.
fn fine(loom: &Loom<'_>, request: &SurveyRequest) -> Vec<(String, Program)> {
    let nanos = ColumnType::Instant { unit: Precision::Nanosecond };
    let outputs = loom.bound.outputs.iter();
    let fine = outputs.filter_map(|(name, origin)| match origin {
        Origin::Computed(program) if program.ty == nanos && *name != request.time => {
            Some((name.clone(), program.clone()))
        }
        _ => None,
    });
    fine.collect()
}

/// The columns that the transform gives.
fn columns(
    loom: &Loom<'_>,
    request: &SurveyRequest,
    survey: &Survey,
    fine: &[(String, Program)],
    units: &[Option<TimeUnitSeen>],
) -> Result<Vec<FieldType>> {
    let precision = |unit: Option<TimeUnitSeen>| unit.unwrap_or(TimeUnitSeen::Second).precision();
    let column = |(name, origin): &(String, Origin<Program>)| {
        let held = held_type(&request.types, name);
        let (ty, nullable) = match origin {
            _ if *name == request.time => {
                (ColumnType::Instant { unit: precision(survey.time_unit) }, false)
            }
            Origin::Column(index) => {
                let column = &loom.columns[*index];
                (held.unwrap_or(column.ty), column.nullable)
            }
            Origin::Computed(program) => {
                if let Some(held) = held {
                    check_kinds(name, program.ty, held)?;
                }
                let at = fine.iter().position(|(n, _)| n == name);
                let unit = at.map(|at| ColumnType::Instant { unit: precision(units[at + 1]) });
                (unit.unwrap_or(program.ty), program.nullable)
            }
        };
        Ok(FieldType::new(name.clone(), ty, nullable))
    };
    loom.bound.outputs.iter().map(column).collect()
}

impl Loom<'_> {
    /// The type of the time, if it is one.
    fn time_type(&self, notes: &mut Vec<String>) -> Result<ColumnType> {
        let Time::Computed(name, program) = &self.time else {
            return Ok(ColumnType::Instant { unit: Precision::Microsecond });
        };
        if is_time(program.ty) {
            if program.zoneless {
                notes.push(format!("`{name}` of the transform has no zone and is taken as UTC"));
            }
            return Ok(program.ty);
        }
        let kind = program.ty.common_name();
        let what = format!("`{name}` of the transform is {kind}, but it is the time");
        let hint = match program.ty {
            ColumnType::Integer { .. } => {
                "make a time of it: `to_timestamp_millis(..)`, `to_timestamp_seconds(..)`, \
                 `to_timestamp_micros(..)` or `to_timestamp_nanos(..)`"
            }
            ColumnType::Text => {
                "make a time of it: `to_timestamp(..)`; or name the type of the source's column: \
                 `types: { column: timestamp }`"
            }
            _ => "it must be a timestamp or a date",
        };
        Err(Error::config(what).hint(hint).about("rows.time"))
    }
}

/// Rows and the first and last of their times.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    rows: u64,
    range: Option<(Moment, Moment)>,
}

impl Stretch {
    fn add(&mut self, t: Moment) {
        self.rows += 1;
        self.range = Some(self.range.map_or((t, t), |(min, max)| (min.min(t), max.max(t))));
    }

    fn and(mut self, other: Stretch) -> Stretch {
        self.rows += other.rows;
        self.range = match (self.range, other.range) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        self
    }

    fn write(&self, block: &mut Block) {
        block.rows = self.rows;
        let (min, max) = self.range.unzip();
        block.min = min.map_or(Timestamp::UNIX_EPOCH, Moment::timestamp);
        block.max = max.map_or(Timestamp::UNIX_EPOCH, Moment::timestamp);
    }
}

/// What was found in one block.
#[derive(Debug, Default)]
struct Sifted {
    block: usize,
    /// Rows that stay or are refused in their slice.
    stays: Stretch,
    left_out: Stretch,
    /// Left out, without a slice.
    nowhere: u64,
    unplaced: u64,
    rejects: Vec<Reject>,
    kept: usize,
    /// Of the time and of each fine column.
    units: Vec<Option<TimeUnitSeen>>,
}

/// Finds for every block the rows and their times.
struct Sieve<'a> {
    loom: &'a Loom<'a>,
    fine: &'a [(String, Program)],
    /// The times of all rows that stay, once they are known.
    seen: Option<(Moment, Moment)>,
}

impl Sieve<'_> {
    /// Fills in the survey's blocks; gives how fine the times are.
    fn place_all(
        &mut self,
        survey: &mut Survey,
        pulse: &Pulse,
    ) -> Result<Vec<Option<TimeUnitSeen>>> {
        let all: Vec<usize> = (0..survey.blocks.len()).collect();
        let mut found: Vec<Sifted> = Vec::with_capacity(all.len());
        let mut units = vec![None; self.fine.len() + 1];
        let (mut done, mut kept) = (0, 0);
        let mut rejects = Vec::new();
        self.sift(survey, &all, |mut sifted| {
            done += survey.blocks[sifted.block].length;
            pulse.beat(done, survey.bytes.max(done))?;
            for (all, one) in units.iter_mut().zip(&sifted.units) {
                *all = (*all).max(*one);
            }
            if kept < KEPT_BYTES && rejects.len() < KEPT_LINES {
                kept += sifted.kept;
                rejects.append(&mut sifted.rejects);
            }
            sifted.rejects = Vec::new();
            found.push(sifted);
            Ok(())
        })?;
        let stays = found.iter().fold(Stretch::default(), |all, one| all.and(one.stays));
        self.seen = stays.range;
        let again: Vec<usize> =
            found.iter().filter(|f| self.is_split(f)).map(|f| f.block).collect();
        let mut anew = Vec::with_capacity(again.len());
        self.sift(survey, &again, |sifted| {
            anew.push(sifted);
            Ok(())
        })?;
        for sifted in anew {
            let Sifted { block, stays, left_out, nowhere, .. } = sifted;
            let known = &mut found[block];
            (known.stays, known.left_out, known.nowhere) = (stays, left_out, nowhere);
        }
        for sifted in &mut found {
            if sifted.left_out.range.is_some_and(|range| self.is_beyond(range)) {
                sifted.nowhere += std::mem::take(&mut sifted.left_out).rows;
            }
            let both = sifted.stays.and(sifted.left_out);
            both.write(&mut survey.blocks[sifted.block]);
            survey.filtered += sifted.nowhere;
            survey.unplaced += sifted.unplaced;
        }
        survey.rows = survey.blocks.iter().map(|b| b.rows).sum();
        merge(survey, rejects);
        Ok(units)
    }

    /// Whether all of these times lie before or all behind those of the rows that stay.
    fn is_beyond(&self, (min, max): (Moment, Moment)) -> bool {
        self.seen.is_none_or(|(first, last)| max < first || last < min)
    }

    /// Whether some rows that a block leaves out lie within the times of those that stay, and
    /// some beyond.
    fn is_split(&self, sifted: &Sifted) -> bool {
        let (Some((min, max)), Some((first, last))) = (sifted.left_out.range, self.seen) else {
            return false;
        };
        (min < first || last < max) && !self.is_beyond((min, max))
    }

    /// Looks at some blocks, on all cores, and tells of each in their order.
    fn sift(
        &self,
        survey: &Survey,
        blocks: &[usize],
        done: impl FnMut(Sifted) -> Result<()>,
    ) -> Result<()> {
        let shared = self.loom.shared;
        let mut open: Option<(u32, Surveyed<'_>, Arc<Order>)> = None;
        let mut blocks = blocks.iter();
        let next = || {
            let Some(index) = blocks.next() else { return Ok(None) };
            let block = &survey.blocks[*index];
            if open.as_ref().is_none_or(|(file, ..)| *file != block.file) {
                let file = shared.surveyed(survey, block.file)?;
                let order = Arc::new(file.order.clone());
                open = Some((block.file, file, order));
            }
            let (_, file, order) = open.as_mut().expect("it was opened just now");
            let bytes = file.read(std::slice::from_ref(block))?;
            Ok(Some((*index, bytes, Arc::clone(order))))
        };
        let work = |(index, bytes, order): (usize, Vec<u8>, Arc<Order>)| {
            let block = &survey.blocks[index];
            let path = &survey.files[block.file as usize].path;
            self.block(index, block, path, &bytes, &order)
        };
        ordered(next, work, done).map_err(|e| match e.kind() {
            // There is no plan yet that could be stale.
            Kind::Stale => Error::unavailable(e.message()).hint("it changes while it is read"),
            _ => e,
        })
    }

    fn block(
        &self,
        index: usize,
        block: &Block,
        path: &str,
        bytes: &[u8],
        order: &Order,
    ) -> Result<Sifted> {
        let units = vec![None; self.fine.len() + 1];
        let mut found = Sifted { block: index, units, ..Sifted::default() };
        self.loom.each(block, bytes, order, &mut |lines, judged| {
            for (line, fate) in lines.iter().zip(&judged.fates) {
                match fate {
                    Fate::Stays(moment) => {
                        found.units[0] = found.units[0].max(Some(moment.unit()));
                        found.stays.add(*moment);
                    }
                    Fate::Fails(Some(moment), _) => found.stays.add(*moment),
                    Fate::LeftOut(Some(moment)) if self.is_seen(*moment) => {
                        found.left_out.add(*moment);
                    }
                    Fate::LeftOut(_) => found.nowhere += 1,
                    Fate::Fails(None, Failure { column, reason }) => {
                        found.unplaced += 1;
                        if found.rejects.len() < KEPT_LINES && found.kept < KEPT_BYTES {
                            let text = &bytes[line.start..line.end.min(line.start + KEPT_TEXT)];
                            found.kept += text.len();
                            let offset = block.offset + line.start as u64;
                            let file = path.to_owned();
                            found.rejects.push(Reject {
                                place: Place { file, line: Some(line.number), offset },
                                column: column.clone(),
                                reason: reason.clone(),
                                text: String::from_utf8_lossy(text).into_owned(),
                            });
                        }
                    }
                }
            }
            self.units(judged, &mut found.units)
        })?;
        Ok(found)
    }

    /// Whether a row that is left out there counts in a slice; all do until it is known.
    fn is_seen(&self, moment: Moment) -> bool {
        self.seen.is_none_or(|(first, last)| first <= moment && moment <= last)
    }

    fn units(&self, judged: &Judged, units: &mut [Option<TimeUnitSeen>]) -> Result<()> {
        for ((_, program), unit) in self.fine.iter().zip(&mut units[1..]) {
            let ran = program.run(&judged.inputs, &mut Room::default())?;
            let Ran { values, .. } = ran.ok_or_else(|| Error::bug("times are too large"))?;
            let found = moments(&values)?.into_iter().flatten().map(Moment::unit).max();
            *unit = (*unit).max(found);
        }
        Ok(())
    }
}

/// Puts lines that belong to no slice among those that are no records, in the source's order.
fn merge(survey: &mut Survey, rejects: Vec<Reject>) {
    survey.unplaced_rejects.extend(rejects);
    let file = |path: &str| survey.files.iter().position(|f| f.path == path);
    let mut all = std::mem::take(&mut survey.unplaced_rejects);
    all.sort_by_cached_key(|r| (file(&r.place.file), r.place.offset));
    all.truncate(KEPT_LINES);
    survey.unplaced_rejects = all;
}
