//! Tables that are partitioned by time: history may be older than their oldest partition.

use std::collections::HashSet;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use retrofill_core::columns::Columns;
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;

use super::Shared;
use super::catalog::Table;
use super::kind::Base;
use super::session::{self, Opening, Texts};
use super::sql::{NAME, TableName, ident, instant_literal, literal};

/// So many stretches without a partition are told.
const TOLD: usize = 10;

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
        "MINVALUE" | "'-infinity'" => Some(Timestamp::MIN),
        "MAXVALUE" | "'infinity'" => Some(Timestamp::MAX),
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

/// A name for the partition from here on that no other relation of the schema has.
fn name(table: &TableName, from: Timestamp, taken: &HashSet<String>) -> String {
    let day = TimeZone::UTC.to_datetime(from).strftime("%Y%m%d_%H%M%S").to_string();
    let names = (1..).map(|n| {
        let suffix = if n == 1 { format!("_{day}") } else { format!("_{day}_{n}") };
        let mut stem = table.name.clone();
        while stem.len() + suffix.len() > NAME {
            stem.pop();
        }
        stem + &suffix
    });
    names.into_iter().find(|name| !taken.contains(name)).unwrap_or_default()
}

/// The statements that create one: beside the table at first, so that nobody waits for more than
/// the moment of attaching.
fn create(
    (table, part): (&TableName, &str),
    (from, to): Stretch,
    zoned: bool,
) -> Result<Vec<String>> {
    let part = format!("{}.{}", ident(&table.schema)?, ident(part)?);
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

/// A table of the tree, as [`Shared::tree`] finds it.
struct Node {
    oid: u32,
    parent: u32,
    name: String,
    /// What it takes of its parent; none where that is not understood.
    bounds: Option<Stretch>,
    /// Has partitions by ranges of the same time.
    goes_on: bool,
}

/// What the partitions of a table take, and what of that has a place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    taken: Vec<(Stretch, String)>,
    covered: Vec<Stretch>,
}

impl Places {
    /// None where the bounds of some partition are not understood.
    fn of(tree: &[Node], root: u32) -> Option<Self> {
        let mut out = Places::default();
        for node in tree.iter().filter(|n| n.parent == root) {
            let (from, to) = node.bounds?;
            out.taken.push(((from, to), node.name.clone()));
            if !node.goes_on {
                out.covered.push((from, to));
                continue;
            }
            let below = Places::of(tree, node.oid)?.covered;
            let inside = below.iter().map(|(start, end)| (from.max(*start), to.min(*end)));
            out.covered.extend(inside.filter(|(start, end)| start < end));
        }
        Some(out)
    }
}

