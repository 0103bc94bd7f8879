//! Proving again, without writing to the target.

use std::collections::{HashMap, HashSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::attempt::request;
use super::recover::{self, Receipts, held_rows};
use super::repeats::{self, Fate, repeated};
use super::run::{finish, start};
use super::sinks::{Taken, hash};
use super::{Happening, Job, Options, Shared, exceptions};
use crate::connector::SliceLoad;
use crate::digest::{Hasher, RowHashes};
use crate::error::{Kind, Result};
use crate::id::unhex;
use crate::interval::Interval;
use crate::ledger::{Event, SliceEvent, SliceRecord, State};
use crate::receipt::{Counts, ReceiptV1};
use crate::reject::{Exception, Place};

/// What a slice was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The target holds exactly what the receipt says.
    Verified,
    /// Every row we loaded is there unchanged, and live rows came in beside them.
    Extra {
        /// How many more rows the target holds than its receipt says.
        rows: u64,
        /// How many of them repeat a row of the source that was there already. Whoever wrote
        /// them, it was no load with this receipt.
        doubled: u64,
    },
    /// Rows of the source are not in the target, or not as they were loaded.
    Mismatched {
        /// Rows of the source whose key the target does not hold.
        missing: u64,
        /// Rows of the source whose key the target holds with another value.
        changed: u64,
        /// In one sentence.
        reason: String,
    },
    /// The receipt is gone, or the source is no longer what was loaded: nobody can tell.
    CannotAttribute {
        /// Why.
        reason: String,
    },
}

/// A slice and what it was found to be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The slice as it stands now.
    pub record: SliceRecord,
    /// What was found.
    pub judgement: Judgement,
}

/// Proves every done slice again: by its digest, or (`count_only`) by its number of rows. What
/// no longer holds is journalled as mismatched.
pub async fn verify(job: Job, options: Options, count_only: bool) -> Result<Vec<Finding>> {
    let shared = start(job).await?;
    let result = inside(&shared, &options, count_only).await;
    finish(&shared).await;
    result
}

async fn inside(shared: &Shared, options: &Options, count_only: bool) -> Result<Vec<Finding>> {
    let records = shared.job.journal.slices(&shared.job.plan.id).await?;
    let receipts = recover::receipts(shared).await?;
    let wanted =
        |r: &SliceRecord| (r.state.is_done() || r.state == State::Mismatched) && options.means(r);
    let todo: Vec<_> = records.into_iter().filter(wanted).collect();
    let (slices, rows) = (todo.len() as u64, shared.job.plan.estimated_rows());
    shared.job.watch.on(&Happening::Began { slices, rows, done: 0 });
    let concurrency = shared.job.plan.spec.limits.concurrency.unwrap_or(2).max(1);
    let mut found: Vec<Finding> = stream::iter(todo)
        .map(|record| one(shared, &receipts, record, count_only))
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    found.sort_by_key(|f| f.record.interval.start());
    Ok(found)
}

async fn one(
    shared: &Shared,
    receipts: &Receipts,
    mut record: SliceRecord,
    count_only: bool,
) -> Result<Finding> {
    shared.go_on()?;
    let found = receipts.ours.get(&record.id).map(|f| f.receipt.latest());
    let judgement = match found {
        None => Judgement::CannotAttribute { reason: "its receipt is gone".into() },
        Some(receipt) => match judge(shared, &record, receipt, count_only).await {
            Ok(judgement) => judgement,
            Err(e) if e.kind() == Kind::Mismatch => {
                Judgement::Mismatched { missing: 0, changed: 0, reason: e.to_string() }
            }
            Err(e) => return Err(e),
        },
    };
    settle(shared, count_only, &mut record, &judgement, found).await?;
    let counts = record.outcome.as_ref().map_or_else(Counts::default, |o| o.counts);
    shared.job.watch.on(&Happening::Rows(counts.read));
    shared.job.watch.on(&Happening::Slice(record.id.clone(), record.state, counts));
    Ok(Finding { record, judgement })
}

/// Journals a change of state.
async fn settle(
    shared: &Shared,
    count_only: bool,
    record: &mut SliceRecord,
    judgement: &Judgement,
    receipt: Option<&ReceiptV1>,
) -> Result<()> {
    let event = match judgement {
        Judgement::Verified | Judgement::Extra { .. } => match (record.state, receipt) {
            // Only a full proof of the newest load takes a mismatch back.
            (State::Mismatched, Some(receipt))
                if !count_only && receipt.generation >= record.generation =>
            {
                let receipt = crate::receipt::Receipt::V1(receipt.clone());
                SliceEvent::Recovered(super::attempt::outcome(&receipt))
            }
            _ => return Ok(()),
        },
        Judgement::Mismatched { reason, .. } | Judgement::CannotAttribute { reason } => {
            SliceEvent::Mismatched { reason: reason.clone() }
        }
    };
    record.apply(&event)?;
    let events = vec![Event::slice(&record.id, event)];
    shared.job.journal.append(&shared.lease.lease, events, true).await
}

