//! Delta Lake tables on a local disk, as target and as source.
//!
//! A load writes one data file, proves it, and hands it to the table's one committer, which puts
//! the files of neighbouring slices into the log as one entry, with a transaction per slice and
//! generation. In the modes fill-missing and append only `add` actions are written: what is in the
//! table stays. The one exception is a data file of ours that is gone or damaged, which goes with
//! the commit that loads it anew. Upsert and replace write files anew without the rows that go.
//! Nothing counts as written before it is synced: data files and receipts first, the log entry
//! last.

mod anchor;
pub(crate) mod beside;
mod checkpoint;
mod checksum;
mod commit;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_tests;
mod datafile;
mod disk;
mod durable;
mod entry;
mod examine;
mod load;
mod log;
mod receipts;
mod rewrite;
mod scan;
mod schema;
mod source;
mod state;
mod stats;
mod store;
mod upkeep;
mod wreck;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{
    Capabilities, FieldType, Known, Load, Manners, ReadRequest, Rows, SliceLoad, Source,
    SurveyRequest, Target,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use retrofill_core::reject::Place;
use retrofill_core::spec::Mode;
use retrofill_core::survey::{FileStamp, Survey};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

// What other targets on a disk need too.
pub(crate) use self::checksum::{Summing, is_intact};
pub(crate) use self::datafile::plain;
pub(crate) use self::disk::{DiskWrite, Entry as DirEntry, RealDisk};
pub(crate) use self::durable::{Created, Durable, is_temporary, random_name};
pub(crate) use self::scan::{footer, inside};

use self::commit::Committer;
use self::disk::Disk;
use self::load::DeltaLoad;
use self::log::{Log, entry_path};

/// Versions between two checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// What the spec says about a Delta table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaSettings {
    /// The table's directory; relative paths are relative to the spec.
    pub path: String,
}

/// What all loads of one table share.
#[derive(Debug)]
struct Shared {
    log: Log,
    committer: Committer,
    /// The newest version for which a checkpoint was begun by us.
    checkpointed: AtomicU64,
    /// Checkpoints being written.
    checkpoints: Mutex<JoinSet<()>>,
    /// Versions between two checkpoints.
    checkpoint_every: u64,
    /// Held by a load that may rewrite files with rows of other slices.
    rewriting: Arc<tokio::sync::Mutex<()>>,
}

/// A Delta table.
#[derive(Debug)]
pub struct DeltaTarget {
    shared: Arc<Shared>,
    /// Its directory, where it is on a real disk.
    base: PathBuf,
}

/// Runs work that waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::bug("work on a Delta table ended early").because(e))?
}

impl DeltaTarget {
    /// The table at this path, which need not be there yet. `base_dir` is the spec's directory.
    /// An error of kind `Config` for anything but a local path.
    pub fn open(settings: DeltaSettings, base_dir: &Path) -> Result<DeltaTarget> {
        let path = settings.path;
        let path = path.strip_prefix("file://").unwrap_or(&path);
        if let Some((scheme, _)) = path.split_once("://") {
            return Err(Error::config(format!(
                "the Delta table `{path}` is on {scheme}; only local paths are supported yet"
            ))
            .hint("give a directory of this machine or of a mounted disk"));
        }
        if path.is_empty() {
            return Err(Error::config("the path of the Delta table is empty"));
        }
        Ok(Self::at(base_dir.join(path)))
    }

    fn at(base: PathBuf) -> DeltaTarget {
        let target = Self::on(Arc::new(RealDisk::new(base.clone())), CHECKPOINT_EVERY);
        DeltaTarget { base, ..target }
    }

    fn on(disk: Arc<dyn Disk>, checkpoint_every: u64) -> DeltaTarget {
        let shared = Shared {
            log: Log::new(Durable::new(disk)),
            committer: Committer::default(),
            checkpointed: AtomicU64::new(0),
            checkpoints: Mutex::default(),
            checkpoint_every,
            rewriting: Arc::default(),
        };
        DeltaTarget { shared: Arc::new(shared), base: PathBuf::new() }
    }

    /// A load on the newest state.
    async fn start(&self, slice: &SliceLoad) -> Result<DeltaLoad> {
        let slice = slice.clone();
        self.with(move |shared| {
            let at = shared.clone();
            let load = shared.log.newest(|state| DeltaLoad::new(at, slice, state))?;
            let mut load = load.unwrap_or_else(|| {
                Err(Error::unavailable("there is no table; it was not prepared or was deleted"))
            })?;
            load.find_wreck()?;
            Ok(load)
        })
        .await
    }

    /// Runs work on the table's shared state where it holds up nobody.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        let place = shared.log.durable().disk().describe("");
        blocking(move || work(&shared))
            .await
            .map_err(|e| if e.message().contains(&place) { e } else { e.at(place) })
    }
}

