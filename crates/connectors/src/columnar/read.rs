//! The rows of an interval, and single rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use jiff::Timestamp;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{ReadRequest, SourceBatch};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey};

use super::Shared;
use super::convert::{Bad, column, shown};
use super::opened::{Held, Opened, Stretch};
use super::sieve::Sieve;
use super::table::order;
use super::times::Times;
use crate::files::sorted_copy::Emit;
use crate::files::{Form, Moment, is_refusal, stale};

/// Bits of an ordinal that hold the row; the others hold the file.
const ROW_BITS: u32 = 40;

/// The place of a row in the order of all.
pub(super) fn ordinal(file: u32, row: u64) -> u64 {
    u64::from(file) << ROW_BITS | row
}

fn place(ordinal: u64) -> (u32, u64) {
    ((ordinal >> ROW_BITS) as u32, ordinal & ((1 << ROW_BITS) - 1))
}

/// Rows of a plan, with what tells where they belong.
pub(crate) struct Placed {
    /// In the plan's columns.
    pub(crate) rows: RecordBatch,
    pub(crate) ordinals: Vec<u64>,
    pub(crate) moments: Vec<Moment>,
    /// Rows that do not fit the plan's types.
    pub(crate) rejects: Vec<(Timestamp, Reject)>,
}

/// Rows as a file has them.
pub(super) struct Raw {
    index: u32,
    path: Arc<str>,
    /// Place of the first row in the file.
    first: u64,
    batch: RecordBatch,
}

impl Raw {
    /// The place behind the last row, in the order of all.
    pub(super) fn end(&self) -> u64 {
        ordinal(self.index, self.first + self.batch.num_rows() as u64)
    }
}

/// A stretch that is being read.
pub(super) struct Stream {
    index: u32,
    path: Arc<str>,
    row: u64,
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
}

impl Stream {
    /// The next rows; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Raw>> {
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        let first = self.row;
        self.row += batch.num_rows() as u64;
        Ok(Some(Raw { index: self.index, path: self.path.clone(), first, batch }))
    }
}

/// Opens the files of a survey one after the other, and trusts none that has changed.
pub(super) struct Surveyed<'a> {
    shared: &'a Shared,
    pub(super) survey: &'a Survey,
    open: Option<(u32, Opened)>,
}

impl<'a> Surveyed<'a> {
    pub(super) fn new(shared: &'a Shared, survey: &'a Survey) -> Self {
        Surveyed { shared, survey, open: None }
    }

    /// The file, by its index in the survey. `Stale` where it cannot be read as planned.
    fn file(&mut self, index: u32) -> Result<&Opened> {
        if self.open.as_ref().is_none_or(|(at, _)| *at != index) {
            let stamp = self.survey.files.get(index as usize);
            let stamp =
                stamp.ok_or_else(|| Error::bug(format!("the survey has no file {index}")))?;
            let file = Opened::open(self.shared, stamp).map_err(|e| changed(stamp, e))?;
            self.open = Some((index, file));
        }
        let (_, file) = self.open.as_ref().expect("it was opened just now");
        Ok(file)
    }

    /// The stretch that a block is, its bytes those of the survey.
    pub(super) fn block(&mut self, block: &Block) -> Result<Held<'_>> {
        let file = self.file(block.file)?;
        let is = |s: &Stretch| (s.offset, s.length) == (block.offset, block.length);
        let at = file.stretches.iter().position(|s| is(s) && s.first + 1 == block.line);
        if let Some(at) = at {
            let held = file.stretch(at)?;
            if held.hash()? == block.hash {
                return Ok(held);
            }
        }
        let end = block.offset + block.length;
        let what = format!("changed between the bytes {} and {end}", block.offset);
        Err(stale(&file.stamp.path, &what))
    }
}

fn changed(stamp: &retrofill_core::survey::FileStamp, e: Error) -> Error {
    match e.kind() {
        retrofill_core::error::Kind::Config if !is_refusal(&e) => {
            stale(&stamp.path, "cannot be read as planned").because(e)
        }
        _ => e,
    }
}

