//! The SQL of a spec: its text, and where each of its letters stands in the document.

use retrofill_connectors::transform::{Fault, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::problem::Problem;
use super::raw::RawSpec;
use super::read::{Read, suggest, unexpected};
use super::tree::{Mark, Node, NodeKind};

/// SQL as typed.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    text: String,
    start: Option<Mark>,
    substituted: bool,
}

impl JsonSchema for Sql {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sql".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

impl Read for Sql {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let NodeKind::Scalar(s) = &node.kind else {
            problems.push(unexpected(node, what, "SQL").hint("`SELECT .. FROM source`"));
            return None;
        };
        // What is filled in moves the letters behind it.
        let start = s.start.filter(|_| !s.substituted);
        let text = s.value.trim_end().to_owned();
        Some(Sql { text, start, substituted: s.substituted })
    }
}

impl Sql {
    /// Where its first letter stands.
    pub(super) fn start(&self) -> Option<Mark> {
        self.start
    }

    /// Where in the document a place in the text is; `whole` is the whole of it.
    fn mark(&self, at: Option<(u64, u64)>, whole: Mark) -> Mark {
        let (Some(start), Some((line, column))) = (self.start, at) else { return whole };
        let (row, skip) = (line.saturating_sub(1) as usize, column.saturating_sub(1) as usize);
        let rest = self.text.lines().nth(row).unwrap_or_default().chars().skip(skip);
        let word = rest.take_while(|c| c.is_alphanumeric() || *c == '_').count();
        Mark { line: start.line + row, column: start.column + skip, length: word.max(1) }
    }
}

/// The text of the transform, where there is one and nothing is wrong with it. None where
/// something is.
#[allow(clippy::option_option, reason = "a transform that is wrong is not one that is left out")]
pub(super) fn transform(raw: &RawSpec, problems: &mut Vec<Problem>) -> Option<Option<String>> {
    if raw.transform.is_absent() {
        return Some(None);
    }
    let sql = raw.transform.get()?;
    let whole = raw.transform.mark;
    match Transform::parse(&sql.text) {
        Ok(transform) => {
            check_names(raw, &transform, problems);
            Some(Some(sql.text.clone()))
        }
        // The words of a fault are those of the text, and what was filled in is never shown.
        Err(_) if sql.substituted => {
            let what = "`transform` is not possible with what its variables stand for";
            let problem = Problem::at(whole, what);
            problems.push(problem.hint("write their values out to see what is wrong"));
            None
        }
        Err(faults) => {
            problems.extend(faults.into_iter().map(|Fault { message, hint, at }| {
                let problem = Problem::at(sql.mark(at, whole), message);
                match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }));
            None
        }
    }
}

/// Columns of `rows` that the transform certainly does not give.
fn check_names(raw: &RawSpec, transform: &Transform, problems: &mut Vec<Problem>) {
    let (Some(names), Some(rows)) = (transform.names(), raw.rows.get()) else { return };
    let time = rows.time.get().map(|name| ("rows.time", name, rows.time.mark));
    let keys = rows.key.get().into_iter().flatten().map(|k| ("rows.key", k, rows.key.mark));
    let compare = rows.compare.get().into_iter().flatten();
    let compare = compare.map(|c| ("rows.compare", c, rows.compare.mark));
    for (setting, name, mark) in time.into_iter().chain(keys).chain(compare) {
        if !names.contains(&name.as_str()) {
            let what = format!("`{setting}` names a column that the transform does not give");
            problems.push(Problem::at(mark, what).hint(suggest(name, &names)));
        }
    }
}
