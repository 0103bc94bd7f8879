//! PostgreSQL tables as targets and sources.
//!
//! A load is one transaction: it takes the receipt's row as its lock, looks at what the slice
//! holds, writes by binary COPY, reads back inside of the transaction, and commits rows and receipt
//! in one step. Nothing a session has set beforehand counts, and no statement outlives its
//! transaction, so that a pooler may stand between.

mod begin;
mod bound;
mod careful;
mod catalog;
mod connect;
mod copy;
mod ddl;
mod decode;
mod encode;
mod examine;
mod fault;
mod fit;
mod follow;
mod grant;
mod kind;
mod load;
mod numeric;
mod others;
mod packing;
mod partitions;
mod prepare;
mod read;
mod receipts;
mod remove;
mod session;
mod settings;
mod shadow;
mod source;
mod sql;
#[cfg(test)]
mod tests;
mod tls;
mod unindexed;
mod values;
mod yielding;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use retrofill_core::after::After;
use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{
    Capabilities, FieldType, Known, Load, Manners, ReadRequest, Rows, Sizing, SliceLoad, Source,
    SurveyRequest, Target,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use retrofill_core::reject::Place;
use retrofill_core::spec::Mode;
use retrofill_core::survey::{Coming, Survey};

use self::catalog::Table;
use self::connect::Server;
use self::others::Quiet;
use self::receipts::Lost;
use self::unindexed::Occupied;

pub use connect::{APPLICATION, connect};
pub use ddl::{
    RECEIPTS, SCHEMA, grants, read_grants, receipts_ddl, table_ddl, time_index_ddl,
    unique_index_ddl,
};
#[doc(hidden)]
pub use encode::encoded;
pub use settings::PostgresSettings;
pub use source::PostgresSource;
pub use sql::TableName;

/// How long a load waits for another one of the same slice to end.
const PATIENCE: Duration = Duration::from_secs(30);

const MODES: [Mode; 4] = [Mode::FillMissing, Mode::Append, Mode::Upsert, Mode::Replace];

/// What all loads of one table share.
#[derive(Debug)]
struct Shared {
    server: Server,
    name: TableName,
    settings: PostgresSettings,
    /// The table as it was when it was last looked at.
    table: Mutex<Option<Arc<Table>>>,
    /// Commits whose answer did not come.
    lost: Mutex<Vec<Lost>>,
    /// How often other writers came first, by plan and slice (halves count for the whole).
    contended: Mutex<HashMap<(PlanId, String), u32>>,
    /// The user may not create temporary tables.
    no_temporary: AtomicBool,
    /// Slices with rows that the table refuses.
    careful: Mutex<HashSet<(PlanId, String)>>,
    /// Where the table has rows, where nobody else writes.
    occupied: tokio::sync::Mutex<Option<Occupied>>,
    /// What loads have seen of other transactions.
    quiet: Mutex<Quiet>,
    patience: Duration,
}

/// A PostgreSQL table.
#[derive(Debug)]
pub struct PostgresTarget {
    shared: Arc<Shared>,
}

/// Plan and slice, where a half counts for the whole.
fn whole(slice: &SliceLoad) -> (PlanId, String) {
    let root = slice.slice.as_str().split('.').next().unwrap_or_default();
    (slice.plan.clone(), root.to_owned())
}

impl Shared {
    fn open(settings: PostgresSettings, base_dir: &Path) -> Result<Self> {
        let settings = settings.based_at(base_dir)?;
        Ok(Shared {
            server: Server::open(&settings)?,
            name: settings.table()?,
            settings,
            table: Mutex::default(),
            lost: Mutex::default(),
            contended: Mutex::default(),
            no_temporary: AtomicBool::new(false),
            careful: Mutex::default(),
            occupied: tokio::sync::Mutex::default(),
            quiet: Mutex::default(),
            patience: PATIENCE,
        })
    }

    /// Another writer came first.
    fn contended(&self, slice: &SliceLoad) {
        let mut all = self.contended.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(whole(slice)).or_default() += 1;
    }

    /// How often that has happened to the slice.
    fn times_contended(&self, slice: &SliceLoad) -> u32 {
        let all = self.contended.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&whole(slice)).copied().unwrap_or(0)
    }

    /// The table refused a row of the slice.
    fn be_careful(&self, slice: &SliceLoad) {
        self.careful.lock().unwrap_or_else(PoisonError::into_inner).insert(whole(slice));
    }

    /// Whether the table has refused a row of the slice.
    fn is_careful(&self, slice: &SliceLoad) -> bool {
        self.careful.lock().unwrap_or_else(PoisonError::into_inner).contains(&whole(slice))
    }

    /// The table as it is now; none where there is none.
    async fn newest_table(&self) -> Result<Option<Arc<Table>>> {
        let what = format!("cannot look at {}", self.server.label());
        let json = self.server.text(&catalog::query(&self.name)?, &what).await?;
        let table = json.map(|json| Table::parse(&json).map(Arc::new)).transpose()?;
        if let Some(table) = &table {
            table.check(&self.name)?;
        }
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&table);
        Ok(table)
    }

    /// Remembers the table as it was just seen.
    fn know(&self, table: &Arc<Table>) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Some(table.clone());
    }

    /// The table as it was last seen.
    async fn known_table(&self) -> Result<Arc<Table>> {
        let known = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let table = match known {
            Some(table) => Some(table),
            None => self.newest_table().await?,
        };
        table.ok_or_else(|| {
            Error::unavailable(format!("there is no table {}", self.name))
                .hint("it was not prepared, or was dropped meanwhile")
        })
    }
}

