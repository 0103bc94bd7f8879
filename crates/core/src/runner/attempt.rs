//! One try at one slice: held, read, decide, write, seal, read back, compare, commit.

use arrow::array::{Array, BooleanArray};
use arrow::compute::filter_record_batch;
use futures::StreamExt as _;

use super::exceptions::{self, Exceptions};
use super::held::{Copies, Held, Standing};
use super::repeats::{Fate, Repeats, prefix, repeated};
use super::sinks::{Hashed, Summer, Taken, hash};
use super::unknown;
use super::{Happening, Shared};
use crate::connector::{CommitOutcome, Load, ReadRequest, SliceLoad, SourceBatch};
use crate::digest::{Digest, ENCODING, Hasher, PARTS_FROM_ROWS};
use crate::error::{Error, Kind, Result};
use crate::id::hex;
use crate::interval::Interval;
use crate::ledger::{Event, Outcome, SliceEvent};
use crate::planted::{self, Bug};
use crate::receipt::{Counts, Digests, Receipt, ReceiptV1};
use crate::reject::{Conflict, Reject};
use crate::spec::Mode;

/// How a try ended that did not fail.
pub(super) enum Ended {
    /// In the target and proven.
    Committed(Outcome),
    /// The commit's outcome could not be learnt.
    Unknown(Error),
    /// Keys repeat in the source; they must be decided before the slice is written.
    Repeats(std::collections::HashSet<u64>),
    /// Live rows with keys of ours arrived meanwhile: decide again.
    Overtaken,
}

