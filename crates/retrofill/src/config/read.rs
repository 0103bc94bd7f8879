//! From the tree to typed values. Nothing here stops at the first problem.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::problem::Problem;
use super::tree::{Mark, Node, NodeKind};

/// A key of the spec: left out, given, or given with a value that was already reported.
#[derive(Debug, Clone)]
pub(super) struct Field<T> {
    /// Where the key stands; none where it was left out.
    pub(super) key: Option<Mark>,
    /// Where the value stands.
    pub(super) mark: Mark,
    value: Option<T>,
}

impl<T> Field<T> {
    /// The value, where there is a good one.
    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Whether the key was left out.
    pub(super) fn is_absent(&self) -> bool {
        self.key.is_none()
    }
}

impl<T: Clone> Field<T> {
    /// The value or its default.
    pub(super) fn or(&self, default: T) -> T {
        self.value.clone().unwrap_or(default)
    }
}

/// In the schema a field is its value: what is needed is listed by the section.
impl<T: Read> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        format!("Field<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<T>();
        if !T::SUBSTITUTABLE {
            return inner;
        }
        schemars::json_schema!({
            "anyOf": [inner, { "type": "string", "pattern": r"\$\{.*\}" }]
        })
    }
}

/// A type that a value of the tree can be read as.
pub(super) trait Read: JsonSchema + Sized {
    /// Whether the schema must allow a `${}` reference beside the type's own form. Not for
    /// texts, which allow it anyway, and not for lists and sections, which cannot be one.
    const SUBSTITUTABLE: bool = false;

    /// Reads the value; what is wrong with it is reported under the name `what`.
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self>;
}

/// The problem of a value that is not what it must be.
pub(super) fn unexpected(node: &Node, what: &str, expected: &str) -> Problem {
    let found = match &node.kind {
        NodeKind::List(_) => "not a list".to_owned(),
        NodeKind::Map(_) => "not a mapping".to_owned(),
        NodeKind::Lost => "but has no value".to_owned(),
        NodeKind::Scalar(s) if s.is_null() => "but has no value".to_owned(),
        NodeKind::Scalar(s) if s.substituted => {
            return Problem::at(
                node.mark,
                format!("`{what}` must be {expected}; what stands for `{}` is not", s.written),
            );
        }
        NodeKind::Scalar(s) if s.plain => format!("not `{}`", s.written),
        NodeKind::Scalar(s) => format!("not the text `{}`", s.written),
    };
    let what = if what.is_empty() { "the spec".to_owned() } else { format!("`{what}`") };
    Problem::at(node.mark, format!("{what} must be {expected}, {found}"))
}

/// Reads a value, unless it is lost: that was reported when it was looked up.
pub(super) fn read<T: Read>(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<T> {
    if matches!(node.kind, NodeKind::Lost) { None } else { T::read(node, what, problems) }
}

/// The best match among the words, when it is close enough to be meant.
pub(super) fn meant<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let near = |w: &str| strsim::damerau_levenshtein(&word.to_lowercase(), w);
    let best = words.iter().min_by_key(|w| near(w))?;
    (near(best) <= 1 + best.chars().count() / 4).then_some(*best)
}

/// `did you mean ...`, or the list of what there is.
pub(super) fn suggest(word: &str, words: &[&str]) -> String {
    if let Some(best) = meant(word, words) {
        return format!("did you mean `{best}`?");
    }
    let list: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    format!("known here: {}", list.join(", "))
}

/// The keys of one mapping.
pub(super) struct Section<'a> {
    node: &'a Node,
    what: &'a str,
}

impl<'a> Section<'a> {
    /// Checks that the node is a mapping, and that each key is known and stands there once.
    pub(super) fn open(
        node: &'a Node,
        what: &'a str,
        known: &[&str],
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let NodeKind::Map(entries) = &node.kind else {
            let mut problem = unexpected(node, what, "a mapping");
            if matches!(&node.kind, NodeKind::Scalar(s) if s.is_null()) {
                problem = problem.hint("put a key under it, or leave it out");
            }
            problems.push(problem);
            return None;
        };
        for (i, entry) in entries.iter().enumerate() {
            let place = if what.is_empty() { String::new() } else { format!(" in `{what}`") };
            if !known.contains(&entry.key.as_str()) {
                let message = format!("unknown key `{}`{place}", entry.key);
                let hint = suggest(&entry.key, known);
                problems.push(Problem::at(entry.mark, message).hint(hint));
            } else if let Some(first) = entries[..i].iter().find(|e| e.key == entry.key) {
                let message = format!("key `{}` stands twice{place}", entry.key);
                let hint = format!("the first one is in line {}", first.mark.line);
                problems.push(Problem::at(entry.mark, message).hint(hint));
            }
        }
        Some(Section { node, what })
    }

    /// Reads one key.
    pub(super) fn field<T: Read>(&self, name: &str, problems: &mut Vec<Problem>) -> Field<T> {
        let NodeKind::Map(entries) = &self.node.kind else {
            return Field { key: None, mark: self.node.mark, value: None };
        };
        match entries.iter().find(|e| e.key == name) {
            None => Field { key: None, mark: self.node.mark, value: None },
            Some(entry) => Field {
                key: Some(entry.mark),
                mark: entry.value.mark,
                value: read(&entry.value, &self.path(name), problems),
            },
        }
    }

    /// Reports a key that must not be left out, unless it is there in a wrong spelling: that was
    /// reported already.
    pub(super) fn require(&self, name: &str, known: &[&str], problems: &mut Vec<Problem>) {
        let stands_for =
            |key: &str| key == name || (!known.contains(&key) && meant(key, known) == Some(name));
        if let NodeKind::Map(entries) = &self.node.kind
            && !entries.iter().any(|e| stands_for(&e.key))
        {
            let mark = Mark { length: 1, ..self.node.mark };
            problems.push(Problem::at(mark, format!("`{}` is missing", self.path(name))));
        }
    }

