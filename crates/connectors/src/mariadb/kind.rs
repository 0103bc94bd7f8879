//! The types of MariaDB: what their values become, and how they travel.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, UInt64Builder,
};
use jiff::civil::Date;
use mysql_async::Value;
use retrofill_core::columns::{ColumnType, Precision};

/// How the values of a column travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `tinyint(1)`, and `bit(1)`.
    Bool,
    /// Whole numbers that fit so many bits with a sign.
    Integer(u8),
    /// `bigint unsigned`.
    Unsigned,
    /// `decimal`: digits, and those behind the point.
    Decimal(u8, i8),
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// Whatever is text.
    Text,
    /// `uuid`, which travels as text.
    Uuid,
    /// Whatever is bytes.
    Bytes,
    /// `date`.
    Date,
    /// `datetime` and `timestamp`, with so many digits behind the second.
    Stamp(u8),
    /// `time`, which may be longer than a day.
    Time,
}

/// A column as the catalog tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// `int`, `varchar`.
    pub(super) base: String,
    /// `int(10) unsigned`.
    pub(super) full: String,
    pub(super) precision: u64,
    pub(super) scale: u64,
    pub(super) second_digits: u64,
}

impl Kind {
    /// None where no target keeps such values.
    pub(super) fn of(told: &Told) -> Option<Kind> {
        let unsigned = told.full.contains("unsigned");
        let integer = |bits: u8| Kind::Integer(if unsigned { bits * 2 } else { bits });
        Some(match told.base.as_str() {
            "tinyint" if told.full.starts_with("tinyint(1)") && !unsigned => Kind::Bool,
            "bit" if told.full == "bit(1)" => Kind::Bool,
            "tinyint" => integer(8),
            "smallint" => integer(16),
            "mediumint" => Kind::Integer(32),
            "int" => integer(32),
            "year" => Kind::Integer(16),
            "bigint" if unsigned => Kind::Unsigned,
            "bigint" => Kind::Integer(64),
            "decimal" if (1..=38).contains(&told.precision) => {
                Kind::Decimal(told.precision as u8, told.scale as i8)
            }
            "float" => Kind::Float,
            "double" => Kind::Double,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum"
            | "set" | "json" | "inet4" | "inet6" => Kind::Text,
            "uuid" => Kind::Uuid,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Bytes,
            "date" => Kind::Date,
            "datetime" | "timestamp" => Kind::Stamp(told.second_digits as u8),
            "time" => Kind::Time,
            _ => return None,
        })
    }

    /// The type of a column of a plan that holds every value.
    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Kind::Bool => ColumnType::Bool,
            Kind::Integer(bits) => ColumnType::Integer { bits },
            Kind::Unsigned => ColumnType::Decimal { precision: 20, scale: 0 },
            Kind::Decimal(precision, scale) => ColumnType::Decimal { precision, scale },
            Kind::Float => ColumnType::Float { bits: 32 },
            Kind::Double => ColumnType::Float { bits: 64 },
            Kind::Text => ColumnType::Text,
            Kind::Uuid => ColumnType::Uuid,
            Kind::Bytes => ColumnType::Bytes,
            Kind::Date => ColumnType::Date,
            Kind::Stamp(_) => ColumnType::Instant { unit: Precision::Microsecond },
            Kind::Time => ColumnType::Time,
        }
    }

    /// Something that the server can hash, a text or bytes that differ wherever values do, for a
    /// column of this name as SQL has it.
    pub(super) fn hashed_sql(self, name: &str) -> String {
        match self {
            // The text of a `float` has six digits only.
            Kind::Float => format!("CAST({name} + 0e0 AS BINARY)"),
            Kind::Bytes => name.to_owned(),
            _ => format!("CAST({name} AS BINARY)"),
        }
    }
}

