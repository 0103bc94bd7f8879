//! The values of one column. In SQLite each value has a class of its own, whatever the column is
//! declared as: so they are kept apart by class until they must be of one type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder as _, ArrayRef, AsArray as _, BinaryBuilder, Float64Builder, Int64Builder,
    StringBuilder, UInt32Array, new_null_array,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use rusqlite::types::ValueRef;

use super::table::Declared;
use crate::columnar::{Bad, exactly, is_possible, shown};

/// Whole numbers.
pub(super) const INTEGER: u8 = 1;
/// Floating point numbers.
pub(super) const REAL: u8 = 2;
/// Texts.
pub(super) const TEXT: u8 = 4;
/// Bytes.
pub(super) const BLOB: u8 = 8;

/// Classes of values, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Classes(pub(super) u8);

fn name(class: u8) -> &'static str {
    match class {
        INTEGER => "a whole number",
        REAL => "a floating point number",
        TEXT => "text",
        _ => "bytes",
    }
}

/// Which values of a column are taken, and as what.
pub(super) struct Wish<'a> {
    pub(super) to: ColumnType,
    pub(super) declared: &'a Declared,
    /// The spec says what the column is, whatever is declared.
    pub(super) given: bool,
    pub(super) zone: &'a TimeZone,
}

impl Wish<'_> {
    /// Why values of this class are not taken, where they are not.
    fn refusal(&self, class: u8) -> Option<String> {
        use ColumnType as T;
        let at_home = match self.declared.ty().filter(|_| !self.given) {
            None => true,
            Some(T::Integer { .. } | T::Bool) => class == INTEGER,
            Some(T::Float { .. }) => class & (INTEGER | REAL) != 0,
            Some(T::Bytes) => class == BLOB,
            Some(_) => class == TEXT,
        };
        if !at_home {
            return Some(format!("is {}; {}", name(class), self.declared.about()));
        }
        let kind = match class {
            INTEGER => DataType::Int64,
            REAL => DataType::Float64,
            TEXT => DataType::Utf8,
            _ => DataType::Binary,
        };
        let to = self.to.common_name();
        let why = || format!("is {}, and the column becomes {to}", name(class));
        (!is_possible(&kind, self.to)).then(why)
    }
}

/// Values as they are read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    classes: Vec<u8>,
    integers: Int64Builder,
    reals: Float64Builder,
    texts: StringBuilder,
    blobs: BinaryBuilder,
    /// Rows whose text is not UTF-8.
    broken: Vec<usize>,
}

impl Reading {
    /// Adds the value of the next row.
    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let row = self.classes.len();
        self.classes.push(match value {
            ValueRef::Null => 0,
            ValueRef::Integer(n) => {
                self.integers.append_nulls(row - self.integers.len());
                self.integers.append_value(n);
                INTEGER
            }
            ValueRef::Real(n) => {
                self.reals.append_nulls(row - self.reals.len());
                self.reals.append_value(n);
                REAL
            }
            ValueRef::Text(bytes) => {
                self.texts.append_nulls(row - self.texts.len());
                if std::str::from_utf8(bytes).is_err() {
                    self.broken.push(row);
                }
                self.texts.append_value(String::from_utf8_lossy(bytes));
                TEXT
            }
            ValueRef::Blob(bytes) => {
                self.blobs.append_nulls(row - self.blobs.len());
                self.blobs.append_value(bytes);
                BLOB
            }
        });
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Cells {
        let rows = self.classes.len();
        let found = Classes(self.classes.iter().fold(0, |all, class| all | class));
        let mut arrays: Vec<(u8, ArrayRef)> = Vec::new();
        if found.0 & INTEGER != 0 {
            self.integers.append_nulls(rows - self.integers.len());
            arrays.push((INTEGER, Arc::new(self.integers.finish())));
        }
        if found.0 & REAL != 0 {
            self.reals.append_nulls(rows - self.reals.len());
            arrays.push((REAL, Arc::new(self.reals.finish())));
        }
        if found.0 & TEXT != 0 {
            self.texts.append_nulls(rows - self.texts.len());
            arrays.push((TEXT, Arc::new(self.texts.finish())));
        }
        if found.0 & BLOB != 0 {
            self.blobs.append_nulls(rows - self.blobs.len());
            arrays.push((BLOB, Arc::new(self.blobs.finish())));
        }
        Cells { found, classes: self.classes, arrays, broken: self.broken }
    }
}

/// The values of some rows.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) found: Classes,
    classes: Vec<u8>,
    /// The values of each class there is; NULL where a row has another.
    arrays: Vec<(u8, ArrayRef)>,
    broken: Vec<usize>,
}

impl Cells {
    fn array(&self, class: u8) -> Option<&ArrayRef> {
        self.arrays.iter().find(|(c, _)| *c == class).map(|(_, array)| array)
    }

    /// What a row has, for people and for clocks; none where it is NULL.
    pub(super) fn text(&self, row: usize) -> Option<String> {
        match self.classes[row] {
            0 => None,
            // As short as it can be read back from.
            REAL => Some(self.array(REAL)?.as_primitive::<Float64Type>().value(row).to_string()),
            class => Some(shown(self.array(class)?, row)),
        }
    }

    /// The class of a row's value; 0 is NULL.
    pub(super) fn class(&self, row: usize) -> u8 {
        self.classes[row]
    }

