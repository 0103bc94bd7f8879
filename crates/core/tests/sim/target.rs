//! The target with a fault possible before and after every call, rows damaged on their way, and
//! commits whose answer is lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{
    Capabilities, CommitOutcome, FieldType, Known, Load, Look, ReadRequest, Refused, RowPicker,
    RowSink, Rows, SliceLoad, Source, SurveyRequest, Target,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::memory::{MemoryTable, Value, from_batch, to_batch};
use retrofill_core::receipt::Receipt;
use retrofill_core::reject::Place;
use retrofill_core::survey::Survey;

use crate::chaos::{Fault, Point};
use crate::env::{Process, World};
use crate::faulty::Caller;
use crate::oracle::left;
use crate::setting::Setting;

/// The process that stands for the server: nobody kills it.
const SERVER: usize = 0;

/// The target's server: it may still be at work on commits whose asker has given up.
#[derive(Clone)]
pub(crate) struct Server {
    world: World,
    late: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new(world: &World) -> Self {
        Server { world: world.clone(), late: Arc::default() }
    }

    /// Commits some time after the answer was given up.
    fn commit_late(
        &self,
        wait: Duration,
        load: Box<dyn Load>,
        receipt: Receipt,
        landed: impl FnOnce() + Send + 'static,
    ) {
        self.late.fetch_add(1, Ordering::SeqCst);
        let (wait, late) = (self.world.sleep(SERVER, wait), Arc::clone(&self.late));
        let work = async move {
            wait.await;
            if matches!(load.commit(receipt).await, CommitOutcome::Committed) {
                landed();
            }
            late.fetch_sub(1, Ordering::SeqCst);
        };
        self.world.spawn(SERVER, Box::pin(work));
    }

    /// Whether a commit is still under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.late.load(Ordering::SeqCst) > 0
    }

    /// Receipts tell how every commit asked for before them ended.
    async fn settled(&self, process: Process) {
        while self.is_busy() {
            self.world.sleep(process, Duration::from_millis(100)).await;
        }
    }
}

#[derive(Clone)]
pub(crate) struct FaultyTarget {
    pub setting: Arc<Setting>,
    pub inner: MemoryTable,
    pub caller: Caller,
    pub server: Server,
    /// Every read-back of slices that overlap this is damaged.
    pub cursed: Option<Interval>,
}

impl fmt::Debug for FaultyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Source for FaultyTarget {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        self.inner.survey(request).await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        self.inner.read(request).await
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        self.inner.locate(survey, ordinals).await
    }
}

#[async_trait]
impl Target for FaultyTarget {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn table(&self) -> Result<Option<Vec<FieldType>>> {
        self.inner.table().await
    }

    fn keeps(&self, ty: ColumnType) -> Result<ColumnType> {
        self.inner.keeps(ty)
    }

    async fn prepare(&self, columns: &Columns) -> Result<()> {
        self.caller.around(Point::Prepare, self.inner.prepare(columns)).await
    }

    async fn receipts(&self, within: &Interval) -> Result<Known> {
        let call = async {
            self.server.settled(self.caller.process).await;
            self.inner.receipts(within).await
        };
        self.caller.around(Point::Receipts, call).await
    }

    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        self.inner.manifest(receipt).await
    }

    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        self.caller.around(Point::Receipts, self.inner.is_committed(plan, slice)).await
    }

    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        self.inner.commits_of_others(plan).await
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        let load = self.caller.around(Point::Begin, self.inner.begin(slice)).await?;
        self.caller.rules.begun(self.caller.process, &slice.slice);
        let (target, slice) = (self.clone(), slice.clone());
        Ok(Box::new(FaultyLoad { inner: Some(load), target, slice, damaged: Arc::default() }))
    }
}

struct FaultyLoad {
    /// None once it was handed on.
    inner: Option<Box<dyn Load>>,
    target: FaultyTarget,
    slice: SliceLoad,
    /// Rows of this load were damaged. Once: two equal damages would hide each other.
    damaged: Arc<AtomicBool>,
}

