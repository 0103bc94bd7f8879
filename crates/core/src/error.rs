//! The one error type. Its [`Kind`] decides everything the runner does with it.

use std::fmt;
use std::sync::Arc;

/// The result of everything in this workspace that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failure means for the run. There is no catch-all: every failure is classified where
/// it is first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The spec, the rights or the environment are wrong. Stops the run; exit code 2.
    Config,
    /// A promise of our own code is broken. Stops the run; exit code 2.
    Bug,
    /// Not there right now. Backs off and tries again.
    Unavailable,
    /// Too much for the other side. Backs off, shrinks the throttle, halves the slice.
    Overloaded,
    /// The target refuses this very row. It goes to the rejects.
    Refused,
    /// What was read back is not what was written. Loaded once more, then left to a person.
    Mismatch,
    /// The source is no longer what the plan saw. Nothing of it is loaded.
    Stale,
    /// Another runner holds the plan, or this one lost its lease. Exit code 5.
    Fenced,
    /// Stopped on purpose: a signal, a pause, a guard, the end of the allowed time.
    Stopped,
}

impl Kind {
    /// Whether doing the same again may help.
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Unavailable | Kind::Overloaded)
    }

    /// Whether no other slice of the run can do better.
    pub fn stops_the_run(self) -> bool {
        matches!(self, Kind::Config | Kind::Bug | Kind::Fenced | Kind::Stopped)
    }
}

/// A classified failure: what happened and where, a hint what to do, and the cause.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    setting: Option<String>,
    too_long: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of this kind. The message names what failed and where, without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            setting: None,
            too_long: false,
            source: None,
        }))
    }

    /// See [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// See [`Kind::Bug`].
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// See [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Adds what the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Names the setting of the spec that it is about, keys joined by dots: who knows the document
    /// can then tell the line.
    pub fn about(mut self, setting: impl Into<String>) -> Self {
        self.0.setting = Some(setting.into());
        self
    }

    /// Says that the work took longer than it may: as much of it will again, half of it may not.
    pub fn too_long(mut self) -> Self {
        self.0.too_long = true;
        self
    }

    /// Adds the cause, as the driver gave it.
    pub fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Puts `place: ` before the message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The message alone, without cause and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The setting of the spec that it is about, where it is about one.
    pub fn setting(&self) -> Option<&str> {
        self.0.setting.as_deref()
    }

    /// Whether less work at once may be quick enough.
    pub fn is_too_long(&self) -> bool {
        self.0.too_long
    }

    /// What the reader can do, where something is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        match &self.0.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e.as_ref() as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_every_cause() {
        let error = Error::unavailable("cannot read `a.csv`")
            .because(std::io::Error::other("disk on fire"))
            .at("slice 20130101T000000Z");
        assert_eq!(error.to_string(), "slice 20130101T000000Z: cannot read `a.csv`: disk on fire");
        assert!(error.kind().is_transient());
    }
}
