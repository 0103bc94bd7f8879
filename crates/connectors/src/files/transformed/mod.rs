//! CSV files whose rows a transform makes others of.
//!
//! Expressions read typed columns; a column that is only passed on is read into the plan's type
//! from its text, as it would be without a transform. What becomes of a record is found in one
//! place, `Loom`, for survey, staging and reading alike: they can never disagree.

mod survey;
mod weave;

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::{Block, Survey};

use super::Shared;
use super::csv::Field;
use super::header::Order;
use super::parts::Runs;
use super::read::{BATCH_BYTES, BATCH_ROWS, ColumnCells};
use super::records::{Line, Records};
use super::time::{Clock, Form, Moment, Reason, in_range};
use super::values::Column;
use crate::transform::{Bound, Origin, Program, Ran, Room, Transform, Wiring, bind};

pub(super) use survey::survey;
pub(super) use weave::Weaver;

const NO_TIME: &str = "the time is NULL";

/// Why something cannot be had, and of which column that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) column: Option<String>,
    pub(super) reason: String,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays, and has this time.
    Stays(Moment),
    /// The condition leaves it out; its time, where it has one.
    LeftOut(Option<Moment>),
    /// It is refused; its time, where that can be told.
    Fails(Option<Moment>, Failure),
}

impl Fate {
    /// The record's time.
    pub(super) fn moment(&self) -> Option<Moment> {
        match self {
            Fate::Stays(moment) => Some(*moment),
            Fate::LeftOut(moment) | Fate::Fails(moment, _) => *moment,
        }
    }
}

/// The time of a record that is passed on: none where it is NULL.
type Read = Result<Option<Moment>, Reason>;

/// Records whose fields are not yet values.
#[derive(Debug, Default)]
pub(super) struct Untyped {
    rows: usize,
    /// The fields that expressions read, row by row.
    fields: Vec<Field>,
    /// Where the time is passed on.
    times: Vec<Read>,
    /// What the paths say.
    pub(super) parts: Runs,
    bytes: usize,
}

impl Untyped {
    pub(super) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.bytes = 0;
        self.fields.clear();
        self.times.clear();
        self.parts.clear();
    }
}

/// Records of which it is known what becomes of them.
#[derive(Debug)]
pub(super) struct Judged {
    /// The values that expressions read; NULL where a field does not fit.
    inputs: RecordBatch,
    /// For each of these columns the rows that do not fit, and why.
    bad: Vec<BTreeMap<usize, Reason>>,
    pub(super) fates: Vec<Fate>,
}

#[derive(Debug)]
enum Time {
    /// A column of the source, by index.
    PassedOn(usize, Option<Clock>),
    Computed(String, Program),
}

/// A transform over the columns of the files.
#[derive(Debug)]
pub(super) struct Loom<'a> {
    shared: &'a Shared,
    bound: Bound,
    /// The columns of the files.
    columns: Vec<FieldType>,
    /// How many of them are in the files themselves.
    held: usize,
    time: Time,
    /// For times of other columns.
    clock: Clock,
}

impl<'a> Loom<'a> {
    /// For what a survey knows of the files; `time` is the transform's time column.
    pub(super) fn new(
        shared: &'a Shared,
        transform: &Transform,
        survey: &Survey,
        time: &str,
    ) -> Result<Self> {
        let columns = survey.source_columns().to_vec();
        let names: Vec<_> = columns.iter().map(|c| c.name.clone()).collect();
        let wiring = transform.wire(&names)?;
        let held = survey.held_and_in_paths().0.len();
        let form = survey.time_form.as_deref();
        Loom::wired(shared, transform, &wiring, (columns, held), form, time)
    }

    fn wired(
        shared: &'a Shared,
        transform: &Transform,
        wiring: &Wiring,
        (columns, held): (Vec<FieldType>, usize),
        form: Option<&str>,
        time: &str,
    ) -> Result<Self> {
        let bound = bind(transform, wiring, &columns)?;
        let form = form.map(|name| {
            Form::named(name).ok_or_else(|| {
                Error::config(format!("the plan names times of the form `{name}`"))
                    .hint("was the plan made by a newer version?")
            })
        });
        let clock = form.transpose()?.map(|form| shared.clock(form));
        let time = match bound.output(time) {
            Some(Origin::Column(index)) => Time::PassedOn(*index, clock),
            Some(Origin::Computed(program)) => Time::Computed(time.to_owned(), program.clone()),
            None => return Err(Error::bug(format!("the transform gives no column `{time}`"))),
        };
        let clock = shared.clock(Form::Local);
        Ok(Loom { shared, bound, columns, held, time, clock })
    }