impl Drop for FaultyLoad {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.target.caller.rules.ended(self.target.caller.process, &self.slice.slice);
        }
    }
}

impl FaultyLoad {
    fn inner(&mut self) -> &mut dyn Load {
        self.inner.as_mut().expect("a load is used until it ends").as_mut()
    }

    /// Ends this load and gives what it wraps.
    fn take(mut self: Box<Self>) -> Box<dyn Load> {
        self.target.caller.rules.ended(self.target.caller.process, &self.slice.slice);
        self.inner.take().expect("a load ends once")
    }

    fn sink<'a>(&self, point: Point, inner: &'a mut dyn RowSink) -> FaultySink<'a> {
        let cursed = self.target.cursed.is_some_and(|c| c.overlaps(&self.slice.interval));
        FaultySink {
            inner,
            caller: self.target.caller.clone(),
            columns: Arc::clone(&self.slice.columns),
            point,
            cursed: cursed && point == Point::ReadBack,
            damaged: Arc::clone(&self.damaged),
        }
    }
}

#[async_trait]
impl Load for FaultyLoad {
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let (caller, mut sink) = (self.target.caller.clone(), self.sink(Point::Held, sink));
        caller.around(Point::Held, self.inner().held(&mut sink)).await
    }

    async fn write(&mut self, mut rows: RecordBatch) -> Result<Vec<Refused>> {
        let caller = self.target.caller.clone();
        caller.before(Point::Write).await?;
        let whole = !self.damaged.load(Ordering::SeqCst);
        if whole && caller.chaos.strikes(caller.process, Point::Write, Fault::Corrupted, 3) {
            self.damaged.store(true, Ordering::SeqCst);
            rows = damaged(&caller, &self.slice.columns, &rows, false)?;
        }
        let refused = self.inner().write(rows).await?;
        for _ in &refused {
            caller.chaos.count_at_last(caller.process, Fault::RowRefused);
        }
        caller.after(Point::Write).await?;
        Ok(refused)
    }

    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let caller = self.target.caller.clone();
        caller.around(Point::Remove, self.inner().remove(picker)).await
    }

    async fn seal(&mut self) -> Result<()> {
        let caller = self.target.caller.clone();
        caller.around(Point::Seal, self.inner().seal()).await
    }

    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let (caller, mut sink) = (self.target.caller.clone(), self.sink(Point::ReadBack, sink));
        caller.around(Point::ReadBack, self.inner().read_back(&mut sink)).await
    }

    fn gives_way(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.gives_way())
    }

    async fn look(&mut self, look: Look<'_>) -> Result<()> {
        let caller = self.target.caller.clone();
        let mut others = self.sink(Point::ReadBack, look.others);
        let mut ours = self.sink(Point::ReadBack, look.ours);
        let look = Look { others: &mut others, ours: &mut ours, gave_way: look.gave_way };
        caller.around(Point::ReadBack, self.inner().look(look)).await
    }

    async fn arrivals(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let (caller, mut sink) = (self.target.caller.clone(), self.sink(Point::Arrivals, sink));
        caller.around(Point::Arrivals, self.inner().arrivals(&mut sink)).await
    }

    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.inner().keep_manifest(bytes).await
    }

    async fn commit(self: Box<Self>, receipt: Receipt) -> CommitOutcome {
        let (caller, slice, target) =
            (self.target.caller.clone(), self.slice.clone(), self.target.clone());
        let damaged = Arc::clone(&self.damaged);
        caller.rules.commits(caller.process, &slice.slice);
        let inner = self.take();
        if let Err(e) = caller.before(Point::Commit).await {
            return CommitOutcome::NotCommitted(e);
        }
        let strikes =
            |fault, weight| caller.chaos.strikes(caller.process, Point::Commit, fault, weight);
        let lost = || Error::unavailable("the answer to the commit got lost");
        if strikes(Fault::UnknownNotDone, 3) {
            return CommitOutcome::Unknown(lost());
        }
        if strikes(Fault::UnknownLate, 3) {
            let wait = Duration::from_millis(1 << caller.chaos.below(14));
            let (setting, interval) = (Arc::clone(&target.setting), slice.interval);
            let undone = receipt.latest().undone().is_some();
            let landed = move || {
                if !undone {
                    landed(&setting, &interval);
                }
            };
            target.server.commit_late(wait, inner, receipt, landed);
            return CommitOutcome::Unknown(lost());
        }
        let undone = receipt.latest().undone().is_some();
        match inner.commit(receipt).await {
            CommitOutcome::Committed => {
                if !undone {
                    landed(&target.setting, &slice.interval);
                }
                caller.chaos.turn(caller.process, Point::Commit).await;
                if strikes(Fault::UnknownDone, 5) {
                    return CommitOutcome::Unknown(lost());
                }
                CommitOutcome::Committed
            }
            CommitOutcome::Moved(inner) => {
                caller.chaos.count_at_last(caller.process, Fault::Moved);
                caller.rules.begun(caller.process, &slice.slice);
                let inner = Some(inner);
                CommitOutcome::Moved(Box::new(FaultyLoad { inner, target, slice, damaged }))
            }
            other => other,
        }
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let caller = self.target.caller.clone();
        let inner = self.take();
        caller.around(Point::Abort, inner.abort()).await
    }

    async fn refresh(self: Box<Self>, receipt: Receipt) -> Result<()> {
        let caller = self.target.caller.clone();
        let inner = self.take();
        caller.around(Point::Refresh, inner.refresh(receipt)).await
    }
}

