//! Addresses of files that lie in no directory: `s3://bucket/key`, `https://host/path`.

use std::fmt;

use retrofill_core::error::{Error, Result};
use url::{Host, Url};

/// Signs that make a key a pattern.
const SIGNS: [char; 4] = ['*', '?', '{', '['];

/// What kind of store an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Amazon S3, and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// A web server that gives parts of files.
    Http,
}

impl Scheme {
    fn of(word: &str) -> Option<Self> {
        match word {
            "s3" => Some(Scheme::S3),
            "gs" => Some(Scheme::Gs),
            "az" => Some(Scheme::Az),
            "http" | "https" => Some(Scheme::Http),
            _ => None,
        }
    }

    /// What the first part of an address is called.
    pub(super) fn container(self) -> &'static str {
        match self {
            Scheme::S3 | Scheme::Gs => "bucket",
            Scheme::Az => "container",
            Scheme::Http => "host",
        }
    }
}

/// An address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The kind of store.
    pub scheme: Scheme,
    /// Everything before the key, with the `/` at its end.
    pub(super) root: String,
    /// The bucket, container, or host with its port.
    pub(super) container: String,
    /// The object, or a pattern of objects.
    pub(super) key: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.root, self.key)
    }
}

impl Address {
    /// Whether a text is an address, and no path on this machine.
    pub fn is(text: &str) -> bool {
        text.contains("://")
    }

    /// Takes an address apart. What is wrong with it is told without showing it: it may hold a
    /// password.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::config(format!("the address of the files {what}"));
        let (word, rest) = text.split_once("://").ok_or_else(|| wrong("is none"))?;
        let Some(scheme) = Scheme::of(word) else {
            return Err(wrong("begins with a word that is not known").hint(
                "known are `s3://bucket/key`, `gs://bucket/key`, `az://container/key` and \
                 `https://host/path`",
            ));
        };
        let (container, key) = rest.split_once('/').unwrap_or((rest, ""));
        let what = scheme.container();
        if container.contains('@') {
            return Err(wrong("holds a user or an account").hint(match scheme {
                Scheme::Az => "name the account in `options`: `account_name`",
                _ => "it would be kept with the plan; credentials stand in `options`",
            }));
        }
        if container.is_empty() || container.contains(SIGNS) {
            return Err(
                wrong(&format!("names no {what}")).hint(format!("`{word}://{what}/dir/file.csv`"))
            );
        }
        let address = Address {
            scheme,
            root: format!("{word}://{container}/"),
            container: container.to_owned(),
            key: key.to_owned(),
        };
        if scheme == Scheme::Http { address.checked() } else { Ok(address) }
    }

    /// A web server tells no names of files.
    fn checked(self) -> Result<Self> {
        let wrong = |what: &str| Error::config(format!("the address of the files {what}"));
        if self.key.contains(['?', '#']) {
            return Err(wrong("holds a `?` or `#`").hint(
                "a query may hold a token, which would be kept with the plan; give the file an \
                 address without one",
            ));
        }
        if self.key.contains(['*', '[']) || self.key.is_empty() || self.key.ends_with('/') {
            return Err(wrong("is a pattern, and a web server lists no files")
                .hint("name the files: `https://host/dir/{2023,2024}.csv`"));
        }
        Url::parse(&self.root).map_err(|e| wrong("cannot be read").because(e))?;
        Ok(self)
    }

    /// The same with a pattern of all files of these endings, where it names a directory.
    pub(super) fn spread(mut self, endings: &[&str]) -> Self {
        if self.key.is_empty() || self.key.ends_with('/') {
            let endings = match endings {
                [one] => (*one).to_owned(),
                many => format!("{{{}}}", many.join(",")),
            };
            self.key = format!("{}**/*.{endings}", self.key);
        }
        self
    }
}

/// Whether a key stands for several objects.
pub(super) fn is_pattern(key: &str) -> bool {
    key.contains(SIGNS)
}

/// The directories of a pattern that are no pattern.
pub(super) fn fixed(pattern: &str) -> &str {
    let end = pattern.find(SIGNS).unwrap_or(pattern.len());
    pattern[..end].rfind('/').map_or("", |end| &pattern[..end])
}

/// The texts that `{a,b}` stand for.
pub(super) fn alternatives(text: &str) -> Result<Vec<String>> {
    let Some((before, rest)) = text.split_once('{') else { return Ok(vec![text.to_owned()]) };
    let Some((inside, behind)) = rest.split_once('}').filter(|(i, _)| !i.contains('{')) else {
        return Err(Error::config(format!("`{text}` is not a pattern")));
    };
    let mut out = Vec::new();
    for tail in alternatives(behind)? {
        out.extend(inside.split(',').map(|word| format!("{before}{word}{tail}")));
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// Whether an address of a server is without TLS and leads out of this machine.
pub(super) fn is_open(endpoint: &str) -> Result<bool> {
    let wrong = |what: &str| {
        Error::config(format!("`endpoint` {what}"))
            .hint("`https://host:port`, as the store's provider names it")
    };
    let url = Url::parse(endpoint).map_err(|e| wrong("cannot be read").because(e))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password"));
    }
    let near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(wrong("names no host")),
    };
    match url.scheme() {
        "https" => Ok(false),
        "http" => Ok(!near),
        _ => Err(wrong("begins with neither `https://` nor `http://`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let a = Address::parse("s3://archive/meters/*.csv").unwrap();
        assert_eq!((a.root.as_str(), a.key.as_str()), ("s3://archive/", "meters/*.csv"));
        assert_eq!(a.to_string(), "s3://archive/meters/*.csv");
        let all = Address::parse("gs://archive/m/").unwrap().spread(&["csv", "csv.gz"]);
        assert_eq!(all.key, "m/**/*.{csv,csv.gz}");
        assert_eq!(Address::parse("az://c").unwrap().spread(&["avro"]).key, "**/*.avro");
        assert_eq!(fixed("a/b/*.csv"), "a/b");
        assert_eq!(fixed("*.csv"), "");
        assert_eq!(alternatives("a/{1,2}{x,y}.csv").unwrap().len(), 4);
    }

    #[test]
    fn what_is_none_is_not_shown() {
        for (text, what) in [
            ("ftp://hush/x", "begins with a word"),
            ("s3:///x", "names no bucket"),
            ("az://c@hush/x", "holds a user or an account"),
            ("https://u:hush@h/x.csv", "holds a user"),
            ("https://h/x.csv?sig=hush", "holds a `?`"),
            ("https://h/hush*.csv", "is a pattern"),
            ("https://h/", "is a pattern"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.message().contains(what), "{text}: {error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn only_this_machine_is_near() {
        for (endpoint, open) in [
            ("https://s3.example.org", false),
            ("http://127.0.0.1:9000", false),
            ("http://localhost:9000", false),
            ("http://[::1]:9000", false),
            ("http://10.0.0.1:9000", true),
            ("http://localhost.example.org", true),
        ] {
            assert_eq!(is_open(endpoint).unwrap(), open, "{endpoint}");
        }
        for endpoint in ["host", "ftp://host", "https://u:p@host"] {
            assert!(is_open(endpoint).is_err(), "{endpoint}");
        }
    }
}
