//! Keeping the lease alive, and knowing when it may be lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::ledger::{Journal, LEASE_BEAT, LEASE_TTL, Lease};
use crate::planted::{self, Bug};

/// Commits need this much of the lease to be left.
const MARGIN: Duration = Duration::from_secs(2);

/// The lease of a run and its heartbeat.
pub(super) struct Beat {
    pub(super) lease: Lease,
    state: Arc<BeatState>,
}

struct BeatState {
    ended: AtomicBool,
    fenced: AtomicBool,
    renewed: Mutex<Duration>,
}

impl Beat {
    /// Starts the heartbeat of a lease that was asked for at `asked` of the uptime clock: its time
    /// may have begun then, however late the answer came.
    pub(super) fn start(
        env: &Arc<dyn Env>,
        journal: Arc<dyn Journal>,
        lease: Lease,
        asked: Duration,
    ) -> Self {
        let state = Arc::new(BeatState {
            ended: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            renewed: Mutex::new(asked),
        });
        let task = beat(env.clone(), journal, lease.clone(), state.clone());
        env.spawn(Box::pin(task));
        Beat { lease, state }
    }

    /// An error of kind `Fenced` where another runner may hold the plan by now.
    pub(super) fn check(&self, env: &dyn Env) -> Result<()> {
        if planted::is(Bug::StaleFenceAccepted) {
            return Ok(());
        }
        let renewed = *self.state.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.state.fenced.load(Ordering::SeqCst)
            || env.uptime().saturating_sub(renewed) + MARGIN >= LEASE_TTL;
        if !lost {
            return Ok(());
        }
        Err(Error::new(Kind::Fenced, "this runner lost its lease of the plan")
            .hint("another runner may have taken over; `retrofill status` shows which"))
    }

    /// Ends the heartbeat.
    pub(super) fn end(&self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.end();
    }
}

async fn beat(env: Arc<dyn Env>, journal: Arc<dyn Journal>, lease: Lease, state: Arc<BeatState>) {
    loop {
        env.sleep(LEASE_BEAT).await;
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        let asked = env.uptime();
        match journal.renew(&lease).await {
            Ok(()) => {
                *state.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            }
            Err(e) if e.kind() == Kind::Fenced => {
                state.fenced.store(true, Ordering::SeqCst);
                return;
            }
            // Tried again with the next beat; `check` stops the work before the lease ends.
            Err(e) => tracing::warn!("the lease could not be renewed: {e}"),
        }
    }
}
