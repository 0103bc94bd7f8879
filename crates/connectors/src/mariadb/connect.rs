//! The way to a server: who may be spoken to in plain text, what a session begins with, and
//! connections that are used again.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error as Said, Opts, OptsBuilder, SslOpts};
use retrofill_core::error::{Error, Result};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;

use super::fault;
use super::settings::{Address, MariadbSettings};

/// A server that does not answer for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections that are kept.
const KEPT: usize = 8;

/// Nothing that a user or an administrator has set before counts: texts come as UTF-8 and times as
/// UTC, values mean the same everywhere, a slice is one state of the table, nothing is ever
/// written, and a reader that is kept waiting by the target is not cut off.
const SESSION: [&str; 2] = [
    "SET NAMES utf8mb4, SESSION time_zone = '+00:00', sql_mode = '', lock_wait_timeout = 10, \
     net_write_timeout = 3600, sql_select_limit = DEFAULT",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
];

/// A server, with connections that are used again.
pub(super) struct Server {
    opts: Opts,
    /// Where the server cannot do as the first say and the spec allows less.
    plain: Option<Opts>,
    password: Option<String>,
    label: String,
    idle: Mutex<Vec<Conn>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.label)
    }
}

impl Server {
    /// Prepares the way; nothing is connected yet. An error of kind `Config` for an address that
    /// cannot be used safely.
    pub(super) fn open(settings: &MariadbSettings) -> Result<Self> {
        settings.check()?;
        let address = Address::parse(&settings.url)?;
        let tls = tls(&address, settings)?;
        let plain = OptsBuilder::default()
            .ip_or_hostname(address.host)
            .tcp_port(address.port)
            .user(address.user)
            .pass(address.password.clone())
            .db_name(Some(address.database))
            .socket(address.socket)
            // Only where the address names one: the driver would else go over to it by itself.
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)));
        Ok(Server {
            opts: plain.clone().ssl_opts(tls).into(),
            plain: settings.insecure.then(|| plain.into()),
            password: address.password,
            label: settings.label(),
            idle: Mutex::default(),
        })
    }

    /// A new connection.
    async fn fresh(&self) -> Result<Conn> {
        let what = format!("cannot connect to {}", self.label);
        let open = async {
            let opened = Conn::new(self.opts.clone()).await;
            let no_tls =
                |e: &Said| matches!(e, Said::Driver(DriverError::NoClientSslFlagFromServer));
            match &self.plain {
                Some(plain) if opened.as_ref().is_err_and(no_tls) => Conn::new(plain.clone()).await,
                _ => opened,
            }
        };
        let Ok(opened) = tokio::time::timeout(CONNECT_TIMEOUT, open).await else {
            let seconds = CONNECT_TIMEOUT.as_secs();
            let what = format!("{what}: it does not answer within {seconds} s");
            return Err(Error::unavailable(what));
        };
        let mut conn = opened.map_err(|e| self.fault(&e, &what))?;
        for sql in SESSION {
            conn.query_drop(sql).await.map_err(|e| self.fault(&e, &what))?;
        }
        Ok(conn)
    }

    /// A connection that has just answered.
    pub(super) async fn connection(&self) -> Result<Conn> {
        while let Some(mut conn) = self.idle() {
            if conn.ping().await.is_ok() {
                return Ok(conn);
            }
        }
        self.fresh().await
    }

    fn idle(&self) -> Option<Conn> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Takes back a connection whose answers were read to their end.
    pub(super) fn keep(&self, conn: Conn) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT && !conn.is_disconnected() {
            idle.push(conn);
        }
    }

    /// A failure while the table is read.
    pub(super) fn unreadable(&self, said: &Said) -> Error {
        self.fault(said, &format!("cannot read from {}", self.label))
    }

    fn fault(&self, said: &Said, what: &str) -> Error {
        fault::classify(said, what, self.password.as_deref())
    }

    /// For messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }
}

/// How the way is secured; none is plain text, which never leaves this machine unless it is asked
/// for.
fn tls(address: &Address, settings: &MariadbSettings) -> Result<Option<SslOpts>> {
    let file = settings.sslrootcert.as_deref();
    if address.local && file.is_none() {
        return Ok(None);
    }
    // The driver takes what the process has agreed on. That it is there already is as good.
    let _ = aws_lc_rs::default_provider().install_default();
    let opts = SslOpts::default().with_disable_built_in_roots(true);
    if settings.insecure {
        // Secured against listeners, but not against a false server.
        let any = opts.with_danger_accept_invalid_certs(true);
        return Ok(Some(any.with_danger_skip_domain_validation(true)));
    }
    let roots: Vec<Vec<u8>> = if let Some(path) = file {
        let pem = std::fs::read(path).map_err(|e| {
            Error::config(format!("the certificates in {path} cannot be read")).because(e)
        })?;
        vec![pem]
    } else {
        let mut found = rustls_native_certs::load_native_certs().certs;
        // The driver gives up at the first that it cannot use; systems have old ones.
        found.retain(|c| RootCertStore::empty().add(c.clone()).is_ok());
        found.into_iter().map(|c| c.as_ref().to_vec()).collect()
    };
    if roots.is_empty() {
        return Err(Error::config("the system holds no certificate of an authority")
            .hint("name a file with one in `sslrootcert`"));
    }
    Ok(Some(opts.with_root_certs(roots.into_iter().map(Into::into).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_this_machine() {
        let open = |url: &str, insecure| {
            let settings = MariadbSettings { insecure, ..MariadbSettings::from_url(url).unwrap() };
            Server::open(&settings).unwrap().opts.ssl_opts().cloned()
        };
        for near in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(open(&format!("mariadb://{near}/d?table=t"), false).is_none(), "{near}");
        }
        let far = open("mariadb://db.example.org/d?table=t", false).unwrap();
        assert!(!far.accept_invalid_certs() && !far.skip_domain_validation());
        assert!(far.disable_built_in_roots() && !far.root_certs().is_empty());
        assert!(open("mariadb://db.example.org/d?table=t", true).unwrap().accept_invalid_certs());
    }
}
