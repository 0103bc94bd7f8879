//! The load of one slice: one transaction.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::SinkExt as _;
use retrofill_core::columns::Column;
use retrofill_core::connector::{
    CommitOutcome, Load, Look, Refused, RowPicker, RowSink, SliceLoad,
};
use retrofill_core::error::{Error, Kind as ErrorKind, Result};
use retrofill_core::receipt::Receipt;
use retrofill_core::spec::Mode;
use tokio_postgres::{Client, CopyInSink};

use super::bound::{Bound, LONGEST_SCANNING};
use super::catalog::Table;
use super::connect::Session;
use super::copy;
use super::decode::HEADER;
use super::encode::{self, TRAILER, Written};
use super::kind::Kind;
use super::packing;
use super::receipts::{self, Anchor, Lost};
use super::remove::Spot;
use super::sql::{idents, literal};
use super::{Shared, ddl, fault, fit, session, yielding};

/// Bytes that are sent at once.
const CHUNK: usize = 128 << 10;

/// Rows that are encoded at a time: what was encoded is copied on while the cache still has it.
const PIECE: usize = 1024;

/// A COPY that is under way.
type Copying = Pin<Box<CopyInSink<Bytes>>>;

/// See [`Load`].
pub(super) struct PostgresLoad {
    pub(super) shared: Arc<Shared>,
    pub(super) slice: SliceLoad,
    pub(super) table: Arc<Table>,
    /// How the plan's columns travel.
    pub(super) kinds: Vec<Kind>,
    /// None once the transaction has ended.
    pub(super) client: Option<Session>,
    pub(super) bound: Bound,
    /// The receipt's row is ours; else the slice has one already, and can only be looked at.
    pub(super) claimed: bool,
    pub(super) xid: String,
    /// The statement that moves rows in which were copied aside, where the load gives way.
    pub(super) moving: Option<String>,
    copying: Option<Copying>,
    buffer: Vec<u8>,
    /// Rows sent by the COPY that is under way.
    sent: u64,
    /// Rows that the table took.
    pub(super) taken: u64,
    /// For each column whether what was written can be packed.
    pub(super) packable: Vec<bool>,
    /// Where the load held no row: the page from which on its own may stand.
    pub(super) first_page: Option<u64>,
    /// Where the rows stand that were held, in order, in modes that take rows out.
    pub(super) held: Vec<Spot>,
    /// Rows that go in after `remove`.
    successors: Vec<RecordBatch>,
    manifest: Option<Vec<u8>>,
    sealed: bool,
}

impl PostgresLoad {
    /// A load in a transaction that has begun.
    pub(super) fn new(
        (shared, slice, table): (Arc<Shared>, SliceLoad, Arc<Table>),
        client: Session,
        (claimed, xid): (bool, String),
        (bound, moving): (Bound, Option<String>),
    ) -> Result<Self> {
        let kinds = copy::kinds(&table, &slice.columns)?;
        let packable = vec![true; kinds.len()];
        Ok(PostgresLoad {
            shared,
            slice,
            table,
            kinds,
            client: Some(client),
            bound,
            claimed,
            xid,
            moving,
            copying: None,
            buffer: Vec::new(),
            sent: 0,
            taken: 0,
            packable,
            first_page: None,
            held: Vec::new(),
            successors: Vec::new(),
            manifest: None,
            sealed: false,
        })
    }

    pub(super) fn client(&self) -> Result<&Client> {
        self.client.as_deref().ok_or_else(|| Error::bug("the load has ended"))
    }

    pub(super) fn fault(&self, e: &tokio_postgres::Error) -> Error {
        let what = format!("cannot load into {}", self.shared.server.label());
        self.shared.server.fault(e, &what)
    }

    fn may_write(&self) -> Result<()> {
        self.bound.check()?;
        if self.sealed {
            return Err(Error::bug("rows were written after the load was sealed"));
        }
        self.claim()
    }

