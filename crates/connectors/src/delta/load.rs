//! The load of one slice.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{
    CommitOutcome, FieldType, Load, Refused, RowPicker, RowSink, SliceLoad,
};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::receipt::Receipt;
use retrofill_core::spec::Mode;

use super::commit::OpenLoad;
use super::datafile::{FileWriter, Written};
use super::durable::random_name;
use super::rewrite::Rewrite;
use super::scan::{self, Scan};
use super::state::{DataFile, State, micros};
use super::{Shared, receipts, schema};

/// The state of the table that a load's decisions rest on.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// See [`State::epoch`].
    pub(super) epoch: u64,
    /// The version.
    pub(super) version: u64,
    /// The files that may hold rows of the slice.
    pub(super) files: Vec<Arc<DataFile>>,
}

/// Files that came after the base and may hold rows of the slice.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    /// The version they were found at.
    pub(super) version: u64,
    /// The files.
    pub(super) files: Vec<Arc<DataFile>>,
}

/// See [`Load`].
pub(super) struct DeltaLoad {
    pub(super) shared: Arc<Shared>,
    pub(super) slice: SliceLoad,
    /// Columns of the data file, in the table's order.
    pub(super) fields: Vec<FieldType>,
    /// Every column of the table, in its order.
    pub(super) all: Vec<FieldType>,
    /// The same with the plan's columns first: a file that is written anew keeps what the plan
    /// knows nothing of.
    pub(super) table: Arc<Columns>,
    /// Distinguishes what this load leaves on the disk from what any other one leaves.
    pub(super) word: String,
    pub(super) base: Base,
    /// Data files of earlier loads of this slice that are gone or damaged: they leave the table
    /// with the commit.
    pub(super) wreck: Vec<Arc<DataFile>>,
    /// Files from which rows were taken out.
    pub(super) rewritten: Vec<Rewrite>,
    /// The turn to rewrite files with rows of other slices.
    pub(super) turn: Option<tokio::sync::OwnedMutexGuard<()>>,
    pub(super) arrived: Option<Arrived>,
    writer: Option<FileWriter>,
    pub(super) written: Option<Written>,
    /// The body of the receipt, once it is written.
    pub(super) body: Option<String>,
    /// What goes beside it.
    pub(super) manifest: Option<Vec<u8>>,
    /// Where that lies, once it is written.
    pub(super) manifest_file: Option<String>,
    /// Files may only be added to the table.
    pub(super) append_only: bool,
    /// Set once the data file belongs to the table, or may.
    pub(super) keep: bool,
    sealed: bool,
    pub(super) open: OpenLoad,
}

impl DeltaLoad {
    /// A load on this state.
    pub(super) fn new(shared: Arc<Shared>, slice: SliceLoad, state: &mut State) -> Result<Self> {
        schema::check_fit(&slice.columns, &state.fields)?;
        if matches!(slice.mode, Mode::Upsert | Mode::Replace) && state.metadata.is_append_only() {
            let what = format!("the table is append-only: no mode `{}`", slice.mode.as_str());
            return Err(Error::config(what).hint("its property `delta.appendOnly` is true"));
        }
        let planned = |f: &&FieldType| slice.columns.iter().any(|c| c.name == f.name);
        let fields = state.fields.iter().filter(planned).cloned().collect();
        let table = Arc::new(schema::whole(&slice.columns, &state.fields)?);
        let files = state.overlapping(&slice.columns.time().name, &slice.interval);
        let base = Base { epoch: state.epoch, version: state.version, files };
        let open = shared.committer.open();
        let word = random_name().map_err(|e| Error::unavailable("no random numbers").because(e))?;
        Ok(DeltaLoad {
            shared,
            slice,
            fields,
            all: state.fields.clone(),
            table,
            word,
            base,
            wreck: Vec::new(),
            rewritten: Vec::new(),
            turn: None,
            arrived: None,
            writer: None,
            written: None,
            body: None,
            manifest: None,
            manifest_file: None,
            append_only: state.metadata.is_append_only(),
            keep: false,
            sealed: false,
            open,
        })
    }

    pub(super) fn scan(&self, files: Vec<Arc<DataFile>>) -> Scan {
        let (columns, interval) = (self.slice.columns.clone(), Some(self.slice.interval));
        Scan { columns, interval, files }
    }

