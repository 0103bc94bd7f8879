//! The outside world in production: tokio for tasks and time, threads for computing, the system
//! for chance, the state dir for files.

mod cpu;
#[cfg(debug_assertions)]
mod hold;
mod scratch;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use retrofill_core::env::{Env, Scratch};
use retrofill_core::error::{Error, Result};
use tokio::runtime::Handle;

pub use scratch::DirScratch;

use cpu::CpuPool;

/// The production [`Env`].
#[derive(Debug)]
pub struct TokioEnv {
    started: Instant,
    runtime: Handle,
    cpu: CpuPool,
    scratch: Arc<DirScratch>,
    #[cfg(debug_assertions)]
    hold: Option<hold::Hold>,
}

impl TokioEnv {
    /// For the runtime that calls this, with scratch files in this state dir (created with mode
    /// 0700 where it is missing) and a computing thread for each core. An error of kind `Bug`
    /// outside a runtime.
    pub fn new(state_dir: &Path) -> Result<Self> {
        let runtime = Handle::try_current()
            .map_err(|e| Error::bug("the environment needs a running runtime").because(e))?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(TokioEnv {
            started: Instant::now(),
            runtime,
            cpu: CpuPool::start(threads)?,
            scratch: Arc::new(DirScratch::open(state_dir)?),
            #[cfg(debug_assertions)]
            hold: hold::Hold::from_env()?,
        })
    }
}

impl Env for TokioEnv {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        // Made inside the task, so that it may be asked for from any thread.
        Box::pin(async move { tokio::time::sleep(length).await })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.runtime.spawn(task));
    }

    fn spawn_cpu(&self, work: Box<dyn FnOnce() + Send>) {
        self.cpu.run(work);
    }

    fn random(&self) -> u64 {
        getrandom::u64().expect("every supported system gives random numbers")
    }

    #[cfg(debug_assertions)]
    fn reached(&self, point: &'static str) {
        if let Some(hold) = &self.hold {
            hold.reached(point);
        }
    }

    fn scratch(&self) -> Arc<dyn Scratch> {
        Arc::clone(&self.scratch) as Arc<dyn Scratch>
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use retrofill_core::env::{compute, spawn};
    use retrofill_core::error::Kind;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tasks_and_computations_give_their_results() {
        let dir = tempfile::tempdir().unwrap();
        let env = TokioEnv::new(dir.path()).unwrap();
        assert_eq!(spawn(&env, async { 7 }).await.unwrap(), 7);
        let name = compute(&env, || std::thread::current().name().map(str::to_owned));
        assert!(name.await.unwrap().unwrap().starts_with("compute-"));
        let failed = compute(&env, || panic!("a planted panic")).await.map(|(): ()| ());
        assert_eq!(failed.unwrap_err().kind(), Kind::Bug);
        env.scratch().write("a", b"b").await.unwrap();
        assert_eq!(env.scratch().read("a").await.unwrap().as_deref(), Some(b"b".as_slice()));
    }

    #[tokio::test]
    async fn sleeping_takes_its_time_and_can_start_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let env = Arc::new(TokioEnv::new(dir.path()).unwrap());
        let (wall, up) = (env.now(), env.uptime());
        let (give, take) = mpsc::channel();
        let there = Arc::clone(&env);
        env.spawn_cpu(Box::new(move || {
            give.send(there.sleep(Duration::from_millis(30))).expect("the test waits for it");
        }));
        take.recv().unwrap().await;
        assert!(env.uptime() >= up + Duration::from_millis(30));
        assert!(env.now() > wall);
        assert_ne!(env.random(), env.random());
    }

    #[test]
    fn outside_a_runtime_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(TokioEnv::new(dir.path()).unwrap_err().kind(), Kind::Bug);
    }
}
