//! Sparing a table without an index on its time a look at every row for every slice.
//!
//! Two facts can stand in for a look at the whole table. Where the user asserts that nobody else
//! writes, times outside of those that the first look found, and of what this process has loaded
//! since, are empty. And rows that a load put into a slice that held none stand behind the page
//! that was the last one before, unless older pages had room: then fewer are found there than
//! were written, and ever more of the older pages are read.

use jiff::Timestamp;
use retrofill_core::connector::{RowSink, SliceLoad};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::spec::Mode;
use tokio_postgres::Client;

use super::catalog::Table;
use super::copy::{self, Pour};
use super::decode::Decoder;
use super::load::PostgresLoad;
use super::packing::Packing;
use super::sql::ident;
use super::{Shared, session};

/// Where rows are that this process has not put in, and where it has.
#[derive(Debug)]
pub(super) struct Occupied {
    /// The table.
    oid: u32,
    /// First and last time at the first look.
    found: Option<(Timestamp, Timestamp)>,
    /// Slices that were begun since.
    begun: Vec<Interval>,
}

impl Occupied {
    fn touches(&self, interval: &Interval) -> bool {
        let found = self
            .found
            .is_some_and(|(first, last)| first < interval.end() && interval.start() <= last);
        found || self.begun.iter().any(|other| other.overlaps(interval))
    }
}

/// An instant that was asked for as [`micros`].
fn instant(text: Option<&str>) -> Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let read = text.parse().ok().and_then(|t| Timestamp::from_microsecond(t).ok());
    read.map(Some).ok_or_else(|| Error::bug("a time came in another form"))
}

/// A time as microseconds since 1970.
pub(super) fn micros(time: &str) -> String {
    format!("(extract(epoch FROM {time}) * 1000000)::pg_catalog.int8")
}

impl Shared {
    /// Whether the slice holds no row for certain, without a look at it.
    async fn is_vacant(
        &self,
        slice: &SliceLoad,
        (table, client): (&Table, &Client),
    ) -> Result<bool> {
        let time = &slice.columns.time().name;
        let adds = matches!(slice.mode, Mode::FillMissing | Mode::Append);
        if !slice.manners.alone || !adds || table.is_sought_by(time) {
            return Ok(false);
        }
        let mut occupied = self.occupied.lock().await;
        let known = occupied.take().filter(|o| o.oid == table.oid);
        let mut known = if let Some(known) = known {
            known
        } else {
            let found = self.extent(time, client).await?;
            Occupied { oid: table.oid, found, begun: Vec::new() }
        };
        let vacant = !known.touches(&slice.interval);
        known.begun.push(slice.interval);
        *occupied = Some(known);
        Ok(vacant)
    }

    /// The first and the last time in the table.
    async fn extent(&self, time: &str, client: &Client) -> Result<Option<(Timestamp, Timestamp)>> {
        let (name, time) = (self.name.sql()?, ident(time)?);
        let of = |which: &str| {
            micros(&format!(
                "pg_catalog.{which}({time}) FILTER (WHERE pg_catalog.isfinite({time}))"
            ))
        };
        let sql = format!("SELECT {}, {} FROM {name}", of("min"), of("max"));
        let what = format!("cannot look at {}", self.name);
        let answer = session::ask(client, &sql).await.map_err(|e| self.server.fault(&e, &what))?;
        let row = answer.first().and_then(|rows| rows.first());
        let at = |i: usize| instant(row.and_then(|row| row.get(i)?.as_deref()));
        Ok(at(0)?.zip(at(1)?))
    }
}

impl Table {
    /// Whether an index leads to the rows of a stretch of time.
    pub(super) fn is_sought_by(&self, time: &str) -> bool {
        let leads = |columns: &[Option<String>]| {
            columns.first().is_some_and(|first| first.as_deref() == Some(time))
        };
        self.indexes.iter().any(|index| !index.partial && leads(&index.columns))
    }

    /// Whether rows that a load adds all stand where it put them, and nothing else comes with them.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_partitioned() && !self.inherited && self.triggers.is_empty()
    }
}