/// Stretches without a partition; those with none between them are one.
fn told(missing: &[Stretch], places: &Places) -> String {
    let mut all: Vec<Stretch> = Vec::new();
    for (from, to) in missing {
        let met = all.last_mut().filter(|(_, last)| {
            !places.covered.iter().any(|(start, end)| start < from && *last < *end)
        });
        match met {
            Some((_, last)) => *last = *to,
            None => all.push((*from, *to)),
        }
    }
    let last = |to: Timestamp| to.checked_sub(1.nanosecond()).unwrap_or(to);
    let some = all.iter().take(TOLD).map(|(from, to)| format!("from {from} to {}", last(*to)));
    let list = some.collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(TOLD) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

impl Shared {
    /// See [`retrofill_core::connector::Target::room`].
    pub(super) async fn room(
        &self,
        columns: &Columns,
        rows: &[Interval],
        make: bool,
    ) -> Result<()> {
        let Some(table) = self.newest_table().await?.filter(|t| t.is_partitioned()) else {
            return Ok(());
        };
        let time = &columns.time().name;
        if table.partitioned_by.as_deref() != Some(std::slice::from_ref(time)) {
            return Ok(());
        }
        let (tree, names) = self.tree(&table, time).await?;
        let Some(places) = Places::of(&tree, table.oid) else { return Ok(()) };
        let missing = missing(rows, places.covered.clone());
        if missing.is_empty() {
            return Ok(());
        }
        let what = format!("{} has no partition for rows {}", self.name, told(&missing, &places));
        let within = |((start, end), _): &&(Stretch, String)| {
            missing.iter().any(|(from, to)| start < to && from < end)
        };
        if let Some((_, part)) = places.taken.iter().find(within) {
            let hint = format!("{part} has partitions of its own: make those that it lacks");
            return Err(Error::config(what).hint(hint));
        }
        if self.settings.create_partitions && !make {
            return Ok(());
        }
        let zoned =
            table.column(time).is_some_and(|c| c.kind().is_ok_and(|k| k.base == Base::Timestamptz));
        let statements = self.statements(zoned, rows, places, names)?;
        if self.settings.create_partitions {
            return self.create(&statements).await;
        }
        let shown: Vec<_> = statements.iter().take(2).map(|s| format!("{s};")).collect();
        Err(Error::config(what).hint(format!(
            "`target.postgres.create_partitions: true` makes one for each month; or run: {} ...",
            shown.join(" ")
        )))
    }

    /// The statements that make a partition for each month in which rows have no place.
    fn statements(
        &self,
        zoned: bool,
        rows: &[Interval],
        places: Places,
        mut names: HashSet<String>,
    ) -> Result<Vec<String>> {
        let mut taken: Vec<Stretch> = places.taken.iter().map(|(stretch, _)| *stretch).collect();
        let (mut covered, mut statements) = (places.covered, Vec::new());
        while let Some(first) = missing(rows, covered.clone()).first() {
            let parts = months(*first, &taken)?;
            if parts.is_empty() {
                return Err(Error::bug("a month without a place gets none"));
            }
            for part in parts {
                let name = name(&self.name, part.0, &names);
                statements.extend(create((&self.name, &name), part, zoned)?);
                names.insert(name);
                covered.push(part);
                taken.push(part);
            }
        }
        Ok(statements)
    }

    /// All partitions below the table, and the names of all relations in its schema.
    async fn tree(&self, table: &Table, time: &str) -> Result<(Vec<Node>, HashSet<String>)> {
        let sql = format!(
            "{}WITH RECURSIVE t(relid, parent) AS (SELECT i.inhrelid, i.inhparent \
             FROM pg_catalog.pg_inherits i WHERE i.inhparent = {} UNION ALL \
             SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i \
             JOIN t ON i.inhparent = t.relid) SELECT c.oid, t.parent, \
             pg_catalog.format('%I.%I', n.nspname, c.relname), \
             pg_catalog.pg_get_expr(c.relpartbound, c.oid), \
             EXISTS (SELECT 1 FROM pg_catalog.pg_partitioned_table p \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] \
             WHERE p.partrelid = c.oid AND p.partstrat = 'r' AND p.partnatts = 1 \
             AND a.attname = {}) FROM t \
             JOIN pg_catalog.pg_class c ON c.oid = t.relid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace; \
             SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = {}",
            Opening::LOOK.sql(),
            table.oid,
            literal(time)?,
            literal(&self.name.schema)?
        );
        let client = match self.server.idle() {
            Some(client) => client,
            None => self.server.fresh().await?,
        };
        let answer = session::ask(&client, &sql).await;
        let what = format!("cannot look at the partitions of {}", self.name);
        let answer = answer.map_err(|e| self.server.fault(&e, &what));
        self.server.roll_back(client).await;
        let mut answers = answer?;
        let odd = || Error::bug("the partitions came in another form");
        let (names, tree) = (answers.pop().ok_or_else(odd)?, answers.pop().ok_or_else(odd)?);
        let tree: Option<Vec<Node>> = tree.iter().map(node).collect();
        Ok((tree.ok_or_else(odd)?, names.into_iter().flatten().flatten().collect()))
    }
}

fn node(row: &Texts) -> Option<Node> {
    let [oid, parent, name, bound, goes_on] = &row[..] else { return None };
    Some(Node {
        oid: oid.as_deref()?.parse().ok()?,
        parent: parent.as_deref()?.parse().ok()?,
        name: name.clone()?,
        bounds: bound.as_deref().and_then(bounds),
        goes_on: goes_on.as_deref() == Some("t"),
    })
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

    #[test]
    fn a_partition_covers_what_its_own_partitions_do() {
        let node = |oid, parent, bounds, goes_on| Node {
            oid,
            parent,
            name: format!("p{oid}"),
            bounds,
            goes_on,
        };
        let year = stretch("2013-01-01", "2014-01-01");
        let march = stretch("2013-03-01", "2013-04-01");
        let all = bounds("DEFAULT");
        let tree = |rest| vec![node(2, 1, Some(year), true), node(3, 2, Some(march), false), rest];
        let places = Places::of(&tree(node(4, 2, None, false)), 1);
        assert_eq!(places, None, "a bound that is not understood");
        let places =
            Places::of(&tree(node(4, 1, Some(stretch("2014-01-01", "2015-01-01")), false)), 1);
        let covered = places.unwrap().covered;
        assert_eq!(covered, [march, stretch("2014-01-01", "2015-01-01")]);
        let places = Places::of(&tree(node(4, 2, all, false)), 1);
        let places = places.unwrap();
        assert_eq!(places.covered, [march, year]);
        let days = ["2013-01-05", "2013-01-20", "2013-04-02", "2013-06-03"];
        let places = Places { covered: vec![march], ..places };
        let text = told(
            &days.map(|day| (stretch(day, "2014-01-01").0, t(&format!("{day}T01:00:00Z")))),
            &places,
        );
        let end = "T00:59:59.999999999Z";
        assert_eq!(
            text,
            format!(
                "from 2013-01-05T00:00:00Z to 2013-01-20{end}, \
                 from 2013-04-02T00:00:00Z to 2013-06-03{end}"
            )
        );
    }

    #[test]
    fn a_name_is_nobody_elses_and_short_enough() {
        let at = t("2013-01-01T00:00:00Z");
        let taken = ["small_20130101_000000".to_owned(), "small_20130101_000000_2".to_owned()];
        let taken = HashSet::from(taken);
        let small = TableName { schema: "s".into(), name: "small".into() };
        assert_eq!(name(&small, at, &taken), "small_20130101_000000_3");
        let long = TableName { schema: "s".into(), name: "\u{e9}".repeat(31) };
        let found = name(&long, at, &taken);
        assert!(found.len() <= NAME && found.ends_with("_20130101_000000"), "{found}");
    }
}
