//! Statistics of data files: those we write, and what may be believed of others'.

use std::cmp::Ordering;
use std::fmt::Write as _;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray as _, Decimal128Array, PrimitiveArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use jiff::Timestamp;
use jiff::civil::Date;
use retrofill_core::columns::ColumnType;
use retrofill_core::connector::FieldType;
use serde_json::{Map, Value};

/// Longer text has no upper bound in the statistics: a cut one would be too low.
const LONGEST_TEXT: usize = 64;
/// Delta's own default for the number of columns with statistics.
const MOST_COLUMNS: usize = 32;

/// What is known of one column's values so far.
#[derive(Debug, Clone, PartialEq)]
enum Bounds {
    None,
    Whole(i64, i64),
    /// `None` once a NaN was seen: JSON has no such number.
    Real(Option<(f64, f64)>),
    Decimal(i128, i128),
    /// Lowest, and highest unless it is too long to be written.
    Text(String, String),
}

/// Collects the statistics of a file while it is written.
#[derive(Debug)]
pub(super) struct Collector {
    rows: u64,
    columns: Vec<(FieldType, u64, Bounds)>,
}

impl Collector {
    /// For a file with these columns; `time` has statistics wherever it stands.
    pub(super) fn new(fields: &[FieldType], time: &str) -> Self {
        let columns = fields
            .iter()
            .enumerate()
            .filter(|(i, f)| *i < MOST_COLUMNS || f.name == time)
            .map(|(_, f)| (f.clone(), 0, Bounds::None))
            .collect();
        Collector { rows: 0, columns }
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a batch, whose columns are found by name.
    pub(super) fn add(&mut self, batch: &arrow::record_batch::RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, nulls, bounds) in &mut self.columns {
            let Some(array) = batch.column_by_name(&field.name) else { continue };
            *nulls += array.null_count() as u64;
            if array.null_count() < array.len() {
                widen(bounds, field.ty, array);
            }
        }
    }

    /// Lowest and highest value of a column of times, in microseconds.
    pub(super) fn times(&self, name: &str) -> Option<(i64, i64)> {
        let (_, _, bounds) = self.columns.iter().find(|(f, _, _)| f.name == name)?;
        match bounds {
            Bounds::Whole(min, max) => Some((*min, *max)),
            _ => None,
        }
    }

    /// The `stats` text of the file's `add` action.
    pub(super) fn json(&self) -> String {
        let (mut min, mut max, mut nulls) = (String::new(), String::new(), String::new());
        for (field, count, bounds) in &self.columns {
            let name = Value::from(field.name.as_str()).to_string();
            push(&mut nulls, &name, &count.to_string());
            let (low, high) = texts(field.ty, bounds);
            if let Some(low) = low {
                push(&mut min, &name, &low);
            }
            if let Some(high) = high {
                push(&mut max, &name, &high);
            }
        }
        format!(
            "{{\"numRecords\":{},\"minValues\":{{{min}}},\"maxValues\":{{{max}}},\
             \"nullCount\":{{{nulls}}}}}",
            self.rows
        )
    }
}

fn push(list: &mut String, name: &str, value: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    let _ = write!(list, "{name}:{value}");
}

fn extremes<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    order: impl Fn(&T::Native, &T::Native) -> Ordering,
) -> Option<(T::Native, T::Native)> {
    let mut values = array.iter().flatten();
    let first = values.next()?;
    Some(values.fold((first, first), |(low, high), v| {
        let low = if order(&v, &low) == Ordering::Less { v } else { low };
        let high = if order(&v, &high) == Ordering::Greater { v } else { high };
        (low, high)
    }))
}

fn whole<T: ArrowPrimitiveType<Native: Into<i64> + Ord>>(array: &ArrayRef) -> Option<(i64, i64)> {
    let (low, high) = extremes(array.as_primitive::<T>(), Ord::cmp)?;
    Some((low.into(), high.into()))
}

/// `None` where one of the values is NaN.
fn real<T: ArrowPrimitiveType<Native: Into<f64>>>(array: &ArrayRef) -> Option<(f64, f64)> {
    let mut found: Option<(f64, f64)> = None;
    for value in array.as_primitive::<T>().iter().flatten() {
        let value: f64 = value.into();
        if value.is_nan() {
            return None;
        }
        let (low, high) = found.get_or_insert((value, value));
        *low = low.min(value);
        *high = high.max(value);
    }
    found
}

