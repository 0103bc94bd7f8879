//! The rows of an interval, and the place of single rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{ReadRequest, SourceBatch};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::{Place, Reject};
use retrofill_core::survey::{Block, Survey};

use super::Shared;
use super::csv::{Field, Format};
use super::header::Order;
use super::parts::Runs;
use super::records::Records;
use super::sorted_copy::Emit;
use super::taker::Taker;
use super::time::{Clock, Form, Last, Moment};
use super::values::{Cells, Column};

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;
/// Source bytes after which a batch is given even if it has fewer rows.
pub(super) const BATCH_BYTES: usize = 16 << 20;
/// Bits of an ordinal that hold the offset; the others hold the file.
const OFFSET_BITS: u32 = 40;
/// The longest file, decompressed.
pub(super) const MOST_BYTES: u64 = 1 << OFFSET_BITS;

/// The place of a record in the order of all.
pub(super) fn ordinal(file: u32, offset: u64) -> u64 {
    u64::from(file) << OFFSET_BITS | offset
}

/// The file and the offset of an ordinal.
pub(super) fn place(ordinal: u64) -> (u32, u64) {
    ((ordinal >> OFFSET_BITS) as u32, ordinal & ((1 << OFFSET_BITS) - 1))
}

/// The index of the file an ordinal stands in.
pub(super) fn file_of(ordinal: u64) -> usize {
    place(ordinal).0 as usize
}

/// A stretch of time, in the clock's numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    from: Moment,
    to: Moment,
}

impl Span {
    pub(super) fn new(interval: &Interval) -> Self {
        Span { from: Moment::new(interval.start()), to: Moment::new(interval.end()) }
    }

    #[inline]
    pub(super) fn contains(&self, t: Moment) -> bool {
        self.from <= t && t < self.to
    }
}

/// Finds the time of records as the survey did.
#[derive(Debug)]
pub(super) struct Timekeeper<'a> {
    shared: &'a Shared,
    clock: Clock,
    /// The time column's index in the survey.
    time: usize,
}

impl<'a> Timekeeper<'a> {
    /// None where the survey saw no time at all.
    pub(super) fn new(
        shared: &'a Shared,
        survey: &Survey,
        columns: &Columns,
    ) -> Result<Option<Self>> {
        let Some(name) = &survey.time_form else { return Ok(None) };
        let form = Form::named(name).ok_or_else(|| {
            Error::config(format!("the plan names times of the form `{name}`, which is unknown"))
                .hint("was the plan made by a newer version?")
        })?;
        let time = source_index(survey, columns, 0)?;
        Ok(Some(Timekeeper { shared, clock: shared.clock(form), time }))
    }

    /// The time of a record that is one; none where it belongs to no slice.
    #[inline]
    pub(super) fn time(
        &self,
        bytes: &[u8],
        fields: &[Field],
        order: &Order,
        last: &mut Last,
    ) -> Option<Moment> {
        let value = self.shared.value(bytes, fields, order, self.time)?;
        self.clock.read_on(&value, last).ok().map(|(moment, _)| moment)
    }
}

/// Which column of the survey the plan's column `index` is: the one of its name, else the one
/// at its position (where the target spells it otherwise).
fn source_index(survey: &Survey, columns: &Columns, index: usize) -> Result<usize> {
    let column = columns.iter().nth(index).ok_or_else(|| Error::bug("no such column"))?;
    let named = survey.columns.iter().position(|c| c.name == column.source_name());
    let at = named.unwrap_or(column.position as usize);
    if at < survey.columns.len() {
        return Ok(at);
    }
    Err(Error::bug(format!("the source has no column `{}`", column.source_name())))
}

/// A row whose fields are not yet values.
#[derive(Debug, Clone, Copy)]
struct Row {
    ordinal: u64,
    line: u64,
    start: usize,
    end: usize,
    moment: Moment,
}

