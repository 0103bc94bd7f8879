//! The rows of an interval, and single rows.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{FieldType, ReadRequest, StageRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey};
use rusqlite::Connection;

use super::Shared;
use super::cells::Wish;
use super::chunk::{Chunk, Eye, Stretch, end};
use super::survey::moment;
use super::table::Table;
use crate::columnar::{
    Make, Placed, Sieve, Slices, Sorted, TakeRows, inside, sorted_copy, spelt_column,
};
use crate::files::sorted_copy::Emit;
use crate::files::{Clock, Form, Moment, disjoint, touched};

/// Whether the slices can only be read by reading far more than the table holds.
pub(super) fn needs_sorting(shared: &Shared, survey: &Survey, slices: &[Interval]) -> bool {
    let slices = disjoint(slices);
    let read: u64 = survey.blocks.iter().map(|b| b.rows * touched(b, &slices).len() as u64).sum();
    read > shared.sizes.cheap && read > survey.rows + survey.rows / 2
}

/// Sorts the rows into the state dir.
pub(super) fn sort(shared: &Shared, request: &StageRequest) -> Result<Sorted> {
    let make = Make { state: &shared.state, run: shared.sizes.run, request };
    sorted_copy(&make, &shared.settings, |from, slices, take| {
        pour(shared, (&request.survey, &request.columns), (from, slices), take)
    })
}

/// Gives the rows of all blocks from this place on.
fn pour(
    shared: &Shared,
    (survey, columns): (&Survey, &Columns),
    (from, slices): (u64, &Slices<'_>),
    take: &mut TakeRows<'_>,
) -> Result<()> {
    let Some(clock) = clock(shared, survey)? else { return Ok(()) };
    let connection = shared.connect()?;
    let table = surveyed(shared, &connection, survey)?;
    let reader = Reader::new(shared, (survey, columns), (&connection, &table), clock)?;
    for block in survey.blocks.iter().filter(|b| slices.need(b)) {
        let end = end(block);
        if end < from {
            continue;
        }
        let chunk = reader.block(block)?;
        take(end.saturating_add(1), reader.place(&chunk, &|t| slices.have(t))?)?;
    }
    Ok(())
}

/// Reads the rows of an interval from the table itself.
pub(super) fn direct(shared: &Shared, request: &ReadRequest, emit: &mut Emit<'_>) -> Result<()> {
    let survey = &*request.survey;
    let Some(clock) = clock(shared, survey)? else { return Ok(()) };
    let connection = shared.connect()?;
    let table = surveyed(shared, &connection, survey)?;
    let of = (survey, &*request.columns);
    let reader = Reader::new(shared, of, (&connection, &table), clock)?;
    let wanted = inside(&request.interval);
    for (_, block) in survey.overlapping(&request.interval) {
        let chunk = reader.block(block)?;
        if let Some(placed) = reader.place(&chunk, &wanted)?
            && !emit(placed.into())
        {
            break;
        }
    }
    Ok(())
}

/// What reads the times; none where the survey saw none.
fn clock(shared: &Shared, survey: &Survey) -> Result<Option<Clock>> {
    let Some(name) = survey.time_form.as_ref().filter(|_| survey.rows > 0) else {
        return Ok(None);
    };
    let form = Form::named(name).ok_or_else(|| {
        let what = format!("the plan names times of the form `{name}`, which is unknown");
        Error::config(what).hint("was the plan made by a newer version?")
    })?;
    Ok(Some(shared.clock(form)))
}

/// The table, if it still has the columns of the survey.
fn surveyed(shared: &Shared, connection: &Connection, survey: &Survey) -> Result<Table> {
    let table = Table::look(shared, connection).map_err(|e| match e.kind() {
        Kind::Config => shared.stale("cannot be read as planned").because(e),
        _ => e,
    })?;
    match survey.columns.iter().find(|c| table.column(&c.name).is_none()) {
        None => Ok(table),
        Some(gone) => Err(shared.stale(&format!("has no column `{}` any more", gone.name))),
    }
}

/// Turns rows of the table into rows of the plan.
struct Reader<'a> {
    shared: &'a Shared,
    plan: &'a Columns,
    eye: Eye<'a>,
    /// Of each column of the plan its place among those of the survey.
    order: Vec<usize>,
    clock: Clock,
}

