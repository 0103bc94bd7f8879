//! What the spec says about a server and a table.

use std::fmt;
use std::path::Path;
use std::str::FromStr as _;

use percent_encoding::percent_decode_str;
use retrofill_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::config::{Config, Host};

use super::sql::TableName;

/// What the spec says about a PostgreSQL table.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// The server and database: `postgres://user:password@host:port/database`. A secret.
    pub url: String,
    /// The table: `schema.table`.
    pub table: String,
    /// Allow a connection without TLS, or to a server that proves nothing, over a network.
    #[serde(default)]
    pub insecure: bool,
    /// A file with the certificates that the server's is checked against, instead of the system's.
    #[serde(default)]
    pub sslrootcert: Option<String>,
    /// Partitions that the rows need are created, one for each month.
    #[serde(default)]
    pub create_partitions: bool,
    /// As a source: all reads of a run look at one state of the table.
    #[serde(default)]
    pub snapshot: bool,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSettings({})", self.label())
    }
}

/// A URL taken apart.
pub(super) struct Address {
    pub(super) config: Config,
    /// The table, where the URL names one.
    pub(super) table: Option<String>,
    pub(super) sslrootcert: Option<String>,
    /// `sslmode=disable` stands in it.
    pub(super) plain: bool,
    /// A `sslmode` that asks for TLS does.
    pub(super) encrypted: bool,
}

impl Address {
    /// Reads a URL. What is wrong is told without showing it: it holds a password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::config(format!("the address of the PostgreSQL server {what}"))
                .hint("postgres://user:password@host:5432/database")
        };
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("does not begin with `postgres://`"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut table, mut sslrootcert) = (None, None);
        let (mut plain, mut encrypted) = (false, false);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value)
                .decode_utf8()
                .map_err(|_| wrong("holds a value that is not UTF-8"))?
                .into_owned();
            match (name, value.as_str()) {
                ("table", _) => table = Some(value),
                ("sslrootcert", _) => sslrootcert = Some(value),
                ("sslmode", "verify-full" | "verify-ca" | "require") => encrypted = true,
                // What is left out means: by the rules of this program.
                ("sslmode", "prefer" | "allow") => {}
                ("sslmode", "disable") => plain = true,
                ("sslmode", _) => return Err(wrong("has an unknown `sslmode`")),
                _ => rest.push(pair),
            }
        }
        let kept = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        // The driver's own error may quote what it could not read.
        let config = Config::from_str(&format!("{base}{kept}")).map_err(|_| {
            wrong("cannot be read").hint(
                "postgres://user:password@host:5432/database; in a password `@`, `/`, `:` and `%` \
                 are written as %40, %2F, %3A and %25",
            )
        })?;
        Ok(Address { config, table, sslrootcert, plain, encrypted })
    }

    /// Host, port and database: what decides which table is meant.
    fn places(&self) -> (Vec<String>, Vec<u16>, Option<&str>) {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts = self.config.get_hosts().iter().map(host).collect();
        let database = self.config.get_dbname().or_else(|| self.config.get_user());
        (hosts, self.config.get_ports().to_vec(), database)
    }
}

impl PostgresSettings {
    /// Settings from a URL that names the table too: `postgres://h/db?table=public.readings`.
    pub fn from_url(url: &str) -> Result<Self> {
        let table = Address::parse(url)?.table.ok_or_else(|| {
            Error::config("the address of the PostgreSQL server names no table")
                .hint("postgres://host/database?table=public.readings")
        })?;
        Self::new(url.into(), table)
    }

    /// Settings with everything else at its default. An error of kind `Config` for an address or
    /// a table that cannot be one.
    pub fn new(url: String, table: String) -> Result<Self> {
        let settings = PostgresSettings {
            url,
            table,
            insecure: false,
            sslrootcert: None,
            create_partitions: false,
            snapshot: false,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Whether address and table can be read.
    pub fn check(&self) -> Result<()> {
        let address = Address::parse(&self.url)?;
        TableName::parse(&self.table)?;
        if address.table.as_ref().is_some_and(|table| *table != self.table) {
            return Err(Error::config("the address names another table than `table` does"));
        }
        Ok(())
    }

    /// The table.
    pub fn table(&self) -> Result<TableName> {
        TableName::parse(&self.table)
    }

    /// What decides which rows are meant: never user, password or how the way there is secured.
    pub fn identity(&self) -> Result<Value> {
        let address = Address::parse(&self.url)?;
        let (hosts, ports, database) = address.places();
        Ok(json!({
            "host": hosts, "port": ports, "database": database,
            "table": self.table()?.to_string(),
        }))
    }

    /// For people: `PostgreSQL db.example.org/metrics public.readings`.
    pub fn label(&self) -> String {
        let Ok(address) = Address::parse(&self.url) else { return "PostgreSQL".into() };
        let (hosts, _, database) = address.places();
        let table = self.table().map_or_else(|_| self.table.clone(), |t| t.to_string());
        let host = hosts.first().map_or("localhost", String::as_str);
        format!("PostgreSQL {host}/{} {table}", database.unwrap_or_default())
    }

    /// The same with a path of certificates that starts from the spec's directory.
    pub(super) fn based_at(mut self, base_dir: &Path) -> Result<Self> {
        let given = self.sslrootcert.take().or(Address::parse(&self.url)?.sslrootcert);
        self.sslrootcert = given.map(|path| base_dir.join(path).to_string_lossy().into_owned());
        Ok(self)
    }

    /// Every text that must never be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        let Ok(address) = Address::parse(&self.url) else { return vec![self.url.clone()] };
        let password = address.config.get_password().map(String::from_utf8_lossy);
        let mut secrets: Vec<String> =
            password.into_iter().map(std::borrow::Cow::into_owned).collect();
        let authority = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let login = authority.split(['/', '?']).next().and_then(|a| a.rsplit_once('@'));
        let encoded = login.and_then(|(login, _)| login.split_once(':')).map(|(_, p)| p);
        secrets.extend(encoded.map(str::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_no_part_of_the_identity() {
        let of = |url: &str| PostgresSettings::from_url(url).unwrap();
        let a = of("postgres://me:s3cr%2Ft@db:5433/m?table=public.r&sslmode=verify-full");
        let b = of("postgresql://other:word@db:5433/m?table=r");
        assert_eq!(a.identity().unwrap(), b.identity().unwrap());
        assert_ne!(a.identity().unwrap(), of("postgres://db:5433/n?table=r").identity().unwrap());
        assert_eq!(a.label(), "PostgreSQL db/m public.r");
        let shown = format!("{a:?} {} {}", a.identity().unwrap(), a.label());
        assert!(!shown.contains("s3cr"), "{shown}");
        assert_eq!(a.secrets(), ["s3cr/t", "s3cr%2Ft"]);
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        for url in ["mysql://a:hush@h/d", "postgres://a:hush@h:port/d", "postgres://a:hush@h/%ff"] {
            let Err(error) = Address::parse(url) else { panic!("{url}") };
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
        let error = PostgresSettings::from_url("postgres://h/d").unwrap_err();
        assert!(error.message().contains("names no table"));
    }

    #[test]
    fn a_socket_is_a_place_too() {
        let url = "postgres:///m?host=/run/postgresql&table=r";
        let settings = PostgresSettings::from_url(url).unwrap();
        assert_eq!(settings.label(), "PostgreSQL /run/postgresql/m public.r");
    }
}
