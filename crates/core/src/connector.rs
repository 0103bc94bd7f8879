//! The seam between core and the outside: sources, targets and the load of one slice.
//!
//! A target is a source that can also be loaded. [`crate::memory`] shows the whole contract in
//! one screen.

mod load;
mod stage;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::after::After;
use crate::columns::{ColumnType, Columns};
use crate::error::{Error, Result};
use crate::examine::{Remark, Wanted};
use crate::id::{PlanId, SliceId};
use crate::interval::Interval;
use crate::receipt::Receipt;
use crate::reject::{Place, Reject};
use crate::spec::Mode;
use crate::survey::{Coming, FileStamp, Survey};

pub use load::{CommitOutcome, Load, Look, Refused, RowPicker, RowSink};
pub use stage::{Pulse, StageRequest};

/// A column as a source or a table has it, before the plan gives it a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldType {
    /// The name, byte for byte.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What a table puts there by itself.
    #[serde(skip)]
    pub fill: Fill,
}

/// What a new row has in a column that nobody gives a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fill {
    /// NULL.
    #[default]
    Nothing,
    /// A default, or the next number of a sequence.
    Default,
    /// What is computed from other columns. Nobody else can write it.
    Computed,
}

impl FieldType {
    /// A column that the table fills with nothing.
    pub fn new(name: impl Into<String>, ty: ColumnType, nullable: bool) -> Self {
        FieldType { name: name.into(), ty, nullable, fill: Fill::Nothing }
    }
}

/// What the survey has to find out.
#[derive(Debug, Clone, Default)]
pub struct SurveyRequest {
    /// Name of the time column.
    pub time: String,
    /// Types the columns must have, because the target's table exists. Values that do not fit
    /// are rejects when the slice is read.
    pub types: Vec<FieldType>,
    /// Told now and then how far the survey is: bytes done, bytes in all.
    pub pulse: Pulse,
    /// A first look: parts of the bytes, and what they tell of the rest. The answer says so in
    /// [`Survey::sampled`]; a source that knows all it holds without such a look answers as ever.
    pub sample: bool,
}

/// What one read asks for.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// Only rows whose time lies inside.
    pub interval: Interval,
    /// The columns, in this order and of these types.
    pub columns: Arc<Columns>,
    /// What the plan knows of the source. Empty for a target that is read.
    pub survey: Arc<Survey>,
}

/// Rows of one interval, in no particular order between batches.
pub struct Rows {
    /// The batches.
    pub batches: BoxStream<'static, Result<SourceBatch>>,
    /// Hashes of the source blocks the rows come from, for the receipt.
    pub blocks: Vec<String>,
}

impl Rows {
    /// The first of them, about `most`.
    pub async fn first(mut self, most: usize) -> Result<Vec<SourceBatch>> {
        let (mut found, mut rows) = (Vec::new(), 0);
        while rows < most
            && let Some(batch) = self.batches.next().await
        {
            let batch = batch?;
            rows += batch.rows.num_rows();
            found.push(batch);
        }
        Ok(found)
    }
}

/// Some rows of a slice.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The rows, in plan order of columns.
    pub rows: RecordBatch,
    /// For each row its place in the source's defined order (file, then offset). Which of two
    /// rows with one key wins depends on this alone.
    pub ordinals: Vec<u64>,
    /// Rows of this slice that cannot be had in the plan's types.
    pub rejects: Vec<Reject>,
    /// Rows of this slice that the transform left out.
    pub filtered: u64,
}

/// How hard the other side works: 0 idle, 1 at its limit, and the name of the signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Pressure {
    /// 0.0 to 1.0 and beyond.
    pub level: f64,
    /// What was measured.
    pub signal: String,
}

impl Pressure {
    /// Nothing to worry about.
    pub fn idle() -> Self {
        Pressure { level: 0.0, signal: "none".into() }
    }
}

