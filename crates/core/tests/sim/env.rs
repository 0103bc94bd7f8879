//! The simulated world: one seeded thread, virtual time, and processes that can be stopped,
//! resumed and killed between any two polls.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::task::{ArcWake, waker};
use jiff::Timestamp;
use retrofill_core::env::{Env, Scratch};
use retrofill_core::error::Result;

use crate::dice::Dice;

/// When virtual time starts.
const EPOCH: i64 = 1_700_000_000;

/// A process of the simulation.
pub(crate) type Process = usize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Running,
    Stopped,
    Dead,
}

struct Task {
    process: Process,
    /// Taken out while it is polled.
    future: Option<BoxFuture<'static, ()>>,
}

struct Timer {
    process: Process,
    waker: Option<Waker>,
}

struct Inner {
    now: Duration,
    dice: Dice,
    chance: Dice,
    lives: Vec<Life>,
    tasks: Vec<Option<Task>>,
    timers: BTreeMap<(Duration, u64), Timer>,
    timer_ids: u64,
    polls: u64,
}

/// The world. Clones are handles.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    ready: Arc<Mutex<Vec<usize>>>,
}

struct Wake {
    task: usize,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl ArcWake for Wake {
    fn wake_by_ref(me: &Arc<Self>) {
        let mut ready = me.ready.lock().unwrap();
        if !ready.contains(&me.task) {
            ready.push(me.task);
        }
    }
}

/// What one step of the world did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task was polled.
    Polled,
    /// Nothing was ready; time went on to the next timer.
    Waited,
    /// Nothing is ready and no timer runs: the world hangs.
    Idle,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        World {
            inner: Arc::new(Mutex::new(Inner {
                now: Duration::ZERO,
                dice: Dice::new(seed, 1),
                chance: Dice::new(seed, 2),
                lives: Vec::new(),
                tasks: Vec::new(),
                timers: BTreeMap::new(),
                timer_ids: 0,
                polls: 0,
            })),
            ready: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Duration {
        self.inner().now
    }

    /// Lets time pass while nobody runs.
    pub(crate) fn pass(&self, length: Duration) {
        self.inner().now += length;
    }

    pub(crate) fn start(&self) -> Process {
        let mut inner = self.inner();
        inner.lives.push(Life::Running);
        inner.lives.len() - 1
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self, process: Process) {
        self.inner().lives[process] = Life::Stopped;
    }

    /// SIGCONT.
    pub(crate) fn resume(&self, process: Process) {
        let mut inner = self.inner();
        if inner.lives[process] == Life::Stopped {
            inner.lives[process] = Life::Running;
        }
    }

    /// kill -9: every task of the process is gone.
    pub(crate) fn kill(&self, process: Process) {
        let gone: Vec<_> = {
            let mut inner = self.inner();
            inner.lives[process] = Life::Dead;
            inner.timers.retain(|_, timer| timer.process != process);
            let ours = |slot: &Option<Task>| slot.as_ref().is_some_and(|t| t.process == process);
            inner.tasks.iter_mut().filter(|slot| ours(slot)).map(Option::take).collect()
        };
        // What a task holds may call back into the world when it is dropped.
        drop(gone);
    }

    /// Lets go of every task.
    pub(crate) fn end(&self) {
        let processes = self.inner().lives.len();
        (0..processes).for_each(|process| self.kill(process));
    }

    pub(crate) fn spawn(&self, process: Process, future: BoxFuture<'static, ()>) {
        let mut inner = self.inner();
        if inner.lives[process] == Life::Dead {
            return;
        }
        inner.tasks.push(Some(Task { process, future: Some(future) }));
        self.ready.lock().unwrap().push(inner.tasks.len() - 1);
    }

    /// Polls one task that is ready, picked by chance; where none is, time goes on.
    pub(crate) fn step(&self) -> Step {
        let Some((id, mut future)) = self.pick() else { return self.wait() };
        let waker = waker(Arc::new(Wake { task: id, ready: Arc::clone(&self.ready) }));
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut inner = self.inner();
        inner.polls += 1;
        let left = match &mut inner.tasks[id] {
            Some(task) if !done => {
                task.future = Some(future);
                None
            }
            slot => {
                *slot = None;
                Some(future)
            }
        };
        drop(inner);
        drop(left);
        Step::Polled
    }

    fn pick(&self) -> Option<(usize, BoxFuture<'static, ()>)> {
        let mut inner = self.inner();
        let mut ready = self.ready.lock().unwrap();
        ready.retain(|id| inner.tasks[*id].is_some());
        let runs = |id: &usize| {
            let task = inner.tasks[*id].as_ref();
            task.is_some_and(|t| inner.lives[t.process] == Life::Running)
        };
        let list: Vec<_> = (0..ready.len()).filter(|i| runs(&ready[*i])).collect();
        if list.is_empty() {
            return None;
        }
        let place = *inner.dice.pick(&list);
        let id = ready.swap_remove(place);
        let future = inner.tasks[id].as_mut().and_then(|t| t.future.take());
        Some((id, future.expect("a task is polled by one step at a time")))
    }

    fn wait(&self) -> Step {
        let mut inner = self.inner();
        let first = inner
            .timers
            .iter()
            .find(|(_, t)| inner.lives[t.process] == Life::Running)
            .map(|(at, _)| *at);
        let Some(key) = first else { return Step::Idle };
        inner.now = inner.now.max(key.0);
        let timer = inner.timers.remove(&key);
        drop(inner);
        if let Some(waker) = timer.and_then(|t| t.waker) {
            waker.wake();
        }
        Step::Waited
    }

    /// A future that is ready after this long.
    pub(crate) fn sleep(&self, process: Process, length: Duration) -> Sleep {
        Sleep { world: self.clone(), process, length, key: None }
    }
}

/// See [`World::sleep`]. Time counts from the first poll.
pub(crate) struct Sleep {
    world: World,
    process: Process,
    length: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut inner = world.inner();
        let Some(key) = self.key else {
            inner.timer_ids += 1;
            let key = (inner.now + self.length, inner.timer_ids);
            let timer = Timer { process: self.process, waker: Some(context.waker().clone()) };
            inner.timers.insert(key, timer);
            self.key = Some(key);
            return Poll::Pending;
        };
        match inner.timers.get_mut(&key) {
            None => Poll::Ready(()),
            Some(timer) => {
                timer.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world.inner().timers.remove(&key);
        }
    }
}

/// The world as one process sees it.
pub(crate) struct SimEnv {
    pub world: World,
    pub process: Process,
    pub scratch: Arc<dyn Scratch>,
}

impl Env for SimEnv {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(EPOCH).unwrap() + self.world.now()
    }

