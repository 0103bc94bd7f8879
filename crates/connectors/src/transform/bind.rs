//! Expressions over the columns of one source: planned, checked once more, and compiled.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{Expr, ExprSchemable as _, Operator, Volatility};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion_physical_expr::planner::create_physical_expr;
use datafusion_physical_expr::{PhysicalExpr, PhysicalExprRef};
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{Expr as Sql, Spanned as _, visit_expressions};
use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::connector::FieldType;
use retrofill_core::error::Result;

use super::evaluate::reason;
use super::functions::Context;
use super::outputs::{Origin, Wiring};
use super::parse::place;
use super::{Fault, Transform, deep, guard};

/// Parts of an expression once it is written out.
const MOST_PARTS: usize = 10_000;

/// A transform over the columns of one source.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The columns of the source that expressions read, by index. A batch to be computed has
    /// exactly these, in this order.
    pub(crate) inputs: Vec<usize>,
    /// How such a batch looks.
    pub(crate) schema: SchemaRef,
    /// A row stays where this is true.
    pub(crate) filter: Option<Program>,
    /// What the transform gives.
    pub(crate) outputs: Vec<(String, Origin<Program>)>,
}

/// One compiled expression.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(super) expr: PhysicalExprRef,
    /// The type of its values.
    pub(crate) ty: ColumnType,
    pub(crate) nullable: bool,
    /// Its values are times that name no zone.
    pub(crate) zoneless: bool,
    /// The inputs that it reads, by place in the batch.
    pub(crate) reads: Vec<usize>,
}

impl Bound {
    /// The column of this name.
    pub(crate) fn output(&self, name: &str) -> Option<&Origin<Program>> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, origin)| origin)
    }
}

/// Binds a transform to the columns of a source.
pub(crate) fn bind(transform: &Transform, wiring: &Wiring, fields: &[FieldType]) -> Result<Bound> {
    deep(|| bind_here(transform, wiring, fields))?
}

fn bind_here(transform: &Transform, wiring: &Wiring, fields: &[FieldType]) -> Result<Bound> {
    let computed = wiring.outputs.iter().filter_map(|(_, origin)| match origin {
        Origin::Computed(expr) => Some(&**expr),
        Origin::Column(_) => None,
    });
    let inputs = inputs(computed.chain(transform.filter()), fields);
    let arrow = inputs.iter().map(|i| {
        let field = &fields[*i];
        Field::new(internal(&field.name), field.ty.arrow(), true)
    });
    let schema = Schema::new(arrow.collect::<Vec<_>>());
    let planner = Planner::new(schema).map_err(|e| Fault::new(reason(&e)).into_error())?;
    let filter = transform.filter().map(|expr| planner.condition(expr)).transpose()?;
    let outputs = wiring.outputs.iter().map(|(name, origin)| {
        let origin = match origin {
            Origin::Column(index) => Origin::Column(*index),
            Origin::Computed(expr) => Origin::Computed(planner.column(name, expr)?),
        };
        Ok((name.clone(), origin))
    });
    let outputs = outputs.collect::<Result<_>>()?;
    Ok(Bound { inputs, schema: Arc::clone(planner.schema.inner()), filter, outputs })
}

/// The columns that any of the expressions reads.
fn inputs<'a>(expressions: impl Iterator<Item = &'a Sql>, fields: &[FieldType]) -> Vec<usize> {
    let mut read = BTreeSet::new();
    for expr in expressions {
        let _ = visit_expressions(expr, |e| {
            if let Sql::Identifier(ident) = e {
                read.extend(fields.iter().position(|f| f.name == ident.value));
            }
            std::ops::ControlFlow::<()>::Continue(())
        });
    }
    read.into_iter().collect()
}

/// The name of a column inside of expressions: the planner takes a name that begins with `@` for
/// something else.
fn internal(name: &str) -> String {
    if name.starts_with('@') { format!(" {name}") } else { name.to_owned() }
}

struct Planner {
    schema: DFSchemaRef,
    context: Context,
    simplify: SimplifyContext,
}

impl Planner {
    fn new(schema: Schema) -> Result<Self, DataFusionError> {
        let schema = Arc::new(DFSchema::try_from(schema)?);
        let simplify = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::new(ConfigOptions::default()))
            .build();
        Ok(Planner { schema, context: Context::new(), simplify })
    }

    fn condition(&self, sql: &Sql) -> Result<Program> {
        let fault = |what: String| Fault::new(what).at(place(sql.span())).into_error();
        let (program, ty) = self.program(sql).map_err(|e| fault(reason(&e)))?;
        match ty {
            DataType::Boolean => Ok(program),
            other => Err(fault(format!("`WHERE` must be true or false; `{sql}` is {other}"))),
        }
    }

    fn column(&self, name: &str, sql: &Sql) -> Result<Program> {
        let fault = |what: String| Fault::new(what).at(place(sql.span()));
        let at = |what: &str| format!("column `{name}`: {what}");
        let (program, ty) = self.program(sql).map_err(|e| fault(at(&reason(&e))).into_error())?;
        match kept_as(&ty) {
            Ok(ty) => Ok(Program { ty, ..program }),
            Err(hint) => {
                let what = at(&format!("no table keeps values of the type {ty}"));
                Err(fault(what).hint(hint).into_error())
            }
        }
    }

    /// The compiled expression, and the type that it has by itself.
    fn program(&self, sql: &Sql) -> Result<(Program, DataType), DataFusionError> {
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false);
        let sql_to_rel = SqlToRel::new_with_options(&self.context, options);
        let expr =
            sql_to_rel.sql_to_expr(renamed(sql), &self.schema, &mut PlannerContext::new())?;
        let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&self.schema))?.data;
        let expr = self.rewritten(expr)?;
        let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&self.schema))?.data;
        check(&expr)?;
        let ty = expr.get_type(&self.schema)?;
        let nullable = expr.nullable(self.schema.as_ref())?;
        let properties = ExecutionProps::new();
        let physical = create_physical_expr(
            &expr,
            &self.schema,
            &properties,
            &PhysicalPlanningContext::default(),
        )?;
        let physical = guard::guarded(physical, self.schema.inner())?;
        let reads = reads(&physical);
        // A type of ours takes its place where the expression is a column.
        let zoneless = matches!(ty, DataType::Timestamp(_, None));
        let program = Program { expr: physical, ty: ColumnType::Bool, nullable, zoneless, reads };
        Ok((program, ty))
    }

    /// Functions that are written in terms of others, such as `coalesce`, written so. That repeats
    /// arguments, and would double an expression with each level.
    fn rewritten(&self, expr: Expr) -> Result<Expr, DataFusionError> {
        let mut parts = 0;
        let rewrite = |expr: Expr| match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                parts = parts.max(args.iter().map(size).sum());
                if parts > MOST_PARTS {
                    return plan_err!("it is too large once it is written out");
                }
                Ok(match func.simplify(args, &self.simplify)? {
                    ExprSimplifyResult::Simplified(expr) => Transformed::yes(expr),
                    ExprSimplifyResult::Original(args) => {
                        Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
                    }
                })
            }
            other => Ok(Transformed::no(other)),
        };
        Ok(expr.transform_up(rewrite)?.data)
    }
}

