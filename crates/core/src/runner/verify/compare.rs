//! Comparing what a slice's source says with what the target holds, row by row.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::super::attempt::request;
use super::super::recover::held_rows;
use super::super::repeats::{self, Fate, repeated};
use super::super::sinks::{Taken, hash};
use super::super::{Shared, exceptions};
use crate::connector::{ReadRequest, SliceLoad};
use crate::digest::{Digest, Hasher, RowHashes};
use crate::error::Result;
use crate::id::{SliceId, unhex};
use crate::interval::Interval;
use crate::ledger::SliceRecord;
use crate::manifest::{Manifest, entry};
use crate::receipt::ReceiptV1;
use crate::reject::{Exception, Place};

/// Bytes that the comparison takes per row.
const BYTES_PER_ROW: u64 = 128;

/// How the rows of the source stand in the target.
#[derive(Debug, Default)]
pub(in super::super) struct Differences {
    /// Their key is not there.
    pub(super) missing: u64,
    /// Their key is there with another value.
    pub(in super::super) changed: u64,
    /// Those of them whose key is there once: only these can be told from live rows.
    pub(in super::super) restorable: u64,
    /// They are there more than once.
    pub(super) doubled: u64,
    /// Rows whose key is there with a row that differs only in columns that are not compared.
    alike: Digest,
    /// Some of them, and of the rows that only the target has.
    pub(in super::super) sample: Sample,
}

/// Rows by which a difference can be shown.
#[derive(Debug, Default)]
pub(in super::super) struct Sample {
    /// So many of each kind at most.
    pub(super) most: usize,
    /// Rows of the source that the target does not hold.
    pub(super) missing: Vec<(RowHashes, u64)>,
    /// Rows of the source whose key the target holds with another value.
    pub(super) changed: Vec<(RowHashes, u64)>,
    /// Rows of the source that are alike only.
    alike: Vec<(RowHashes, u64)>,
    /// Rows of the target whose key the source does not have; without a key, that it has less
    /// often.
    pub(super) extra: Vec<RowHashes>,
}

fn add<T>(to: &mut Vec<T>, from: impl IntoIterator<Item = T>, most: usize) {
    let room = most.saturating_sub(to.len());
    to.extend(from.into_iter().take(room));
}

/// Compares source and target, in as many steps as memory asks for. None where nobody knows any
/// more which rows were refused.
pub(in super::super) async fn compare_all(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &ReceiptV1,
    hasher: &Hasher,
    shown: usize,
) -> Result<Option<Differences>> {
    let Some(listed) = Listed::read(shared, receipt).await? else { return Ok(None) };
    let most = (shared.share() / BYTES_PER_ROW) as usize;
    let mut all = Differences::default();
    all.sample.most = shown;
    let mut todo = vec![record.interval];
    while let Some(interval) = todo.pop() {
        let halves = interval.halves();
        let most = if halves.is_some() { most } else { usize::MAX };
        let lenient = receipt.digests.alike.count > 0;
        let stretch = Stretch { shared, record, interval: &interval, hasher, most, lenient };
        if !stretch.compare(&listed, &mut all).await? {
            todo.extend(halves.into_iter().flat_map(|(early, late)| [late, early]));
        }
    }
    all.judge_alike(&receipt.digests.alike);
    Ok(Some(all))
}

impl Differences {
    /// Rows that are alike only were so when they were loaded, or were changed since. Nobody knows
    /// of a single row which it is, but the receipt knows their sum. Fewer of them than then are no
    /// change by themselves: those that are missing or changed elsewhere were counted already.
    fn judge_alike(&mut self, then: &Digest) {
        let more = self.alike.count.saturating_sub(then.count);
        let counted = self.missing + self.changed > 0;
        if self.alike.matches(then) || (more == 0 && counted) {
            return;
        }
        self.changed += more.max(1);
        let rows = std::mem::take(&mut self.sample.alike);
        add(&mut self.sample.changed, rows, self.sample.most);
    }
}