fn widen(bounds: &mut Bounds, ty: ColumnType, array: &ArrayRef) {
    let found = match ty {
        ColumnType::Integer { bits: 8 } => whole::<Int8Type>(array).map(into_whole),
        ColumnType::Integer { bits: 16 } => whole::<Int16Type>(array).map(into_whole),
        ColumnType::Integer { bits: 32 } => whole::<Int32Type>(array).map(into_whole),
        ColumnType::Integer { .. } => whole::<Int64Type>(array).map(into_whole),
        ColumnType::Date => whole::<Date32Type>(array).map(into_whole),
        ColumnType::Instant { .. } => whole::<TimestampMicrosecondType>(array).map(into_whole),
        ColumnType::Float { bits: 32 } => Some(Bounds::Real(real::<Float32Type>(array))),
        ColumnType::Float { .. } => Some(Bounds::Real(real::<Float64Type>(array))),
        ColumnType::Decimal { .. } => extremes(array.as_primitive::<Decimal128Type>(), Ord::cmp)
            .map(|(low, high)| Bounds::Decimal(low, high)),
        ColumnType::Text => text(array),
        ColumnType::Bool
        | ColumnType::Bytes
        | ColumnType::Time
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Array { .. } => None,
    };
    let Some(found) = found else { return };
    *bounds = match (std::mem::replace(bounds, Bounds::None), found) {
        (Bounds::None, found) => found,
        (Bounds::Whole(a, b), Bounds::Whole(c, d)) => Bounds::Whole(a.min(c), b.max(d)),
        (Bounds::Decimal(a, b), Bounds::Decimal(c, d)) => Bounds::Decimal(a.min(c), b.max(d)),
        (Bounds::Text(a, b), Bounds::Text(c, d)) => Bounds::Text(a.min(c), b.max(d)),
        (Bounds::Real(Some((a, b))), Bounds::Real(Some((c, d)))) => {
            Bounds::Real(Some((a.min(c), b.max(d))))
        }
        _ => Bounds::Real(None),
    };
}

fn into_whole((low, high): (i64, i64)) -> Bounds {
    Bounds::Whole(low, high)
}

fn text(array: &ArrayRef) -> Option<Bounds> {
    let mut values = array.as_string::<i32>().iter().flatten();
    let first = values.next()?;
    let (low, high) = values.fold((first, first), |(low, high), v| (low.min(v), high.max(v)));
    Some(Bounds::Text(low.to_owned(), high.to_owned()))
}

/// Lower and upper bound as JSON, where they can be given.
fn texts(ty: ColumnType, bounds: &Bounds) -> (Option<String>, Option<String>) {
    match bounds {
        Bounds::None | Bounds::Real(None) => (None, None),
        Bounds::Whole(low, high) => (whole_text(ty, *low), whole_text(ty, *high)),
        Bounds::Real(Some((low, high))) => (real_text(ty, *low), real_text(ty, *high)),
        Bounds::Decimal(low, high) => (decimal_text(ty, *low), decimal_text(ty, *high)),
        Bounds::Text(low, high) => {
            let cut: String = low.chars().take(LONGEST_TEXT).collect();
            let fits = high.chars().nth(LONGEST_TEXT).is_none();
            (
                Some(Value::from(cut).to_string()),
                fits.then(|| Value::from(high.as_str()).to_string()),
            )
        }
    }
}

fn whole_text(ty: ColumnType, value: i64) -> Option<String> {
    match ty {
        ColumnType::Date => {
            let days = jiff::Span::new().try_days(value).ok()?;
            let date = Date::new(1970, 1, 1).ok()?.checked_add(days).ok()?;
            Some(format!("\"{date}\""))
        }
        ColumnType::Instant { .. } => {
            let time = Timestamp::from_microsecond(value).ok()?;
            Some(format!("\"{time:.6}\""))
        }
        _ => Some(value.to_string()),
    }
}

