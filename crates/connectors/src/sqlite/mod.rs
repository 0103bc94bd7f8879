//! A table of an SQLite database as a source.
//!
//! Rows are read in the order of their numbers, or of their key in a table without any. A block is
//! some neighbouring rows with the hash of their values; a slice reads the blocks that overlap it,
//! each by a statement of its own, and trusts none whose hash has changed: so it sees the state
//! that was planned, and holds no lock while rows are on their way. Where blocks are spread over
//! many slices, `stage` sorts the rows once into the state dir.

mod cells;
mod chunk;
mod examine;
mod fault;
mod read;
mod settings;
mod survey;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use jiff::tz::TimeZone;
use retrofill_core::connector::{ReadRequest, Rows, Source, StageRequest, SurveyRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey};
use rusqlite::{Connection, OpenFlags};

pub use settings::SqliteSettings;

use crate::columnar::Sorted;
use crate::files::sorted_copy::{SortedCopy, blocking};
use crate::files::{GivenTypes, unreadable, zone};

/// A table that is read.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    shared: Arc<Shared>,
    sorted: SortedCopy<Sorted>,
}

/// What every look at the database needs.
#[derive(Debug)]
struct Shared {
    settings: SqliteSettings,
    path: PathBuf,
    types: GivenTypes,
    zone: TimeZone,
    state: PathBuf,
    sizes: Sizes,
}

/// Tests make them tiny.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Rows of a block, at most.
    rows: usize,
    /// Bytes of a block, but for its last row.
    bytes: u64,
    /// Rows that are read again and again without a thought of sorting.
    cheap: u64,
    /// Bytes sorted in memory at once.
    run: usize,
    /// How long a lock of somebody else is waited for.
    patience: Duration,
}

impl SqliteSource {
    /// Checks the settings; looks at no file yet. `base_dir` is where a relative path starts,
    /// `state_dir` where a sorted copy may be kept.
    pub fn open(settings: SqliteSettings, base_dir: &Path, state_dir: &Path) -> Result<Self> {
        let shared = Shared {
            path: base_dir.join(&settings.path),
            types: GivenTypes::parse("sqlite", &settings.types)?,
            zone: zone(&settings.timezone)?,
            settings,
            state: state_dir.to_owned(),
            sizes: Sizes {
                rows: 16_384,
                bytes: 4 << 20,
                cheap: 200_000,
                run: 32 << 20,
                patience: Duration::from_secs(10),
            },
        };
        Ok(SqliteSource { shared: Arc::new(shared), sorted: SortedCopy::default() })
    }
}

impl Shared {
    /// A connection that cannot write.
    fn connect(&self) -> Result<Connection> {
        // What SQLite says of a file that is not there does not say so.
        self.stamp()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(self.sizes.patience)?;
            // Somebody else wrote the schema.
            connection.execute_batch("PRAGMA trusted_schema = OFF")?;
            // The first look at the file itself.
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        };
        self.had(open())
    }

    /// Tells whether the database has changed. Its files are not opened for that: to close one
    /// would give up the locks that SQLite holds on it in this process.
    fn stamp(&self) -> Result<FileStamp> {
        let path = &self.settings.path;
        let found = std::fs::metadata(&self.path);
        if found.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            let hint = "`source.sqlite.path` is relative to the spec";
            return Err(Error::config(format!("there is no file `{path}`")).hint(hint));
        }
        let main = found.map_err(|e| unreadable(path, e))?;
        if !main.is_file() {
            return Err(Error::config(format!("`{path}` is not a file")));
        }
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        // One without content says nothing: a reader may have made it.
        let log = std::fs::metadata(log).ok().filter(|log| log.len() > 0);
        let changed = |meta: &std::fs::Metadata| {
            let since = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            since.map_or(0, |since| since.as_nanos())
        };
        let mut stamp = changed(&main).to_string();
        if let Some(log) = log {
            stamp = format!("{stamp}+{}/{}", changed(&log), log.len());
        }
        Ok(FileStamp { path: path.clone(), size: main.len(), stamp })
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        blocking(move || survey::survey(&shared, &request)).await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || Ok(Some(vec![shared.stamp()?]))).await
    }

    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let mut sorted = self.sorted.lock().await;
        *sorted = None;
        if read::needs_sorting(&self.shared, &request.survey, &request.slices) {
            let (shared, request) = (Arc::clone(&self.shared), request.clone());
            let built = blocking(move || read::sort(&shared, &request)).await?;
            *sorted = Some(Arc::new(built));
        }
        Ok(())
    }

    async fn unstage(&self) -> Result<()> {
        self.sorted.remove(&self.shared.state).await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let shared = Arc::clone(&self.shared);
        let rows = self.sorted.rows(request, move |r, emit| read::direct(&shared, r, emit));
        Ok(rows.await)
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let (shared, survey) = (Arc::clone(&self.shared), survey.clone());
        let ordinals = ordinals.to_vec();
        blocking(move || read::locate(&shared, &survey, &ordinals)).await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let (shared, wanted) = (Arc::clone(&self.shared), wanted.clone());
        blocking(move || examine::examine(&shared, &wanted)).await
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
crate::testkit::conformance!(source: super::tests::given);

#[cfg(test)]
mod keyed_conformance {
    crate::testkit::conformance!(source: super::super::tests::given_keyed);
}
