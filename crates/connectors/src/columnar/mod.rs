//! Parquet files as a source.
//!
//! A row group is a block: the survey reads the times of its rows (statistics are not trusted) and
//! hashes its bytes, and a slice reads only the row groups that overlap it. Where that would read
//! far more than the files hold (unordered rows, slices much smaller than row groups), `stage`
//! sorts the rows once into the state dir.

mod convert;
mod frame;
mod opened;
mod read;
mod settings;
mod sorted;
mod survey;
mod table;
mod times;
mod types;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use jiff::tz::TimeZone;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{ReadRequest, Rows, Source, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey};
use tokio::sync::{Mutex, mpsc};

pub(crate) use convert::column as converted;
pub use settings::ParquetSettings;

use crate::files::{Clock, Form, find, trusted};
use sorted::Sorted;
use times::Times;

/// Batches that wait for the reader of a slice.
const QUEUED: usize = 2;

/// Parquet files, read as one table.
#[derive(Debug, Clone)]
pub struct ParquetSource {
    shared: Arc<Shared>,
    /// The sorted copy, where one was made. Locked while it is made.
    sorted: Arc<Mutex<Option<Arc<Sorted>>>>,
}

/// What every pass over the files needs.
#[derive(Debug)]
struct Shared {
    settings: ParquetSettings,
    /// The types that the settings give.
    types: BTreeMap<String, ColumnType>,
    zone: TimeZone,
    base: PathBuf,
    state: PathBuf,
    sizes: Sizes,
}

/// Bytes of the source. Tests make them tiny.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Read again and again without a thought of sorting.
    cheap: u64,
    /// Sorted in memory at once.
    run: usize,
}

impl Shared {
    fn times(&self, form: Option<Form>) -> Times {
        match form {
            None => Times::Typed { zone: self.zone.clone() },
            Some(form) => {
                let format = self.settings.time_format.clone();
                Times::Spelt(Box::new(Clock::new(form, self.zone.clone(), format)))
            }
        }
    }
}

impl ParquetSource {
    /// Checks the settings; looks at no file yet. `base_dir` is where relative paths start,
    /// `state_dir` where a sorted copy may be kept. An error of kind `Config` names the setting
    /// that is wrong.
    pub fn open(settings: ParquetSettings, base_dir: &Path, state_dir: &Path) -> Result<Self> {
        let types = settings.given_types()?;
        let zone = TimeZone::get(&settings.timezone).map_err(|e| {
            Error::config(format!("`timezone: {}` is not a known zone", settings.timezone))
                .because(e)
                .hint("give an IANA name, such as `Europe/Berlin` or `UTC`")
        })?;
        let sizes = Sizes { cheap: 8 << 20, run: 32 << 20 };
        let (base, state) = (base_dir.to_owned(), state_dir.to_owned());
        let shared = Shared { settings, types, zone, base, state, sizes };
        Ok(ParquetSource { shared: Arc::new(shared), sorted: Arc::default() })
    }
}

#[async_trait]
impl Source for ParquetSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        blocking(move || {
            let (base, settings) = (&shared.base, &shared.settings);
            let survey = || survey::survey(&shared, &request);
            trusted(base, &settings.path, settings.checksums.as_deref(), survey)
        })
        .await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || find(&shared.base, &shared.settings.path).map(Some)).await
    }

    async fn stage(&self, survey: &Survey, columns: &Columns, slices: &[Interval]) -> Result<()> {
        let mut sorted = self.sorted.lock().await;
        *sorted = None;
        if sorted::is_needed(&self.shared, survey, slices) {
            let shared = Arc::clone(&self.shared);
            let (survey, columns, slices) = (survey.clone(), columns.clone(), slices.to_vec());
            let built =
                blocking(move || sorted::build(&shared, &survey, &columns, &slices)).await?;
            *sorted = Some(Arc::new(built));
        }
        Ok(())
    }

    async fn unstage(&self) -> Result<()> {
        let mut sorted = self.sorted.lock().await;
        *sorted = None;
        let root = sorted::root(&self.shared.state);
        blocking(move || match std::fs::remove_dir_all(&root) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(sorted::disk(&root, e)),
            _ => Ok(()),
        })
        .await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let sorted = self.sorted.lock().await.clone();
        let sorted = sorted.filter(|s| s.serves(request));
        let blocks = request.survey.overlapping(&request.interval).map(|(_, b)| b.hash.clone());
        let blocks = blocks.collect();
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        let (give, take) = mpsc::channel(QUEUED);
        let failed = give.clone();
        let used = sorted.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut emit = |batch| give.blocking_send(Ok(batch)).is_ok();
            match &used {
                Some(sorted) => sorted.read(&request, &mut emit),
                None => read::direct(&shared, &request, &mut emit),
            }
        });
        let source = self.clone();
        tokio::spawn(async move {
            let result = work.await.unwrap_or_else(|e| Err(panicked(e)));
            if let Err(error) = result {
                if let Some(sorted) = sorted.filter(|_| error.kind() == Kind::Unavailable) {
                    source.discard(&sorted).await;
                }
                // Nobody listens any more; then nobody needs the error.
                let _ = failed.send(Err(error)).await;
            }
        });
        let batches =
            stream::unfold(
                take,
                |mut take| async move { take.recv().await.map(|batch| (batch, take)) },
            );
        Ok(Rows { batches: batches.boxed(), blocks })
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let (shared, survey) = (Arc::clone(&self.shared), survey.clone());
        let ordinals = ordinals.to_vec();
        blocking(move || read::locate(&shared, &survey, &ordinals)).await
    }
}

impl ParquetSource {
    /// Forgets a sorted copy that proved damaged: the next read goes to the files.
    async fn discard(&self, damaged: &Arc<Sorted>) {
        let mut sorted = self.sorted.lock().await;
        if sorted.as_ref().is_some_and(|s| Arc::ptr_eq(s, damaged)) {
            *sorted = None;
            damaged.discard();
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(panicked(e)))
}

fn panicked(e: tokio::task::JoinError) -> Error {
    Error::bug("reading Parquet files broke off").because(e)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
crate::testkit::conformance!(source: super::tests::given);