fn real_text(ty: ColumnType, value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    match ty {
        ColumnType::Float { bits: 32 } => serde_json::to_string(&(value as f32)).ok(),
        _ => serde_json::to_string(&value).ok(),
    }
}

fn decimal_text(ty: ColumnType, value: i128) -> Option<String> {
    let ColumnType::Decimal { precision, scale } = ty else { return None };
    let array = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale);
    Some(array.ok()?.value_as_string(0))
}

/// Lowest and highest time in microseconds of a column of times, from the statistics of any
/// writer; none where they do not say, and then the file must be read.
pub(super) fn time_bounds(stats: &Value, column: &str) -> Option<(i64, i64)> {
    let read = |side: &str| stats.get(side)?.as_object()?.get(column)?.as_str()?.parse().ok();
    let (low, high): (Timestamp, Timestamp) = (read("minValues")?, read("maxValues")?);
    // Some writers cut both to the millisecond.
    let high = high.as_microsecond();
    let slack = if high.rem_euclid(1_000) == 0 { 999 } else { 0 };
    Some((low.as_microsecond(), high.saturating_add(slack)))
}

/// The statistics of an `add` action as an object; empty where there are none.
pub(super) fn parse(stats: Option<&str>) -> Value {
    stats.and_then(|s| serde_json::from_str(s).ok()).unwrap_or_else(|| Value::Object(Map::new()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use retrofill_core::columns::Precision;

    use super::*;

    fn field(name: &str, ty: ColumnType) -> FieldType {
        FieldType::new(name, ty, true)
    }

    #[test]
    fn statistics_bound_every_value() {
        let fields = [
            field("t", ColumnType::Instant { unit: Precision::Microsecond }),
            field("i", ColumnType::Integer { bits: 64 }),
            field("f", ColumnType::Float { bits: 64 }),
            field("n", ColumnType::Float { bits: 64 }),
            field("d", ColumnType::Decimal { precision: 20, scale: 3 }),
            field("s", ColumnType::Text),
            field("day", ColumnType::Date),
            field("b", ColumnType::Bool),
        ];
        let long = "z".repeat(65);
        let batch = RecordBatch::try_from_iter([
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![-1, 1_000_001])) as ArrayRef),
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
            ("f", Arc::new(Float64Array::from(vec![-0.5, 1e300]))),
            ("n", Arc::new(Float64Array::from(vec![f64::NAN, 1.0]))),
            ("d", Arc::new(Decimal128Array::from(vec![-1, 12_345]))),
            ("s", Arc::new(StringArray::from(vec!["a\"b", long.as_str()]))),
            ("day", Arc::new(Date32Array::from(vec![-1, 1]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ])
        .unwrap();
        let mut collector = Collector::new(&fields, "t");
        collector.add(&batch);
        collector.add(&batch);
        let json = collector.json();
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["numRecords"], 4);
        assert_eq!(value["minValues"]["t"], "1969-12-31T23:59:59.999999Z");
        assert_eq!(value["maxValues"]["t"], "1970-01-01T00:00:01.000001Z");
        assert_eq!(value["minValues"]["i"], i64::MIN);
        assert_eq!(value["nullCount"]["i"], 2);
        assert_eq!(value["maxValues"]["f"], 1e300);
        assert!(value["maxValues"].get("n").is_none(), "NaN has no order in JSON");
        assert!(json.contains("\"d\":12.345") && json.contains("\"d\":-0.001"));
        assert_eq!(value["minValues"]["s"], "a\"b");
        assert!(value["maxValues"].get("s").is_none(), "a cut text is no upper bound");
        assert_eq!(value["minValues"]["day"], "1969-12-31");
        assert_eq!(time_bounds(&value, "t"), Some((-1, 1_000_001)));
    }

    #[test]
    fn bounds_cut_to_the_millisecond_still_hold_the_last_row() {
        let stats = parse(Some(
            r#"{"minValues":{"t":"1970-01-01T00:00:00.001Z"},
                "maxValues":{"t":"1970-01-01T00:00:00.002Z"}}"#,
        ));
        assert_eq!(time_bounds(&stats, "t"), Some((1_000, 2_999)));
        assert_eq!(time_bounds(&parse(None), "t"), None);
        assert_eq!(time_bounds(&parse(Some("not json")), "t"), None);
    }
}
