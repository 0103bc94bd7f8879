//! The canonical encoding E: a pure function of values, never of width, text or locale.
//!
//! Each value is a tag and a payload: NULL `00`; bool `01` + one byte; integer `02` + 16 bytes
//! big-endian; decimal `03` + i16 scale + u8 length + minimal big-endian two's complement
//! unscaled value, trailing zeros stripped; float `04` + 8 bytes of IEEE 754 bits big-endian,
//! every NaN as 7ff8000000000000, -0.0 as +0.0, 32-bit floats widened; text `05` + u32 length +
//! UTF-8; bytes `06` + u32 length + bytes; date `07` + i32 days since 1970; instant `08` + i64
//! floor seconds since 1970 + u32 nanoseconds; time of day `09` + i64 nanoseconds since midnight;
//! UUID `0A` + 16 bytes; JSON `0B` + u32 length + its canonical text ([`super::json`]); array `0C`
//! + u32 number of elements + each of them as a value. All numbers are big-endian.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, GenericByteArray,
    LargeStringArray, ListArray, PrimitiveArray,
};
use arrow::datatypes::{
    ArrowNativeType as _, ArrowPrimitiveType, BinaryType, ByteArrayType, DataType, Date32Type,
    Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    LargeUtf8Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, Utf8Type,
};
use arrow::record_batch::RecordBatch;

use super::json;
use crate::error::{Error, Result};

/// Encodes batches into a buffer it uses again.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Where row i begins; one more at the end.
    starts: Vec<usize>,
    /// Where the key of row i ends.
    key_ends: Vec<usize>,
    /// How far row i is written.
    at: Vec<usize>,
}

/// A clone has buffers of its own, which are empty.
impl Clone for Encoder {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The encoded rows of one batch. The first byte of each row is free for a tag.
#[derive(Debug)]
pub struct Encoded<'a>(&'a mut Encoder);

impl Encoded<'_> {
    /// Puts this tag into the free first byte of every row.
    pub fn tag(&mut self, tag: u8) {
        let rows = self.0.starts.len() - 1;
        for start in &self.0.starts[..rows] {
            self.0.bytes[*start] = tag;
        }
    }

    /// All rows, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Where each row lies.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        self.0.starts.windows(2).map(|w| w[0]..w[1])
    }

    /// Where the tag, the time and the key of each row lie.
    pub fn keys(&self) -> impl Iterator<Item = Range<usize>> {
        self.0.starts.iter().zip(&self.0.key_ends).map(|(start, end)| *start..*end)
    }
}

impl Encoder {
    /// Encodes all rows; the first `key_width` columns are time and key.
    pub fn encode(&mut self, rows: &RecordBatch, key_width: usize) -> Result<Encoded<'_>> {
        let count = rows.num_rows();
        let columns = rows.columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
        self.starts.clear();
        self.starts.resize(count + 1, 1);
        self.starts[count] = 0;
        for column in &columns {
            measure(column.as_ref(), &mut self.starts[..count])?;
        }
        let mut total = 0;
        for start in &mut self.starts {
            let length = *start;
            *start = total;
            total += length;
        }
        // What an earlier batch left is written over.
        self.bytes.resize(total, 0);
        self.at.clear();
        self.at.extend(self.starts[..count].iter().map(|s| s + 1));
        for (i, column) in columns.iter().enumerate() {
            if i == key_width {
                self.key_ends.clone_from(&self.at);
            }
            write(column.as_ref(), &mut self.bytes, &mut self.at)?;
        }
        if rows.num_columns() <= key_width {
            self.key_ends.clone_from(&self.at);
        }
        Ok(Encoded(self))
    }
}

fn unsupported(ty: &DataType) -> Error {
    Error::bug(format!("no canonical encoding for the Arrow type {ty}"))
}

/// The column with every JSON document in it in its canonical form.
fn canonical(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::LargeUtf8 => {
            let texts = column.as_string::<i64>().iter();
            let texts = texts.map(|text| text.map(json::canonical).transpose());
            Ok(Arc::new(texts.collect::<Result<LargeStringArray>>()?))
        }
        DataType::List(item) if *item.data_type() == DataType::LargeUtf8 => {
            let list = column.as_list::<i32>();
            let values = canonical(list.values())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::new(item.clone(), offsets, values, nulls)))
        }
        _ => Ok(column.clone()),
    }
}

