//! Tables that are partitioned by time: history may be older than their oldest partition.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use retrofill_core::columns::Columns;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;

use super::Shared;
use super::catalog::Table;
use super::kind::Base;
use super::session::{self, Opening};
use super::sql::{TableName, ident, instant_literal};

/// So many stretches without a partition are told.
const TOLD: usize = 10;

/// The longest name that the server keeps whole.
const NAME: usize = 63;

/// A stretch of time from and to, without an end where there is none.
type Stretch = (Timestamp, Timestamp);

/// Reads the bounds of a partition by range over one column, as the server shows them in UTC; none
/// where they are not understood.
fn bounds(text: &str) -> Option<Stretch> {
    if text == "DEFAULT" {
        return Some((Timestamp::MIN, Timestamp::MAX));
    }
    let text = text.strip_prefix("FOR VALUES FROM (")?.strip_suffix(')')?;
    let (from, to) = text.split_once(") TO (")?;
    let read = |text: &str| match text {
        "MINVALUE" => Some(Timestamp::MIN),
        "MAXVALUE" => Some(Timestamp::MAX),
        _ => {
            let text = text.trim_matches('\'');
            let text = text.strip_suffix("+00").unwrap_or(text);
            let at = text.parse::<DateTime>().ok();
            let at = at.or_else(|| text.parse::<Date>().ok().map(|d| d.at(0, 0, 0, 0)))?;
            TimeZone::UTC.to_timestamp(at).ok()
        }
    };
    Some((read(from)?, read(to)?))
}

/// The stretches of these slices, in order, that no partition covers; neighbours are one.
fn missing(slices: &[Interval], mut covered: Vec<Stretch>) -> Vec<Stretch> {
    covered.sort_unstable();
    let mut out: Vec<Stretch> = Vec::new();
    for slice in slices {
        let mut from = slice.start();
        for (start, end) in &covered {
            if *start > from {
                push(&mut out, from, (*start).min(slice.end()));
            }
            from = from.max(*end);
        }
        push(&mut out, from, slice.end());
    }
    out
}

fn push(out: &mut Vec<Stretch>, from: Timestamp, to: Timestamp) {
    match out.last_mut() {
        _ if from >= to => {}
        Some((_, end)) if *end == from => *end = to,
        _ => out.push((from, to)),
    }
}

/// The months, in UTC, that a stretch touches, without what partitions cover already.
fn months(stretch: Stretch, covered: &[Stretch]) -> Result<Vec<Stretch>> {
    let far = |e: jiff::Error| Error::config("a partition lies beyond the calendar").because(e);
    let day = TimeZone::UTC.to_datetime(stretch.0).date();
    let (mut month, mut out) = (day.first_of_month(), Vec::new());
    loop {
        let next = month.checked_add(1.month()).map_err(far)?;
        let at = |d: Date| TimeZone::UTC.to_timestamp(d.at(0, 0, 0, 0)).map_err(far);
        let (mut from, mut to) = (at(month)?, at(next)?);
        for (start, end) in covered {
            if *end <= stretch.0 {
                from = from.max(*end);
            }
            if *start >= stretch.1 {
                to = to.min(*start);
            }
        }
        if from >= stretch.1 {
            return Ok(out);
        }
        if from < to {
            out.push((from, to));
        }
        month = next;
    }
}

/// The statements that create one: beside the table at first, so that nobody waits for more than
/// the moment of attaching.
fn create(table: &TableName, (from, to): Stretch, zoned: bool) -> Result<Vec<String>> {
    let suffix = format!("_{}", TimeZone::UTC.to_datetime(from).strftime("%Y%m%d_%H%M%S"));
    let mut stem = table.name.clone();
    while stem.len() + suffix.len() > NAME {
        stem.pop();
    }
    let part = format!("{}.{}", ident(&table.schema)?, ident(&format!("{stem}{suffix}"))?);
    let whole = table.sql()?;
    Ok(vec![
        format!(
            "CREATE TABLE {part} (LIKE {whole} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY)"
        ),
        format!(
            "ALTER TABLE {whole} ATTACH PARTITION {part} FOR VALUES FROM ({}) TO ({})",
            instant_literal(from, zoned),
            instant_literal(to, zoned)
        ),
    ])
}

