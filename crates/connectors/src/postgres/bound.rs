//! How long a transaction may take.

use std::time::{Duration, Instant};

use retrofill_core::columns::Columns;
use retrofill_core::connector::{Manners, Sizing};
use retrofill_core::error::{Error, Kind, Result};

use super::catalog::Table;
use super::ddl;
use super::sql::TableName;

/// Live writers of the same keys shall not wait longer than 2 s, and a rollback takes its time too.
const LONGEST: Duration = Duration::from_millis(1500);

/// The same where each transaction reads the whole table: halves would not be quicker.
pub(super) const LONGEST_SCANNING: Duration = Duration::from_secs(10);

/// So many rows take about a third of [`LONGEST`] on two cores that do nothing else.
const ROWS: u64 = 150_000;

/// The same where nobody waits: enough slices that none is left alone at the end for long.
const ROWS_ALONE: u64 = 250_000;

/// Bytes of a table that can be read whole for every slice and is not felt.
const SMALL: u64 = 256 << 20;

/// How long a transaction with a slice of this table may be open, if there is an end to it.
pub(super) fn longest(manners: Manners, table: &Table, time: &str) -> Option<Duration> {
    let fit = if table.is_sought_by(time) { LONGEST } else { LONGEST_SCANNING };
    (!manners.alone).then(|| manners.longest.unwrap_or(fit))
}

/// Few rows, so that nobody waits long; many, where each slice costs a look at a whole table of so
/// many bytes.
pub(super) fn sizing(
    name: &TableName,
    (table, bytes): (Option<&Table>, u64),
    (columns, manners): (&Columns, Manners),
) -> Result<Sizing> {
    let time = &columns.time().name;
    let scanned = table.filter(|table| !table.is_sought_by(time));
    let Some(table) = scanned.filter(|_| !manners.alone || bytes > SMALL) else {
        return Ok(Sizing { rows: if manners.alone { ROWS_ALONE } else { ROWS }, note: None });
    };
    if manners.alone {
        return Ok(Sizing::default());
    }
    let longest = longest(manners, table, time).unwrap_or(LONGEST_SCANNING).as_secs_f64();
    let note = format!(
        "no index of {name} begins with `{time}`: each slice reads the whole table, and live \
         writers of the same keys may wait {longest} s; {} makes slices small and quick",
        ddl::time_index_ddl(name, time)?
    );
    Ok(Sizing { note: Some(note), ..Sizing::default() })
}

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