/// Adds the encoded length of each value of a column.
fn measure(column: &dyn Array, lengths: &mut [usize]) -> Result<()> {
    let fixed = match column.data_type() {
        DataType::Boolean => 2,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => 17,
        DataType::Float32 | DataType::Float64 => 9,
        DataType::Date32 => 5,
        DataType::Timestamp(..) => 13,
        DataType::Time64(TimeUnit::Microsecond) => 9,
        DataType::FixedSizeBinary(16) => 17,
        DataType::LargeUtf8 => {
            measure_bytes::<LargeUtf8Type>(column.as_bytes(), lengths);
            return Ok(());
        }
        DataType::List(_) => return measure_lists(column.as_list(), lengths),
        DataType::Utf8 => {
            measure_bytes::<Utf8Type>(column.as_bytes(), lengths);
            return Ok(());
        }
        DataType::Binary => {
            measure_bytes::<BinaryType>(column.as_bytes(), lengths);
            return Ok(());
        }
        DataType::Decimal128(_, scale) => {
            let values = column.as_primitive::<Decimal128Type>();
            for (i, length) in lengths.iter_mut().enumerate() {
                *length += if values.is_null(i) {
                    1
                } else {
                    4 + decimal(values.value(i), *scale).2.len()
                };
            }
            return Ok(());
        }
        other => return Err(unsupported(other)),
    };
    match column.nulls() {
        None => lengths.iter_mut().for_each(|l| *l += fixed),
        Some(nulls) => {
            for (length, valid) in lengths.iter_mut().zip(nulls) {
                *length += if valid { fixed } else { 1 };
            }
        }
    }
    Ok(())
}

fn measure_bytes<T: ByteArrayType>(values: &GenericByteArray<T>, lengths: &mut [usize]) {
    for (i, length) in lengths.iter_mut().enumerate() {
        let value = values.value_length(i).as_usize();
        *length += if values.is_null(i) { 1 } else { 5 + value };
    }
}

fn measure_lists(lists: &ListArray, lengths: &mut [usize]) -> Result<()> {
    let mut inner = vec![0; lists.values().len()];
    measure(lists.values(), &mut inner)?;
    for (i, length) in lengths.iter_mut().enumerate() {
        let inside = || inner[elements(lists, i)].iter().sum::<usize>();
        *length += if lists.is_null(i) { 1 } else { 5 + inside() };
    }
    Ok(())
}

/// Where the elements of list `i` stand among all.
fn elements(lists: &ListArray, i: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    offsets[i] as usize..offsets[i + 1] as usize
}

/// Appends each value of a column to its row.
fn write(column: &dyn Array, out: &mut [u8], at: &mut [usize]) -> Result<()> {
    match column.data_type() {
        DataType::Boolean => write_bools(column.as_boolean(), out, at),
        DataType::Int8 => fixed(column.as_primitive::<Int8Type>(), out, at, |v| int(v.into())),
        DataType::Int16 => fixed(column.as_primitive::<Int16Type>(), out, at, |v| int(v.into())),
        DataType::Int32 => fixed(column.as_primitive::<Int32Type>(), out, at, |v| int(v.into())),
        DataType::Int64 => fixed(column.as_primitive::<Int64Type>(), out, at, int),
        DataType::Float32 => {
            fixed(column.as_primitive::<Float32Type>(), out, at, |v| float(v.into()));
        }
        DataType::Float64 => fixed(column.as_primitive::<Float64Type>(), out, at, float),
        DataType::Date32 => fixed(column.as_primitive::<Date32Type>(), out, at, date),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => {
                fixed(column.as_primitive::<TimestampSecondType>(), out, at, |v| instant(v, 1));
            }
            TimeUnit::Millisecond => {
                let values = column.as_primitive::<TimestampMillisecondType>();
                fixed(values, out, at, |v| instant(v, 1_000));
            }
            TimeUnit::Microsecond => {
                let values = column.as_primitive::<TimestampMicrosecondType>();
                fixed(values, out, at, |v| instant(v, 1_000_000));
            }
            TimeUnit::Nanosecond => {
                let values = column.as_primitive::<TimestampNanosecondType>();
                fixed(values, out, at, |v| instant(v, 1_000_000_000));
            }
        },
        DataType::Time64(TimeUnit::Microsecond) => {
            fixed(column.as_primitive::<Time64MicrosecondType>(), out, at, time);
        }
        DataType::FixedSizeBinary(16) => write_uuids(column.as_fixed_size_binary(), out, at),
        DataType::LargeUtf8 => write_bytes::<LargeUtf8Type>(column.as_bytes(), 0x0b, out, at),
        DataType::List(_) => write_lists(column.as_list(), out, at)?,
        DataType::Utf8 => write_bytes::<Utf8Type>(column.as_bytes(), 0x05, out, at),
        DataType::Binary => write_bytes::<BinaryType>(column.as_bytes(), 0x06, out, at),
        DataType::Decimal128(_, scale) => {
            write_decimals(column.as_primitive(), *scale, out, at);
        }
        other => return Err(unsupported(other)),
    }
    Ok(())
}

/// Writes a NULL.
fn null(out: &mut [u8], at: &mut usize) {
    out[*at] = 0x00;
    *at += 1;
}

/// Writes values of one fixed length.
fn fixed<T: ArrowPrimitiveType, const N: usize>(
    values: &PrimitiveArray<T>,
    out: &mut [u8],
    at: &mut [usize],
    encode: impl Fn(T::Native) -> [u8; N],
) {
    let nulls = values.nulls();
    for (i, (at, value)) in at.iter_mut().zip(values.values()).enumerate() {
        if nulls.is_some_and(|n| n.is_null(i)) {
            null(out, at);
        } else {
            out[*at..*at + N].copy_from_slice(&encode(*value));
            *at += N;
        }
    }
}

