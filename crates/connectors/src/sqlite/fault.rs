//! What SQLite says went wrong, with its class.

use retrofill_core::error::{Error, Kind, Result};
use rusqlite::ErrorCode;

use super::Shared;

/// What a failure of SQLite means, told as `what`.
pub(super) fn fault(what: &str, e: rusqlite::Error) -> Error {
    use ErrorCode as C;
    let Some(code) = e.sqlite_error_code() else { return Error::bug(what).because(e) };
    let (kind, hint) = match code {
        C::DatabaseBusy | C::DatabaseLocked | C::FileLockingProtocolFailed => (
            Kind::Unavailable,
            "another program keeps the database locked; a commit that takes seconds, or one that \
             was begun with BEGIN EXCLUSIVE",
        ),
        C::CannotOpen | C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied => (
            Kind::Config,
            "the user that runs this needs to read the file; with `journal_mode=wal` also to write \
             into its directory, or to find `-wal` and `-shm` there",
        ),
        C::NotADatabase => {
            (Kind::Config, "is `source.sqlite.path` the right file? is it encrypted?")
        }
        C::DatabaseCorrupt => (
            Kind::Config,
            "`PRAGMA integrity_check` says what is damaged; `.recover` of the `sqlite3` shell \
             saves what can be saved",
        ),
        // A statement of ours that does not fit the database.
        C::Unknown => (Kind::Config, "were its columns changed a moment ago? run again"),
        C::SchemaChanged => (Kind::Unavailable, "its columns were changed in this moment"),
        C::SystemIoFailure | C::DiskFull | C::OutOfMemory | C::OperationInterrupted => {
            (Kind::Unavailable, "is its disk sound, and still there?")
        }
        _ => return Error::bug(what).because(e),
    };
    Error::new(kind, what).because(e).hint(hint)
}

impl Shared {
    /// The value, or a failure to read the database.
    pub(super) fn had<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|e| fault(&format!("cannot read `{}`", self.settings.path), e))
    }

    /// The source is another than it was when it was planned.
    pub(super) fn stale(&self, how: &str) -> Error {
        crate::files::stale(&self.settings.path, how)
    }
}
