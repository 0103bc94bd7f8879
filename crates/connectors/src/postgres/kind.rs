//! The types of PostgreSQL that survive a round trip, and what they are in a plan.

use std::sync::Arc;

use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::error::{Error, Result};

/// Digits behind the point of a `numeric` that does not say how many.
pub(super) const FREE_SCALE: i8 = 18;

/// Digits of the widest decimal.
const DIGITS: i32 = 38;

/// How a value travels in a binary COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// With its digits, or free.
    Numeric(Option<(u8, i8)>),
    /// Text of at most, or (`char(n)`) exactly so many characters.
    Text {
        most: Option<u32>,
        padded: bool,
    },
    /// One of these texts.
    Enum(Arc<[String]>),
    Bytea,
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Uuid,
    Json,
    Jsonb,
    /// Where a row stands in its table: block and place in one number. No column has it.
    Spot,
}

impl Base {
    /// Whether a `float8` can stand for its values, or for most of them.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Base::Int2 | Base::Int4 | Base::Int8 | Base::Float4 | Base::Float8)
    }
}

/// A type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) base: Base,
    /// For an array the object id of its element's type.
    pub(super) element: Option<u32>,
}

impl Kind {
    /// The kind of a base type by its name in the catalog and its modifier; the other side of an
    /// array's brackets is the caller's business. None for what is not kept exactly.
    pub(super) fn base(name: &str, modifier: i32, labels: Option<Vec<String>>) -> Option<Base> {
        if let Some(labels) = labels {
            return Some(Base::Enum(labels.into()));
        }
        Some(match name {
            "bool" => Base::Bool,
            "int2" => Base::Int2,
            "int4" => Base::Int4,
            "int8" => Base::Int8,
            "float4" => Base::Float4,
            "float8" => Base::Float8,
            "numeric" => numeric(modifier)?,
            "text" | "citext" => Base::Text { most: None, padded: false },
            "varchar" => Base::Text { most: length(modifier), padded: false },
            // Without a length nobody says which spaces count.
            "bpchar" => Base::Text { most: Some(length(modifier)?), padded: true },
            "bytea" => Base::Bytea,
            "date" => Base::Date,
            "timestamp" if microseconds(modifier) => Base::Timestamp,
            "timestamptz" if microseconds(modifier) => Base::Timestamptz,
            "time" if microseconds(modifier) => Base::Time,
            "uuid" => Base::Uuid,
            "json" => Base::Json,
            "jsonb" => Base::Jsonb,
            _ => return None,
        })
    }

    /// What it is in a plan.
    pub(super) fn column_type(&self) -> ColumnType {
        let inner = match &self.base {
            Base::Bool => ColumnType::Bool,
            Base::Int2 => ColumnType::Integer { bits: 16 },
            Base::Int4 => ColumnType::Integer { bits: 32 },
            Base::Int8 | Base::Spot => ColumnType::Integer { bits: 64 },
            Base::Float4 => ColumnType::Float { bits: 32 },
            Base::Float8 => ColumnType::Float { bits: 64 },
            Base::Numeric(Some((precision, scale))) => {
                ColumnType::Decimal { precision: *precision, scale: *scale }
            }
            Base::Numeric(None) => {
                ColumnType::Decimal { precision: DIGITS as u8, scale: FREE_SCALE }
            }
            Base::Text { .. } | Base::Enum(_) => ColumnType::Text,
            Base::Bytea => ColumnType::Bytes,
            Base::Date => ColumnType::Date,
            Base::Timestamp | Base::Timestamptz => {
                ColumnType::Instant { unit: Precision::Microsecond }
            }
            Base::Time => ColumnType::Time,
            Base::Uuid => ColumnType::Uuid,
            Base::Json | Base::Jsonb => ColumnType::Json,
        };
        match self.element {
            None => inner,
            Some(_) => inner.list().unwrap_or(inner),
        }
    }

    /// Whether equal keys of ours are equal keys of the server's, and the other way round.
    pub(super) fn can_be_key(&self) -> bool {
        self.element.is_none() && !matches!(self.base, Base::Json | Base::Jsonb)
    }
}