/// Where rows come from.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// What is there: columns, rows, bytes, time range and content hash per block, and the lines
    /// that belong to no slice. Planning and coverage need nothing else.
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey>;

    /// The files as they are now, without reading them: tells whether the source has grown since
    /// a survey. None where the source cannot tell.
    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        Ok(None)
    }

    /// Whether it is made of files that are written once, and at most added to: one that is
    /// shorter, other or gone later was damaged, unless somebody says otherwise.
    fn is_of_files(&self) -> bool {
        false
    }

    /// Called once per run before the first read: a source that cannot read one slice without
    /// reading far more than it (unordered, compressed) sorts itself into the state dir here.
    /// Resumable; cleaned up by `unstage`. Ends soon after the request's pulse gives an error.
    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let _ = request;
        Ok(())
    }

    /// Removes what `stage` left.
    async fn unstage(&self) -> Result<()> {
        Ok(())
    }

    /// The rows of exactly this interval. A block whose content is no longer what the survey saw
    /// ends the stream with an error of kind `Stale`.
    async fn read(&self, request: &ReadRequest) -> Result<Rows>;

    /// The first rows of the interval, about `most` of them, in the source's order where it has
    /// one, with the rejects among them. To look at: nothing is sorted, staged or written for it.
    async fn first(&self, request: &ReadRequest, most: usize) -> Result<Vec<SourceBatch>> {
        self.read(request).await?.first(most).await
    }

    /// Place and text of single rows, by ordinal, for the list of rejects.
    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>>;

    /// Looks at everything that could keep a run from working, and changes nothing. Findings that
    /// a run would end with are errors; an error of this method means that it cannot be looked
    /// at all.
    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let _ = wanted;
        Ok(Vec::new())
    }

    /// What an administrator has to run so that a user of this name may do what is wanted at this
    /// end, and no more: statements, in their order. None where the system grants no rights.
    async fn grants(&self, role: Option<&str>, wanted: &Wanted) -> Result<Vec<String>> {
        let _ = (role, wanted);
        Ok(Vec::new())
    }

    /// How hard the source works. Sources throttle too.
    async fn pressure(&self) -> Result<Pressure> {
        Ok(Pressure::idle())
    }
}

/// What a target can promise. `plan` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The name of the system.
    pub system: &'static str,
    /// Nothing is visible before `commit`, and all of the slice is after it.
    pub atomic: bool,
    /// The receipt is part of the same commit as the rows.
    pub receipts: bool,
    /// A server stands before the table. Other writers may have to wait while a load is open, which
    /// shall not wait for the source then; and they can empty the table or put another in its place
    /// meanwhile, so that a run looks at its end for what it has loaded.
    pub served: bool,
    /// Modes it can do.
    pub modes: &'static [Mode],
    /// In one sentence, what a rerun does.
    pub rerun: &'static str,
    /// In one sentence, what does not survive a round trip.
    pub fidelity: &'static str,
}

/// Whether a receipt's data can still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything the receipt names is in place.
    Sound,
    /// Something moved (a file compacted away, a table restored): the slice must be read back.
    Recheck(String),
}

/// A receipt found in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The receipt.
    pub receipt: Receipt,
    /// Whether it can be believed as it stands.
    pub standing: Standing,
}

/// A commit that the target's own record knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The plan.
    pub plan: PlanId,
    /// The slice or a half of one.
    pub slice: SliceId,
    /// Its newest generation.
    pub generation: u64,
}

/// What a target knows of commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The receipts, of any plan, whose interval overlaps what was asked for and whose table is
    /// this table.
    pub found: Vec<Found>,
    /// The commits, of any plan and interval, whose receipt is gone or cannot be read.
    pub lost: Vec<Commit>,
}

/// One load of one slice.
#[derive(Debug, Clone)]
pub struct SliceLoad {
    /// The plan.
    pub plan: PlanId,
    /// The slice or a half of one.
    pub slice: SliceId,
    /// Which load of the slice this is.
    pub generation: u64,
    /// Which try of this generation, from 1.
    pub attempt: u32,
    /// What it covers.
    pub interval: Interval,
    /// The plan's columns.
    pub columns: Arc<Columns>,
    /// How held rows are treated: the plan's mode, or `upsert` where rows go at the user's wish.
    pub mode: Mode,
    /// What an earlier load of the slice wrote may be gone or damaged: the target takes the
    /// wreck out in the same commit, if nothing of anybody else is lost with it.
    pub repair: bool,
    /// How it behaves towards others.
    pub manners: Manners,
}

/// How a load behaves towards others who use the table meanwhile, where they can wait for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manners {
    /// A transaction that is open longer is given up with an error of kind `Overloaded`, so that
    /// the slice is halved; none = what the target thinks fit. Holds for nobody who is alone.
    pub longest: Option<Duration>,
    /// Other writers are kept out while the transaction is open.
    pub locks: bool,
    /// The user asserts that there are no other writers.
    pub alone: bool,
}

/// What suits a target, where the spec leaves the size of slices to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizing {
    /// The most rows that a slice should have.
    pub rows: u64,
    /// What the user should know of it.
    pub note: Option<String>,
}

impl Default for Sizing {
    fn default() -> Self {
        Sizing { rows: 1_000_000, note: None }
    }
}

