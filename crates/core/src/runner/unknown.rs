//! Learning how a commit ended whose answer was lost: the receipts tell. Never a blind retry.

use std::time::Duration;

use super::Shared;
use crate::connector::SliceLoad;
use crate::error::{Error, Kind, Result};
use crate::planted::{self, Bug};
use crate::receipt::Receipt;

/// How often the receipts are asked for before the slice is left as `unknown`.
const TRIES: u32 = 6;

/// What the receipts told.
pub(super) enum Resolved {
    /// It was committed.
    Committed(Box<Receipt>),
    /// It was not, certainly.
    NotCommitted(Error),
    /// They cannot be read.
    Unknown(Error),
}

/// The generation that the receipt must be of.
fn generation_of(receipt: &Receipt, slice: &SliceLoad) -> u64 {
    if planted::is(Bug::ReceiptOfOtherGeneration) {
        return receipt.latest().generation;
    }
    slice.generation
}

/// Asks the receipts until they answer.
pub(super) async fn resolve(shared: &Shared, slice: &SliceLoad, reason: Error) -> Result<Resolved> {
    let mut wait = Duration::from_millis(100);
    let mut last = reason;
    for _ in 0..TRIES {
        match shared.job.target.receipts(&slice.interval).await {
            Ok(known) => {
                let ours = known
                    .found
                    .into_iter()
                    .map(|f| f.receipt)
                    .find(|r| r.is_for(&slice.plan, &slice.slice, generation_of(r, slice)));
                return Ok(match ours {
                    Some(receipt) => Resolved::Committed(Box::new(receipt)),
                    None => Resolved::NotCommitted(Error::new(
                        Kind::Unavailable,
                        format!("the commit got lost: {last}"),
                    )),
                });
            }
            Err(e) if e.kind().is_transient() => last = e,
            Err(e) => return Err(e),
        }
        shared.lease.check(shared.env())?;
        shared.env().sleep(wait).await;
        wait *= 2;
    }
    Ok(Resolved::Unknown(last))
}
