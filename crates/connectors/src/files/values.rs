//! Builds one Arrow column from fields. A value that does not fit its type exactly is refused,
//! never changed.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType,
};
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Array, FixedSizeBinaryBuilder,
    LargeStringBuilder, PrimitiveArray, PrimitiveBuilder, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::error::{Error, Result};

use super::iso::read_date;
use super::nested::{Lists, json, time_of_day, uuid};
use super::time::{Clock, Moment, Reason};
use super::types::{Decimal, FLOAT_DIGITS, lexical_float, with_point};

/// Digits that a 32-bit float is trusted with.
const SHORT_FLOAT_DIGITS: usize = 9;
/// Digits of the widest decimal.
const DECIMAL_DIGITS: usize = 38;

/// The values of one column so far.
#[derive(Debug)]
pub(super) struct Column {
    ty: ColumnType,
    /// Numbers have a decimal comma.
    comma: bool,
    /// About so many values are expected.
    rows: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    /// Also instants, as units since 1970.
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>),
    /// Parts of lines that are UTF-8: asked again at the end, of the whole column at once.
    Text(BinaryBuilder),
    Bytes(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Uuid(FixedSizeBinaryBuilder),
    Json(LargeStringBuilder),
    Array(Lists),
}

/// The values of some rows of one column; none is NULL. Told in the order of the rows.
pub(super) trait Cells {
    /// Calls with each value, by row.
    fn each(self, take: impl FnMut(usize, Option<&[u8]>));
}

/// Told of each value that does not fit, by row.
pub(super) type Refuse<'a> = dyn FnMut(usize, Reason) + 'a;

