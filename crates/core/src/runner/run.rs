//! The run loop.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::drive::{self, Driven, drive};
use super::heal::Leave;
use super::lease::Beat;
use super::{Happening, Job, Options, Report, Shared, attempt, recover, wake};
use crate::connector::Pulse;
use crate::env::spawn;
use crate::error::{Error, Kind, Result};
use crate::id::SliceId;
use crate::interval::Interval;
use crate::ledger::{Event, EventV1, SliceEvent, SliceRecord, State};
use crate::receipt::Counts;
use crate::spec::Order;
use crate::survey::Coming;
use crate::throttle::Throttle;

/// Loads and proves every open slice of the plan. An error means that the run could not begin or
/// lost its lease; what happened to single slices stands in the report.
pub async fn run(job: Job, options: Options) -> Result<Report> {
    let shared = start(job).await?;
    let result = inside(&shared, &options).await;
    finish(&shared).await;
    result
}

/// Takes the lease and starts its heartbeat.
pub(super) async fn start(job: Job) -> Result<Arc<Shared>> {
    let asked = job.env.uptime();
    let lease = job.journal.lease(&job.plan.id, &job.holder).await?;
    let lease = Beat::start(&job.env, job.journal.clone(), lease, asked);
    let limits = &job.plan.spec.limits;
    let throttle = Throttle::new(limits.rows_per_second);
    let deadline = limits.max_runtime.map(|longest| asked.saturating_add(longest));
    Ok(Arc::new(Shared { job, lease, throttle, deadline }))
}

/// Gives the lease back.
pub(super) async fn finish(shared: &Shared) {
    shared.job.target.idle().await;
    shared.lease.end();
    if let Err(e) = shared.job.journal.release(shared.lease.lease.clone()).await {
        // It ends by itself; a fenced runner has none to give.
        tracing::debug!("the lease was not given back: {e}");
    }
}

async fn inside(shared: &Arc<Shared>, options: &Options) -> Result<Report> {
    let job = &shared.job;
    if options.restate || !options.overwrite.is_empty() || !options.undo.is_empty() {
        job.target.lets_go().await?;
    }
    // A plan that the journal does not know yet has nothing done.
    let before = job.journal.slices(&job.plan.id).await.map_or(0, |list| done(&list));
    let (records, receipts) = recovered(shared).await?;
    let found = done(&records) > before;
    let mut all: BTreeMap<SliceId, SliceRecord> =
        records.into_iter().map(|r| (r.id.clone(), r)).collect();
    let is_done = |r: &&SliceRecord| r.state.is_done();
    let proven: HashSet<_> = all.values().filter(is_done).map(|r| r.id.clone()).collect();
    wake::wake(shared, options, &receipts, &mut all).await?;
    let todo = choose(job, options, all.values())?;
    let loads = options.undo.is_empty();
    if loads && !options.again {
        let slices: Vec<_> = todo.iter().map(|r| (r.id.clone(), r.interval)).collect();
        recover::refuse_overlap(shared, &receipts, &slices)?;
    }
    let mut report = Report::default();
    if !todo.is_empty() {
        if loads {
            prepared(shared, &todo).await?;
            report.stopped = staged(shared).await?;
        }
        let holder = format!("{}/{}", job.holder.host, job.holder.pid);
        let unplaced = Some(job.plan.survey.unplaced);
        let started = vec![Event::V1(EventV1::RunStarted { holder, unplaced })];
        job.journal.append(&shared.lease.lease, started, false).await?;
        let began = job.env.uptime();
        slices(shared, options, &receipts, todo, &mut all, &mut report).await?;
        if !loads {
            stay_proven(shared, &proven, &receipts, &mut all).await?;
        } else if options.only.is_none() {
            look_again(shared, &mut all, &mut report).await?;
        }
        let seconds = job.env.uptime().saturating_sub(began).as_secs();
        let exit = i32::from(report.stopped.is_some());
        let ended = vec![Event::V1(EventV1::RunEnded { exit, seconds })];
        job.journal.append(&shared.lease.lease, ended, true).await?;
    }
    if loads && (found || report.touched > 0) {
        recount(shared, &mut all).await?;
    }
    let ended = |r: &SliceRecord| r.state.is_done() || r.state == State::Split;
    if all.values().all(ended) {
        job.source.unstage().await?;
    }
    let mut slices: Vec<_> = all.into_values().collect();
    slices.sort_by(|a, b| (a.interval.start(), &a.id).cmp(&(b.interval.start(), &b.id)));
    report.slices = slices;
    Ok(report)
}

/// Once all is loaded: what is not there any more, because somebody emptied the table or put
/// another in its place meanwhile, is stale. The next run loads it again, by its own look at it.
async fn look_again(
    shared: &Arc<Shared>,
    all: &mut BTreeMap<SliceId, SliceRecord>,
    report: &mut Report,
) -> Result<()> {
    // Where something failed, the next run looks for all of it.
    let ended = |r: &SliceRecord| r.state.is_done() || r.state == State::Split;
    let served = shared.job.target.capabilities().served;
    if !served || report.stopped.is_some() || !all.values().all(ended) {
        return Ok(());
    }
    match recovered(shared).await {
        Ok((records, _)) => all.extend(records.into_iter().map(|r| (r.id.clone(), r))),
        Err(e) if e.kind() == Kind::Fenced => return Err(e),
        Err(e) if e.kind().is_transient() => {
            let note = format!("what was loaded could not be looked for once more: {e}");
            shared.job.watch.on(&Happening::Note(note));
        }
        Err(e) => report.stopped = Some(e),
    }
    Ok(())
}