/// Makes batches of records.
#[derive(Debug)]
pub(super) struct Assembler<'a> {
    shared: &'a Shared,
    survey: &'a Survey,
    keeper: Timekeeper<'a>,
    last: Last,
    span: Span,
    plan: &'a Columns,
    schema: SchemaRef,
    /// For each column of the plan its index in the survey.
    sources: Vec<usize>,
    /// Columns of the survey that the files themselves have.
    held: usize,
    columns: Vec<Column>,
    /// Rows of the buffer in hand, and their fields in the order of the plan.
    rows: Vec<Row>,
    fields: Vec<Field>,
    /// What the paths say of these rows.
    parts: Runs,
    /// Rows in `columns`.
    ordinals: Vec<u64>,
    bad: Vec<usize>,
    rejects: Vec<Reject>,
    size: usize,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        request: &'a ReadRequest,
        keeper: Timekeeper<'a>,
    ) -> Result<Self> {
        let (survey, plan) = (&*request.survey, &*request.columns);
        let comma = shared.settings.decimal == ',';
        let sources = (0..plan.len()).map(|i| source_index(survey, plan, i));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let held = survey.held_and_in_paths().0.len();
        // A comma in numbers is a matter of the files alone.
        let column = |(c, at): (&retrofill_core::columns::Column, &usize)| {
            Column::new(c.ty, comma && *at < held, BATCH_ROWS)
        };
        let columns = plan.iter().zip(&sources).map(column).collect();
        Ok(Assembler {
            shared,
            survey,
            keeper,
            last: Last::default(),
            span: Span::new(&request.interval),
            plan,
            schema: plan.arrow_schema(),
            sources,
            held,
            columns,
            rows: Vec::new(),
            fields: Vec::new(),
            parts: Runs::default(),
            ordinals: Vec::new(),
            bad: Vec::new(),
            rejects: Vec::new(),
            size: 0,
        })
    }

    pub(super) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// Takes a record, if it lies in the interval, until `flush` with the same bytes.
    #[inline]
    pub(super) fn record(
        &mut self,
        bytes: &[u8],
        (start, end): (usize, usize),
        line: u64,
        ordinal: u64,
        fields: &[Field],
        order: &Order,
    ) {
        let moment = self.keeper.time(bytes, fields, order, &mut self.last);
        let Some(moment) = moment else { return };
        if self.span.contains(moment) {
            self.parts.add(self.rows.len(), order);
            self.rows.push(Row { ordinal, line, start, end, moment });
            self.fields.extend(self.sources.iter().map(|s| order.field(fields, *s)));
        }
    }

    /// Rows that are in no batch yet.
    pub(super) fn taken(&self) -> usize {
        self.ordinals.len() + self.rows.len()
    }

    /// Whether `flush` would give a batch.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= BATCH_ROWS
    }

    /// Turns what was taken of this buffer into values, and gives a batch if there is enough.
    pub(super) fn flush(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        let first = self.ordinals.len();
        let mut refused: BTreeMap<usize, (usize, String)> = BTreeMap::new();
        for (i, column) in self.columns.iter_mut().enumerate() {
            let mut refuse = |row: usize, reason: std::borrow::Cow<'static, str>| {
                refused.entry(row).or_insert_with(|| (i, reason.into_owned()));
            };
            if i == 0 {
                column.moments(self.rows.iter().map(|r| Some(r.moment)), &mut refuse)?;
            } else if let Some(part) = self.sources[i].checked_sub(self.held) {
                let cells = self.parts.cells(part, 0..self.rows.len());
                column.append(cells, &self.keeper.clock, &mut refuse);
            } else {
                let fields = &self.fields[i.min(self.fields.len())..];
                let width = self.sources.len();
                let cells = ColumnCells::new(self.shared, bytes, fields, width, column.ty());
                column.append(cells, &self.keeper.clock, &mut refuse);
            }
        }
        for (row, (column, reason)) in refused {
            let Row { ordinal, line, start, end, .. } = self.rows[row];
            let (file, offset) = place(ordinal);
            let file = self.survey.files[file as usize].path.clone();
            self.bad.push(first + row);
            self.rejects.push(Reject {
                place: Place { file, line: Some(line), offset },
                column: self.plan.iter().nth(column).map(|c| c.source_name().to_owned()),
                reason,
                text: String::from_utf8_lossy(&bytes[start..end]).into_owned(),
            });
        }
        self.size += self.rows.iter().map(|r| r.end - r.start).sum::<usize>();
        self.ordinals.extend(self.rows.iter().map(|r| r.ordinal));
        self.rows.clear();
        self.fields.clear();
        self.parts.clear();
        if self.ordinals.len() >= BATCH_ROWS || self.size >= BATCH_BYTES {
            return self.finish(emit);
        }
        Ok(true)
    }

    /// Gives the last batch.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) -> Result<bool> {
        if self.ordinals.is_empty() {
            return Ok(true);
        }
        let broken = |e| Error::bug("cannot build a batch of rows").because(e);
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        let mut rows = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(broken)?;
        let mut ordinals = std::mem::take(&mut self.ordinals);
        if !self.bad.is_empty() {
            let mut good = vec![true; ordinals.len()];
            for row in self.bad.drain(..) {
                good[row] = false;
            }
            let mut keep = good.iter();
            ordinals.retain(|_| *keep.next().unwrap_or(&true));
            rows = filter_record_batch(&rows, &BooleanArray::from(good)).map_err(broken)?;
        }
        self.size = 0;
        let rejects = std::mem::take(&mut self.rejects);
        Ok(emit(SourceBatch { rows, ordinals, rejects, filtered: 0 }))
    }
}

/// Every `width`th field, from the first.
pub(super) struct ColumnCells<'a> {
    shared: &'a Shared,
    bytes: &'a [u8],
    fields: &'a [Field],
    width: usize,
    /// Texts keep their quotes.
    quotes: bool,
}

