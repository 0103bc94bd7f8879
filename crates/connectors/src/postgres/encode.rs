//! Batches as tuples of a binary `COPY .. FROM`. What the server is known to refuse, or would not
//! give back as it was, is refused here, row by row.

use std::collections::BTreeMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
    LargeStringArray, ListArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use memchr::memchr;
use retrofill_core::connector::Refused;
use retrofill_core::error::{Error, Result};

use super::kind::{Base, Kind};
use super::numeric;
use super::values::{EPOCH_DAYS, EPOCH_MICROS};

/// What ends every binary COPY.
pub(super) const TRAILER: [u8; 2] = [0xff, 0xff];

/// The first day (of 4713 BC) and the first after the last one, in days since 1970.
const DAYS: std::ops::Range<i32> = EPOCH_DAYS - 2_451_545..2_145_042_906;
/// The same for points in time, in microseconds since 1970; the last ones fit in no 64 bits.
const FIRST_MICROS: i64 = EPOCH_MICROS - 211_813_488_000_000_000;

/// A longer text or array element cannot be sent.
const MOST_BYTES: usize = 1 << 30;

/// A column of the table that rows are written to.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    /// Its index in the batches.
    pub(super) place: usize,
}

/// Appends every row that can be sent; names the others.
pub(super) fn encode(
    columns: &[Written],
    rows: &RecordBatch,
    out: &mut Vec<u8>,
) -> Result<Vec<Refused>> {
    let mut refused: BTreeMap<usize, Refused> = BTreeMap::new();
    let mut cells = Vec::with_capacity(columns.len());
    for column in columns {
        let array = rows.column(column.place);
        let cell = Cell::new(&column.kind, array).map_err(|e| e.at(&column.name))?;
        let mut refuse = |row: usize, reason: String| {
            let column = Some(column.name.clone());
            refused.entry(row).or_insert(Refused { row, column, reason });
        };
        check(column, &cell, array, &mut refuse);
        cells.push((array.nulls(), cell));
    }
    let count = (cells.len() as i16).to_be_bytes();
    for row in 0..rows.num_rows() {
        if !refused.is_empty() && refused.contains_key(&row) {
            continue;
        }
        out.extend_from_slice(&count);
        for (nulls, cell) in &cells {
            cell.put(*nulls, row, out);
        }
    }
    Ok(refused.into_values().collect())
}

/// Rows as they are sent to columns of these types, by their names in the catalog; how many are
/// refused. For benches, which have no server.
#[doc(hidden)]
pub fn encoded(types: &[&str], rows: &RecordBatch, out: &mut Vec<u8>) -> Result<usize> {
    let written = |(place, name): (usize, &&str)| {
        let base = Kind::base(name, -1, None);
        let base = base.ok_or_else(|| Error::config(format!("`{name}` is not written")))?;
        let kind = Kind { base, element: None };
        Ok(Written { name: (*name).to_owned(), kind, nullable: true, place })
    };
    let columns: Vec<_> = types.iter().enumerate().map(written).collect::<Result<_>>()?;
    encode(&columns, rows, out).map(|refused| refused.len())
}

