//! What the driver and the server say, put into classes.

use mysql_async::{DriverError, Error as Said, IoError};
use retrofill_core::error::{Error, Kind};

/// A failure with its class. `what` says what was tried and where; the password is taken out of
/// the cause.
pub(super) fn classify(said: &Said, what: &str, password: Option<&str>) -> Error {
    let (kind, hint) = match said {
        Said::Server(server) => of_server(server.code),
        Said::Driver(driver) => of_driver(driver),
        Said::Io(IoError::Tls(_)) => {
            (Kind::Config, "name the certificate of the server's authority in `sslrootcert`")
        }
        Said::Io(IoError::Io(io)) if io.to_string().contains("ertificate") => {
            (Kind::Config, "name the certificate of the server's authority in `sslrootcert`")
        }
        Said::Io(_) | Said::Other(_) => (Kind::Unavailable, ""),
        Said::Url(_) => (Kind::Config, ""),
    };
    let mut text = match said {
        Said::Server(server) => format!("{} ({})", server.message, server.code),
        other => other.to_string(),
    };
    if let Some(password) = password.filter(|word| !word.is_empty()) {
        text = text.replace(password, "***");
    }
    let error = Error::new(kind, what).because(text);
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// The server's own number of an error; none where it did not answer.
pub(super) fn code(said: &Said) -> Option<u16> {
    match said {
        Said::Server(server) => Some(server.code),
        _ => None,
    }
}

fn of_server(code: u16) -> (Kind, &'static str) {
    match code {
        1044 | 1045 | 1698 => {
            (Kind::Config, "the user, the password or the host it comes from is not let in")
        }
        1049 => (Kind::Config, "the address names a database that is not there"),
        1142 | 1143 | 1227 => {
            (Kind::Config, "the user lacks a right; `retrofill grants` prints what is needed")
        }
        1146 => (Kind::Config, "`source.mariadb.table` is taken byte for byte"),
        // Columns that are not there (any more), statements that this server does not know.
        1054 | 1064 | 1109 | 1305 => (Kind::Config, ""),
        3159 => (Kind::Config, "the server lets nobody in without TLS"),
        1040 | 1203 | 1226 => (Kind::Overloaded, "the server takes no more connections"),
        1205 | 1213 | 1969 | 1317 | 3024 => (Kind::Overloaded, ""),
        1021 | 1114 | 3 | 28 => (Kind::Unavailable, "the server's disk is full"),
        _ => (Kind::Unavailable, ""),
    }
}

fn of_driver(driver: &DriverError) -> (Kind, &'static str) {
    match driver {
        DriverError::NoClientSslFlagFromServer => {
            (Kind::Config, "switch TLS on in the server, or allow plain text with `insecure: true`")
        }
        DriverError::UnknownAuthPlugin { .. }
        | DriverError::MysqlOldPasswordDisabled
        | DriverError::CleartextPluginDisabled => {
            (Kind::Config, "give the user a password that is checked by `mysql_native_password`")
        }
        DriverError::ConnectionClosed | DriverError::PacketOutOfOrder => (Kind::Unavailable, ""),
        DriverError::PacketTooLarge => {
            (Kind::Config, "a row is larger than the server's `max_allowed_packet`")
        }
        _ => (Kind::Bug, ""),
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    #[test]
    fn codes_have_their_class() {
        for (code, kind) in [
            (1045, Kind::Config),
            (1146, Kind::Config),
            (1142, Kind::Config),
            (1040, Kind::Overloaded),
            (1205, Kind::Overloaded),
            (1053, Kind::Unavailable),
        ] {
            assert_eq!(of_server(code).0, kind, "{code}");
        }
    }

    #[test]
    fn a_password_is_taken_out() {
        let said = Said::Server(ServerError {
            code: 1045,
            message: "Access denied for hush".into(),
            state: "28000".into(),
        });
        let error = classify(&said, "cannot connect", Some("hush"));
        assert_eq!(error.to_string(), "cannot connect: Access denied for *** (1045)");
    }
}