fn prepare(shared: &Shared, columns: &Columns) -> Result<()> {
    for column in columns {
        let kept =
            schema::keeps(column.ty).map_err(|e| e.at(format!("column `{}`", column.name)))?;
        if kept != column.ty {
            return Err(Error::bug(format!("column `{}` is not of a type Delta has", column.name)));
        }
    }
    let durable = shared.log.durable();
    if let Some(fits) = shared.log.newest(|state| schema::check_fit(columns, &state.fields))? {
        fits?;
        upkeep::sweep(durable);
        return Ok(());
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::unavailable("no random numbers").because(e))?;
    let now = jiff::Timestamp::now().as_millisecond();
    let first = entry::of_new_table(columns, id, now)?;
    match durable.create(&entry_path(0), &first) {
        Created::Done | Created::Exists => {}
        Created::Not(e) | Created::Unknown(e) => {
            return Err(durable.error("create the table at", "", e));
        }
    }
    // Another creator may have been faster: what counts is the table that is there now.
    shared
        .log
        .newest(|state| schema::check_fit(columns, &state.fields))?
        .unwrap_or_else(|| Err(Error::unavailable("the table is gone just after it was created")))
}

#[async_trait]
impl Source for DeltaTarget {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let request = request.clone();
        self.with(move |shared| source::survey(shared, &request)).await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let wanted = wanted.clone();
        self.with(move |shared| examine::examine(shared, &wanted)).await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        self.with(|shared| source::stamps(shared)).await.map(Some)
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let request = request.clone();
        self.with(move |shared| source::read(shared, &request)).await
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let (survey, ordinals) = (survey.clone(), ordinals.to_vec());
        self.with(move |shared| source::locate(shared, &survey, &ordinals)).await
    }
}

#[async_trait]
impl Target for DeltaTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "Delta Lake",
            atomic: true,
            receipts: true,
            served: false,
            modes: &[Mode::FillMissing, Mode::Append, Mode::Upsert, Mode::Replace],
            rerun: "a slice and its receipt are one commit, so a rerun writes nothing twice",
            fidelity: "times are kept to the microsecond",
        }
    }

    async fn table(&self) -> Result<Option<Vec<FieldType>>> {
        self.with(|shared| shared.log.newest(|state| state.fields.clone())).await
    }

    fn keeps(&self, ty: ColumnType) -> Result<ColumnType> {
        schema::keeps(ty)
    }

    async fn accepts(&self, columns: &Columns, _mode: Mode, _manners: Manners) -> Result<()> {
        let columns = columns.clone();
        self.with(move |shared| match shared.log.newest(|_| ())? {
            Some(()) => Ok(()),
            // What cannot be created is told before the first row.
            None => schema::new_schema(&columns).map(|_| ()),
        })
        .await
    }

    async fn prepare(&self, columns: &Columns) -> Result<()> {
        let columns = columns.clone();
        self.with(move |shared| prepare(shared, &columns)).await
    }

    async fn receipts(&self, within: &Interval) -> Result<Known> {
        let within = *within;
        self.with(move |shared| receipts::find(shared, &within)).await
    }

    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        let (plan, slice) = (plan.clone(), slice.clone());
        self.with(move |shared| {
            let known = shared.log.newest(|state| receipts::is_committed(state, &plan, &slice))?;
            Ok(known.unwrap_or(false))
        })
        .await
    }

    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        let plan = plan.clone();
        self.with(move |shared| {
            let known = shared.log.newest(|state| state.commits_of_others(&plan))?;
            Ok(known.unwrap_or(0))
        })
        .await
    }

    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        let receipt = receipt.clone();
        self.with(move |shared| receipts::manifest(shared.log.durable(), &receipt)).await
    }

    async fn damage(&self, receipt: &Receipt) -> Result<Option<String>> {
        let receipt = receipt.clone();
        self.with(move |shared| checksum::damage(shared, &receipt)).await
    }

    async fn idle(&self) {
        let mut checkpoints = std::mem::take(
            &mut *self.shared.checkpoints.lock().unwrap_or_else(PoisonError::into_inner),
        );
        while checkpoints.join_next().await.is_some() {}
    }

    async fn shadow(&self, tag: &str, _: &str, _: &[Interval]) -> Result<Arc<dyn Target>> {
        let (base, tag) = (self.base.clone(), tag.to_owned());
        blocking(move || Ok(Arc::new(Self::at(beside::copy(&base, &tag)?)) as Arc<dyn Target>))
            .await
    }

    async fn drop_shadow(&self, tag: &str) -> Result<()> {
        let (base, tag) = (self.base.clone(), tag.to_owned());
        blocking(move || beside::remove(&base, &tag)).await
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        if !self.capabilities().modes.contains(&slice.mode) {
            let what = format!("Delta tables cannot be loaded in mode {}", slice.mode.as_str());
            return Err(Error::config(what));
        }
        let mut load = self.start(slice).await?;
        if matches!(slice.mode, Mode::Upsert | Mode::Replace) && load.shares_files() {
            let turn = self.shared.rewriting.clone().lock_owned().await;
            // Whoever had the turn before has most likely rewritten those files.
            load = self.start(slice).await?;
            load.turn = Some(turn);
        }
        Ok(Box::new(load))
    }
}

#[cfg(test)]
crate::testkit::conformance!(target: || {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = super::DeltaSettings { path: "table".into() };
    let target = super::DeltaTarget::open(settings, dir.path()).expect("opened");
    (std::sync::Arc::new(target) as std::sync::Arc<dyn retrofill_core::connector::Target>, dir)
});
