//! Rows of plain values, and their way into Arrow and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray,
    LargeStringArray, ListArray, PrimitiveArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use jiff::Timestamp;

use crate::columns::{ColumnType, Columns, Element, Precision};
use crate::error::{Error, Result};

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number of any width.
    Integer(i64),
    /// A floating point number of any width.
    Float(f64),
    /// The unscaled digits of a decimal number.
    Decimal(i128),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// A point in time in the unit of its column, since 1970.
    Instant(i64),
    /// Microseconds since midnight.
    Time(i64),
    /// A UUID.
    Uuid([u8; 16]),
    /// The text of a JSON document.
    Json(String),
    /// A list.
    Array(Vec<Value>),
}

/// The values of one row.
pub type Row = Vec<Value>;

/// The point in time of a value in a column of this unit.
pub fn time_of(value: &Value, unit: Precision) -> Option<Timestamp> {
    let Value::Instant(n) = value else { return None };
    Timestamp::from_nanosecond(i128::from(*n) * i128::from(unit.nanoseconds())).ok()
}

/// Rows in plan order of columns as one batch. A value that does not fit its column's type is an
/// error of kind `Bug`.
pub fn to_batch(columns: &Columns, rows: &[&Row]) -> Result<RecordBatch> {
    let arrays = columns
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let values: Vec<_> = rows.iter().map(|row| &row[i]).collect();
            array(column.ty, &values).map_err(|e| e.at(format!("column `{}`", column.name)))
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(columns.arrow_schema(), arrays, &options)
        .map_err(|e| Error::bug("rows do not fit the plan's columns").because(e))
}

/// The rows of a batch.
pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Row>> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        for (i, row) in rows.iter_mut().enumerate() {
            row.push(value(column.as_ref(), i)?);
        }
    }
    Ok(rows)
}

fn array(ty: ColumnType, values: &[&Value]) -> Result<ArrayRef> {
    use ColumnType as C;
    use Value as V;
    Ok(match ty {
        C::Bool => {
            let list: Result<Vec<_>> = options(values, |v| match v {
                V::Bool(b) => Some(*b),
                _ => None,
            });
            Arc::new(BooleanArray::from(list?))
        }
        C::Integer { bits: 8 } => integers::<Int8Type>(values)?,
        C::Integer { bits: 16 } => integers::<Int16Type>(values)?,
        C::Integer { bits: 32 } => integers::<Int32Type>(values)?,
        C::Integer { .. } => integers::<Int64Type>(values)?,
        C::Float { bits: 32 } => Arc::new(primitive::<Float32Type>(values, |v| match v {
            V::Float(n) => Some(*n as f32),
            _ => None,
        })?),
        C::Float { .. } => Arc::new(primitive::<Float64Type>(values, |v| match v {
            V::Float(n) => Some(*n),
            _ => None,
        })?),
        C::Decimal { precision, scale } => {
            let list = primitive::<Decimal128Type>(values, |v| match v {
                V::Decimal(n) => Some(*n),
                _ => None,
            })?;
            let list: Decimal128Array = list
                .with_precision_and_scale(precision, scale)
                .map_err(|e| Error::bug("a decimal's size").because(e))?;
            Arc::new(list)
        }
        C::Text => Arc::new(StringArray::from(options(values, |v| match v {
            V::Text(s) => Some(s.as_str()),
            _ => None,
        })?)),
        C::Bytes => Arc::new(BinaryArray::from(options(values, |v| match v {
            V::Bytes(b) => Some(b.as_slice()),
            _ => None,
        })?)),
        C::Date => Arc::new(primitive::<Date32Type>(values, |v| match v {
            V::Date(n) => Some(*n),
            _ => None,
        })?),
        C::Instant { unit } => match unit {
            Precision::Second => instants::<TimestampSecondType>(values, ty)?,
            Precision::Millisecond => instants::<TimestampMillisecondType>(values, ty)?,
            Precision::Microsecond => instants::<TimestampMicrosecondType>(values, ty)?,
            Precision::Nanosecond => instants::<TimestampNanosecondType>(values, ty)?,
        },
        C::Time => Arc::new(primitive::<Time64MicrosecondType>(values, |v| match v {
            V::Time(n) => Some(*n),
            _ => None,
        })?),
        C::Uuid => {
            let list = options(values, |v| match v {
                V::Uuid(bytes) => Some(bytes),
                _ => None,
            })?;
            let list = FixedSizeBinaryArray::try_from_sparse_iter_with_size(list.into_iter(), 16);
            Arc::new(list.map_err(|e| Error::bug("a UUID's size").because(e))?)
        }
        C::Json => Arc::new(LargeStringArray::from(options(values, |v| match v {
            V::Json(s) => Some(s.as_str()),
            _ => None,
        })?)),
        C::Array { of } => lists(of, values)?,
    })
}

