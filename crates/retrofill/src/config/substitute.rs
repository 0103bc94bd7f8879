//! `${}` in text: after parsing, in values only, so that what comes from outside can neither
//! change the document's shape nor shift its lines.

use std::path::Path;

use super::problem::Problem;
use super::tree::{Mark, Node, NodeKind, Scalar};

/// A secret in a file is never longer than this, bytes.
const MAX_FILE: u64 = 64 << 10;

/// Where references are looked up.
pub(super) struct Outside<'a> {
    /// Variables of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths in `${file:}` start from.
    pub base: &'a Path,
}

/// Replaces the references in every value below `node`, and reports those that lead nowhere.
pub(super) fn substitute(node: &mut Node, outside: &Outside<'_>, problems: &mut Vec<Problem>) {
    let mark = node.mark;
    match &mut node.kind {
        NodeKind::List(items) => {
            for item in items {
                substitute(item, outside, problems);
            }
        }
        NodeKind::Map(entries) => {
            for entry in entries {
                substitute(&mut entry.value, outside, problems);
            }
        }
        NodeKind::Scalar(scalar) => {
            if let Err(problem) = fill(scalar, mark, outside) {
                problems.push(problem);
                node.kind = NodeKind::Lost;
            }
        }
        NodeKind::Lost => {}
    }
}

fn fill(scalar: &mut Scalar, mark: Mark, outside: &Outside<'_>) -> Result<(), Problem> {
    if !scalar.written.contains('$') {
        return Ok(());
    }
    let mut value = String::new();
    let mut rest = scalar.written.as_str();
    while let Some(dollar) = rest.find('$') {
        value.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            value.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                return Err(Problem::at(mark, "`${` without its `}`")
                    .hint("write `$$` for a single dollar sign"));
            };
            value.push_str(&look_up(&after[..end], outside, mark)?);
            scalar.substituted = true;
            rest = &after[end + 1..];
        } else {
            value.push('$');
        }
    }
    value.push_str(rest);
    scalar.value = value;
    Ok(())
}

fn look_up(inside: &str, outside: &Outside<'_>, mark: Mark) -> Result<String, Problem> {
    if let Some(path) = inside.strip_prefix("file:") {
        return read(path, outside.base, mark);
    }
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let (name, operator) = inside.split_at(end.unwrap_or(inside.len()));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Problem::at(mark, format!("`${{{inside}}}` names no variable"))
            .hint("`${VAR}`, `${VAR:-default}`, `${VAR:?message}` or `${file:/path}`"));
    }
    let found = (outside.env)(name);
    if operator.is_empty() {
        return found.ok_or_else(|| {
            Problem::at(mark, format!("environment variable `{name}` is not set"))
                .hint(format!("set it, or give a default: `${{{name}:-...}}`"))
        });
    }
    let found = found.filter(|value| !value.is_empty());
    if let Some(default) = operator.strip_prefix(":-") {
        return Ok(found.unwrap_or_else(|| default.into()));
    }
    if let Some(message) = operator.strip_prefix(":?") {
        return found.ok_or_else(|| {
            let problem = Problem::at(mark, format!("environment variable `{name}` is not set"));
            if message.is_empty() { problem } else { problem.hint(message) }
        });
    }
    Err(Problem::at(mark, format!("`${{{inside}}}` is not understood"))
        .hint("`${VAR}`, `${VAR:-default}`, `${VAR:?message}` or `${file:/path}`"))
}

/// The file's text without the line end that editors put there.
fn read(path: &str, base: &Path, mark: Mark) -> Result<String, Problem> {
    let full = base.join(path);
    let wrong = |why: String| Problem::at(mark, format!("cannot read `${{file:{path}}}`: {why}"));
    let length = std::fs::metadata(&full).map_err(|e| wrong(e.to_string()))?.len();
    if length > MAX_FILE {
        return Err(wrong(format!("it is larger than {MAX_FILE} bytes")));
    }
    let mut text = std::fs::read_to_string(&full).map_err(|e| wrong(e.to_string()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "pass: [word\r\n").unwrap();
        let env = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let outside = Outside { env: &env, base: dir.path() };
        let (written, value) = (text.into(), text.into());
        let mut scalar = Scalar { written, value, plain: true, substituted: false, start: None };
        match fill(&mut scalar, Mark::default(), &outside) {
            Ok(()) => Ok(scalar.value),
            Err(problem) => {
                Err(format!("{}|{}", problem.message, problem.hint.unwrap_or_default()))
            }
        }
    }

    #[test]
    fn references_are_replaced_once() {
        let cases = [
            ("a${A}b${A}", "a1b1"),
            ("${NO:-x:-y}", "x:-y"),
            ("${NO:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("<${EMPTY}>", "<>"),
            ("$${A}", "${A}"),
            ("5$ and $A", "5$ and $A"),
            ("${file:secret}", "pass: [word"),
            ("${A:?needed}", "1"),
        ];
        for (text, value) in cases {
            assert_eq!(filled(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        let cases = [
            ("${NO}", "environment variable `NO` is not set|"),
            ("${NO:?set NO to x}", "environment variable `NO` is not set|set NO to x"),
            ("${EMPTY:?really}", "environment variable `EMPTY` is not set|really"),
            ("${A", "`${` without its `}`|"),
            ("${}", "`${}` names no variable|"),
            ("${1A}", "`${1A}` names no variable|"),
            ("${A!}", "`${A!}` is not understood|"),
            ("${file:gone}", "cannot read `${file:gone}`: "),
        ];
        for (text, message) in cases {
            let error = filled(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
