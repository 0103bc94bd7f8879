//! The YAML document as a tree in which every key and value knows where it stands.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Problem;

/// More values than this are not a spec: aliases of aliases could make billions.
const MAX_NODES: usize = 10_000;

/// Deeper than this is not a spec.
const MAX_DEPTH: usize = 64;

/// A stretch of one source line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters, at least 1.
    pub length: usize,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub mark: Mark,
    pub kind: NodeKind,
}

#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A scalar whose references lead nowhere: reported already, and no value at all.
    Lost,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub mark: Mark,
    pub value: Node,
}

/// A scalar, before its type is known.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// As it stands in the document; the only form a message may show.
    pub written: String,
    /// After `${}` substitution.
    pub value: String,
    /// Without quotes, so that it may be a number or a truth value.
    pub plain: bool,
    /// Whether `value` came from outside and must never be shown.
    pub substituted: bool,
    /// Where the text begins, if each of its lines stands in the document as it is, all at one
    /// indentation.
    pub start: Option<Mark>,
}

impl Scalar {
    /// Whether it may stand for a number or a truth value: unquoted, or from a variable, whose
    /// quotes are there for YAML's sake only.
    pub(super) fn may_be_typed(&self) -> bool {
        self.plain || self.substituted
    }

    /// An unquoted nothing.
    pub(super) fn is_null(&self) -> bool {
        self.plain && !self.substituted && matches!(self.value.as_str(), "" | "~" | "null")
    }
}

impl Node {
    /// Where each key and item below stands, by its path with dots; `place` tells a mark in the
    /// user's words.
    pub(super) fn places(&self, place: impl Fn(Mark) -> String) -> BTreeMap<String, String> {
        let (mut places, mut open) = (BTreeMap::new(), vec![(String::new(), self)]);
        while let Some((path, node)) = open.pop() {
            let below: Vec<_> = match &node.kind {
                NodeKind::Map(entries) => {
                    entries.iter().map(|e| (e.key.clone(), e.mark, &e.value)).collect()
                }
                NodeKind::List(items) => {
                    items.iter().enumerate().map(|(i, n)| (i.to_string(), n.mark, n)).collect()
                }
                NodeKind::Scalar(_) | NodeKind::Lost => continue,
            };
            for (name, mark, value) in below {
                let path = format!("{path}{name}");
                places.insert(path.clone(), place(mark));
                open.push((path + ".", value));
            }
        }
        places
    }

    /// Moves this and all below it to where `there` says.
    pub(super) fn move_marks(&mut self, there: &impl Fn(Mark) -> Mark) {
        self.mark = there(self.mark);
        match &mut self.kind {
            NodeKind::List(items) => items.iter_mut().for_each(|n| n.move_marks(there)),
            NodeKind::Map(entries) => {
                for entry in entries {
                    entry.mark = there(entry.mark);
                    entry.value.move_marks(there);
                }
            }
            NodeKind::Scalar(_) | NodeKind::Lost => {}
        }
    }

    /// The value as JSON, as written: references to variables stay references.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            NodeKind::List(items) => items.iter().map(Node::to_json).collect(),
            NodeKind::Map(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect()
            }
            NodeKind::Lost => Value::Null,
            NodeKind::Scalar(s) if s.is_null() => Value::Null,
            NodeKind::Scalar(s) if s.plain => match s.written.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                // Only where JSON would spell it alike, so that no digit is lost.
                text => match serde_json::from_str::<Value>(text) {
                    Ok(Value::Number(n)) if n.to_string() == text => Value::Number(n),
                    _ => Value::String(text.into()),
                },
            },
            NodeKind::Scalar(s) => Value::String(s.written.clone()),
        }
    }
}

/// Reads one document. Where it is broken, the tree ends; there is one problem for that, beside
/// those found before.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let mut build = Builder::new(text);
    for next in Parser::new_from_str(text) {
        match next {
            Ok((event, span)) => {
                if build.take(event, &span).is_err() {
                    break;
                }
            }
            Err(error) => {
                let at = error.marker();
                let mark = Mark { line: at.line(), column: at.col() + 1, length: 1 };
                let problem = Problem::at(mark, format!("not YAML: {}", error.info()));
                build.problems.push(match build.lines.get(mark.line.wrapping_sub(1)) {
                    Some(line) if line.contains("${") => {
                        problem.hint("inside `{ }` and `[ ]` a `${...}` needs double quotes")
                    }
                    Some(line) if line.trim_start_matches(' ').starts_with('\t') => {
                        problem.hint("indent with spaces")
                    }
                    _ => problem,
                });
                break;
            }
        }
    }
    match build.root {
        _ if !build.problems.is_empty() => Err(build.problems),
        Some(root) => Ok(root),
        None => Err(vec![
            Problem::general("the spec is empty")
                .hint("it needs at least `source`, `target` and `rows`"),
        ]),
    }
}

/// Collections that are still open, and what was seen on the way.
struct Builder<'a> {
    lines: Vec<&'a str>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    problems: Vec<Problem>,
}

struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(String, Mark)>,
}

