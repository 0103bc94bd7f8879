//! `transform`: SQL over the rows of a source, row by row.
//!
//! One `SELECT` of expressions and a `WHERE` over the table `source`, nothing else. The clauses
//! are taken out of the parsed text by us (`parse`), every expression alone is planned and bound
//! to the source's columns (`bind`) and computed over batches (`evaluate`). There is no catalog
//! and no engine in which a file or a server could be named. A text of more than this shape is
//! refused with the place and the reason.

mod bind;
mod evaluate;
mod fit;
mod functions;
mod guard;
mod outputs;
mod parse;
mod refuse;
mod source;
mod tokens;

use retrofill_core::error::Error;

pub(crate) use bind::{Bound, Program, bind};
pub(crate) use evaluate::{Ran, Room};
pub(crate) use fit::{check_kinds, fit};
pub(crate) use outputs::{Origin, Wiring};
pub use source::Transformed;

use parse::Parsed;

/// A transform that is well formed: what can be checked without the source.
#[derive(Debug, Clone)]
pub struct Transform {
    text: String,
    parsed: Parsed,
}

impl Transform {
    /// Reads the text, or tells everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let parsed = deep(|| parse::parse(text)).map_err(|e| vec![Fault::new(e.message())])??;
        Ok(Transform { text: text.to_owned(), parsed })
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Something that is wrong with a transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Line and column in the text, both from 1.
    pub at: Option<(u64, u64)>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), hint: None, at: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn at(mut self, at: Option<(u64, u64)>) -> Self {
        self.at = at;
        self
    }

    /// As an error of kind `Config` about the setting. Who knows the document finds the very line
    /// by what stands behind the setting's name.
    pub fn into_error(self) -> Error {
        let about = match self.at {
            Some((line, column)) => format!("transform:{line}:{column}"),
            None => "transform".into(),
        };
        let error = Error::config(self.message).about(about);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Stack for work on expressions, which parser and planner descend into step by step.
const STACK: usize = 64 << 20;

/// Does work that may nest deeply on a stack of its own.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> retrofill_core::error::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| Error::unavailable("no thread for SQL").because(e))?;
        thread.join().map_err(|_| Error::bug("planning SQL broke off"))
    })
}

#[cfg(test)]
mod tests;