async fn judge(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &ReceiptV1,
    count_only: bool,
) -> Result<Judgement> {
    let plan = &shared.job.plan;
    let hasher = Hasher::new(&plan.columns, &receipt.salt);
    let mut sink = Taken::new(shared.env(), &hasher, &record.interval, &plan.columns);
    held_rows(shared, &record.interval, &mut sink).await?;
    let now = sink.sum.digest();
    let after = &receipt.digests.after;
    if now.matches(after) || (count_only && now.count == after.count) {
        return Ok(Judgement::Verified);
    }
    match compare_all(shared, record, receipt, &hasher).await {
        Ok(None) => Ok(Judgement::CannotAttribute {
            reason: format!(
                "the target holds {} rows where {} were proven, and the list of rejects and \
                 conflicts is lost",
                now.count, after.count
            ),
        }),
        Ok(Some(Differences { missing: 0, changed: 0, doubled })) => {
            Ok(Judgement::Extra { rows: now.count.saturating_sub(after.count), doubled })
        }
        Ok(Some(Differences { missing, changed, .. })) => Ok(Judgement::Mismatched {
            missing,
            changed,
            reason: format!(
                "{missing} rows of the source are missing in the target, {changed} are changed \
                 since load"
            ),
        }),
        Err(e) if e.kind() == Kind::Stale => Ok(Judgement::CannotAttribute {
            reason: format!(
                "the target holds {} rows where {} were proven, and the source has changed: {e}",
                now.count, after.count
            ),
        }),
        Err(e) => Err(e),
    }
}

/// Bytes that the comparison takes per row.
const BYTES_PER_ROW: u64 = 128;

/// How the rows of the source stand in the target.
#[derive(Default)]
struct Differences {
    /// Their key is not there.
    missing: u64,
    /// Their key is there with another value.
    changed: u64,
    /// They are there more than once.
    doubled: u64,
}

/// Compares source and target, in as many steps as memory asks for. None where nobody knows any
/// more which rows were refused.
async fn compare_all(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &ReceiptV1,
    hasher: &Hasher,
) -> Result<Option<Differences>> {
    let Some(listed) = Listed::read(shared, receipt).await? else { return Ok(None) };
    let most = (shared.share() / BYTES_PER_ROW) as usize;
    let mut all = Differences::default();
    let mut todo = vec![record.interval];
    while let Some(interval) = todo.pop() {
        let halves = interval.halves();
        let most = if halves.is_some() { most } else { usize::MAX };
        match compare(shared, record, &interval, hasher, &listed, most).await? {
            Some(found) => {
                all.missing += found.missing;
                all.changed += found.changed;
                all.doubled += found.doubled;
            }
            None => todo.extend(halves.into_iter().flat_map(|(early, late)| [late, early])),
        }
    }
    Ok(Some(all))
}

/// The rows of the target, by key.
type Held = HashMap<u128, Vec<u128>>;

/// The target's rows of an interval; none where there are too many.
async fn target_rows(
    shared: &Shared,
    interval: &Interval,
    hasher: &Hasher,
    most: usize,
) -> Result<Option<Held>> {
    let columns = &shared.job.plan.columns;
    let bytes = (most as u64).saturating_mul(size_of::<RowHashes>() as u64);
    let sink = Taken::new(shared.env(), hasher, interval, columns);
    let mut sink = sink.keeping().at_most(bytes);
    held_rows(shared, interval, &mut sink).await?;
    if sink.is_full() {
        return Ok(None);
    }
    let mut held = Held::new();
    for hashes in sink.kept.take().unwrap_or_default() {
        held.entry(hashes.key).or_default().push(hashes.row);
    }
    Ok(Some(held))
}

