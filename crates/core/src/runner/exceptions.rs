//! The list of rejects and conflicts of one attempt, written aside and renamed after commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::connector::SliceLoad;
use crate::env::{Env, Scratch};
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::receipt::Receipt;
use crate::reject::{Conflict, Exception, Reject, Replaced};

/// Lines held in memory at most, in bytes.
const HELD: u64 = 1 << 20;

/// What one attempt could not load. JSON lines in the state dir.
pub(super) struct Exceptions {
    scratch: Arc<dyn Scratch>,
    name: String,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    /// So many bytes of them at most.
    most: usize,
    /// Some are in the unfinished file.
    spilled: bool,
}

impl Exceptions {
    /// Of one attempt, which may use so many bytes of memory for everything.
    pub(super) fn new(scratch: Arc<dyn Scratch>, slice: &SliceLoad, share: u64) -> Self {
        let SliceLoad { plan, slice, generation, attempt, .. } = slice;
        Exceptions {
            scratch,
            name: format!("rejects/{plan:.8}.{slice}.{generation}.{attempt}.jsonl"),
            lines: Vec::new(),
            most: (share / 64).min(HELD) as usize,
            spilled: false,
        }
    }

    pub(super) fn reject(&mut self, reject: Reject) -> Result<()> {
        self.push(&Exception::RejectV1(reject))
    }

    pub(super) fn conflict(&mut self, conflict: Conflict) -> Result<()> {
        self.push(&Exception::ConflictV1(conflict))
    }

    pub(super) fn replaced(&mut self, replaced: Replaced) -> Result<()> {
        self.push(&Exception::ReplacedV1(replaced))
    }

    fn push(&mut self, exception: &Exception) -> Result<()> {
        serde_json::to_writer(&mut self.lines, exception)
            .map_err(|e| Error::bug("an exception cannot be written as JSON").because(e))?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Puts the lines into the unfinished file where they have become too many.
    pub(super) async fn spill(&mut self) -> Result<()> {
        if self.lines.len() <= self.most {
            return Ok(());
        }
        let part = unfinished(&self.name);
        if !std::mem::replace(&mut self.spilled, true) {
            // An earlier look at the same attempt may have left one.
            self.scratch.delete(&part).await?;
        }
        self.scratch.append(&part, &self.lines).await?;
        self.lines.clear();
        Ok(())
    }

    /// Makes the list durable under its unfinished name; gives the final name. None where it is
    /// empty.
    pub(super) async fn write(&mut self) -> Result<Option<String>> {
        if self.lines.is_empty() && !self.spilled {
            return Ok(None);
        }
        if !planted::is(Bug::ExceptionsLost) {
            let part = unfinished(&self.name);
            if self.spilled {
                self.scratch.append(&part, &self.lines).await?;
                self.scratch.sync(&part).await?;
            } else {
                self.scratch.write(&part, &self.lines).await?;
            }
        }
        Ok(Some(self.name.clone()))
    }

    /// Removes what a try that ends before its proof has spilled.
    pub(super) async fn drop_spilled(&mut self) {
        if std::mem::take(&mut self.spilled)
            && let Err(e) = discard(self.scratch.as_ref(), &self.name).await
        {
            tracing::debug!("{} of a failed try stays behind: {e}", self.name);
        }
    }
}

fn unfinished(name: &str) -> String {
    format!("{name}.part")
}

/// Gives the list of a committed slice its final name. The commit stands whatever happens here:
/// what cannot be named now, the next run names.
pub(super) async fn publish(env: &dyn Env, receipt: &Receipt) {
    let Some(name) = &receipt.latest().exceptions else { return };
    let mut wait = Duration::from_millis(50);
    loop {
        let Err(e) = rename(env.scratch().as_ref(), name).await else { return };
        if wait > Duration::from_secs(1) || !e.kind().is_transient() {
            tracing::warn!("{name} has no final name yet: {e}");
            return;
        }
        env.sleep(wait).await;
        wait *= 4;
    }
}

async fn rename(scratch: &dyn Scratch, name: &str) -> Result<()> {
    let part = unfinished(name);
    if !planted::is(Bug::ListNotRenamed) && scratch.read(&part).await?.is_some() {
        scratch.rename(&part, name).await?;
    }
    Ok(())
}

/// Gives the lists of committed slices their final names where an earlier run could not. Gives
/// the names of all lists that are there.
pub(super) async fn publish_left<'a>(
    scratch: &dyn Scratch,
    receipts: impl Iterator<Item = &'a Receipt>,
) -> Result<HashSet<String>> {
    let mut left: HashSet<_> = scratch.list("rejects/").await?.into_iter().collect();
    for name in receipts.filter_map(|r| r.latest().exceptions.as_ref()) {
        let part = unfinished(name);
        if left.contains(&part) && !planted::is(Bug::ListNotRenamed) {
            scratch.rename(&part, name).await?;
            left.insert(name.clone());
        }
    }
    Ok(left)
}

/// Removes the list of an attempt that committed nothing.
pub(super) async fn discard(scratch: &dyn Scratch, name: &str) -> Result<()> {
    scratch.delete(&unfinished(name)).await
}

/// Reads a published list; none where it is lost.
pub(super) async fn read(scratch: &dyn Scratch, name: &str) -> Result<Option<Vec<Exception>>> {
    let Some(bytes) = scratch.read(name).await? else { return Ok(None) };
    let entries = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| {
        serde_json::from_slice(line)
            .map_err(|e| Error::config(format!("{name} is damaged")).because(e))
    });
    entries.collect::<Result<_>>().map(Some)
}
