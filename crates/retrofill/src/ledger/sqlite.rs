//! Opening the ledger's file, and what `SQLite`'s errors mean.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use retrofill_core::error::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// The format that this program writes, in `PRAGMA user_version`.
pub(super) const VERSION: i64 = 1;

/// Marks a file as a ledger, in `PRAGMA application_id`: "rtfl".
const APPLICATION: i64 = 0x7274_666c;

/// How long a statement waits for another process to finish its transaction.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = include_str!("schema.sql");

/// A connection that may write. Creates the file (mode 0600) and its tables where needed.
pub(super) fn open(path: &Path) -> Result<Connection> {
    protect(path)?;
    let failed = |e| cannot(path, "be opened", e);
    let mut connection =
        Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
            .map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    check(&connection, path)?;
    journal_mode(&connection, path)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    create(&mut connection, path)?;
    Ok(connection)
}

/// A connection that cannot write. An error of kind `Config` where there is no ledger.
pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    if !path.exists() {
        return Err(Error::config(format!("there is no ledger at `{}`", path.display()))
            .hint("`retrofill run` makes it; `--state-dir` says where it is"));
    }
    let failed = |e| cannot(path, "be opened", e);
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))
        .map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    match check(&connection, path)? {
        VERSION => Ok(connection),
        // Seen only between the creation of the file and of its tables.
        _ => Err(Error::unavailable(format!("the ledger `{}` is just being made", path.display()))),
    }
}

fn flags(access: OpenFlags) -> OpenFlags {
    // Each connection belongs to one thread; a path is a path, never a URI.
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Creates the file before `SQLite` does, so that nobody else can ever read it, and makes its
/// name durable. `SQLite` gives its side files the same mode.
fn protect(path: &Path) -> Result<()> {
    let failed = |e| {
        Error::config(format!("the ledger `{}` cannot be created", path.display()))
            .because(e)
            .hint("the state dir must exist and be writable")
    };
    let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(file) => {
            file.sync_all().map_err(failed)?;
            let dir = path.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new("."))).and_then(|d| d.sync_all()).map_err(failed)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let mode = path.metadata().map_err(failed)?.permissions().mode();
            let private = mode & !0o077;
            if mode == private {
                return Ok(());
            }
            std::fs::set_permissions(path, Permissions::from_mode(private)).map_err(failed)
        }
        Err(e) => Err(failed(e)),
    }
}

/// The version of the file; 0 where it has no tables yet. An error of kind `Config` where it is
/// not a ledger, or a newer one.
fn check(connection: &Connection, path: &Path) -> Result<i64> {
    // One statement, so that a ledger that is just being created is seen whole or not at all.
    let (application, version, tables): (i64, i64, i64) = connection
        .query_row(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
             FROM pragma_application_id, pragma_user_version",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(|e| cannot(path, "be read", e))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != APPLICATION {
        return Err(Error::config(format!(
            "`{}` is a database of another program",
            path.display()
        ))
        .hint("give another `--state-dir`"));
    }
    if version > VERSION {
        return Err(Error::config(format!(
            "the ledger `{}` has format {version}, this retrofill knows up to {VERSION}",
            path.display()
        ))
        .hint("use the retrofill that wrote it, or a newer one"));
    }
    Ok(version)
}

/// Write-ahead logging: readers never wait for the runner. The switch is not covered by the
/// busy timeout, so two processes that open a new ledger at once take turns here.
fn journal_mode(connection: &Connection, path: &Path) -> Result<()> {
    let mut tries = 0;
    loop {
        let mode: rusqlite::Result<String> =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |r| r.get(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(Error::config(format!(
                    "the ledger `{}` cannot use write-ahead logging (only `{mode}`)",
                    path.display()
                ))
                .hint("put `--state-dir` on a local disk"));
            }
            Err(e) if is_busy(&e) && tries < 250 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(cannot(path, "be opened", e)),
        }
    }
}

fn create(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |e| cannot(path, "be created", e);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    if check(&transaction, path)? == 0 {
        transaction.execute_batch(SCHEMA).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The ledger `path` cannot `what` (`be read`): `SQLite`'s error, classified.
pub(super) fn cannot(path: &Path, what: &str, error: rusqlite::Error) -> Error {
    use rusqlite::Error as E;
    let message = format!("the ledger `{}` cannot {what}", path.display());
    if let E::FromSqlConversionFailure(..)
    | E::InvalidColumnType(..)
    | E::IntegralValueOutOfRange(..)
    | E::Utf8Error(..) = error
    {
        return damaged(path, what).because(error);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            damaged(path, what).because(error)
        }
        Some(ErrorCode::DiskFull) => {
            Error::unavailable(message).hint("its disk is full").because(error)
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => Error::unavailable(message).because(error),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::CannotOpen
            | ErrorCode::NoLargeFileSupport,
        ) => Error::config(message)
            .hint("the file and its directory must be writable for this user")
            .because(error),
        _ => Error::bug(message).because(error),
    }
}

/// The file holds what no retrofill wrote.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::config(format!("the ledger `{}` cannot {what}: it is damaged", path.display())).hint(
        "move the file (with its -wal and -shm) away: the next run rebuilds the ledger from the \
         target's receipts",
    )
}