/// What was proven and to be undone, and was not, stands as it did before.
async fn stay_proven(
    shared: &Arc<Shared>,
    proven: &HashSet<SliceId>,
    receipts: &recover::Receipts,
    all: &mut BTreeMap<SliceId, SliceRecord>,
) -> Result<()> {
    let mut events = Vec::new();
    for record in all.values_mut().filter(|r| proven.contains(&r.id)) {
        let untouched = match record.state {
            State::Stale => record.outcome.is_some(),
            state => matches!(state, State::Failed | State::Planned),
        };
        let newest = receipts.newest(&record.id).receipt;
        let Some(receipt) = newest.filter(|r| untouched && r.latest().slice == record.id) else {
            continue;
        };
        let what = attempt::recovered(&receipt);
        record.apply(&what)?;
        events.push(Event::slice(&record.id, what));
    }
    if events.is_empty() {
        return Ok(());
    }
    shared.job.journal.append(&shared.lease.lease, events, true).await
}

/// Recovery; what is unavailable for a moment is asked again, as a slice would be.
pub(super) async fn recovered(
    shared: &Arc<Shared>,
) -> Result<(Vec<SliceRecord>, recover::Receipts)> {
    let retry = &shared.job.plan.spec.retry;
    let mut tries = 1;
    loop {
        match recover::recover(shared).await {
            Err(e) if e.kind().is_transient() && tries < retry.attempts => {
                let note = format!("ledger and target are compared again: {e}");
                shared.job.watch.on(&Happening::Note(note));
                drive::back_off(shared, tries).await;
                shared.go_on()?;
                tries += 1;
            }
            other => return other,
        }
    }
}

/// How many slices are done.
fn done(records: &[SliceRecord]) -> usize {
    records.iter().filter(|r| r.state.is_done()).count()
}

/// Where nothing but a lock or the user's word keeps other writers from doubling a row of ours: a
/// slice with a key that stands there twice is mismatched.
async fn recount(shared: &Shared, all: &mut BTreeMap<SliceId, SliceRecord>) -> Result<()> {
    let Job { plan, target, journal, .. } = &shared.job;
    let manners = plan.spec.manners();
    if !(manners.locks || manners.alone) || plan.spec.rows.key.is_none() {
        return Ok(());
    }
    let doubled = target.doubled(&plan.id, &plan.columns, &plan.range).await?;
    for record in all.values_mut().filter(|r| r.state.is_done()) {
        let Some(at) = doubled.iter().find(|t| record.interval.contains(**t)) else { continue };
        let reason = format!("the table holds a key twice, at {at}: another writer doubled a row");
        let what = SliceEvent::Mismatched { reason };
        record.apply(&what)?;
        let events = vec![Event::slice(&record.id, what)];
        journal.append(&shared.lease.lease, events, true).await?;
        let what = Happening::Slice(record.id.clone(), record.state, Counts::default());
        shared.job.watch.on(&what);
    }
    Ok(())
}