    fn uptime(&self) -> Duration {
        self.world.now()
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.world.sleep(self.process, length))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.world.spawn(self.process, task);
    }

    fn spawn_cpu(&self, work: Box<dyn FnOnce() + Send>) {
        self.world.spawn(self.process, Box::pin(async move { work() }));
    }

    fn random(&self) -> u64 {
        self.world.inner().chance.number()
    }

    fn scratch(&self) -> Arc<dyn Scratch> {
        Arc::clone(&self.scratch)
    }
}

/// Files in memory. A write is torn when the process dies in its middle; what has returned is
/// durable, and so are names after `rename`.
#[derive(Clone)]
pub(crate) struct SimScratch {
    world: World,
    process: Process,
    files: Files,
}

/// The files of one state dir: what every process of the host sees.
pub(crate) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

impl SimScratch {
    pub(crate) fn new(world: &World, process: Process, files: &Files) -> Self {
        SimScratch { world: world.clone(), process, files: Arc::clone(files) }
    }

    /// A place where the process may be killed.
    async fn pause(&self) {
        self.world.sleep(self.process, Duration::from_micros(50)).await;
    }
}

#[async_trait]
impl Scratch for SimScratch {
    async fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let half = bytes[..bytes.len() / 2].to_vec();
        self.files.lock().unwrap().insert(name.into(), half);
        self.pause().await;
        self.files.lock().unwrap().insert(name.into(), bytes.to_vec());
        Ok(())
    }

    async fn append(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let half = bytes.len() / 2;
        for part in [&bytes[..half], &bytes[half..]] {
            self.files.lock().unwrap().entry(name.into()).or_default().extend(part);
            self.pause().await;
        }
        Ok(())
    }

    async fn sync(&self, _: &str) -> Result<()> {
        self.pause().await;
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.pause().await;
        let mut files = self.files.lock().unwrap();
        match files.remove(from) {
            Some(bytes) => {
                files.insert(to.into(), bytes);
                Ok(())
            }
            None => Err(retrofill_core::error::Error::bug(format!("there is no file {from}"))),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.files.lock().unwrap().get(name).cloned())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let files = self.files.lock().unwrap();
        Ok(files.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
