//! What sources of files share: reading beside the async tasks, and the sorted copy in the state
//! dir that serves slices where the files themselves would be read too often.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use retrofill_core::connector::SourceBatch;
use retrofill_core::error::{Error, Kind, Result};
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::staging::disk;

/// Batches that wait for the reader of a slice.
const QUEUED: usize = 2;

/// Takes a batch; false once nobody listens any more.
pub(crate) type Emit<'a> = dyn FnMut(SourceBatch) -> bool + 'a;

/// Where sorted copies lie below a state dir.
pub(crate) fn root(state: &Path) -> PathBuf {
    state.join("staging")
}

/// Does work that waits for files on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let broke_off = |e| Err(Error::bug("reading the files broke off").because(e));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(broke_off)
}

/// The place of a source's sorted copy, empty where none was made. Locked while one is made.
#[derive(Debug)]
pub(crate) struct SortedCopy<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Clone for SortedCopy<T> {
    fn clone(&self) -> Self {
        SortedCopy(Arc::clone(&self.0))
    }
}

impl<T> Default for SortedCopy<T> {
    fn default() -> Self {
        SortedCopy(Arc::default())
    }
}

/// A copy in a directory of its own.
pub(crate) trait InDirectory: Send + Sync + 'static {
    /// The directory.
    fn directory(&self) -> &Path;
}

impl<T: InDirectory> SortedCopy<T> {
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().await
    }

    /// Removes every copy from this state dir.
    pub(crate) async fn remove(&self, state: &Path) -> Result<()> {
        let mut copy = self.lock().await;
        *copy = None;
        let root = root(state);
        blocking(move || match std::fs::remove_dir_all(&root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk(&root, e)),
            _ => Ok(()),
        })
        .await
    }

    /// The batches that `read` gives, from this copy or without one. A copy that proves damaged is
    /// forgotten: the next read goes to the files.
    pub(crate) fn deliver(
        &self,
        copy: Option<Arc<T>>,
        read: impl FnOnce(Option<&T>, &mut Emit<'_>) -> Result<()> + Send + 'static,
    ) -> BoxStream<'static, Result<SourceBatch>> {
        let (give, take) = mpsc::channel(QUEUED);
        let (place, failed, used) = (self.clone(), give.clone(), copy.clone());
        tokio::spawn(async move {
            let work = move || {
                let mut emit = |batch| give.blocking_send(Ok(batch)).is_ok();
                read(used.as_deref(), &mut emit)
            };
            if let Err(error) = blocking(work).await {
                if let Some(copy) = copy.filter(|_| error.kind() == Kind::Unavailable) {
                    place.forget(&copy).await;
                }
                // Nobody listens any more; then nobody needs the error.
                let _ = failed.send(Err(error)).await;
            }
        });
        let next = |mut take: mpsc::Receiver<_>| async move {
            take.recv().await.map(|batch| (batch, take))
        };
        stream::unfold(take, next).boxed()
    }

    async fn forget(&self, damaged: &Arc<T>) {
        let mut copy = self.lock().await;
        if copy.as_ref().is_some_and(|c| Arc::ptr_eq(c, damaged)) {
            *copy = None;
            // What is left behind is overwritten by the next copy.
            let _ = std::fs::remove_dir_all(damaged.directory());
        }
    }
}
