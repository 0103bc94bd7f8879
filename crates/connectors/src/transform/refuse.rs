//! What an expression may hold: what one row alone decides, always in the same way.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, Query, Spanned, Value, ValueWithSpan, Visit,
    VisitMut, Visitor, VisitorMut,
};

use super::Fault;
use super::functions::{self, Refusal};
use super::guard::MOST_CONSTANT;
use super::parse::place;

/// Expressions inside of each other. A development build takes some 4 KiB of stack for each while
/// it computes, on threads that have 2 MiB.
pub(super) const DEEPEST: usize = 100;

/// Takes the table's name off all columns.
pub(super) fn unqualify(expr: &mut Expr, table: &str) {
    struct Unqualify<'a>(&'a str);
    impl VisitorMut for Unqualify<'_> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::CompoundIdentifier(parts) => {
                    if let [table, column] = &parts[..]
                        && table.value == self.0
                    {
                        *expr = Expr::Identifier(column.clone());
                    }
                }
                // `(x)` is `x`.
                Expr::Nested(inner) if matches!(**inner, Expr::Identifier(_)) => {
                    *expr = (**inner).clone();
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(expr, &mut Unqualify(table));
}

/// Notes what the expression must not hold, and the columns that it names. `start` is the place
/// of what has none of its own.
pub(super) fn check(
    expr: &Expr,
    start: Option<(u64, u64)>,
    faults: &mut Vec<Fault>,
    columns: &mut Vec<Ident>,
) {
    let mut check = Check { start, faults, columns, queries: 0, depth: 0 };
    let _ = Visit::visit(expr, &mut check);
}

struct Check<'a> {
    start: Option<(u64, u64)>,
    faults: &'a mut Vec<Fault>,
    columns: &'a mut Vec<Ident>,
    /// Queries around the expression in hand: what is in them was refused with them.
    queries: usize,
    depth: usize,
}

impl Visitor for Check<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.queries == 0 {
            let fault = Fault::new("a transform has no subquery: it looks at one row at a time");
            self.faults.push(fault.at(place(query.span()).or(self.start)));
        }
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let fault = Fault::new(format!("expressions are nested {DEEPEST} deep and more"));
            self.faults.push(fault.hint("use fewer operators in a row").at(self.start));
            return ControlFlow::Break(());
        }
        if self.queries == 0 {
            self.expr(expr);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        let at = place(value.span).or(self.start);
        if let Value::Placeholder(name) = &value.value {
            let fault = Fault::new(format!("`{name}` has no value: a transform has no parameters"));
            self.faults.push(fault.hint("a variable of the environment is `${NAME}`").at(at));
        } else if value.value.to_string().len() > MOST_CONSTANT {
            let what = format!("a text of a transform has at most {MOST_CONSTANT} bytes");
            self.faults.push(Fault::new(what).at(at));
        }
        ControlFlow::Continue(())
    }
}

impl Check<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(ident) => self.columns.push(ident.clone()),
            Expr::Function(function) => self.function(function),
            Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Interval(_)
            // Refused as the queries that they hold.
            | Expr::InSubquery { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_) => {}
            Expr::CompoundIdentifier(_) => {
                let fault = Fault::new(format!("`{expr}` is no column of `source`"));
                self.faults.push(fault.at(place(expr.span()).or(self.start)));
            }
            _ => {
                let fault = Fault::new(format!("`{expr}` is not possible in a transform"));
                let hint = "columns, values, operators, CASE, CAST and functions of one row are";
                self.faults.push(fault.hint(hint).at(place(expr.span()).or(self.start)));
            }
        }
    }

    fn function(&mut self, function: &Function) {
        let at = place(function.name.span()).or(self.start);
        let name = match &function.name.0[..] {
            [part] => part.as_ident().map(|i| match i.quote_style {
                None => i.value.to_lowercase(),
                Some(_) => i.value.clone(),
            }),
            _ => None,
        };
        let name = name.unwrap_or_else(|| function.name.to_string());
        if function.over.is_some() {
            let message = format!("`{name}(..) OVER ..` looks at more than one row");
            self.faults.push(Fault::new(message).at(at));
            return;
        }
        if let Err(Refusal { message, hint }) = functions::find(&name) {
            let fault = Fault::new(message).at(at);
            self.faults.push(match hint {
                Some(hint) => fault.hint(hint),
                None => fault,
            });
            return;
        }
        let plain = match &function.args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => {
                list.duplicate_treatment.is_none() && list.clauses.is_empty()
            }
            FunctionArguments::Subquery(_) => return,
        };
        let plain = plain
            && matches!(function.parameters, FunctionArguments::None)
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty();
        if !plain {
            let message = format!("`{name}` takes values of one row alone");
            self.faults.push(Fault::new(message).at(at));
        }
    }
}