/// Parts of an expression.
fn size(expr: &Expr) -> usize {
    let mut parts = 0;
    let _ = expr.apply(|_| {
        parts += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    parts
}

/// Columns under the names that they have inside.
fn renamed(sql: &Sql) -> Sql {
    let mut sql = sql.clone();
    let rename = |expr: &mut Sql| {
        if let Sql::Identifier(ident) = expr {
            ident.value = internal(&ident.value);
        }
        std::ops::ControlFlow::<()>::Continue(())
    };
    let _ = datafusion_sql::sqlparser::ast::visit_expressions_mut(&mut sql, rename);
    sql
}

/// What the text was checked for holds for the plan too, whatever the planner made of it.
fn check(expr: &Expr) -> Result<(), DataFusionError> {
    let mut refused = None;
    expr.apply(|expr| {
        if pattern(expr).is_some_and(Expr::any_column_refs) {
            return plan_err!("the pattern of `{expr}` must be the same for all rows");
        }
        let fine = match expr {
            Expr::ScalarFunction(f) => f.func.signature().volatility == Volatility::Immutable,
            Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_)
            | Expr::GroupingSet(_)
            | Expr::Placeholder(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Unnest(_)
            | Expr::ScalarVariable(..) => false,
            _ => true,
        };
        if !fine {
            refused = Some(expr.to_string());
        }
        Ok(if fine { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    match refused {
        Some(what) => plan_err!("`{what}` does not hang on one row alone"),
        None => Ok(()),
    }
}

/// The regular expression of an expression. It is compiled, which takes far more memory than its
/// text, and all that a batch has are kept at once.
fn pattern(expr: &Expr) -> Option<&Expr> {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    match expr {
        Expr::ScalarFunction(f) if f.func.name().starts_with("regexp_") => f.args.get(1),
        Expr::BinaryExpr(BinaryExpr {
            op: RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch,
            right,
            ..
        }) => Some(right),
        Expr::SimilarTo(like) => Some(&like.pattern),
        _ => None,
    }
}

/// The inputs that an expression reads, by place.
fn reads(expr: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    let columns = datafusion_physical_expr::utils::collect_columns(expr);
    columns.into_iter().map(|c| c.index()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The type of ours that keeps every value of this one, or what to do about there being none.
fn kept_as(ty: &DataType) -> Result<ColumnType, &'static str> {
    let cast = "cast it to a type that tables have, such as BIGINT, DOUBLE or VARCHAR";
    Ok(match ty {
        DataType::Boolean => ColumnType::Bool,
        DataType::Int8 => ColumnType::Integer { bits: 8 },
        DataType::Int16 | DataType::UInt8 => ColumnType::Integer { bits: 16 },
        DataType::Int32 | DataType::UInt16 => ColumnType::Integer { bits: 32 },
        // A value of more than 63 bits is refused where it occurs.
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ColumnType::Integer { bits: 64 },
        DataType::Float16 | DataType::Float32 => ColumnType::Float { bits: 32 },
        DataType::Float64 => ColumnType::Float { bits: 64 },
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            ColumnType::Decimal { precision: *precision, scale: *scale }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ColumnType::Bytes,
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(unit, _) => ColumnType::Instant {
            unit: match unit {
                arrow::datatypes::TimeUnit::Second => Precision::Second,
                arrow::datatypes::TimeUnit::Millisecond => Precision::Millisecond,
                arrow::datatypes::TimeUnit::Microsecond => Precision::Microsecond,
                arrow::datatypes::TimeUnit::Nanosecond => Precision::Nanosecond,
            },
        },
        DataType::Dictionary(_, values) => return kept_as(values),
        DataType::Null => return Err("a NULL needs a type: `CAST(NULL AS DOUBLE)`"),
        DataType::Interval(_) | DataType::Duration(_) => {
            return Err("make a number of it: `to_unixtime(a) - to_unixtime(b)` is seconds");
        }
        DataType::Decimal256(..) => return Err("cast it to a decimal of at most 38 digits"),
        _ => return Err(cast),
    })
}