/// Prepares the target; what is unavailable for a moment is asked again.
async fn prepared(shared: &Shared, todo: &[SliceRecord]) -> Result<()> {
    let Job { plan, target, watch, .. } = &shared.job;
    let mut slices: Vec<_> = todo.iter().map(|r| r.interval).collect();
    slices.sort_by_key(Interval::start);
    let coming = Coming::of(&plan.survey, slices.into_iter());
    let work = || async {
        target.prepare(&plan.columns).await?;
        target.room(&plan.columns, &coming, true).await
    };
    let mut tries = 1;
    loop {
        match work().await {
            Err(e) if e.kind().is_transient() && tries < plan.spec.retry.attempts => {
                watch.on(&Happening::Note(format!("the target is prepared again: {e}")));
                drive::back_off(shared, tries).await;
                shared.go_on()?;
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Has the source made readable; tells what ended that before its time.
async fn staged(shared: &Arc<Shared>) -> Result<Option<Error>> {
    let at = Arc::clone(shared);
    let request = shared.job.plan.staging(Pulse::new(move |done, all| {
        at.job.watch.on(&Happening::Staging(done, all));
        at.go_on()?;
        at.may_begin()
    }));
    match shared.job.source.stage(&request).await {
        Err(e) if e.kind() == Kind::Stopped => Ok(Some(e)),
        other => other.map(|()| None),
    }
}

/// The slices this invocation takes in hand, in order.
fn choose<'a>(
    job: &Job,
    options: &Options,
    records: impl Iterator<Item = &'a SliceRecord>,
) -> Result<Vec<SliceRecord>> {
    let wanted = |r: &SliceRecord| match &options.select[..] {
        _ if r.state.is_done() || r.state == State::Split => false,
        _ if !options.undo.is_empty() => options.undo.contains_key(&r.id),
        _ if options.overwrite.contains_key(&r.id) => true,
        [] => r.state != State::Mismatched,
        list => list.contains(&r.state),
    };
    let (mut todo, mut known) = (Vec::new(), options.only.is_none());
    for record in records {
        known |= options.names(record);
        if options.means(record) && wanted(record) {
            todo.push(record.clone());
        }
    }
    if !known && let Some(only) = &options.only {
        return Err(Error::config(format!("the plan has no slice {only}"))
            .hint("`retrofill plan` lists the slices"));
    }
    todo.sort_by_key(|r| r.interval.start());
    if job.plan.spec.range.order == Order::NewestFirst {
        todo.reverse();
    }
    Ok(todo)
}

/// Slices to do.
struct Queue {
    todo: VecDeque<SliceRecord>,
    /// The most rows of a slice that is tried; one of more is halved at once.
    most: u64,
}

impl Queue {
    /// After a slice that took too long, or was taken. A target that was slow for a moment gets
    /// larger slices again with each that it takes.
    fn learn(&mut self, most: Option<u64>, done: bool) {
        match most {
            Some(most) => self.most = self.most.min(most),
            None if done => {
                self.most = self.most.saturating_add(self.most / 8 + 1);
            }
            None => {}
        }
    }
}

type Work = FuturesUnordered<BoxFuture<'static, Result<Result<Driven>>>>;

async fn slices(
    shared: &Arc<Shared>,
    options: &Options,
    receipts: &recover::Receipts,
    todo: Vec<SliceRecord>,
    all: &mut BTreeMap<SliceId, SliceRecord>,
    report: &mut Report,
) -> Result<()> {
    let job = &shared.job;
    let estimates = job.plan.estimates();
    let estimate = |record: &SliceRecord| match estimates.get(&record.id) {
        Some(rows) => *rows,
        None => job.plan.estimate(&record.interval),
    };
    let done = all.values().filter(|r| r.state.is_done()).count() as u64;
    let rows = todo.iter().map(estimate).sum();
    job.watch.on(&Happening::Began { slices: todo.len() as u64, rows, done });
    let limits = &job.plan.spec.limits;
    let concurrency = limits.concurrency.unwrap_or(2).max(1);
    let mut queue = Queue { todo: todo.into(), most: u64::MAX };
    let mut work: Work = FuturesUnordered::new();
    let mut lost = None;
    loop {
        if report.stopped.is_none() && !queue.todo.is_empty() {
            report.stopped = shared.may_begin().err();
        }
        while report.stopped.is_none() && lost.is_none() && work.len() < concurrency {
            let Some(record) = queue.todo.pop_front() else { break };
            let rows = (estimate(&record), queue.most);
            let before = drive::Before {
                by: receipts.loaded_by(&record.id),
                lost: receipts.lost(&record.id),
                newest: receipts.newest(&record.id),
                leave: Leave {
                    restate: options.restate,
                    overwrite: options.overwrite.get(&record.id).copied(),
                    undo: options.undo.get(&record.id).copied(),
                },
                commits_of_others: receipts.commits_of_others.filter(|_| !options.again),
            };
            work.push(spawn(job.env.as_ref(), drive(shared.clone(), record, rows, before)));
        }
        let Some(ended) = work.next().await else { break };
        match ended? {
            Ok(driven) => take(driven, &mut queue, all, report),
            // The other slices in hand come to the same end by themselves.
            Err(e) => lost = Some(e),
        }
    }
    lost.map_or(Ok(()), Err)
}

fn take(
    driven: Driven,
    queue: &mut Queue,
    all: &mut BTreeMap<SliceId, SliceRecord>,
    report: &mut Report,
) {
    queue.learn(driven.most, driven.record.state.is_done());
    report.rows.add(&driven.counts);
    report.touched += u64::from(driven.halves.is_none());
    if let Some(e) = driven.stops {
        report.stopped.get_or_insert(e);
    }
    for half in driven.halves.into_iter().flatten().rev() {
        all.insert(half.id.clone(), half.clone());
        queue.todo.push_front(half);
    }
    all.insert(driven.record.id.clone(), driven.record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_much_for_one_slice_is_for_all_until_others_were_taken() {
        let mut queue = Queue { todo: VecDeque::new(), most: u64::MAX };
        queue.learn(None, true);
        assert_eq!(queue.most, u64::MAX);
        queue.learn(Some(8_000), false);
        // A slice that was begun before has learned less.
        queue.learn(Some(20_000), false);
        assert_eq!(queue.most, 8_000);
        queue.learn(None, false);
        assert_eq!(queue.most, 8_000, "nothing was taken");
        queue.learn(None, true);
        assert_eq!(queue.most, 9_001);
        for _ in 0..7 {
            queue.learn(None, true);
        }
        assert!((20_000..21_000).contains(&queue.most), "{}", queue.most);
        queue = Queue { most: 0, ..queue };
        queue.learn(None, true);
        assert_eq!(queue.most, 1, "it never stays at none");
    }
}
