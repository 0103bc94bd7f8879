//! The way to a server: who may be spoken to in plain text, and connections that are used again.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use retrofill_core::error::{Error, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres::{Client, NoTls};

use super::fault;
use super::settings::{Address, PostgresSettings};
use super::tls::Tls;

/// By this name the server's views show our sessions.
pub const APPLICATION: &str = "retrofill";

/// A server that does not answer for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections that are kept.
const KEPT: usize = 8;

/// A connection. Where it is dropped, it is closed at once: what waits to be sent is not waited
/// for, so that a way that has become slow or silent holds nobody up.
pub(super) struct Session {
    client: Client,
    serving: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A server, with connections that are used again.
pub(super) struct Server {
    config: Config,
    /// None: plain text.
    tls: Option<Tls>,
    secrets: Vec<String>,
    label: String,
    idle: Mutex<Vec<Session>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.label)
    }
}

/// A connection to the server that these settings name, under the rules for TLS. `base_dir` is the
/// spec's directory.
pub async fn connect(settings: &PostgresSettings, base_dir: &Path) -> Result<Client> {
    let server = Server::open(&settings.clone().based_at(base_dir)?)?;
    Ok(server.connected().await?.0)
}

impl Server {
    /// Prepares the way; nothing is connected yet. An error of kind `Config` for an address that
    /// cannot be used safely.
    pub(super) fn open(settings: &PostgresSettings) -> Result<Self> {
        settings.check()?;
        let address = Address::parse(&settings.url)?;
        let (plain, encrypted) = (address.plain, address.encrypted);
        let mut config = address.config;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A peer that is gone must be noticed: a lost commit is asked for then.
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_secs(30));
        let local = config.get_hosts().iter().all(is_local)
            && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        let root = settings.sslrootcert.as_deref();
        if plain && !local && !settings.insecure {
            return Err(Error::config("`sslmode=disable` sends everything in plain text")
                .hint("leave it out, or allow it with `insecure: true`"));
        }
        // There is no TLS on a socket of this machine.
        let socket = config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)))
            && config.get_hostaddrs().is_empty();
        let wanted = root.is_some() || (encrypted && !socket);
        let tls = if plain || (local && !wanted) {
            config.ssl_mode(SslMode::Disable);
            None
        } else if settings.insecure {
            config.ssl_mode(SslMode::Prefer);
            Some(Tls::unverified()?)
        } else {
            config.ssl_mode(SslMode::Require);
            Some(Tls::verified(root)?)
        };
        Ok(Server {
            config,
            tls,
            secrets: settings.secrets(),
            label: settings.label(),
            idle: Mutex::default(),
        })
    }

    /// A new connection.
    pub(super) async fn fresh(&self) -> Result<Session> {
        let (client, serving) = self.connected().await?;
        Ok(Session { client, serving })
    }

    /// A new connection, and what serves it. The driver's own limit is for the first packet alone:
    /// a server, or what stands before it, may fall silent after that.
    async fn connected(&self) -> Result<(Client, JoinHandle<Result<(), tokio_postgres::Error>>)> {
        let what = format!("cannot connect to {}", self.label);
        let patience = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let way = async {
            Ok(match &self.tls {
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    (client, tokio::spawn(connection))
                }
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    (client, tokio::spawn(connection))
                }
            })
        };
        match tokio::time::timeout(2 * patience, way).await {
            Ok(way) => way.map_err(|e| self.fault(&e, &what)),
            Err(_) => Err(Error::unavailable(format!("{what}: it does not answer"))),
        }
    }

    /// An idle connection, if there is one that is not known to be broken.
    pub(super) fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(client) = idle.pop() {
            if !client.is_closed() {
                return Some(client);
            }
        }
        None
    }

    /// Takes back a connection that is in no transaction.
    pub(super) fn keep(&self, client: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT && !client.is_closed() {
            idle.push(client);
        }
    }

    /// A failure of the driver or the server with its class, without secrets.
    pub(super) fn fault(&self, error: &tokio_postgres::Error, what: &str) -> Error {
        fault::classify(error, what, &self.secrets)
    }

    /// For messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, insecure: bool) -> Result<(SslMode, bool)> {
        let mut settings = PostgresSettings::from_url(url)?;
        settings.insecure = insecure;
        let server = Server::open(&settings)?;
        Ok((server.config.get_ssl_mode(), server.tls.is_some()))
    }

    #[test]
    fn plain_text_stays_on_this_machine_unless_told() {
        for local in ["localhost", "127.0.0.1", "[::1]"] {
            let url = format!("postgres://{local}/d?table=t");
            assert_eq!(open(&url, false).unwrap(), (SslMode::Disable, false), "{local}");
        }
        assert!(!open("postgres:///d?host=/run&table=t", false).unwrap().1);
        let far = "postgres://db.example.org/d?table=t";
        assert_eq!(open(far, false).unwrap(), (SslMode::Require, true));
        assert_eq!(open(far, true).unwrap(), (SslMode::Prefer, true));
        let asked = format!("{far}&sslmode=prefer");
        assert_eq!(open(&asked, false).unwrap().0, SslMode::Require, "never weaker than the rule");
        let plain = format!("{far}&sslmode=disable");
        assert!(open(&plain, false).unwrap_err().message().contains("plain text"));
        assert_eq!(open(&plain, true).unwrap(), (SslMode::Disable, false));
    }
}
