//! The load of one slice.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use retrofill_core::columns::Precision;
use retrofill_core::connector::{
    CommitOutcome, FieldType, Load, Refused, RowPicker, RowSink, SliceLoad,
};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::receipt::Receipt;

use super::blocking;
use super::contents::{Contents, Shared};
use super::moment::Times;
use super::names::Named;
use super::part::{Own, Part};
use super::receipts::{self, Anchor, AnchorFile};
use super::settings::FileFormat;
use super::text::{Encoder, Lines};
use super::writer::{FileWriter, Form, Written, in_order, parquet_schema};
use crate::delta::{is_intact, random_name};

/// See [`Load`].
pub(super) struct FolderLoad {
    pub(super) shared: Arc<Shared>,
    pub(super) slice: SliceLoad,
    pub(super) named: Named,
    /// Distinguishes what this try leaves on the disk from what any other one leaves.
    pub(super) word: String,
    /// Columns of the file, in the folder's order.
    fields: Vec<FieldType>,
    times: Times,
    /// The first file of others: ours are like it.
    first: Option<Arc<Part>>,
    /// The files that may hold rows of the slice.
    pub(super) base: Vec<Arc<Part>>,
    /// Files of ours that cannot be read any more: they go with the commit.
    pub(super) wreck: Vec<Arc<Part>>,
    /// Files of ours whose rows are taken out.
    pub(super) removed: Vec<Arc<Part>>,
    pub(super) arrived: Option<Vec<Arc<Part>>>,
    /// A file is no concern of several threads at once, but the load may be looked at by them.
    writer: Mutex<Option<FileWriter>>,
    pub(super) written: Option<Written>,
    pub(super) sealed: bool,
    /// What goes beside the receipt.
    pub(super) manifest: Option<Vec<u8>>,
    /// Files that go where this is dropped before its commit.
    pub(super) litter: Vec<String>,
}

/// The files of the folder that may hold rows of a slice.
pub(super) fn overlapping(contents: &Contents, slice: &SliceLoad) -> Vec<Arc<Part>> {
    contents.values().filter(|p| p.overlaps(&slice.interval)).cloned().collect()
}

impl FolderLoad {
    /// A load on what the folder holds now.
    pub(super) async fn new(shared: &Arc<Shared>, slice: &SliceLoad) -> Result<Self> {
        let contents = shared.look(&slice.columns.time().name).await?;
        let at = shared.clone();
        let recorded = blocking(move || super::table::recorded(&at)).await?;
        let recorded = recorded.ok_or_else(|| {
            Error::unavailable("there is no folder; it was not prepared or was deleted")
        })?;
        let word = random_name().map_err(|e| Error::unavailable("no random numbers").because(e))?;
        let mut load = FolderLoad {
            shared: shared.clone(),
            slice: slice.clone(),
            named: Named::of(slice),
            word,
            fields: in_order(&recorded, &slice.columns)?,
            times: Times::of(&contents, &shared.settings.timezone),
            first: contents.values().find(|p| p.named.is_none()).cloned(),
            base: overlapping(&contents, slice),
            wreck: Vec::new(),
            removed: Vec::new(),
            arrived: None,
            writer: Mutex::default(),
            written: None,
            sealed: false,
            manifest: None,
            litter: Vec::new(),
        };
        if slice.repair {
            load.find_wreck().await?;
        }
        Ok(load)
    }

    /// Parts the slice's files from those that loads of this very slice wrote and that cannot be
    /// read any more. One that others have changed and that can be read stays: its rows are live.
    async fn find_wreck(&mut self) -> Result<()> {
        for part in std::mem::take(&mut self.base) {
            let (own, named) = (part.own.clone(), part.named.as_ref());
            let same = named.is_some_and(|n| n.slice == self.named.slice);
            let own = own.filter(|own| same && own.interval == self.slice.interval);
            let wrecked = match own {
                Some(own) => self.is_wrecked(&part, own).await?,
                None => false,
            };
            if wrecked { &mut self.wreck } else { &mut self.base }.push(part);
        }
        Ok(())
    }

