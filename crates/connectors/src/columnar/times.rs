//! The time of each row, however the files keep it.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::TimeUnitSeen;

use super::convert::{Bad, column, per_second, texts};
use super::types::Natural;
use crate::files::{Clock, Form, Moment};

/// Values that the form of times in text or numbers is guessed from.
pub(super) const GUESS_FROM: usize = 1000;

/// How the time column is read.
#[derive(Debug, Clone)]
pub(super) enum Times {
    /// As times or dates.
    Typed { zone: TimeZone },
    /// As text, or as numbers since 1970.
    Spelt(Box<Clock>),
}

/// Whether values of this kind are times without being read as text.
pub(super) fn is_typed(natural: Natural) -> bool {
    matches!(natural, Natural::Stamp(_) | Natural::Plain(ColumnType::Date))
}

/// Whether values of this kind may say a time.
pub(super) fn may_spell(natural: Natural) -> bool {
    use ColumnType::{Integer, Text};
    matches!(natural, Natural::Unsigned | Natural::Plain(Text | Integer { bits: 32 | 64 }))
}

impl Times {
    /// The time of each row and the unit it needs; or why it has none.
    pub(super) fn read(
        &self,
        array: &ArrayRef,
    ) -> Result<Vec<Result<(Moment, TimeUnitSeen), String>>> {
        match self {
            Times::Typed { zone } => typed(array, zone),
            Times::Spelt(clock) => {
                let texts = texts(array)?;
                let time = |text: Option<&str>| match text {
                    Some(text) => clock.read(text.as_bytes()).map_err(Cow::into_owned),
                    None => Err("the time is NULL".to_owned()),
                };
                Ok(texts.iter().map(time).collect())
            }
        }
    }
}

impl Times {
    /// The time column in the plan's type, of rows that all have a time.
    pub(super) fn column(
        &self,
        array: &ArrayRef,
        moments: &[Moment],
        to: ColumnType,
    ) -> Result<(ArrayRef, Bad)> {
        if let (Times::Typed { zone }, DataType::Timestamp(..)) = (self, array.data_type()) {
            return column(array, to, zone);
        }
        spelt_column(moments, to)
    }
}

/// Times that were read before, as a column of a plan.
pub(crate) fn spelt_column(moments: &[Moment], to: ColumnType) -> Result<(ArrayRef, Bad)> {
    let ColumnType::Instant { unit } = to else {
        return Err(Error::bug("the time column of a plan is no instant"));
    };
    let mut bad = Bad::new();
    let whole = |(row, moment): (usize, &Moment)| {
        let value = moment.whole(unit);
        if value.is_none() {
            bad.push((row, format!("`{}` does not fit instant exactly", moment.timestamp())));
        }
        value
    };
    let values: Int64Array = moments.iter().enumerate().map(whole).collect();
    let array = cast(&values, &to.arrow());
    Ok((array.map_err(|e| Error::bug("times cannot be made").because(e))?, bad))
}

/// The form of the first times, where it can be told.
pub(super) fn guess(array: &ArrayRef) -> Result<Option<Form>> {
    let texts = texts(&array.slice(0, array.len().min(GUESS_FROM)))?;
    Ok(Form::guess(texts.iter().flatten().map(str::as_bytes)))
}

fn typed(array: &ArrayRef, zone: &TimeZone) -> Result<Vec<Result<(Moment, TimeUnitSeen), String>>> {
    let (array, day) = match array.data_type() {
        DataType::Date32 | DataType::Date64 => (midnights(array)?, true),
        _ => (array.clone(), false),
    };
    // In its own unit: only a time without a zone is changed, or refused.
    let unit = match array.data_type() {
        DataType::Timestamp(unit, _) => *unit,
        other => return Err(Error::bug(format!("{other} is no time"))),
    };
    let own = ColumnType::Instant { unit: unit_precision(unit) };
    let (array, bad) = column(&array, own, zone)?;
    let values = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    let length = per_second(unit);
    let nanos = 1_000_000_000 / length;
    // The last hours of the year 9999 are left out, so that every zone has a name for each time.
    let (low, high) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let mut bad = bad.into_iter().peekable();
    let mut out = Vec::with_capacity(array.len());
    for (row, value) in values.iter().enumerate() {
        if let Some((_, reason)) = bad.next_if(|(at, _)| *at == row) {
            out.push(Err(reason));
        } else if array.is_null(row) {
            out.push(Err("the time is NULL".into()));
        } else {
            let seconds = value.div_euclid(length);
            let moment = Moment { seconds, nanos: (value.rem_euclid(length) * nanos) as u32 };
            out.push(if (low..high).contains(&seconds) {
                Ok((moment, if day { TimeUnitSeen::Day } else { moment.unit() }))
            } else {
                Err("the time lies outside of the years -9999 to 9999".into())
            });
        }
    }
    Ok(out)
}

fn unit_precision(unit: TimeUnit) -> retrofill_core::columns::Precision {
    use retrofill_core::columns::Precision;
    match unit {
        TimeUnit::Second => Precision::Second,
        TimeUnit::Millisecond => Precision::Millisecond,
        TimeUnit::Microsecond => Precision::Microsecond,
        TimeUnit::Nanosecond => Precision::Nanosecond,
    }
}

/// Dates as their first second, without a zone.
fn midnights(array: &ArrayRef) -> Result<ArrayRef> {
    let failed = |e| Error::bug("dates cannot be read").because(e);
    let days = cast(array, &DataType::Date32).map_err(failed)?;
    let seconds = days
        .as_primitive::<Date32Type>()
        .unary::<_, TimestampSecondType>(|day| i64::from(day) * 86_400);
    Ok(std::sync::Arc::new(seconds))
}