    /// The time of a record where it is passed on.
    #[inline]
    fn passed_on(&self, bytes: &[u8], fields: &[Field], order: &Order) -> Option<Read> {
        let Time::PassedOn(index, clock) = &self.time else { return None };
        Some(match (clock, self.shared.value(bytes, fields, order, *index)) {
            (Some(clock), Some(value)) => clock.read(&value).map(|(moment, _)| Some(moment)),
            _ => Ok(None),
        })
    }

    /// Takes a record; `time` is what `passed_on` says.
    #[inline]
    fn take(
        &self,
        untyped: &mut Untyped,
        time: Option<Read>,
        fields: &[Field],
        order: &Order,
        bytes: usize,
    ) {
        untyped.parts.add(untyped.rows, order);
        untyped.rows += 1;
        untyped.bytes += bytes;
        untyped.times.extend(time);
        untyped.fields.extend(self.bound.inputs.iter().map(|i| order.field(fields, *i)));
    }

    /// Calls with some records of a block after the other and what becomes of them.
    pub(super) fn each(
        &self,
        block: &Block,
        bytes: &[u8],
        order: &Order,
        take: &mut dyn FnMut(&[Line], &Judged) -> Result<()>,
    ) -> Result<()> {
        let mut records = Records::of(self.shared.format, bytes, order, block.line);
        let (mut fields, mut lines) = (Vec::new(), Vec::new());
        let mut untyped = Untyped::default();
        while let Some(line) = records.next(&mut fields) {
            if line.problem.is_some() {
                continue;
            }
            let time = self.passed_on(bytes, &fields, order);
            self.take(&mut untyped, time, &fields, order, line.end - line.start);
            lines.push(line);
            if untyped.is_full() {
                take(&lines, &self.judge(bytes, &untyped)?)?;
                untyped.clear();
                lines.clear();
            }
        }
        if lines.is_empty() { Ok(()) } else { take(&lines, &self.judge(bytes, &untyped)?) }
    }

    /// Finds what becomes of records.
    pub(super) fn judge(&self, bytes: &[u8], untyped: &Untyped) -> Result<Judged> {
        let (inputs, bad) = self.inputs(bytes, untyped)?;
        let times = self.times(untyped, &inputs, &bad)?;
        let mut stays = self.bound.stays(&inputs)?;
        let mut columns: Vec<Option<String>> = vec![None; untyped.rows];
        if let Some(filter) = &self.bound.filter {
            for (row, column, reason) in self.unread(filter, &bad) {
                columns[row] = Some(column);
                stays[row] = Err(reason);
            }
        }
        let fates =
            stays.into_iter().zip(columns).zip(times).map(|((stays, column), time)| {
                match (stays, time) {
                    (Ok(true), Ok(moment)) => Fate::Stays(moment),
                    (Ok(true), Err(failure)) => Fate::Fails(None, failure),
                    (Ok(false), time) => Fate::LeftOut(time.ok()),
                    (Err(reason), time) => Fate::Fails(time.ok(), Failure { column, reason }),
                }
            });
        let fates = fates.collect();
        Ok(Judged { inputs, bad, fates })
    }

    /// The rows for which an expression reads a field that does not fit: row, column and reason.
    fn unread(
        &self,
        program: &Program,
        bad: &[BTreeMap<usize, Reason>],
    ) -> Vec<(usize, String, String)> {
        let of = |input: &usize| {
            let name = &self.columns[self.bound.inputs[*input]].name;
            bad[*input].iter().map(move |(row, why)| (*row, name.clone(), why.to_string()))
        };
        program.reads.iter().flat_map(of).collect()
    }

    fn inputs(
        &self,
        bytes: &[u8],
        untyped: &Untyped,
    ) -> Result<(RecordBatch, Vec<BTreeMap<usize, Reason>>)> {
        let width = self.bound.inputs.len();
        let comma = self.shared.settings.decimal == ',';
        let (mut arrays, mut bad) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for (i, index) in self.bound.inputs.iter().enumerate() {
            let mut refused = BTreeMap::new();
            let held = *index < self.held;
            let mut column = Column::new(self.columns[*index].ty, comma && held, untyped.rows);
            match &self.time {
                Time::PassedOn(time, _) if time == index => {
                    for (row, time) in untyped.times.iter().enumerate() {
                        refused.extend(time.as_ref().err().map(|why| (row, why.clone())));
                    }
                    let times = untyped.times.iter().map(|t| t.as_ref().ok().copied().flatten());
                    let mut refuse = |row: usize, reason: Reason| {
                        refused.insert(row, reason);
                    };
                    column.moments(times, &mut refuse)?;
                }
                _ if !held => {
                    let cells = untyped.parts.cells(index - self.held, 0..untyped.rows);
                    let mut refuse = |row: usize, reason: Reason| {
                        refused.insert(row, reason);
                    };
                    column.append(cells, &self.clock, &mut refuse);
                }
                _ => {
                    let fields = &untyped.fields[i.min(untyped.fields.len())..];
                    let ty = self.columns[*index].ty;
                    let cells = ColumnCells::new(self.shared, bytes, fields, width, ty);
                    let mut refuse = |row: usize, reason: Reason| {
                        refused.insert(row, reason);
                    };
                    column.append(cells, &self.clock, &mut refuse);
                }
            }
            arrays.push(column.finish()?);
            bad.push(refused);
        }
        Ok((self.batch(arrays, untyped.rows)?, bad))
    }

