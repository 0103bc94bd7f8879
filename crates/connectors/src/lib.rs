//! Sources and targets, one file (or folder) each. [`connector::Source`] and
//! [`connector::Target`] are the contract; `retrofill_core::memory` shows it whole.
//!
//! Adding one: its module, a variant of [`Connector`], an arm in each of the two functions below.
//!
//! [`connector::Source`]: retrofill_core::connector::Source
//! [`connector::Target`]: retrofill_core::connector::Target

pub mod columnar;
mod counted;
pub mod delta;
pub mod files;
pub mod folder;
pub mod mariadb;
pub mod postgres;
pub mod sqlite;
pub mod transform;

use std::path::Path;
use std::sync::Arc;

use retrofill_core::connector::{Source, Target};
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::Endpoint;
use serde::de::DeserializeOwned;

use columnar::{ColumnarSource, Format};
use transform::{Transform, Transformed};

#[cfg(test)]
mod testkit;

/// Every connector by its key in the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connector {
    /// Arrow IPC files.
    Arrow,
    /// Avro files.
    Avro,
    /// CSV files.
    Csv,
    /// A Delta table.
    Delta,
    /// A folder of files.
    Files,
    /// A MariaDB table.
    Mariadb,
    /// NDJSON files.
    Ndjson,
    /// Parquet files.
    Parquet,
    /// A PostgreSQL table.
    Postgres,
    /// A table of an SQLite database.
    Sqlite,
}

impl Connector {
    /// The connector of this key.
    pub fn of(key: &str) -> Result<Self> {
        match key {
            "arrow" => Ok(Connector::Arrow),
            "avro" => Ok(Connector::Avro),
            "csv" => Ok(Connector::Csv),
            "delta" => Ok(Connector::Delta),
            "files" => Ok(Connector::Files),
            "mariadb" => Ok(Connector::Mariadb),
            "ndjson" => Ok(Connector::Ndjson),
            "parquet" => Ok(Connector::Parquet),
            "postgres" => Ok(Connector::Postgres),
            "sqlite" => Ok(Connector::Sqlite),
            other => Err(Error::config(format!("there is no connector `{other}`"))),
        }
    }
}

/// Opens a source, with the transform of the spec where it has one. Relative paths start from
/// `base_dir`; what must be sorted first goes to `state_dir`.
pub fn open_source(
    endpoint: &Endpoint,
    transform: Option<&str>,
    base_dir: &Path,
    state_dir: &Path,
) -> Result<Arc<dyn Source>> {
    let transform = transform.map(transformed).transpose()?;
    let columnar = |format| -> Result<Arc<dyn Source>> {
        let settings = settings(endpoint)?;
        Ok(Arc::new(ColumnarSource::open(format, settings, base_dir, state_dir)?))
    };
    let source: Arc<dyn Source> = match (Connector::of(&endpoint.connector)?, &transform) {
        // Files can be searched by whatever time the transform computes.
        (Connector::Csv, Some(transform)) => {
            let (settings, transform) = (settings(endpoint)?, transform.clone());
            let source = files::FileSource::transformed(settings, transform, base_dir, state_dir)?;
            return Ok(Arc::new(source));
        }
        (Connector::Ndjson, transform) => {
            let (settings, transform) = (settings(endpoint)?, transform.clone());
            let source = files::FileSource::ndjson(settings, transform, base_dir, state_dir)?;
            return Ok(Arc::new(source));
        }
        (Connector::Csv, None) => {
            Arc::new(files::FileSource::open(settings(endpoint)?, base_dir, state_dir)?)
        }
        (Connector::Delta, _) => Arc::new(delta::DeltaTarget::open(settings(endpoint)?, base_dir)?),
        (Connector::Arrow, _) => columnar(Format::Arrow)?,
        (Connector::Avro, _) => columnar(Format::Avro)?,
        (Connector::Parquet, _) => columnar(Format::Parquet)?,
        (Connector::Files, _) => {
            return Err(Error::config("`files` is a target, not a source")
                .hint("read its files with `csv`, `ndjson` or `parquet` and a pattern"));
        }
        (Connector::Mariadb, _) => {
            Arc::new(mariadb::MariadbSource::open(settings(endpoint)?, base_dir)?)
        }
        (Connector::Postgres, _) => {
            Arc::new(postgres::PostgresSource::open(settings(endpoint)?, base_dir)?)
        }
        (Connector::Sqlite, _) => {
            Arc::new(sqlite::SqliteSource::open(settings(endpoint)?, base_dir, state_dir)?)
        }
    };
    Ok(match transform {
        Some(transform) => Arc::new(Transformed::new(source, transform)),
        None => source,
    })
}

fn transformed(text: &str) -> Result<Transform> {
    Transform::parse(text).map_err(|faults| match faults.into_iter().next() {
        Some(fault) => fault.into_error(),
        None => Error::bug("a transform is wrong, and nobody knows why"),
    })
}

/// Opens a target.
pub fn open_target(endpoint: &Endpoint, base_dir: &Path) -> Result<Arc<dyn Target>> {
    Ok(match Connector::of(&endpoint.connector)? {
        Connector::Delta => Arc::new(delta::DeltaTarget::open(settings(endpoint)?, base_dir)?),
        Connector::Files => Arc::new(folder::FolderTarget::open(settings(endpoint)?, base_dir)?),
        Connector::Postgres => {
            Arc::new(postgres::PostgresTarget::open(settings(endpoint)?, base_dir)?)
        }
        Connector::Arrow
        | Connector::Avro
        | Connector::Csv
        | Connector::Mariadb
        | Connector::Ndjson
        | Connector::Parquet
        | Connector::Sqlite => {
            let what = format!("`{}` is a source, not a target", endpoint.connector);
            return Err(Error::config(what).hint("targets: delta, files, postgres"));
        }
    })
}

fn settings<T: DeserializeOwned>(endpoint: &Endpoint) -> Result<T> {
    serde_json::from_value(endpoint.settings.clone()).map_err(|e| {
        Error::config(format!("the settings of `{}` cannot be used", endpoint.connector)).because(e)
    })
}
