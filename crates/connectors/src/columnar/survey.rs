//! The one pass over all files before planning. The footers say where rows lie; what times they
//! have is read from the rows: statistics may be missing, rounded or wrong.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, TimestampNanosecondType, UInt64Type};
use jiff::Timestamp;
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::{FieldType, SurveyRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey, TimeUnitSeen};

use super::Shared;
use super::convert::shown;
use super::glance::{Glance, Known};
use super::opened::Opened;
use super::table::{Table, order};
use super::times::{Times, guess, is_typed};
use crate::files::{Form, Heads, Moment, ordered};

/// Unplaced rows that are listed; all are counted.
const KEPT_ROWS: usize = 10_000;
/// Rows of a file: a place in it has 40 bits.
const MOST_ROWS: u64 = 1 << 40;

/// What a stretch is looked at with.
pub(super) struct Look<'a> {
    pub(super) table: &'a Table,
    pub(super) times: Option<Times>,
    /// Columns, by their index in the table, whose values decide their type.
    pub(super) open: Vec<usize>,
}

/// What was seen in one stretch.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) block: Option<Block>,
    pub(super) unit: Option<TimeUnitSeen>,
    pub(super) wide: Vec<bool>,
    pub(super) unplaced: u64,
    pub(super) rejects: Vec<Reject>,
}

/// Looks at all files.
pub(super) fn survey(shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
    let table = Table::open(shared, &request.time)?;
    let form = form(shared, &table)?;
    let open = (0..table.columns.len()).filter(|i| {
        let (name, natural) = &table.columns[*i];
        *i != table.time && natural.is_open() && shared.types.get(name).is_none()
    });
    // A column of other values, none of which says a time, has NULL alone.
    let read = form.is_some() || is_typed(table.columns[table.time].1);
    let times = read.then(|| shared.times(form));
    let look = Look { table: &table, times, open: open.collect() };
    let mut survey = Survey {
        files: table.files.clone(),
        in_paths: table.parts.names().len() as u64,
        time_form: form.map(|f| f.name().to_owned()),
        notes: notes(shared, &table, form),
        ..Survey::default()
    };
    let glance = request.sample.then(|| Glance::new(table.files.len()));
    let wide = pass(shared, &look, (request, glance.as_ref()), &mut survey)?;
    if let Some(glance) = glance {
        glance.spread(&mut survey);
    }
    let unit = survey.time_unit.unwrap_or(TimeUnitSeen::Second);
    let column = |(i, (name, natural)): (usize, &(String, super::types::Natural))| {
        let wide = look.open.iter().position(|at| *at == i).is_some_and(|at| wide[at]);
        let ty = match shared.types.get(name) {
            Some(given) => given,
            None if i == table.time => ColumnType::Instant { unit: unit.precision() },
            None => natural.column_type(wide),
        };
        FieldType::new(name.clone(), ty, true)
    };
    survey.columns = table.columns.iter().enumerate().map(column).collect();
    Ok(survey)
}

/// What the footers tell, and the first times where those are spelt.
pub(super) fn heads(shared: &Shared, time: &str) -> Result<Heads> {
    let table = Table::open(shared, time)?;
    let names = table.names().into_iter().map(str::to_owned).collect();
    let typed = is_typed(table.columns[table.time].1);
    let time = form(shared, &table).map(|form| match form {
        None if typed => Some("times by its type".to_owned()),
        form => form.map(|form| form.name().to_owned()),
    });
    Ok(Heads { files: table.files, names, given: None, time })
}

fn notes(shared: &Shared, table: &Table, form: Option<Form>) -> Vec<String> {
    let zone = &shared.settings.timezone;
    let times = match form {
        Some(Form::Local) => Some(format!("times have no zone and are read as {zone}")),
        Some(form @ Form::Epoch(_)) => Some(format!("times are {}", form.name())),
        Some(_) => None,
        None if table.naive => Some(format!("times have no zone and are read as {zone}")),
        None => None,
    };
    times.into_iter().chain(table.parts.note()).collect()
}

