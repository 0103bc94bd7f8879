//! Threads that compute, so that waiting tasks are never held up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use retrofill_core::error::{Error, Result};

type Work = Box<dyn FnOnce() + Send>;

/// A fixed number of threads with one queue, first in, first out. The queue itself has no bound:
/// who submits work holds the memory budget for it. Dropping the pool ends the threads once the
/// queue is empty.
#[derive(Debug)]
pub(super) struct CpuPool {
    queue: Sender<Work>,
}

impl CpuPool {
    /// Starts the threads.
    pub(super) fn start(threads: usize) -> Result<Self> {
        let (queue, work) = mpsc::channel();
        let work = Arc::new(Mutex::new(work));
        for n in 0..threads {
            let work = Arc::clone(&work);
            std::thread::Builder::new()
                .name(format!("compute-{n}"))
                .spawn(move || while next(&work).is_some_and(run) {})
                .map_err(|e| Error::unavailable("no thread to compute on").because(e))?;
        }
        Ok(CpuPool { queue })
    }

    /// Queues the work.
    pub(super) fn run(&self, work: Work) {
        if self.queue.send(work).is_err() {
            tracing::error!("all computing threads ended");
        }
    }
}

/// The next piece of work; none once the pool is gone.
fn next(work: &Mutex<Receiver<Work>>) -> Option<Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Runs it; a panic must cost its own caller the result and nobody a thread.
fn run(work: Work) -> bool {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a computation panicked");
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_threads_work_at_once_and_survive_panics() {
        let pool = CpuPool::start(3).unwrap();
        for _ in 0..9 {
            pool.run(Box::new(|| panic!("a planted panic")));
        }
        // Passes only if three threads are inside at the same time.
        let barrier = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            pool.run(Box::new(move || {
                barrier.wait();
            }));
        }
        barrier.wait();
    }

    #[test]
    fn dropping_the_pool_finishes_the_queue_and_ends_the_threads() {
        let pool = CpuPool::start(2).unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let (alive, ended) = mpsc::channel::<()>();
        for _ in 0..50 {
            let (done, alive) = (Arc::clone(&done), alive.clone());
            pool.run(Box::new(move || {
                std::thread::yield_now();
                done.fetch_add(1, Ordering::SeqCst);
                drop(alive);
            }));
        }
        drop((pool, alive));
        assert!(ended.recv().is_err(), "ends once the last piece of work is gone");
        assert_eq!(done.load(Ordering::SeqCst), 50);
    }
}
