//! One try at one slice: held, read, decide, write, seal, read back, compare, commit.

mod ahead;
mod fill;
mod look;
mod prove;
mod replace;

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

use self::replace::Changes;
use super::Shared;
use super::drive::Before;
use super::exceptions::Exceptions;
use super::heal::Allowed;
use super::held::{Copies, Held};
use super::ours::{Basis, Evidence, Owned};
use super::repeats::Repeats;
use super::sinks::Summer;
use crate::connector::{Load, ReadRequest, SliceLoad};
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::interval::Interval;
use crate::ledger::{Outcome, SliceEvent};
use crate::manifest::{Entry, Manifest};
use crate::planted::{self, Bug};
use crate::receipt::{Counts, Digests, Receipt};
use crate::spec::Mode;

/// How a try ended that did not fail.
pub(super) enum Ended {
    /// In the target and proven.
    Committed(Box<Receipt>),
    /// The commit's outcome could not be learnt.
    Unknown(Error),
    /// Keys repeat in the source; they must be decided before the slice is written.
    Repeats(HashSet<u64>),
    /// Live rows with keys of ours arrived meanwhile: decide again.
    Overtaken,
    /// The slice holds more rows than its share of memory allows.
    TooLarge,
}

/// The state of one try.
pub(super) struct Attempt<'a> {
    shared: &'a Shared,
    slice: &'a SliceLoad,
    hasher: Hasher,
    repeats: &'a Repeats,
    /// What was known of the slice when the run began, and what may be done with it.
    before: &'a Before,
    /// The plan's mode; that of `slice` says what the target is to be prepared for.
    mode: Mode,
    /// The target knows of an earlier load of this slice.
    again: bool,
    /// Bytes that held rows may take.
    share: u64,
    /// Told how many rows were read, also where the try fails.
    read: &'a AtomicU64,
    held: Held,
    copies: Copies,
    counts: Counts,
    digests: Digests,
    written: Summer,
    exceptions: Exceptions,
    changes: Changes,
    /// Leading bytes of the key hashes of every source row that stays; of the row hashes where
    /// rows have no key and an earlier load left some of them.
    prefixes: Vec<u64>,
    blocks: Vec<String>,
    /// What is known of earlier loads of the slice.
    evidence: Evidence,
    /// What of that the slice holds.
    owned: Owned,
    /// The rows that the source has and an undo may take out, where it goes by the source.
    of_source: Option<Manifest>,
    /// Keys that the newest load listed as conflicts; none where nobody knows them any more.
    listed: Option<HashSet<u128>>,
    /// Rows that were changed since they were loaded and get the source's values again.
    overwritten: u64,
    /// Rows of others that were taken out.
    displaced: u64,
    /// The rows that were written, where a manifest is kept.
    entries: Vec<Entry>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        slice: &'a SliceLoad,
        repeats: &'a Repeats,
        before: &'a Before,
        share: u64,
        read: &'a AtomicU64,
    ) -> Self {
        let plan = &shared.job.plan;
        Attempt {
            shared,
            slice,
            hasher: plan.hasher(&plan.salt),
            repeats,
            before,
            mode: plan.spec.write.mode,
            again: false,
            share,
            read,
            held: Held::default(),
            copies: Copies::default(),
            counts: Counts::default(),
            digests: Digests::default(),
            written: Summer::new(&slice.interval),
            exceptions: Exceptions::new(shared.env().scratch(), slice, share),
            changes: Changes::default(),
            prefixes: Vec::new(),
            blocks: Vec::new(),
            evidence: Evidence::default(),
            owned: Owned::default(),
            of_source: None,
            listed: None,
            overwritten: 0,
            displaced: 0,
            entries: Vec::new(),
        }
    }

    /// What an undo may take out, where this is one.
    fn undo(&self) -> Option<&'a Allowed> {
        self.before.leave.undo.as_ref()
    }

    /// Reads what is known of earlier loads.
    async fn learn(&mut self) -> Result<()> {
        let (shared, slice) = (self.shared, self.slice);
        self.evidence = Evidence::gather(shared, &slice.slice, &self.before.newest).await?;
        let receipt = self.evidence.receipt.as_ref();
        if let (Some(_), Some(receipt)) = (&self.before.leave.overwrite, receipt) {
            self.listed = super::verify::conflicts(shared, receipt).await?;
        }
        if let (Some(Allowed { basis: Basis::Source, .. }), Some(receipt)) = (self.undo(), receipt)
        {
            let of = (&slice.slice, &slice.interval);
            self.of_source = super::verify::loaded(shared, of, receipt, &self.hasher).await?;
        }
        Ok(())
    }

    /// Does the try. Whatever happens, nothing is left behind but a commit.
    pub(super) async fn run(mut self) -> Result<Ended> {
        let plan = &self.shared.job.plan;
        if self.undo().is_none() {
            self.changes = Changes::new(&plan.spec.write, &plan.columns)?;
        }
        self.learn().await?;
        let ahead = self.read_ahead().await?;
        let mut load = self.shared.job.target.begin(self.slice).await?;
        let held = self.hold(load.as_mut()).await;
        match held {
            Ok(true) => {}
            Ok(false) => {
                load.abort().await?;
                return Ok(Ended::TooLarge);
            }
            Err(e) => return Err(abort(load, e).await),
        }
        let written = match self.undo() {
            Some(allowed) => self.pick_ours(allowed).map(|()| HashSet::new()),
            None => self.fill(load.as_mut(), ahead).await,
        };
        let repeats = match written {
            Ok(repeats) => repeats,
            Err(e) => {
                self.exceptions.drop_spilled().await;
                return Err(abort(load, e).await);
            }
        };
        if !repeats.is_empty() {
            self.exceptions.drop_spilled().await;
            load.abort().await?;
            return Ok(Ended::Repeats(repeats));
        }
        let replaced = self.replace(load.as_mut()).await;
        let proven = match replaced {
            Ok(()) => self.prove(load.as_mut()).await,
            Err(e) => Err(e),
        };
        let receipt = match proven {
            Ok(receipt) => receipt,
            Err(e) => {
                self.exceptions.drop_spilled().await;
                return Err(abort(load, e).await);
            }
        };
        self.commit(load, receipt).await
    }
}