/// The rows of the target by key: each with what it is by the columns that are compared.
type Held = HashMap<u128, Vec<(u128, u128)>>;

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
    for (at, hashes) in sink.kept.take().unwrap_or_default().into_iter().enumerate() {
        let compared = sink.compared.get(at).copied().unwrap_or(hashes.row);
        held.entry(hashes.key).or_default().push((hashes.row, compared));
    }
    Ok(Some(held))
}

/// A stretch of a slice that is compared in one step.
struct Stretch<'a> {
    shared: &'a Shared,
    record: &'a SliceRecord,
    interval: &'a Interval,
    hasher: &'a Hasher,
    most: usize,
    /// Some rows were alike only when they were loaded.
    lenient: bool,
}

impl Stretch<'_> {
    /// Compares; false where there are too many rows for one step. Rows that were listed as
    /// conflicts or rejects when they were loaded are in order.
    async fn compare(&self, listed: &Listed, all: &mut Differences) -> Result<bool> {
        let Stretch { shared, record, interval, hasher, most, .. } = *self;
        let Some(mut target) = target_rows(shared, interval, hasher, most).await? else {
            return Ok(false);
        };
        let Some(source) = source_rows(shared, record, interval, hasher, most).await? else {
            return Ok(false);
        };
        let keyed = shared.job.plan.spec.rows.key.is_some();
        // Where no row was only alike when it was loaded, none may be now.
        let lenient = self.lenient;
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        let (mut seen, mut alone) = (HashSet::new(), HashSet::new());
        for Given { hashes, compared, ordinal } in source {
            let Some(rows) = target.get_mut(&hashes.key) else {
                missing.push((hashes, ordinal));
                continue;
            };
            match rows.iter().position(|(row, _)| *row == hashes.row) {
                // Without a key, each row of the source needs a row of its own.
                Some(at) if !keyed => {
                    rows.swap_remove(at);
                }
                Some(_) => {
                    all.doubled += rows.iter().filter(|r| r.0 == hashes.row).count() as u64 - 1;
                }
                None if listed.conflicts.contains(&hashes.key) => {}
                None if lenient && rows.iter().any(|(_, other)| *other == compared) => {
                    all.alike.add_row(&hashes);
                    add(&mut all.sample.alike, [(hashes, ordinal)], all.sample.most);
                }
                None if keyed => {
                    if rows.len() == 1 {
                        alone.insert(ordinal);
                    }
                    changed.push((hashes, ordinal));
                }
                None => missing.push((hashes, ordinal)),
            }
            if keyed {
                seen.insert(hashes.key);
            }
        }
        let most = all.sample.most;
        for (rows, count, sample) in [
            (missing, &mut all.missing, &mut all.sample.missing),
            (changed, &mut all.changed, &mut all.sample.changed),
        ] {
            let rows = listed.unlisted(shared, rows).await?;
            *count += rows.len() as u64;
            let restorable = rows.iter().filter(|(_, ordinal)| alone.contains(ordinal));
            all.restorable += restorable.count() as u64;
            add(sample, rows, most);
        }
        let extra = target.iter().filter(|(key, _)| !seen.contains(*key));
        let extra = extra.flat_map(|(key, rows)| rows.iter().map(|(row, _)| (*key, *row)));
        let extra = extra.map(|(key, row)| RowHashes { key, row });
        add(&mut all.sample.extra, extra, most);
        Ok(true)
    }
}

/// Keys that were listed as conflicts when the slice was loaded; none where the list is lost.
pub(in super::super) async fn conflicts(
    shared: &Shared,
    receipt: &ReceiptV1,
) -> Result<Option<HashSet<u128>>> {
    Ok(Listed::read(shared, receipt).await?.map(|listed| listed.conflicts))
}