/// A slice is committed: in the modes that replace, rows of others may be gone with it.
fn landed(setting: &Setting, interval: &Interval) {
    let left = left(setting, interval, setting.others.now());
    setting.others.set(setting.table.version(), left);
}

struct FaultySink<'a> {
    inner: &'a mut dyn RowSink,
    caller: Caller,
    columns: Arc<Columns>,
    point: Point,
    cursed: bool,
    damaged: Arc<AtomicBool>,
}

#[async_trait]
impl RowSink for FaultySink<'_> {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let Caller { process, chaos, .. } = &self.caller;
        let some = rows.num_rows() > 0 && !self.damaged.load(Ordering::SeqCst);
        let cursed = self.cursed && some;
        let weight = if self.point == Point::Arrivals { 30 } else { 3 };
        if cursed {
            chaos.count_at_last(*process, Fault::Corrupted);
        }
        if cursed || (some && chaos.strikes(*process, self.point, Fault::Corrupted, weight)) {
            self.damaged.store(true, Ordering::SeqCst);
            let rows = damaged(&self.caller, &self.columns, &rows, true)?;
            return self.inner.push(rows).await;
        }
        self.inner.push(rows).await
    }
}

/// The rows with one of them changed: a bit flipped, dropped, doubled, moved in time, NULL made
/// empty text. `count` says whether their number may change.
fn damaged(
    caller: &Caller,
    columns: &Columns,
    rows: &RecordBatch,
    count: bool,
) -> Result<RecordBatch> {
    let mut rows = from_batch(rows)?;
    let at = caller.chaos.below(rows.len());
    match caller.chaos.below(if count { 5 } else { 3 }) {
        0 => {
            let bit = 1 << caller.chaos.below(63);
            for value in &mut rows[at] {
                if let Value::Integer(n) = value {
                    *n ^= bit;
                }
            }
            flip_text(&mut rows[at][1]);
        }
        1 => {
            if let Value::Instant(n) = &mut rows[at][0] {
                *n += 1;
            }
        }
        2 => flip_text(rows[at].last_mut().expect("a row has columns")),
        3 => {
            rows.remove(at);
        }
        _ => rows.push(rows[at].clone()),
    }
    to_batch(columns, &rows.iter().collect::<Vec<_>>())
}

fn flip_text(value: &mut Value) {
    *value = match &*value {
        Value::Null => Value::Text(String::new()),
        Value::Text(text) if text.is_empty() => Value::Null,
        Value::Text(text) => Value::Text(format!("{text}'")),
        other => other.clone(),
    };
}