/// Compares one interval; none where it has too many rows for one step. Rows that were listed as
/// conflicts or rejects when they were loaded are in order.
async fn compare(
    shared: &Shared,
    record: &SliceRecord,
    interval: &Interval,
    hasher: &Hasher,
    listed: &Listed,
    most: usize,
) -> Result<Option<Differences>> {
    let Some(mut target) = target_rows(shared, interval, hasher, most).await? else {
        return Ok(None);
    };
    let Some(source) = source_rows(shared, record, interval, hasher, most).await? else {
        return Ok(None);
    };
    let keyed = shared.job.plan.spec.rows.key.is_some();
    let (mut missing, mut changed, mut doubled) = (Vec::new(), Vec::new(), 0);
    for (hashes, ordinal) in source {
        let Some(rows) = target.get_mut(&hashes.key) else {
            missing.push(ordinal);
            continue;
        };
        match rows.iter().position(|row| *row == hashes.row) {
            // Without a key, each row of the source needs a row of its own.
            Some(at) if !keyed => {
                rows.swap_remove(at);
            }
            Some(_) => doubled += rows.iter().filter(|r| **r == hashes.row).count() as u64 - 1,
            None if listed.conflicts.contains(&hashes.key) => {}
            None if keyed => changed.push(ordinal),
            None => missing.push(ordinal),
        }
    }
    Ok(Some(Differences {
        missing: listed.unlisted(shared, missing).await?,
        changed: listed.unlisted(shared, changed).await?,
        doubled,
    }))
}

/// Rows of the source that stay, with their ordinals; none where there are too many.
async fn source_rows(
    shared: &Shared,
    record: &SliceRecord,
    interval: &Interval,
    hasher: &Hasher,
    most: usize,
) -> Result<Option<Vec<(RowHashes, u64)>>> {
    let plan = &shared.job.plan;
    let load = SliceLoad {
        plan: plan.id.clone(),
        slice: record.id.clone(),
        generation: record.generation,
        attempt: record.attempt,
        interval: *interval,
        columns: plan.columns.clone(),
        mode: plan.spec.write.mode,
        repair: false,
    };
    let request = request(shared, &load);
    let mut source = Vec::new();
    let mut rows = shared.job.source.read(&request).await?;
    while let Some(batch) = rows.batches.next().await {
        let batch = batch?;
        shared.go_on()?;
        let width = plan.columns.key_width();
        let whole: Vec<bool> = (0..batch.rows.num_rows())
            .map(|row| batch.rows.columns()[..width].iter().all(|c| c.is_valid(row)))
            .collect();
        let hashed = hash(shared.env(), hasher, batch.rows).await?;
        let rows = hashed.hashes.iter().zip(&batch.ordinals).zip(whole);
        source.extend(rows.filter(|(_, whole)| *whole).map(|((h, o), _)| (*h, *o)));
        if source.len() > most {
            return Ok(None);
        }
    }
    if plan.spec.rows.key.is_some() {
        let mut prefixes: Vec<_> = source.iter().map(|(h, _)| repeats::prefix(h)).collect();
        let again = repeated(&mut prefixes);
        let known = repeats::decide(shared, &request, hasher, again).await?;
        source.retain(|(_, ordinal)| known.fates.get(ordinal).is_none_or(|f| !is_out(*f)));
    }
    Ok(Some(source))
}

fn is_out(fate: Fate) -> bool {
    matches!(fate, Fate::Duplicate | Fate::Rejected)
}

/// What was listed when the slice was loaded.
#[derive(Default)]
struct Listed {
    /// Keys of conflicts.
    conflicts: HashSet<u128>,
    /// File and offset of rejects.
    rejects: HashSet<(String, u64)>,
}

impl Listed {
    /// None where the list is lost.
    async fn read(shared: &Shared, receipt: &ReceiptV1) -> Result<Option<Self>> {
        let mut listed = Listed::default();
        let Some(name) = &receipt.exceptions else { return Ok(Some(listed)) };
        let list = exceptions::read(shared.env().scratch().as_ref(), name).await?;
        let Some(list) = list else { return Ok(None) };
        for exception in list {
            match exception {
                Exception::ConflictV1(c) => {
                    listed.conflicts.extend(unhex::<16>(&c.key_hash).map(u128::from_be_bytes));
                }
                Exception::RejectV1(r) => {
                    listed.rejects.insert((r.place.file, r.place.offset));
                }
            }
        }
        Ok(Some(listed))
    }

    /// How many of these rows of the source were not refused by the target.
    async fn unlisted(&self, shared: &Shared, ordinals: Vec<u64>) -> Result<u64> {
        if ordinals.is_empty() || self.rejects.is_empty() {
            return Ok(ordinals.len() as u64);
        }
        let job = &shared.job;
        let places = job.source.locate(&job.plan.survey, &ordinals).await?;
        let refused = |p: &Place| self.rejects.contains(&(p.file.clone(), p.offset));
        Ok(places.into_iter().filter(|(place, _)| !refused(place)).count() as u64)
    }
}
