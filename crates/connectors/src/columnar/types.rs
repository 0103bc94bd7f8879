//! From the types of the files to those of a plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::error::{Error, Result};

/// What a column of a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Natural {
    /// Values of this type.
    Plain(ColumnType),
    /// Whole numbers of 64 bits without a sign.
    Unsigned,
    /// Times of this unit.
    Stamp(TimeUnit),
    /// Nothing but NULL.
    Nothing,
}

const fn integer(bits: u8) -> Natural {
    Natural::Plain(ColumnType::Integer { bits })
}

const fn float(bits: u8) -> Natural {
    Natural::Plain(ColumnType::Float { bits })
}

impl Natural {
    /// None where no target keeps such values.
    pub(super) fn of(ty: &DataType) -> Option<Natural> {
        Some(match ty {
            DataType::Null => Natural::Nothing,
            DataType::Boolean => Natural::Plain(ColumnType::Bool),
            DataType::Int8 => integer(8),
            DataType::Int16 | DataType::UInt8 => integer(16),
            DataType::Int32 | DataType::UInt16 => integer(32),
            DataType::Int64 | DataType::UInt32 => integer(64),
            DataType::UInt64 => Natural::Unsigned,
            DataType::Float16 | DataType::Float32 => float(32),
            DataType::Float64 => float(64),
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s)
                if *p <= 38 && 0 <= *s && s.unsigned_abs() <= *p =>
            {
                Natural::Plain(ColumnType::Decimal { precision: *p, scale: *s })
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Natural::Plain(ColumnType::Text)
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Natural::Plain(ColumnType::Bytes),
            DataType::Date32 | DataType::Date64 => Natural::Plain(ColumnType::Date),
            DataType::Timestamp(unit, _) => Natural::Stamp(*unit),
            DataType::Dictionary(_, values) => return Natural::of(values),
            _ => return None,
        })
    }

    /// The type that holds every value of both; none where that would change what a value is.
    pub(super) fn with(self, other: Natural) -> Option<Natural> {
        use ColumnType::{Decimal, Float, Integer};
        Some(match (self, other) {
            (a, b) if a == b => a,
            (Natural::Nothing, any) | (any, Natural::Nothing) => any,
            (Natural::Stamp(a), Natural::Stamp(b)) => Natural::Stamp(a.max(b)),
            (Natural::Plain(Integer { bits: a }), Natural::Plain(Integer { bits: b })) => {
                integer(a.max(b))
            }
            (Natural::Plain(Float { bits: a }), Natural::Plain(Float { bits: b })) => {
                float(a.max(b))
            }
            (Natural::Unsigned, Natural::Plain(Integer { .. }))
            | (Natural::Plain(Integer { .. }), Natural::Unsigned) => Natural::Unsigned,
            (
                Natural::Plain(Decimal { precision: p, scale: s }),
                Natural::Plain(Decimal { precision: q, scale: t }),
            ) => {
                let scale = s.max(t);
                let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
                let precision = u8::try_from(whole + i16::from(scale)).ok().filter(|p| *p <= 38)?;
                Natural::Plain(Decimal { precision, scale })
            }
            _ => return None,
        })
    }

    /// Whether its values must be looked at to find the narrowest type that keeps them all.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Natural::Unsigned | Natural::Stamp(TimeUnit::Nanosecond))
    }

    /// The type; `wide`: some value needs nanoseconds, or does not fit 64 bits with a sign.
    pub(super) fn column_type(self, wide: bool) -> ColumnType {
        match self {
            Natural::Plain(ty) => ty,
            Natural::Unsigned if wide => ColumnType::Decimal { precision: 20, scale: 0 },
            Natural::Unsigned => ColumnType::Integer { bits: 64 },
            Natural::Stamp(_) if wide => ColumnType::Instant { unit: Precision::Nanosecond },
            Natural::Stamp(_) => ColumnType::Instant { unit: Precision::Microsecond },
            Natural::Nothing => ColumnType::Text,
        }
    }

    /// In words.
    fn name(self) -> &'static str {
        match self {
            Natural::Plain(ty) => ty.common_name(),
            Natural::Unsigned => "integer",
            Natural::Stamp(_) => "instant",
            Natural::Nothing => "NULL alone",
        }
    }
}

/// What a column is, over all files that have it.
pub(super) fn merge(files: &[(&str, &Arc<Field>)], given: bool) -> Result<Natural> {
    let mut merged: Option<(&str, Natural)> = None;
    for (path, field) in files {
        let name = field.name();
        let Some(natural) = Natural::of(field.data_type()) else {
            return Err(Error::bug(format!("column `{name}` of `{path}` is kept nowhere")));
        };
        merged =
            Some(match merged {
                None => (path, natural),
                Some((first, before)) => match before.with(natural) {
                    Some(both) => (first, both),
                    None if given => (first, before),
                    None => {
                        let what = format!(
                            "`{path}` has column `{name}` as {}, `{first}` as {}",
                            natural.name(),
                            before.name()
                        );
                        return Err(Error::config(what).hint(format!(
                        "say which it is: `types: {{ {name}: {} }}`; what does not fit exactly is \
                         rejected",
                        if natural == float(64) || before == float(64) { "float64" } else { "text" }
                    )));
                    }
                },
            });
    }
    Ok(merged.map_or(Natural::Nothing, |(_, natural)| natural))
}
