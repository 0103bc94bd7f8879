//! Everything of the outside world that core may touch: time, tasks, chance and scratch space.
//!
//! Production gives tokio and a pool of threads for computing; the simulation gives one seeded
//! thread that may stop at any poll.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::error::{Error, Result};

/// The world, as core sees it.
pub trait Env: Send + Sync + 'static {
    /// The time of day. Never used to decide which rows belong to a slice.
    fn now(&self) -> Timestamp;

    /// A clock that never goes back, for leases and rates.
    fn uptime(&self) -> Duration;

    /// Completes after this long.
    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()>;

    /// Starts a task that runs beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs a computation where it does not hold up waiting tasks.
    fn spawn_cpu(&self, work: Box<dyn FnOnce() + Send>);

    /// A random number.
    fn random(&self) -> u64;

    /// The runner is at this point of a slice: `read`, `write`, `remove`, `read-back`, `commit` or
    /// `ledger` (committed, not yet journalled). Tests stop or kill a runner exactly there.
    fn reached(&self, point: &'static str) {
        let _ = point;
    }

    /// Files of the state dir.
    fn scratch(&self) -> Arc<dyn Scratch>;
}

/// Runs `work` on the computing threads and waits for its result.
pub async fn compute<T: Send + 'static>(
    env: &dyn Env,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (give, take) = oneshot::channel();
    env.spawn_cpu(Box::new(move || {
        // The waiting task may be gone; then nobody needs the result.
        let _ = give.send(work());
    }));
    take.await.map_err(|_| Error::bug("a computation ended without a result"))
}

/// Starts a task and gives a future of its result.
pub fn spawn<T: Send + 'static>(
    env: &dyn Env,
    task: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let (give, take) = oneshot::channel();
    env.spawn(Box::pin(async move {
        // The waiting task may be gone; then nobody needs the result.
        let _ = give.send(task.await);
    }));
    Box::pin(async move { take.await.map_err(|_| Error::bug("a task ended without a result")) })
}

/// Files by name (`a/b.jsonl`), for exceptions, spill and staging. Nothing is durable before
/// `sync`; a name is durable after `rename`.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// Creates the file (emptying one that is there) with these bytes and makes them durable.
    async fn write(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Adds bytes at the end of the file, creating it where there is none. Not durable before
    /// `sync`.
    async fn append(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Makes what was appended to the file durable.
    async fn sync(&self, name: &str) -> Result<()>;

    /// Gives a file its final name, durably; one that is there is replaced.
    async fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// All bytes, or none where there is no such file.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Removes the file, if it is there.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Names that start with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;
}
