//! What a spec says beside the address of a store, and how a store is opened with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3};
use object_store::azure::{AzureConfigKey as Az, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Gs};
use object_store::http::HttpBuilder;
use object_store::{
    BackoffConfig, Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig,
};
use retrofill_core::error::{Error, Result};
use serde::Deserialize;

use super::address::{Address, Scheme, is_open};
use super::fault::Faults;

/// How long a request for some MiB may take, and how long a server may take to answer at all.
const PATIENCE: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(5);

/// A store by its builder: each driver has a type of its own, and no trait for what they share.
macro_rules! built {
    ($builder:expr, $client:expr, $faults:expr) => {{
        let built = $builder.with_client_options($client).with_retry(retry()).build();
        Ok(Arc::new(built.map_err(|e| $faults.unbuilt(&e))?))
    }};
}

/// What an option is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It says which bucket is meant.
    Place,
    /// It is shown nowhere.
    Secret,
    /// `true` or `false`.
    Switch,
    /// Anything else.
    Way,
}

/// Options of every store. Names of the others are those that its driver reads, but for
/// `endpoint`, which Google's calls `base_url`.
const ALL: [(&str, Use); 2] = [("allow_http", Use::Switch), ("sslrootcert", Use::Way)];

const OF_S3: [(&str, Use); 8] = [
    ("access_key_id", Use::Way),
    ("endpoint", Use::Place),
    ("region", Use::Way),
    ("request_payer", Use::Switch),
    ("secret_access_key", Use::Secret),
    ("session_token", Use::Secret),
    ("skip_signature", Use::Switch),
    ("virtual_hosted_style_request", Use::Switch),
];

const OF_GS: [(&str, Use); 4] = [
    ("application_credentials", Use::Way),
    ("endpoint", Use::Place),
    ("service_account_key", Use::Secret),
    ("skip_signature", Use::Switch),
];

const OF_AZ: [(&str, Use); 9] = [
    ("account_key", Use::Secret),
    ("account_name", Use::Place),
    ("client_id", Use::Way),
    ("client_secret", Use::Secret),
    ("endpoint", Use::Place),
    ("sas_key", Use::Secret),
    ("skip_signature", Use::Switch),
    ("tenant_id", Use::Way),
    ("token", Use::Secret),
];

fn known(scheme: Scheme) -> impl Iterator<Item = (&'static str, Use)> {
    let own: &[_] = match scheme {
        Scheme::S3 => &OF_S3,
        Scheme::Gs => &OF_GS,
        Scheme::Az => &OF_AZ,
        Scheme::Http => &[],
    };
    own.iter().chain(&ALL).copied()
}

