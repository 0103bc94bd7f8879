//! From the text to its parts: the columns that are selected and the condition. Everything that a
//! query may have besides is named and refused.

use datafusion_sql::sqlparser::ast::{
    ExceptSelectItem, ExcludeSelectItem, Expr, GroupByExpr, Ident, Query, ReplaceSelectItem,
    Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, Statement,
    TableFactor, TableWithJoins, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::Fault;
use super::{refuse, tokens};

/// The one table.
const TABLE: &str = "source";
/// A longer text is no transform; it bounds how deep expressions can nest.
const MOST_BYTES: usize = 32 << 10;
const SHAPE: &str = "a transform is `SELECT expressions FROM source [WHERE condition]`";

/// One thing that is selected.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// All columns of the source.
    All {
        /// But these.
        except: Vec<Ident>,
        /// With these in the place of those of the same name.
        replace: Vec<(Ident, Expr)>,
        at: Option<(u64, u64)>,
    },
    /// One column.
    One { name: String, expr: Box<Expr>, at: Option<(u64, u64)> },
}

/// The parts of a transform.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) items: Vec<Item>,
    pub(super) filter: Option<Expr>,
    /// The columns that are named, with their places.
    pub(super) columns: Vec<Ident>,
}

/// Where something begins; none where the parser does not say.
pub(super) fn place(span: Span) -> Option<(u64, u64)> {
    (span.start.line > 0).then_some((span.start.line, span.start.column))
}

pub(super) fn parse(text: &str) -> Result<Parsed, Vec<Fault>> {
    if text.len() > MOST_BYTES {
        let what = format!("the transform is longer than {} KiB", MOST_BYTES >> 10);
        return Err(vec![Fault::new(what)]);
    }
    tokens::check(text)?;
    let mut statements = Parser::parse_sql(&GenericDialect {}, text).map_err(|e| vec![wrong(e)])?;
    let statement = match (statements.pop(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => return Err(vec![Fault::new("the transform is empty").hint(SHAPE)]),
        (Some(second), _) => {
            let fault = Fault::new("a transform is one statement, and a second one follows");
            return Err(vec![fault.at(place(second.span()))]);
        }
    };
    let Statement::Query(query) = statement else {
        let fault = Fault::new("a transform only selects").hint(SHAPE);
        return Err(vec![fault.at(place(statement.span()).or(Some((1, 1))))]);
    };
    let mut taker = Taker::default();
    let parsed = taker.query(*query);
    match parsed {
        Some(parsed) if taker.faults.is_empty() => Ok(parsed),
        _ => {
            taker.faults.sort_by_key(|f| f.at);
            Err(taker.faults)
        }
    }
}

/// The parser's own complaint; its place stands at the end of its text.
fn wrong(error: ParserError) -> Fault {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return Fault::new("the expressions are nested too deeply");
        }
    };
    let (message, at) = match text.rsplit_once(" at Line: ") {
        Some((message, at)) => (message, at.split_once(", Column: ")),
        None => (text.as_str(), None),
    };
    let number = |text: &str| text.trim().parse().ok();
    let at = at.and_then(|(line, column)| Some((number(line)?, number(column)?)));
    Fault::new(format!("the transform is not SQL: {}", lower_first(message))).at(at)
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

/// Takes the parts out of the tree and notes what must not be there.
#[derive(Default)]
struct Taker {
    faults: Vec<Fault>,
    /// Where the statement begins: for what has no place of its own.
    start: Option<(u64, u64)>,
    table: String,
    columns: Vec<Ident>,
}

impl Taker {
    /// Notes a clause that looks at more than one row, or is none of ours.
    fn clause(&mut self, name: &str, reason: &str, at: Option<(u64, u64)>) {
        let message = format!("a transform has no `{name}`: {reason}");
        self.faults.push(Fault::new(message).hint(SHAPE).at(at.or(self.start)));
    }

