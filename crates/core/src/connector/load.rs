//! The load of one slice.

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::receipt::Receipt;

/// Takes rows that a target holds, in plan order of columns.
#[async_trait]
pub trait RowSink: Send {
    /// Takes some rows.
    async fn push(&mut self, rows: RecordBatch) -> Result<()>;
}

/// A row of a batch that the target does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index of the row in the batch.
    pub row: usize,
    /// The column, where it was one.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
}

/// Takes what the slice of a load that gives way would hold after the commit.
pub struct Look<'a> {
    /// Rows that the load did not write.
    pub others: &'a mut dyn RowSink,
    /// Rows that it wrote.
    pub ours: &'a mut dyn RowSink,
    /// Rows that it was to write, and that gave way to one of the others with the same key.
    pub gave_way: &'a mut dyn RowSink,
}

/// Says which held rows go.
#[async_trait]
pub trait RowPicker: Send {
    /// For rows that the slice holds, in plan order of columns: whether each goes.
    async fn pick(&mut self, rows: RecordBatch) -> Result<Vec<bool>>;
}

/// How a commit ended.
pub enum CommitOutcome {
    /// The rows and the receipt are there, durably.
    Committed,
    /// Rows arrived in the slice since `held`. Nothing was committed; the load is handed back,
    /// `arrivals` gives the new rows, and the commit can be asked for again.
    Moved(Box<dyn Load>),
    /// Nothing was committed, certainly.
    NotCommitted(Error),
    /// It cannot be known from here. The receipts tell.
    Unknown(Error),
}

/// One slice being loaded. The phases come in this order: `held`, any number of `write` and
/// `write_successors`, `remove` in the modes that replace, `seal`, `read_back`, then `commit` (and
/// `arrivals` between two commits) or `abort`. Nothing is visible before `commit` where the
/// capabilities say atomic. A load that is dropped has committed nothing.
#[async_trait]
pub trait Load: Send {
    /// The rows the slice holds now. Drained before the first write.
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()>;

    /// Writes new rows. What the target refuses is named, and not written.
    async fn write(&mut self, rows: RecordBatch) -> Result<Vec<Refused>>;

    /// Writes rows whose held predecessors `remove` will take out.
    async fn write_successors(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        self.write(rows).await
    }

    /// Takes held rows out, once, after all writes: those that `picker` picks. It is shown every
    /// row that `held` gave exactly once, and no other.
    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let _ = picker;
        Err(Error::bug("this target does not take rows out"))
    }

    /// Everything written is durable and can be read back.
    async fn seal(&mut self) -> Result<()>;

    /// Every row the slice would hold after the commit, read from where they are stored.
    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()>;

    /// Whether the load stands on no single state of the table: a row of ours that met a live one
    /// with its key gave way, and `look` takes the place of `read_back`. Only in fill-missing.
    fn gives_way(&self) -> bool {
        false
    }

    /// After `seal`, where the load gives way: all of the slice in one look at one state. Until the
    /// commit no other row can take a key of ours.
    async fn look(&mut self, look: Look<'_>) -> Result<()> {
        let _ = look;
        Err(Error::bug("a load that does not give way was asked what gave way"))
    }

    /// The rows that arrived in the slice since the last look, after `CommitOutcome::Moved`. The
    /// load then stands on the newest state.
    async fn arrivals(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let _ = sink;
        Ok(())
    }

    /// Takes the manifest that is kept with the receipt, before the first commit; a later one takes
    /// the place of an earlier one. It counts only if the commit does.
    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        let _ = bytes;
        Err(Error::config("this target keeps no manifest")
            .hint("leave `verify.manifest` out")
            .about("verify.manifest"))
    }

    /// Makes rows and receipt visible in one step; the target fills in the receipt's anchor.
    async fn commit(self: Box<Self>, receipt: Receipt) -> CommitOutcome;

    /// Leaves nothing behind.
    async fn abort(self: Box<Self>) -> Result<()>;

    /// Ends a load that only looked: `held` gave exactly what this receipt says. The receipt is
    /// put on the rows as they lie now, so that the next run need not look again.
    async fn refresh(self: Box<Self>, receipt: Receipt) -> Result<()>;
}