    /// Some of the rows.
    pub(super) fn picked(&self, rows: &[u32]) -> Result<Cells> {
        let index = UInt32Array::from(rows.to_vec());
        let picked = |(class, array): &(u8, ArrayRef)| Ok((*class, take(array, &index, None)?));
        let arrays: Result<_, ArrowError> = self.arrays.iter().map(picked).collect();
        let at = |row: &usize| rows.binary_search(&(*row as u32)).ok();
        Ok(Cells {
            found: self.found,
            classes: rows.iter().map(|row| self.classes[*row as usize]).collect(),
            arrays: arrays.map_err(|e| Error::bug("rows cannot be taken out").because(e))?,
            broken: self.broken.iter().filter_map(at).collect(),
        })
    }

    /// As a column of a plan. What does not fit exactly is refused, and NULL in it.
    pub(super) fn column(&self, wish: &Wish<'_>) -> Result<(ArrayRef, Bad)> {
        let mut bad: Bad =
            self.broken.iter().map(|row| (*row, "is text that is not UTF-8".to_owned())).collect();
        let mut parts: Vec<(u8, ArrayRef)> = Vec::new();
        for (class, array) in &self.arrays {
            if let Some(why) = wish.refusal(*class) {
                let rows = (0..array.len()).filter(|row| self.classes[*row] == *class);
                bad.extend(rows.map(|row| (row, format!("`{}` {why}", shown(array, row)))));
                continue;
            }
            let (part, refused) = exactly(array, wish.to, wish.zone)?;
            bad.extend(refused);
            parts.push((*class, part));
        }
        bad.sort_by_key(|(row, _)| *row);
        let rows = self.classes.len();
        let column = match &parts[..] {
            [] => new_null_array(&wish.to.arrow(), rows),
            [(_, one)] => one.clone(),
            _ => {
                let part = |class: u8| parts.iter().position(|(c, _)| *c == class).unwrap_or(0);
                let at: Vec<_> = (0..rows).map(|row| (part(self.classes[row]), row)).collect();
                let arrays: Vec<&dyn Array> = parts.iter().map(|(_, a)| a.as_ref()).collect();
                interleave(&arrays, &at)
                    .map_err(|e| Error::bug("values cannot be put together").because(e))?
            }
        };
        Ok((column, bad))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;
    use retrofill_core::columns::Precision;

    use super::*;

    fn cells(values: &[ValueRef<'_>]) -> Cells {
        let mut reading = Reading::default();
        for value in values {
            reading.push(*value);
        }
        reading.finish()
    }

    fn column(cells: &Cells, words: &str, given: bool, to: ColumnType) -> (ArrayRef, Vec<usize>) {
        let declared = Declared { name: "c".into(), words: words.into(), nullable: true };
        let wish = Wish { to, declared: &declared, given, zone: &TimeZone::UTC };
        let (array, bad) = cells.column(&wish).unwrap();
        (array, bad.into_iter().map(|(row, _)| row).collect())
    }

    #[test]
    fn values_of_another_class_are_refused_and_never_changed() {
        use ValueRef as V;
        let whole = ColumnType::Integer { bits: 64 };
        let float = ColumnType::Float { bits: 64 };
        let mixed = cells(&[V::Integer(1), V::Null, V::Text(b"2"), V::Real(3.0), V::Blob(b"4")]);
        let (array, bad) = column(&mixed, "INTEGER", false, whole);
        assert_eq!(bad, [2, 3, 4]);
        assert_eq!(array.as_primitive::<Int64Type>().value(0), 1);
        assert_eq!(array.null_count(), 4);
        let (array, bad) = column(&mixed, "INTEGER", true, whole);
        assert_eq!((bad, array.null_count()), (vec![4], 2), "asked for by `types`");
        assert_eq!(array.as_primitive::<Int64Type>().values()[2..4], [2, 3]);
        assert_eq!(column(&mixed, "TEXT", false, ColumnType::Text).1, [0, 3, 4]);
        // Not every whole number is a floating point number.
        let far = cells(&[V::Integer((1 << 53) + 1), V::Real(0.5), V::Integer(2)]);
        let (array, bad) = column(&far, "NUMERIC", false, float);
        assert_eq!((bad, array.as_primitive::<Float64Type>().value(2)), (vec![0], 2.0));
        // A number is no time, and 2 is neither true nor false.
        let instant = ColumnType::Instant { unit: Precision::Microsecond };
        assert_eq!(column(&cells(&[V::Integer(1)]), "", false, instant).1, [0]);
        let bools = cells(&[V::Integer(0), V::Integer(1), V::Integer(2)]);
        assert_eq!(column(&bools, "BOOLEAN", false, ColumnType::Bool).1, [2]);
        let broken = cells(&[V::Text(b"\xff"), V::Text(b"a")]);
        assert_eq!(column(&broken, "TEXT", false, ColumnType::Text).1, [0]);
        assert_eq!(broken.picked(&[1]).unwrap().broken, [0; 0]);
        assert_eq!(broken.picked(&[0]).unwrap().broken, [0]);
    }

    #[test]
    fn numbers_are_shown_so_that_they_are_read_back() {
        let cells = cells(&[ValueRef::Real(1_356_998_400.123_456), ValueRef::Integer(-5)]);
        assert_eq!(cells.text(0).as_deref(), Some("1356998400.123456"));
        assert_eq!(cells.text(1).as_deref(), Some("-5"));
    }
}
