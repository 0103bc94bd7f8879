//! The Arrow types of a Parquet file that another program wrote.

use std::fs::File;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::basic::Type;
use retrofill_core::error::{Error, Result};

use super::contents::Shared;
use crate::delta::footer;

/// Its columns. Times that are kept in 96 bits, which is no longer written, count as microseconds
/// in UTC, as which the same readers take them.
pub(super) fn of(shared: &Shared, name: &str) -> Result<Schema> {
    let path = shared.base.join(name);
    let unreadable = || Error::unavailable(format!("cannot read `{}`", path.display()));
    let file = File::open(&path).map_err(|e| unreadable().because(e))?;
    let metadata = footer(&file).map_err(|e| unreadable().because(e))?;
    let (schema, parquet) = (metadata.schema(), metadata.parquet_schema());
    let old = |field: &Field| {
        let mut columns = parquet.columns().iter();
        columns.any(|c| c.path().string() == *field.name() && c.physical_type() == Type::INT96)
    };
    let mut fields = Vec::new();
    for field in schema.fields() {
        let ty = match field.data_type() {
            _ if old(field) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(_, None) if shared.settings.timezone != "UTC" => {
                let what = format!("`{name}` has times without a zone in `{}`", field.name());
                return Err(Error::config(what)
                    .hint("rows are added to such files with `timezone: UTC` only"));
            }
            other => other.clone(),
        };
        fields.push(Field::new(field.name(), ty, true));
    }
    Ok(Schema::new(fields))
}