/// The values of one column as they are read.
pub(super) enum Builder {
    Int8(Int8Builder),
    Int64(Int64Builder),
    UInt64(UInt64Builder),
    Decimal(Decimal128Builder, i8),
    Float(Float32Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Stamp(TimestampMicrosecondBuilder),
    Time(Time64MicrosecondBuilder),
}

impl Builder {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Builder::Int8(Int8Builder::new()),
            Kind::Integer(_) => Builder::Int64(Int64Builder::new()),
            Kind::Unsigned => Builder::UInt64(UInt64Builder::new()),
            Kind::Decimal(precision, scale) => {
                let ty = ColumnType::Decimal { precision, scale }.arrow();
                Builder::Decimal(Decimal128Builder::new().with_data_type(ty), scale)
            }
            Kind::Float => Builder::Float(Float32Builder::new()),
            Kind::Double => Builder::Double(Float64Builder::new()),
            Kind::Text | Kind::Uuid => Builder::Text(StringBuilder::new()),
            Kind::Bytes => Builder::Bytes(BinaryBuilder::new()),
            Kind::Date => Builder::Date(Date32Builder::new()),
            Kind::Stamp(_) => {
                let utc = kind.column_type().arrow();
                Builder::Stamp(TimestampMicrosecondBuilder::new().with_data_type(utc))
            }
            Kind::Time => Builder::Time(Time64MicrosecondBuilder::new()),
        }
    }

    /// Adds a value. One that is none of its kind becomes NULL, and the reason is told.
    pub(super) fn push(&mut self, value: &Value) -> Result<(), String> {
        if *value == Value::NULL {
            self.null();
            return Ok(());
        }
        let fits = match (&mut *self, value) {
            (Builder::Int8(b), Value::Int(n)) => put(i8::try_from(*n).ok(), |n| b.append_value(n)),
            // A `bit(1)`.
            (Builder::Int8(b), Value::Bytes(bits)) => match bits[..] {
                [bit] => put(i8::try_from(bit).ok(), |bit| b.append_value(bit)),
                _ => false,
            },
            (Builder::Int64(b), Value::Int(n)) => put(Some(*n), |n| b.append_value(n)),
            (Builder::Int64(b), Value::UInt(n)) => {
                put(i64::try_from(*n).ok(), |n| b.append_value(n))
            }
            (Builder::UInt64(b), Value::UInt(n)) => put(Some(*n), |n| b.append_value(n)),
            (Builder::UInt64(b), Value::Int(n)) => {
                put(u64::try_from(*n).ok(), |n| b.append_value(n))
            }
            (Builder::Decimal(b, scale), Value::Bytes(text)) => {
                put(unscaled(text, *scale), |n| b.append_value(n))
            }
            (Builder::Float(b), Value::Float(n)) => put(Some(*n), |n| b.append_value(n)),
            (Builder::Double(b), Value::Double(n)) => put(Some(*n), |n| b.append_value(n)),
            (Builder::Text(b), Value::Bytes(text)) => {
                put(std::str::from_utf8(text).ok(), |text| b.append_value(text))
            }
            (Builder::Bytes(b), Value::Bytes(bytes)) => put(Some(bytes), |n| b.append_value(n)),
            (Builder::Date(b), Value::Date(y, m, d, 0, 0, 0, 0)) => {
                put(day(*y, *m, *d), |day| b.append_value(day as i32))
            }
            (Builder::Stamp(b), value) => put(micros(value), |n| b.append_value(n)),
            (Builder::Time(b), Value::Time(false, 0, h, m, s, us)) => {
                let seconds = (i64::from(*h) * 60 + i64::from(*m)) * 60 + i64::from(*s);
                put(Some(seconds * 1_000_000 + i64::from(*us)), |n| b.append_value(n))
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        self.null();
        let what = match self {
            Builder::Date(_) | Builder::Stamp(_) => "is in no calendar",
            Builder::Time(_) => "is no time of day",
            Builder::Text(_) => "is no UTF-8",
            _ => "is no such value",
        };
        Err(format!("`{}` {what}", text(value).unwrap_or_default()))
    }

    fn null(&mut self) {
        match self {
            Builder::Int8(b) => b.append_null(),
            Builder::Int64(b) => b.append_null(),
            Builder::UInt64(b) => b.append_null(),
            Builder::Decimal(b, _) => b.append_null(),
            Builder::Float(b) => b.append_null(),
            Builder::Double(b) => b.append_null(),
            Builder::Text(b) => b.append_null(),
            Builder::Bytes(b) => b.append_null(),
            Builder::Date(b) => b.append_null(),
            Builder::Stamp(b) => b.append_null(),
            Builder::Time(b) => b.append_null(),
        }
    }

    /// All of them, and room for more.
    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Int8(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::UInt64(b) => Arc::new(b.finish()),
            Builder::Decimal(b, _) => Arc::new(b.finish()),
            Builder::Float(b) => Arc::new(b.finish()),
            Builder::Double(b) => Arc::new(b.finish()),
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Bytes(b) => Arc::new(b.finish()),
            Builder::Date(b) => Arc::new(b.finish()),
            Builder::Stamp(b) => Arc::new(b.finish()),
            Builder::Time(b) => Arc::new(b.finish()),
        }
    }
}

/// Whether there is a value; then it is given away.
fn put<T>(value: Option<T>, to: impl FnOnce(T)) -> bool {
    value.map(to).is_some()
}

