//! The columns of a plan: names, types and roles, in the one order that everything uses.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// How a value is stored in the target, and so how it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// A signed whole number of 8, 16, 32 or 64 bits.
    Integer {
        /// Width in bits.
        bits: u8,
    },
    /// An IEEE 754 number of 32 or 64 bits.
    Float {
        /// Width in bits.
        bits: u8,
    },
    /// An exact decimal number of at most 38 digits.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// A day without time and zone.
    Date,
    /// A point in time, stored as UTC.
    Instant {
        /// The finest unit kept.
        unit: Precision,
    },
    /// A time of day without day and zone, in whole microseconds.
    Time,
    /// A UUID.
    Uuid,
    /// A JSON document: a value, whatever its spaces and the order of its members.
    Json,
    /// A list of values, each of which may be NULL.
    Array {
        /// The type of each.
        of: Element,
    },
}

/// The type of the values of a list: every type but a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// See [`ColumnType::Bool`].
    Bool,
    /// See [`ColumnType::Integer`].
    Integer {
        /// Width in bits.
        bits: u8,
    },
    /// See [`ColumnType::Float`].
    Float {
        /// Width in bits.
        bits: u8,
    },
    /// See [`ColumnType::Decimal`].
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// See [`ColumnType::Text`].
    Text,
    /// See [`ColumnType::Bytes`].
    Bytes,
    /// See [`ColumnType::Date`].
    Date,
    /// See [`ColumnType::Instant`].
    Instant {
        /// The finest unit kept.
        unit: Precision,
    },
    /// See [`ColumnType::Time`].
    Time,
    /// See [`ColumnType::Uuid`].
    Uuid,
    /// See [`ColumnType::Json`].
    Json,
}

impl From<Element> for ColumnType {
    fn from(element: Element) -> Self {
        match element {
            Element::Bool => ColumnType::Bool,
            Element::Integer { bits } => ColumnType::Integer { bits },
            Element::Float { bits } => ColumnType::Float { bits },
            Element::Decimal { precision, scale } => ColumnType::Decimal { precision, scale },
            Element::Text => ColumnType::Text,
            Element::Bytes => ColumnType::Bytes,
            Element::Date => ColumnType::Date,
            Element::Instant { unit } => ColumnType::Instant { unit },
            Element::Time => ColumnType::Time,
            Element::Uuid => ColumnType::Uuid,
            Element::Json => ColumnType::Json,
        }
    }
}

/// The finest unit of a stored time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Whole seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

impl Precision {
    /// The same in Arrow's words.
    pub fn arrow(self) -> TimeUnit {
        match self {
            Precision::Second => TimeUnit::Second,
            Precision::Millisecond => TimeUnit::Millisecond,
            Precision::Microsecond => TimeUnit::Microsecond,
            Precision::Nanosecond => TimeUnit::Nanosecond,
        }
    }

    /// Nanoseconds in one unit.
    pub fn nanoseconds(self) -> i64 {
        match self {
            Precision::Second => 1_000_000_000,
            Precision::Millisecond => 1_000_000,
            Precision::Microsecond => 1_000,
            Precision::Nanosecond => 1,
        }
    }
}

impl ColumnType {
    /// The type's name in the schema fingerprint: what a value is, never how wide it is stored.
    pub fn common_name(self) -> &'static str {
        match self {
            ColumnType::Bool => "bool",
            ColumnType::Integer { .. } => "integer",
            ColumnType::Float { .. } => "float",
            ColumnType::Decimal { .. } => "decimal",
            ColumnType::Text => "text",
            ColumnType::Bytes => "bytes",
            ColumnType::Date => "date",
            ColumnType::Instant { .. } => "instant",
            ColumnType::Time => "time",
            ColumnType::Uuid => "uuid",
            ColumnType::Json => "json",
            ColumnType::Array { .. } => "array",
        }
    }

    /// The type of a list of such values; none for a list of lists.
    pub fn list(self) -> Option<ColumnType> {
        let of = match self {
            ColumnType::Bool => Element::Bool,
            ColumnType::Integer { bits } => Element::Integer { bits },
            ColumnType::Float { bits } => Element::Float { bits },
            ColumnType::Decimal { precision, scale } => Element::Decimal { precision, scale },
            ColumnType::Text => Element::Text,
            ColumnType::Bytes => Element::Bytes,
            ColumnType::Date => Element::Date,
            ColumnType::Instant { unit } => Element::Instant { unit },
            ColumnType::Time => Element::Time,
            ColumnType::Uuid => Element::Uuid,
            ColumnType::Json => Element::Json,
            ColumnType::Array { .. } => return None,
        };
        Some(ColumnType::Array { of })
    }

    /// The one Arrow type that carries this column inside retrofill.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Integer { bits: 8 } => DataType::Int8,
            ColumnType::Integer { bits: 16 } => DataType::Int16,
            ColumnType::Integer { bits: 32 } => DataType::Int32,
            ColumnType::Integer { .. } => DataType::Int64,
            ColumnType::Float { bits: 32 } => DataType::Float32,
            ColumnType::Float { .. } => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            ColumnType::Text => DataType::Utf8,
            ColumnType::Bytes => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::Instant { unit } => {
                DataType::Timestamp(unit.arrow(), Some(Arc::from("UTC")))
            }
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Uuid => DataType::FixedSizeBinary(16),
            // Another type than text has, so that nobody takes one for the other.
            ColumnType::Json => DataType::LargeUtf8,
            ColumnType::Array { of } => DataType::new_list(ColumnType::from(of).arrow(), true),
        }
    }
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The row's time; exactly one column has this role.
    Time,
    /// Part of the identity of a series.
    Key,
    /// Everything else.
    Value,
}

