//! A MariaDB table as a source.
//!
//! The server counts and hashes the rows by stretches of time: those are the blocks of the survey.
//! A slice is one statement in a transaction that only reads and sees one state of the table, with
//! the hash of each row beside it: what was read is what was surveyed, or the slice is stale.

mod catalog;
mod connect;
mod examine;
mod fault;
mod kind;
mod read;
mod settings;
mod survey;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};
use retrofill_core::connector::{ReadRequest, Rows, Source, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind as Class, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey, TimeUnitSeen};

pub use settings::MariadbSettings;

use self::catalog::{Table, ident};
use self::connect::Server;
use self::kind::Kind;
use crate::files::{list, nearest};

/// A table that is read.
#[derive(Debug, Clone)]
pub struct MariadbSource {
    shared: Arc<Shared>,
}

/// What every look at the table needs.
#[derive(Debug)]
struct Shared {
    settings: MariadbSettings,
    server: Server,
}

impl MariadbSource {
    /// The table that the settings name. Nothing is connected before it is needed. `base_dir` is
    /// the spec's directory.
    pub fn open(settings: MariadbSettings, base_dir: &Path) -> Result<Self> {
        let settings = settings.based_at(base_dir)?;
        let server = Server::open(&settings)?;
        Ok(MariadbSource { shared: Arc::new(Shared { settings, server }) })
    }
}

impl Shared {
    /// A transaction that only reads, and sees one state of the table.
    async fn begin(&self) -> Result<Conn> {
        let mut conn = self.server.connection().await?;
        let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        conn.query_drop(begin).await.map_err(|e| self.server.unreadable(&e))?;
        Ok(conn)
    }

    /// Ends it and keeps the connection.
    async fn end(&self, mut conn: Conn) {
        if conn.query_drop("ROLLBACK").await.is_ok() {
            self.server.keep(conn);
        }
    }

    fn stale(&self, how: &str) -> Error {
        Error::new(Class::Stale, format!("`{}` {how}", self.settings.table))
            .hint("the source changed since it was planned; run again with `--replan`")
    }
}

/// What statements need to know of the table.
struct Sight {
    table: Table,
    /// As SQL has them.
    name: String,
    time: String,
    unit: TimeUnitSeen,
}

impl Sight {
    fn new(shared: &Shared, table: Table, time: &str) -> Result<Self> {
        let name = &shared.settings.table;
        let Some(column) = table.column(time) else {
            let names: Vec<_> = table.columns.iter().map(|c| c.name.clone()).collect();
            let hint = match nearest(time, names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`? set `rows.time`"),
                None => format!("its columns are {}; set `rows.time`", list(&names)),
            };
            let what = format!("`{name}` has no column `{time}`");
            return Err(Error::config(what).hint(hint).about("rows.time"));
        };
        let unit = match column.kind {
            Kind::Date => TimeUnitSeen::Day,
            Kind::Stamp(0) => TimeUnitSeen::Second,
            Kind::Stamp(1..=3) => TimeUnitSeen::Millisecond,
            Kind::Stamp(_) => TimeUnitSeen::Microsecond,
            _ => {
                let what = format!("column `{time}` of `{name}` is no time");
                return Err(Error::config(what)
                    .hint(
                        "datetime, timestamp and date are times; a generated column makes one of \
                         a number: `at DATETIME(6) AS (FROM_UNIXTIME(..))`",
                    )
                    .about("rows.time"));
            }
        };
        Ok(Sight { name: ident(name), time: ident(time), unit, table })
    }

    /// Microseconds since 1970; NULL for a time that is none.
    fn micros(&self) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {})", self.time)
    }
}

/// A point in time as a parameter. What lies between two microseconds is rounded up: no stored
/// time lies between.
fn instant(t: Timestamp) -> Value {
    let nanos = t.as_nanosecond();
    let micros = nanos.div_euclid(1_000) + i128::from(nanos.rem_euclid(1_000) != 0);
    let up = Timestamp::from_nanosecond(micros * 1_000).unwrap_or(t);
    let at = TimeZone::UTC.to_datetime(up);
    if at.year() < 0 {
        return Value::Date(0, 1, 1, 0, 0, 0, 0);
    }
    let (month, day) = (at.month() as u8, at.day() as u8);
    let (hour, minute, second) = (at.hour() as u8, at.minute() as u8, at.second() as u8);
    let micros = (at.subsec_nanosecond() / 1_000) as u32;
    Value::Date(at.year() as u16, month, day, hour, minute, second, micros)
}

#[async_trait]
impl Source for MariadbSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        survey::survey(&self.shared, request).await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        survey::stamp(&self.shared).await.map(|stamp| Some(vec![stamp]))
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        Ok(read::read(&self.shared, request, None))
    }

    async fn first(&self, request: &ReadRequest, most: usize) -> Result<Vec<SourceBatch>> {
        read::read(&self.shared, request, Some(most)).first(most).await
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        read::locate(&self.shared, survey, ordinals).await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        examine::examine(&self.shared, wanted).await
    }

    async fn grants(&self, role: Option<&str>, _: &Wanted) -> Result<Vec<String>> {
        examine::grants(&self.shared.settings, role)
    }
}

#[cfg(test)]
mod tests;
