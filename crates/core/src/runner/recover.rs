//! Bringing the ledger and the target's receipts together before anything is loaded. The target
//! is believed: a receipt without an entry was committed before a crash, an entry without a
//! receipt is about data that is gone.

use std::collections::{BTreeMap, HashSet};

use super::{Happening, Shared, exceptions};
use crate::connector::{Commit, Found, ReadRequest, RowSink as _, SliceLoad, Standing};
use crate::digest::Hasher;
use crate::error::{Error, Kind, Result};
use crate::id::{PlanId, SliceId};
use crate::interval::Interval;
use crate::ledger::{Event, EventV1, SliceEvent, SliceRecord, State};
use crate::planted::{self, Bug};
use crate::receipt::{Receipt, ReceiptV1};
use crate::spec::Mode;
use crate::survey::Survey;

use super::attempt::outcome;
use super::sinks::Taken;

use futures::StreamExt as _;

/// What is known of the newest load of a slice.
#[derive(Debug, Clone, Default)]
pub(super) struct Newest {
    /// Its receipt, or that of one that it is a part of.
    pub(super) receipt: Option<Receipt>,
    /// It is known only that there was one.
    pub(super) lost: bool,
}

/// Receipts of this plan by slice, the newest generation each; and the others.
#[derive(Default)]
pub(super) struct Receipts {
    pub(super) ours: BTreeMap<SliceId, Found>,
    others: Vec<Receipt>,
    /// Generations of this plan whose receipt is lost.
    lost: BTreeMap<SliceId, u64>,
    /// Commits of other plans whose receipt is lost.
    lost_others: Vec<Commit>,
    /// How many commits of other plans there were, at least, when all this was read; mode append
    /// asks for it.
    pub(super) commits_of_others: Option<u64>,
}

impl Receipts {
    /// The plan that committed the slice, or one that it is a part of, before.
    pub(super) fn loaded_by(&self, id: &SliceId) -> Option<PlanId> {
        let mut next = Some(id.clone());
        while let Some(id) = next {
            if let Some(found) = self.ours.get(&id) {
                return Some(found.receipt.latest().plan.clone());
            }
            next = id.parent();
        }
        None
    }

    /// What is known of the newest load of the slice, or of one that it is a part of.
    pub(super) fn newest(&self, id: &SliceId) -> Newest {
        let elsewhere = self.lost_others.iter().any(|c| c.slice.is_kin(id));
        for id in std::iter::successors(Some(id.clone()), SliceId::parent) {
            let (found, lost) = (self.ours.get(&id), self.lost(&id));
            let generation = found.map_or(0, |f| f.receipt.latest().generation);
            if lost > generation {
                return Newest { receipt: None, lost: true };
            }
            if let Some(found) = found {
                return Newest { receipt: Some(found.receipt.clone()), lost: false };
            }
        }
        Newest { receipt: None, lost: elsewhere }
    }

    /// The newest generation of the slice that was committed and whose receipt is lost, or 0.
    pub(super) fn lost(&self, id: &SliceId) -> u64 {
        self.lost.get(id).copied().unwrap_or(0)
    }
}

/// Reads all receipts that overlap the plan.
pub(super) async fn receipts(shared: &Shared) -> Result<Receipts> {
    let plan = &shared.job.plan;
    let slices: HashSet<Interval> = plan.slices.iter().map(|s| s.interval).collect();
    let mut out = Receipts::default();
    if plan.spec.write.mode == Mode::Append {
        out.commits_of_others = Some(shared.job.target.commits_of_others(&plan.id).await?);
    }
    let known = shared.job.target.receipts(&plan.range).await?;
    for commit in known.lost {
        if commit.plan == plan.id {
            let generation = out.lost.entry(commit.slice).or_default();
            *generation = commit.generation.max(*generation);
        } else {
            out.lost_others.push(commit);
        }
    }
    for found in known.found {
        let r = found.receipt.latest();
        // An earlier plan of the same spec proved the very same slice: it is taken over.
        let taken = r.spec_hash == plan.spec_hash && slices.contains(&r.interval);
        if r.plan != plan.id && !taken {
            out.others.push(found.receipt);
            continue;
        }
        let rank = |r: &ReceiptV1| (r.plan == plan.id, r.generation, r.at);
        let newer = out.ours.get(&r.slice).is_none_or(|old| rank(old.receipt.latest()) < rank(r));
        if newer {
            out.ours.insert(r.slice.clone(), found);
        }
    }
    Ok(out)
}

