//! Stopping a runner at a named point of a slice, so that a test can kill it exactly there.
//! Builds with debug assertions only.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use retrofill_core::error::{Error, Result};

const VARIABLE: &str = "RETROFILL_HOLD";

/// From the n-th arrival at a point on, nobody comes past it.
#[derive(Debug)]
pub(super) struct Hold {
    point: String,
    arrival: u64,
    arrived: AtomicU64,
}

impl Hold {
    /// What `RETROFILL_HOLD=commit:3` asks for.
    pub(super) fn from_env() -> Result<Option<Self>> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(p, n)| Some((p, n.parse().ok()?)));
        let Some((point, arrival)) = parts else {
            return Err(Error::config(format!("{VARIABLE}={text} is not POINT:ARRIVAL")));
        };
        Ok(Hold { point: point.to_owned(), arrival, arrived: AtomicU64::new(0) })
    }

    /// Whether this arrival is to be held.
    fn holds(&self, point: &str) -> bool {
        point == self.point && self.arrived.fetch_add(1, Ordering::SeqCst) + 1 >= self.arrival
    }

    /// Called at every point. Does not return where the thread is held.
    pub(super) fn reached(&self, point: &str) {
        if !self.holds(point) {
            return;
        }
        // The test waits for this line; if nobody reads it there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "held at {point}");
        // Its place among the runtime's workers is given up, so that the lease is renewed: a
        // runner that is held lives.
        tokio::task::block_in_place(|| {
            loop {
                std::thread::park();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_the_named_arrival_on() {
        let hold = Hold::parse("commit:2").unwrap();
        assert!(!hold.holds("commit"));
        assert!(!hold.holds("write"));
        assert!(hold.holds("commit"));
        assert!(hold.holds("commit"));
        assert!(Hold::parse("commit").is_err());
        assert!(Hold::parse("commit:x").is_err());
    }
}
