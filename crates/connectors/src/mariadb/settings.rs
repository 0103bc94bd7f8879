//! What the spec says about a server and a table.

use std::fmt;
use std::path::Path;

use percent_encoding::percent_decode_str;
use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::{Host, Url};

/// The port that MariaDB listens on unless it is told another.
const PORT: u16 = 3306;

/// What an address begins with.
const SCHEMES: [&str; 2] = ["mariadb://", "mysql://"];

/// What the spec says about a table.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MariadbSettings {
    /// The server and database: `mariadb://user:password@host:port/database`. A secret.
    pub url: String,
    /// The table, in that database.
    pub table: String,
    /// Allow a connection without TLS, or to a server that proves nothing, over a network.
    #[serde(default)]
    pub insecure: bool,
    /// A file with the certificates that the server's is checked against, instead of the system's.
    #[serde(default)]
    pub sslrootcert: Option<String>,
    /// Columns that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl fmt::Debug for MariadbSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MariadbSettings({})", self.label())
    }
}

/// A URL taken apart.
#[derive(Clone)]
pub(super) struct Address {
    /// A name or a number, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) table: Option<String>,
    pub(super) sslrootcert: Option<String>,
    /// The way never leaves this machine.
    pub(super) local: bool,
    /// The server's socket, in place of host and port.
    pub(super) socket: Option<String>,
}

impl Address {
    /// Reads a URL. What is wrong is told without showing it: it holds a password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::config(format!("the address of the MariaDB server {what}"))
                .hint("mariadb://user:password@host:3306/database")
        };
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("does not begin with `mariadb://`"));
        }
        let parsed = Url::parse(url).map_err(|_| wrong("cannot be read"))?;
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
            text.map_err(|_| wrong("holds a value that is not UTF-8"))
        };
        let (mut table, mut sslrootcert, mut socket) = (None, None, None);
        for (name, value) in parsed.query_pairs() {
            match &*name {
                "table" => table = Some(value.into_owned()),
                "sslrootcert" => sslrootcert = Some(value.into_owned()),
                "socket" => socket = Some(value.into_owned()),
                _ => {
                    return Err(wrong("has an option that is not known")
                        .hint("`table`, `sslrootcert` and `socket` are options of the address"));
                }
            }
        }
        let (host, near) = match parsed.host() {
            // A scheme that is not of the web has its hosts as they are written.
            Some(Host::Domain(name)) => {
                let name = decoded(name)?;
                let number = name.parse::<std::net::IpAddr>();
                let near = name == "localhost" || number.is_ok_and(|ip| ip.is_loopback());
                (name, near)
            }
            Some(Host::Ipv4(ip)) => (ip.to_string(), ip.is_loopback()),
            Some(Host::Ipv6(ip)) => (ip.to_string(), ip.is_loopback()),
            None => ("localhost".into(), true),
        };
        let database = decoded(parsed.path().trim_start_matches('/'))?;
        if database.is_empty() {
            return Err(wrong("names no database"));
        }
        Ok(Address {
            host,
            port: parsed.port().unwrap_or(PORT),
            user: Some(decoded(parsed.username())?).filter(|user| !user.is_empty()),
            password: parsed.password().map(decoded).transpose()?,
            database,
            table,
            sslrootcert,
            local: near || socket.is_some(),
            socket,
        })
    }
}

impl MariadbSettings {
    /// Whether a text names a server, or tries to.
    pub fn is_address(text: &str) -> bool {
        ["mariadb:", "mysql:"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Settings from a URL that names the table too: `mariadb://host/database?table=readings`.
    pub fn from_url(url: &str) -> Result<Self> {
        let table = Address::parse(url)?.table.ok_or_else(|| {
            Error::config("the address of the MariaDB server names no table")
                .hint("mariadb://host/database?table=readings")
        })?;
        Self::new(url.into(), table)
    }

    /// Settings with everything else at its default. An error of kind `Config` for an address or a
    /// table that cannot be one.
    pub fn new(url: String, table: String) -> Result<Self> {
        let settings =
            MariadbSettings { url, table, insecure: false, sslrootcert: None, without: Vec::new() };
        settings.check()?;
        Ok(settings)
    }

    /// Whether address and table can be read.
    pub fn check(&self) -> Result<()> {
        let address = Address::parse(&self.url)?;
        if self.table.is_empty() || self.table.contains('\0') {
            return Err(Error::config("the name of the table is empty or holds a NUL"));
        }
        if address.table.is_some_and(|table| table != self.table) {
            return Err(Error::config("the address names another table than `table` does"));
        }
        Ok(())
    }

    /// What decides which rows are meant: never user, password or how the way there is secured.
    pub fn identity(&self) -> Result<Value> {
        let Address { host, port, database, socket, .. } = Address::parse(&self.url)?;
        let mut identity = json!({ "host": host, "port": port, "database": database });
        identity["table"] = json!(self.table);
        if !self.without.is_empty() {
            identity["without"] = json!(self.without);
        }
        if let Some(socket) = socket {
            identity["socket"] = json!(socket);
        }
        Ok(identity)
    }

    /// For people: `MariaDB db.example.org/metrics readings`.
    pub fn label(&self) -> String {
        match Address::parse(&self.url) {
            Ok(address) => format!("MariaDB {}/{} {}", address.host, address.database, self.table),
            Err(_) => "MariaDB".into(),
        }
    }

    /// The same with a path of certificates that starts from the spec's directory.
    pub(super) fn based_at(mut self, base_dir: &Path) -> Result<Self> {
        let given = self.sslrootcert.take().or(Address::parse(&self.url)?.sslrootcert);
        self.sslrootcert = given.map(|path| base_dir.join(path).to_string_lossy().into_owned());
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_no_part_of_the_identity() {
        let of = |url: &str| MariadbSettings::from_url(url).unwrap();
        let a = of("mariadb://me:s3cr%2Ft@db:3307/m?table=r");
        let b = of("mysql://other:word@db:3307/m?table=r");
        assert_eq!(a.identity().unwrap(), b.identity().unwrap());
        assert_ne!(a.identity().unwrap(), of("mysql://db/m?table=r").identity().unwrap());
        assert_eq!(a.label(), "MariaDB db/m r");
        assert_eq!(Address::parse(&a.url).unwrap().password.as_deref(), Some("s3cr/t"));
        let shown = format!("{a:?} {} {}", a.identity().unwrap(), a.label());
        assert!(!shown.contains("s3cr"), "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        for url in [
            "postgres://a:hush@h/d",
            "mariadb://a:hush@h:port/d",
            "mariadb://a:hush@h",
            "mariadb://a:hush@h/d?ssl=hush",
        ] {
            let Err(error) = Address::parse(url) else { panic!("{url}") };
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn this_machine_is_known() {
        let local = |url: &str| Address::parse(url).unwrap().local;
        for near in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(local(&format!("mariadb://{near}/d")), "{near}");
        }
        assert!(local("mariadb://h/d?socket=/run/mysqld/mysqld.sock"));
        assert!(!local("mariadb://db.example.org/d") && !local("mariadb://10.0.0.1/d"));
    }
}
