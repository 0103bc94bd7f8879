//! What the driver and the server say, put into classes.

use std::error::Error as _;

use retrofill_core::error::{Error, Kind};
use tokio_postgres::error::{DbError, SqlState};

/// A failure with its class. `what` says what was tried and where; `secrets` are taken out of the
/// cause.
pub(super) fn classify(given: &tokio_postgres::Error, what: &str, secrets: &[String]) -> Error {
    let (kind, hint) = match given.as_db_error() {
        // A pooler, in its own words.
        Some(db) if db.message().contains("statement pooling") => {
            (Kind::Config, Some("set `pool_mode` to transaction or session"))
        }
        Some(db) => of_server(db.code()),
        None => of_driver(given),
    };
    let cause = scrub(text(given), secrets);
    let error = Error::new(kind, what).because(cause);
    // The server's own limit for a statement, which is that of the transaction.
    let error = if code(given) == Some("57014") { error.too_long() } else { error };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Whether the server may have done what it was asked for all the same.
pub(super) fn is_unknown(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        // A shutdown can reach the backend after the commit is durable.
        Some(db) => db.code().code().starts_with("57P") || db.code().code().starts_with("08"),
        None => true,
    }
}

/// The SQLSTATE, where the server gave one.
pub(super) fn code(error: &tokio_postgres::Error) -> Option<&str> {
    error.as_db_error().map(|db| db.code().code())
}

/// The constraint or index that the server names.
pub(super) fn constraint(error: &tokio_postgres::Error) -> Option<&str> {
    error.as_db_error()?.constraint()
}

/// Another writer came first, or holds what is needed: a new snapshot helps.
pub(super) fn is_contention(error: &tokio_postgres::Error) -> bool {
    matches!(code(error), Some("23505" | "40001" | "40P01" | "55P03"))
}

/// The data are not what the table takes. Not a unique key: that is a question of who came first.
pub(super) fn is_about_data(error: &tokio_postgres::Error) -> bool {
    code(error).is_some_and(|code| {
        (code.starts_with("22") || code.starts_with("23") || code == "P0001") && code != "23505"
    })
}

fn of_server(code: &SqlState) -> (Kind, Option<&'static str>) {
    let code = code.code();
    match code {
        "28P01" | "28000" => {
            (Kind::Config, Some("the user, the password or pg_hba.conf does not let it in"))
        }
        "3D000" => (Kind::Config, Some("the address names a database that is not there")),
        "42501" => (Kind::Config, Some("the user lacks a right; a grant is needed")),
        "53100" => (Kind::Unavailable, Some("the server's disk is full")),
        "25006" => (
            Kind::Unavailable,
            Some("a standby? name the primary in the address; or default_transaction_read_only"),
        ),
        "23505" | "40001" | "40P01" | "55P03" => (Kind::Overloaded, None),
        "57014" | "25P03" | "25P04" => (Kind::Overloaded, None),
        "53200" => (Kind::Overloaded, None),
        "53300" | "53400" => (
            Kind::Unavailable,
            Some("the server takes no more connections; `limits.concurrency` asks for fewer"),
        ),
        "25P02" => (Kind::Bug, None),
        _ if code.starts_with("22") || code.starts_with("23") => (Kind::Refused, None),
        "P0001" => (Kind::Refused, None),
        _ if code.starts_with("42") || code.starts_with("0A") || code.starts_with("3F") => {
            (Kind::Config, None)
        }
        _ => (Kind::Unavailable, None),
    }
}

fn of_driver(error: &tokio_postgres::Error) -> (Kind, Option<&'static str>) {
    let text = text(error);
    // What the driver refuses to even try has no class of its own.
    let config = ["password missing", "invalid configuration", "invalid connection string"];
    if config.iter().any(|word| text.contains(word)) {
        return (Kind::Config, None);
    }
    if text.contains("server does not support TLS") {
        let hint = "switch TLS on in the server, or allow plain text with `insecure: true`";
        return (Kind::Config, Some(hint));
    }
    if text.contains("CaUsedAsEndEntity") {
        let hint =
            "the server's certificate is that of an authority: it needs one that says CA:FALSE";
        return (Kind::Config, Some(hint));
    }
    if text.contains("certificate") {
        let hint = "name the certificate of the server's authority in `sslrootcert`";
        return (Kind::Config, Some(hint));
    }
    (Kind::Unavailable, None)
}

/// The whole chain in one line; of the server's error what a person needs.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return of_db(db);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

fn of_db(db: &DbError) -> String {
    format!("{} ({})", db.message(), db.code().code())
}

/// The text without secrets.
fn scrub(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

/// The number of the line, from 1, that a `COPY` broke at, by the server's context.
pub(super) fn line(error: &tokio_postgres::Error) -> Option<u64> {
    line_of(error.as_db_error()?.where_()?)
}

fn line_of(context: &str) -> Option<u64> {
    let copy = context.lines().find(|line| line.starts_with("COPY "))?;
    let (_, after) = copy.rsplit_once(", line ")?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Why a row was refused, in one line; and the column, where the server names one.
pub(super) fn refusal(error: &tokio_postgres::Error) -> (Option<String>, String) {
    let Some(db) = error.as_db_error() else { return (None, error.to_string()) };
    (db.column().map(str::to_owned), of_db(db))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_class() {
        let kind = |code| of_server(&SqlState::from_code(code)).0;
        for (code, expected) in [
            ("28P01", Kind::Config),
            ("42501", Kind::Config),
            ("42P01", Kind::Config),
            ("23505", Kind::Overloaded),
            ("55P03", Kind::Overloaded),
            ("57014", Kind::Overloaded),
            ("53200", Kind::Overloaded),
            ("53300", Kind::Unavailable),
            ("53100", Kind::Unavailable),
            ("57P03", Kind::Unavailable),
            ("25006", Kind::Unavailable),
            ("22001", Kind::Refused),
            ("23514", Kind::Refused),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn lines_are_found_in_the_context() {
        assert_eq!(line_of("COPY readings, line 7, column v"), Some(7));
        assert_eq!(line_of("PL/pgSQL function f()\nCOPY \"a, line b\", line 12"), Some(12));
        assert_eq!(line_of("SQL statement \"SELECT 1\""), None);
    }

    #[test]
    fn secrets_are_taken_out() {
        let secrets = ["hush".to_owned()];
        assert_eq!(scrub("role hush is not hush".into(), &secrets), "role *** is not ***");
    }
}