/// What the journal says of a load that this run committed.
pub(super) fn committed(receipt: &Receipt) -> SliceEvent {
    undone(receipt).unwrap_or_else(|| SliceEvent::Committed(outcome(receipt)))
}

/// What the journal says of a receipt that was found.
pub(super) fn recovered(receipt: &Receipt) -> SliceEvent {
    undone(receipt).unwrap_or_else(|| SliceEvent::Recovered(outcome(receipt)))
}

fn undone(receipt: &Receipt) -> Option<SliceEvent> {
    let r = receipt.latest();
    let rows = r.undone().filter(|_| !planted::is(Bug::UndoTakenForLoad))?;
    Some(SliceEvent::Undone { generation: r.generation, rows })
}

/// The journal's result of a receipt.
pub(super) fn outcome(receipt: &Receipt) -> Outcome {
    let r = receipt.latest();
    Outcome {
        generation: r.generation,
        counts: r.counts,
        digest: r.digests.after.to_hex(),
        proven: true,
        at: r.at,
    }
}

/// What a try asks of the source.
pub(super) fn request(shared: &Shared, slice: &SliceLoad) -> ReadRequest {
    ReadRequest {
        interval: if planted::is(Bug::HalfOpenOffByOne) {
            closed(&slice.interval)
        } else {
            slice.interval
        },
        columns: slice.columns.clone(),
        survey: shared.job.plan.survey.clone(),
    }
}

/// The interval with its end, as the planted bug has it.
fn closed(interval: &Interval) -> Interval {
    let end = interval.end() + std::time::Duration::from_nanos(1);
    Interval::new(interval.start(), end).unwrap_or(*interval)
}

/// Ends a load after an error; the error stays the first one.
pub(super) async fn abort(load: Box<dyn Load>, error: Error) -> Error {
    if planted::is(Bug::RetryWithoutAbort) {
        std::mem::forget(load);
        return error;
    }
    if let Err(e) = load.abort().await {
        tracing::warn!("a failed load could not be cleaned up: {e}");
    }
    error
}
