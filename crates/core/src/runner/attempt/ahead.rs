//! Reading the source before a load is begun for which others may have to wait.

use std::collections::VecDeque;

use futures::StreamExt as _;

use super::{Attempt, request};
use crate::connector::{Rows, SourceBatch};
use crate::error::Result;

/// This part of a slice's share of memory may be read ahead.
const PART: u64 = 4;

/// The source's rows of a slice: those that are here already, and the way to the others.
pub(super) struct Ahead {
    batches: VecDeque<SourceBatch>,
    pub(super) rows: Rows,
}

impl Ahead {
    /// The next rows, in the source's order.
    pub(super) async fn next(&mut self) -> Option<Result<SourceBatch>> {
        match self.batches.pop_front() {
            Some(batch) => Some(Ok(batch)),
            None => self.rows.batches.next().await,
        }
    }
}

impl Attempt<'_> {
    /// The source's rows, none of them read yet.
    pub(super) async fn open(&self) -> Result<Ahead> {
        let request = request(self.shared, self.slice);
        let mut rows = self.shared.job.source.read(&request).await?;
        rows.batches = rows.batches.fuse().boxed();
        Ok(Ahead { batches: VecDeque::new(), rows })
    }

    /// Where others may wait for the load: the rows, with as many of them read as fit. A slow
    /// source would otherwise hold its transaction open.
    pub(super) async fn read_ahead(&self) -> Result<Option<Ahead>> {
        let target = self.shared.job.target.capabilities();
        let waits = target.served && !self.slice.manners.alone;
        if !waits || self.undo().is_some() {
            return Ok(None);
        }
        let (mut ahead, mut bytes) = (self.open().await?, 0);
        while bytes < self.shared.share() / PART {
            self.shared.go_on()?;
            let Some(batch) = ahead.rows.batches.next().await else { break };
            let batch = batch?;
            bytes += batch.rows.get_array_memory_size() as u64;
            ahead.batches.push_back(batch);
        }
        Ok(Some(ahead))
    }
}
