//! Keeps expressions within bounds that the engine leaves open: numbers do not wrap around, and
//! no text grows without end.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_common::{Result, ScalarValue, resources_err};
use datafusion_expr::{ColumnarValue, Operator, ScalarFunctionArgs};
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal, NegativeExpr};
use datafusion_physical_expr::{PhysicalExpr, PhysicalExprRef, ScalarFunctionExpr};

/// Bytes that the values of one function may have for the rows in hand. Where they have more,
/// fewer rows are taken at a time; so it is also the most that one value can have.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// Bytes that a constant may have: it is copied for each row. Texts in the SQL keep to it too.
pub(super) const MOST_CONSTANT: usize = 1 << 10;
/// Bytes of a constant besides those of its text.
const SCALAR: usize = size_of::<ScalarValue>() + size_of::<String>();

/// The same expression within bounds.
pub(super) fn guarded(expr: PhysicalExprRef, schema: &Schema) -> Result<PhysicalExprRef> {
    let guard = |expr: PhysicalExprRef| {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            return Ok(match binary.op() {
                Operator::Plus | Operator::Minus | Operator::Multiply => {
                    Transformed::yes(checked(binary.left(), *binary.op(), binary.right()))
                }
                Operator::StringConcat => Transformed::yes(Arc::new(Metered(expr)) as _),
                _ => Transformed::no(expr),
            });
        }
        if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            let ty = negative.arg().data_type(schema)?;
            if ty.is_signed_integer() {
                let zero = Literal::new(ScalarValue::new_zero(&ty)?);
                let zero: PhysicalExprRef = Arc::new(zero);
                return Ok(Transformed::yes(checked(&zero, Operator::Minus, negative.arg())));
            }
        }
        if expr.downcast_ref::<ScalarFunctionExpr>().is_some() {
            return Ok(Transformed::yes(Arc::new(Metered(expr)) as _));
        }
        Ok(Transformed::no(expr))
    };
    Ok(expr.transform_up(guard)?.data)
}

fn checked(left: &PhysicalExprRef, op: Operator, right: &PhysicalExprRef) -> PhysicalExprRef {
    let binary = BinaryExpr::new(Arc::clone(left), op, Arc::clone(right));
    Arc::new(binary.with_fail_on_overflow(true))
}

/// A function or a concatenation that fails before it makes too much.
#[derive(Debug, Eq)]
struct Metered(PhysicalExprRef);

