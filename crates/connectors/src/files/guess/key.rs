//! Which columns tell rows of one time apart: looked for in a share of the times, then held
//! against all rows, in bounded memory.

use std::collections::BTreeSet;

use retrofill_core::columns::ColumnType;
use retrofill_core::error::Result;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::time::Clock;
use super::decide::{Decided, words_of};
use super::facts::Facts;
use super::records::{Found, Input, Stretch};
use super::{GuessedColumn, GuessedKey};

/// Rows in which all sets of columns are tried at once.
const SAMPLED: u64 = 100_000;
/// Rows that are held at once while one set is proven, 16 bytes each.
const HELD: u64 = 8 << 20;
/// Columns that sets are made of.
const COLUMNS: usize = 8;
/// Columns that sets of three are made of.
const TRIPLES: usize = 5;

/// Names of what series come from.
const NAMES: [&str; 54] = [
    "id",
    "key",
    "name",
    "host",
    "hostname",
    "server",
    "node",
    "pod",
    "container",
    "instance",
    "job",
    "device",
    "sensor",
    "station",
    "meter",
    "site",
    "location",
    "place",
    "city",
    "region",
    "zone",
    "country",
    "origin",
    "airport",
    "plant",
    "machine",
    "line",
    "unit",
    "channel",
    "symbol",
    "ticker",
    "pair",
    "currency",
    "market",
    "exchange",
    "account",
    "customer",
    "user",
    "vehicle",
    "truck",
    "ship",
    "room",
    "building",
    "floor",
    "asset",
    "tag",
    "metric",
    "series",
    "source",
    "topic",
    "zaehler",
    "anlage",
    "standort",
    "uuid",
];

/// The hash of time and key, and that of the whole row.
type Pair = (u64, u64);

/// Looks for the smallest key.
pub(super) fn guess(input: &Input, decided: &Decided, facts: &Facts) -> Result<GuessedKey> {
    let sets = sets(&decided.columns, decided.at, facts.rows);
    let clock = input.shared.clock(decided.form);
    let look = Look { input, clock: &clock, time: decided.at };
    let share = facts.rows.div_ceil(SAMPLED).max(1);
    let sampled = look.pairs(&sets, |time, _| time % share == 0)?;
    let mut failing = None;
    let mut good = Vec::new();
    for (set, mut pairs) in sets.iter().zip(sampled) {
        let clash = clashes(&mut pairs);
        if clash.unequal == 0 {
            good.push((set, clash.equal));
        } else if !set.is_empty() && failing.is_none_or(|(_, n)| clash.unequal < n) {
            failing = Some((set, clash.unequal));
        }
    }
    let named = |set: &[usize]| -> Vec<String> {
        set.iter().map(|at| decided.columns[*at].name.clone()).collect()
    };
    let alone = good.iter().any(|(set, _)| set.is_empty());
    for (set, equal) in good {
        let repeated = if share == 1 {
            Some(equal)
        } else {
            look.prove(set, facts.rows.div_ceil(HELD).max(1))?
        };
        let Some(repeated) = repeated else { continue };
        // Whatever key was found, the time alone may do as well.
        let time_alone = set.is_empty()
            || alone
                && (share == 1 || look.prove(&[], facts.rows.div_ceil(HELD).max(1))?.is_some());
        return Ok(GuessedKey {
            columns: Some(named(set)),
            distinct: set.iter().map(|at| decided.columns[*at].distinct).collect(),
            repeated,
            nearly: None,
            time_alone,
        });
    }
    let nearly = failing.map(|(set, times)| (named(set), times.saturating_mul(share)));
    Ok(GuessedKey { nearly, ..GuessedKey::default() })
}

/// The sets of columns that could be a key, the likeliest first: one column that is named like a
/// series, no column at all, any other, two, three.
fn sets(columns: &[GuessedColumn], time: usize, rows: u64) -> Vec<Vec<usize>> {
    let mut ranked: Vec<_> = columns
        .iter()
        .enumerate()
        .filter(|(at, column)| *at != time && can_tell(column, rows))
        .map(|(at, column)| (std::cmp::Reverse(rank(column)), at))
        .collect();
    ranked.sort_unstable();
    ranked.truncate(COLUMNS);
    let list: Vec<usize> = ranked.into_iter().map(|(_, at)| at).collect();
    let (named, others): (Vec<usize>, Vec<usize>) =
        list.iter().partition(|at| is_named(&columns[**at]));
    let mut sets: Vec<Vec<usize>> = named.into_iter().map(|at| vec![at]).collect();
    sets.push(Vec::new());
    sets.extend(others.into_iter().map(|at| vec![at]));
    for (i, a) in list.iter().enumerate() {
        sets.extend(list[i + 1..].iter().map(|b| vec![*a, *b]));
    }
    let few = &list[..list.len().min(TRIPLES)];
    for (i, a) in few.iter().enumerate() {
        for (j, b) in few.iter().enumerate().skip(i + 1) {
            sets.extend(few[j + 1..].iter().map(|c| vec![*a, *b, *c]));
        }
    }
    sets
}

