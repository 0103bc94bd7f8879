//! Tuples of a binary `COPY .. TO`, straight into Arrow.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use retrofill_core::error::{Error, Kind as ErrorKind, Result};

use super::kind::Kind;
use super::packing::{Field, Packing};
use super::values::{ROWS, Values};

/// What every binary COPY begins with: a signature, flags, and an extension of no bytes.
pub(super) const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Rows, and bytes of them, that gather before they are read column by column: so many that the
/// cache still has them.
const PIECE: usize = 512;
const PIECE_BYTES: usize = 256 << 10;

/// A value that has no exact counterpart in the plan's type; its place holds a NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Odd {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) why: &'static str,
}

/// Some rows, and the values among them that cannot be had.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) rows: RecordBatch,
    pub(super) odd: Vec<Odd>,
}

/// Takes the bytes of one COPY.
pub(super) struct Decoder {
    schema: SchemaRef,
    kinds: Vec<Kind>,
    columns: Vec<Values>,
    packing: Packing,
    /// Rows in `columns`.
    rows: usize,
    /// The bytes of tuples that are in no column yet, and where in them each field lies: its
    /// beginning and its length, which is -1 for a NULL.
    gathered: Vec<u8>,
    fields: Vec<(u32, i32)>,
    odd: Vec<Odd>,
    begun: bool,
    ended: bool,
    /// The beginning of a tuple whose end has not come yet.
    rest: Vec<u8>,
}

impl Decoder {
    /// For tuples of these kinds, in this order. The schema has the plan's types for them.
    pub(super) fn new(kinds: &[Kind], schema: SchemaRef) -> Self {
        Self::packed(kinds, schema, Packing::none(kinds.len()))
    }

    /// For columns of these kinds that were packed.
    pub(super) fn packed(kinds: &[Kind], schema: SchemaRef, packing: Packing) -> Self {
        Decoder {
            packing,
            columns: kinds.iter().map(Values::new).collect(),
            kinds: kinds.to_vec(),
            schema,
            rows: 0,
            gathered: Vec::new(),
            fields: Vec::new(),
            odd: Vec::new(),
            begun: false,
            ended: false,
            rest: Vec::new(),
        }
    }

    /// Takes more bytes; gives a batch where one is full.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Decoded>> {
        if self.rest.is_empty() {
            let used = self.take(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.take(&rest)?;
            rest.drain(..used);
            self.rest = rest;
        }
        let gathered = self.fields.len() / self.columns.len();
        if gathered >= PIECE || self.gathered.len() >= PIECE_BYTES {
            self.spread()?;
        }
        if self.rows >= ROWS { self.finish().map(Some) } else { Ok(None) }
    }

    /// The rows that are left, at the end of the COPY.
    pub(super) fn end(&mut self) -> Result<Option<Decoded>> {
        if !self.ended || !self.rest.is_empty() {
            return Err(Error::unavailable("the server's rows ended early"));
        }
        self.spread()?;
        if self.rows == 0 { Ok(None) } else { self.finish().map(Some) }
    }

    fn finish(&mut self) -> Result<Decoded> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, (values, kind)) in self.columns.iter_mut().zip(&self.kinds).enumerate() {
            // A builder that gave its values away would grow from nothing again.
            let mut values = std::mem::replace(values, Values::new(kind));
            let odd = &mut self.odd;
            arrays.push(values.finish(&mut |row, why| odd.push(Odd { row, column, why }))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::bug("tuples do not fit the plan's columns").because(e))?;
        Ok(Decoded { rows, odd: std::mem::take(&mut self.odd) })
    }

    /// Takes whole tuples; tells how many bytes those were.
    fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        if !self.begun {
            if bytes.len() < HEADER.len() {
                return Ok(0);
            }
            if bytes[..HEADER.len()] != HEADER {
                return Err(Error::bug("the server's COPY has an unknown form"));
            }
            self.begun = true;
            at = HEADER.len();
        }
        while let Some(length) = self.tuple(&bytes[at..])? {
            at += length;
        }
        Ok(at)
    }

    /// Takes a tuple; tells its length, or none where it is not all there.
    fn tuple(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let Some((count, fields)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        if count as usize != self.packing.fields().len() {
            return Err(Error::bug(format!("a tuple has {count} columns")));
        }
        let (known, mut at) = (self.fields.len(), 0);
        self.fields.resize(known + self.columns.len(), (0, -1));
        for field in self.packing.fields() {
            let length = fields.get(at..).and_then(<[u8]>::first_chunk::<4>);
            let length = length.map(|bytes| i32::from_be_bytes(*bytes));
            let end = length.map(|length| at + 4 + length.max(0) as usize);
            let (Some(length), Some(end)) = (length, end.filter(|end| *end <= fields.len())) else {
                self.fields.truncate(known);
                return Ok(None);
            };
            if length < -1 {
                return Err(Error::bug("a field of a tuple has a negative length"));
            }
            let start = (self.gathered.len() + at + 4) as u32;
            let row = &mut self.fields[known..];
            match field {
                Field::One(column) => row[*column] = (start, length),
                Field::Four(columns) if length == 32 => {
                    for (place, column) in (start..).step_by(8).zip(columns) {
                        row[*column] = (place, 8);
                    }
                }
                Field::Four(columns) if length == -1 => {
                    return Err(foreign(&self.schema, columns, "a NULL"));
                }
                Field::Four(_) => return Err(Error::bug("four numbers came in another form")),
            }
            at = end;
        }
        self.gathered.extend_from_slice(&fields[..at]);
        Ok(Some(2 + at))
    }

    /// Reads what has gathered, column by column.
    fn spread(&mut self) -> Result<()> {
        let width = self.columns.len();
        for (column, values) in self.columns.iter_mut().enumerate() {
            let cells = self.fields.iter().skip(column).step_by(width).map(|(start, length)| {
                let length = usize::try_from(*length).ok()?;
                Some(&self.gathered[*start as usize..][..length])
            });
            if self.packing.packs(column) {
                let mut unwritten = None;
                values.fill_numbers(cells, &mut |_, what| unwritten = Some(what));
                if let Some(what) = unwritten {
                    return Err(foreign(&self.schema, &[column], what));
                }
                continue;
            }
            let (first, odd) = (self.rows, &mut self.odd);
            let mut tell = |row: usize, why| odd.push(Odd { row: first + row, column, why });
            values.fill(cells, &mut tell);
        }
        self.rows += self.fields.len() / width;
        self.fields.clear();
        self.gathered.clear();
        Ok(())
    }
}

/// What came back in one of these columns can be nothing that was written.
fn foreign(schema: &Schema, columns: &[usize], what: &str) -> Error {
    let mut names: Vec<_> =
        columns.iter().map(|i| format!("`{}`", schema.field(*i).name())).collect();
    names.dedup();
    let names = names.join(" or ");
    let what = format!("{names} was read back as {what} that nobody has written");
    Error::new(ErrorKind::Mismatch, what)
        .hint("another writer, a trigger, a rule, a damaged disk or a bug changed the slice")
}
