//! Rows as text: CSV as RFC 4180 has it, or a JSON object a line. What the text cannot keep is
//! refused, row by row, never changed.

use std::io::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Float32Array, Float64Array, Int64Array,
    LargeStringArray, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType as _, Float32Type, Float64Type, Int64Type,
};
use arrow::record_batch::RecordBatch;
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::connector::{FieldType, Refused};
use retrofill_core::error::{Error, Result};

use super::moment::{Times, date};
use crate::files::Moment;

/// The longest line that is read again.
const LONGEST: usize = 16 << 20;

/// Every decimal of so many digits is told from all others as a float of 64 bits.
const EXACT: u8 = 15;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Fields with this between them.
    Csv(u8),
    /// Objects.
    Json,
}

/// Writes rows as lines.
#[derive(Debug)]
pub(super) struct Encoder {
    lines: Lines,
    fields: Vec<FieldType>,
    /// For each field what stands before its value.
    keys: Vec<Vec<u8>>,
    /// Name of the time column.
    time: String,
    times: Times,
}

impl Encoder {
    /// For these columns, in the folder's order.
    pub(super) fn new(lines: Lines, fields: Vec<FieldType>, time: &str, times: Times) -> Self {
        let key = |(i, field): (usize, &FieldType)| match lines {
            Lines::Csv(_) if i == 0 => Vec::new(),
            Lines::Csv(delimiter) => vec![delimiter],
            Lines::Json => {
                let mut key = vec![if i == 0 { b'{' } else { b',' }];
                json(&field.name, &mut key);
                key.push(b':');
                key
            }
        };
        let keys = fields.iter().enumerate().map(key).collect();
        Encoder { lines, fields, keys, time: time.into(), times }
    }

    /// The line with the names of the columns.
    pub(super) fn header(&self, out: &mut Vec<u8>) {
        let Lines::Csv(delimiter) = self.lines else { return };
        for (field, key) in self.fields.iter().zip(&self.keys) {
            out.extend_from_slice(key);
            quoted(&field.name, delimiter, out);
        }
        out.push(b'\n');
    }

