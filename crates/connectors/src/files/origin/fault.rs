//! What went wrong with a store, in our words and without its secrets.

use std::error::Error as Cause;
use std::fmt;

use object_store::Error as Driver;
use retrofill_core::error::{Error, Kind, Result};

use super::address::{Address, Scheme};
use crate::files::stale;

/// Where machines of a cloud ask who they are.
const METADATA: [&str; 3] = ["169.254.169.254", "169.254.170.2", "metadata.google.internal"];

/// Turns errors of a store into ours.
#[derive(Clone)]
pub(super) struct Faults {
    scheme: Scheme,
    root: String,
    secrets: Vec<String>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.root)
    }
}

/// What the store said.
#[derive(Debug)]
struct Said(String);

/// What a store said that lets nobody in: the source has not changed, whoever reads it may not.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cause for Said {}
impl Cause for Refusal {}

/// Whether it is about rights or settings, and not about what lies in the store.
pub(crate) fn is_refusal(error: &Error) -> bool {
    Cause::source(error).is_some_and(<dyn Cause>::is::<Refusal>)
}

impl Faults {
    pub(super) fn new(address: &Address) -> Self {
        Faults { scheme: address.scheme, root: address.root.clone(), secrets: Vec::new() }
    }

    /// Texts that are never shown.
    pub(super) fn hide(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.secrets.extend(secrets.into_iter().filter(|s| !s.is_empty()));
    }

    /// A store that cannot be opened with its settings.
    pub(super) fn unbuilt(&self, e: &Driver) -> Error {
        Error::config(format!("`{}` cannot be opened with these options", self.root))
            .because(Refusal(self.told(e)))
            .hint(self.credentials())
            .about("source")
    }

    /// What is wrong where files are looked for.
    pub(super) fn looking(&self, name: &str, e: &Driver) -> Error {
        if status(e) == Some(404) || matches!(e, Driver::NotFound { .. }) {
            let what = match (body(&e.to_string(), "Code"), self.scheme) {
                (Some("NoSuchBucket" | "ContainerNotFound"), scheme) => {
                    format!("there is no {} `{}`", scheme.container(), self.root)
                }
                (_, Scheme::Http) => format!("there is no file `{name}`"),
                _ => format!("there is no object `{name}`"),
            };
            return Error::config(what).because(Said(self.told(e))).hint(format!(
                "look whether name and path are right{}",
                match self.scheme {
                    Scheme::S3 => ", and `options.endpoint` and `options.region`",
                    Scheme::Gs => ", and `options.endpoint`",
                    Scheme::Az => ", and `options.account_name`",
                    Scheme::Http => "",
                }
            ));
        }
        self.other(name, e)
    }

    /// What is wrong with a file that was there.
    pub(super) fn reading(&self, name: &str, e: &Driver) -> Error {
        match (e, status(e)) {
            (Driver::NotFound { .. }, _) | (_, Some(404)) => stale(name, "is gone"),
            (Driver::Precondition { .. } | Driver::NotModified { .. }, _) | (_, Some(412)) => {
                stale(name, "was replaced")
            }
            (_, Some(416)) => stale(name, "is shorter than planned"),
            _ => self.other(name, e),
        }
    }

    fn other(&self, name: &str, e: &Driver) -> Error {
        let (text, said) = (e.to_string(), self.told(e));
        if METADATA.iter().any(|host| text.contains(host)) {
            return Error::config(format!("no credentials were found to read `{name}`"))
                .because(Refusal("nor does a cloud give any to this machine".into()))
                .hint(self.credentials());
        }
        if text.contains("non-partial response") || text.contains("Content-Length Header missing") {
            return Error::config(format!("the server of `{name}` gives no parts of files"))
                .because(Refusal(said))
                .hint("download the file and read it from a local path");
        }
        match (e, status(e)) {
            (Driver::PermissionDenied { .. } | Driver::Unauthenticated { .. }, _)
            | (_, Some(401 | 403)) => Error::config(format!("may not read `{name}`"))
                .because(Refusal(said))
                .hint(format!("{}; {}", self.rights(), self.credentials())),
            (_, Some(429)) => {
                Error::new(Kind::Overloaded, format!("cannot read `{name}`")).because(Said(said))
            }
            (_, Some(503)) if text.contains("SlowDown") || text.contains("ServerBusy") => {
                Error::new(Kind::Overloaded, format!("cannot read `{name}`")).because(Said(said))
            }
            _ if text.contains("redirect without LOCATION") => {
                Error::config(format!("`{name}` lies in another region"))
                    .because(Refusal(said))
                    .hint("name the bucket's region: `options: { region: eu-central-1 }`")
            }
            (_, Some(300..=499)) => Error::config(format!("cannot read `{name}`"))
                .because(Refusal(said))
                .hint("the store refuses the request: look at the address and `options`"),
            _ => Error::unavailable(format!("cannot read `{name}`"))
                .because(Said(said))
                .hint("is the store there, and reachable from this machine?"),
        }
    }