    async fn is_wrecked(&self, part: &Arc<Part>, own: Own) -> Result<bool> {
        let (shared, name) = (self.shared.clone(), part.name.clone());
        if blocking(move || is_intact(&shared.durable, &name, &own.sum)).await? {
            return Ok(false);
        }
        // Nobody edits Parquet by hand: other bytes are damage, even where they can be read.
        if part.format == FileFormat::Parquet {
            return Ok(true);
        }
        let mut nothing = Nothing;
        match part.pour(&self.slice.columns, &self.slice.interval, &mut nothing).await {
            Ok(()) => Ok(false),
            Err(e) if e.kind() == Kind::Mismatch => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// How the file is written.
    fn form(&self) -> Result<Form> {
        let settings = &self.shared.settings;
        let (fields, time) = (self.fields.clone(), &self.slice.columns.time().name);
        let lines = match settings.format {
            FileFormat::Csv => Lines::Csv(settings.delimiter as u8),
            FileFormat::Ndjson => Lines::Json,
            FileFormat::Parquet => {
                let like = match &self.first {
                    Some(first) => Some(super::shape::of(&self.shared, &first.name)?),
                    None => None,
                };
                let schema = parquet_schema(&fields, like.as_ref())?;
                return Ok(Form::Parquet { fields, schema });
            }
        };
        let encoder = Encoder::new(lines, fields, time, self.times.clone());
        Ok(Form::Text { encoder, header: settings.header })
    }

    /// The name that the data file gets.
    pub(super) fn data_file(&self) -> String {
        let like = self.first.as_ref().map(|p| p.name.as_str());
        self.named.data_file(&self.shared.settings.format.ending_like(like))
    }

    /// What a receipt of this load rests on.
    pub(super) fn anchor(&self, holds_others: bool) -> Anchor {
        let mine = self.written.as_ref().map(|w| AnchorFile {
            path: self.data_file(),
            size: w.size,
            own: true,
            xxh128: Some(w.sum.clone()),
        });
        let held = |part: &Arc<Part>| {
            let sum = part.own.as_ref().filter(|own| own.sized).map(|own| own.sum.clone());
            AnchorFile { path: part.name.clone(), size: part.size, own: false, xxh128: sum }
        };
        let others = self.base.iter().filter(|_| holds_others).map(held);
        let manifest = self.manifest.as_ref().map(|_| self.named.manifest(&self.word));
        Anchor { files: mine.into_iter().chain(others).collect(), manifest }
    }

    /// Our files never span slices: neighbours could not be proven or repaired alone.
    fn check_range(&self, written: &Written) -> Result<()> {
        let per = i128::from(match self.slice.columns.time_precision() {
            Precision::Second => 1_000_000_000,
            Precision::Millisecond => 1_000_000,
            Precision::Microsecond => 1_000,
            Precision::Nanosecond => 1,
        });
        let interval = &self.slice.interval;
        let (start, end) = (interval.start().as_nanosecond(), interval.end().as_nanosecond());
        match written.times {
            Some((low, high)) if i128::from(low) * per < start || end <= i128::from(high) * per => {
                let slice = &self.slice.slice;
                let what = format!("rows outside of {interval} were written into slice {slice}");
                Err(Error::bug(what))
            }
            _ => Ok(()),
        }
    }

    async fn pour(&self, parts: &[Arc<Part>], sink: &mut dyn RowSink) -> Result<()> {
        for part in parts {
            part.pour(&self.slice.columns, &self.slice.interval, sink).await?;
        }
        Ok(())
    }

    /// Shows all rows of a part; whether all of them go, none do, or some.
    async fn picked(&self, part: &Arc<Part>, picker: &mut dyn RowPicker) -> Result<(u64, u64)> {
        let mut rows = part.rows(&self.slice.columns, &self.slice.interval).await?;
        let (mut all, mut gone) = (0, 0);
        while let Some(batch) = rows.next().await {
            let goes = picker.pick(batch?).await?;
            all += goes.len() as u64;
            gone += goes.iter().filter(|goes| **goes).count() as u64;
        }
        Ok((all, gone))
    }

    fn writer(&mut self) -> &mut Option<FileWriter> {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn discard(&mut self) {
        let written = self.written.take().map(|w| w.path);
        for path in written.into_iter().chain(self.litter.drain(..)) {
            self.shared.durable.discard(&path);
        }
    }
}

/// Takes rows that only have to be readable.
struct Nothing;

#[async_trait]
impl RowSink for Nothing {
    async fn push(&mut self, _: RecordBatch) -> Result<()> {
        Ok(())
    }
}

impl Drop for FolderLoad {
    fn drop(&mut self) {
        self.discard();
    }
}

#[async_trait]
impl Load for FolderLoad {
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        self.pour(&self.base, sink).await
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        if self.sealed {
            return Err(Error::bug("rows were written after the load was sealed"));
        }
        let begun = match self.writer().take() {
            Some(writer) => Ok(writer),
            None => Err(self.form()?),
        };
        let shared = self.shared.clone();
        let (writer, refused) = blocking(move || {
            let mut writer = match begun {
                Ok(writer) => writer,
                Err(form) => FileWriter::start(&shared.durable, shared.work()?, form)?,
            };
            let refused = writer.write(&rows)?;
            Ok((writer, refused))
        })
        .await?;
        *self.writer() = Some(writer);
        Ok(refused)
    }

    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let mut mixed = None;
        for part in std::mem::take(&mut self.base) {
            let (all, gone) = self.picked(&part, picker).await?;
            let ours = part.own.as_ref().is_some_and(|own| own.interval == self.slice.interval);
            if gone > 0 && gone == all && ours {
                self.removed.push(part);
                continue;
            }
            if gone > 0 {
                mixed.get_or_insert_with(|| part.name.clone());
            }
            self.base.push(part);
        }
        let Some(name) = mixed else { return Ok(()) };
        let what = format!("rows would have to go from `{name}`, and others in it would stay");
        Err(Error::new(Kind::Refused, what).hint(
            "files are added to a folder or taken away, never rewritten; a file of ours that is \
             moved away is loaded anew by the next run",
        ))
    }

    async fn seal(&mut self) -> Result<()> {
        self.sealed = true;
        let Some(writer) = self.writer().take() else { return Ok(()) };
        let written = blocking(move || writer.seal()).await?;
        let (checked, rows) = (self.check_range(&written), written.rows);
        self.written = Some(written);
        if rows == 0 {
            // All of them were refused.
            self.discard();
        }
        checked
    }

    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        if !self.sealed {
            return Err(Error::bug("a load was read back before it was sealed"));
        }
        if let Some(written) = &self.written {
            let (interval, sum) = (self.slice.interval, written.sum.clone());
            let own = Own { interval, sum, sized: true };
            let part = Arc::new(self.shared.sealed(&written.path, written.size, own)?);
            part.pour(&self.slice.columns, &interval, sink).await?;
        }
        self.pour(&self.base, sink).await
    }

