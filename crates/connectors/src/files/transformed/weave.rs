//! The rows of an interval, as the transform gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{ReadRequest, SourceBatch};
use retrofill_core::error::{Error, Result};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::Survey;

use super::super::Shared;
use super::super::csv::Field;
use super::super::header::Order;
use super::super::read::{ColumnCells, Span, place};
use super::super::sorted_copy::Emit;
use super::super::time::{Moment, Reason};
use super::super::values::Column;
use super::{Failure, Fate, Judged, Loom, Untyped};
use crate::transform::{Origin, Program, Ran, Room, fit};

/// Where a record stands.
#[derive(Debug, Clone, Copy)]
struct Row {
    ordinal: u64,
    line: u64,
    start: usize,
    end: usize,
}

/// Where a column of the plan comes from.
#[derive(Debug)]
enum Thread {
    Time,
    /// A column of the source, by its place among those that are passed on.
    PassedOn(usize),
    /// A column in the paths of the files, by its place among those.
    InPath(usize),
    Computed(Program),
}

/// Makes batches of records.
#[derive(Debug)]
pub(in super::super) struct Weaver<'a> {
    loom: Loom<'a>,
    survey: &'a Survey,
    span: Span,
    /// From the first to the last time of rows that stay: what is left out beyond them belongs
    /// to no slice and was counted by the survey.
    seen: Option<(Moment, Moment)>,
    plan: &'a Columns,
    schema: SchemaRef,
    threads: Vec<Thread>,
    /// The columns that are passed on, by index in the source.
    passed_on: Vec<usize>,
    untyped: Untyped,
    rows: Vec<Row>,
    /// The fields that are passed on, row by row.
    fields: Vec<Field>,
}

impl<'a> Weaver<'a> {
    pub(in super::super) fn new(loom: Loom<'a>, request: &'a ReadRequest) -> Result<Self> {
        let (survey, plan) = (&*request.survey, &*request.columns);
        let mut passed_on = Vec::new();
        let mut threads = Vec::with_capacity(plan.len());
        for (i, column) in plan.iter().enumerate() {
            let name = column.source_name();
            let origin = loom.bound.output(name);
            let origin = origin.ok_or_else(|| Error::bug(format!("no column `{name}`")))?;
            threads.push(match origin {
                _ if i == 0 => Thread::Time,
                Origin::Column(index) if *index >= loom.held => Thread::InPath(index - loom.held),
                Origin::Column(index) => {
                    passed_on.push(*index);
                    Thread::PassedOn(passed_on.len() - 1)
                }
                Origin::Computed(program) => Thread::Computed(program.clone()),
            });
        }
        let seen = survey.time_range().map(|(min, max)| (Moment::new(min), Moment::new(max)));
        Ok(Weaver {
            loom,
            survey,
            span: Span::new(&request.interval),
            seen,
            plan,
            schema: plan.arrow_schema(),
            threads,
            passed_on,
            untyped: Untyped::default(),
            rows: Vec::new(),
            fields: Vec::new(),
        })
    }