/// Gives every slice and half as it truly stands, and journals what was learnt.
pub(super) async fn recover(shared: &Shared) -> Result<(Vec<SliceRecord>, Receipts)> {
    let job = &shared.job;
    let mut records = job.journal.slices(&job.plan.id).await?;
    if records.is_empty() {
        let events = vec![job.plan.frozen_event()];
        job.journal.append(&shared.lease.lease, events, true).await?;
        records = job.journal.slices(&job.plan.id).await?;
    }
    let receipts = receipts(shared).await?;
    let known = receipts.ours.values().map(|found| &found.receipt);
    let lists = exceptions::publish_left(job.env.scratch().as_ref(), known).await?;
    let mut events = Vec::new();
    let mut out: BTreeMap<_, _> = BTreeMap::new();
    while let Some(mut record) = records.pop() {
        let halved = record.state != State::Split && has_halves(&receipts, &record.id);
        if halved && let Some((early, _)) = record.interval.halves() {
            let what = SliceEvent::Split { at: early.end() };
            if record.state == State::Planned {
                records.extend(record.split(early.end())?);
                note(&mut events, &mut record, what)?;
            }
        }
        if record.state != State::Split {
            settle(shared, &receipts, &lists, &mut record, &mut events).await?;
        }
        out.insert((record.interval.start(), record.id.clone()), record);
    }
    say(shared, &events);
    if !events.is_empty() {
        job.journal.append(&shared.lease.lease, events, true).await?;
    }
    Ok((out.into_values().collect(), receipts))
}

/// Tells which slices are loaded again; many with one reason in one line.
fn say(shared: &Shared, events: &[Event]) {
    let mut reasons: BTreeMap<&str, Vec<&SliceId>> = BTreeMap::new();
    for Event::V1(event) in events {
        if let EventV1::Slice { slice, what: SliceEvent::Stale { reason } } = event {
            reasons.entry(reason).or_default().push(slice);
        }
    }
    for (reason, slices) in reasons {
        let text = match slices[..] {
            [one] => format!("slice {one} is loaded again: {reason}"),
            _ => format!("{} slices are loaded again: {reason}", slices.len()),
        };
        shared.job.watch.on(&Happening::Note(text));
    }
}

/// Whether a receipt of a half of this slice exists.
fn has_halves(receipts: &Receipts, id: &SliceId) -> bool {
    let prefix = format!("{id}.");
    let from = SliceId::new(prefix.clone());
    receipts.ours.range(from..).next().is_some_and(|(id, _)| id.as_str().starts_with(&prefix))
}

fn note(events: &mut Vec<Event>, record: &mut SliceRecord, what: SliceEvent) -> Result<()> {
    record.apply(&what)?;
    events.push(Event::slice(&record.id, what));
    Ok(())
}

/// One slice: what the ledger says against what the target says.
async fn settle(
    shared: &Shared,
    receipts: &Receipts,
    lists: &HashSet<String>,
    record: &mut SliceRecord,
    events: &mut Vec<Event>,
) -> Result<()> {
    let found = receipts.ours.get(&record.id);
    // A receipt older than the generation in hand says nothing about that generation.
    let found = found.filter(|f| {
        let generation = f.receipt.latest().generation;
        let wanted = match record.state {
            State::Stale | State::Mismatched => record.generation + 1,
            _ => record.generation,
        };
        generation >= wanted || planted::is(Bug::ReceiptOfOtherGeneration)
    });
    let Some(found) = found else {
        let known = record.state.is_done() || receipts.lost(&record.id) > record.generation;
        if known && !planted::is(Bug::MissingReceiptIgnored) {
            let reason = "its receipt is gone from the target";
            stale(record, events, reason.into())?;
        }
        return Ok(());
    };
    let receipt = &found.receipt;
    if receipt.latest().undone().is_some() && !planted::is(Bug::UndoTakenForLoad) {
        return note(events, record, super::attempt::recovered(receipt));
    }
    // A table that was put back may hold another load of the same generation.
    if !record.state.is_done() || record.outcome != Some(outcome(receipt)) {
        note(events, record, SliceEvent::Recovered(outcome(receipt)))?;
    }
    if !same_source(shared, &record.interval, receipt) {
        return stale(record, events, "its source has changed".into());
    }
    let list = receipt.latest().exceptions.as_ref();
    if list.is_some_and(|name| !lists.contains(name)) && !planted::is(Bug::ListNotRenamed) {
        return stale(record, events, "its list of rejects and conflicts is lost".into());
    }
    let Standing::Recheck(why) = &found.standing else { return Ok(()) };
    match still_there(shared, record, receipt).await {
        Ok(None) => Ok(()),
        Ok(Some(difference)) => stale(record, events, format!("{why}; {difference}")),
        Err(e) if e.kind() == Kind::Mismatch => {
            shared.job.watch.on(&Happening::Note(format!("slice {}: {e}", record.id)));
            note(events, record, SliceEvent::Mismatched { reason: e.to_string() })
        }
        Err(e) => Err(e),
    }
}