    /// Takes out the rows that a column of the table forbids to be NULL.
    fn refuse(&self, rows: RecordBatch) -> Result<(RecordBatch, Vec<Refused>)> {
        let mut refused = Vec::new();
        for field in self.fields.iter().filter(|f| !f.nullable) {
            let Some(column) = rows.column_by_name(&field.name) else { continue };
            if column.null_count() == 0 {
                continue;
            }
            refused.extend((0..rows.num_rows()).filter(|i| column.is_null(*i)).map(|row| {
                Refused {
                    row,
                    column: Some(field.name.clone()),
                    reason: format!("`{}` must not be NULL in the table", field.name),
                }
            }));
        }
        if refused.is_empty() {
            return Ok((rows, refused));
        }
        refused.sort_by_key(|r| r.row);
        refused.dedup_by_key(|r| r.row);
        let mut keep = vec![true; rows.num_rows()];
        for row in &refused {
            keep[row.row] = false;
        }
        let rows = filter_record_batch(&rows, &BooleanArray::from(keep))
            .map_err(|e| Error::bug("rows cannot be filtered").because(e))?;
        Ok((rows, refused))
    }

    /// Our files never span slices: neighbours could not be proven or repaired alone.
    fn check_range(&self, written: &Written) -> Result<()> {
        let (first, end) = micros(&self.slice.interval);
        match written.times {
            Some((low, high)) if low < first || end <= high => Err(Error::bug(format!(
                "rows outside of {} were written into slice {}",
                self.slice.interval, self.slice.slice
            ))),
            _ => Ok(()),
        }
    }
}

impl Drop for DeltaLoad {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let anew = self.rewritten.drain(..).filter_map(|r| r.new);
        let written = self.written.take().into_iter().chain(anew).map(|w| w.path);
        for path in written.chain(self.body.take()).chain(self.manifest_file.take()) {
            self.shared.log.durable().discard(&path);
        }
    }
}

#[async_trait]
impl Load for DeltaLoad {
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let scan = self.scan(self.base.files.clone());
        scan::pour(self.shared.log.durable(), scan, sink).await
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        if self.sealed {
            return Err(Error::bug("rows were written after the load was sealed"));
        }
        let (rows, refused) = self.refuse(rows)?;
        if rows.num_rows() == 0 {
            return Ok(refused);
        }
        let writer = self.writer.get_or_insert_with(|| {
            let durable = self.shared.log.durable().clone();
            FileWriter::start(durable, &self.slice, self.fields.clone())
        });
        writer.write(&rows).await?;
        Ok(refused)
    }

    async fn write_successors(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        let known = |f: &&FieldType| !self.fields.iter().any(|mine| mine.name == f.name);
        if let Some(unknown) = self.all.iter().find(known) {
            let what = format!(
                "a row of the source would take the place of one whose column `{}` it lacks",
                unknown.name
            );
            return Err(Error::new(Kind::Refused, what).hint(
                "the value would be lost: add the column to the source and plan again, or take \
                 it out of the table",
            ));
        }
        self.write(rows).await
    }

    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        self.take_out(picker).await
    }

    async fn seal(&mut self) -> Result<()> {
        self.sealed = true;
        if let Some(writer) = self.writer.take() {
            let written = writer.seal().await?;
            let checked = self.check_range(&written);
            self.written = Some(written);
            checked?;
        }
        Ok(())
    }

    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        if !self.sealed {
            return Err(Error::bug("a load was read back before it was sealed"));
        }
        if let Some(written) = &self.written {
            let file = DataFile::new(&written.path, written.size, Some(written.rows));
            let (columns, files) = (self.slice.columns.clone(), vec![Arc::new(file)]);
            let scan = Scan { columns, interval: None, files };
            scan::pour(self.shared.log.durable(), scan, sink).await?;
        }
        let scan = self.scan(self.others());
        scan::pour(self.shared.log.durable(), scan, sink).await
    }

    async fn arrivals(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let Some(arrived) = self.arrived.clone() else { return Ok(()) };
        let scan = self.scan(arrived.files.clone());
        scan::pour(self.shared.log.durable(), scan, sink).await?;
        self.base.version = arrived.version;
        self.base.files.extend(arrived.files);
        self.arrived = None;
        Ok(())
    }

    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.manifest = Some(bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>, receipt: Receipt) -> CommitOutcome {
        if !self.sealed {
            let error = Error::bug("a load was committed before it was sealed");
            return CommitOutcome::NotCommitted(error);
        }
        let shared = self.shared.clone();
        shared.committer.commit(&shared, self, receipt).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.abort().await;
        }
        let anew = self.rewritten.drain(..).filter_map(|r| r.new);
        let files: Vec<_> = self.written.take().into_iter().chain(anew).collect();
        if files.is_empty() {
            return Ok(());
        }
        let durable = self.shared.log.durable().clone();
        super::blocking(move || {
            for file in files {
                match durable.disk().remove(&file.path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(durable.error("remove", &file.path, e));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn refresh(self: Box<Self>, receipt: Receipt) -> Result<()> {
        super::blocking(move || {
            let at = (self.word.as_str(), self.base.version);
            let held: &[Arc<DataFile>] =
                if receipt.latest().digests.after.count > 0 { &self.base.files } else { &[] };
            receipts::refresh(&self.shared, &self.slice, at, held, receipt)
        })
        .await
    }
}