impl PostgresTarget {
    /// The table that the settings name, which need not be there yet. Nothing is connected before
    /// it is needed. `base_dir` is the spec's directory.
    pub fn open(settings: PostgresSettings, base_dir: &Path) -> Result<Self> {
        Ok(PostgresTarget { shared: Arc::new(Shared::open(settings, base_dir)?) })
    }
}

/// A target is never planned over: [`PostgresSource`] is the source.
fn no_source() -> Error {
    Error::bug("a PostgreSQL target was taken for a source")
}

#[async_trait]
impl Source for PostgresTarget {
    async fn survey(&self, _: &SurveyRequest) -> Result<Survey> {
        Err(no_source())
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        examine::examine(&self.shared, wanted).await
    }

    async fn grants(&self, role: Option<&str>, wanted: &Wanted) -> Result<Vec<String>> {
        grant::grants(&self.shared.settings, role, wanted)
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        read::read(&self.shared, request).await
    }

    async fn locate(&self, _: &Survey, _: &[u64]) -> Result<Vec<(Place, String)>> {
        Err(no_source())
    }
}

#[async_trait]
impl Target for PostgresTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            system: "PostgreSQL",
            atomic: true,
            receipts: true,
            served: true,
            modes: &MODES,
            rerun: "a slice and its receipt are one transaction, so a rerun writes nothing twice",
            fidelity: "times are kept to the microsecond",
        }
    }

    async fn table(&self) -> Result<Option<Vec<FieldType>>> {
        Ok(self.shared.newest_table().await?.map(|table| table.fields()))
    }

    fn keeps(&self, ty: ColumnType) -> Result<ColumnType> {
        kind::keeps(ty)
    }

    async fn accepts(&self, columns: &Columns, mode: Mode, manners: Manners) -> Result<()> {
        self.shared.receipts_fit().await?;
        let Some(table) = self.shared.newest_table().await? else {
            return self.shared.can_create(columns).await;
        };
        if matches!(mode, Mode::Upsert | Mode::Replace) {
            fit::keeps_all(&self.shared.name, &table, columns)?;
        }
        fit::accepts(&self.shared.name, &table, (columns, mode, manners))
    }

    async fn sizing(&self, columns: &Columns, manners: Manners) -> Result<Sizing> {
        let table = self.shared.newest_table().await?;
        let bytes = match &table {
            Some(table) => unindexed::bytes(&self.shared, table).await?,
            None => 0,
        };
        bound::sizing(&self.shared.name, (table.as_deref(), bytes), (columns, manners))
    }

    async fn doubled(
        &self,
        plan: &PlanId,
        columns: &Columns,
        within: &Interval,
    ) -> Result<Vec<Timestamp>> {
        self.shared.doubled(plan, columns, within).await
    }

    async fn lets_go(&self) -> Result<()> {
        let table = self.shared.newest_table().await?;
        table.map_or(Ok(()), |table| fit::lets_go(&self.shared.name, &table))
    }

    async fn prepare(&self, columns: &Columns) -> Result<()> {
        self.shared.prepare(columns).await
    }

    async fn room(&self, columns: &Columns, coming: &Coming, make: bool) -> Result<()> {
        self.shared.room(columns, &coming.rows, make).await
    }

    async fn receipts(&self, within: &Interval) -> Result<Known> {
        self.shared.find(within).await
    }

    async fn is_committed(&self, plan: &PlanId, slice: &SliceId) -> Result<bool> {
        self.shared.committed(plan, slice).await
    }

    async fn commits_of_others(&self, plan: &PlanId) -> Result<u64> {
        self.shared.commits_of_others(plan).await
    }

    async fn follow(&self, action: &After, loaded: Option<&Interval>) -> Result<()> {
        follow::follow(&self.shared.server, action, loaded).await
    }

    async fn manifest(&self, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
        self.shared.kept_manifest(receipt).await
    }

    async fn shadow(&self, tag: &str, time: &str, within: &[Interval]) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(self.shared.shadow(tag, time, within).await?))
    }

    async fn drop_shadow(&self, tag: &str) -> Result<()> {
        self.shared.drop_shadow(tag).await
    }

    async fn begin(&self, slice: &SliceLoad) -> Result<Box<dyn Load>> {
        begin::begin(&self.shared, slice).await
    }
}
