//! A PostgreSQL table as a source.
//!
//! The server counts and hashes the rows by stretches of time: those are the blocks of the survey.
//! A slice is one binary COPY in a transaction that only reads, with the hash of each row beside
//! it: what was read is what was surveyed, or the slice is stale.

pub(super) mod read;
mod spot;
mod survey;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use retrofill_core::connector::{ReadRequest, Rows, Source, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::interval::Interval;
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey};

use super::catalog::{Table, TableColumn};
use super::connect::Session;
use super::kind::Base;
use super::session::{Opening, Refusal};
use super::settings::PostgresSettings;
use super::sql::{ident, literal};
use super::{Shared, examine, grant};

/// By this name statements call the row they look at.
const ROW: &str = "retrofill_row";

/// A PostgreSQL table that is read.
#[derive(Debug)]
pub struct PostgresSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The one state that all reads of a run look at, where that is asked for.
    snapshot: tokio::sync::Mutex<Option<Snapshot>>,
    /// Of every interval that was read to its end, where its rows stood. Ordinals mean the same
    /// rows for as long as that does not change.
    stood: Mutex<HashMap<Interval, u64>>,
}

/// A state of the database that others can look at for as long as the connection holds.
struct Snapshot {
    client: Session,
    id: String,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.id)
    }
}

impl PostgresSource {
    /// The table that the settings name. Nothing is connected before it is needed. `base_dir` is
    /// the spec's directory.
    pub fn open(settings: PostgresSettings, base_dir: &Path) -> Result<Self> {
        let shared = Arc::new(Shared::open(settings, base_dir)?);
        let inner =
            Inner { shared, snapshot: tokio::sync::Mutex::default(), stood: Mutex::default() };
        Ok(PostgresSource { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn fault(&self, e: &tokio_postgres::Error) -> Error {
        let server = &self.shared.server;
        server.fault(e, &format!("cannot read from {}", server.label()))
    }

    async fn open(&self, sql: &str) -> Result<(Session, Option<String>)> {
        match self.shared.server.begin(sql).await {
            Ok((client, answers)) => {
                let last = answers.into_iter().flatten().next_back();
                Ok((client, last.and_then(|row| row.into_iter().next().flatten())))
            }
            Err(Refusal::Way(e)) => Err(e),
            Err(Refusal::Server(e)) => Err(self.fault(&e)),
        }
    }

    /// Begins a transaction that reads: of the run's snapshot, or of what is there now.
    async fn begin(&self) -> Result<Session> {
        let mut sql = Opening::LOOK.sql();
        if let Some(id) = self.snapshot().await? {
            let _ = write!(sql, "SET TRANSACTION SNAPSHOT {};", literal(&id)?);
        }
        Ok(self.open(&sql).await?.0)
    }

    /// The snapshot of the run, where one is asked for.
    async fn snapshot(&self) -> Result<Option<String>> {
        if !self.shared.settings.snapshot {
            return Ok(None);
        }
        let mut held = self.snapshot.lock().await;
        if let Some(snapshot) = &*held {
            if snapshot.client.is_closed() {
                let what = "the connection that held the run's snapshot of the source is lost";
                return Err(Error::unavailable(what).hint("run again: it takes a new one"));
            }
            return Ok(Some(snapshot.id.clone()));
        }
        let sql = format!(
            "{}SET LOCAL idle_in_transaction_session_timeout = 0; \
             SELECT pg_catalog.pg_export_snapshot()",
            Opening::LOOK.sql()
        );
        let (client, id) = self.open(&sql).await?;
        let id = id.ok_or_else(|| Error::bug("a snapshot was exported without a name"))?;
        *held = Some(Snapshot { client, id: id.clone() });
        Ok(Some(id))
    }
}

/// What statements need to know of the table.
struct Sight {
    table: Arc<Table>,
    /// As SQL has them.
    name: String,
    time: String,
    zoned: bool,
}

impl Sight {
    fn new(shared: &Shared, table: Arc<Table>, time: &str) -> Result<Self> {
        let column = table
            .column(time)
            .ok_or_else(|| Error::config(format!("{} has no column `{time}`", shared.name)))?;
        let zoned = match column.read_kind() {
            Some(kind) if kind.element.is_none() && kind.base == Base::Timestamptz => true,
            Some(kind) if kind.element.is_none() && kind.base == Base::Timestamp => false,
            _ => {
                let what = format!("column `{time}` is {}, not a time", column.type_name);
                return Err(Error::config(what).hint("timestamptz and timestamp are times"));
            }
        };
        Ok(Sight { name: shared.name.sql()?, time: ident(time)?, zoned, table })
    }

    /// The server's hash of a whole row, which is the same in every session.
    fn hash(&self) -> Result<String> {
        let columns: Result<Vec<_>> =
            self.table.columns.iter().map(TableColumn::hashed_sql).collect();
        Ok(format!("pg_catalog.hash_record_extended(ROW({}), 0)", columns?.join(", ")))
    }
}

fn stale(what: String) -> Error {
    Error::new(Kind::Stale, what).hint("the source changed since it was planned; plan again")
}

#[async_trait]
impl Source for PostgresSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        survey::survey(&self.inner, request).await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        survey::stamp(&self.inner.shared).await.map(|stamp| Some(vec![stamp]))
    }

    async fn unstage(&self) -> Result<()> {
        let held = self.inner.snapshot.lock().await.take();
        if let Some(snapshot) = held {
            self.inner.shared.server.roll_back(snapshot.client).await;
        }
        Ok(())
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        Ok(read::read(&self.inner, request, None))
    }

    async fn first(&self, request: &ReadRequest, most: usize) -> Result<Vec<SourceBatch>> {
        read::read(&self.inner, request, Some(most)).first(most).await
    }

    async fn locate(&self, _: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        spot::locate(&self.inner, ordinals).await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        examine::examine(&self.inner.shared, wanted).await
    }

    async fn grants(&self, role: Option<&str>, wanted: &Wanted) -> Result<Vec<String>> {
        grant::grants(&self.inner.shared.settings, role, wanted)
    }
}