impl<'a> ColumnCells<'a> {
    /// For a column of this type. In a column of JSON, a text of NDJSON is itself JSON.
    pub(super) fn new(
        shared: &'a Shared,
        bytes: &'a [u8],
        fields: &'a [Field],
        width: usize,
        ty: ColumnType,
    ) -> Self {
        let quotes = shared.format == Format::Json && ty == ColumnType::Json;
        ColumnCells { shared, bytes, fields, width, quotes }
    }
}

impl Cells for ColumnCells<'_> {
    #[inline]
    fn each(self, mut take: impl FnMut(usize, Option<&[u8]>)) {
        for (row, field) in self.fields.iter().step_by(self.width).enumerate() {
            let raw = field.raw(self.bytes);
            if self.shared.is_null(raw, field.quoted) {
                take(row, None);
            } else if self.quotes && field.quoted {
                take(row, Some(field.with_quotes(self.bytes)));
            } else if field.doubled {
                take(row, Some(&field.value(self.bytes, self.shared.format)));
            } else {
                take(row, Some(raw));
            }
        }
    }
}

/// Stretches of blocks that follow each other in a file, of at most `most` bytes or one block.
fn runs<'a>(blocks: impl Iterator<Item = &'a Block>, most: u64) -> Vec<Vec<Block>> {
    let mut runs: Vec<Vec<Block>> = Vec::new();
    for block in blocks {
        if let Some(run) = runs.last_mut()
            && let (Some(first), Some(last)) = (run.first(), run.last())
            && last.file == block.file
            && last.offset + last.length == block.offset
            && block.offset + block.length - first.offset <= most
        {
            run.push(block.clone());
        } else {
            runs.push(vec![block.clone()]);
        }
    }
    runs
}

/// Reads the rows of an interval from the files themselves.
pub(super) fn direct(shared: &Shared, request: &ReadRequest, emit: &mut Emit<'_>) -> Result<()> {
    let survey = &*request.survey;
    let Some(mut taker) = Taker::new(shared, request)? else { return Ok(()) };
    let mut open = None;
    let blocks = survey.overlapping(&request.interval).map(|(_, b)| b);
    for run in runs(blocks, shared.sizes.chunk as u64) {
        let index = run[0].file;
        let mut file = match open.take() {
            Some((at, file)) if at == index => file,
            _ => shared.surveyed(survey, index)?,
        };
        let bytes = file.read(&run)?;
        for block in &run {
            let at = (block.offset - run[0].offset) as usize;
            let content = &bytes[at..at + block.length as usize];
            if !taker.block(block, content, &file.order, emit)? {
                return Ok(());
            }
        }
        open = Some((index, file));
    }
    taker.finish(emit).map(|_| ())
}

/// Place and text of single records.
pub(super) fn locate(
    shared: &Shared,
    survey: &Survey,
    ordinals: &[u64],
) -> Result<Vec<(Place, String)>> {
    // By block, in the order of the files.
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let unknown = |n: u64| {
        let (file, offset) = place(n);
        Error::bug(format!("no record starts at byte {offset} of file {file}"))
    };
    for (i, n) in ordinals.iter().enumerate() {
        let behind = survey.blocks.partition_point(|b| ordinal(b.file, b.offset) <= *n);
        wanted.entry(behind.checked_sub(1).ok_or_else(|| unknown(*n))?).or_default().push(i);
    }
    let mut found: Vec<Option<(Place, String)>> = vec![None; ordinals.len()];
    let mut open = None;
    for (index, list) in wanted {
        let block = &survey.blocks[index];
        let mut file = match open.take() {
            Some((at, file)) if at == block.file => file,
            _ => shared.surveyed(survey, block.file)?,
        };
        let bytes = file.read(std::slice::from_ref(block))?;
        let asked: BTreeSet<u64> = list.iter().map(|i| ordinals[*i]).collect();
        let mut texts = BTreeMap::new();
        let mut records = Records::of(shared.format, &bytes, &file.order, block.line);
        let mut fields = Vec::new();
        while let Some(line) = records.next(&mut fields) {
            let offset = block.offset + line.start as u64;
            let ordinal = ordinal(block.file, offset);
            if asked.contains(&ordinal) {
                let path = survey.files[block.file as usize].path.clone();
                let place = Place { file: path, line: Some(line.number), offset };
                let text = String::from_utf8_lossy(&bytes[line.start..line.end]).into_owned();
                texts.insert(ordinal, (place, text));
            }
        }
        for i in list {
            found[i] = texts.get(&ordinals[i]).cloned();
        }
        open = Some((block.file, file));
    }
    let all = found.into_iter().zip(ordinals);
    all.map(|(found, n)| found.ok_or_else(|| unknown(*n))).collect()
}
