//! Which rows a replacing load may take out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Scalar, StringArray};
use arrow::compute::kernels::{boolean, cmp};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::names::nearest;
use crate::spec::Scope;

/// A scope whose values have the types of the plan's columns.
#[derive(Debug, Clone)]
pub(crate) struct Within {
    /// Per column its place and the values, one each.
    columns: Vec<(usize, Vec<ArrayRef>)>,
}

impl Within {
    /// Checks the scope against the plan's columns.
    pub(crate) fn new(scope: &Scope, columns: &Columns) -> Result<Self> {
        let none = BTreeMap::new();
        let wanted = match scope {
            Scope::All => &none,
            Scope::Where(wanted) => wanted,
        };
        let mut list = Vec::new();
        for (name, values) in wanted {
            let column = columns.iter().enumerate().find(|(_, c)| c.name == *name);
            let Some((place, column)) = column else {
                let error = Error::config(format!("`write.scope` names no column: `{name}`"));
                let error = error.about(format!("write.scope.{name}"));
                return Err(match nearest(name, columns.iter().map(|c| c.name.as_str())) {
                    Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                    None => error,
                });
            };
            let typed = |value: &String| {
                let text: ArrayRef = Arc::new(StringArray::from(vec![value.as_str()]));
                let options = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(&text, &column.ty.arrow(), &options).map_err(|e| {
                    let what = format!("`{value}` in `write.scope` cannot be a `{name}`");
                    Error::config(what).because(e).about(format!("write.scope.{name}"))
                })
            };
            list.push((place, values.iter().map(typed).collect::<Result<_>>()?));
        }
        Ok(Within { columns: list })
    }

    /// For each row, in plan order of columns, whether it lies inside.
    pub(crate) fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let bug = |e: ArrowError| Error::bug("a scope cannot be compared").because(e);
        let mut all = BooleanArray::from(vec![true; rows.num_rows()]);
        for (place, values) in &self.columns {
            let mut any = BooleanArray::from(vec![false; rows.num_rows()]);
            for value in values {
                let one = Scalar::new(Arc::clone(value));
                let equal = cmp::not_distinct(rows.column(*place), &one).map_err(bug)?;
                any = boolean::or(&any, &equal).map_err(bug)?;
            }
            all = boolean::and(&all, &any).map_err(bug)?;
        }
        debug_assert_eq!(all.null_count(), 0);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Column, ColumnType, Precision, Role};

    #[test]
    fn values_are_compared_in_the_columns_type() {
        let column = |name: &str, ty, role| Column {
            name: name.into(),
            ty,
            role,
            position: 0,
            source: None,
        };
        let instant = ColumnType::Instant { unit: Precision::Second };
        let columns = Columns::new(vec![
            column("t", instant, Role::Time),
            column("f", ColumnType::Float { bits: 64 }, Role::Value),
            column("s", ColumnType::Text, Role::Value),
        ])
        .unwrap();
        let float: ArrayRef =
            Arc::new(arrow::array::Float64Array::from(vec![Some(1.0), Some(2.5), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("y"), Some("x")]));
        let time = arrow::array::TimestampSecondArray::from(vec![0, 0, 0]).with_timezone("UTC");
        let rows = RecordBatch::try_new(columns.arrow_schema(), vec![Arc::new(time), float, text])
            .unwrap();
        let mask = |of: &[(&str, &[&str])]| {
            let words = |w: &[&str]| w.iter().map(|w| (*w).to_owned()).collect();
            let scope = of.iter().map(|(name, w)| ((*name).to_owned(), words(w))).collect();
            let mask = Within::new(&Scope::Where(scope), &columns)?.mask(&rows)?;
            Ok::<_, Error>(mask.iter().map(Option::unwrap).collect::<Vec<_>>())
        };
        assert_eq!(mask(&[("f", &["1", "7"])]).unwrap(), [true, false, false]);
        assert_eq!(mask(&[("s", &["x"])]).unwrap(), [true, false, true]);
        assert_eq!(mask(&[("s", &["x"]), ("f", &["2.5"])]).unwrap(), [false; 3]);
        assert_eq!(mask(&[]).unwrap(), [true; 3]);
        assert!(mask(&[("f", &["abc"])]).unwrap_err().message().contains("`abc`"));
        assert!(mask(&[("g", &["1"])]).unwrap_err().message().contains("`g`"));
    }
}