/// Turns rows of the files into rows of the plan.
pub(super) struct Reader<'a> {
    shared: &'a Shared,
    plan: &'a Columns,
    schema: SchemaRef,
    times: Times,
    /// The names that the plan's columns have in the files.
    names: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    /// None where the survey saw no time at all.
    pub(super) fn new(
        shared: &'a Shared,
        survey: &Survey,
        plan: &'a Columns,
    ) -> Result<Option<Self>> {
        let form = match &survey.time_form {
            None => None,
            Some(name) => Some(Form::named(name).ok_or_else(|| {
                let what = format!("the plan names times of the form `{name}`, which is unknown");
                Error::config(what).hint("was the plan made by a newer version?")
            })?),
        };
        if survey.rows == 0 {
            return Ok(None);
        }
        let times = shared.times(form);
        let names = plan.iter().map(|c| source_name(survey, c)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Reader { shared, plan, schema: plan.arrow_schema(), times, names }))
    }

    /// Starts to read a stretch.
    pub(super) fn stream(&self, index: u32, held: &Held<'_>) -> Result<Stream> {
        let order = order(&self.names, held.opened.schema());
        let columns: Vec<usize> = order.iter().copied().flatten().collect();
        Ok(Stream {
            index,
            path: held.opened.stamp.path.as_str().into(),
            row: held.stretch().first,
            batches: Box::new(held.batches(&columns)?),
        })
    }

    /// The rows that `wanted` says yes to, in the plan's types; none where there are none.
    pub(super) fn place(
        &self,
        raw: &Raw,
        wanted: &impl Fn(Moment) -> bool,
    ) -> Result<Option<Placed>> {
        let Raw { index, path, first, batch } = raw;
        let broken = |e| Error::bug("rows cannot be taken out of a batch").because(e);
        let Some(time) = batch.column_by_name(self.names[0]) else { return Ok(None) };
        let mut moments = Vec::with_capacity(batch.num_rows());
        let mut picked: Vec<u32> = Vec::with_capacity(batch.num_rows());
        for (row, time) in self.times.read(time)?.into_iter().enumerate() {
            if let Ok((moment, _)) = time
                && wanted(moment)
            {
                moments.push(moment);
                picked.push(row as u32);
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        let mut ordinals: Vec<u64> =
            picked.iter().map(|row| ordinal(*index, first + u64::from(*row))).collect();
        let batch = if picked.len() == batch.num_rows() {
            batch.clone()
        } else {
            take_record_batch(batch, &UInt32Array::from(picked)).map_err(broken)?
        };
        let (columns, refused) = self.columns(&batch, &moments)?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(broken)?;
        if refused.is_empty() {
            return Ok(Some(Placed { rows, ordinals, moments, rejects: Vec::new() }));
        }
        let mut rejects = Vec::with_capacity(refused.len());
        let sieve = Sieve::without(ordinals.len(), refused.keys().copied());
        for (row, (column, reason)) in refused {
            let (_, offset) = place(ordinals[row]);
            let place = Place { file: path.to_string(), line: Some(offset + 1), offset };
            let column = self.plan.iter().nth(column).map(|c| c.source_name().to_owned());
            let reject = Reject { place, column, reason, text: text(&batch, row) };
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
        batch: &RecordBatch,
        moments: &[Moment],
    ) -> Result<(Vec<ArrayRef>, BTreeMap<usize, (usize, String)>)> {
        let mut refused = BTreeMap::new();
        let mut columns = Vec::with_capacity(self.names.len());
        for (i, (wanted, name)) in self.plan.iter().zip(&self.names).enumerate() {
            let (array, bad): (ArrayRef, Bad) = match batch.column_by_name(name) {
                None => (new_null_array(&wanted.ty.arrow(), batch.num_rows()), Bad::new()),
                Some(array) if i > 0 => column(array, wanted.ty, &self.shared.zone)?,
                Some(array) => self.times.column(array, moments, wanted.ty)?,
            };
            for (row, reason) in bad {
                refused.entry(row).or_insert((i, reason));
            }
            columns.push(array);
        }
        Ok((columns, refused))
    }
}

/// The name that a column of the plan has in the files.
fn source_name<'a>(
    survey: &Survey,
    column: &'a retrofill_core::columns::Column,
) -> Result<&'a str> {
    let name = column.source_name();
    if survey.columns.iter().any(|c| c.name == name) {
        return Ok(name);
    }
    Err(Error::bug(format!("the source has no column `{name}`")))
}

