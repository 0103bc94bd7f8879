//! The one pass over the table before planning: what times its rows have, of which classes its
//! values are, and a hash for each block.

use jiff::Timestamp;
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::{FieldType, SurveyRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey, TimeUnitSeen};
use rusqlite::Connection;

use super::Shared;
use super::cells::{Classes, REAL, Reading};
use super::chunk::{Chunk, Eye, FIRST, Stretch, line};
use super::table::{Table, by_values};
use crate::files::{Clock, Form, Moment};

/// Values that the form of times is guessed from.
const GUESS_FROM: usize = 1000;
/// Unplaced rows that are listed; all are counted.
const KEPT: usize = 10_000;
/// Day numbers of the years 0 to 9999, which count from 4714 BC.
const JULIAN: std::ops::Range<f64> = 1_721_059.5..5_373_484.5;

/// Looks at all rows.
pub(super) fn survey(shared: &Shared, request: &SurveyRequest) -> Result<Survey> {
    // A change between this and the first look is seen as one later; never the other way.
    let stamp = shared.stamp()?;
    let connection = shared.connect()?;
    let table = Table::look(shared, &connection)?;
    shared.types.check(&table.names())?;
    table.time(shared, &request.time)?;
    let form = form(shared, &connection, &table, &request.time)?;
    let mut survey = Survey {
        time_form: form.map(|f| f.name().to_owned()),
        notes: notes(shared, form),
        ..Survey::default()
    };
    let clock = form.map(|form| shared.clock(form));
    let found = pass(shared, &connection, &table, (request, clock.as_ref()), &mut survey)?;
    survey.files.push(stamp);
    let unit = survey.time_unit.unwrap_or(TimeUnitSeen::Second);
    for (column, found) in table.columns.iter().zip(found) {
        let ty = match shared.types.get(&column.name) {
            Some(given) => given,
            None if column.name == request.time => ColumnType::Instant { unit: unit.precision() },
            None => match column.ty().or_else(|| by_values(found)) {
                Some(ty) => ty,
                // The types of a table that is there win.
                None if request.types.iter().any(|t| t.name == column.name) => ColumnType::Text,
                None => {
                    let name = &column.name;
                    let what = format!(
                        "column `{name}` holds numbers, texts or bytes side by side, and {}",
                        column.about()
                    );
                    let hint = format!(
                        "say which it is: `types: {{ {name}: float64 }}`; what does not fit \
                         exactly is rejected"
                    );
                    return Err(Error::config(what).hint(hint));
                }
            },
        };
        survey.columns.push(FieldType::new(column.name.clone(), ty, column.nullable));
    }
    Ok(survey)
}

impl Shared {
    /// What reads times of this form.
    pub(super) fn clock(&self, form: Form) -> Clock {
        Clock::new(form, self.zone.clone(), self.settings.time_format.clone())
    }
}

fn notes(shared: &Shared, form: Option<Form>) -> Vec<String> {
    let zone = &shared.settings.timezone;
    let note = match form {
        Some(Form::Local) => Some(format!("times have no zone and are read as {zone}")),
        Some(form @ Form::Epoch(_)) => Some(format!("times are {}", form.name())),
        _ => None,
    };
    note.into_iter().collect()
}

/// How times are kept, found from the first values there are; none where there is no time at all.
pub(super) fn form(
    shared: &Shared,
    connection: &Connection,
    table: &Table,
    time: &str,
) -> Result<Option<Form>> {
    let first = || {
        let mut statement = connection.prepare(&table.values_sql(time))?;
        let mut rows = statement.query([])?;
        let mut reading = Reading::default();
        let mut count = 0;
        while count < GUESS_FROM
            && let Some(row) = rows.next()?
        {
            reading.push(row.get_ref(0)?);
            count += 1;
        }
        Ok((reading.finish(), count))
    };
    let (cells, count) = shared.had(first())?;
    let texts: Vec<_> = (0..count).filter_map(|row| cells.text(row)).collect();
    let Some(example) = texts.first() else { return Ok(None) };
    let julian = |text: &String| text.parse().is_ok_and(|day: f64| JULIAN.contains(&day));
    if cells.found == Classes(REAL) && texts.iter().all(julian) {
        let what = format!("column `{time}` holds Julian day numbers, such as {example}");
        let add = format!(
            "ALTER TABLE ... ADD COLUMN at TEXT AS (strftime('%Y-%m-%d %H:%M:%f', \"{time}\")), \
             and `rows: {{ time: at }}`"
        );
        return Err(Error::config(what).hint(add).about("rows.time"));
    }
    if shared.settings.time_format.is_some() {
        return Ok(Some(Form::Custom));
    }
    let form = Form::guess(texts.iter().map(String::as_bytes));
    form.map(Some).ok_or_else(|| {
        let what = format!("column `{time}` holds no times: `{example}`");
        Error::config(what)
            .hint(
                "times are text (RFC 3339, `YYYY-MM-DD HH:MM:SS`, dates) or numbers since 1970; \
                 set `time_format` for others",
            )
            .about("rows.time")
    })
}