/// How times are spelt, where they are; found from the first values there are.
fn form(shared: &Shared, table: &Table) -> Result<Option<Form>> {
    let (name, natural) = &table.columns[table.time];
    if is_typed(*natural) {
        return Ok(None);
    }
    if shared.settings.time_format.is_some() {
        return Ok(Some(Form::Custom));
    }
    for stamp in &table.files {
        let file = Opened::open(shared, stamp)?;
        let Some(at) = order(&[name], file.schema())[0] else { continue };
        for stretch in 0..file.stretches.len() {
            let held = file.stretch(stretch)?;
            for batch in held.batches(&[at])? {
                // The reader of a page that is damaged cannot say where it stands.
                let batch = batch.or_else(|e| held.checked_hash().and(Err(e)))?;
                let Some(column) = batch.column_by_name(name).cloned() else { continue };
                if column.null_count() == column.len() {
                    continue;
                }
                if let Some(form) = guess(&column)? {
                    return Ok(Some(form));
                }
                let first = (0..column.len()).find(|i| column.is_valid(*i)).unwrap_or(0);
                let what = format!(
                    "`{}`: column `{name}` holds no times: `{}`",
                    stamp.path,
                    shown(&column, first)
                );
                return Err(Error::config(what).hint(
                    "times in text are RFC 3339, `YYYY-MM-DD HH:MM:SS`, dates or numbers since \
                     1970; set `time_format` for others",
                ));
            }
        }
    }
    Ok(None)
}

/// Looks at every stretch, or glances at it, on all cores. Tells of each open column whether it
/// must be wide.
fn pass(
    shared: &Shared,
    look: &Look<'_>,
    (request, glance): (&SurveyRequest, Option<&Glance>),
    survey: &mut Survey,
) -> Result<Vec<bool>> {
    let total: u64 = survey.files.iter().map(|f| f.size).sum();
    let mut work = Work { shared, look, glance, file: 0, stretch: 0, open: None };
    let mut wide = vec![false; look.open.len()];
    let mut done = 0;
    let collect = |mut found: Findings| {
        let Some(block) = found.block.take() else { return Ok(()) };
        done += block.length;
        survey.rows += block.rows;
        survey.bytes += block.length;
        survey.blocks.push(block);
        survey.time_unit = survey.time_unit.max(found.unit);
        for (all, one) in wide.iter_mut().zip(found.wide) {
            *all |= one;
        }
        survey.unplaced += found.unplaced;
        let room = KEPT_ROWS - survey.unplaced_rejects.len();
        survey.unplaced_rejects.extend(found.rejects.into_iter().take(room));
        request.pulse.beat(done.min(total), total)?;
        Ok(())
    };
    let at = |(file, at): (Arc<Numbered>, usize)| match glance {
        Some(glance) => glance.at(look, &file, at),
        None => look.at(&file, at, true),
    };
    ordered(|| work.next(), at, collect)?;
    Ok(wide)
}

/// A file with its index, and what it tells of itself where that is enough.
pub(super) struct Numbered {
    pub(super) index: u32,
    pub(super) file: Opened,
    pub(super) known: Option<Known>,
}

/// Gives stretch after stretch of all files.
struct Work<'a> {
    shared: &'a Shared,
    look: &'a Look<'a>,
    glance: Option<&'a Glance>,
    file: usize,
    stretch: usize,
    open: Option<Arc<Numbered>>,
}

impl Work<'_> {
    fn next(&mut self) -> Result<Option<(Arc<Numbered>, usize)>> {
        loop {
            if let Some(open) = &self.open {
                if self.stretch < open.file.stretches.len() {
                    self.stretch += 1;
                    return Ok(Some((Arc::clone(open), self.stretch - 1)));
                }
                self.file += 1;
            }
            let Some(stamp) = self.look.table.files.get(self.file) else { return Ok(None) };
            let file = Opened::open(self.shared, stamp)?;
            if file.stretches.last().is_some_and(|s| s.first + s.rows > MOST_ROWS) {
                return Err(Error::config(format!("`{}` has more than 2^40 rows", stamp.path)));
            }
            let known = match self.glance {
                Some(_) => Known::of(self.look, &file)?,
                None => None,
            };
            self.open = Some(Arc::new(Numbered { index: self.file as u32, file, known }));
            self.stretch = 0;
        }
    }
}

