//! What is wrong with a spec, and how that is shown.

use std::fmt;

use retrofill_core::error::Error;
use serde_json::{Value, json};

use super::tree::Mark;

/// Lines longer than this are cut around the caret, in characters.
const WIDTH: usize = 100;

/// One thing that is wrong, and where. The message never shows a value that came from outside
/// the document.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) message: String,
    pub(super) mark: Option<Mark>,
    pub(super) hint: Option<String>,
}

impl Problem {
    pub(super) fn at(mark: Mark, message: impl Into<String>) -> Self {
        Problem { message: message.into(), mark: Some(mark), hint: None }
    }

    pub(super) fn general(message: impl Into<String>) -> Self {
        Problem { message: message.into(), mark: None, hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong, without place and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column, both from 1, where the problem has a place.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.mark.map(|m| (m.line, m.column))
    }

    /// What to do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Everything that is wrong with one spec, in the order of the document. Its `Display` is the
/// whole message, with source lines and carets.
#[derive(Debug, Clone)]
pub struct Problems {
    name: String,
    lines: Vec<String>,
    /// The lines from this one on, from 1, are not of the document: each is what a flag `--set`
    /// gave.
    flags: usize,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(name: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|p| p.mark);
        let lines = text.lines().map(str::to_owned).collect();
        Problems { name: name.into(), lines, flags: usize::MAX, list }
    }

    /// The same, where the lines of `text` from this one on are what flags gave.
    pub(super) fn with_flags(self, from: usize) -> Self {
        Problems { flags: from, ..self }
    }

    /// For machines: each with its line and column, both from 1, or the flag that it is about.
    pub fn json(&self) -> Value {
        let one = |p: &Problem| {
            let mark = p.mark.filter(|m| m.line < self.flags);
            let flag = p.mark.filter(|m| m.line >= self.flags);
            let mut found = json!({
                "line": mark.map(|m| m.line),
                "column": mark.map(|m| m.column),
                "message": p.message,
                "hint": p.hint,
            });
            if let Some(text) = flag.and_then(|m| self.lines.get(m.line - 1)) {
                found["set"] = json!(text);
            }
            found
        };
        self.list.iter().map(one).collect()
    }

    /// The problems; never empty.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// The document's name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it as one error of kind `Config`, for callers that print nothing else.
    pub fn into_error(self) -> Error {
        let count = self.list.len();
        let first = self.list.first();
        let place = match first.and_then(|p| p.mark) {
            None => self.name.clone(),
            Some(mark) if mark.line >= self.flags => "--set".to_owned(),
            Some(mark) => format!("{}:{}:{}", self.name, mark.line, mark.column),
        };
        let message = first.map_or("", Problem::message);
        let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        let error = Error::config(format!("{place}: {message}{more}"));
        match first.and_then(Problem::hint_text) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        writeln!(f, "error: {}", problem.message)?;
        let Some(mark) = problem.mark else {
            writeln!(f, "  --> {}", self.name)?;
            return hint(f, problem, "");
        };
        let is_flag = mark.line >= self.flags;
        let number = if is_flag { "=".to_owned() } else { mark.line.to_string() };
        let gutter = " ".repeat(number.len());
        if is_flag {
            writeln!(f, "{gutter} --> --set")?;
        } else {
            writeln!(f, "{gutter} --> {}:{}:{}", self.name, mark.line, mark.column)?;
        }
        if let Some(line) = self.lines.get(mark.line.wrapping_sub(1)) {
            let (text, column) = cut(line, mark.column);
            let room = text.chars().count().saturating_sub(column - 1).max(1);
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{number} | {text}")?;
            let carets = "^".repeat(mark.length.min(room));
            writeln!(f, "{gutter} | {}{carets}", " ".repeat(column - 1))?;
        }
        hint(f, problem, &gutter)
    }
}

fn hint(f: &mut fmt::Formatter<'_>, problem: &Problem, gutter: &str) -> fmt::Result {
    match &problem.hint {
        Some(hint) if gutter.is_empty() => writeln!(f, "hint: {hint}"),
        Some(hint) => writeln!(f, "{gutter} |\nhint: {hint}"),
        None => Ok(()),
    }
}

/// The part of a line around a column, both as shown. Tabs become single spaces, so that the
/// caret stands where it should.
fn cut(line: &str, column: usize) -> (String, usize) {
    let shown: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() <= WIDTH {
        return (shown.iter().collect(), column);
    }
    let start = (column - 1).saturating_sub(WIDTH / 2).min(shown.len());
    let end = (start + WIDTH).min(shown.len());
    let mut text: String = shown[start..end].iter().collect();
    if end < shown.len() {
        text.push_str("...");
    }
    if start == 0 {
        return (text, column);
    }
    (format!("...{text}"), column - start + 3)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            self.show(f, problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