    fn claim(&self) -> Result<()> {
        if self.claimed {
            return Ok(());
        }
        let what = format!("slice {} has a receipt already", self.slice.slice);
        Err(Error::new(ErrorKind::Fenced, what))
    }

    /// The columns that are written, in the plan's order.
    pub(super) fn written(&self) -> Vec<Written> {
        let columns = self.slice.columns.iter().enumerate();
        let written = |(place, column): (usize, &Column)| Written {
            name: column.name.clone(),
            kind: self.kinds[place].clone(),
            nullable: self.table.column(&column.name).is_none_or(|c| !c.not_null),
            place,
        };
        columns.map(written).collect()
    }

    pub(super) async fn start_copy(&self) -> Result<Copying> {
        let list = idents(self.slice.columns.iter().map(|c| c.name.as_str()))?;
        let name = match self.moving {
            Some(_) => yielding::COMING.to_owned(),
            None => self.shared.name.sql()?,
        };
        let sql = format!("COPY {name} ({list}) FROM STDIN (FORMAT binary)");
        let sink = self.client()?.copy_in(&sql).await.map_err(|e| self.fault(&e))?;
        Ok(Box::pin(sink))
    }

    /// Encodes rows and sends them; those that cannot be are named.
    async fn put(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        for (packable, column) in self.packable.iter_mut().zip(rows.columns()) {
            *packable = *packable && packing::can_pack(column);
        }
        if self.moving.is_some() || self.shared.is_careful(&self.slice) {
            return self.write_careful(&rows).await;
        }
        if self.copying.is_none() {
            self.copying = Some(self.start_copy().await?);
            self.buffer.extend_from_slice(&HEADER);
        }
        let (written, mut refused) = (self.written(), Vec::new());
        for first in (0..rows.num_rows()).step_by(PIECE) {
            let piece = rows.slice(first, PIECE.min(rows.num_rows() - first));
            let odd = encode::encode(&written, &piece, &mut self.buffer)?;
            self.sent += (piece.num_rows() - odd.len()) as u64;
            refused.extend(odd.into_iter().map(|r| Refused { row: first + r.row, ..r }));
            if self.buffer.len() >= CHUNK {
                self.flush().await?;
            }
        }
        Ok(refused)
    }

    /// Sends what has gathered.
    async fn flush(&mut self) -> Result<()> {
        let Some(copying) = &mut self.copying else { return Ok(()) };
        // The next ones will be about as many.
        let next = Vec::with_capacity(self.buffer.len() + self.buffer.len() / 8);
        let bytes = Bytes::from(std::mem::replace(&mut self.buffer, next));
        if copying.send(bytes).await.is_err() {
            // The server says why only at the end.
            self.finish().await?;
            return Err(Error::unavailable("the server broke off a COPY"));
        }
        Ok(())
    }