    /// Appends a line for each row, but for those it gives back.
    pub(super) fn rows(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Vec<Refused>> {
        let values = |f: &FieldType| {
            let column = rows.column_by_name(&f.name);
            column.map(|c| Values::of(c, f.ty, (f.name == self.time).then_some(&self.times)))
        };
        let values = self.fields.iter().map(|f| values(f).transpose());
        let values = values.collect::<Result<Vec<_>>>()?;
        let mut refused = Vec::new();
        for row in 0..rows.num_rows() {
            let start = out.len();
            match self.row(&values, row, out) {
                Ok(()) if out.len() - start <= LONGEST => {}
                problem => {
                    out.truncate(start);
                    let too_long =
                        (None, format!("is longer than {} MiB as a line", LONGEST >> 20));
                    let (column, reason) = match problem {
                        Ok(()) => too_long,
                        Err((column, reason)) => (Some(column), reason),
                    };
                    refused.push(Refused { row, column, reason });
                }
            }
        }
        Ok(refused)
    }

    fn row(
        &self,
        values: &[Option<Values<'_>>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), (String, String)> {
        for ((field, key), values) in self.fields.iter().zip(&self.keys).zip(values) {
            out.extend_from_slice(key);
            let value = values.as_ref().filter(|v| !v.is_null(row));
            let written = match (value, self.lines) {
                (None, Lines::Csv(_)) => Ok(()),
                (None, Lines::Json) => {
                    out.extend_from_slice(b"null");
                    Ok(())
                }
                (Some(value), lines) => value.write(row, lines, out),
            };
            written.map_err(|reason| (field.name.clone(), format!("`{}` {reason}", field.name)))?;
        }
        out.extend_from_slice(if self.lines == Lines::Json { b"}\n" } else { b"\n" });
        Ok(())
    }
}

/// The values of one column.
enum Values<'a> {
    Bool(&'a BooleanArray),
    Integer(Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal(&'a arrow::array::Decimal128Array, u8, i8),
    Text(&'a StringArray),
    Json(&'a LargeStringArray),
    Date(&'a arrow::array::Date32Array),
    /// Units since 1970.
    Instant(Int64Array, Precision, Times),
}

impl<'a> Values<'a> {
    fn of(column: &'a ArrayRef, ty: ColumnType, times: Option<&Times>) -> Result<Values<'a>> {
        let whole = || {
            let whole = cast(column, &DataType::Int64);
            let whole = whole.map_err(|e| Error::bug("a column is no whole number").because(e))?;
            Ok::<_, Error>(whole.as_primitive::<Int64Type>().clone())
        };
        Ok(match ty {
            ColumnType::Bool => Values::Bool(column.as_boolean()),
            ColumnType::Integer { .. } => Values::Integer(whole()?),
            ColumnType::Float { bits: 32 } => Values::Float32(column.as_primitive::<Float32Type>()),
            ColumnType::Float { .. } => Values::Float64(column.as_primitive::<Float64Type>()),
            ColumnType::Decimal { precision, scale } => {
                Values::Decimal(column.as_primitive::<Decimal128Type>(), precision, scale)
            }
            ColumnType::Text => Values::Text(column.as_string::<i32>()),
            ColumnType::Json => Values::Json(column.as_string::<i64>()),
            ColumnType::Date => Values::Date(column.as_primitive::<Date32Type>()),
            ColumnType::Instant { unit } => {
                Values::Instant(whole()?, unit, times.cloned().unwrap_or(Times::Zoned))
            }
            other => {
                let what =
                    format!("a column came as {}, which is not written", other.common_name());
                return Err(Error::bug(what));
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Bool(a) => a.is_null(row),
            Values::Integer(a) | Values::Instant(a, ..) => a.is_null(row),
            Values::Float32(a) => a.is_null(row),
            Values::Float64(a) => a.is_null(row),
            Values::Decimal(a, ..) => a.is_null(row),
            Values::Text(a) => a.is_null(row),
            Values::Json(a) => a.is_null(row),
            Values::Date(a) => a.is_null(row),
        }
    }

    /// Writes a value that is not NULL. Writing into a vector cannot fail.
    fn write(&self, row: usize, lines: Lines, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Values::Bool(a) => {
                let _ = write!(out, "{}", a.value(row));
            }
            Values::Integer(a) => {
                let _ = write!(out, "{}", a.value(row));
            }
            Values::Float32(a) => {
                let value = a.value(row);
                float(f64::from(value), || format!("{value:?}"), lines, out);
            }
            Values::Float64(a) => {
                let value = a.value(row);
                float(value, || format!("{value:?}"), lines, out);
            }
            Values::Decimal(a, precision, scale) => {
                let text = Decimal128Type::format_decimal(a.value(row), *precision, *scale);
                // Most readers take a number of JSON for a float of 64 bits.
                let lines = if *precision > EXACT { lines } else { Lines::Csv(b',') };
                in_quotes(lines, out, |out| {
                    out.extend_from_slice(text.as_bytes());
                    Ok(())
                })?;
            }
            Values::Text(a) => text(a.value(row), lines, out)?,
            Values::Json(a) => document(a.value(row), lines, out)?,
            Values::Date(a) => {
                let days = i64::from(a.value(row));
                in_quotes(lines, out, |out| date(days, out))?;
            }
            Values::Instant(a, unit, times) => {
                let moment = moment(a.value(row), *unit)?;
                if times.is_number() {
                    times.write(moment, out)?;
                } else {
                    in_quotes(lines, out, |out| times.write(moment, out))?;
                }
            }
        }
        Ok(())
    }
}

/// Something that only JSON has in quotes.
fn in_quotes(
    lines: Lines,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    if lines != Lines::Json {
        return write(out);
    }
    out.push(b'"');
    write(out)?;
    out.push(b'"');
    Ok(())
}

fn moment(value: i64, unit: Precision) -> Result<Moment, String> {
    let per = 1_000_000_000 / unit.nanoseconds();
    let seconds = value.div_euclid(per);
    // Behind it some zone has no name for the time, and no reader of ours takes it.
    if seconds >= jiff::Timestamp::MAX.as_second() {
        return Err("lies behind 9999-12-30T22:00:00Z, the last time there is".into());
    }
    Ok(Moment { seconds, nanos: (value.rem_euclid(per) * unit.nanoseconds()) as u32 })
}

/// The fewest digits that are read back as the same number. What is none has the names that Java
/// gives it, which others read too; JSON has no number for it.
fn float(value: f64, digits: impl FnOnce() -> String, lines: Lines, out: &mut Vec<u8>) {
    let word = match value {
        v if v.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => {
            out.extend_from_slice(digits().as_bytes());
            return;
        }
    };
    let quote: &[u8] = if lines == Lines::Json { b"\"" } else { b"" };
    for piece in [quote, word.as_bytes(), quote] {
        out.extend_from_slice(piece);
    }
}

fn text(value: &str, lines: Lines, out: &mut Vec<u8>) -> Result<(), String> {
    match lines {
        Lines::Json => json(value, out),
        Lines::Csv(_) if value.contains('\0') => {
            return Err("holds a NUL, which most readers of CSV do not take".into());
        }
        Lines::Csv(delimiter) => quoted(value, delimiter, out),
    }
    Ok(())
}

/// A text of CSV, in quotes where it needs them. An empty one has them, NULL has not.
fn quoted(value: &str, delimiter: u8, out: &mut Vec<u8>) {
    let bytes = value.as_bytes();
    let special = |b: &u8| matches!(b, b'"' | b'\n' | b'\r') || *b == delimiter;
    let blank = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || c == '\u{feff}');
    let edge = blank(value.chars().next()) || blank(value.chars().next_back());
    if !edge && !bytes.iter().any(special) {
        out.extend_from_slice(bytes);
        return;
    }
    out.push(b'"');
    for piece in value.split_inclusive('"') {
        out.extend_from_slice(piece.as_bytes());
        if piece.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

fn json(value: &str, out: &mut Vec<u8>) {
    // A text always has a form, and a vector takes it.
    let _ = serde_json::to_writer(out, value);
}

/// A JSON document: part of the line in NDJSON, a text in CSV.
fn document(value: &str, lines: Lines, out: &mut Vec<u8>) -> Result<(), String> {
    if lines != Lines::Json {
        return text(value, lines, out);
    }
    if value.trim() == "null" {
        return Err("is the JSON `null`, which is NULL in a line of JSON".into());
    }
    // Between values a line may end; inside of a text it cannot.
    let blank = |b: u8| if matches!(b, b'\n' | b'\r') { b' ' } else { b };
    out.extend(value.bytes().map(blank));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_a_reader_would_err() {
        for (value, want) in [
            ("", "\"\""),
            ("a b", "a b"),
            (" a", "\" a\""),
            ("a\t", "\"a\t\""),
            ("a,b", "\"a,b\""),
            ("a;b", "a;b"),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("\"", "\"\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("\u{feff}a", "\"\u{feff}a\""),
            ("back\\slash", "back\\slash"),
        ] {
            let mut out = Vec::new();
            quoted(value, b',', &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want, "{value:?}");
        }
    }

    #[test]
    fn numbers_that_are_none_have_names() {
        let of = |value: f64, lines| {
            let mut out = Vec::new();
            float(value, || format!("{value:?}"), lines, &mut out);
            String::from_utf8(out).unwrap()
        };
        let csv = Lines::Csv(b',');
        assert_eq!(of(0.1, csv), "0.1");
        assert_eq!(of(5e-324, csv), "5e-324");
        assert_eq!(of(-1e308, Lines::Json), "-1e308");
        assert_eq!(of(f64::NEG_INFINITY, csv), "-Infinity");
        assert_eq!(of(f64::NAN, Lines::Json), "\"NaN\"");
    }

    #[test]
    fn documents_stay_on_their_line() {
        let mut out = Vec::new();
        document("{\"a\":\n[1]}", Lines::Json, &mut out).unwrap();
        assert_eq!(out, b"{\"a\": [1]}");
        assert!(document(" null", Lines::Json, &mut out).is_err());
    }
}
