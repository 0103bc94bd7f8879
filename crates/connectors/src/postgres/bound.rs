//! How long a transaction may take.

use std::time::{Duration, Instant};

use retrofill_core::error::{Error, Kind, Result};

/// How long a transaction may be open: locks and dead rows add up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) began: Instant,
    /// None: as long as it likes.
    pub(super) longest: Option<Duration>,
}

impl Bound {
    /// The server has the same limit for each statement, and says more of it: it comes first.
    const GRACE: Duration = Duration::from_secs(1);

    /// An error where it is open longer already.
    pub(super) fn check(self) -> Result<()> {
        match self.longest {
            Some(longest) if self.began.elapsed() > longest => Err(overlong(longest).too_long()),
            _ => Ok(()),
        }
    }

    /// An error where the work is not done in time. It may be too much, or nothing comes any more:
    /// half of it need not be quicker.
    pub(super) async fn of<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(longest) = self.longest else { return work.await };
        let left = (longest + Self::GRACE).saturating_sub(self.began.elapsed());
        tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(overlong(longest)))
    }
}

fn overlong(longest: Duration) -> Error {
    let what = format!("the transaction took longer than {} s", longest.as_secs_f64());
    Error::new(Kind::Overloaded, what)
        .hint("`limits.max_transaction` bounds it; the slice is halved where it was too much")
}
