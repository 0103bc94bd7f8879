//! The types that a spec gives to columns by name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use retrofill_connectors::files::{TYPE_NAMES, parse_type};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::problem::Problem;
use super::read::{Read, unexpected, word};
use super::tree::{Node, NodeKind};

/// A type by its name, known to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeName(pub String);

/// Types of columns by name.
pub(super) type RawTypes = BTreeMap<String, TypeName>;

impl JsonSchema for TypeName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TypeName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let plain: Vec<_> = TYPE_NAMES.into_iter().filter(|n| !n.starts_with("decimal")).collect();
        json_schema!({
            "anyOf": [
                { "enum": plain },
                { "type": "string", "pattern": r"^decimal ?\(.*\)$" }
            ]
        })
    }
}

impl Read for TypeName {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let Some(text) = word(node) else {
            problems.push(unexpected(node, what, "a type").hint(TYPE_NAMES.join(", ")));
            return None;
        };
        let Err(error) = parse_type(text) else { return Some(TypeName(text.to_owned())) };
        let problem = unexpected(node, what, "a type");
        let shown = matches!(&node.kind, NodeKind::Scalar(s) if !s.substituted);
        problems.push(match error.hint_text().filter(|_| shown) {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
        None
    }
}
