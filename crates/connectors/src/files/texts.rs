//! Texts out of other kinds of files, in types that must hold them exactly: by the rules of CSV.

use arrow::array::{Array as _, ArrayRef, StringArray};
use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::Result;

use super::time::{Clock, Form};
use super::values::{Cells, Column};

struct Texts<'a>(&'a StringArray);

impl Cells for Texts<'_> {
    fn each(self, mut take: impl FnMut(usize, Option<&[u8]>)) {
        for (row, text) in self.0.iter().enumerate() {
            take(row, text.map(str::as_bytes));
        }
    }
}

/// The values, NULL where a text does not fit exactly, and the rows where that is so. Times
/// without a zone are ones of `zone`.
pub(crate) fn from_texts(
    texts: &StringArray,
    ty: ColumnType,
    zone: &TimeZone,
) -> Result<(ArrayRef, Vec<usize>)> {
    let clock = Clock::new(Form::Local, zone.clone(), None);
    let mut column = Column::new(ty, false, texts.len());
    let mut bad = Vec::new();
    column.append(Texts(texts), &clock, &mut |row, _| bad.push(row));
    Ok((column.finish()?, bad))
}

#[cfg(test)]
mod tests {
    use retrofill_core::columns::Precision;

    use super::*;

    #[test]
    fn nothing_is_rounded() {
        let decimal = ColumnType::Decimal { precision: 5, scale: 2 };
        let float = ColumnType::Float { bits: 64 };
        let micros = ColumnType::Instant { unit: Precision::Microsecond };
        for (ty, good, bad) in [
            (decimal, "1.20", "1.239"),
            (decimal, "-999.99", "1000.00"),
            (float, "0.1", "0.1000000000000000000001"),
            (micros, "2020-01-01T00:00:00.000001Z", "2020-01-01T00:00:00.0000001Z"),
            (ColumnType::Date, "2020-01-01", "2020-01-01T05:00:00"),
        ] {
            let texts = StringArray::from(vec![Some(good), None, Some(bad)]);
            let (values, refused) = from_texts(&texts, ty, &TimeZone::UTC).unwrap();
            assert_eq!(refused, [2], "{ty:?}");
            let valid: Vec<_> = (0..3).map(|row| values.is_valid(row)).collect();
            assert_eq!(valid, [true, false, false], "{ty:?}");
        }
    }
}
