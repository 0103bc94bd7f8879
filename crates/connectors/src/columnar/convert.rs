//! Values of a file in the types of a plan. A value that does not fit exactly is refused.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, PrimitiveArray, StringArray, new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};

use crate::files::{from_texts, in_zone};

/// Rows of a column that were refused, with the reason.
pub(crate) type Bad = Vec<(usize, String)>;

/// The column in this type; refused values are NULL in it.
pub(crate) fn column(array: &ArrayRef, to: ColumnType, zone: &TimeZone) -> Result<(ArrayRef, Bad)> {
    let broken = |e: ArrowError| Error::bug("a column cannot be converted").because(e);
    let (array, mut bad) = match array.data_type() {
        DataType::Timestamp(_, None) => zoned(array, zone),
        _ => (Arc::clone(array), Bad::new()),
    };
    let wanted = to.arrow();
    if *array.data_type() == DataType::Null {
        // It has no bitmap that says so.
        return Ok((new_null_array(&wanted, array.len()), bad));
    }
    if *array.data_type() == wanted {
        return Ok((array, bad));
    }
    if !can_cast_types(array.data_type(), &wanted) {
        let given = (0..array.len()).filter(|i| array.is_valid(*i));
        bad.extend(given.map(|i| (i, refusal(&array, i, to))));
        bad.sort_unstable_by_key(|(row, _)| *row);
        return Ok((new_null_array(&wanted, array.len()), bad));
    }
    if is_text(array.data_type()) && may_round(to) {
        let (out, rows) = from_texts(&texts(&array)?, to, zone)?;
        bad.extend(rows.into_iter().map(|row| (row, refusal(&array, row, to))));
        return Ok((out, bad));
    }
    let cast = |from: &ArrayRef, to: &DataType| {
        cast_with_options(from, to, &CastOptions { safe: true, ..CastOptions::default() })
    };
    let out = cast(&array, &wanted).map_err(broken)?;
    let fits: BooleanArray = if is_lossless(array.data_type(), &wanted) {
        let null_in_both = |i| array.is_null(i) || out.is_valid(i);
        (0..array.len()).map(|i| Some(null_in_both(i))).collect()
    } else {
        let back = cast(&out, array.data_type()).map_err(broken)?;
        not_distinct(&array, &back).map_err(broken)?
    };
    if fits.true_count() == fits.len() {
        return Ok((out, bad));
    }
    let misfits = (0..fits.len()).filter(|i| !fits.value(*i));
    bad.extend(misfits.map(|i| (i, refusal(&array, i, to))));
    bad.sort_unstable_by_key(|(row, _)| *row);
    Ok((out, bad))
}

fn refusal(array: &ArrayRef, row: usize, to: ColumnType) -> String {
    format!("`{}` does not fit {} exactly", shown(array, row), to.common_name())
}

/// Whether a value that can be cast at all is the same value afterwards. Text is taken by what it
/// says, not by how it is spelt.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    is_text(from)
        || matches!(to, DataType::Utf8 | DataType::Binary)
        || (from.is_integer() && to.is_integer())
        || matches!((from, to), (DataType::Float16 | DataType::Float32, DataType::Float64))
}

fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        || matches!(ty, DataType::Dictionary(_, values) if values.is_string())
}

/// Types into which a cast of Arrow rounds or cuts what a text says.
fn may_round(to: ColumnType) -> bool {
    use ColumnType as T;
    matches!(to, T::Decimal { .. } | T::Float { .. } | T::Instant { .. } | T::Date)
}

/// Times without a zone, as what they are in this zone.
fn zoned(array: &ArrayRef, zone: &TimeZone) -> (ArrayRef, Bad) {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => in_unit::<TimestampSecondType>(array, zone),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            in_unit::<TimestampMillisecondType>(array, zone)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            in_unit::<TimestampMicrosecondType>(array, zone)
        }
        _ => in_unit::<TimestampNanosecondType>(array, zone),
    }
}

fn in_unit<T: ArrowTimestampType>(array: &ArrayRef, zone: &TimeZone) -> (ArrayRef, Bad) {
    let local = array.as_primitive::<T>();
    if *zone == TimeZone::UTC {
        return (Arc::new(local.clone().with_timezone("UTC")), Bad::new());
    }
    let length = per_second(T::UNIT);
    let mut bad = Bad::new();
    let mut at = |(row, value): (usize, Option<i64>)| {
        let value = value?;
        let (seconds, rest) = (value.div_euclid(length), value.rem_euclid(length));
        let datetime = Timestamp::from_second(seconds).map(|t| TimeZone::UTC.to_datetime(t));
        let moment = match datetime {
            Ok(datetime) => in_zone(datetime, zone),
            Err(_) => Err("lies outside of the years -9999 to 9999".into()),
        };
        match moment {
            Ok(moment) => moment.seconds.checked_mul(length)?.checked_add(rest),
            Err(reason) => {
                bad.push((row, reason.into_owned()));
                None
            }
        }
    };
    let utc: PrimitiveArray<T> = local.iter().enumerate().map(&mut at).collect();
    (Arc::new(utc.with_timezone("UTC")), bad)
}

/// Units in a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A value for people; empty where it is NULL.
pub(crate) fn shown(array: &dyn Array, row: usize) -> String {
    let shown = |a: &dyn Array| {
        let formatter = ArrayFormatter::try_new(a, &FormatOptions::default()).ok()?;
        formatter.value(row).try_to_string().ok()
    };
    shown(array).unwrap_or_else(|| "?".into())
}

/// Each value as text; NULL stays NULL.
pub(super) fn texts(array: &ArrayRef) -> Result<StringArray> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let text = cast_with_options(array, &DataType::Utf8, &options)
        .map_err(|e| Error::bug("a column has no text").because(e))?;
    Ok(text.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::NullArray;

    use super::*;

    #[test]
    fn a_column_of_nothing_is_null_in_every_type() {
        let nothing: ArrayRef = Arc::new(NullArray::new(3));
        for to in [ColumnType::Text, ColumnType::Integer { bits: 64 }, ColumnType::Date] {
            let (out, bad) = column(&nothing, to, &TimeZone::UTC).unwrap();
            assert_eq!((out.len(), out.null_count(), bad.len()), (3, 3, 0), "{to:?}");
            assert_eq!(*out.data_type(), to.arrow());
        }
    }
}
