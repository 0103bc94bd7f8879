//! Files of typed columns as a source: Parquet, Arrow IPC, Avro.
//!
//! A block is a row group, a record batch, or some neighbouring blocks of Avro: the survey reads
//! the times of its rows (statistics are not trusted) and hashes its bytes, and a slice reads only
//! the blocks that overlap it. Where that would read far more than the files hold (unordered rows,
//! slices much smaller than blocks), `stage` sorts the rows once into the state dir.

mod avro;
mod convert;
mod exact;
mod frame;
mod glance;
mod head;
mod ipc;
mod opened;
mod pages;
mod parquet;
mod parts;
mod placed;
mod read;
mod settings;
mod sieve;
mod sorted;
mod survey;
mod table;
mod times;
mod types;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use retrofill_core::connector::{ReadRequest, Rows, Source, StageRequest, SurveyRequest};
use retrofill_core::error::Result;
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey};

pub(crate) use convert::{Bad, column as converted, shown};
pub(crate) use exact::{exactly, is_possible};
pub(crate) use read::{Placed, inside};
pub use settings::{ColumnarSettings, Format};
pub(crate) use sieve::Sieve;
pub(crate) use sorted::{Make, Slices, Sorted, TakeRows, build as sorted_copy};
pub(crate) use times::spelt_column;

use crate::files::sorted_copy::{SortedCopy, blocking};
use crate::files::{Clock, Form, GivenTypes, Origin, remarks, trusted, zone};
use times::Times;

/// Such files, read as one table.
#[derive(Debug, Clone)]
pub struct ColumnarSource {
    shared: Arc<Shared>,
    sorted: SortedCopy<Sorted>,
}

/// What every pass over the files needs.
#[derive(Debug)]
struct Shared {
    format: Format,
    settings: ColumnarSettings,
    types: GivenTypes,
    zone: TimeZone,
    origin: Origin,
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

impl ColumnarSource {
    /// Checks the settings; looks at no file yet. `base_dir` is where relative paths start,
    /// `state_dir` where a sorted copy may be kept. An error of kind `Config` names the setting
    /// that is wrong.
    pub fn open(
        format: Format,
        mut settings: ColumnarSettings,
        base_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        let types = GivenTypes::parse(format.key(), &settings.types)?;
        let zone = zone(&settings.timezone)?;
        let sizes = Sizes { cheap: 8 << 20, run: 32 << 20 };
        let (path, options) = (&mut settings.path, &settings.options);
        let origin = Origin::of(base_dir, path, options, format.endings())?;
        let state = state_dir.to_owned();
        let shared = Shared { format, settings, types, zone, origin, state, sizes };
        Ok(ColumnarSource { shared: Arc::new(shared), sorted: SortedCopy::default() })
    }
}

#[async_trait]
impl Source for ColumnarSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        blocking(move || {
            let (origin, settings) = (&shared.origin, &shared.settings);
            let survey = || survey::survey(&shared, &request);
            let list = settings.checksums.as_deref();
            trusted(origin, &settings.path, list, request.sample, survey)
        })
        .await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let (shared, wanted) = (Arc::clone(&self.shared), wanted.clone());
        blocking(move || {
            let (origin, settings) = (&shared.origin, &shared.settings);
            let from = (origin, settings.path.as_str(), settings.checksums.as_deref());
            remarks(survey::heads(&shared, &wanted.rows.time), from, &wanted)
        })
        .await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.origin.find(&shared.settings.path).map(Some)).await
    }

    fn is_of_files(&self) -> bool {
        true
    }

    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let mut sorted = self.sorted.lock().await;
        *sorted = None;
        if sorted::is_needed(&self.shared, &request.survey, &request.slices) {
            let (shared, request) = (Arc::clone(&self.shared), request.clone());
            let build = move || {
                let make = Make { state: &shared.state, run: shared.sizes.run, request: &request };
                sorted::build(&make, &shared.settings, |from, slices, take| {
                    let of = (&*request.survey, &*request.columns);
                    sorted::pour(&shared, of, (from, slices), take)
                })
            };
            let built = blocking(build).await?;
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
}

#[cfg(test)]
mod tests;

#[cfg(test)]
crate::testkit::conformance!(source: super::tests::given);

#[cfg(test)]
mod arrow_conformance {
    crate::testkit::conformance!(source: super::super::tests::given_arrow);
}

#[cfg(test)]
mod avro_conformance {
    crate::testkit::conformance!(source: super::super::tests::given_avro);
}