/// The document cannot be read any further.
struct Broken;

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        Builder {
            lines: text.lines().collect(),
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            documents: 0,
            problems: Vec::new(),
        }
    }

    fn mark(&self, span: &Span) -> Mark {
        let (line, column) = (span.start.line(), span.start.col());
        let width = self.lines.get(line.wrapping_sub(1)).map_or(0, |l| l.chars().count());
        let end = if span.end.line() == line { span.end.col() } else { width };
        Mark { line, column: column + 1, length: end.saturating_sub(column).max(1) }
    }

    /// See [`Scalar::start`].
    fn start(&self, text: &str, style: ScalarStyle, mark: Mark) -> Option<Mark> {
        let line = |number: usize| self.lines.get(number.checked_sub(1)?).copied();
        let quotes = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            _ => {
                let (ahead, first) = text.lines().enumerate().find(|(_, l)| !l.is_empty())?;
                let mut numbers = mark.line..mark.line + ahead + 3;
                let number = numbers.find(|n| line(*n).is_some_and(|l| l.ends_with(first)))?;
                let indent = line(number)?.chars().count() - first.chars().count();
                let top = number.checked_sub(ahead)?;
                let stands = |(i, part): (usize, &str)| {
                    let there: String = line(top + i)?.chars().skip(indent).collect();
                    (there == part).then_some(())
                };
                text.lines().enumerate().try_for_each(|part| stands(part).ok_or(())).ok()?;
                return Some(Mark { line: top, column: indent + 1, length: 1 });
            }
        };
        let column = mark.column + quotes;
        let there: String = line(mark.line)?.chars().skip(column - 1).collect();
        (!text.contains('\n') && there.starts_with(text)).then_some(Mark { column, ..mark })
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Broken> {
        let mark = self.mark(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.give_up(mark, "a spec is one document; a second one begins here");
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(mark, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                let written = text.into_owned();
                let start = self.start(&written, style, mark);
                let value = written.clone();
                let scalar = Scalar { value, written, plain, substituted: false, start };
                let node = Node { mark, kind: NodeKind::Scalar(scalar) };
                self.remember(anchor, &node);
                self.add(node)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(mark, tag.is_some());
                self.open(mark, NodeKind::List(Vec::new()), anchor)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(mark, tag.is_some());
                self.open(mark, NodeKind::Map(Vec::new()), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let done = self.open.pop().ok_or(Broken)?;
                self.remember(done.anchor, &done.node);
                self.add(done.node)?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(Node { mark, ..node })?,
                None => return self.give_up(mark, "an alias must stand after its anchor ends"),
            },
            _ => {}
        }
        Ok(())
    }

    fn give_up(&mut self, mark: Mark, message: &str) -> Result<(), Broken> {
        self.problems.push(Problem::at(mark, message));
        Err(Broken)
    }

    fn refuse_tag(&mut self, mark: Mark, tagged: bool) {
        if tagged {
            let problem = Problem::at(mark, "a spec has no YAML tags");
            self.problems.push(problem.hint("leave out the `!...` before the value"));
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn open(&mut self, mark: Mark, kind: NodeKind, anchor: usize) -> Result<(), Broken> {
        if self.open.len() >= MAX_DEPTH {
            return self.give_up(mark, "nested too deeply");
        }
        self.open.push(Open { node: Node { mark, kind }, anchor, key: None });
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Broken> {
        self.nodes += count(&node);
        if self.nodes > MAX_NODES {
            return self.give_up(node.mark, "too many values for a spec");
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.kind {
            NodeKind::List(items) => items.push(node),
            NodeKind::Map(entries) => match parent.key.take() {
                Some((key, mark)) => entries.push(Entry { key, mark, value: node }),
                None => match node.kind {
                    NodeKind::Scalar(s) => parent.key = Some((s.written, node.mark)),
                    _ => return self.give_up(node.mark, "a key must be plain text"),
                },
            },
            NodeKind::Scalar(_) | NodeKind::Lost => {}
        }
        Ok(())
    }
}

/// Scalars are counted where they stand, collections once more when they close: an alias costs
/// what it copies.
fn count(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Scalar(_) | NodeKind::Lost => 1,
        NodeKind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        NodeKind::Map(entries) => 1 + entries.iter().map(|e| count(&e.value)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_characters_from_one() {
        let root = parse("name: möwe\nlabels: { é: \"a b\" }\n").unwrap();
        let NodeKind::Map(entries) = &root.kind else { panic!("not a mapping") };
        assert_eq!(entries[0].value.mark, Mark { line: 1, column: 7, length: 4 });
        let NodeKind::Map(labels) = &entries[1].value.kind else { panic!("not a mapping") };
        assert_eq!(labels[0].mark, Mark { line: 2, column: 11, length: 1 });
        assert_eq!(labels[0].value.mark, Mark { line: 2, column: 14, length: 5 });
    }

    #[test]
    fn json_keeps_what_was_written() {
        let root =
            parse("a: 007\nb: 1.50\nc: 12\nd: \"12\"\ne: true\nf: ~\ng: [\"${X}\", 1e3]").unwrap();
        let json = serde_json::json!({
            "a": "007", "b": "1.50", "c": 12, "d": "12", "e": true, "f": null,
            "g": ["${X}", "1e3"],
        });
        assert_eq!(root.to_json(), json);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..8 {
            let prior = format!("*a{}, ", i - 1).repeat(10);
            text = format!("{text}a{i}: &a{i} [{prior}]\n");
        }
        let problems = parse(&text).unwrap_err();
        assert!(problems[0].message.contains("too many values"), "{problems:?}");
    }
}