impl PartialEq for Metered {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for Metered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for Metered {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = if let Some(function) = self.0.downcast_ref::<ScalarFunctionExpr>() {
            call(function, batch)?
        } else if let Some(binary) = self.0.downcast_ref::<BinaryExpr>() {
            joined(binary, batch)?
        } else {
            self.0.evaluate(batch)?
        };
        match &value {
            ColumnarValue::Scalar(scalar) if scalar.size() > MOST_CONSTANT + SCALAR => {
                resources_err!("a constant would be larger than {MOST_CONSTANT} bytes")
            }
            value => within(size(value, 1)),
        }
        .map(|()| value)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn children(&self) -> Vec<&PhysicalExprRef> {
        self.0.children()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<PhysicalExprRef>,
    ) -> Result<PhysicalExprRef> {
        Ok(Arc::new(Metered(Arc::clone(&self.0).with_new_children(children)?)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

fn within(bytes: usize) -> Result<()> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    resources_err!("the value would be larger than {} MiB", MOST_BYTES >> 20)
}

/// Bytes of the values for so many rows.
fn size(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => bytes(array),
        ColumnarValue::Scalar(scalar) => scalar.size().saturating_mul(rows),
    }
}

/// Bytes of the values that are in an array.
pub(super) fn bytes(array: &ArrayRef) -> usize {
    let data = array.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}

/// Calls a function once it is known that its result cannot be too large.
fn call(function: &ScalarFunctionExpr, batch: &RecordBatch) -> Result<ColumnarValue> {
    let (mut args, mut bytes) = (Vec::with_capacity(function.args().len()), 0);
    for arg in function.args() {
        let arg = arg.evaluate(batch)?;
        bytes += size(&arg, 1);
        within(bytes)?;
        args.push(arg);
    }
    let constant =
        !args.is_empty() && args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { batch.num_rows() };
    within(bound(function.fun().name(), &args, rows)?)?;
    let fields = function.args().iter().map(|arg| arg.return_field(batch.schema_ref()));
    let arg_fields = fields.collect::<Result<Vec<_>>>()?;
    let output = function.fun().invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: rows,
        return_field: function.return_field(batch.schema_ref())?,
        config_options: Arc::new(function.config_options().clone()),
    })?;
    match output {
        ColumnarValue::Array(one) if constant => {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
        }
        output => Ok(output),
    }
}

/// `||` once it is known that the result cannot be too large.
fn joined(binary: &BinaryExpr, batch: &RecordBatch) -> Result<ColumnarValue> {
    let sides = [binary.left().evaluate(batch)?, binary.right().evaluate(batch)?];
    let constant = sides.iter().all(|side| matches!(side, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { batch.num_rows() };
    within(sides.iter().map(|side| size(side, rows)).fold(0, usize::saturating_add))?;
    let arrays = sides.iter().map(|side| side.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let fields = ["left", "right"].into_iter().zip(&arrays);
    let fields: Vec<_> =
        fields.map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let both = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    let column = |name, index| Arc::new(Column::new(name, index)) as PhysicalExprRef;
    let value =
        BinaryExpr::new(column("left", 0), *binary.op(), column("right", 1)).evaluate(&both)?;
    if !constant {
        return Ok(value);
    }
    Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value.into_array(1)?, 0)?))
}

/// No fewer bytes than a function gives for these arguments.
fn bound(name: &str, args: &[ColumnarValue], rows: usize) -> Result<usize> {
    let given = args.iter().map(|arg| size(arg, rows)).fold(0, usize::saturating_add);
    let own = match (name, args) {
        ("repeat", [text, count]) => {
            let counts = numbers(count, rows)?;
            sum(&lengths(text, rows)?, |i, length| length.saturating_mul(counts[i]))
        }
        // A character has at most four bytes.
        ("lpad" | "rpad", [text, length, ..]) => {
            let wanted = numbers(length, rows)?;
            sum(&lengths(text, rows)?, |i, _| wanted[i].saturating_mul(4))
        }
        ("replace", [text, from, to]) => {
            let (from, to) = (lengths(from, rows)?, lengths(to, rows)?);
            sum(&lengths(text, rows)?, |i, length| {
                let finds = length / from[i].unwrap_or(0).max(1) + 1;
                length.saturating_add(finds.saturating_mul(to[i].unwrap_or(0)))
            })
        }
        // The longest that a directive of two letters gives are date, time and zone.
        ("to_char" | "date_format", [_, format]) => size(format, rows).saturating_mul(20),
        // Each find, and what groups refer to once for each character of the replacement.
        ("regexp_replace", [text, _, to, ..]) => {
            let to = lengths(to, rows)?;
            sum(&lengths(text, rows)?, |i, length| {
                (2 * length + 1).saturating_mul(to[i].unwrap_or(0) + 1)
            })
        }
        ("concat_ws", [separator, ..]) => {
            let between = |_, length: usize| length.saturating_mul(args.len());
            given.saturating_add(sum(&lengths(separator, rows)?, between))
        }
        ("translate" | "upper" | "lower" | "initcap" | "encode", _) => given.saturating_mul(4),
        _ => 0,
    };
    Ok(given.max(own))
}

fn sum(lengths: &[Option<usize>], bytes: impl Fn(usize, usize) -> usize) -> usize {
    let of = |(i, length): (usize, &Option<usize>)| length.map_or(0, |length| bytes(i, length));
    lengths.iter().enumerate().map(of).fold(0, usize::saturating_add)
}

/// The length of each text in bytes; none for NULL.
fn lengths(value: &ColumnarValue, rows: usize) -> Result<Vec<Option<usize>>> {
    let array = value.to_array(rows)?;
    let texts = cast(&array, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::len)).collect())
}

/// Each number that is not negative, 0 for the others and for NULL.
fn numbers(value: &ColumnarValue, rows: usize) -> Result<Vec<usize>> {
    let array = value.to_array(rows)?;
    let numbers = cast(&array, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(numbers.iter().map(|n| n.map_or(0, |n| usize::try_from(n).unwrap_or(0))).collect())
}