/// Days since 1970; none for a day that no calendar has, such as `0000-00-00`.
fn day(year: u16, month: u8, day: u8) -> Option<i64> {
    let date = Date::new(year as i16, month as i8, day as i8).ok()?;
    let first = Date::constant(1970, 1, 1);
    Some(i64::from(first.until(date).ok()?.get_days()))
}

/// Microseconds since 1970 of a time of UTC.
pub(super) fn micros(value: &Value) -> Option<i64> {
    let Value::Date(y, month, d, h, minute, s, us) = value else { return None };
    let hours = day(*y, *month, *d)? * 24 + i64::from(*h);
    let seconds = (hours * 60 + i64::from(*minute)) * 60 + i64::from(*s);
    Some(seconds * 1_000_000 + i64::from(*us))
}

/// The digits of a decimal of this scale, as the server writes it.
fn unscaled(text: &[u8], scale: i8) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction.len())?;
    format!("{whole}{fraction}{}", "0".repeat(missing)).parse().ok()
}

/// A value for people; none where it is NULL.
pub(super) fn text(value: &Value) -> Option<String> {
    let clock = |hour: u32, minute: u8, second: u8, us: u32| match us {
        0 => format!("{hour:02}:{minute:02}:{second:02}"),
        us => format!("{hour:02}:{minute:02}:{second:02}.{us:06}"),
    };
    Some(match value {
        Value::NULL => return None,
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("0x{}", retrofill_core::id::hex(bytes)),
        },
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Date(year, month, day, 0, 0, 0, 0) => format!("{year:04}-{month:02}-{day:02}"),
        Value::Date(year, month, day, hour, minute, second, us) => {
            let clock = clock(u32::from(*hour), *minute, *second, *us);
            format!("{year:04}-{month:02}-{day:02} {clock}")
        }
        Value::Time(negative, days, hour, minute, second, us) => {
            let sign = if *negative { "-" } else { "" };
            format!("{sign}{}", clock(days * 24 + u32::from(*hour), *minute, *second, *us))
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};

    use super::*;

    fn kind(full: &str) -> Option<Kind> {
        let base = full.split(['(', ' ']).next().unwrap().to_owned();
        Kind::of(&Told { base, full: full.into(), precision: 40, scale: 2, second_digits: 3 })
    }

    #[test]
    fn types_are_those_that_hold_every_value() {
        for (full, want) in [
            ("tinyint(1)", Some(Kind::Bool)),
            ("tinyint(4)", Some(Kind::Integer(8))),
            ("tinyint(3) unsigned", Some(Kind::Integer(16))),
            ("int(10) unsigned", Some(Kind::Integer(64))),
            ("mediumint(9)", Some(Kind::Integer(32))),
            ("bigint(20) unsigned", Some(Kind::Unsigned)),
            ("enum('a','b')", Some(Kind::Text)),
            ("datetime(3)", Some(Kind::Stamp(3))),
            ("decimal(40,2)", None),
            ("bit(7)", None),
            ("point", None),
        ] {
            assert_eq!(kind(full), want, "{full}");
        }
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        let mut stamps = Builder::new(Kind::Stamp(6));
        assert_eq!(stamps.push(&Value::Date(1969, 12, 31, 23, 59, 59, 999_999)), Ok(()));
        let zero = stamps.push(&Value::Date(0, 0, 0, 0, 0, 0, 0));
        assert_eq!(zero, Err("`0000-00-00` is in no calendar".into()));
        assert!(stamps.push(&Value::Date(2023, 2, 30, 1, 0, 0, 0)).is_err());
        let stamps = stamps.finish();
        assert_eq!((stamps.len(), stamps.null_count()), (3, 2));
        assert_eq!(stamps.as_primitive::<TimestampMicrosecondType>().value(0), -1);
        let mut times = Builder::new(Kind::Time);
        let long = times.push(&Value::Time(false, 1, 1, 0, 0, 0));
        assert_eq!(long, Err("`25:00:00` is no time of day".into()));
        assert!(times.push(&Value::Time(true, 0, 1, 0, 0, 0)).is_err());
    }

    #[test]
    fn decimals_keep_their_digits() {
        let mut decimals = Builder::new(Kind::Decimal(20, 4));
        for text in ["12.3456", "-0.0100", "7"] {
            decimals.push(&Value::Bytes(text.into())).unwrap();
        }
        let array = decimals.finish();
        let values = array.as_primitive::<Decimal128Type>().values();
        assert_eq!(values[..], [123_456, -100, 70_000]);
    }
}
