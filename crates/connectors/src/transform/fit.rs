//! Values of a transform in the types that the plan has, exactly or not at all.

use arrow::array::{Array as _, ArrayRef};
use arrow::compute::kernels::{boolean, cmp};
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::error::ArrowError;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};

use super::Ran;

/// Whether values of one type can be had in another: some of them, at least.
fn related(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType::{Date, Decimal, Float, Instant, Integer};
    let number = |ty| matches!(ty, Integer { .. } | Float { .. } | Decimal { .. });
    let time = |ty| matches!(ty, Date | Instant { .. });
    from == to || number(from) && number(to) || time(from) && time(to)
}

/// Fails where the target keeps a column in a type that no value of the transform has.
pub(crate) fn check_kinds(name: &str, from: ColumnType, to: ColumnType) -> Result<()> {
    if related(from, to) {
        return Ok(());
    }
    let (from, to) = (from.common_name(), to.common_name());
    let what = format!("column `{name}`: the transform gives {from}, the target's table has {to}");
    let hint = match to {
        // No SQL of ours gives these types.
        "time" | "uuid" | "json" | "array" => "pass a column of the source on as it is",
        _ => "cast it in the transform: `CAST(.. AS ..)`",
    };
    Err(Error::config(what).hint(hint).about("transform"))
}

/// The values in another type; a value that is another there is refused.
pub(crate) fn fit(ran: Ran, to: ColumnType) -> Result<Ran> {
    let Ran { values, mut failed } = ran;
    if *values.data_type() == to.arrow() {
        return Ok(Ran { values, failed });
    }
    let bug = |e: ArrowError| Error::bug("values of a transform cannot be cast").because(e);
    let there = cast(&values, to).map_err(bug)?;
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let back = cast_with_options(&there, values.data_type(), &options).map_err(bug)?;
    let same = cmp::not_distinct(&values, &back).map_err(bug)?;
    if same.false_count() == 0 {
        return Ok(Ran { values: there, failed });
    }
    let reason = format!("does not fit exactly into {}", width(to));
    failed.extend((0..same.len()).filter(|row| !same.value(*row)).map(|row| (row, reason.clone())));
    failed.sort_by_key(|(row, _)| *row);
    let values = nullif(&there, &boolean::not(&same).map_err(bug)?).map_err(bug)?;
    Ok(Ran { values, failed })
}

fn cast(values: &ArrayRef, to: ColumnType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(values, &to.arrow(), &options)
}

fn width(ty: ColumnType) -> String {
    match ty {
        ColumnType::Integer { bits } => format!("an integer of {bits} bits"),
        ColumnType::Float { bits } => format!("a float of {bits} bits"),
        ColumnType::Decimal { precision, scale } => format!("a decimal({precision},{scale})"),
        other => other.common_name().to_owned(),
    }
}
