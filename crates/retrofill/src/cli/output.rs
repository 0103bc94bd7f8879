//! The only place that prints: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use retrofill_core::error::{Error, Kind};
use serde_json::{Value, json};

use super::exit::Exit;
use super::progress;
use crate::config::Problems;

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document per line.
    Json,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The spec is wrong. Exit code 2.
    Spec(Problems),
    /// Something failed; the exit code is that of its kind.
    Error(Error),
    /// Something failed in a way that has an exit code of its own, such as a spec that no longer
    /// fits its plan.
    As(Exit, Error),
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Spec(_) => Exit::Config,
            Failure::Error(error) => Exit::of(error.kind()),
            Failure::As(exit, _) => *exit,
        }
    }

    /// The same for machines: what stands where a summary would.
    pub fn json(&self) -> Value {
        let (kind, message, hint) = match self {
            Failure::Spec(problems) => {
                let error = problems.clone().into_error();
                ("spec", error.to_string(), error.hint_text().map(str::to_owned))
            }
            Failure::Error(error) | Failure::As(_, error) => {
                (word(error.kind()), error.to_string(), error.hint_text().map(str::to_owned))
            }
        };
        let mut line = json!({
            "v": 1, "status": "failed", "exit": self.exit().code(),
            "error": { "kind": kind, "message": message, "hint": hint },
        });
        if let Failure::Spec(problems) = self {
            line["error"]["problems"] = problems.json();
        }
        line
    }
}

/// The class of a failure, in one word.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "config",
        Kind::Bug => "bug",
        Kind::Unavailable => "unavailable",
        Kind::Overloaded => "overloaded",
        Kind::Refused => "refused",
        Kind::Mismatch => "mismatch",
        Kind::Stale => "stale",
        Kind::Fenced => "fenced",
        Kind::Stopped => "stopped",
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::Spec(problems)
    }
}

/// Prints in the way the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    /// See [`Format`].
    pub format: Format,
    /// Errors only on stderr.
    pub quiet: bool,
}

impl Output {
    /// A result, to stdout. A line end is added where there is none.
    pub fn result(&self, text: &str) {
        print(io::stdout().lock(), text);
    }

    /// One JSON document, to stdout, in one line.
    pub fn json(&self, value: &impl serde::Serialize) {
        self.result(&serde_json::to_string(value).expect("results are plain JSON"));
    }

    /// A question, to stderr, without a line end.
    pub fn ask(self, text: &str) {
        progress::aside(|| {
            // A reader that is gone is no failure of ours.
            let _ = write!(io::stderr(), "{text}").and_then(|()| io::stderr().flush());
        });
    }

    /// Something worth knowing that is not the result, to stderr; not with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            log(text);
        }
    }

    /// Something that went wrong without changing the result, to stderr.
    pub fn warning(&self, text: &str) {
        log(&format!("warning: {text}"));
    }

    /// Why the command failed, to stderr; with `--output json` also to stdout, in one line.
    pub fn failure(&self, failure: &Failure) {
        if self.format == Format::Json {
            self.json(&failure.json());
        }
        match failure {
            Failure::Spec(problems) => log(&problems.to_string()),
            Failure::Error(error) | Failure::As(_, error) => log(&describe(error)),
        }
    }

    /// Whether bars can be drawn.
    pub fn has_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }
}

/// An error as people read it: the causes in one line, then the hint.
pub fn describe(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("error: {error}\nhint: {hint}"),
        None => format!("error: {error}"),
    }
}

/// To stderr, above the progress bars where there are some.
pub(super) fn log(text: &str) {
    progress::aside(|| print(io::stderr().lock(), text));
}

/// A reader that is gone (`| head`) is no failure of ours.
fn print(mut to: impl io::Write, text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(to, "{text}{end}").and_then(|()| to.flush());
}

/// Takes what tracing writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::aside(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Groups digits by thousands: `26,115`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A length of time for people: `1.9 s`, `2 min 05 s`, `1 h 02 min`.
pub fn seconds(length: f64) -> String {
    let whole = length.round() as u64;
    match whole {
        0..60 if length < 59.95 => format!("{length:.1} s"),
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (26_115, "26,115")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn lengths_read_well() {
        let cases = [
            (0.0, "0.0 s"),
            (1.94, "1.9 s"),
            (59.96, "1 min 00 s"),
            (125.0, "2 min 05 s"),
            (3599.7, "1 h 00 min"),
            (3720.0, "1 h 02 min"),
        ];
        for (length, text) in cases {
            assert_eq!(seconds(length), text);
        }
    }

    #[test]
    fn failures_have_exit_codes() {
        let unfit = Failure::As(Exit::Held, Error::config("the spec changed"));
        assert_eq!(unfit.exit().code(), 5);
        assert_eq!(Failure::from(Error::unavailable("gone")).exit().code(), 1);
        let line = Failure::from(Error::unavailable("gone").hint("wait")).json();
        let want = json!({
            "v": 1, "status": "failed", "exit": 1,
            "error": { "kind": "unavailable", "message": "gone", "hint": "wait" },
        });
        assert_eq!(line, want);
        let shown = describe(&Error::config("no").hint("yes"));
        assert_eq!(shown, "error: no\nhint: yes");
    }
}
