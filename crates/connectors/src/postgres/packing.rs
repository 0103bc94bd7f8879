//! Several numbers of a row in one field.
//!
//! A binary COPY calls the type's send function for every value, and each call asks for a kilobyte
//! of memory first. A line between two points is four numbers as they are, bit by bit, which one
//! call sends.

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::Int64Type;
use retrofill_core::columns::Columns;
use retrofill_core::error::Result;

use super::kind::Kind;
use super::sql::ident;
use super::values::EXACT;

/// What one field of a tuple holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// A column.
    One(usize),
    /// Four columns, none of which is NULL. Where there are but three the last stands twice.
    Four([usize; 4]),
}

/// How the columns of a row are spread over the fields of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packing {
    fields: Vec<Field>,
    /// For each column whether it is one of four.
    packed: Vec<bool>,
}

impl Packing {
    /// A field for each column.
    pub(super) fn none(columns: usize) -> Self {
        let fields = (0..columns).map(Field::One).collect();
        Packing { fields, packed: vec![false; columns] }
    }

    /// Numbers by fours, and a last three; all else alone. `plain` tells the columns in which no
    /// row to be read has a NULL or a number that `float8` does not hold.
    pub(super) fn of(kinds: &[Kind], plain: impl Fn(usize) -> bool) -> Self {
        let mut packing = Packing { fields: Vec::new(), packed: vec![false; kinds.len()] };
        let is_number =
            |i: &usize| kinds[*i].base.is_number() && kinds[*i].element.is_none() && plain(*i);
        let (numbers, others): (Vec<usize>, Vec<usize>) = (0..kinds.len()).partition(is_number);
        packing.fields.extend(others.into_iter().map(Field::One));
        for some in numbers.chunks(4) {
            let four = match *some {
                [a, b, c, d] => [a, b, c, d],
                [a, b, c] => [a, b, c, c],
                _ => {
                    packing.fields.extend(some.iter().copied().map(Field::One));
                    continue;
                }
            };
            packing.fields.push(Field::Four(four));
            for column in four {
                packing.packed[column] = true;
            }
        }
        packing
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether a column is one of four.
    pub(super) fn packs(&self, column: usize) -> bool {
        self.packed[column]
    }

    /// What a SELECT lists.
    pub(super) fn list(&self, columns: &Columns) -> Result<String> {
        let names: Result<Vec<String>> = columns.iter().map(|c| ident(&c.name)).collect();
        let names = names?;
        let number = |column: usize| format!("{}::pg_catalog.float8", names[column]);
        let point = |one, other| format!("pg_catalog.point({}, {})", number(one), number(other));
        let field = |field: &Field| match *field {
            Field::One(column) => names[column].clone(),
            Field::Four([a, b, c, d]) => {
                format!("pg_catalog.lseg({}, {})", point(a, b), point(c, d))
            }
        };
        Ok(self.fields.iter().map(field).collect::<Vec<_>>().join(", "))
    }
}

/// Whether every one of these values can be told from a `float8`, if it is a number at all.
pub(super) fn can_pack(column: &ArrayRef) -> bool {
    let whole = column.as_primitive_opt::<Int64Type>();
    let exact = || whole.is_none_or(|whole| whole.values().iter().all(|n| EXACT.contains(n)));
    column.null_count() == 0 && exact()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, RecordBatch};
    use arrow::datatypes::{Float64Type, Int16Type};
    use retrofill_core::columns::{Column, ColumnType, Precision, Role};
    use retrofill_core::error::Kind as ErrorKind;

    use super::super::decode::{Decoder, HEADER};
    use super::super::kind::Base;
    use super::*;

    fn kinds(bases: &[Base]) -> Vec<Kind> {
        bases.iter().map(|base| Kind { base: base.clone(), element: None }).collect()
    }

    /// One row, which came in these fields.
    fn row(kinds: &[Kind], packing: Packing, fields: &[Option<&[u8]>]) -> Result<RecordBatch> {
        let mut bytes = HEADER.to_vec();
        bytes.extend((fields.len() as i16).to_be_bytes());
        for field in fields {
            bytes.extend(field.map_or(-1, |f| f.len() as i32).to_be_bytes());
            bytes.extend(field.unwrap_or_default());
        }
        bytes.extend((-1_i16).to_be_bytes());
        let columns = kinds.iter().enumerate().map(|(i, kind)| {
            arrow::datatypes::Field::new(format!("c{i}"), kind.column_type().arrow(), true)
        });
        let schema = Arc::new(arrow::datatypes::Schema::new(columns.collect::<Vec<_>>()));
        let mut decoder = Decoder::packed(kinds, schema, packing);
        for piece in bytes.chunks(7) {
            assert!(decoder.push(piece)?.is_none());
        }
        Ok(decoder.end()?.expect("there is a row").rows)
    }