impl Shared {
    /// See [`retrofill_core::connector::Target::room`].
    pub(super) async fn room(
        &self,
        columns: &Columns,
        slices: &[Interval],
        make: bool,
    ) -> Result<()> {
        let Some(table) = self.newest_table().await?.filter(|t| t.is_partitioned()) else {
            return Ok(());
        };
        let time = &columns.time().name;
        if table.partitioned_by.as_deref() != Some(std::slice::from_ref(time)) {
            return Ok(());
        }
        let Some(covered) = self.covered(&table).await? else { return Ok(()) };
        let missing = missing(slices, covered.clone());
        if missing.is_empty() || (self.settings.create_partitions && !make) {
            return Ok(());
        }
        let zoned =
            table.column(time).is_some_and(|c| c.kind().is_ok_and(|k| k.base == Base::Timestamptz));
        let mut statements = Vec::new();
        for stretch in &missing {
            for part in months(*stretch, &covered)? {
                statements.extend(create(&self.name, part, zoned)?);
            }
        }
        if self.settings.create_partitions {
            return self.create(&statements).await;
        }
        let list: Vec<_> =
            missing.iter().take(TOLD).map(|(from, to)| format!("{from} <= t < {to}")).collect();
        let more = missing.len().saturating_sub(TOLD);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!("{} has no partition for {}{more}", self.name, list.join(", "));
        let shown: Vec<_> = statements.iter().take(2).map(|s| format!("{s};")).collect();
        Err(Error::config(what).hint(format!(
            "`target.postgres.create_partitions: true` makes one for each month; or run: {} ...",
            shown.join(" ")
        )))
    }

    /// What the partitions cover; none where that is not understood.
    async fn covered(&self, table: &Table) -> Result<Option<Vec<Stretch>>> {
        let sql = format!(
            "{}SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_inherits i \
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = {}",
            Opening::LOOK.sql(),
            table.oid
        );
        let client = match self.server.idle() {
            Some(client) => client,
            None => self.server.fresh().await?,
        };
        let answer = session::ask(&client, &sql).await;
        let what = format!("cannot look at the partitions of {}", self.name);
        let answer = answer.map_err(|e| self.server.fault(&e, &what));
        self.server.roll_back(client).await;
        let rows = answer?.pop().ok_or_else(|| Error::new(Kind::Bug, "no answer"))?;
        let texts = rows.iter().map(|row| row.first().and_then(Option::as_deref));
        Ok(texts.map(|text| bounds(text?)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stretch(from: &str, to: &str) -> Stretch {
        (t(&format!("{from}T00:00:00Z")), t(&format!("{to}T00:00:00Z")))
    }

    #[test]
    fn bounds_are_read_as_the_server_shows_them() {
        let is = |text: &str, wanted| assert_eq!(bounds(text), wanted, "{text}");
        let january = Some(stretch("2013-01-01", "2013-02-01"));
        is("FOR VALUES FROM ('2013-01-01 00:00:00+00') TO ('2013-02-01 00:00:00+00')", january);
        is("FOR VALUES FROM ('2013-01-01 00:00:00') TO ('2013-02-01 00:00:00')", january);
        is("FOR VALUES FROM ('2013-01-01') TO ('2013-02-01')", january);
        is("DEFAULT", Some((Timestamp::MIN, Timestamp::MAX)));
        let open = "FOR VALUES FROM (MINVALUE) TO ('2013-01-01')";
        is(open, Some((Timestamp::MIN, t("2013-01-01T00:00:00Z"))));
        is("FOR VALUES IN ('a')", None);
        is("FOR VALUES FROM ('a', 1) TO ('b', 2)", None);
    }

    #[test]
    fn what_no_partition_covers_is_found_and_cut_by_months() {
        let slice = |from: &str, to: &str| {
            let (from, to) = stretch(from, to);
            Interval::new(from, to).unwrap()
        };
        let slices = [slice("2013-01-01", "2013-01-20"), slice("2013-01-20", "2013-03-05")];
        let covered = vec![stretch("2013-01-10", "2013-02-01")];
        let found = missing(&slices, covered.clone());
        assert_eq!(
            found,
            [stretch("2013-01-01", "2013-01-10"), stretch("2013-02-01", "2013-03-05")]
        );
        assert_eq!(months(found[0], &covered).unwrap(), [stretch("2013-01-01", "2013-01-10")]);
        let rest = [stretch("2013-02-01", "2013-03-01"), stretch("2013-03-01", "2013-04-01")];
        assert_eq!(months(found[1], &covered).unwrap(), rest);
        assert_eq!(missing(&slices, vec![stretch("2012-01-01", "2014-01-01")]), []);
    }
}