/// The state of one try.
pub(super) struct Attempt<'a> {
    shared: &'a Shared,
    slice: &'a SliceLoad,
    hasher: Hasher,
    repeats: &'a Repeats,
    /// The target has a receipt of an earlier generation of this slice.
    again: bool,
    held: Held,
    copies: Copies,
    counts: Counts,
    digests: Digests,
    written: Summer,
    exceptions: Exceptions,
    /// Leading bytes of the key hashes of every source row that stays.
    prefixes: Vec<u64>,
    blocks: Vec<String>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        slice: &'a SliceLoad,
        repeats: &'a Repeats,
        again: bool,
    ) -> Self {
        let plan = &shared.job.plan;
        Attempt {
            shared,
            slice,
            hasher: Hasher::new(&plan.columns, &plan.salt),
            repeats,
            again,
            held: Held::default(),
            copies: Copies::default(),
            counts: Counts::default(),
            digests: Digests::default(),
            written: Summer::new(&slice.interval),
            exceptions: Exceptions::default(),
            prefixes: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Does the try. Whatever happens, nothing is left behind but a commit.
    pub(super) async fn run(mut self) -> Result<Ended> {
        let mut load = self.shared.job.target.begin(self.slice).await?;
        let written = self.fill(load.as_mut()).await;
        let repeats = match written {
            Ok(repeats) => repeats,
            Err(e) => return Err(abort(load, e).await),
        };
        if !repeats.is_empty() {
            load.abort().await?;
            return Ok(Ended::Repeats(repeats));
        }
        let receipt = match self.prove(load.as_mut()).await {
            Ok(receipt) => receipt,
            Err(e) => return Err(abort(load, e).await),
        };
        self.commit(load, receipt).await
    }

    /// Reads held and source rows and writes what is missing. Gives the prefixes that repeat.
    async fn fill(&mut self, load: &mut dyn Load) -> Result<std::collections::HashSet<u64>> {
        self.hold(load).await?;
        let request = request(self.shared, self.slice);
        let mut rows = self.shared.job.source.read(&request).await?;
        self.blocks = std::mem::take(&mut rows.blocks);
        while let Some(batch) = rows.batches.next().await {
            self.shared.go_on()?;
            self.shared.env().reached("read");
            self.take(load, batch?).await?;
        }
        let keyed = self.slice.mode != Mode::Append && !planted::is(Bug::DuplicateKept);
        if !keyed {
            return Ok(std::collections::HashSet::new());
        }
        let mut again = repeated(&mut self.prefixes);
        again.retain(|p| !self.repeats.prefixes.contains(p));
        Ok(again)
    }

    async fn hold(&mut self, load: &mut dyn Load) -> Result<()> {
        if planted::is(Bug::SkipHeld) {
            return Ok(());
        }
        let plan = &self.shared.job.plan;
        let sink = Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        // Append writes whatever is held, but never twice what an earlier generation wrote.
        let append = self.slice.mode == Mode::Append;
        let mut sink = if append && !self.again { sink } else { sink.keeping() };
        load.held(&mut sink).await?;
        let kept = sink.kept.unwrap_or_default();
        if append {
            self.copies = Copies::new(&kept);
        } else {
            self.held = Held::new(kept);
        }
        self.digests.before = sink.sum.digest();
        Ok(())
    }

    async fn take(&mut self, load: &mut dyn Load, batch: SourceBatch) -> Result<()> {
        let SourceBatch { rows, ordinals, rejects, filtered } = batch;
        let read = rows.num_rows() as u64 + rejects.len() as u64 + filtered;
        self.counts.read += read;
        self.counts.filtered += filtered;
        for reject in rejects {
            self.refuse(reject)?;
        }
        let hashed = hash(self.shared.env(), &self.hasher, rows).await?;
        let write = self.decide(&hashed, &ordinals).await?;
        self.write(load, &hashed, &ordinals, &write).await?;
        self.shared.job.watch.on(&Happening::Rows(read));
        Ok(())
    }

    fn refuse(&mut self, reject: Reject) -> Result<()> {
        if !planted::is(Bug::RejectUncounted) {
            self.counts.rejected += 1;
        }
        self.exceptions.reject(reject)
    }

    /// For each row whether it is to be written; counts and lists the others.
    async fn decide(&mut self, hashed: &Hashed, ordinals: &[u64]) -> Result<Vec<bool>> {
        let incomplete = incomplete(self, hashed);
        let mut refused = Vec::new();
        let mut write = vec![false; hashed.hashes.len()];
        for (row, hashes) in hashed.hashes.iter().enumerate() {
            if let Some(column) = incomplete.as_ref().and_then(|i| i[row].clone()) {
                refused.push((ordinals[row], Some(column), "NULL in a key or in the time"));
                continue;
            }
            match self.repeats.fates.get(&ordinals[row]) {
                Some(Fate::Duplicate) => self.counts.duplicate += 1,
                Some(Fate::Rejected) => {
                    refused.push((ordinals[row], None, "unequal rows of the source share its key"));
                }
                None => {
                    self.digests.read.add_row(hashes);
                    if self.slice.mode != Mode::Append {
                        self.prefixes.push(prefix(hashes));
                    }
                    write[row] = self.place(hashed, row)?;
                }
            }
        }
        self.refuse_all(refused).await?;
        Ok(write)
    }

    /// Whether a row that stays is to be written, by what is held.
    fn place(&mut self, hashed: &Hashed, row: usize) -> Result<bool> {
        let hashes = &hashed.hashes[row];
        if self.copies.take(hashes) {
            self.counts.already_present += 1;
            self.digests.present.add_row(hashes);
            return Ok(false);
        }
        if self.held.is_empty() {
            return Ok(true);
        }
        match self.held.standing(hashes) {
            Standing::New => Ok(true),
            Standing::Present => {
                self.counts.already_present += 1;
                self.digests.present.add_row(hashes);
                Ok(false)
            }
            Standing::Conflict(_) if planted::is(Bug::ConflictOverwritten) => Ok(true),
            Standing::Conflict(live) => {
                self.counts.conflicting += 1;
                self.digests.conflict_source.add_row(hashes);
                let held = crate::digest::RowHashes { key: hashes.key, row: live };
                self.digests.conflict_live.add_row(&held);
                let conflict = conflict(&self.shared.job.plan.columns, hashed, row, live)?;
                self.exceptions.conflict(conflict)?;
                Ok(false)
            }
        }
    }

    /// Refuses rows that only we can refuse; the source tells where they stand.
    async fn refuse_all(&mut self, rows: Vec<(u64, Option<String>, &str)>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let job = &self.shared.job;
        let ordinals: Vec<_> = rows.iter().map(|r| r.0).collect();
        let places = job.source.locate(&job.plan.survey, &ordinals).await?;
        for ((_, column, reason), (place, text)) in rows.into_iter().zip(places) {
            self.refuse(Reject { place, column, reason: reason.into(), text })?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        load: &mut dyn Load,
        hashed: &Hashed,
        ordinals: &[u64],
        write: &[bool],
    ) -> Result<()> {
        let chosen: Vec<_> = (0..write.len()).filter(|row| write[*row]).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let rows = if chosen.len() == write.len() {
            hashed.rows.clone()
        } else {
            let mask = BooleanArray::from(write.to_vec());
            filter_record_batch(&hashed.rows, &mask)
                .map_err(|e| Error::bug("a batch cannot be filtered").because(e))?
        };
        self.shared.env().reached("write");
        let mut refused = load.write(rows).await?;
        refused.sort_by_key(|r| r.row);
        let mut refused = refused.into_iter().peekable();
        let mut list = Vec::new();
        for (place, &row) in chosen.iter().enumerate() {
            if let Some(r) = refused.next_if(|r| r.row == place) {
                list.push((ordinals[row], r.column, r.reason))
            } else {
                self.counts.written += 1;
                self.written.add(&hashed.hashes[row], hashed.times[row]);
            }
        }
        let list: Vec<_> = list.iter().map(|(o, c, r)| (*o, c.clone(), r.as_str())).collect();
        self.refuse_all(list).await
    }

    /// Seals, reads back and compares; gives the receipt to commit.
    async fn prove(&mut self, load: &mut dyn Load) -> Result<Receipt> {
        self.counts.check()?;
        let shared = self.shared;
        if !planted::is(Bug::SkipBarrier) {
            load.seal().await?;
        }
        let written = SliceEvent::Written { rows: self.counts.written };
        self.journal(written).await?;
        self.digests.written =
            std::mem::replace(&mut self.written, Summer::new(&self.slice.interval)).digest();
        let mut expected = self.digests.before.clone();
        expected.add(&self.digests.written);
        let plan = &shared.job.plan;
        let mut sink = Taken::new(shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        if planted::is(Bug::SkipReadBack) {
            self.digests.after = expected;
        } else {
            shared.env().reached("read-back");
            load.read_back(&mut sink).await?;
            self.digests.after = sink.sum.digest();
            compare(&expected, &self.digests.after)?;
        }
        self.journal(SliceEvent::Proven { digest: self.digests.after.to_hex() }).await?;
        let exceptions = self
            .exceptions
            .write(
                shared.env().scratch().as_ref(),
                &self.slice.slice,
                self.slice.generation,
                self.slice.attempt,
            )
            .await?;
        Ok(self.receipt(exceptions))
    }

    async fn journal(&self, what: SliceEvent) -> Result<()> {
        let shared = self.shared;
        let event = Event::slice(&self.slice.slice, what);
        shared.job.journal.append(&shared.lease.lease, vec![event], false).await
    }

    fn receipt(&self, exceptions: Option<String>) -> Receipt {
        let (plan, slice) = (&self.shared.job.plan, self.slice);
        let thin = |d: &Digest| d.clone().without_parts();
        let d = &self.digests;
        let many = d.after.count >= PARTS_FROM_ROWS;
        Receipt::V1(ReceiptV1 {
            plan: slice.plan.clone(),
            slice: slice.slice.clone(),
            generation: slice.generation,
            interval: slice.interval,
            mode: slice.mode,
            policies: Vec::new(),
            encoding: ENCODING.into(),
            fingerprint: plan.columns.fingerprint(),
            salt: if planted::is(Bug::SaltLost) { [0; 16] } else { plan.salt },
            blocks: self.blocks.clone(),
            counts: self.counts,
            digests: Digests {
                read: thin(&d.read),
                written: thin(&d.written),
                removed: thin(&d.removed),
                present: thin(&d.present),
                conflict_source: thin(&d.conflict_source),
                conflict_live: thin(&d.conflict_live),
                before: thin(&d.before),
                after: if many { d.after.clone() } else { thin(&d.after) },
            },
            at: self.shared.env().now(),
            exceptions,
            anchor: serde_json::Value::Null,
        })
    }

    async fn commit(mut self, mut load: Box<dyn Load>, mut receipt: Receipt) -> Result<Ended> {
        if planted::is(Bug::LedgerBeforeCommit) {
            let event = Event::slice(&self.slice.slice, SliceEvent::Committed(outcome(&receipt)));
            let lease = &self.shared.lease.lease;
            self.shared.job.journal.append(lease, vec![event], true).await?;
        }
        loop {
            if let Err(e) = self.shared.go_on() {
                return Err(self.give_up(load, &receipt, e).await);
            }
            self.shared.env().reached("commit");
            match load.commit(receipt.clone()).await {
                CommitOutcome::Committed => return self.committed(&receipt).await,
                CommitOutcome::NotCommitted(e) => {
                    self.discard(&receipt).await;
                    return Err(e);
                }
                CommitOutcome::Unknown(e) => return self.resolve(&receipt, e).await,
                CommitOutcome::Moved(moved) => {
                    load = moved;
                    match self.overtaken(load.as_mut(), &mut receipt).await {
                        Ok(false) => {}
                        Ok(true) => {
                            load.abort().await?;
                            self.discard(&receipt).await;
                            return Ok(Ended::Overtaken);
                        }
                        Err(e) => return Err(self.give_up(load, &receipt, e).await),
                    }
                }
            }
        }
    }

    /// Takes in the rows that arrived since `held`; true where one of them has a key of ours.
    async fn overtaken(&mut self, load: &mut dyn Load, receipt: &mut Receipt) -> Result<bool> {
        let plan = &self.shared.job.plan;
        let mut sink =
            Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns)
                .keeping();
        load.arrivals(&mut sink).await?;
        if planted::is(Bug::ArrivalsIgnored) {
            return Ok(false);
        }
        let arrived = sink.kept.unwrap_or_default();
        // `prefixes` was sorted by the search for repeats.
        if arrived.iter().any(|h| self.prefixes.binary_search(&prefix(h)).is_ok()) {
            return Ok(true);
        }
        let sum = sink.sum.digest();
        let digests = &mut receipt.latest_mut().digests;
        digests.before.add(&sum.clone().without_parts());
        self.digests.after.add(&sum);
        let many = self.digests.after.count >= PARTS_FROM_ROWS;
        digests.after = if many {
            self.digests.after.clone()
        } else {
            self.digests.after.clone().without_parts()
        };
        // The arrivals decide over our own rows: what was heard of them is proven too.
        let mut sink =
            Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        if !planted::is(Bug::ArrivalsUnproven) {
            load.read_back(&mut sink).await?;
            compare(&self.digests.after, &sink.sum.digest())?;
        }
        Ok(false)
    }

    async fn resolve(&self, receipt: &Receipt, reason: Error) -> Result<Ended> {
        if planted::is(Bug::UnknownTakenForCommitted) {
            return self.committed(receipt).await;
        }
        match unknown::resolve(self.shared, self.slice, reason).await? {
            unknown::Resolved::Committed(receipt) => self.committed(&receipt).await,
            unknown::Resolved::NotCommitted(e) => {
                self.discard(receipt).await;
                Err(e)
            }
            unknown::Resolved::Unknown(e) => Ok(Ended::Unknown(e)),
        }
    }

    async fn committed(&self, receipt: &Receipt) -> Result<Ended> {
        self.shared.env().reached("ledger");
        exceptions::publish(self.shared.env(), receipt).await;
        Ok(Ended::Committed(outcome(receipt)))
    }

    async fn give_up(&self, load: Box<dyn Load>, receipt: &Receipt, error: Error) -> Error {
        self.discard(receipt).await;
        abort(load, error).await
    }

    async fn discard(&self, receipt: &Receipt) {
        if let Some(name) = &receipt.latest().exceptions {
            let scratch = self.shared.env().scratch();
            if let Err(e) = exceptions::discard(scratch.as_ref(), name).await {
                tracing::warn!("{name} of a failed try stays behind: {e}");
            }
        }
    }
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
async fn abort(load: Box<dyn Load>, error: Error) -> Error {
    if planted::is(Bug::RetryWithoutAbort) {
        std::mem::forget(load);
        return error;
    }
    if let Err(e) = load.abort().await {
        tracing::warn!("a failed load could not be cleaned up: {e}");
    }
    error
}

fn compare(expected: &Digest, found: &Digest) -> Result<()> {
    if expected.matches(found) {
        return Ok(());
    }
    let part = expected.parts.iter().zip(&found.parts).position(|(a, b)| a != b);
    let place = part.map_or_else(String::new, |p| format!(", first in part {} of 64", p + 1));
    Err(Error::new(
        Kind::Mismatch,
        format!(
            "read back {} rows with digest {}, expected {} rows with digest {}{place}",
            found.count,
            found.to_hex(),
            expected.count,
            expected.to_hex()
        ),
    )
    .hint("a trigger, a rule, a damaged disk or a bug changed what was written"))
}

/// For each row the first of time and key columns that is NULL; none where no column has NULLs.
fn incomplete(attempt: &Attempt<'_>, hashed: &Hashed) -> Option<Vec<Option<String>>> {
    let width = attempt.shared.job.plan.columns.key_width();
    let columns = &hashed.rows.columns()[..width];
    if columns.iter().all(|c| c.null_count() == 0) {
        return None;
    }
    let schema = hashed.rows.schema();
    let name = |row| {
        let null = columns.iter().position(|c| c.is_null(row));
        null.map(|i| schema.field(i).name().clone())
    };
    Some((0..hashed.rows.num_rows()).map(name).collect())
}

fn conflict(
    columns: &crate::columns::Columns,
    hashed: &Hashed,
    row: usize,
    live: u128,
) -> Result<Conflict> {
    let text = |column: usize| -> Result<Option<String>> {
        let array = hashed.rows.column(column);
        if array.is_null(row) {
            return Ok(None);
        }
        arrow::util::display::array_value_to_string(array, row)
            .map(Some)
            .map_err(|e| Error::bug("a key cannot be shown as text").because(e))
    };
    let hashes = &hashed.hashes[row];
    Ok(Conflict {
        time: hashed.times[row].and_then(|t| jiff::Timestamp::from_nanosecond(t).ok()),
        key: (1..columns.key_width()).map(text).collect::<Result<_>>()?,
        key_hash: hex(&hashes.key.to_be_bytes()),
        source_hash: hex(&hashes.row.to_be_bytes()),
        live_hash: hex(&live.to_be_bytes()),
    })
}