/// A row as comma-separated values in the file's order.
pub(super) fn text(batch: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = batch
        .columns()
        .iter()
        .map(|c| if c.is_null(row) { String::new() } else { shown(c, row) })
        .collect();
    values.join(",")
}

/// Reads the rows of an interval from the files themselves.
pub(super) fn direct(shared: &Shared, request: &ReadRequest, emit: &mut Emit<'_>) -> Result<()> {
    let survey = &*request.survey;
    let Some(reader) = Reader::new(shared, survey, &request.columns)? else { return Ok(()) };
    let inside = inside(&request.interval);
    let mut files = Surveyed::new(shared, survey);
    for (_, block) in survey.overlapping(&request.interval) {
        let mut stream = reader.stream(block.file, &files.block(block)?)?;
        while let Some(raw) = stream.next()? {
            if let Some(placed) = reader.place(&raw, &inside)?
                && !emit(placed.into())
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether a moment lies in the interval.
pub(crate) fn inside(interval: &Interval) -> impl Fn(Moment) -> bool + use<> {
    let (from, to) = (Moment::new(interval.start()), Moment::new(interval.end()));
    move |t| from <= t && t < to
}

impl From<Placed> for SourceBatch {
    fn from(placed: Placed) -> Self {
        SourceBatch {
            rows: placed.rows,
            ordinals: placed.ordinals,
            rejects: placed.rejects.into_iter().map(|(_, reject)| reject).collect(),
            filtered: 0,
        }
    }
}

/// Place and text of single rows.
pub(super) fn locate(
    shared: &Shared,
    survey: &Survey,
    ordinals: &[u64],
) -> Result<Vec<(Place, String)>> {
    let unknown = |n: u64| {
        let (file, row) = place(n);
        Error::bug(format!("the survey has no row {row} in file {file}"))
    };
    let mut wanted: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for n in ordinals {
        let behind = survey.blocks.partition_point(|b| ordinal(b.file, b.line - 1) <= *n);
        wanted.entry(behind.checked_sub(1).ok_or_else(|| unknown(*n))?).or_default().push(*n);
    }
    let mut files = Surveyed::new(shared, survey);
    let mut texts = BTreeMap::new();
    for (index, mut asked) in wanted {
        asked.sort_unstable();
        let block = &survey.blocks[index];
        let held = files.block(block)?;
        let all: Vec<usize> = (0..held.opened.schema().fields().len()).collect();
        let mut first = ordinal(block.file, held.stretch().first);
        for batch in held.batches(&all)? {
            let batch = batch?;
            let end = first + batch.num_rows() as u64;
            let from = asked.partition_point(|n| *n < first);
            let to = asked.partition_point(|n| *n < end);
            texts.extend(asked[from..to].iter().map(|n| (*n, text(&batch, (n - first) as usize))));
            first = end;
        }
    }
    let found = |n: &u64| {
        let (file, row) = place(*n);
        let path = survey.files.get(file as usize).map(|f| f.path.clone());
        let text = texts.get(n).cloned();
        let place = |file| Place { file, line: Some(row + 1), offset: row };
        path.zip(text).map(|(file, text)| (place(file), text)).ok_or_else(|| unknown(*n))
    };
    ordinals.iter().map(found).collect()
}
