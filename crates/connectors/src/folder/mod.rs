//! A folder of CSV, NDJSON or Parquet files as a target: one file a slice.
//!
//! A load writes its file where no reader looks, proves it, writes the receipt, and gives the file
//! its name: that rename is the commit. The receipt counts only where a file of the name, size and
//! checksum is that it names. Files are added, and files of ours taken away; none is ever
//! rewritten. What files hold is read by the sources of this crate: there is no second reader.

mod commit;
mod contents;
mod examine;
mod load;
mod moment;
mod names;
mod part;
mod receipts;
mod settings;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::tz::TimeZone;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{
    Capabilities, FieldType, Known, Load, Manners, ReadRequest, Rows, SliceLoad, Source,
    SourceBatch, StageRequest, SurveyRequest, Target,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use retrofill_core::reject::Place;
use retrofill_core::spec::Mode;
use retrofill_core::survey::{Coming, Survey};

pub use settings::{FileFormat, FolderSettings};

use self::contents::Shared;
use self::load::FolderLoad;
use crate::delta::{Durable, RealDisk, beside, plain};

/// A folder of files.
#[derive(Debug)]
pub struct FolderTarget {
    shared: Arc<Shared>,
}

/// Runs work that waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::bug("work on a folder ended early").because(e))?
}

impl FolderTarget {
    /// The folder at this path, which need not be there yet. `base_dir` is the spec's directory.
    /// An error of kind `Config` for anything but a local path, or a setting that cannot be.
    pub fn open(settings: FolderSettings, base_dir: &Path) -> Result<FolderTarget> {
        let path = settings.path.strip_prefix("file://").unwrap_or(&settings.path);
        if let Some((scheme, _)) = path.split_once("://") {
            return Err(Error::config(format!(
                "the folder `{path}` is on {scheme}; only local paths are supported yet"
            ))
            .hint("give a directory of this machine or of a mounted disk"));
        }
        if path.is_empty() {
            return Err(Error::config("the path of the folder is empty"));
        }
        if TimeZone::get(&settings.timezone).is_err() {
            let what = format!("`timezone: {}` is not a known zone", settings.timezone);
            return Err(
                Error::config(what).hint("give an IANA name, such as `Europe/Berlin` or `UTC`")
            );
        }
        let base = base_dir.join(path);
        // The reader's own checks of delimiter and quote.
        settings.source((&base, "x"), &base, true)?;
        Self::at(settings, base)
    }

    fn at(settings: FolderSettings, base: PathBuf) -> Result<FolderTarget> {
        let durable = Durable::new(Arc::new(RealDisk::new(base.clone())));
        Ok(FolderTarget { shared: Arc::new(Shared::new(settings, base, durable)?) })
    }

    /// Runs work on the folder where it holds up nobody.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        blocking(move || work(&shared)).await
    }

    fn check_mode(&self, mode: Mode) -> Result<()> {
        if self.capabilities().modes.contains(&mode) {
            return Ok(());
        }
        let what = format!("files of a folder cannot be loaded in mode {}", mode.as_str());
        Err(Error::config(what)
            .hint("files are added to a folder, never rewritten: `fill-missing` or `append`"))
    }
}

fn no_source() -> Error {
    Error::config("`files` is a target, not a source")
        .hint("read its files with `csv`, `ndjson` or `parquet` and a pattern")
}

#[async_trait]
impl Source for FolderTarget {
    async fn survey(&self, _: &SurveyRequest) -> Result<Survey> {
        Err(no_source())
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let mut remarks = examine::examine(&self.shared, wanted).await?;
        if let Err(e) = self.check_mode(wanted.write.mode) {
            remarks.push(Remark::refused("mode", &e));
        }
        Ok(remarks)
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let (columns, interval) = (request.columns.clone(), request.interval);
        let contents = self.shared.look(&columns.time().name).await?;
        let parts: Vec<_> =
            contents.into_values().filter(|p| p.overlaps(&request.interval)).collect();
        let batches = stream::iter(parts)
            .then(move |part| {
                let columns = columns.clone();
                async move { part.rows(&columns, &interval).await }
            })
            .try_flatten()
            .map(|rows| {
                let rows = rows?;
                let ordinals = vec![0; rows.num_rows()];
                Ok(SourceBatch { rows, ordinals, rejects: Vec::new(), filtered: 0 })
            });
        Ok(Rows { batches: batches.boxed(), blocks: Vec::new() })
    }

