//! The fields of one column, as a binary `COPY .. TO` sends them, straight into Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder,
    LargeStringBuilder, ListArray, NullBufferBuilder, PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type,
    Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use retrofill_core::columns::ColumnType;
use retrofill_core::digest::json::flaw_of_json;
use retrofill_core::error::{Error, Result};

use super::kind::{Base, Kind};
use super::numeric;

/// Days and microseconds from 1970 to 2000, where PostgreSQL's calendar begins.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Whole numbers each of which is a `float8`, and to which none of the others is rounded.
pub(super) const EXACT: std::ops::RangeInclusive<i64> = 1 - (1 << 53)..=(1 << 53) - 1;

/// Rows in one batch.
pub(super) const ROWS: usize = 8_192;

/// The bytes of a field; none where it is NULL.
pub(super) type Cell<'a> = Option<&'a [u8]>;

/// Told of each value, by its number, that cannot be had, and why.
pub(super) type Refuse<'a> = dyn FnMut(usize, &'static str) + 'a;

/// The values of one column so far.
pub(super) enum Values {
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

pub(super) struct Lists {
    item: DataType,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
    /// Elements in all.
    count: usize,
    inner: Values,
}

impl Values {
    pub(super) fn new(kind: &Kind) -> Self {
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

    /// Appends values; calls with each, by its number, that cannot be had: a NULL stands for it.
    pub(super) fn fill<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>, odd: &mut Refuse<'_>) {
        match self {
            Values::Bool(b) => {
                each(cells, |v| Ok(fixed::<1>(v)?[0] != 0), |v| b.append_option(v), odd);
            }
            Values::Int2(b) => numbers(b, cells, |v| Ok(i16::from_be_bytes(fixed(v)?)), odd),
            Values::Int4(b) => numbers(b, cells, |v| Ok(i32::from_be_bytes(fixed(v)?)), odd),
            Values::Int8(b) => numbers(b, cells, |v| Ok(i64::from_be_bytes(fixed(v)?)), odd),
            Values::Time(b) => numbers(b, cells, |v| Ok(i64::from_be_bytes(fixed(v)?)), odd),
            Values::Spot(b) => numbers(b, cells, spot, odd),
            Values::Float4(b) => numbers(b, cells, |v| Ok(f32::from_be_bytes(fixed(v)?)), odd),
            Values::Float8(b) => numbers(b, cells, |v| Ok(f64::from_be_bytes(fixed(v)?)), odd),
            Values::Numeric(b, precision, scale) => {
                numbers(b, cells, |v| numeric::read(v, *precision, *scale), odd);
            }
            Values::Text(b) | Values::Bytea(b) => each(cells, Ok, |v| b.append_option(v), odd),
            Values::Date(b) => numbers(b, cells, date, odd),
            Values::Instant(b) => numbers(b, cells, instant, odd),
            Values::Uuid(b) => {
                let append = |v: Option<[u8; 16]>| match v {
                    Some(bytes) => b.append_value(bytes).expect("a UUID has 16 bytes"),
                    None => b.append_null(),
                };
                each(cells, fixed::<16>, append, odd);
            }
            Values::Json(b) => each(cells, json, |v| b.append_option(v), odd),
            Values::Jsonb(b) => each(cells, jsonb, |v| b.append_option(v), odd),
            Values::List(lists) => {
                for (row, cell) in cells.enumerate() {
                    lists.push(cell).unwrap_or_else(|why| odd(row, why));
                }
            }
        }
    }

    /// Appends values that travelled as `float8`; calls with what came of each that cannot have
    /// been written.
    pub(super) fn fill_numbers<'a>(
        &mut self,
        cells: impl Iterator<Item = Cell<'a>>,
        odd: &mut Refuse<'_>,
    ) {
        match self {
            Values::Int2(b) => numbers(b, cells, |v| fitting(whole(v)?), odd),
            Values::Int4(b) => numbers(b, cells, |v| fitting(whole(v)?), odd),
            Values::Float4(b) => numbers(b, cells, short, odd),
            Values::Int8(b) => numbers(b, cells, whole, odd),
            _ => self.fill(cells, odd),
        }
    }

    /// The column; calls with each value, by row, that only now turns out not to be had.
    pub(super) fn finish(&mut self, odd: &mut Refuse<'_>) -> Result<ArrayRef> {
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
            self.inner.fill(std::iter::once(value), &mut |_, why| {
                odd.get_or_insert(why);
            });
            self.count += 1;
        }
        odd.map_or(Ok(()), Err)
    }

    fn finish(&mut self, odd: &mut Refuse<'_>) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        let row = |element: usize| offsets.partition_point(|o| *o as usize <= element) - 1;
        let inner = self.inner.finish(&mut |element, why| odd(row(element), why))?;
        let nulls = self.nulls.finish();
        self.count = 0;
        let item = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(Arc::new(ListArray::new(item, offsets, inner, nulls)))
    }
}

/// Reads each value and appends it.
#[inline]
fn each<'a, T>(
    cells: impl Iterator<Item = Cell<'a>>,
    read: impl Fn(&'a [u8]) -> std::result::Result<T, &'static str>,
    mut append: impl FnMut(Option<T>),
    odd: &mut Refuse<'_>,
) {
    for (row, cell) in cells.enumerate() {
        append(cell.and_then(|bytes| read(bytes).map_err(|why| odd(row, why)).ok()));
    }
}

#[inline]
fn numbers<'a, T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    cells: impl Iterator<Item = Cell<'a>>,
    read: impl Fn(&'a [u8]) -> std::result::Result<T::Native, &'static str>,
    odd: &mut Refuse<'_>,
) {
    each(cells, read, |value| builder.append_option(value), odd);
}

#[inline]
fn fixed<const N: usize>(value: &[u8]) -> std::result::Result<[u8; N], &'static str> {
    value.try_into().map_err(|_| "has an unexpected length")
}

/// What was read back where numbers are packed, and was not written.
const UNWRITTEN: &str = "a number";

/// A whole number that travelled as `float8`, which has all of [`EXACT`]; others were rounded.
fn whole(value: &[u8]) -> std::result::Result<i64, &'static str> {
    let number = f64::from_be_bytes(fixed(value)?);
    let whole = number as i64;
    let exact = EXACT.contains(&whole) && (whole as f64).to_bits() == number.to_bits();
    exact.then_some(whole).ok_or(UNWRITTEN)
}

fn fitting<T: TryFrom<i64>>(whole: i64) -> std::result::Result<T, &'static str> {
    T::try_from(whole).map_err(|_| UNWRITTEN)
}

/// A `float4` that travelled as `float8`.
fn short(value: &[u8]) -> std::result::Result<f32, &'static str> {
    let number = f64::from_be_bytes(fixed(value)?);
    let short = number as f32;
    let exact = f64::from(short).to_bits() == number.to_bits() || number.is_nan();
    exact.then_some(short).ok_or(UNWRITTEN)
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
fn texts(bytes: &BinaryArray, odd: &mut Refuse<'_>) -> StringArray {
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

/// The server takes deeper and larger ones than the digest.
fn json(value: &[u8]) -> std::result::Result<&str, &'static str> {
    let text = utf8(value)?;
    flaw_of_json(text).map_or(Ok(text), Err)
}

fn jsonb(value: &[u8]) -> std::result::Result<&str, &'static str> {
    match value {
        [1, text @ ..] => json(text),
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
