//! Tuples of a binary `COPY .. TO`, straight into Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder,
    LargeStringBuilder, ListArray, NullBufferBuilder, PrimitiveBuilder, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type,
    Int16Type, Int32Type, Int64Type, SchemaRef, Time64MicrosecondType, TimestampMicrosecondType,
};
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};

use super::kind::{Base, Kind};
use super::numeric;

/// Days and microseconds from 1970 to 2000, where PostgreSQL's calendar begins.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What every binary COPY begins with: a signature, flags, and an extension of no bytes.
pub(super) const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Rows in one batch.
const ROWS: usize = 8_192;

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
    rows: usize,
    odd: Vec<Odd>,
    begun: bool,
    ended: bool,
    /// The beginning of a tuple whose end has not come yet.
    rest: Vec<u8>,
}

impl Decoder {
    /// For tuples of these kinds, in this order. The schema has the plan's types for them.
    pub(super) fn new(kinds: &[Kind], schema: SchemaRef) -> Self {
        Decoder {
            columns: kinds.iter().map(Values::new).collect(),
            kinds: kinds.to_vec(),
            schema,
            rows: 0,
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
        if self.rows >= ROWS { self.finish().map(Some) } else { Ok(None) }
    }

    /// The rows that are left, at the end of the COPY.
    pub(super) fn end(&mut self) -> Result<Option<Decoded>> {
        if !self.ended || !self.rest.is_empty() {
            return Err(Error::unavailable("the server's rows ended early"));
        }
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
        while let Some(end) = tuple_end(&bytes[at..])? {
            self.tuple(&bytes[at..at + end])?;
            at += end;
        }
        Ok(at)
    }

    fn tuple(&mut self, bytes: &[u8]) -> Result<()> {
        let count = i16::from_be_bytes([bytes[0], bytes[1]]);
        if count == -1 {
            self.ended = true;
            return Ok(());
        }
        if count as usize != self.columns.len() {
            return Err(Error::bug(format!("a tuple has {count} columns")));
        }
        let mut rest = &bytes[2..];
        for (column, values) in self.columns.iter_mut().enumerate() {
            let (value, next) = field(rest);
            rest = next;
            if let Err(why) = values.push(value) {
                self.odd.push(Odd { row: self.rows, column, why });
            }
        }
        self.rows += 1;
        Ok(())
    }
}

/// A field of a tuple, none where it is NULL, and what follows.
fn field(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let (length, rest) = bytes.split_at(4);
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if length < 0 {
        return (None, rest);
    }
    let (value, rest) = rest.split_at(length as usize);
    (Some(value), rest)
}

/// Where the first tuple ends; none where it is not all there.
fn tuple_end(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(count) = bytes.first_chunk::<2>() else { return Ok(None) };
    let count = i16::from_be_bytes(*count);
    let mut at = 2;
    for _ in 0..count {
        let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        if length < -1 {
            return Err(Error::bug("a field of a tuple has a negative length"));
        }
        at += 4 + length.max(0) as usize;
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The values of one column so far.
enum Values {
    Bool(BooleanBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Spot(PrimitiveBuilder<Int64Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    Numeric(PrimitiveBuilder<Decimal128Type>, u8, i8),
    /// Whether all of it is UTF-8 is asked at the end, of the whole column at once.
    Text(BinaryBuilder),
    Bytea(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Instant(PrimitiveBuilder<TimestampMicrosecondType>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Uuid(FixedSizeBinaryBuilder),
    Json(LargeStringBuilder),
    /// With the version byte that is the only one there is.
    Jsonb(LargeStringBuilder),
    List(Box<Lists>),
}

struct Lists {
    item: DataType,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
    /// Elements in all.
    count: usize,
    inner: Values,
}

impl Values {
    fn new(kind: &Kind) -> Self {
        if kind.element.is_some() {
            let inner = Kind { base: kind.base.clone(), element: None };
            return Values::List(Box::new(Lists {
                item: inner.column_type().arrow(),
                offsets: vec![0],
                nulls: NullBufferBuilder::new(ROWS),
                count: 0,
                inner: Values::new(&inner),
            }));
        }
        match &kind.base {
            Base::Bool => Values::Bool(BooleanBuilder::with_capacity(ROWS)),
            Base::Int2 => Values::Int2(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Int4 => Values::Int4(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Int8 => Values::Int8(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Spot => Values::Spot(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Float4 => Values::Float4(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Float8 => Values::Float8(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Numeric(_) => match kind.column_type() {
                ColumnType::Decimal { precision, scale } => {
                    Values::Numeric(PrimitiveBuilder::with_capacity(ROWS), precision, scale)
                }
                _ => Values::Text(BinaryBuilder::new()),
            },
            Base::Text { .. } | Base::Enum(_) => {
                Values::Text(BinaryBuilder::with_capacity(ROWS, ROWS * 8))
            }
            Base::Bytea => Values::Bytea(BinaryBuilder::new()),
            Base::Date => Values::Date(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Timestamp | Base::Timestamptz => Values::Instant(
                PrimitiveBuilder::with_capacity(ROWS).with_data_type(kind.column_type().arrow()),
            ),
            Base::Time => Values::Time(PrimitiveBuilder::with_capacity(ROWS)),
            Base::Uuid => Values::Uuid(FixedSizeBinaryBuilder::with_capacity(ROWS, 16)),
            Base::Json => Values::Json(LargeStringBuilder::new()),
            Base::Jsonb => Values::Jsonb(LargeStringBuilder::new()),
        }
    }

    /// Appends a value; where it cannot be had, a NULL.
    fn push(&mut self, value: Option<&[u8]>) -> std::result::Result<(), &'static str> {
        match self {
            Values::Bool(b) => put(value, |v| Ok(fixed::<1>(v)?[0] != 0), |v| b.append_option(v)),
            Values::Int2(b) => number(b, value, |v| Ok(i16::from_be_bytes(fixed(v)?))),
            Values::Int4(b) => number(b, value, |v| Ok(i32::from_be_bytes(fixed(v)?))),
            Values::Int8(b) => number(b, value, |v| Ok(i64::from_be_bytes(fixed(v)?))),
            Values::Spot(b) => number(b, value, spot),
            Values::Float4(b) => number(b, value, |v| Ok(f32::from_be_bytes(fixed(v)?))),
            Values::Float8(b) => number(b, value, |v| Ok(f64::from_be_bytes(fixed(v)?))),
            Values::Numeric(b, precision, scale) => {
                number(b, value, |v| numeric::read(v, *precision, *scale))
            }
            Values::Text(b) | Values::Bytea(b) => put(value, Ok, |v| b.append_option(v)),
            Values::Date(b) => number(b, value, date),
            Values::Instant(b) => number(b, value, instant),
            Values::Time(b) => number(b, value, |v| Ok(i64::from_be_bytes(fixed(v)?))),
            Values::Uuid(b) => put(value, fixed::<16>, |v| match v {
                Some(bytes) => b.append_value(bytes).expect("a UUID has 16 bytes"),
                None => b.append_null(),
            }),
            Values::Json(b) => put(value, utf8, |v| b.append_option(v)),
            Values::Jsonb(b) => put(value, jsonb, |v| b.append_option(v)),
            Values::List(lists) => lists.push(value),
        }
    }

    /// The column; calls with each value, by row, that only now turns out not to be had.
    fn finish(&mut self, odd: &mut dyn FnMut(usize, &'static str)) -> Result<ArrayRef> {
        Ok(match self {
            Values::Bool(b) => Arc::new(b.finish()),
            Values::Int2(b) => Arc::new(b.finish()),
            Values::Int4(b) => Arc::new(b.finish()),
            Values::Int8(b) | Values::Spot(b) => Arc::new(b.finish()),
            Values::Float4(b) => Arc::new(b.finish()),
            Values::Float8(b) => Arc::new(b.finish()),
            Values::Numeric(b, precision, scale) => {
                let numbers = b.finish().with_precision_and_scale(*precision, *scale);
                Arc::new(numbers.map_err(|e| Error::bug("the digits of a numeric").because(e))?)
            }
            Values::Text(b) => Arc::new(texts(&b.finish(), odd)),
            Values::Bytea(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::Instant(b) => Arc::new(b.finish()),
            Values::Time(b) => Arc::new(b.finish()),
            Values::Uuid(b) => Arc::new(b.finish()),
            Values::Json(b) | Values::Jsonb(b) => Arc::new(b.finish()),
            Values::List(lists) => lists.finish(odd)?,
        })
    }
}

impl Lists {
    fn push(&mut self, value: Option<&[u8]>) -> std::result::Result<(), &'static str> {
        let pushed = match value {
            None => Ok(false),
            Some(bytes) => self.elements(bytes).map(|()| true),
        };
        self.offsets.push(self.count as i32);
        self.nulls.append(pushed == Ok(true));
        pushed.map(drop)
    }

    fn elements(&mut self, bytes: &[u8]) -> std::result::Result<(), &'static str> {
        let word = |i: usize| {
            let bytes = bytes.get(4 * i..).and_then(<[u8]>::first_chunk::<4>);
            bytes.map(|b| i32::from_be_bytes(*b)).ok_or("is cut short")
        };
        let length = match word(0)? {
            0 => return Ok(()),
            1 => word(3)?,
            _ => return Err("is an array of more than one dimension"),
        };
        if word(4)? != 1 {
            return Err("is an array that does not begin at 1");
        }
        let mut rest = bytes.get(20..).ok_or("is cut short")?;
        let mut odd = None;
        for _ in 0..length {
            let (value, next) = field(rest);
            rest = next;
            if let Err(why) = self.inner.push(value) {
                odd.get_or_insert(why);
            }
            self.count += 1;
        }
        odd.map_or(Ok(()), Err)
    }

    fn finish(&mut self, odd: &mut dyn FnMut(usize, &'static str)) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let row = |element: usize| offsets.partition_point(|o| *o as usize <= element) - 1;
        let inner = self.inner.finish(&mut |element, why| odd(row(element), why))?;
        let nulls = self.nulls.finish();
        self.count = 0;
        let item = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(Arc::new(ListArray::new(item, offsets, inner, nulls)))
    }
}

#[inline]
fn put<'a, T>(
    value: Option<&'a [u8]>,
    read: impl FnOnce(&'a [u8]) -> std::result::Result<T, &'static str>,
    append: impl FnOnce(Option<T>),
) -> std::result::Result<(), &'static str> {
    match value.map(read).transpose() {
        Ok(value) => {
            append(value);
            Ok(())
        }
        Err(why) => {
            append(None);
            Err(why)
        }
    }
}

#[inline]
fn number<T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    value: Option<&[u8]>,
    read: impl FnOnce(&[u8]) -> std::result::Result<T::Native, &'static str>,
) -> std::result::Result<(), &'static str> {
    put(value, read, |v| builder.append_option(v))
}

#[inline]
fn fixed<const N: usize>(value: &[u8]) -> std::result::Result<[u8; N], &'static str> {
    value.try_into().map_err(|_| "has an unexpected length")
}

/// Four bytes of block, two of the place in it.
fn spot(value: &[u8]) -> std::result::Result<i64, &'static str> {
    let bytes: [u8; 6] = fixed(value)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)))
}

fn utf8(value: &[u8]) -> std::result::Result<&str, &'static str> {
    std::str::from_utf8(value).map_err(|_| "is not UTF-8")
}

/// A column of texts, with NULL where the bytes are none.
fn texts(bytes: &BinaryArray, odd: &mut dyn FnMut(usize, &'static str)) -> StringArray {
    StringArray::try_from_binary(bytes.clone()).unwrap_or_else(|_| {
        let mut texts = StringBuilder::new();
        for (row, value) in bytes.iter().enumerate() {
            let text = value.map(utf8).transpose();
            texts.append_option(text.unwrap_or_else(|why| {
                odd(row, why);
                None
            }));
        }
        texts.finish()
    })
}

fn jsonb(value: &[u8]) -> std::result::Result<&str, &'static str> {
    match value {
        [1, text @ ..] => utf8(text),
        _ => Err("is JSON in an unknown form"),
    }
}

fn date(value: &[u8]) -> std::result::Result<i32, &'static str> {
    let days = i32::from_be_bytes(fixed(value)?);
    if days == i32::MAX || days == i32::MIN {
        return Err("is infinite");
    }
    days.checked_add(EPOCH_DAYS).ok_or("lies too far in the future")
}

fn instant(value: &[u8]) -> std::result::Result<i64, &'static str> {
    let micros = i64::from_be_bytes(fixed(value)?);
    if micros == i64::MAX || micros == i64::MIN {
        return Err("is infinite");
    }
    micros.checked_add(EPOCH_MICROS).ok_or("lies too far in the future")
}