    /// What a user needs to be allowed.
    fn rights(&self) -> &'static str {
        match self.scheme {
            Scheme::S3 => {
                "needed are `s3:GetObject` on the objects and `s3:ListBucket` on the bucket"
            }
            Scheme::Gs => "needed are `storage.objects.get` and `storage.objects.list`",
            Scheme::Az => {
                "needed is the role `Storage Blob Data Reader`, or a key with read and list"
            }
            Scheme::Http => "the server does not give this file to everybody",
        }
    }

    fn credentials(&self) -> &'static str {
        match self.scheme {
            Scheme::S3 => {
                "credentials come from `options` (`access_key_id`, `secret_access_key`), from \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the machine's role; \
                 `skip_signature: true` needs none"
            }
            Scheme::Gs => {
                "credentials come from `options` (`application_credentials`), from \
                 GOOGLE_APPLICATION_CREDENTIALS, or from the machine; `skip_signature: true` \
                 needs none"
            }
            Scheme::Az => {
                "the account and its credentials come from `options` (`account_name`, \
                 `account_key`, `sas_key`), from AZURE_STORAGE_ACCOUNT_NAME and \
                 AZURE_STORAGE_ACCOUNT_KEY, or from the machine's identity"
            }
            Scheme::Http => "files that need a login cannot be read by this version",
        }
    }

    /// What the store said: its answer where there is one, else the innermost cause. The driver's
    /// own text would tell addresses and headers, too.
    fn told(&self, e: &Driver) -> String {
        let text = e.to_string();
        let mut said = if let Some(status) = status(e) {
            let parts = [body(&text, "Code"), body(&text, "Message")].into_iter().flatten();
            // Some add numbers of the request in lines of their own.
            let parts = parts.filter_map(|part| part.lines().next()).map(str::to_owned);
            let all: Vec<_> =
                [format!("the answer is {status}")].into_iter().chain(parts).collect();
            all.join(", ")
        } else {
            let mut last: &dyn Cause = e;
            while let Some(inner) = last.source() {
                last = inner;
            }
            last.to_string()
        };
        for secret in &self.secrets {
            said = said.replace(secret.as_str(), "***");
        }
        said.truncate(said.floor_char_boundary(500));
        said
    }
}

/// The status of the answer, which not every variant of the driver's error keeps apart.
fn status(e: &Driver) -> Option<u16> {
    let text = e.to_string();
    let (_, behind) = text.split_once("status code: ")?;
    behind.get(..3)?.parse().ok()
}

/// What stands in an element of the answer.
fn body<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(&format!("<{element}>"))?;
    Some(behind.split_once("</")?.0)
}

/// Lets an error of ours through a reader.
pub(super) fn io(error: Error) -> std::io::Error {
    std::io::Error::other(error)
}

/// The error of ours that a reader gave, or that one of its causes is.
pub(crate) fn ours(error: &std::io::Error) -> Option<Error> {
    error.get_ref()?.downcast_ref::<Error>().cloned()
}

/// The same for anything that has waited for a reader.
pub(super) fn checked<T>(result: std::io::Result<T>, name: &str) -> Result<T> {
    result.map_err(|e| ours(&e).unwrap_or_else(|| crate::files::unreadable(name, e)))
}