    fn query(&mut self, query: Query) -> Option<Parsed> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        self.start = place(body.span());
        if let Some(with) = with {
            self.clause("WITH", "it selects from `source` alone", place(with.span()));
        }
        let order = "the order of rows is no part of what is loaded";
        if let Some(order_by) = order_by {
            self.clause("ORDER BY", order, place(order_by.span()));
        }
        let some = "which rows it takes depends on the others";
        if let Some(limit) = limit_clause {
            self.clause("LIMIT", some, place(limit.span()));
        }
        if fetch.is_some() {
            self.clause("FETCH", some, None);
        }
        let more = [
            ("FOR UPDATE", !locks.is_empty()),
            ("FOR", for_clause.is_some()),
            ("SETTINGS", settings.is_some()),
            ("FORMAT", format_clause.is_some()),
            ("|>", !pipe_operators.is_empty()),
        ];
        for (name, _) in more.into_iter().filter(|(_, there)| *there) {
            self.clause(name, "it looks at one row at a time", None);
        }
        match *body {
            SetExpr::Select(select) => Some(self.select(*select)),
            SetExpr::SetOperation { op, .. } => {
                self.clause(&op.to_string(), "it selects from `source` once", None);
                None
            }
            body => {
                let fault = Fault::new("a transform is one SELECT").hint(SHAPE);
                self.faults.push(fault.at(place(body.span())));
                None
            }
        }
    }

    fn select(&mut self, select: Select) -> Parsed {
        self.refuse_clauses(&select);
        let Select { projection, from, selection, select_token, .. } = select;
        self.start = place(select_token.0.span).or(self.start);
        self.table(from);
        let items = projection.into_iter().filter_map(|item| self.item(item)).collect();
        let filter = selection.map(|expr| self.expression(expr));
        let columns = std::mem::take(&mut self.columns);
        Parsed { items, filter, columns }
    }

    fn refuse_clauses(&mut self, select: &Select) {
        // Every field is named, so that a clause of a later parser cannot slip through.
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection: _,
            exclude,
            into,
            from: _,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let others = "it looks at more than one row";
        let group = match group_by {
            GroupByExpr::All(_) => Some(None),
            GroupByExpr::Expressions(list, with) => {
                let there = !list.is_empty() || !with.is_empty();
                there.then(|| list.first().and_then(|e| place(e.span())))
            }
        };
        let first = |list: &[Expr]| list.first().map(|e| place(e.span()));
        let found = [
            ("DISTINCT", distinct.as_ref().map(|_| None), others),
            ("TOP", top.as_ref().map(|_| None), others),
            ("GROUP BY", group, others),
            ("HAVING", having.as_ref().map(|e| place(e.span())), others),
            ("WINDOW", named_window.first().map(|_| None), others),
            ("QUALIFY", qualify.as_ref().map(|e| place(e.span())), others),
            ("CONNECT BY", connect_by.first().map(|_| None), others),
            ("CLUSTER BY", first(cluster_by), others),
            ("DISTRIBUTE BY", first(distribute_by), others),
            ("SORT BY", sort_by.first().map(|e| place(e.span())), others),
            ("LATERAL VIEW", lateral_views.first().map(|_| None), others),
            ("INTO", into.as_ref().map(|_| None), "it writes nothing"),
            ("PREWHERE", prewhere.as_ref().map(|e| place(e.span())), "`WHERE` is all it needs"),
            ("EXCLUDE", exclude.as_ref().map(|_| None), "write `* EXCLUDE (..)`"),
            ("hint", optimizer_hints.first().map(|_| None), "there is nothing to be hinted at"),
            ("modifier", select_modifiers.as_ref().map(|_| None), "it is a plain SELECT"),
            ("AS STRUCT", value_table_mode.as_ref().map(|_| None), "columns are plain values"),
        ];
        for (name, at, reason) in found {
            if let Some(at) = at {
                self.clause(name, reason, at);
            }
        }
        if *flavor != SelectFlavor::Standard {
            let fault = Fault::new("a transform begins with `SELECT`").hint(SHAPE);
            self.faults.push(fault.at(self.start));
        }
    }

    fn table(&mut self, from: Vec<TableWithJoins>) {
        TABLE.clone_into(&mut self.table);
        let joined = from.len() > 1 || from.iter().any(|t| !t.joins.is_empty());
        if joined {
            let second = from.iter().filter_map(|t| t.joins.first()).map(|j| j.relation.span());
            let second = second.chain(from.get(1).map(|t| t.relation.span())).next();
            self.clause("JOIN", "it selects from `source` alone", second.and_then(place));
            return;
        }
        let Some(TableWithJoins { relation, .. }) = from.into_iter().next() else {
            let fault = Fault::new("the transform selects from no table").hint("add `FROM source`");
            self.faults.push(fault.at(self.start));
            return;
        };
        let at = place(relation.span());
        let fault = match &relation {
            TableFactor::Derived { .. } => {
                Fault::new("a transform has no subquery: it selects from `source` alone")
            }
            TableFactor::Table { name, alias, args: None, .. } if is_source(&relation) => {
                if let Some(alias) = alias {
                    alias.name.value.clone_into(&mut self.table);
                }
                debug_assert_eq!(name.0.len(), 1);
                return;
            }
            TableFactor::Table { name, .. } => {
                Fault::new(format!("`{name}` cannot be read: the only table is `source`"))
            }
            _ => Fault::new("a transform selects from the table `source` alone"),
        };
        self.faults.push(fault.hint("write `FROM source`").at(at.or(self.start)));
    }

    fn item(&mut self, item: SelectItem) -> Option<Item> {
        match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                let at = place(alias.span);
                let expr = Box::new(self.expression(expr));
                Some(Item::One { name: alias.value, expr, at })
            }
            SelectItem::UnnamedExpr(expr) => {
                let at = place(expr.span());
                let expr = self.expression(expr);
                let Expr::Identifier(ident) = &expr else {
                    let fault = Fault::new(format!("`{expr}` needs a name"));
                    self.faults.push(fault.hint("write `.. AS name`").at(at.or(self.start)));
                    return None;
                };
                Some(Item::One { name: ident.value.clone(), expr: Box::new(expr), at })
            }
            SelectItem::Wildcard(options) => Some(self.wildcard(options)),
            SelectItem::QualifiedWildcard(kind, options) => {
                if let SelectItemQualifiedWildcardKind::ObjectName(name) = &kind
                    && name.to_string() == self.table
                {
                    return Some(self.wildcard(options));
                }
                let fault = Fault::new("only the columns of `source` can be selected");
                self.faults.push(fault.at(place(kind.span()).or(self.start)));
                None
            }
            SelectItem::ExprWithAliases { expr, .. } => {
                let fault = Fault::new("an expression has one name");
                self.faults.push(fault.at(place(expr.span())));
                None
            }
        }
    }

    fn wildcard(&mut self, options: WildcardAdditionalOptions) -> Item {
        let WildcardAdditionalOptions {
            wildcard_token,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        let at = place(wildcard_token.0.span);
        if opt_ilike.is_some() || opt_rename.is_some() || opt_alias.is_some() {
            let fault = Fault::new("of `*` a transform knows `EXCLUDE` and `REPLACE` alone");
            self.faults.push(fault.at(at));
        }
        let mut except = match opt_except {
            Some(ExceptSelectItem { first_element, additional_elements }) => {
                std::iter::once(first_element).chain(additional_elements).collect()
            }
            None => Vec::new(),
        };
        let excluded = match opt_exclude {
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names,
            None => Vec::new(),
        };
        for name in excluded {
            match <[_; 1]>::try_from(name.0).ok().and_then(|[part]| part.as_ident().cloned()) {
                Some(ident) => except.push(ident),
                None => self.faults.push(Fault::new("`EXCLUDE` names columns alone").at(at)),
            }
        }
        let replaced = opt_replace.map_or(Vec::new(), |ReplaceSelectItem { items }| items);
        let replace = replaced.into_iter().map(|r| (r.column_name, self.expression(r.expr)));
        let replace: Vec<_> = replace.collect();
        self.columns.extend(except.iter().chain(replace.iter().map(|(name, _)| name)).cloned());
        Item::All { except, replace, at }
    }

    /// Checks an expression and takes the table's name off its columns.
    fn expression(&mut self, mut expr: Expr) -> Expr {
        refuse::unqualify(&mut expr, &self.table);
        refuse::check(&expr, self.start, &mut self.faults, &mut self.columns);
        expr
    }
}

/// Whether it is the table `source` with nothing around it.
fn is_source(relation: &TableFactor) -> bool {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = relation
    else {
        return false;
    };
    let plain = with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty();
    let [part] = &name.0[..] else { return false };
    let named = part.as_ident().is_some_and(|i| i.value.eq_ignore_ascii_case(TABLE));
    plain && named && alias.as_ref().is_none_or(|a| a.columns.is_empty())
}