    async fn end_copy(&mut self) -> Result<()> {
        if self.copying.is_some() {
            self.buffer.extend_from_slice(&TRAILER);
            self.flush().await?;
            self.finish().await?;
            self.buffer.clear();
            self.sent = 0;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let Some(mut copying) = self.copying.take() else { return Ok(()) };
        let taken = copying.as_mut().finish().await;
        let taken = taken.map_err(|e| self.broken(&e))?;
        if taken == self.sent {
            self.taken += taken;
            return Ok(());
        }
        let what = format!("the table took {taken} of {} rows", self.sent);
        Err(Error::new(ErrorKind::Mismatch, what)
            .hint("a trigger leaves rows out; it must be switched off for history"))
    }

    /// Writing failed: by other writers, by a row, or by the server.
    pub(super) fn broken(&self, e: &tokio_postgres::Error) -> Error {
        if fault::is_contention(e) && !self.is_about_data(e) {
            self.shared.contended(&self.slice);
            return self.fault(e);
        }
        if self.is_about_data(e) {
            self.shared.be_careful(&self.slice);
            let (_, why) = fault::refusal(e);
            let row = fault::line(e).map_or(String::new(), |n| format!(" {n}"));
            return Error::unavailable(format!("the table refuses row{row} of the slice: {why}"))
                .hint("it is found and listed by the next try");
        }
        self.fault(e)
    }

    /// The row cannot be taken, whatever others do meanwhile.
    pub(super) fn is_about_data(&self, e: &tokio_postgres::Error) -> bool {
        let key: Vec<&str> = self.slice.columns.iter().map(|c| c.name.as_str()).collect();
        let key = &key[..self.slice.columns.key_width()];
        let other = |index: &str| self.table.is_other_index(index, key);
        fault::is_about_data(e)
            || (fault::code(e) == Some("23505") && fault::constraint(e).is_some_and(other))
    }

    /// Where the rows lie, by oid and file.
    async fn anchor(&self) -> Result<Anchor> {
        let oid = self.table.oid;
        let answer = session::ask(self.client()?, &receipts::files_query(oid)).await;
        let rows = answer.map_err(|e| self.fault(&e))?;
        let mut files = receipts::files(rows.first().map_or(&[], Vec::as_slice));
        if self.table.is_partitioned() {
            let condition =
                copy::within(&self.table, &self.slice.columns.time().name, &self.slice.interval)?;
            let name = self.shared.name.sql()?;
            let sql = format!("SELECT DISTINCT tableoid FROM {name} WHERE {condition}");
            let rows = session::ask(self.client()?, &sql).await.map_err(|e| self.fault(&e))?;
            let used: Vec<u32> = rows
                .iter()
                .flatten()
                .filter_map(|row| row.first()?.as_deref()?.parse().ok())
                .collect();
            files.retain(|(oid, _)| used.contains(oid));
        }
        let number = |c: &Column| Some((c.name.clone(), self.table.column(&c.name)?.number));
        let columns = self.slice.columns.iter().filter_map(number).collect();
        Ok(Anchor { table: oid, files, columns })
    }

    /// Writes the receipt into its row, in the transaction.
    async fn put_receipt(&self, receipt: &mut Receipt) -> Result<()> {
        let anchor = serde_json::to_value(self.anchor().await?)
            .map_err(|e| Error::bug("an anchor cannot be written as JSON").because(e))?;
        receipt.latest_mut().anchor = anchor;
        let body = serde_json::to_string(receipt)
            .map_err(|e| Error::bug("a receipt cannot be written as JSON").because(e))?;
        let sql = format!(
            "UPDATE {} SET body = {}{}, proven_at = pg_catalog.clock_timestamp() \
             WHERE relation = {} AND plan = {} AND slice = {} AND generation = {} RETURNING 1",
            ddl::RECEIPTS,
            literal(&body)?,
            self.manifest.as_ref().map_or_else(String::new, |bytes| receipts::set_manifest(bytes)),
            self.table.oid,
            literal(self.slice.plan.as_str())?,
            literal(self.slice.slice.as_str())?,
            self.slice.generation
        );
        let rows = session::ask(self.client()?, &sql).await.map_err(|e| self.broken(&e))?;
        if rows.first().is_some_and(|rows| rows.len() == 1) {
            return Ok(());
        }
        Err(Error::unavailable("the receipt's row is gone"))
    }

    /// Ends the transaction with a commit.
    async fn end(mut self: Box<Self>) -> CommitOutcome {
        let Some(client) = self.client.take() else {
            return CommitOutcome::NotCommitted(Error::bug("the load has ended"));
        };
        // A replica may be waited for: a commit has a time of its own.
        let longest = self.bound.longest.map(|longest| longest.max(LONGEST_SCANNING));
        let bound = Bound { began: Instant::now(), longest };
        let commit = async { Ok(client.batch_execute("COMMIT").await) };
        match bound.of(commit).await {
            Ok(Ok(())) => {
                self.shared.server.keep(client);
                CommitOutcome::Committed
            }
            Ok(Err(e)) if fault::is_unknown(&e) => {
                self.shared.remember(Lost { xid: self.xid.clone() });
                CommitOutcome::Unknown(self.fault(&e))
            }
            Err(e) => {
                self.shared.remember(Lost { xid: self.xid.clone() });
                CommitOutcome::Unknown(e)
            }
            Ok(Err(e)) => {
                let error = self.broken(&e);
                self.shared.server.roll_back(client).await;
                CommitOutcome::NotCommitted(error)
            }
        }
    }
}

#[async_trait]
impl Load for PostgresLoad {
    async fn held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let bound = self.bound;
        match self.slice.mode {
            Mode::Upsert | Mode::Replace => bound.of(self.rows_with_spots(sink)).await,
            Mode::FillMissing | Mode::Append => bound.of(self.rows_held(sink)).await,
        }
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        self.may_write()?;
        self.bound.of(self.put(rows)).await
    }