impl<'a> Reader<'a> {
    fn new(
        shared: &'a Shared,
        (survey, plan): (&Survey, &'a Columns),
        (connection, table): (&'a Connection, &'a Table),
        clock: Clock,
    ) -> Result<Self> {
        let eye = eye(shared, connection, table, survey);
        let at = |name: &str| {
            survey
                .columns
                .iter()
                .position(|c: &FieldType| c.name == name)
                .ok_or_else(|| Error::bug(format!("the source has no column `{name}`")))
        };
        let order = plan.iter().map(|c| at(c.source_name())).collect::<Result<_>>()?;
        Ok(Reader { shared, plan, eye, order, clock })
    }

    /// A block of the survey, if it is still the same.
    fn block(&self, block: &Block) -> Result<Chunk> {
        block_of(self.shared, &self.eye, block)
    }

    /// The rows that `wanted` says yes to, in the plan's types; none where there are none.
    fn place(&self, chunk: &Chunk, wanted: &impl Fn(Moment) -> bool) -> Result<Option<Placed>> {
        let (mut moments, mut picked) = (Vec::new(), Vec::new());
        for row in 0..chunk.places.len() {
            if let Ok((moment, _)) = moment(chunk, self.order[0], row, Some(&self.clock))
                && wanted(moment)
            {
                moments.push(moment);
                picked.push(row as u32);
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        let mut ordinals: Vec<u64> = picked.iter().map(|row| chunk.places[*row as usize]).collect();
        let (columns, refused) = self.columns(chunk, &picked, &moments)?;
        let broken = |e| Error::bug("rows do not fit the plan's columns").because(e);
        let rows = RecordBatch::try_new(self.plan.arrow_schema(), columns).map_err(broken)?;
        if refused.is_empty() {
            return Ok(Some(Placed { rows, ordinals, moments, rejects: Vec::new() }));
        }
        let mut rejects = Vec::with_capacity(refused.len());
        let sieve = Sieve::without(ordinals.len(), refused.keys().copied());
        for (row, (column, reason)) in refused {
            let reject = Reject {
                place: self.shared.place(self.eye.table, ordinals[row]),
                column: self.plan.iter().nth(column).map(|c| c.source_name().to_owned()),
                reason,
                text: chunk.text(picked[row] as usize),
            };
            rejects.push((moments[row].timestamp(), reject));
        }
        sieve.list(&mut ordinals);
        sieve.list(&mut moments);
        let rows = sieve.rows(&rows)?;
        Ok(Some(Placed { rows, ordinals, moments, rejects }))
    }

    /// The plan's columns, and of each refused row the first column that refused it.
    #[allow(clippy::type_complexity, reason = "it is taken apart where it is made")]
    fn columns(
        &self,
        chunk: &Chunk,
        picked: &[u32],
        moments: &[Moment],
    ) -> Result<(Vec<arrow::array::ArrayRef>, BTreeMap<usize, (usize, String)>)> {
        let mut refused = BTreeMap::new();
        let mut columns = Vec::with_capacity(self.order.len());
        for (i, (wanted, at)) in self.plan.iter().zip(&self.order).enumerate() {
            let (array, bad) = if i == 0 {
                spelt_column(moments, wanted.ty)?
            } else {
                let name = wanted.source_name();
                let gone = || Error::bug(format!("the table has no column `{name}`"));
                let wish = Wish {
                    to: wanted.ty,
                    declared: self.eye.table.column(name).ok_or_else(gone)?,
                    given: self.shared.types.get(name).is_some(),
                    zone: &self.shared.zone,
                };
                chunk.columns[*at].picked(picked)?.column(&wish)?
            };
            for (row, reason) in bad {
                refused.entry(row).or_insert((i, reason));
            }
            columns.push(array);
        }
        Ok((columns, refused))
    }
}

/// Reads the columns of a survey.
fn eye<'a>(
    shared: &'a Shared,
    connection: &'a Connection,
    table: &'a Table,
    survey: &Survey,
) -> Eye<'a> {
    let names: Vec<_> = survey.columns.iter().map(|c| c.name.as_str()).collect();
    Eye::new(shared, connection, table, &names)
}

fn block_of(shared: &Shared, eye: &Eye<'_>, block: &Block) -> Result<Chunk> {
    let chunk = eye.read(Stretch::Between(block.offset, end(block)))?;
    if chunk.hash == block.hash {
        return Ok(chunk);
    }
    let table = &shared.settings.table;
    Err(shared.stale(&format!("has other rows in `{table}` than it had, from row {}", block.line)))
}

/// Place and text of single rows.
pub(super) fn locate(
    shared: &Shared,
    survey: &Survey,
    ordinals: &[u64],
) -> Result<Vec<(Place, String)>> {
    let connection = shared.connect()?;
    let table = surveyed(shared, &connection, survey)?;
    let eye = eye(shared, &connection, &table, survey);
    let unknown = |n: u64| Error::bug(format!("the survey has no row at {n}"));
    let mut wanted: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for n in ordinals {
        let behind = survey.blocks.partition_point(|b| b.offset <= *n);
        wanted.entry(behind.checked_sub(1).ok_or_else(|| unknown(*n))?).or_default().push(*n);
    }
    let mut texts = BTreeMap::new();
    for (index, asked) in wanted {
        let chunk = block_of(shared, &eye, &survey.blocks[index])?;
        for n in asked {
            let row = chunk.places.binary_search(&n).map_err(|_| unknown(n))?;
            texts.insert(n, chunk.text(row));
        }
    }
    let found = |n: &u64| {
        let text = texts.get(n).cloned().ok_or_else(|| unknown(*n))?;
        Ok((shared.place(&table, *n), text))
    };
    ordinals.iter().map(found).collect()
}