/// The rows that the load of this receipt wrote, found again in the source; none where the source
/// does not have exactly these any more, or has others beside them that the load left alone.
pub(in super::super) async fn loaded(
    shared: &Shared,
    (slice, interval): (&SliceId, &Interval),
    receipt: &ReceiptV1,
    hasher: &Hasher,
) -> Result<Option<Manifest>> {
    let Some(listed) = Listed::read(shared, receipt).await? else { return Ok(None) };
    let record = SliceRecord::planned(slice.clone(), *interval);
    let rows = source_rows(shared, &record, interval, hasher, usize::MAX).await?;
    let rows = rows.unwrap_or_default().into_iter().map(|row| (row.hashes, row.ordinal));
    let mut rows: Vec<_> = rows.collect();
    rows.retain(|(h, _)| !listed.conflicts.contains(&h.key));
    let rows = listed.unlisted(shared, rows).await?;
    let mut sum = Digest::default();
    for (hashes, _) in &rows {
        sum.add_row(hashes);
    }
    let same = sum.matches(&receipt.digests.written);
    Ok(same.then(|| Manifest::of(rows.iter().map(|(hashes, _)| entry(hashes)).collect())))
}

/// What is asked of the source for a stretch of a slice.
pub(super) fn of_source(shared: &Shared, record: &SliceRecord, interval: &Interval) -> ReadRequest {
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
        manners: plan.spec.manners(),
    };
    request(shared, &load)
}

/// A row of the source.
struct Given {
    hashes: RowHashes,
    /// What it is by the columns that are compared.
    compared: u128,
    ordinal: u64,
}

/// Rows of the source that stay; none where there are too many.
async fn source_rows(
    shared: &Shared,
    record: &SliceRecord,
    interval: &Interval,
    hasher: &Hasher,
    most: usize,
) -> Result<Option<Vec<Given>>> {
    let plan = &shared.job.plan;
    let request = of_source(shared, record, interval);
    let mut source = Vec::new();
    let mut rows = shared.job.source.read(&request).await?;
    let mut hashing = hasher.clone();
    while let Some(batch) = rows.batches.next().await {
        let batch = batch?;
        shared.go_on()?;
        let width = plan.columns.key_width();
        let whole: Vec<bool> = (0..batch.rows.num_rows())
            .map(|row| batch.rows.columns()[..width].iter().all(|c| c.is_valid(row)))
            .collect();
        let hashed = hash(shared.env(), &mut hashing, batch.rows).await?;
        let given = |(row, (&hashes, &ordinal)): (usize, (&RowHashes, &u64))| {
            let compared = hashed.compared(row);
            whole[row].then_some(Given { hashes, compared, ordinal })
        };
        source.extend(hashed.hashes.iter().zip(&batch.ordinals).enumerate().filter_map(given));
        if source.len() > most {
            return Ok(None);
        }
    }
    if plan.spec.rows.key.is_some() {
        let mut prefixes: Vec<_> = source.iter().map(|r| repeats::prefix(&r.hashes)).collect();
        let again = repeated(&mut prefixes);
        let known = repeats::decide(shared, &request, hasher, again).await?;
        source.retain(|r| known.fates.get(&r.ordinal).is_none_or(|f| !is_out(*f)));
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
                Exception::ReplacedV1(_) => {}
                Exception::RejectV1(r) => {
                    listed.rejects.insert((r.place.file, r.place.offset));
                }
            }
        }
        Ok(Some(listed))
    }

    /// Those of these rows of the source that were not refused by the target.
    async fn unlisted(
        &self,
        shared: &Shared,
        mut rows: Vec<(RowHashes, u64)>,
    ) -> Result<Vec<(RowHashes, u64)>> {
        if rows.is_empty() || self.rejects.is_empty() {
            return Ok(rows);
        }
        let ordinals: Vec<_> = rows.iter().map(|(_, ordinal)| *ordinal).collect();
        let job = &shared.job;
        let places = job.source.locate(&job.plan.survey, &ordinals).await?;
        let refused = |p: &Place| self.rejects.contains(&(p.file.clone(), p.offset));
        let mut places = places.into_iter();
        rows.retain(|_| places.next().is_none_or(|(place, _)| !refused(&place)));
        Ok(rows)
    }
}
