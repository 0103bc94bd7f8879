//! How fast a run may go. For now a plain cap on rows per second; concurrency is a number of
//! tasks.

use std::sync::Mutex;
use std::time::Duration;

use crate::env::Env;

/// Paces the slices of a run. A slice that is open never waits here: the wait for its rows comes
/// before the next one begins.
#[derive(Debug)]
pub struct Throttle {
    rows_per_second: Option<u64>,
    /// When the rows admitted so far are paid for.
    paid: Mutex<Duration>,
}

impl Throttle {
    /// No cap where none is given.
    pub fn new(rows_per_second: Option<u64>) -> Self {
        Throttle { rows_per_second, paid: Mutex::new(Duration::ZERO) }
    }

    /// How long the next slice must wait so that the rate holds on average.
    pub fn wait(&self, env: &dyn Env) -> Duration {
        let paid = *self.paid.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        paid.saturating_sub(env.uptime())
    }

    /// Counts rows of a slice that was loaded.
    pub fn spend(&self, env: &dyn Env, rows: u64) {
        let Some(rate) = self.rows_per_second else { return };
        let cost = Duration::from_secs_f64(rows as f64 / rate.max(1) as f64);
        let mut paid = self.paid.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *paid = (*paid).max(env.uptime()) + cost;
    }
}