/// The digits of a `numeric`; none where a decimal of ours cannot hold all of them.
fn numeric(modifier: i32) -> Option<Base> {
    if modifier < 4 {
        return Some(Base::Numeric(None));
    }
    let digits = modifier - 4;
    let precision = digits >> 16 & 0xffff;
    // Eleven bits with a sign.
    let scale = ((digits & 0x7ff) ^ 1024) - 1024;
    let fits = (1..=DIGITS).contains(&precision) && (0..=precision).contains(&scale);
    fits.then_some(Base::Numeric(Some((precision as u8, scale as i8))))
}

fn length(modifier: i32) -> Option<u32> {
    (modifier > 4).then(|| (modifier - 4) as u32)
}

/// A coarser type rounds what it is given.
fn microseconds(modifier: i32) -> bool {
    modifier == -1 || modifier == 6
}

/// The type in which a new table keeps a column of this type.
pub(super) fn keeps(ty: ColumnType) -> Result<ColumnType> {
    match ty {
        ColumnType::Integer { bits: 8 } => Ok(ColumnType::Integer { bits: 16 }),
        ColumnType::Instant { unit: Precision::Nanosecond } => Err(Error::config(
            "PostgreSQL keeps times to the microsecond; the nanoseconds would be lost",
        )
        .hint("floor the times to microseconds first, or choose a target that keeps them")),
        ColumnType::Instant { .. } => Ok(ColumnType::Instant { unit: Precision::Microsecond }),
        ColumnType::Decimal { precision, scale }
            if scale < 0 || scale.unsigned_abs() > precision || i32::from(precision) > DIGITS =>
        {
            Err(Error::config(format!(
                "a decimal of {precision} digits with {scale} after the point has no portable type"
            ))
            .hint("at most 38 digits, with 0 up to all of them after the point"))
        }
        ColumnType::Array { of } => {
            let inner = keeps(of.into())?;
            inner.list().ok_or_else(|| Error::bug("a list of lists"))
        }
        other => Ok(other),
    }
}

/// The type's name in the statement that creates a table.
pub(super) fn type_sql(ty: ColumnType) -> String {
    match ty {
        ColumnType::Bool => "boolean".into(),
        ColumnType::Integer { bits: 8 | 16 } => "smallint".into(),
        ColumnType::Integer { bits: 32 } => "integer".into(),
        ColumnType::Integer { .. } => "bigint".into(),
        ColumnType::Float { bits: 32 } => "real".into(),
        ColumnType::Float { .. } => "double precision".into(),
        ColumnType::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        ColumnType::Text => "text".into(),
        ColumnType::Bytes => "bytea".into(),
        ColumnType::Date => "date".into(),
        ColumnType::Instant { .. } => "timestamptz".into(),
        ColumnType::Time => "time".into(),
        ColumnType::Uuid => "uuid".into(),
        ColumnType::Json => "jsonb".into(),
        ColumnType::Array { of } => format!("{}[]", type_sql(of.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_a_numeric() {
        let digits = |precision, scale| Some(Base::Numeric(Some((precision, scale))));
        assert_eq!(numeric(-1), Some(Base::Numeric(None)));
        assert_eq!(numeric((10 << 16 | 2) + 4), digits(10, 2));
        assert_eq!(numeric((5 << 16 | (-2 & 0x7ff)) + 4), None, "rounded before the point");
        assert_eq!(numeric((39 << 16 | 2) + 4), None);
        assert_eq!(numeric((3 << 16 | 5) + 4), None, "more digits behind the point than in all");
    }

    #[test]
    fn what_rounds_or_is_not_known_is_none() {
        assert!(Kind::base("timestamptz", 3, None).is_none());
        assert!(Kind::base("timestamptz", -1, None).is_some());
        assert!(Kind::base("bpchar", -1, None).is_none());
        assert!(Kind::base("interval", -1, None).is_none());
        let text = Base::Text { most: Some(7), padded: false };
        assert_eq!(Kind::base("varchar", 11, None), Some(text));
    }
}