/// The values of one column, ready to be written.
enum Cell<'a> {
    Bool(&'a BooleanArray),
    Int2(&'a PrimitiveArray<Int16Type>),
    Int4(&'a PrimitiveArray<Int32Type>),
    Int8(&'a PrimitiveArray<Int64Type>),
    Float4(&'a PrimitiveArray<Float32Type>),
    Float8(&'a PrimitiveArray<Float64Type>),
    /// With its scale, and the digits that are always shown.
    Numeric(&'a Decimal128Array, i8, Option<i8>),
    Text(&'a StringArray),
    Bytea(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Instant(&'a PrimitiveArray<TimestampMicrosecondType>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Uuid(&'a FixedSizeBinaryArray),
    Json(&'a LargeStringArray),
    Jsonb(&'a LargeStringArray),
    List(&'a ListArray, Box<Cell<'a>>, u32),
}

impl<'a> Cell<'a> {
    fn new(kind: &Kind, array: &'a ArrayRef) -> Result<Self> {
        if let Some(element) = kind.element {
            let list = array.as_list_opt::<i32>().ok_or_else(|| mismatch(array))?;
            let inner = Kind { base: kind.base.clone(), element: None };
            let inner = Cell::new(&inner, list.values())?;
            return Ok(Cell::List(list, Box::new(inner), element));
        }
        if *array.data_type() != kind.column_type().arrow() {
            return Err(mismatch(array));
        }
        Ok(match &kind.base {
            Base::Bool => Cell::Bool(array.as_boolean()),
            Base::Int2 => Cell::Int2(array.as_primitive()),
            Base::Int4 => Cell::Int4(array.as_primitive()),
            Base::Int8 | Base::Spot => Cell::Int8(array.as_primitive()),
            Base::Float4 => Cell::Float4(array.as_primitive()),
            Base::Float8 => Cell::Float8(array.as_primitive()),
            Base::Numeric(digits) => {
                let DataType::Decimal128(_, scale) = *array.data_type() else {
                    return Err(mismatch(array));
                };
                Cell::Numeric(array.as_primitive(), scale, digits.map(|(_, s)| s))
            }
            Base::Text { .. } | Base::Enum(_) => Cell::Text(array.as_string()),
            Base::Bytea => Cell::Bytea(array.as_binary()),
            Base::Date => Cell::Date(array.as_primitive()),
            Base::Timestamp | Base::Timestamptz => Cell::Instant(array.as_primitive()),
            Base::Time => Cell::Time(array.as_primitive()),
            Base::Uuid => Cell::Uuid(array.as_fixed_size_binary()),
            Base::Json => Cell::Json(array.as_string()),
            Base::Jsonb => Cell::Jsonb(array.as_string()),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Cell::Bool(a) => *a,
            Cell::Int2(a) => *a,
            Cell::Int4(a) => *a,
            Cell::Int8(a) => *a,
            Cell::Float4(a) => *a,
            Cell::Float8(a) => *a,
            Cell::Numeric(a, ..) => *a,
            Cell::Text(a) => *a,
            Cell::Bytea(a) => *a,
            Cell::Date(a) => *a,
            Cell::Instant(a) => *a,
            Cell::Time(a) => *a,
            Cell::Uuid(a) => *a,
            Cell::Json(a) | Cell::Jsonb(a) => *a,
            Cell::List(a, ..) => *a,
        }
    }

    #[inline]
    fn put(&self, nulls: Option<&NullBuffer>, row: usize, out: &mut Vec<u8>) {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            return;
        }
        match self {
            Cell::Bool(a) => fixed([u8::from(a.value(row))], out),
            Cell::Int2(a) => fixed(a.value(row).to_be_bytes(), out),
            Cell::Int4(a) => fixed(a.value(row).to_be_bytes(), out),
            Cell::Int8(a) => eight(a.value(row).to_be_bytes(), out),
            Cell::Float4(a) => fixed(a.value(row).to_be_bytes(), out),
            Cell::Float8(a) => eight(a.value(row).to_be_bytes(), out),
            Cell::Numeric(a, scale, shown) => numeric::write(a.value(row), *scale, *shown, out),
            Cell::Text(a) => bytes(a.value(row).as_bytes(), out),
            Cell::Bytea(a) => bytes(a.value(row), out),
            Cell::Date(a) => fixed((a.value(row) - EPOCH_DAYS).to_be_bytes(), out),
            Cell::Instant(a) => eight((a.value(row) - EPOCH_MICROS).to_be_bytes(), out),
            Cell::Time(a) => fixed(a.value(row).to_be_bytes(), out),
            Cell::Uuid(a) => bytes(a.value(row), out),
            Cell::Json(a) => bytes(a.value(row).as_bytes(), out),
            Cell::Jsonb(a) => {
                let text = a.value(row).as_bytes();
                out.extend_from_slice(&(text.len() as i32 + 1).to_be_bytes());
                out.push(1);
                out.extend_from_slice(text);
            }
            Cell::List(lists, inner, element) => put_list(lists, inner, *element, row, out),
        }
    }
}

fn put_list(lists: &ListArray, inner: &Cell<'_>, element: u32, row: usize, out: &mut Vec<u8>) {
    let offsets = lists.value_offsets();
    let elements = offsets[row] as usize..offsets[row + 1] as usize;
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let nulls = elements.clone().any(|i| inner.array().is_null(i));
    let dimensions = i32::from(!elements.is_empty());
    for word in [dimensions, i32::from(nulls), element as i32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if !elements.is_empty() {
        out.extend_from_slice(&(elements.len() as i32).to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        for i in elements {
            inner.put(inner.array().nulls(), i, out);
        }
    }
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[inline]
fn fixed<const N: usize>(value: [u8; N], out: &mut Vec<u8>) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&value);
}

/// The same for the length that most values have: one piece instead of two.
#[inline]
fn eight(value: [u8; 8], out: &mut Vec<u8>) {
    let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

#[inline]
fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

fn mismatch(array: &ArrayRef) -> Error {
    Error::bug(format!("a column came as {}", array.data_type()))
}

/// Names the rows whose value the table cannot keep as it is.
fn check(
    column: &Written,
    cell: &Cell<'_>,
    array: &ArrayRef,
    refuse: &mut dyn FnMut(usize, String),
) {
    if !column.nullable && array.null_count() > 0 {
        for row in (0..array.len()).filter(|row| array.is_null(*row)) {
            refuse(row, format!("`{}` must not be NULL in the table", column.name));
        }
    }
    let Cell::List(lists, inner, _) = cell else {
        return odd(&column.kind.base, cell, refuse);
    };
    let mut bad = Vec::new();
    odd(&column.kind.base, inner, &mut |i, why| bad.push((i, why)));
    if bad.is_empty() {
        return;
    }
    let offsets = lists.value_offsets();
    for (element, why) in bad {
        let row = offsets.partition_point(|o| *o as usize <= element);
        if row > 0 && row < offsets.len() {
            refuse(row - 1, format!("an element {why}"));
        }
    }
}

/// Calls with each value, by its place, that has no exact counterpart in a column of this type.
fn odd(base: &Base, cell: &Cell<'_>, refuse: &mut dyn FnMut(usize, String)) {
    match cell {
        Cell::Text(a) => text(base, a, refuse),
        Cell::Date(a) => {
            for (i, days) in a.iter().enumerate() {
                if days.is_some_and(|d| !DAYS.contains(&d)) {
                    refuse(i, "the day lies outside of PostgreSQL's calendar".into());
                }
            }
        }
        Cell::Instant(a) => {
            for (i, micros) in a.iter().enumerate() {
                if micros.is_some_and(|m| m < FIRST_MICROS) {
                    refuse(i, "the time lies outside of PostgreSQL's calendar".into());
                }
            }
        }
        Cell::Time(a) => {
            for (i, micros) in a.iter().enumerate() {
                if micros.is_some_and(|m| !(0..=86_400_000_000).contains(&m)) {
                    refuse(i, "the time of day is none".into());
                }
            }
        }
        _ => {}
    }
}

fn text(base: &Base, texts: &StringArray, refuse: &mut dyn FnMut(usize, String)) {
    // One look over all bytes: texts with a NUL are rare.
    let offsets = texts.value_offsets();
    let data = &texts.value_data()[offsets[0] as usize..offsets[texts.len()] as usize];
    let nul = memchr(0, data).is_some();
    if !nul && data.len() <= MOST_BYTES && matches!(base, Base::Text { most: None, .. }) {
        return;
    }
    for (i, text) in texts.iter().enumerate() {
        let Some(text) = text else { continue };
        if nul && text.contains('\0') {
            refuse(i, "PostgreSQL keeps no text with a NUL".into());
            continue;
        }
        match base {
            Base::Enum(labels) if !labels.iter().any(|label| label == text) => {
                refuse(i, format!("`{text}` is no value of the column's enum"));
            }
            Base::Text { most: Some(most), padded } if !fits(text, *most, *padded) => {
                let what = if *padded { "exactly" } else { "at most" };
                refuse(i, format!("the column takes {what} {most} characters"));
            }
            _ if text.len() > MOST_BYTES => refuse(i, "the text is too long".into()),
            _ => {}
        }
    }
}

fn fits(text: &str, most: u32, padded: bool) -> bool {
    let most = most as usize;
    if padded {
        return text.chars().count() == most;
    }
    text.len() <= most || text.chars().count() <= most
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use retrofill_core::columns::ColumnType;

    use super::super::decode::{Decoder, HEADER};
    use super::*;

    fn written(base: Base, array: bool) -> Written {
        let kind = Kind { base, element: array.then_some(23) };
        Written { name: "v".into(), kind, nullable: true, place: 0 }
    }

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("v", column, true)]).unwrap()
    }

    fn back(column: &Written, rows: &RecordBatch) -> RecordBatch {
        let mut bytes = HEADER.to_vec();
        assert_eq!(encode(std::slice::from_ref(column), rows, &mut bytes).unwrap(), []);
        bytes.extend(TRAILER);
        let mut decoder = Decoder::new(std::slice::from_ref(&column.kind), rows.schema());
        for piece in bytes.chunks(5) {
            assert!(decoder.push(piece).unwrap().is_none());
        }
        let decoded = decoder.end().unwrap().unwrap();
        assert_eq!(decoded.odd, []);
        decoded.rows
    }

    #[test]
    fn bytes_in_any_pieces_come_back_as_the_same_rows() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("\u{1f980}")]));
        let rows = batch(texts);
        assert_eq!(back(&written(Base::Text { most: None, padded: false }, false), &rows), rows);
        let type_of = ColumnType::Integer { bits: 32 }.list().unwrap().arrow();
        let mut lists = arrow::array::ListBuilder::new(arrow::array::Int32Builder::new());
        lists.append_value([Some(1), None, Some(-3)]);
        lists.append_null();
        lists.append_value([]);
        let lists: ArrayRef = Arc::new(lists.finish());
        assert_eq!(*lists.data_type(), type_of);
        let rows = batch(lists);
        assert_eq!(back(&written(Base::Int4, true), &rows), rows);
        let json: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("{}"), None]));
        let rows = batch(json);
        assert_eq!(back(&written(Base::Jsonb, false), &rows), rows);
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_row() {
        let decoded = |array: bool, values: &[&[u8]]| {
            let column = written(Base::Text { most: None, padded: false }, array);
            let mut bytes = HEADER.to_vec();
            for value in values {
                bytes.extend(1_i16.to_be_bytes());
                super::bytes(value, &mut bytes);
            }
            bytes.extend(TRAILER);
            let ty = column.kind.column_type().arrow();
            let field = arrow::datatypes::Field::new("v", ty, true);
            let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
            let mut decoder = Decoder::new(std::slice::from_ref(&column.kind), schema);
            assert!(decoder.push(&bytes).unwrap().is_none());
            let decoded = decoder.end().unwrap().unwrap();
            (decoded.odd.iter().map(|odd| odd.row).collect::<Vec<_>>(), decoded.rows)
        };
        let (odd, rows) = decoded(false, &[b"a", b"\xff", b"b", b"\xc3", b"\xa9"]);
        assert_eq!(odd, [1, 3, 4]);
        let texts = vec![Some("a"), None, Some("b"), None, None];
        assert_eq!(rows, batch(Arc::new(StringArray::from(texts))));
        let list = |texts: &[&[u8]]| {
            let words = [1, 0, 25, texts.len() as i32, 1];
            let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            for text in texts {
                super::bytes(text, &mut out);
            }
            out
        };
        let lists = [list(&[b"a", b"b"]), list(&[b"c", b"\xff"]), list(&[b"d"])];
        let (odd, _) = decoded(true, &lists.each_ref().map(Vec::as_slice));
        assert_eq!(odd, [1]);
    }

    #[test]
    fn what_the_table_cannot_keep_is_named() {
        let texts = vec![Some("ok"), Some("a\0b"), None, Some("too long"), Some("\u{e9}\u{e9}")];
        let rows = batch(Arc::new(StringArray::from(texts)));
        let refused = |base, nullable| {
            let column = Written { nullable, ..written(base, false) };
            let refused = encode(&[column], &rows, &mut Vec::new()).unwrap();
            refused.into_iter().map(|r| r.row).collect::<Vec<_>>()
        };
        let text = |most, padded| Base::Text { most, padded };
        assert_eq!(refused(text(None, false), true), [1]);
        assert_eq!(refused(text(None, false), false), [1, 2]);
        assert_eq!(refused(text(Some(2), false), true), [1, 3]);
        assert_eq!(refused(text(Some(2), true), true), [1, 3]);
        assert_eq!(refused(text(Some(3), true), true), [0, 1, 3, 4]);
        let labels: Vec<String> = vec!["ok".into()];
        assert_eq!(refused(Base::Enum(labels.into()), true), [1, 3, 4]);
    }
}