    async fn arrivals(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let Some(arrived) = self.arrived.take() else { return Ok(()) };
        self.pour(&arrived, sink).await?;
        self.base.extend(arrived);
        Ok(())
    }

    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.manifest = Some(bytes);
        Ok(())
    }

    async fn commit(self: Box<Self>, receipt: Receipt) -> CommitOutcome {
        super::commit::commit(self, receipt).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        *self.writer() = None;
        self.discard();
        Ok(())
    }

    async fn refresh(self: Box<Self>, mut receipt: Receipt) -> Result<()> {
        let old = Anchor::of(&receipt)
            .ok_or_else(|| Error::bug("a receipt without its anchor was found whole"))?;
        let mut anchor = self.anchor(receipt.latest().digests.after.count > 0);
        let mine = |f: &AnchorFile| old.files.iter().any(|o| o.own && o.path == f.path);
        for file in &mut anchor.files {
            file.own = mine(file);
        }
        anchor.manifest = old.manifest;
        receipt.latest_mut().anchor = anchor.to_json();
        blocking(move || {
            let (durable, body) = (&self.shared.durable, self.named.body());
            let bytes = receipts::bytes(&receipt)?;
            let _locked = self.shared.lock()?;
            durable.replace(&body, &bytes).map_err(|e| durable.error("write", &body, e))
        })
        .await
    }
}
