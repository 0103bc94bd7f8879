//! Source, journal and scratch with a fault possible before and after every call.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use retrofill_core::connector::{
    ReadRequest, Rows, Source, SourceBatch, StageRequest, SurveyRequest,
};
use retrofill_core::env::Scratch;
use retrofill_core::error::Result;
use retrofill_core::id::PlanId;
use retrofill_core::ledger::{Entry, Event, Holder, Journal, Lease, SliceRecord};
use retrofill_core::memory::{MemoryJournal, MemorySource, MemoryTable};
use retrofill_core::reject::Place;
use retrofill_core::survey::Survey;

use crate::chaos::{Chaos, Point};
use crate::env::{Process, SimScratch};
use crate::rules::Rules;

/// Who calls, and through which faults.
#[derive(Clone)]
pub(crate) struct Caller {
    pub process: Process,
    pub chaos: Chaos,
    pub rules: Rules,
}

impl Caller {
    pub(crate) async fn before(&self, point: Point) -> Result<()> {
        self.chaos.before(self.process, point).await
    }

    pub(crate) async fn after(&self, point: Point) -> Result<()> {
        self.chaos.after(self.process, point).await
    }

    /// The call with a chance of failing before and after it.
    pub(crate) async fn around<T>(
        &self,
        point: Point,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.before(point).await?;
        let result = call.await?;
        self.after(point).await?;
        Ok(result)
    }
}

pub(crate) struct FaultySource {
    pub inner: MemorySource,
    pub caller: Caller,
}

impl fmt::Debug for FaultySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Source for FaultySource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        self.inner.survey(request).await
    }

    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let work = async {
            request.pulse.beat(0, 1)?;
            self.inner.stage(request).await
        };
        self.caller.around(Point::SourceStage, work).await?;
        request.pulse.beat(1, 1)
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let rows = self.caller.around(Point::SourceRead, self.inner.read(request)).await?;
        let next = |(mut batches, caller): (stream::BoxStream<'static, _>, Caller)| async move {
            if let Err(e) = caller.before(Point::SourceNext).await {
                return Some((Err::<SourceBatch, _>(e), (batches, caller)));
            }
            let batch = batches.next().await?;
            Some((batch, (batches, caller)))
        };
        let batches = stream::unfold((rows.batches, self.caller.clone()), next).boxed();
        Ok(Rows { batches, blocks: rows.blocks })
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        self.caller.around(Point::SourceLocate, self.inner.locate(survey, ordinals)).await
    }
}

pub(crate) struct FaultyJournal {
    pub inner: MemoryJournal,
    pub table: MemoryTable,
    pub caller: Caller,
}

impl fmt::Debug for FaultyJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Journal for FaultyJournal {
    async fn append(&self, lease: &Lease, events: Vec<Event>, durable: bool) -> Result<()> {
        self.caller.before(Point::JournalAppend).await?;
        self.inner.append(lease, events.clone(), durable).await?;
        let process = self.caller.process;
        self.caller.chaos.note(|| format!("[{process}] journalled {events:?}"));
        self.caller.rules.journalled(process, &events, &self.table);
        self.caller.after(Point::JournalAppend).await
    }

    async fn read(&self, plan: &PlanId, after: u64) -> Result<Vec<Entry>> {
        self.inner.read(plan, after).await
    }

    async fn slices(&self, plan: &PlanId) -> Result<Vec<SliceRecord>> {
        self.caller.around(Point::JournalSlices, self.inner.slices(plan)).await
    }

    async fn lease(&self, plan: &PlanId, holder: &Holder) -> Result<Lease> {
        self.caller.before(Point::JournalLease).await?;
        let lease = self.inner.lease(plan, holder).await?;
        self.caller.rules.leased(self.caller.process, &lease);
        self.caller.after(Point::JournalLease).await?;
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.caller.around(Point::JournalRenew, self.inner.renew(lease)).await
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.caller.around(Point::JournalRelease, self.inner.release(lease)).await
    }
}

pub(crate) struct FaultyScratch {
    pub inner: Arc<SimScratch>,
    pub caller: Caller,
}

#[async_trait]
impl Scratch for FaultyScratch {
    async fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.caller.around(Point::ScratchWrite, self.inner.write(name, bytes)).await
    }

    async fn append(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.caller.around(Point::ScratchWrite, self.inner.append(name, bytes)).await
    }

    async fn sync(&self, name: &str) -> Result<()> {
        self.caller.around(Point::ScratchWrite, self.inner.sync(name)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.caller.around(Point::ScratchRename, self.inner.rename(from, to)).await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.caller.around(Point::ScratchRead, self.inner.read(name)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.caller.around(Point::ScratchDelete, self.inner.delete(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.caller.around(Point::ScratchList, self.inner.list(prefix)).await
    }
}
