//! Tells others how a run ended: webhooks and commands. Whatever fails here is a warning; it
//! never changes how the process ends.

mod payload;
mod send;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;
use url::Url;

use crate::cli::exit::Exit;

pub use send::Sender;

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Who.
    pub to: To,
    /// When.
    pub on: Vec<Occasion>,
}

/// The way to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A POST.
    Webhook(Webhook),
    /// A program and its arguments.
    Command(Vec<String>),
}

/// A webhook. Neither `Debug` nor `Display` shows more of its URL than scheme and host.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    url: Url,
    format: Format,
    local: bool,
}

impl Webhook {
    /// `local` where the URL leads to this very machine: then no proxy is asked.
    pub fn new(url: Url, format: Format, local: bool) -> Self {
        Webhook { url, format, local }
    }

    /// What is sent there.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({self}, {:?})", self.format)
    }
}

/// What a webhook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A text and the summary, as JSON.
    Generic,
    /// A message for Slack.
    Slack,
    /// A card for Microsoft Teams.
    Teams,
}

/// How a run ended, as far as others want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Everything that was selected is proven.
    Completed,
    /// Something failed that a rerun or a person must mend.
    Failed,
    /// A slice was read back different.
    Mismatched,
    /// Stopped on purpose or by a signal.
    Paused,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Occasion; 4] =
        [Occasion::Completed, Occasion::Failed, Occasion::Mismatched, Occasion::Paused];

    /// That of an exit code.
    pub fn of(exit: Exit) -> Self {
        match exit {
            Exit::Done | Exit::Outstanding | Exit::Skipped => Occasion::Completed,
            Exit::Mismatched => Occasion::Mismatched,
            Exit::Stopped | Exit::Interrupted | Exit::Terminated => Occasion::Paused,
            Exit::Failed | Exit::Config | Exit::Held | Exit::Rejects => Occasion::Failed,
        }
    }

    /// As in the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Occasion::Completed => "completed",
            Occasion::Failed => "failed",
            Occasion::Mismatched => "mismatched",
            Occasion::Paused => "paused",
        }
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The job's name.
    pub name: String,
    /// How the run ended.
    pub occasion: Occasion,
    /// In one sentence.
    pub headline: String,
    /// The numbers: what they are of, and what they are.
    pub facts: Vec<(&'static str, String)>,
    /// The summary as it was printed.
    pub summary: Value,
}

impl Message {
    /// A field of the summary as text; empty where it is null.
    fn field(&self, name: &str) -> String {
        match &self.summary[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}
