//! Which columns a transform gives, and from which columns of the source.

use std::collections::BTreeMap;

use datafusion_sql::sqlparser::ast::{Expr, Ident};
use retrofill_core::error::Result;

use super::parse::{Item, place};
use super::{Fault, Transform};
use retrofill_core::names::nearest;

use crate::files::list;

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin<C> {
    /// A column of the source, by its index, as it is.
    Column(usize),
    /// Something that is computed.
    Computed(C),
}

/// What a transform gives for a source of these columns, before their types are known.
#[derive(Debug, Clone)]
pub(crate) struct Wiring {
    pub(crate) outputs: Vec<(String, Origin<Box<Expr>>)>,
}

impl Wiring {
    /// The column of the source that an output passes on, if it is one.
    pub(crate) fn passed_on(&self, output: &str) -> Option<usize> {
        self.outputs.iter().find_map(|(name, from)| match from {
            Origin::Column(index) if name == output => Some(*index),
            _ => None,
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.outputs.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Fails where no column has this name; `setting` is where it stands in the spec.
    pub(crate) fn check(&self, name: &str, setting: &str) -> Result<()> {
        let names = self.names();
        if names.iter().any(|n| n == name) {
            return Ok(());
        }
        let hint = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? it gives {}", list(&names)),
            None => format!("it gives {}", list(&names)),
        };
        Err(Fault::new(format!("the transform gives no column `{name}`"))
            .hint(hint)
            .into_error()
            .about(setting))
    }
}

impl Transform {
    /// Finds the source's columns by name.
    pub(crate) fn wire(&self, names: &[String]) -> Result<Wiring> {
        let known: BTreeMap<&str, usize> =
            names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        if let Some(ident) = self.parsed.columns.iter().find(|i| !known.contains_key(&*i.value)) {
            return Err(unknown(ident, names).into_error());
        }
        let from = |expr: &Expr| match expr {
            Expr::Identifier(ident) => Origin::Column(known[ident.value.as_str()]),
            expr => Origin::Computed(Box::new(expr.clone())),
        };
        let mut outputs: Vec<(String, Origin<Box<Expr>>)> = Vec::new();
        let mut add = |name: &str, from, at| {
            if name.is_empty() {
                return Err(Fault::new("a column needs a name").at(at).into_error());
            }
            if outputs.iter().any(|(n, _)| n == name) {
                let fault = Fault::new(format!("the transform gives `{name}` twice")).at(at);
                let hint = "leave one out: `* EXCLUDE (name)`, or `* REPLACE (.. AS name)`";
                return Err(fault.hint(hint).into_error());
            }
            outputs.push((name.to_owned(), from));
            Ok(())
        };
        for item in &self.parsed.items {
            match item {
                Item::One { name, expr, at } => add(name, from(expr), *at)?,
                Item::All { except, replace, at } => {
                    for (index, name) in names.iter().enumerate() {
                        if except.iter().any(|e| e.value == *name) {
                            continue;
                        }
                        let replaced = replace.iter().find(|(ident, _)| ident.value == *name);
                        let column = Origin::Column(index);
                        add(name, replaced.map_or(column, |(_, expr)| from(expr)), *at)?;
                    }
                }
            }
        }
        Ok(Wiring { outputs })
    }

    /// The names of what it gives, where the text alone tells: none where it says `*`.
    pub fn names(&self) -> Option<Vec<&str>> {
        let items = self.parsed.items.iter();
        let names = items.map(|item| match item {
            Item::One { name, .. } => Some(name.as_str()),
            Item::All { .. } => None,
        });
        names.collect()
    }

    /// The columns of the source that its text names.
    pub(super) fn reads(&self) -> Vec<String> {
        self.parsed.columns.iter().map(|ident| ident.value.clone()).collect()
    }

    /// The column of the source that the output `name` passes on, as far as the text alone tells:
    /// a source can be asked for it before its columns are known.
    pub(super) fn passed_on(&self, name: &str) -> Option<String> {
        let of = |item: &Item| match item {
            Item::One { name: given, expr, .. } if given == name => Some(match &**expr {
                Expr::Identifier(ident) => Some(ident.value.clone()),
                _ => None,
            }),
            Item::All { replace, .. } if replace.iter().any(|(n, _)| n.value == name) => Some(None),
            _ => None,
        };
        let all = |item: &Item| match item {
            Item::All { except, .. } => !except.iter().any(|ident| ident.value == name),
            Item::One { .. } => false,
        };
        let items = &self.parsed.items;
        items.iter().find_map(of).unwrap_or_else(|| items.iter().any(all).then(|| name.to_owned()))
    }

    /// The condition under which a row stays.
    pub(super) fn filter(&self) -> Option<&Expr> {
        self.parsed.filter.as_ref()
    }
}

fn unknown(ident: &Ident, names: &[String]) -> Fault {
    let name = &ident.value;
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) if near.to_lowercase() == name.to_lowercase() => {
            format!("did you mean `{near}`? names are taken letter by letter")
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its columns are {}", list(names)),
    };
    Fault::new(format!("the source has no column `{name}`")).hint(hint).at(place(ident.span))
}