    async fn locate(&self, _: &Survey, _: &[u64]) -> Result<Vec<(Place, String)>> {
        Err(no_source())
    }
}

#[async_trait]
impl Target for FolderTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "a folder of files",
            atomic: true,
            receipts: true,
            served: false,
            modes: &[Mode::FillMissing, Mode::Append],
            rerun: "a slice is one file and its name the commit, so a rerun writes nothing twice; \
                    files that another program adds in the very moment of a commit are not seen",
            fidelity: match self.shared.settings.format {
                FileFormat::Csv => "text has no types: readers must be told them",
                FileFormat::Ndjson => "JSON has no times and no NaN: they are texts",
                FileFormat::Parquet => "everything survives",
            },
        }
    }

    async fn table(&self) -> Result<Option<Vec<FieldType>>> {
        self.with(|shared| table::recorded(shared)).await
    }

    async fn untyped(&self, source: &[FieldType], time: &str) -> Result<Option<Vec<FieldType>>> {
        table::suited(&self.shared, source, time).await
    }

    fn keeps(&self, ty: ColumnType) -> Result<ColumnType> {
        table::kept(self.shared.settings.format, ty)
    }

    async fn accepts(&self, _: &Columns, mode: Mode, _: Manners) -> Result<()> {
        self.check_mode(mode)
    }

    async fn prepare(&self, columns: &Columns) -> Result<()> {
        for column in columns {
            let kept =
                self.keeps(column.ty).map_err(|e| e.at(format!("column `{}`", column.name)))?;
            if kept != column.ty {
                let what = format!("column `{}` is not of a type that files have", column.name);
                return Err(Error::bug(what));
            }
        }
        table::prepare(&self.shared, columns).await
    }

    /// Files of others whose rows lie in no order are sorted once, where each slice would else
    /// read most of them.
    async fn room(&self, columns: &Columns, coming: &Coming, make: bool) -> Result<()> {
        if !make || coming.slices.is_empty() {
            return Ok(());
        }
        let time = &columns.time().name;
        let contents = self.shared.look(time).await?;
        for part in contents.values().filter(|p| !p.is_sized()) {
            // What cannot be read is told to whoever loads its slice.
            let Ok(survey) = part.survey(time).await else { continue };
            self.with(|shared| shared.work().map(|_| ())).await?;
            let survey = part.completed(survey, columns)?;
            let columns = Arc::new(columns.clone());
            let request = StageRequest::new(survey, columns, coming.slices.clone());
            part.source.stage(&request).await?;
        }
        Ok(())
    }

    async fn receipts(&self, within: &Interval) -> Result<Known> {
        let within = *within;
        self.with(move |shared| receipts::find(shared, &within)).await
    }

    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        let (plan, slice) = (plan.clone(), slice.clone());
        self.with(move |shared| receipts::is_committed(&shared.durable, &plan, &slice)).await
    }

    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        let plan = plain(plan.as_str());
        self.with(move |shared| {
            let all = receipts::committed(&shared.durable)?;
            Ok(all.iter().filter(|named| named.plan.as_str() != plan).count() as u64)
        })
        .await
    }

    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        let receipt = receipt.clone();
        self.with(move |shared| receipts::manifest(&shared.durable, &receipt)).await
    }

    async fn damage(&self, receipt: &Receipt) -> Result<Option<String>> {
        let receipt = receipt.clone();
        self.with(move |shared| receipts::damage(&shared.durable, &receipt)).await
    }

    async fn idle(&self) {
        // Nothing that fails here is missed.
        let _ = self
            .with(|shared| {
                shared.leave();
                Ok(())
            })
            .await;
    }

    async fn shadow(&self, tag: &str, _: &str, _: &[Interval]) -> Result<Arc<dyn Target>> {
        let tag = tag.to_owned();
        let opened = self.with(move |shared| {
            Self::at(shared.settings.clone(), beside::copy(&shared.base, &tag)?)
        });
        Ok(Arc::new(opened.await?))
    }

    async fn drop_shadow(&self, tag: &str) -> Result<()> {
        let tag = tag.to_owned();
        self.with(move |shared| beside::remove(&shared.base, &tag)).await
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        Ok(Box::new(FolderLoad::new(&self.shared, slice).await?))
    }
}