    pub(in super::super) fn shared(&self) -> &'a Shared {
        self.loom.shared
    }

    #[inline]
    pub(in super::super) fn record(
        &mut self,
        bytes: &[u8],
        (start, end): (usize, usize),
        line: u64,
        ordinal: u64,
        fields: &[Field],
        order: &Order,
    ) {
        let time = self.loom.passed_on(bytes, fields, order);
        match &time {
            Some(Ok(Some(moment))) if self.span.contains(*moment) => {}
            // It belongs to another slice, or to none.
            Some(_) => return,
            None => {}
        }
        self.loom.take(&mut self.untyped, time, fields, order, end - start);
        self.rows.push(Row { ordinal, line, start, end });
        self.fields.extend(self.passed_on.iter().map(|i| order.field(fields, *i)));
    }

    pub(in super::super) fn is_full(&self) -> bool {
        self.untyped.is_full()
    }

    /// Gives what there is.
    pub(in super::super) fn flush(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        if self.rows.is_empty() {
            return Ok(true);
        }
        let judged = self.loom.judge(bytes, &self.untyped)?;
        let (mut stay, mut filtered, mut rejects) = (Vec::new(), 0, Vec::new());
        for (row, fate) in judged.fates.iter().enumerate() {
            let Some(moment) = fate.moment().filter(|m| self.span.contains(*m)) else { continue };
            match fate {
                Fate::Stays(_) => stay.push((row, moment)),
                Fate::LeftOut(_) if self.is_seen(moment) => filtered += 1,
                Fate::LeftOut(_) => {}
                Fate::Fails(_, failure) => rejects.push(self.reject(bytes, row, failure)),
            }
        }
        let wanted = self.give(bytes, &judged, &stay, &mut |mut batch| {
            batch.filtered = std::mem::take(&mut filtered);
            batch.rejects.append(&mut rejects);
            let something =
                batch.rows.num_rows() > 0 || batch.filtered > 0 || !batch.rejects.is_empty();
            !something || emit(batch)
        });
        self.untyped.clear();
        self.rows.clear();
        self.fields.clear();
        wanted
    }

    fn is_seen(&self, moment: Moment) -> bool {
        self.seen.is_some_and(|(min, max)| min <= moment && moment <= max)
    }

    fn reject(&self, bytes: &[u8], row: usize, failure: &Failure) -> Reject {
        let Row { ordinal, line, start, end } = self.rows[row];
        let (file, offset) = place(ordinal);
        let file = self.survey.files[file as usize].path.clone();
        Reject {
            place: Place { file, line: Some(line), offset },
            column: failure.column.clone(),
            reason: failure.reason.clone(),
            text: String::from_utf8_lossy(&bytes[start..end]).into_owned(),
        }
    }

    /// Gives rows that stay, in as many batches as memory asks for, at least one.
    fn give(
        &self,
        bytes: &[u8],
        judged: &Judged,
        stay: &[(usize, Moment)],
        emit: &mut Emit<'_>,
    ) -> Result<bool> {
        let mut failed: BTreeMap<usize, Failure> = BTreeMap::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.plan.len());
        let rows: UInt64Array = stay.iter().map(|(row, _)| *row as u64).collect();
        // A transform that computes nothing has no inputs.
        let inputs = match judged.inputs.num_columns() {
            0 => judged.inputs.slice(0, stay.len()),
            _ => take_record_batch(&judged.inputs, &rows).map_err(broken)?,
        };
        let mut room = Room::default();
        for (column, thread) in self.plan.iter().zip(&self.threads) {
            let fail = |column: String, reason: String| Failure { column: Some(column), reason };
            let name = column.source_name().to_owned();
            let mut refused: Vec<(usize, Failure)> = Vec::new();
            let mut refuse = |row: usize, reason: Reason| {
                refused.push((row, fail(name.clone(), reason.into_owned())));
            };
            let comma = self.comma() && !matches!(thread, Thread::InPath(_));
            let mut values = Column::new(column.ty, comma, stay.len());
            arrays.push(match thread {
                Thread::Time => {
                    values.moments(stay.iter().map(|(_, moment)| Some(*moment)), &mut refuse)?;
                    values.finish()?
                }
                Thread::PassedOn(at) => {
                    let fields = self.picked(*at, stay);
                    let shared = self.loom.shared;
                    let cells = ColumnCells::new(shared, bytes, &fields, 1, column.ty);
                    values.append(cells, &self.loom.clock, &mut refuse);
                    values.finish()?
                }
                Thread::InPath(at) => {
                    let rows = stay.iter().map(|(row, _)| *row);
                    let cells = self.untyped.parts.cells(*at, rows);
                    values.append(cells, &self.loom.clock, &mut refuse);
                    values.finish()?
                }
                Thread::Computed(program) => {
                    let Some(ran) = program.run(&inputs, &mut room)? else {
                        let (first, rest) = stay.split_at(stay.len() / 2);
                        return Ok(self.give(bytes, judged, first, emit)?
                            && self.give(bytes, judged, rest, emit)?);
                    };
                    let Ran { values, failed } = fit(ran, column.ty)?;
                    for (row, reason) in failed {
                        refuse(row, reason.into());
                    }
                    refused.splice(0..0, self.unread(program, judged, stay));
                    values
                }
            });
            for (row, failure) in refused {
                failed.entry(row).or_insert(failure);
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(broken)?;
        Ok(emit(self.without(bytes, rows, stay, &failed)?))
    }

    fn comma(&self) -> bool {
        self.loom.shared.settings.decimal == ','
    }

    /// The fields of one column that is passed on.
    fn picked(&self, at: usize, stay: &[(usize, Moment)]) -> Vec<Field> {
        let width = self.passed_on.len();
        stay.iter().map(|(row, _)| self.fields[row * width + at]).collect()
    }

    /// Rows whose fields do not fit what an expression reads.
    fn unread(
        &self,
        program: &Program,
        judged: &Judged,
        stay: &[(usize, Moment)],
    ) -> Vec<(usize, Failure)> {
        let bad = self.loom.unread(program, &judged.bad);
        let at = |row: usize| stay.binary_search_by_key(&row, |(row, _)| *row).ok();
        let failure = |column, reason| Failure { column: Some(column), reason };
        bad.into_iter()
            .filter_map(|(row, c, reason)| Some((at(row)?, failure(c, reason))))
            .collect()
    }

    /// The rows but those that failed, which are refused.
    fn without(
        &self,
        bytes: &[u8],
        rows: RecordBatch,
        stay: &[(usize, Moment)],
        failed: &BTreeMap<usize, Failure>,
    ) -> Result<SourceBatch> {
        let good: Vec<usize> = (0..stay.len()).filter(|row| !failed.contains_key(row)).collect();
        let rejects = failed.iter().map(|(row, f)| self.reject(bytes, stay[*row].0, f)).collect();
        let ordinals = good.iter().map(|row| self.rows[stay[*row].0].ordinal).collect();
        let rows = if failed.is_empty() {
            rows
        } else {
            let good: UInt64Array = good.into_iter().map(|row| row as u64).collect();
            take_record_batch(&rows, &good).map_err(broken)?
        };
        Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 })
    }
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::bug("cannot build a batch of CSV rows").because(e)
}