    fn batch(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = std::sync::Arc::clone(&self.bound.schema);
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|e| Error::bug("cannot build a batch of rows").because(e))
    }

    fn times(
        &self,
        untyped: &Untyped,
        inputs: &RecordBatch,
        bad: &[BTreeMap<usize, Reason>],
    ) -> Result<Vec<Result<Moment, Failure>>> {
        let (name, program) = match &self.time {
            Time::PassedOn(index, _) => {
                let name = &self.columns[*index].name;
                let fail = |reason: &str| Failure {
                    column: Some(name.clone()),
                    reason: reason.to_owned(),
                };
                let time = |read: &Read| match read {
                    Ok(Some(moment)) => Ok(*moment),
                    Ok(None) => Err(fail(NO_TIME)),
                    Err(reason) => Err(fail(reason)),
                };
                return Ok(untyped.times.iter().map(time).collect());
            }
            Time::Computed(name, program) => (name, program),
        };
        let fail = |reason: String| Failure { column: Some(name.clone()), reason };
        let ran = program
            .run(inputs, &mut Room::default())?
            .ok_or_else(|| Error::bug("times are too large"))?;
        let Ran { values, failed } = ran;
        let times = moments(&values)?.into_iter();
        let mut times: Vec<_> = times.map(|time| time.map_err(|r| fail(r.into_owned()))).collect();
        for (row, reason) in failed {
            times[row] = Err(fail(reason));
        }
        for (row, column, reason) in self.unread(program, bad) {
            times[row] = Err(Failure { column: Some(column), reason });
        }
        Ok(times)
    }
}

/// Values of a time or a date as points in time.
fn moments(values: &ArrayRef) -> Result<Vec<Result<Moment, Reason>>> {
    let whole = |numbers: Vec<Option<i64>>, per: i64| {
        let moment = |n: Option<i64>| {
            let n = n.ok_or(NO_TIME)?;
            let nanos = n.rem_euclid(per) * (1_000_000_000 / per);
            in_range(n.div_euclid(per), nanos as u32)
        };
        numbers.into_iter().map(moment).collect()
    };
    Ok(match values.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            whole(values.as_primitive::<TimestampSecondType>().iter().collect(), 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            whole(values.as_primitive::<TimestampMillisecondType>().iter().collect(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            whole(values.as_primitive::<TimestampMicrosecondType>().iter().collect(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            whole(values.as_primitive::<TimestampNanosecondType>().iter().collect(), 1_000_000_000)
        }
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>().iter();
            whole(days.map(|day| day.map(|day| i64::from(day) * 86_400)).collect(), 1)
        }
        other => return Err(Error::bug(format!("a time of the type {other}"))),
    })
}

/// Whether values of this type say when something is.
fn is_time(ty: ColumnType) -> bool {
    matches!(ty, ColumnType::Instant { .. } | ColumnType::Date)
}

#[cfg(test)]
fn given() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    use super::{CsvSettings, FileSource};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.csv");
    let row = |i: i64| format!("{},{i},\"x\ny\"\n", 1_577_836_800 + i * 3_600);
    let rows: String = (0..240).map(|i| row(i * 77 % 240)).collect();
    let text = format!("s,v,note\n{rows},1,x\n");
    std::fs::write(&path, &text).expect("written");
    let settings = CsvSettings { path: "*.csv".into(), ..CsvSettings::default() };
    let sql = "SELECT to_timestamp_seconds(s) AS t, v, v * 2 AS w, note FROM source \
               WHERE v % 10 <> 3";
    let transform = Transform::parse(sql).expect("well formed");
    let state = dir.path().join("state");
    let source = FileSource::transformed(settings, transform, dir.path(), &state).expect("opened");
    crate::testkit::source_suite::Given {
        source: std::sync::Arc::new(source),
        time: "t",
        change: Box::new(move || {
            std::fs::write(&path, text.replace(",7,", ",8,")).expect("written");
        }),
        _keep: dir,
    }
}

#[cfg(test)]
crate::testkit::conformance!(source: super::given);