fn int(value: i64) -> [u8; 17] {
    let mut out = [0x02; 17];
    out[1..].copy_from_slice(&i128::from(value).to_be_bytes());
    out
}

fn float(value: f64) -> [u8; 9] {
    let bits = if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    let mut out = [0x04; 9];
    out[1..].copy_from_slice(&bits.to_be_bytes());
    out
}

fn date(days: i32) -> [u8; 5] {
    let mut out = [0x07; 5];
    out[1..].copy_from_slice(&days.to_be_bytes());
    out
}

fn instant(value: i64, per_second: i64) -> [u8; 13] {
    let nanoseconds = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let mut out = [0x08; 13];
    out[1..9].copy_from_slice(&value.div_euclid(per_second).to_be_bytes());
    out[9..].copy_from_slice(&(nanoseconds as u32).to_be_bytes());
    out
}

fn time(microseconds: i64) -> [u8; 9] {
    let mut out = [0x09; 9];
    out[1..].copy_from_slice(&(microseconds * 1_000).to_be_bytes());
    out
}

fn write_uuids(values: &FixedSizeBinaryArray, out: &mut [u8], at: &mut [usize]) {
    for (i, at) in at.iter_mut().enumerate() {
        if values.is_null(i) {
            null(out, at);
            continue;
        }
        out[*at] = 0x0a;
        out[*at + 1..*at + 17].copy_from_slice(values.value(i));
        *at += 17;
    }
}

fn write_lists(lists: &ListArray, out: &mut [u8], at: &mut [usize]) -> Result<()> {
    let mut inner = vec![0; lists.values().len()];
    measure(lists.values(), &mut inner)?;
    // Elements of NULL lists, and those that a slice left out, are written nowhere.
    let mut next = vec![usize::MAX; inner.len()];
    for (i, at) in at.iter_mut().enumerate() {
        if lists.is_null(i) {
            null(out, at);
            continue;
        }
        let elements = elements(lists, i);
        out[*at] = 0x0c;
        out[*at + 1..*at + 5].copy_from_slice(&(elements.len() as u32).to_be_bytes());
        *at += 5;
        for element in elements {
            next[element] = *at;
            *at += inner[element];
        }
    }
    let mut first = 0;
    while first < next.len() {
        let run = next[first..].iter().take_while(|n| **n != usize::MAX).count();
        if run > 0 {
            let values = lists.values().slice(first, run);
            write(values.as_ref(), out, &mut next[first..first + run])?;
        }
        first += run + 1;
    }
    Ok(())
}

fn write_bools(values: &BooleanArray, out: &mut [u8], at: &mut [usize]) {
    for (i, at) in at.iter_mut().enumerate() {
        if values.is_null(i) {
            null(out, at);
        } else {
            out[*at] = 0x01;
            out[*at + 1] = u8::from(values.value(i));
            *at += 2;
        }
    }
}

fn write_bytes<T: ByteArrayType>(
    values: &GenericByteArray<T>,
    tag: u8,
    out: &mut [u8],
    at: &mut [usize],
) {
    let (offsets, data) = (values.value_offsets(), values.value_data());
    for (i, at) in at.iter_mut().enumerate() {
        if values.is_null(i) {
            null(out, at);
            continue;
        }
        let value = &data[offsets[i].as_usize()..offsets[i + 1].as_usize()];
        out[*at] = tag;
        out[*at + 1..*at + 5].copy_from_slice(&(value.len() as u32).to_be_bytes());
        out[*at + 5..*at + 5 + value.len()].copy_from_slice(value);
        *at += 5 + value.len();
    }
}

/// Scale and minimal big-endian bytes of a decimal without trailing zeros.
fn decimal(mut value: i128, scale: i8) -> (i16, usize, Vec<u8>) {
    let mut scale = i16::from(scale);
    while value != 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    if value == 0 {
        return (0, 1, vec![0]);
    }
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0x00 };
    let mut skip = 0;
    while skip < 15 && bytes[skip] == sign && (bytes[skip + 1] ^ sign) & 0x80 == 0 {
        skip += 1;
    }
    (scale, 16 - skip, bytes[skip..].to_vec())
}

fn write_decimals(
    values: &PrimitiveArray<Decimal128Type>,
    scale: i8,
    out: &mut [u8],
    at: &mut [usize],
) {
    for (i, at) in at.iter_mut().enumerate() {
        if values.is_null(i) {
            null(out, at);
            continue;
        }
        let (scale, length, bytes) = decimal(values.value(i), scale);
        out[*at] = 0x03;
        out[*at + 1..*at + 3].copy_from_slice(&scale.to_be_bytes());
        out[*at + 3] = length as u8;
        out[*at + 4..*at + 4 + length].copy_from_slice(&bytes);
        *at += 4 + length;
    }
}
