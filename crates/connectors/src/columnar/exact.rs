//! Values of a database in the types of a plan: by what they are, never by what Arrow would make
//! of their bits.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::DataType;
use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::Result;

use super::convert::{Bad, column, shown};
use crate::files::from_texts;

/// Whether a value of this kind can be one of such a column at all: a number is no time, and
/// bytes are no text.
pub(crate) fn is_possible(from: &DataType, to: ColumnType) -> bool {
    use ColumnType as T;
    match from {
        DataType::Utf8 => true,
        DataType::Binary => to == T::Bytes,
        DataType::Date32 => matches!(to, T::Date | T::Text),
        DataType::Timestamp(..) => matches!(to, T::Instant { .. }),
        DataType::Time64(_) => matches!(to, T::Time),
        _ => match to {
            T::Integer { .. } | T::Float { .. } | T::Decimal { .. } | T::Text => true,
            T::Bool => from.is_integer(),
            _ => false,
        },
    }
}

/// The column in this type. What does not fit exactly is refused, and NULL in it.
pub(crate) fn exactly(
    array: &ArrayRef,
    to: ColumnType,
    zone: &TimeZone,
) -> Result<(ArrayRef, Bad)> {
    if *array.data_type() != DataType::Utf8 || to == ColumnType::Text {
        return column(array, to, zone);
    }
    let (out, rows) = from_texts(array.as_string::<i32>(), to, zone)?;
    let to = to.common_name();
    let why = |row| (row, format!("`{}` does not fit {to} exactly", shown(array, row)));
    Ok((out, rows.into_iter().map(why).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use retrofill_core::columns::Precision;

    use super::*;

    #[test]
    fn numbers_are_no_times_and_texts_are_taken_by_what_they_say() {
        let instant = ColumnType::Instant { unit: Precision::Microsecond };
        assert!(!is_possible(&DataType::Int64, instant));
        assert!(!is_possible(&DataType::Binary, ColumnType::Text));
        assert!(!is_possible(&DataType::Float64, ColumnType::Bool));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{\"a\": 1}", "{"]));
        let (_, bad) = exactly(&texts, ColumnType::Json, &TimeZone::UTC).unwrap();
        assert_eq!(bad, [(1, "`{` does not fit json exactly".to_owned())]);
    }
}