impl PostgresLoad {
    /// The rows of the slice before anything is written.
    pub(super) async fn rows_held(&mut self, sink: &mut dyn RowSink) -> Result<()> {
        let vacant = self.shared.is_vacant(&self.slice, (&self.table, self.client()?)).await?;
        if !vacant && self.rows(sink, &self.unpacked(), "").await? > 0 {
            self.shared.quiet().meet();
            return Ok(());
        }
        let page = first_page(self.client()?, &self.table).await;
        self.first_page = page.map_err(|e| self.fault(&e))?;
        Ok(())
    }

    /// The rows of the slice after everything is written.
    pub(super) async fn rows_after(&self, sink: &mut dyn RowSink) -> Result<()> {
        let page = self.first_page.filter(|_| !self.shared.is_careful(&self.slice));
        let Some(page) = page else {
            self.rows(sink, &self.unpacked(), "").await?;
            return Ok(());
        };
        let packing = self.packing();
        let (mut from, mut step) = (page.saturating_sub(BEFORE), BEFORE);
        let pages = format!(" AND ctid >= {}", spot(from));
        let mut found = self.rows(sink, &packing, &pages).await?;
        while found < self.taken && from > 0 {
            let to = from;
            step = step.saturating_mul(16);
            from = from.saturating_sub(step);
            let pages = format!(" AND ctid >= {} AND ctid < {}", spot(from), spot(to));
            found += self.rows(sink, &packing, &pages).await?;
        }
        Ok(())
    }

    /// How rows travel of which any may be another's.
    fn unpacked(&self) -> Packing {
        Packing::none(self.kinds.len())
    }

    /// How rows travel of which the slice holds none but ours.
    fn packing(&self) -> Packing {
        Packing::of(&self.kinds, |column| self.packable[column])
    }

    /// Those rows of the slice as the transaction sees them for which `more` holds too; how many.
    async fn rows(&self, sink: &mut dyn RowSink, packing: &Packing, more: &str) -> Result<u64> {
        let columns = &self.slice.columns;
        let condition = copy::within(&self.table, &columns.time().name, &self.slice.interval)?;
        let sql = copy::statement(&self.shared.name, columns, packing, &(condition + more))?;
        let decoder = Decoder::packed(&self.kinds, columns.arrow_schema(), packing.clone());
        let way = (&self.shared.server, self.client()?);
        let mut pour = Pour::new(sink);
        copy::out(way, &sql, decoder, &mut pour).await?;
        Ok(pour.rows)
    }
}

/// Pages before the one that was the last which are read too. Where several load at once, the
/// server makes a table longer by more pages than it needs, and fills them later.
const BEFORE: u64 = 128;

/// The place before the first row of a page.
fn spot(page: u64) -> String {
    format!("'({page},0)'::pg_catalog.tid")
}

/// The size of the table; partitions do not count, they are looked at apart.
pub(super) async fn bytes(shared: &Shared, table: &Table) -> Result<u64> {
    let sql = format!("SELECT pg_catalog.pg_relation_size({})", table.oid);
    let answer = shared.server.ask(&sql, &format!("cannot look at {}", shared.name)).await?;
    let bytes = answer.first().and_then(|rows| rows.first()?.first()?.as_deref()?.parse().ok());
    Ok(bytes.unwrap_or(0))
}

/// The page from which on rows stand that will be written now, unless older pages have room. None
/// where it cannot be told.
async fn first_page(
    client: &Client,
    table: &Table,
) -> std::result::Result<Option<u64>, tokio_postgres::Error> {
    if !table.is_plain() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT pg_catalog.pg_relation_size({}) / \
         pg_catalog.current_setting('block_size')::pg_catalog.int8",
        table.oid
    );
    let answer = session::ask(client, &sql).await?;
    let pages = answer.first().and_then(|rows| rows.first()?.first()?.as_deref()?.parse().ok());
    // The last page may have room.
    Ok(pages.map(|pages: u64| pages.saturating_sub(1)))
}