/// What stands beside the address of a store, by name.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values hold secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Options {
    /// The names that a store of this kind knows.
    pub fn names(scheme: Scheme) -> Vec<&'static str> {
        known(scheme).map(|(name, _)| name).collect()
    }

    /// Whether what stands under this name is shown nowhere, in whatever store.
    pub fn is_secret(name: &str) -> bool {
        let all = OF_S3.iter().chain(&OF_GS).chain(&OF_AZ);
        all.into_iter().any(|(known, of)| *known == name && *of == Use::Secret)
    }

    /// Whether it decides which bucket is meant, and with it which rows.
    pub fn is_place(scheme: Scheme, name: &str) -> bool {
        known(scheme).any(|known| known == (name, Use::Place))
    }

    /// What is wrong with a value; it is not shown.
    pub fn check(scheme: Scheme, name: &str, value: &str) -> Result<()> {
        let of = known(scheme).find(|(known, _)| *known == name).map(|(_, of)| of);
        match of {
            Some(Use::Switch) if !matches!(value, "true" | "false") => {
                Err(Error::config(format!("`{name}` must be `true` or `false`")))
            }
            Some(_) if value.is_empty() => Err(Error::config(format!("`{name}` is empty"))),
            Some(_) if name == "endpoint" => is_open(value).map(drop),
            Some(_) => Ok(()),
            None => Err(Error::config(format!("there is no option `{name}` here"))),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn client(&self, base: &Path, plain: bool) -> Result<ClientOptions> {
        let options = ClientOptions::new().with_timeout(PATIENCE).with_connect_timeout(CONNECT);
        let options = options.with_allow_http(plain);
        let Some(file) = self.get("sslrootcert") else { return Ok(options) };
        let wrong = || Error::config(format!("the certificates in `{file}` cannot be read"));
        let pem = std::fs::read(base.join(file)).map_err(|e| wrong().because(e))?;
        let list = Certificate::from_pem_bundle(&pem).map_err(|e| wrong().because(e))?;
        if list.is_empty() {
            return Err(wrong().hint("`sslrootcert` names a file with certificates in PEM"));
        }
        Ok(list.into_iter().fold(options, ClientOptions::with_root_certificate))
    }

    /// Whether this server may be spoken to without TLS; an error where it would be and may not.
    fn plain(&self, endpoint: Option<&str>, allowed: Option<&str>) -> Result<bool> {
        let allowed = self.get("allow_http").or(allowed) == Some("true");
        let Some(endpoint) = endpoint else { return Ok(allowed) };
        if is_open(endpoint)? && !allowed {
            return Err(Error::config("the object store would be read without TLS")
                .hint("use `https://`, or set `options: { allow_http: true }` on a trusted network")
                .about("source"));
        }
        Ok(allowed || endpoint.starts_with("http://"))
    }

    /// Opens a store, with what the environment says where nothing stands here.
    pub(super) fn store(
        &self,
        address: &Address,
        base: &Path,
    ) -> Result<(Arc<dyn ObjectStore>, Faults)> {
        let mut faults = Faults::new(address);
        faults.hide(self.0.iter().filter(|(n, _)| Self::is_secret(n)).map(|(_, v)| v.clone()));
        let store = match address.scheme {
            Scheme::S3 => self.s3(address, base, &mut faults),
            Scheme::Gs => self.gs(address, base, &mut faults),
            Scheme::Az => self.az(address, base, &mut faults),
            Scheme::Http => self.http(address, base, &faults),
        }?;
        Ok((store, faults))
    }

    /// The driver's keys of what stands here for one store alone.
    fn own<K: FromStr>(&self) -> impl Iterator<Item = (K, &str)> {
        let own = self.0.iter().filter(|(name, _)| ALL.iter().all(|(all, _)| all != name));
        own.filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str())))
    }

    fn s3(&self, to: &Address, base: &Path, faults: &mut Faults) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&to.container);
        for (key, value) in self.own() {
            builder = builder.with_config(key, value);
        }
        let of = |key| builder.get_config_value(&key);
        faults.hide([of(S3::SecretAccessKey), of(S3::Token)].into_iter().flatten());
        // The one of S3 alone wins, but not over the spec.
        let own = of(S3::S3Endpoint).filter(|_| self.get("endpoint").is_none());
        let endpoint = own.or_else(|| of(S3::Endpoint));
        let allowed = of(S3::Client(ClientConfigKey::AllowHttp));
        let plain = self.plain(endpoint.as_deref(), allowed.as_deref())?;
        if let Some(endpoint) = endpoint {
            builder = builder.with_config(S3::S3Endpoint, endpoint);
        }
        built!(builder, self.client(base, plain)?, faults)
    }

    fn gs(&self, to: &Address, base: &Path, faults: &mut Faults) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&to.container);
        for (key, value) in self.own() {
            let path = (key == Gs::ApplicationCredentials).then(|| base.join(value));
            let path = path.map(|path| path.to_string_lossy().into_owned());
            builder = builder.with_config(key, path.as_deref().unwrap_or(value));
        }
        if let Some(endpoint) = self.get("endpoint") {
            builder = builder.with_config(Gs::BaseUrl, endpoint);
        }
        faults.hide(builder.get_config_value(&Gs::ServiceAccountKey));
        let endpoint = builder.get_config_value(&Gs::BaseUrl);
        let plain = self.plain(endpoint.as_deref(), None)?;
        built!(builder, self.client(base, plain)?, faults)
    }

    fn az(&self, to: &Address, base: &Path, faults: &mut Faults) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&to.container);
        for (key, value) in self.own() {
            builder = builder.with_config(key, value);
        }
        let of = |key| builder.get_config_value(&key);
        let secrets = [of(Az::AccessKey), of(Az::ClientSecret), of(Az::SasKey), of(Az::Token)];
        faults.hide(secrets.into_iter().flatten());
        let (endpoint, allowed) = (of(Az::Endpoint), of(Az::Client(ClientConfigKey::AllowHttp)));
        let plain = self.plain(endpoint.as_deref(), allowed.as_deref())?;
        built!(builder, self.client(base, plain)?, faults)
    }

    fn http(&self, to: &Address, base: &Path, faults: &Faults) -> Result<Arc<dyn ObjectStore>> {
        let plain = self.plain(Some(&to.root), None)?;
        built!(HttpBuilder::new().with_url(&to.root), self.client(base, plain)?, faults)
    }
}

/// Some seconds for what passes by itself. A slice that fails is tried anew by the runner, which
/// waits longer and lets others go on meanwhile.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_mins(1),
    }
}