/// Where rows go: a source that can be loaded.
#[async_trait]
pub trait Target: Source {
    /// What it can promise.
    fn capabilities(&self) -> Capabilities;

    /// The table's columns as they are, in the table's order; none where there is no table.
    async fn table(&self) -> Result<Option<Vec<FieldType>>>;

    /// Asked where [`Target::table`] says none, once the source's columns are known: the columns of
    /// a table that does not tell the types of its values, in types that its values and the
    /// source's both have. `time` is the name of the time column. None where there is no table.
    async fn untyped(&self, source: &[FieldType], time: &str) -> Result<Option<Vec<FieldType>>> {
        let _ = (source, time);
        Ok(None)
    }

    /// The type in which the target would keep a column of this type, or an error that says
    /// what would be lost.
    fn keeps(&self, ty: ColumnType) -> Result<ColumnType>;

    /// An error of kind `Config` where the table as it is would not take such a load safely. Asked
    /// before anything is planned; a table that is not there yet is none.
    async fn accepts(&self, columns: &Columns, mode: Mode, manners: Manners) -> Result<()> {
        let _ = (columns, mode, manners);
        Ok(())
    }

    /// What size of slices suits the table as it is.
    async fn sizing(&self, columns: &Columns, manners: Manners) -> Result<Sizing> {
        let _ = (columns, manners);
        Ok(Sizing::default())
    }

    /// An error of kind `Config` where rows cannot go at the user's wish without harm to others.
    async fn lets_go(&self) -> Result<()> {
        Ok(())
    }

    /// Times of keys that the table holds more than once. Asked once a run where no unique index
    /// keeps doubles out, after all commits of the plan.
    async fn doubled(
        &self,
        plan: &PlanId,
        columns: &Columns,
        within: &Interval,
    ) -> Result<Vec<Timestamp>> {
        let _ = (plan, columns, within);
        Ok(Vec::new())
    }

    /// Creates the table or checks that it fits. Idempotent.
    async fn prepare(&self, columns: &Columns) -> Result<()>;

    /// Whether the table has a place for the rows that come; an error of kind `Config` that names
    /// where it has none. With `make`, after `prepare`, it is made if the spec says so.
    async fn room(&self, columns: &Columns, coming: &Coming, make: bool) -> Result<()> {
        let _ = (columns, coming, make);
        Ok(())
    }

    /// What the target knows of commits in this interval. It tells how every commit that was
    /// asked for before ended: one that may still be under way is waited for, else an unknown
    /// commit could land after it was taken for lost.
    async fn receipts(&self, within: &Interval) -> Result<Known>;

    /// Whether any generation of this slice, of a part of it or of one that it is a part of was
    /// ever committed to this table, whether or not its receipt can still be read.
    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool>;

    /// How many commits of other plans this table knows: another number than before means that
    /// another plan has committed meanwhile. Cheap.
    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64>;

    /// The manifest that was kept with this receipt; none where it is lost or none was kept.
    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        let _ = receipt;
        Ok(None)
    }

    /// Looks at every byte that the receipt, one given by [`Target::receipts`], rests on, where the
    /// target keeps checksums of its own: what is damaged, in one sentence. The rows are compared
    /// besides; a damage may change none of them and still mislead other readers.
    async fn damage(&self, receipt: &Receipt) -> Result<Option<String>> {
        let _ = receipt;
        Ok(None)
    }

    /// Returns once nothing is under way any more that the target does behind its commits, such
    /// as checkpoints. The end of every run waits for it.
    async fn idle(&self) {}

    /// Does what follows loads, for this stretch of time where the action is done by stretches.
    async fn follow(&self, action: &After, loaded: Option<&Interval>) -> Result<()> {
        let _ = loaded;
        Err(Error::config(format!("this target cannot do `{action}`")))
    }

    /// A table of its own with this one's columns, keys and rules, and its rows of these intervals.
    /// Nobody who uses this table sees what is loaded into it. The tag names it; `drop_shadow`
    /// removes it, in another process too.
    async fn shadow(&self, tag: &str, time: &str, within: &[Interval]) -> Result<Arc<dyn Target>> {
        let _ = (tag, time, within);
        Err(Error::config("this target cannot be tried without writing to it"))
    }

    /// Removes the shadow of this tag, if there is one, and whatever else was kept for it.
    async fn drop_shadow(&self, tag: &str) -> Result<()> {
        let _ = tag;
        Ok(())
    }

    /// Starts the load of a slice.
    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>>;
}