/// Whether the blocks that the slice was read from are those of the plan's survey.
pub(super) fn same_source(shared: &Shared, interval: &Interval, receipt: &Receipt) -> bool {
    let blocks = &receipt.latest().blocks;
    let now = shared.job.plan.survey.overlapping(interval).map(|(_, b)| &b.hash);
    planted::is(Bug::StaleBlockAccepted) || now.eq(blocks)
}

fn stale(record: &mut SliceRecord, events: &mut Vec<Event>, reason: String) -> Result<()> {
    note(events, record, SliceEvent::Stale { reason })
}

/// Reads the slice back and compares it with its receipt; tells what differs. Where nothing does,
/// the receipt is put on the rows as they lie now.
async fn still_there(
    shared: &Shared,
    record: &SliceRecord,
    receipt: &Receipt,
) -> Result<Option<String>> {
    let (plan, r) = (&shared.job.plan, receipt.latest());
    let slice = SliceLoad {
        plan: r.plan.clone(),
        slice: r.slice.clone(),
        generation: r.generation,
        attempt: record.attempt,
        interval: r.interval,
        columns: plan.columns.clone(),
        mode: r.mode,
        repair: false,
        manners: plan.spec.manners(),
    };
    let hasher = Hasher::new(&plan.columns, &r.salt);
    let mut sink = Taken::new(shared.env(), &hasher, &r.interval, &plan.columns);
    let mut load = shared.job.target.begin(&slice).await?;
    if let Err(e) = load.held(&mut sink).await {
        return Err(super::attempt::abort(load, e).await);
    }
    let (now, after) = (sink.sum.digest(), &r.digests.after);
    if now.matches(after) {
        if let Err(e) = load.refresh(receipt.clone()).await {
            // The next run looks again.
            tracing::debug!("the receipt of slice {} was not refreshed: {e}", r.slice);
        }
        return Ok(None);
    }
    load.abort().await?;
    let (now, after) = (now.count, after.count);
    Ok(Some(format!("the target holds {now} rows of it, its receipt says {after}")))
}

/// Streams what the target holds of an interval, outside of any load.
pub(super) async fn held_rows(
    shared: &Shared,
    interval: &Interval,
    sink: &mut Taken<'_>,
) -> Result<()> {
    let request = ReadRequest {
        interval: *interval,
        columns: shared.job.plan.columns.clone(),
        survey: Survey::default().into(),
    };
    let mut rows = shared.job.target.read(&request).await?;
    while let Some(batch) = rows.batches.next().await {
        shared.go_on()?;
        sink.push(batch?.rows).await?;
    }
    Ok(())
}

/// Append writes everything it reads: a slice that any other plan has loaded already would be
/// there twice.
pub(super) fn refuse_overlap(
    shared: &Shared,
    receipts: &Receipts,
    todo: &[(SliceId, Interval)],
) -> Result<()> {
    if shared.job.plan.spec.write.mode != Mode::Append {
        return Ok(());
    }
    if let Some(commit) = receipts.lost_others.first().filter(|_| !todo.is_empty()) {
        return Err(Error::config(format!(
            "plan {} has loaded its slice {} into this table, but the receipt is lost",
            commit.plan, commit.slice
        ))
        .hint("mode append might write its rows a second time; `--again` does it all the same"));
    }
    for receipt in &receipts.others {
        let r = receipt.latest();
        let hit = todo.iter().find(|(_, interval)| interval.overlaps(&r.interval));
        // Rows that it found there already are rows of the source as well.
        let landed = r.counts.written + r.counts.updated + r.counts.already_present;
        if let Some((slice, _)) = hit.filter(|_| landed > 0 && r.undone().is_none()) {
            return Err(Error::config(format!(
                "slice {slice} was loaded already by plan {} (its slice {})",
                r.plan, r.slice
            ))
            .hint(
                "mode append would write its rows a second time; `--again` does it all the same",
            ));
        }
    }
    Ok(())
}
