//! The list of rejects and conflicts of one attempt, written aside and renamed after commit.

use std::collections::HashSet;
use std::time::Duration;

use crate::env::{Env, Scratch};
use crate::error::{Error, Result};
use crate::id::{PlanId, SliceId};
use crate::planted::{self, Bug};
use crate::receipt::Receipt;
use crate::reject::{Conflict, Exception, Reject};

/// What one attempt could not load. JSON lines in the state dir.
#[derive(Debug, Default)]
pub(super) struct Exceptions {
    lines: Vec<u8>,
}

impl Exceptions {
    pub(super) fn reject(&mut self, reject: Reject) -> Result<()> {
        self.push(&Exception::RejectV1(reject))
    }

    pub(super) fn conflict(&mut self, conflict: Conflict) -> Result<()> {
        self.push(&Exception::ConflictV1(conflict))
    }

    fn push(&mut self, exception: &Exception) -> Result<()> {
        serde_json::to_writer(&mut self.lines, exception)
            .map_err(|e| Error::bug("an exception cannot be written as JSON").because(e))?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Writes the list under its unfinished name; gives the final name. None where it is empty.
    pub(super) async fn write(
        &self,
        scratch: &dyn Scratch,
        plan: &PlanId,
        slice: &SliceId,
        generation: u64,
        attempt: u32,
    ) -> Result<Option<String>> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        let name = format!("rejects/{plan:.8}.{slice}.{generation}.{attempt}.jsonl");
        if !planted::is(Bug::ExceptionsLost) {
            scratch.write(&unfinished(&name), &self.lines).await?;
        }
        Ok(Some(name))
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

/// Gives the lists of committed slices their final names where an earlier run could not.
pub(super) async fn publish_left<'a>(
    scratch: &dyn Scratch,
    receipts: impl Iterator<Item = &'a Receipt>,
) -> Result<()> {
    let left: HashSet<_> = scratch.list("rejects/").await?.into_iter().collect();
    for name in receipts.filter_map(|r| r.latest().exceptions.as_ref()) {
        let part = unfinished(name);
        if left.contains(&part) && !planted::is(Bug::ListNotRenamed) {
            scratch.rename(&part, name).await?;
        }
    }
    Ok(())
}

/// Removes the list of an attempt that committed nothing.
pub(super) async fn discard(scratch: &dyn Scratch, name: &str) -> Result<()> {
    scratch.delete(&unfinished(name)).await
}

/// Reads a published list.
pub(super) async fn read(scratch: &dyn Scratch, name: &str) -> Result<Vec<Exception>> {
    let Some(bytes) = scratch.read(name).await? else { return Ok(Vec::new()) };
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line)
                .map_err(|e| Error::config(format!("{name} is damaged")).because(e))
        })
        .collect()
}