fn lists(of: Element, values: &[&Value]) -> Result<ArrayRef> {
    let lists = options(values, |v| match v {
        Value::Array(list) => Some(list),
        _ => None,
    })?;
    let lengths = lists.iter().map(|list| list.map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
    let inner: Vec<_> = lists.iter().flatten().flat_map(|list| list.iter()).collect();
    let ty = ColumnType::from(of);
    let item = Arc::new(Field::new_list_field(ty.arrow(), true));
    Ok(Arc::new(ListArray::new(item, offsets, array(ty, &inner)?, Some(nulls))))
}

fn options<'a, T>(
    values: &[&'a Value],
    get: impl Fn(&'a Value) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    let wrong = |v: &Value| Error::bug(format!("{v:?} is not of the column's type"));
    values
        .iter()
        .map(|v| match v {
            Value::Null => Ok(None),
            v => get(v).map(Some).ok_or_else(|| wrong(v)),
        })
        .collect()
}

fn primitive<T: ArrowPrimitiveType>(
    values: &[&Value],
    get: impl Fn(&Value) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    Ok(options(values, get)?.into_iter().collect())
}

fn integers<T: ArrowPrimitiveType>(values: &[&Value]) -> Result<ArrayRef>
where
    T::Native: TryFrom<i64>,
{
    Ok(Arc::new(primitive::<T>(values, |v| match v {
        Value::Integer(n) => T::Native::try_from(*n).ok(),
        _ => None,
    })?))
}

fn instants<T: ArrowPrimitiveType<Native = i64>>(
    values: &[&Value],
    ty: ColumnType,
) -> Result<ArrayRef> {
    let list = primitive::<T>(values, |v| match v {
        Value::Instant(n) => Some(*n),
        _ => None,
    })?;
    Ok(Arc::new(list.with_data_type(ty.arrow())))
}

fn value(column: &dyn Array, i: usize) -> Result<Value> {
    if column.is_null(i) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(i)),
        DataType::Int8 => Value::Integer(column.as_primitive::<Int8Type>().value(i).into()),
        DataType::Int16 => Value::Integer(column.as_primitive::<Int16Type>().value(i).into()),
        DataType::Int32 => Value::Integer(column.as_primitive::<Int32Type>().value(i).into()),
        DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(i)),
        DataType::Float32 => Value::Float(column.as_primitive::<Float32Type>().value(i).into()),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(i)),
        DataType::Decimal128(..) => {
            Value::Decimal(column.as_primitive::<Decimal128Type>().value(i))
        }
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(i).into()),
        DataType::Binary => Value::Bytes(column.as_binary::<i32>().value(i).into()),
        DataType::Date32 => Value::Date(column.as_primitive::<Date32Type>().value(i)),
        DataType::Timestamp(unit, _) => Value::Instant(match unit {
            TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(i),
            TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(i),
            TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(i),
            TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(i),
        }),
        DataType::Time64(_) => Value::Time(column.as_primitive::<Time64MicrosecondType>().value(i)),
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(i).try_into();
            Value::Uuid(bytes.map_err(|e| Error::bug("a UUID's size").because(e))?)
        }
        DataType::LargeUtf8 => Value::Json(column.as_string::<i64>().value(i).into()),
        DataType::List(_) => {
            let inner = column.as_list::<i32>().value(i);
            let inner: Result<_> = (0..inner.len()).map(|n| value(inner.as_ref(), n)).collect();
            Value::Array(inner?)
        }
        other => return Err(Error::bug(format!("rows in memory know no {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Column, Role};

    #[test]
    fn every_type_survives_the_way_through_arrow() {
        let unit = Precision::Millisecond;
        let types = [
            (ColumnType::Instant { unit }, Value::Instant(-1)),
            (ColumnType::Bool, Value::Bool(true)),
            (ColumnType::Integer { bits: 8 }, Value::Integer(-128)),
            (ColumnType::Integer { bits: 16 }, Value::Integer(300)),
            (ColumnType::Integer { bits: 32 }, Value::Integer(-70_000)),
            (ColumnType::Integer { bits: 64 }, Value::Integer(i64::MAX)),
            (ColumnType::Float { bits: 32 }, Value::Float(0.5)),
            (ColumnType::Float { bits: 64 }, Value::Float(1e308)),
            (ColumnType::Decimal { precision: 9, scale: 2 }, Value::Decimal(-125)),
            (ColumnType::Text, Value::Text(String::new())),
            (ColumnType::Bytes, Value::Bytes(vec![0])),
            (ColumnType::Date, Value::Date(-5)),
            (ColumnType::Instant { unit: Precision::Second }, Value::Instant(7)),
            (ColumnType::Instant { unit: Precision::Microsecond }, Value::Instant(8)),
            (ColumnType::Instant { unit: Precision::Nanosecond }, Value::Instant(9)),
            (ColumnType::Time, Value::Time(86_399_999_999)),
            (ColumnType::Uuid, Value::Uuid([7; 16])),
            (ColumnType::Json, Value::Json("{}".into())),
            (ColumnType::Array { of: Element::Date }, Value::Array(vec![Value::Null])),
        ];
        let column = |i: usize, ty| Column {
            name: format!("c{i:02}"),
            ty,
            role: if i == 0 { Role::Time } else { Role::Value },
            position: 0,
            source: None,
        };
        let list = types.iter().enumerate().map(|(i, (ty, _))| column(i, *ty)).collect();
        let columns = Columns::new(list).unwrap();
        let full: Row = types.into_iter().map(|(_, value)| value).collect();
        let empty = vec![Value::Null; full.len()];
        let batch = to_batch(&columns, &[&full, &empty]).unwrap();
        assert_eq!(from_batch(&batch).unwrap(), [full, empty]);
    }

    #[test]
    fn a_value_of_another_type_or_width_is_refused() {
        assert!(array(ColumnType::Integer { bits: 8 }, &[&Value::Integer(128)]).is_err());
        assert!(array(ColumnType::Text, &[&Value::Integer(1)]).is_err());
    }
}
