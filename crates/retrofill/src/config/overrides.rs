//! Keys that the command line gives: `--set range.every=1d`. They become part of the document's
//! tree, each with its place on a line of its own behind the document, so that whatever is wrong
//! with one points to its flag.

use super::problem::Problem;
use super::tree::{self, Entry, Mark, Node, NodeKind, Scalar};

/// The document with the flags behind it.
#[derive(Debug)]
pub(super) struct Text {
    /// All lines.
    pub(super) text: String,
    /// The line of the first flag, from 1.
    pub(super) flags: usize,
}

impl Text {
    /// Puts one line per flag behind a document.
    pub(super) fn new(document: &str, sets: &[String]) -> Self {
        let flags = document.lines().count() + 1;
        let mut text = document.to_owned();
        for set in sets {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            // A value of several lines would shift those behind it.
            text.push_str(&set.replace(['\n', '\r'], " "));
            text.push('\n');
        }
        Text { text, flags }
    }

    /// Puts what the flags say into the tree. A later one wins.
    pub(super) fn apply(&self, root: &mut Node, problems: &mut Vec<Problem>) {
        for (i, line) in self.text.lines().enumerate().skip(self.flags - 1) {
            if let Err(mut found) = apply(root, line, i + 1) {
                problems.append(&mut found);
            }
        }
    }
}

fn apply(root: &mut Node, line: &str, number: usize) -> Result<(), Vec<Problem>> {
    let mark = |from: &str, text: &str| Mark {
        line: number,
        column: 1 + line.chars().count() - from.chars().count(),
        length: text.chars().count().max(1),
    };
    let Some((path, value)) = line.split_once('=') else {
        let problem = Problem::at(mark(line, line), format!("`--set {line}` gives no value"));
        return Err(vec![problem.hint("`--set KEY=VALUE`, such as `--set range.every=1d`")]);
    };
    if path.split('.').any(|key| key.trim().is_empty()) {
        let problem = Problem::at(mark(line, path), format!("`--set {line}` names no key"));
        return Err(vec![problem.hint("keys are joined by dots: `range.every`")]);
    }
    let start = value.trim_start();
    let value = read(start.trim_end(), mark(start, start.trim_end()))?;
    let (mut node, mut rest, mut above) = (root, path, String::new());
    loop {
        let (key, below) = match rest.split_once('.') {
            Some((key, below)) => (key, Some(below)),
            None => (rest, None),
        };
        let at = mark(&line[path.len() - rest.len()..], key);
        let name = key.trim();
        let entries = mapping(node, &above, at)?;
        let place = entries.iter().rposition(|e| e.key == name).unwrap_or_else(|| {
            let empty = Node { mark: at, kind: NodeKind::Map(Vec::new()) };
            entries.push(Entry { key: name.to_owned(), mark: at, value: empty });
            entries.len() - 1
        });
        let entry = &mut entries[place];
        let Some(below) = below else {
            (entry.mark, entry.value) = (at, value);
            return Ok(());
        };
        above = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        (node, rest) = (&mut entry.value, below);
    }
}

/// The keys of a mapping that may be missing so far.
fn mapping<'a>(
    node: &'a mut Node,
    name: &str,
    at: Mark,
) -> Result<&'a mut Vec<Entry>, Vec<Problem>> {
    if matches!(&node.kind, NodeKind::Scalar(s) if s.is_null()) {
        node.kind = NodeKind::Map(Vec::new());
    }
    let what = match &mut node.kind {
        NodeKind::Map(entries) => return Ok(entries),
        NodeKind::List(_) => "a list",
        NodeKind::Scalar(_) | NodeKind::Lost => "a single value",
    };
    let name = if name.is_empty() { "the spec".to_owned() } else { format!("`{name}`") };
    let problem = Problem::at(at, format!("{name} is {what}, which has no keys"));
    Err(vec![problem.hint("set it as a whole")])
}

/// A value: YAML where it begins like a list, a mapping or a quoted text, else one scalar.
fn read(text: &str, mark: Mark) -> Result<Node, Vec<Problem>> {
    if !text.starts_with(['[', '{', '"', '\'']) {
        let written = text.to_owned();
        let value = written.clone();
        let scalar = Scalar { value, written, plain: true, substituted: false, start: None };
        return Ok(Node { mark, kind: NodeKind::Scalar(scalar) });
    }
    let there = |m: Mark| Mark {
        line: m.line + mark.line - 1,
        column: m.column + mark.column - 1,
        length: m.length,
    };
    match tree::parse(text) {
        Ok(mut node) => {
            node.move_marks(&there);
            Ok(node)
        }
        Err(mut problems) => {
            for problem in &mut problems {
                problem.mark = Some(problem.mark.map_or(mark, there));
            }
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(document: &str, sets: &[&str]) -> Result<serde_json::Value, String> {
        let sets: Vec<_> = sets.iter().map(|s| (*s).to_owned()).collect();
        let text = Text::new(document, &sets);
        let mut root = tree::parse(document).unwrap();
        let mut problems = Vec::new();
        text.apply(&mut root, &mut problems);
        match problems.first() {
            None => Ok(root.to_json()),
            Some(p) => Err(format!("{:?} {}", p.mark.map(|m| (m.line, m.column)), p.message)),
        }
    }

    #[test]
    fn keys_are_replaced_and_added() {
        let json = with(
            "a: { b: 1 }\nc:\n",
            &["a.b=2", "a.d.e=[x, {y: 1}]", "c.f=007", "g=a: b # c", "h='5'", "i= , ", "a.b=3"],
        );
        let want = serde_json::json!({
            "a": { "b": 3, "d": { "e": ["x", { "y": 1 }] } }, "c": { "f": "007" },
            "g": "a: b # c", "h": "5", "i": ",",
        });
        assert_eq!(json, Ok(want));
    }

    #[test]
    fn what_is_wrong_points_into_its_flag() {
        for (set, want) in [
            ("a", "Some((4, 1)) `--set a` gives no value"),
            ("=1", "Some((4, 1)) `--set =1` names no key"),
            ("a..b=1", "Some((4, 1)) `--set a..b=1` names no key"),
            ("a.b=1", "Some((4, 3)) `a` is a single value, which has no keys"),
            ("c.d.e=1", "Some((4, 3)) `c` is a list, which has no keys"),
        ] {
            assert_eq!(with("a: 1\nc: [1]\n# x", &[set]).unwrap_err(), want, "{set}");
        }
        let broken = with("a: 1", &["b=[1, {]"]).unwrap_err();
        assert!(broken.starts_with("Some((2, 7)) not YAML"), "{broken}");
    }
}