/// Looks at block after block. Tells the classes of the values of each column.
fn pass(
    shared: &Shared,
    connection: &Connection,
    table: &Table,
    (request, clock): (&SurveyRequest, Option<&Clock>),
    survey: &mut Survey,
) -> Result<Vec<Classes>> {
    let names = table.names();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let eye = Eye::new(shared, connection, table, &names);
    let time = names.iter().position(|name| *name == request.time);
    let time = time.ok_or_else(|| Error::bug("the time column is gone"))?;
    let mut found = vec![Classes::default(); names.len()];
    let (mut from, mut first) = (FIRST, 1);
    let size = shared.stamp()?.size;
    loop {
        let chunk = eye.read(Stretch::From(from))?;
        let Some(last) = chunk.places.last().copied() else { return Ok(found) };
        for (all, column) in found.iter_mut().zip(&chunk.columns) {
            all.0 |= column.found.0;
        }
        // A block begins where the one before ended: what comes in between is seen to be new.
        let offset = if survey.blocks.is_empty() { chunk.places[0] } else { from };
        let mut block = Block {
            file: 0,
            offset,
            length: (last - offset).wrapping_add(1),
            line: first,
            rows: 0,
            min: Timestamp::UNIX_EPOCH,
            max: Timestamp::UNIX_EPOCH,
            hash: chunk.hash.clone(),
        };
        times_of(shared, (table, &chunk, time), clock, survey, &mut block);
        survey.rows += block.rows;
        survey.bytes += chunk.bytes;
        survey.blocks.push(block);
        first += chunk.places.len() as u64;
        request.pulse.beat(survey.bytes.min(size), size)?;
        let Some(next) = last.checked_add(1) else { return Ok(found) };
        from = next;
    }
}

/// Counts the rows of a block that have a time.
fn times_of(
    shared: &Shared,
    (table, chunk, time): (&Table, &Chunk, usize),
    clock: Option<&Clock>,
    survey: &mut Survey,
    block: &mut Block,
) {
    let mut range: Option<(Moment, Moment)> = None;
    for row in 0..chunk.places.len() {
        match moment(chunk, time, row, clock) {
            Ok((moment, unit)) => {
                block.rows += 1;
                survey.time_unit = survey.time_unit.max(Some(unit));
                let seen = *range.get_or_insert((moment, moment));
                range = Some((seen.0.min(moment), seen.1.max(moment)));
            }
            Err(reason) => {
                survey.unplaced += 1;
                if survey.unplaced_rejects.len() < KEPT {
                    survey.unplaced_rejects.push(Reject {
                        place: shared.place(table, chunk.places[row]),
                        column: Some(table.columns[time].name.clone()),
                        reason,
                        text: chunk.text(row),
                    });
                }
            }
        }
    }
    if let Some((min, max)) = range {
        (block.min, block.max) = (min.timestamp(), max.timestamp());
    }
}

/// The time of a row, and the unit it needs.
pub(super) fn moment(
    chunk: &Chunk,
    time: usize,
    row: usize,
    clock: Option<&Clock>,
) -> Result<(Moment, TimeUnitSeen), String> {
    let column = &chunk.columns[time];
    match (column.text(row), clock) {
        (None, _) => Err("the time is NULL".into()),
        (Some(_), _) if column.class(row) == super::cells::BLOB => Err("is bytes, no time".into()),
        (Some(_), None) => Err("it has no time".into()),
        (Some(text), Some(clock)) => {
            clock.read(text.as_bytes()).map_err(std::borrow::Cow::into_owned)
        }
    }
}

impl Shared {
    /// Where a row stands.
    pub(super) fn place(&self, table: &Table, place: u64) -> Place {
        Place { file: self.settings.path.clone(), line: line(table, place), offset: place }
    }
}