    fn path(&self, name: &str) -> String {
        if self.what.is_empty() { name.into() } else { format!("{}.{name}", self.what) }
    }
}

/// Defines a section of the spec once: its documented fields, how they are read, which are
/// needed, and its JSON Schema.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub(super) struct $name:ident needs [$($needed:literal),*] {
            $( $(#[$about:meta])* pub(super) $field:ident: $ty:ty, )*
        }
    ) => {
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, extend("required" = [$($needed),*]))]
        $(#[$meta])*
        pub(super) struct $name {
            $( $(#[$about])* pub(super) $field: $crate::config::read::Field<$ty>, )*
        }

        impl $crate::config::read::Read for $name {
            fn read(
                node: &$crate::config::tree::Node,
                what: &str,
                problems: &mut Vec<$crate::config::problem::Problem>,
            ) -> Option<Self> {
                let known = [$(stringify!($field)),*];
                let section = $crate::config::read::Section::open(node, what, &known, problems)?;
                $( section.require($needed, &known, problems); )*
                Some($name { $( $field: section.field(stringify!($field), problems), )* })
            }
        }
    };
}

/// Defines a setting that is one of a few words, once for reading and for the JSON Schema.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub(super) enum $name:ident {
            $( $(#[$about:meta])* $variant:ident = $word:literal, )*
        }
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
        #[schemars(inline)]
        $(#[$meta])*
        pub(super) enum $name {
            $( $(#[$about])* #[schemars(rename = $word)] $variant, )*
        }

        impl $name {
            /// The word in the spec.
            #[allow(dead_code, reason = "not every choice is written out again")]
            pub(super) fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $word, )* }
            }
        }

        impl $crate::config::read::Read for $name {
            const SUBSTITUTABLE: bool = true;

            fn read(
                node: &$crate::config::tree::Node,
                what: &str,
                problems: &mut Vec<$crate::config::problem::Problem>,
            ) -> Option<Self> {
                let words = [$($word),*];
                let found = match $crate::config::read::word(node) {
                    $( Some($word) => Some($name::$variant), )*
                    _ => None,
                };
                if found.is_none() {
                    problems.push($crate::config::read::not_a_word(node, what, &words));
                }
                found
            }
        }
    };
}

pub(super) use {choice, section};

/// The value of a scalar, whatever its type.
pub(super) fn word(node: &Node) -> Option<&str> {
    match &node.kind {
        NodeKind::Scalar(s) if !s.is_null() => Some(&s.value),
        _ => None,
    }
}

/// The problem of a value that is none of the words.
pub(super) fn not_a_word(node: &Node, what: &str, words: &[&str]) -> Problem {
    let list: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
    let expected = match list.as_slice() {
        [early @ .., last] if !early.is_empty() => format!("{} or {last}", early.join(", ")),
        _ => list.concat(),
    };
    let problem = unexpected(node, what, &expected);
    match &node.kind {
        NodeKind::Scalar(s) if !s.substituted => match meant(&s.value, words) {
            Some(best) => problem.hint(format!("did you mean `{best}`?")),
            None => problem,
        },
        _ => problem,
    }
}

/// Whether an unquoted scalar is a number or a truth value in YAML.
fn is_typed(text: &str) -> bool {
    matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE")
        || (text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.parse::<f64>().is_ok())
}

impl Read for String {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if let NodeKind::Scalar(s) = &node.kind
            && !s.is_null()
        {
            if s.plain && !s.substituted && is_typed(&s.value) {
                let problem = unexpected(node, what, "a text");
                problems.push(problem.hint(format!("put it in quotes: \"{}\"", s.written)));
                return None;
            }
            return Some(s.value.clone());
        }
        problems.push(unexpected(node, what, "a text"));
        None
    }
}

impl Read for bool {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if let NodeKind::Scalar(s) = &node.kind
            && s.may_be_typed()
        {
            match s.value.as_str() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => {}
            }
        }
        problems.push(unexpected(node, what, "`true` or `false`"));
        None
    }
}

/// The whole number that an unquoted or substituted scalar stands for.
pub(super) fn whole(node: &Node) -> Option<u64> {
    match &node.kind {
        NodeKind::Scalar(s) if s.may_be_typed() => {
            let canonical = s.value == "0" || !s.value.starts_with(['0', '+']);
            s.value.parse().ok().filter(|_| canonical)
        }
        _ => None,
    }
}

impl Read for u64 {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let number = whole(node);
        if number.is_none() {
            problems.push(unexpected(node, what, "a whole number"));
        }
        number
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let NodeKind::List(items) = &node.kind else {
            let problem = unexpected(node, what, "a list");
            problems.push(match &node.kind {
                NodeKind::Scalar(s) if !s.is_null() => {
                    problem.hint(format!("write `[{}]`", s.written))
                }
                _ => problem,
            });
            return None;
        };
        let list: Vec<_> = items.iter().map(|item| read(item, what, problems)).collect();
        list.into_iter().collect()
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let NodeKind::Map(entries) = &node.kind else {
            problems.push(unexpected(node, what, "a mapping"));
            return None;
        };
        let names: Vec<_> = entries.iter().map(|e| e.key.as_str()).collect();
        let section = Section::open(node, what, &names, problems)?;
        let mut map = BTreeMap::new();
        for name in names {
            let field: Field<T> = section.field(name, problems);
            map.insert(name.to_owned(), field.value?);
        }
        Some(map)
    }
}