impl Column {
    /// An empty column for about so many rows; with `comma` its numbers have a decimal comma.
    pub(super) fn new(ty: ColumnType, comma: bool, rows: usize) -> Self {
        let values = match ty {
            ColumnType::Bool => Values::Bool(BooleanBuilder::with_capacity(rows)),
            ColumnType::Integer { bits: 8 } => Values::Int8(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Integer { bits: 16 } => {
                Values::Int16(PrimitiveBuilder::with_capacity(rows))
            }
            ColumnType::Integer { bits: 32 } => {
                Values::Int32(PrimitiveBuilder::with_capacity(rows))
            }
            ColumnType::Integer { .. } | ColumnType::Instant { .. } => {
                Values::Int64(PrimitiveBuilder::with_capacity(rows))
            }
            ColumnType::Float { bits: 32 } => {
                Values::Float32(PrimitiveBuilder::with_capacity(rows))
            }
            ColumnType::Float { .. } => Values::Float64(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Decimal { .. } => Values::Decimal(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Text => Values::Text(BinaryBuilder::with_capacity(rows, rows * 8)),
            ColumnType::Bytes => Values::Bytes(BinaryBuilder::with_capacity(rows, rows * 8)),
            ColumnType::Date => Values::Date(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Time => Values::Time(PrimitiveBuilder::with_capacity(rows)),
            ColumnType::Uuid => Values::Uuid(FixedSizeBinaryBuilder::with_capacity(rows, 16)),
            ColumnType::Json => Values::Json(LargeStringBuilder::with_capacity(rows, rows * 16)),
            ColumnType::Array { of } => Values::Array(Lists::new(of)),
        };
        Column { ty, comma, rows, values }
    }

    /// The type of its values.
    pub(super) fn ty(&self) -> ColumnType {
        self.ty
    }

    /// Appends times that are read already; none is NULL.
    pub(super) fn moments(
        &mut self,
        moments: impl Iterator<Item = Option<Moment>>,
        refuse: &mut Refuse<'_>,
    ) -> Result<()> {
        let (Values::Int64(builder), ColumnType::Instant { unit }) = (&mut self.values, self.ty)
        else {
            return Err(Error::bug("the time column is no instant"));
        };
        for (row, moment) in moments.enumerate() {
            let whole = moment.and_then(|m| m.whole(unit));
            if moment.is_some() && whole.is_none() {
                refuse(row, not_whole(unit));
            }
            builder.append_option(whole);
        }
        Ok(())
    }

    /// Appends a value for each row; NULL where it is refused.
    pub(super) fn append(&mut self, cells: impl Cells, clock: &Clock, refuse: &mut Refuse<'_>) {
        let comma = self.comma;
        match (&mut self.values, self.ty) {
            (Values::Bool(b), _) => cells.each(|row, value| {
                let parsed = value.map(bool);
                b.append_option(kept(row, parsed, refuse));
            }),
            (Values::Int8(b), _) => numbers(comma, b, cells, refuse, integer),
            (Values::Int16(b), _) => numbers(comma, b, cells, refuse, integer),
            (Values::Int32(b), _) => numbers(comma, b, cells, refuse, integer),
            (Values::Int64(b), ColumnType::Instant { unit }) => fill(b, cells, refuse, |v| {
                clock.read_any(v)?.0.whole(unit).ok_or_else(|| not_whole(unit))
            }),
            (Values::Int64(b), _) => numbers(comma, b, cells, refuse, integer),
            (Values::Float32(b), _) => numbers(comma, b, cells, refuse, float32),
            (Values::Float64(b), _) => numbers(comma, b, cells, refuse, float64),
            (Values::Decimal(b), ColumnType::Decimal { precision, scale }) => {
                numbers(comma, b, cells, refuse, |v| decimal(v, precision, scale));
            }
            (Values::Decimal(b), _) => {
                numbers(comma, b, cells, refuse, |v| decimal(v, 38, 0));
            }
            (Values::Text(b), _) => cells.each(|_, value| b.append_option(value)),
            (Values::Bytes(b), _) => cells.each(|row, value| {
                b.append_option(kept(row, value.map(bytes), refuse));
            }),
            (Values::Date(b), _) => {
                fill(b, cells, refuse, |v| read_date(v).map(|days| days as i32));
            }
            (Values::Time(b), _) => fill(b, cells, refuse, time_of_day),
            (Values::Uuid(b), _) => {
                cells.each(|row, value| match kept(row, value.map(uuid), refuse) {
                    Some(bytes) => b.append_value(bytes).expect("a UUID has 16 bytes"),
                    None => b.append_null(),
                });
            }
            (Values::Json(b), _) => cells.each(|row, value| {
                b.append_option(kept(row, value.map(json), refuse));
            }),
            (Values::Array(b), _) => b.append(cells, clock, refuse),
        }
    }

    /// The column as Arrow has it; it is then empty.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        // A builder that gave its values away would grow from nothing again.
        let fresh = Column::new(self.ty, self.comma, self.rows);
        let mut done = std::mem::replace(self, fresh);
        Ok(match &mut done.values {
            Values::Bool(b) => Arc::new(b.finish()),
            Values::Int8(b) => Arc::new(b.finish()),
            Values::Int16(b) => Arc::new(b.finish()),
            Values::Int32(b) => Arc::new(b.finish()),
            Values::Int64(b) => match self.ty {
                ColumnType::Instant { unit } => instants(b.finish(), unit),
                _ => Arc::new(b.finish()),
            },
            Values::Float32(b) => Arc::new(b.finish()),
            Values::Float64(b) => Arc::new(b.finish()),
            Values::Decimal(b) => Arc::new(decimals(b.finish(), self.ty)?),
            Values::Text(b) => {
                let texts = StringArray::try_from_binary(b.finish());
                Arc::new(texts.map_err(|e| Error::bug("a text is not UTF-8").because(e))?)
            }
            Values::Bytes(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::Time(b) => Arc::new(b.finish()),
            Values::Uuid(b) => Arc::new(b.finish()),
            Values::Json(b) => Arc::new(b.finish()),
            Values::Array(b) => b.finish()?,
        })
    }
}

fn instants(numbers: PrimitiveArray<Int64Type>, unit: Precision) -> ArrayRef {
    let (_, values, nulls) = numbers.into_parts();
    match unit {
        Precision::Second => {
            Arc::new(TimestampSecondArray::new(values, nulls).with_timezone("UTC"))
        }
        Precision::Millisecond => {
            Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone("UTC"))
        }
        Precision::Microsecond => {
            Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
        }
        Precision::Nanosecond => {
            Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone("UTC"))
        }
    }
}

fn decimals(numbers: Decimal128Array, ty: ColumnType) -> Result<Decimal128Array> {
    let ColumnType::Decimal { precision, scale } = ty else { return Ok(numbers) };
    numbers.with_precision_and_scale(precision, scale).map_err(|e| {
        Error::config(format!(
            "no decimal has {precision} digits, {scale} of them behind the point"
        ))
        .because(e)
    })
}

fn kept<T>(row: usize, parsed: Option<Result<T, Reason>>, refuse: &mut Refuse<'_>) -> Option<T> {
    match parsed? {
        Ok(value) => Some(value),
        Err(reason) => {
            refuse(row, reason);
            None
        }
    }
}

#[inline]
fn fill<T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    cells: impl Cells,
    refuse: &mut Refuse<'_>,
    parse: impl Fn(&[u8]) -> Result<T::Native, Reason>,
) {
    cells.each(|row, value| builder.append_option(kept(row, value.map(&parse), refuse)));
}

#[inline]
fn numbers<T: ArrowPrimitiveType>(
    comma: bool,
    builder: &mut PrimitiveBuilder<T>,
    cells: impl Cells,
    refuse: &mut Refuse<'_>,
    parse: impl Fn(&[u8]) -> Result<T::Native, Reason>,
) {
    if comma {
        fill(builder, cells, refuse, |text| {
            parse(&with_point(text).ok_or("has a point, where numbers have a decimal comma")?)
        });
    } else {
        fill(builder, cells, refuse, parse);
    }
}

fn not_whole(unit: Precision) -> Reason {
    let name = match unit {
        Precision::Second => "seconds",
        Precision::Millisecond => "milliseconds",
        Precision::Microsecond => "microseconds",
        Precision::Nanosecond => "nanoseconds",
    };
    format!("is no whole number of {name} that fits in 64 bits").into()
}

fn bool(text: &[u8]) -> Result<bool, Reason> {
    match text {
        b"true" | b"t" | b"TRUE" | b"True" => Ok(true),
        b"false" | b"f" | b"FALSE" | b"False" => Ok(false),
        _ => Err("is not true or false".into()),
    }
}

#[inline]
fn integer<T: TryFrom<i64>>(text: &[u8]) -> Result<T, Reason> {
    let number = if let Ok(number) = lexical_core::parse::<i64>(text) {
        number
    } else {
        // `5.0` and `5e3` are whole numbers too.
        let number = Decimal::parse(text).ok_or("is not a whole number")?;
        let whole = unscaled(&number, 0).ok_or("is not a whole number")??;
        i64::try_from(whole).map_err(|_| "does not fit in 64 bits")?
    };
    T::try_from(number)
        .map_err(|_| Reason::from(format!("does not fit in {} bits", 8 * size_of::<T>())))
}

#[inline]
fn float64(text: &[u8]) -> Result<f64, Reason> {
    check_digits(text, FLOAT_DIGITS)?;
    let value = lexical_float(text).ok_or("is not a number")?;
    check_whole(text, 15, value)?;
    check_range(text, value)
}

/// Refuses a whole number that the float does not equal. `exact` digits always fit.
#[inline]
fn check_whole(text: &[u8], exact: usize, value: f64) -> Result<(), Reason> {
    if text.len() > exact
        && let Ok(whole) = lexical_core::parse::<i128>(text)
        && value as i128 != whole
    {
        return Err("is a whole number that the column's float cannot keep".into());
    }
    Ok(())
}

fn float32(text: &[u8]) -> Result<f32, Reason> {
    check_digits(text, SHORT_FLOAT_DIGITS)?;
    let value = std::str::from_utf8(text).ok().and_then(|t| t.parse::<f32>().ok());
    let value = value.ok_or("is not a number")?;
    check_whole(text, 7, f64::from(value))?;
    check_range(text, f64::from(value)).map(|_| value)
}

#[inline]
fn check_digits(text: &[u8], most: usize) -> Result<(), Reason> {
    if text.len() > most && Decimal::parse(text).is_some_and(|n| n.significant() > most) {
        return Err(format!("has more than {most} significant digits").into());
    }
    Ok(())
}

#[inline]
fn check_range(text: &[u8], value: f64) -> Result<f64, Reason> {
    let digits = |found: fn(&u8) -> bool| text.iter().any(found);
    if value.is_infinite() && digits(u8::is_ascii_digit) {
        return Err("is too large for a float".into());
    }
    if value == 0.0 && Decimal::parse(text).is_some_and(|n| n.significant() > 0) {
        return Err("is too small for a float".into());
    }
    Ok(value)
}

/// The number times 10^scale. None where that is not whole; an error where it has too many
/// digits.
fn unscaled(number: &Decimal<'_>, scale: i64) -> Option<Result<i128, Reason>> {
    let mut digits: Vec<u8> = number.whole.iter().chain(number.fraction).copied().collect();
    let mut power = number.exponent - number.fraction.len() as i64 + scale;
    while digits.last() == Some(&b'0') {
        digits.pop();
        power += 1;
    }
    let leading = digits.iter().take_while(|d| **d == b'0').count();
    let digits = &digits[leading..];
    if digits.is_empty() {
        return Some(Ok(0));
    }
    let power = u32::try_from(power).ok()?;
    if digits.len() + power as usize > DECIMAL_DIGITS {
        return Some(Err(format!("has more than {DECIMAL_DIGITS} digits").into()));
    }
    let number_of = digits.iter().fold(0, |n: i128, d| n * 10 + i128::from(d - b'0'));
    let value = number_of * 10_i128.pow(power);
    Some(Ok(if number.negative { -value } else { value }))
}

fn decimal(text: &[u8], precision: u8, scale: i8) -> Result<i128, Reason> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let number = Decimal::parse(text).ok_or("is not a number")?;
    let value = unscaled(&number, i64::from(scale))
        .ok_or_else(|| Reason::from(format!("has more than {scale} digits behind the point")))??;
    if value.unsigned_abs() >= 10_u128.pow(u32::from(precision)) {
        return Err(format!("has more than {precision} digits").into());
    }
    Ok(value)
}