    fn line(numbers: [f64; 4]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_go_by_fours_and_all_else_alone() {
        let text = Base::Text { most: None, padded: false };
        let of = |bases: &[Base], loose: usize| Packing::of(&kinds(bases), |i| i != loose).fields;
        let float = || Base::Float8;
        let seven = [text, float(), Base::Int4, Base::Int8, float(), float(), Base::Int2];
        let all = [Field::One(0), Field::Four([1, 2, 3, 4]), Field::One(5), Field::One(6)];
        assert_eq!(of(&seven, 9), all);
        let fewer = [Field::One(0), Field::One(2), Field::Four([1, 3, 4, 5]), Field::One(6)];
        assert_eq!(of(&seven, 2), fewer);
        let three = [Base::Float4, Base::Int2, Base::Float8];
        assert_eq!(of(&three, 9), [Field::Four([0, 1, 2, 2])]);
        assert_eq!(of(&three, 0), [Field::One(0), Field::One(1), Field::One(2)]);
    }

    #[test]
    fn names_are_quoted_and_settings_do_not_count() {
        let column = |(name, role, ty): (&str, Role, ColumnType)| Column {
            name: name.into(),
            role,
            ty,
            position: 0,
            source: None,
        };
        let time = ColumnType::Instant { unit: Precision::Microsecond };
        let number = |name| (name, Role::Value, ColumnType::Float { bits: 64 });
        let list = [("T", Role::Time, time), number("a"), number("B"), number("c\"d")];
        let columns = Columns::new(list.map(column).into()).unwrap();
        let float = Base::Float8;
        let of = kinds(&[Base::Timestamptz, float.clone(), float.clone(), float]);
        let packing = Packing::of(&of, |_| true);
        let number = |name: &str| format!("{name}::pg_catalog.float8");
        let (b, a, c) = (number("\"B\""), number("\"a\""), number("\"c\"\"d\""));
        let point = "pg_catalog.point";
        let want = format!("\"T\", pg_catalog.lseg({point}({b}, {a}), {point}({c}, {c}))");
        assert_eq!(packing.list(&columns).unwrap(), want);
    }

    #[test]
    fn numbers_come_back_as_they_were_and_no_others() {
        let most = *EXACT.end();
        let kinds = kinds(&[Base::Int8, Base::Float8, Base::Float4, Base::Int2]);
        let read = |fields: &[Option<&[u8]>]| row(&kinds, Packing::of(&kinds, |_| true), fields);
        let numbers = |numbers| read(&[Some(&line(numbers))]);
        let rows = numbers([-most as f64, -0.0, f64::INFINITY, -32_768.0]).unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), -most);
        let float = rows.column(1).as_primitive::<Float64Type>().value(0);
        assert_eq!(float.to_bits(), (-0.0_f64).to_bits());
        assert_eq!(rows.column(3).as_primitive::<Int16Type>().value(0), -32_768);
        let mismatch = |read: Result<RecordBatch>| {
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Mismatch);
        };
        mismatch(numbers([(most + 1) as f64, 0.1, f64::NAN, 1.0]));
        mismatch(numbers([0.5, 0.1, 0.5, 1.0]));
        mismatch(numbers([1.0, 0.1, 0.1, 1.0]));
        mismatch(numbers([1.0, 0.1, 0.5, 40_000.0]));
        mismatch(read(&[None]));
        assert_eq!(read(&[Some(&[0; 31])]).unwrap_err().kind(), ErrorKind::Bug);
    }

    #[test]
    fn columns_that_cannot_be_told_from_floats_are_not_packed() {
        let whole = |numbers: Vec<Option<i64>>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
        let most = *EXACT.end();
        assert!(can_pack(&whole(vec![Some(-most), Some(most)])));
        assert!(!can_pack(&whole(vec![Some(0), Some(most + 1)])));
        assert!(!can_pack(&whole(vec![Some(0), None])));
        assert!(can_pack(&(Arc::new(Float64Array::from(vec![f64::NAN])) as ArrayRef)));
    }
}
