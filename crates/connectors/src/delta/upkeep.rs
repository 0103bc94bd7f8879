//! What keeps a table quick to open: checkpoints, and no litter of crashed loads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use deltalake::DeltaTableBuilder;
use deltalake::protocol::checkpoints::create_checkpoint;
use url::Url;

use super::Shared;
use super::durable::{Durable, is_temporary};
use super::store::DurableStore;

/// Temporary files older than this belong to no load that still runs.
const LITTER: Duration = Duration::from_hours(7 * 24);

/// Starts a checkpoint where one is due. Its failure is told, and never fails a commit.
pub(super) fn after_commit(shared: &Arc<Shared>, version: u64) {
    let last = shared.log.seen(|state| state.checkpoint).unwrap_or(0);
    let last = last.max(shared.checkpointed.load(Ordering::Relaxed));
    if version < last + shared.checkpoint_every {
        return;
    }
    shared.checkpointed.store(version, Ordering::Relaxed);
    let durable = shared.log.durable().clone();
    let mut checkpoints = shared.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
    while checkpoints.try_join_next().is_some() {}
    checkpoints.spawn(async move {
        if let Err(error) = checkpoint(&durable, version).await {
            let table = durable.disk().describe("");
            tracing::warn!(table, version, %error, "no checkpoint could be made");
        }
    });
}

/// Opens the table as delta-rs sees it, through the store that syncs.
pub(super) async fn open(
    durable: &Durable,
    version: Option<u64>,
) -> Result<deltalake::DeltaTable, deltalake::DeltaTableError> {
    let root = Url::parse("memory:///").expect("a constant URL");
    let store = Arc::new(DurableStore::new(durable.clone()));
    let builder = DeltaTableBuilder::from_url(root.clone())?.with_storage_backend(store, root);
    match version {
        Some(version) => builder.with_version(version).load().await,
        None => builder.load().await,
    }
}

async fn checkpoint(durable: &Durable, version: u64) -> Result<(), deltalake::DeltaTableError> {
    let table = open(durable, Some(version)).await?;
    create_checkpoint(&table, None).await
}

/// Removes what crashed loads left a week ago or earlier. Blocks.
pub(super) fn sweep(durable: &Durable) {
    for dir in ["", super::log::LOG] {
        for entry in durable.disk().list(dir).unwrap_or_default() {
            let path =
                if dir.is_empty() { entry.name.clone() } else { format!("{dir}/{}", entry.name) };
            let old = || {
                let modified = durable.disk().stat(&path).ok()?.modified;
                Some(SystemTime::now().duration_since(modified).ok()? > LITTER)
            };
            if is_temporary(&entry.name) && !entry.is_dir && old() == Some(true) {
                durable.discard(&path);
            }
        }
    }
}
