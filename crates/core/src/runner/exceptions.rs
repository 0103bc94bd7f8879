//! The list of rejects and conflicts of one attempt, written aside and renamed after commit.

use crate::env::Scratch;
use crate::error::{Error, Result};
use crate::id::SliceId;
use crate::planted::{self, Bug};
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
        slice: &SliceId,
        generation: u64,
        attempt: u32,
    ) -> Result<Option<String>> {
        if self.lines.is_empty() {
            return Ok(None);
        }
        let name = format!("rejects/{slice}.{generation}.{attempt}.jsonl");
        if !planted::is(Bug::ExceptionsLost) {
            scratch.write(&unfinished(&name), &self.lines).await?;
        }
        Ok(Some(name))
    }
}

fn unfinished(name: &str) -> String {
    format!("{name}.part")
}

/// Gives the list its final name. Does nothing where that was done before.
pub(super) async fn publish(scratch: &dyn Scratch, name: &str) -> Result<()> {
    let part = unfinished(name);
    if scratch.read(&part).await?.is_some() {
        scratch.rename(&part, name).await?;
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