impl Look<'_> {
    /// Looks at the rows of a stretch, and at its bytes where they are to be hashed.
    pub(super) fn at(&self, numbered: &Numbered, at: usize, hashed: bool) -> Result<Findings> {
        let Numbered { index, file, .. } = numbered;
        let stretch = file.stretches[at];
        let names = self.table.names();
        let order = order(&names, file.schema());
        let mut wanted: Vec<usize> = self.open.clone();
        wanted.push(self.table.time);
        let columns: Vec<usize> = wanted.iter().filter_map(|i| order[*i]).collect();
        let mut found = Findings { wide: vec![false; self.open.len()], ..Findings::default() };
        let mut range: Option<(Moment, Moment)> = None;
        let (mut rows, mut row) = (0, stretch.first);
        let held = file.stretch(at)?;
        let hash = if hashed { held.checked_hash()? } else { String::new() };
        for batch in held.batches(&columns)? {
            let batch = batch?;
            for (wide, column) in found.wide.iter_mut().zip(&self.open) {
                let column = batch.column_by_name(names[*column]);
                *wide = *wide || column.is_some_and(needs_room);
            }
            let count = batch.num_rows() as u64;
            rows += self.times_of(&batch, (&file.stamp.path, row), &mut found, &mut range)?;
            row += count;
        }
        let (min, max) = match range {
            Some((min, max)) => (min.timestamp(), max.timestamp()),
            // Without rows the range means nothing.
            None => (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
        };
        found.block = Some(Block {
            file: *index,
            offset: stretch.offset,
            length: stretch.length,
            line: stretch.first + 1,
            rows,
            min,
            max,
            hash,
        });
        Ok(found)
    }

    /// Counts the rows that have a time.
    fn times_of(
        &self,
        batch: &RecordBatch,
        (path, first): (&str, u64),
        found: &mut Findings,
        range: &mut Option<(Moment, Moment)>,
    ) -> Result<u64> {
        let name = &self.table.columns[self.table.time].0;
        let read = match (batch.column_by_name(name), &self.times) {
            (Some(column), Some(times)) => times.read(column)?,
            _ => vec![Err("it has no time".to_owned()); batch.num_rows()],
        };
        let mut rows = 0;
        for (i, time) in read.into_iter().enumerate() {
            match time {
                Ok((moment, unit)) => {
                    rows += 1;
                    found.unit = found.unit.max(Some(unit));
                    let seen = *range.get_or_insert((moment, moment));
                    *range = Some((seen.0.min(moment), seen.1.max(moment)));
                }
                Err(reason) => {
                    found.unplaced += 1;
                    if found.rejects.len() < KEPT_ROWS {
                        found.rejects.push(unplaced(batch, i, name, (path, first), reason));
                    }
                }
            }
        }
        Ok(rows)
    }
}

fn unplaced(
    batch: &RecordBatch,
    row: usize,
    name: &str,
    (path, first): (&str, u64),
    reason: String,
) -> Reject {
    let offset = first + row as u64;
    let place = Place { file: path.to_owned(), line: Some(offset + 1), offset };
    let text = batch.column_by_name(name).map_or_else(String::new, |c| shown(c, row));
    Reject { place, column: Some(name.to_owned()), reason, text }
}

/// Whether a value needs nanoseconds, or is too large for 64 bits with a sign.
pub(super) fn needs_room(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>();
            values.iter().flatten().any(|v| i64::try_from(v).is_err())
        }
        DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>();
            values.iter().flatten().any(|v| v % 1_000 != 0)
        }
        _ => false,
    }
}