/// Bytes as `PostgreSQL` writes them: `\x` and hex digits.
fn bytes(text: &[u8]) -> Result<Vec<u8>, Reason> {
    let refuse = || Reason::from("is not `\\x` and pairs of hex digits");
    let digits = text.strip_prefix(b"\\x").ok_or_else(refuse)?;
    if digits.len() % 2 != 0 {
        return Err(refuse());
    }
    let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(refuse);
    digits.chunks(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        for (text, want) in
            [("5", 5), ("-128", -128), ("007", 7), ("+7", 7), ("5.0", 5), ("1.2e1", 12)]
        {
            assert_eq!(integer::<i8>(text.as_bytes()), Ok(want), "{text}");
        }
        for text in ["5.5", "1e-1", "", " 5", "x", "1e30", "NaN", "128"] {
            assert!(integer::<i8>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn floats_keep_what_they_are_given() {
        assert_eq!(float64(b"10.357019999999999"), Ok(10.357_019_999_999_999));
        assert_eq!(float64(b"1.50000000000000000000000"), Ok(1.5));
        assert_eq!(float64(b".5"), Ok(0.5));
        assert_eq!(float64(b"5."), Ok(5.0));
        assert_eq!(float64(b"-0"), Ok(-0.0));
        assert!(float64(b"NaN").unwrap().is_nan());
        assert_eq!(float64(b"-inf"), Ok(f64::NEG_INFINITY));
        for text in ["10.3570199999999991", "1e999", "1e-999", "x", "", "1,5"] {
            assert!(float64(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(float32(b"0.1"), Ok(0.1));
        assert!(float32(b"16777217").is_err());
        assert_eq!(float32(b"16777216"), Ok(16_777_216.0));
        assert!(float64(b"9007199254740993").is_err());
        assert!(float32(b"10.357019999999999").is_err());
        assert!(float32(b"1e39").is_err());
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal(b"12.340", 4, 2), Ok(1234));
        assert_eq!(decimal(b"-1e2", 4, 1), Ok(-1000));
        assert_eq!(decimal(b"0.000", 1, 0), Ok(0));
        assert_eq!(decimal(b"1200", 2, -2), Ok(12));
        for text in ["12.345", "100", "x", "", "1e40"] {
            assert!(decimal(text.as_bytes(), 4, 2).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_hex() {
        assert_eq!(bytes(b"\\x00fF"), Ok(vec![0, 255]));
        assert!(bytes(b"00ff").is_err() && bytes(b"\\x0").is_err() && bytes(b"\\x0g").is_err());
    }
}