/// One column of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name, byte for byte as the source has it (or the target, where that exists).
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// What it is for.
    pub role: Role,
    /// Its place in the source, from 0: a new table keeps the source's order.
    pub position: u32,
    /// Its name in the source, where the target's table writes it differently.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}

impl Column {
    /// The name under which the source has it.
    pub fn source_name(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.name)
    }
}

/// All columns of a plan in plan order: time, keys as in the spec, the others by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Column>", into = "Vec<Column>")]
pub struct Columns {
    list: Vec<Column>,
    keys: usize,
}

impl TryFrom<Vec<Column>> for Columns {
    type Error = Error;

    fn try_from(mut list: Vec<Column>) -> Result<Self> {
        list.sort_by(|a, b| match (a.role, b.role) {
            (Role::Value, Role::Value) => a.name.cmp(&b.name),
            (x, y) => rank(x).cmp(&rank(y)),
        });
        let times = list.iter().filter(|c| c.role == Role::Time).count();
        if times != 1 {
            return Err(Error::config(format!("{times} time columns; there must be exactly one")));
        }
        if !matches!(list[0].ty, ColumnType::Instant { .. }) {
            return Err(Error::config(format!("column `{}` is not a time", list[0].name)));
        }
        let mut names: Vec<_> = list.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::config(format!("column `{name}` occurs twice")));
        }
        let keys = list.iter().filter(|c| c.role == Role::Key).count();
        Ok(Columns { list, keys })
    }
}

fn rank(role: Role) -> u8 {
    match role {
        Role::Time => 0,
        Role::Key => 1,
        Role::Value => 2,
    }
}

impl From<Columns> for Vec<Column> {
    fn from(columns: Columns) -> Self {
        columns.list
    }
}

impl<'a> IntoIterator for &'a Columns {
    type Item = &'a Column;
    type IntoIter = std::slice::Iter<'a, Column>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl Columns {
    /// Puts the columns into plan order; key columns keep the order given.
    pub fn new(list: Vec<Column>) -> Result<Self> {
        Columns::try_from(list)
    }

    /// All columns in plan order.
    pub fn iter(&self) -> std::slice::Iter<'_, Column> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Never true: there is always a time column.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The time column; always at index 0.
    pub fn time(&self) -> &Column {
        &self.list[0]
    }

    /// The finest unit of the time column.
    pub fn time_precision(&self) -> Precision {
        match self.list[0].ty {
            ColumnType::Instant { unit } => unit,
            _ => Precision::Nanosecond,
        }
    }

    /// How many columns, from index 0, are time and keys.
    pub fn key_width(&self) -> usize {
        1 + self.keys
    }

    /// The key columns, without time.
    pub fn keys(&self) -> &[Column] {
        &self.list[1..=self.keys]
    }

    /// Everything but time and keys.
    pub fn values(&self) -> &[Column] {
        &self.list[1 + self.keys..]
    }

    /// The Arrow schema of a batch in plan order. All fields are nullable: a NULL in a key or in
    /// the time is a reject, found by the runner, not a failure of Arrow.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<_> =
            self.list.iter().map(|c| Field::new(&c.name, c.ty.arrow(), true)).collect();
        Arc::new(Schema::new(fields))
    }

    /// SHA-256 of the canonical JSON `[[name, common type, "time"|"key"|"value"]...]` in plan
    /// order. Part of the digest's key: digests over different schemas never compare equal.
    pub fn fingerprint(&self) -> [u8; 32] {
        let list: Vec<_> =
            self.list.iter().map(|c| (&c.name, c.ty.common_name(), c.role)).collect();
        let json = serde_json::to_vec(&list).expect("names and roles are plain JSON");
        Sha256::digest(json).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, role: Role, ty: ColumnType) -> Column {
        Column { name: name.into(), ty, role, position: 0, source: None }
    }

    #[test]
    fn plan_order_is_time_keys_then_names() {
        let time = ColumnType::Instant { unit: Precision::Microsecond };
        let columns = Columns::new(vec![
            column("b", Role::Value, ColumnType::Text),
            column("z", Role::Key, ColumnType::Text),
            column("a", Role::Value, ColumnType::Bool),
            column("k", Role::Key, ColumnType::Text),
            column("t", Role::Time, time),
        ])
        .unwrap();
        let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["t", "z", "k", "a", "b"]);
        assert_eq!(columns.key_width(), 3);
    }

    #[test]
    fn every_type_but_a_list_has_a_list() {
        for ty in [
            ColumnType::Bool,
            ColumnType::Integer { bits: 16 },
            ColumnType::Float { bits: 32 },
            ColumnType::Decimal { precision: 9, scale: 2 },
            ColumnType::Text,
            ColumnType::Bytes,
            ColumnType::Date,
            ColumnType::Instant { unit: Precision::Second },
            ColumnType::Time,
            ColumnType::Uuid,
            ColumnType::Json,
        ] {
            let Some(list @ ColumnType::Array { of }) = ty.list() else { panic!("{ty:?}") };
            assert_eq!(ColumnType::from(of), ty);
            assert_eq!(list.list(), None);
            let json = serde_json::to_string(&list).unwrap();
            assert_eq!(serde_json::from_str::<ColumnType>(&json).unwrap(), list, "{json}");
        }
    }

    #[test]
    fn width_does_not_change_the_fingerprint() {
        let time = ColumnType::Instant { unit: Precision::Microsecond };
        let with = |bits| {
            Columns::new(vec![
                column("t", Role::Time, time),
                column("v", Role::Value, ColumnType::Integer { bits }),
            ])
            .unwrap()
            .fingerprint()
        };
        assert_eq!(with(32), with(64));
    }
}