    async fn write_successors(&mut self, rows: RecordBatch) -> Result<Vec<Refused>> {
        // Their predecessors are still there: they go in once those are out.
        self.may_write()?;
        fit::keeps_all(&self.shared.name, &self.table, &self.slice.columns)?;
        let refused = encode::encode(&self.written(), &rows, &mut Vec::new())?;
        let kept: BooleanArray =
            (0..rows.num_rows()).map(|i| Some(refused.iter().all(|r| r.row != i))).collect();
        let kept = filter_record_batch(&rows, &kept)
            .map_err(|e| Error::bug("rows cannot be filtered").because(e))?;
        self.successors.push(kept);
        Ok(refused)
    }

    async fn remove(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        self.may_write()?;
        self.bound.of(self.end_copy()).await?;
        self.bound.of(self.take_out(picker)).await?;
        for rows in std::mem::take(&mut self.successors) {
            if let Some(refused) = self.write(rows).await?.first() {
                let what = format!("a row that replaces another is refused: {}", refused.reason);
                return Err(Error::new(ErrorKind::Refused, what));
            }
        }
        Ok(())
    }

    async fn seal(&mut self) -> Result<()> {
        self.bound.check()?;
        self.claim()?;
        if !self.successors.is_empty() {
            return Err(Error::bug("rows were written whose predecessors are not out"));
        }
        self.bound.of(self.end_copy()).await?;
        self.sealed = true;
        Ok(())
    }

    async fn read_back(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        if !self.sealed {
            return Err(Error::bug("a load was read back before it was sealed"));
        }
        self.bound.check()?;
        self.bound.of(self.rows_after(sink)).await
    }

    async fn keep_manifest(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.manifest = Some(bytes);
        Ok(())
    }

    fn gives_way(&self) -> bool {
        self.moving.is_some()
    }

    async fn look(&mut self, look: Look<'_>) -> Result<()> {
        self.bound.check()?;
        self.bound.of(self.look_apart(look)).await
    }

    async fn commit(self: Box<Self>, mut receipt: Receipt) -> CommitOutcome {
        let ready = match (self.sealed, self.claim(), self.bound.check()) {
            (false, ..) => Err(Error::bug("a load was committed before it was sealed")),
            (_, Err(e), _) | (_, _, Err(e)) => Err(e),
            _ => self.bound.of(self.put_receipt(&mut receipt)).await,
        };
        match ready {
            Ok(()) => self.end().await,
            Err(error) => {
                if let Err(e) = self.abort().await {
                    tracing::debug!("a load that was not committed did not end well: {e}");
                }
                CommitOutcome::NotCommitted(error)
            }
        }
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // A COPY that is dropped before its end is broken off by the driver.
        drop(self.copying.take());
        if let Some(client) = self.client.take() {
            self.shared.server.roll_back(client).await;
        }
        Ok(())
    }

    async fn refresh(self: Box<Self>, mut receipt: Receipt) -> Result<()> {
        if self.claimed {
            return self.abort().await;
        }
        self.put_receipt(&mut receipt).await?;
        match self.end().await {
            CommitOutcome::Committed | CommitOutcome::Moved(_) => Ok(()),
            CommitOutcome::NotCommitted(e) | CommitOutcome::Unknown(e) => Err(e),
        }
    }
}