/// Whether a column could be part of a key: every row has it, and rows share its values.
fn can_tell(column: &GuessedColumn, rows: u64) -> bool {
    let kind = match column.ty {
        ColumnType::Text | ColumnType::Integer { .. } | ColumnType::Bool => !column.is_time,
        _ => false,
    };
    let shared = match column.distinct {
        Some(n) => n >= 2 && n * 2 <= rows,
        // Many series have many rows, and a name.
        None => is_named(column),
    };
    kind && shared && column.nulls == 0
}

fn is_named(column: &GuessedColumn) -> bool {
    let words = words_of(&column.name);
    words.iter().any(|w| NAMES.contains(&w.as_str()))
}

fn rank(column: &GuessedColumn) -> u8 {
    let kind = match column.ty {
        ColumnType::Text => 2,
        ColumnType::Integer { .. } => 1,
        _ => 0,
    };
    kind + if is_named(column) { 3 } else { 0 }
}

/// Reads keys.
struct Look<'a> {
    input: &'a Input,
    clock: &'a Clock,
    time: usize,
}

#[derive(Default)]
struct Pairs(Vec<Vec<Pair>>);

impl Found for Pairs {
    fn merge(&mut self, next: Self) {
        self.0.resize(next.0.len(), Vec::new());
        for (all, mut one) in self.0.iter_mut().zip(next.0) {
            all.append(&mut one);
        }
    }
}

impl Look<'_> {
    /// For each set the pairs of those rows that `wanted` takes, by the hash of their time and
    /// that of time and key.
    fn pairs(
        &self,
        sets: &[Vec<usize>],
        wanted: impl Fn(u64, u64) -> bool + Sync,
    ) -> Result<Vec<Vec<Pair>>> {
        let (Pairs(mut all), _) = self.input.each(|stretch| self.of(&stretch, sets, &wanted))?;
        all.resize(sets.len(), Vec::new());
        Ok(all)
    }

    fn of(
        &self,
        stretch: &Stretch<'_>,
        sets: &[Vec<usize>],
        wanted: &impl Fn(u64, u64) -> bool,
    ) -> Pairs {
        let shared = &self.input.shared;
        let mut pairs = vec![Vec::new(); sets.len()];
        stretch.records(shared, |record| {
            let Ok(fields) = record else { return true };
            let value = |at: usize| stretch.value(shared, fields, at);
            let (text, quoted) = value(self.time);
            if shared.is_null(&text, quoted) {
                return true;
            }
            let Ok((moment, _)) = self.clock.read(&text) else { return true };
            let mut time = [0; 12];
            time[..8].copy_from_slice(&moment.seconds.to_le_bytes());
            time[8..].copy_from_slice(&moment.nanos.to_le_bytes());
            let of_time = xxh3_64(&time);
            let mut row = None;
            for (set, pairs) in sets.iter().zip(&mut pairs) {
                let mut key = Xxh3::new();
                key.update(&time);
                for at in set {
                    put(&mut key, &value(*at).0);
                }
                let key = key.digest();
                if wanted(of_time, key) {
                    let row = *row.get_or_insert_with(|| {
                        let mut row = Xxh3::new();
                        for at in 0..self.input.names.len() {
                            put(&mut row, &value(at).0);
                        }
                        row.digest()
                    });
                    pairs.push((key, row));
                }
            }
            true
        });
        Pairs(pairs)
    }

    /// Holds one set against all rows, so many parts of the keys one after the other. Gives how
    /// many rows are repeated with the same values; none where two unequal rows share a key.
    fn prove(&self, set: &[usize], parts: u64) -> Result<Option<u64>> {
        let sets = [set.to_vec()];
        let mut repeated = 0;
        for part in 0..parts {
            // The low bits chose the sampled times; the high ones are as good.
            let mut pairs = self.pairs(&sets, |_, key| (key >> 32) % parts == part)?;
            let clash = pairs.first_mut().map(|p| clashes(p)).unwrap_or_default();
            if clash.unequal > 0 {
                return Ok(None);
            }
            repeated += clash.equal;
        }
        Ok(Some(repeated))
    }
}

/// See [`Look::prove`]; the time is the first column.
#[cfg(test)]
pub(super) fn proven(
    input: &Input,
    clock: &Clock,
    set: &[usize],
    parts: u64,
) -> Result<Option<u64>> {
    Look { input, clock, time: 0 }.prove(set, parts)
}

/// A value with its length, so that no two lists of values are alike.
fn put(hash: &mut Xxh3, value: &[u8]) {
    hash.update(&(value.len() as u64).to_le_bytes());
    hash.update(value);
}

/// Rows that share their key with another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Clash {
    /// Keys of rows that differ.
    unequal: u64,
    /// Rows that are there already.
    equal: u64,
}

fn clashes(pairs: &mut [Pair]) -> Clash {
    pairs.sort_unstable();
    let mut clash = Clash::default();
    for same in pairs.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        let rows: BTreeSet<_> = same.iter().map(|(_, row)| row).collect();
        clash.unequal += u64::from(rows.len() > 1);
        clash.equal += (same.len() - rows.len()) as u64;
    }
    clash
}
