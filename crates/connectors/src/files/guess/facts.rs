//! What one pass over all records tells of each column.

use std::collections::HashSet;

use retrofill_core::error::Result;
use retrofill_core::survey::TimeUnitSeen;
use xxhash_rust::xxh3::xxh3_64;

use super::super::time::Moment;
use super::super::types::Seen;
use super::forms::Candidate;
use super::records::{Found, Input, Stretch};

/// Words that often stand for a missing value.
pub(super) const WORDS: [&str; 16] = [
    "NA", "N/A", "n/a", "#N/A", "NULL", "null", "Null", "None", "nil", "NaN", "nan", "-", "--",
    "?", "\\N", "(null)",
];

/// Different values that are told apart, over all columns.
const DISTINCT: usize = 4 << 20;
/// Different values of one column that are told apart.
const DISTINCT_OF_ONE: usize = 1 << 16;

/// All columns.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) rows: u64,
    /// Records were left out.
    pub(super) cut: bool,
    /// Lines that are no records, and why the first is none.
    pub(super) bad: Option<(u64, String)>,
    pub(super) columns: Vec<Column>,
}

/// One column.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// The types of all values that are none of the words, with a decimal point and a comma.
    pub(super) point: Seen,
    pub(super) comma: Seen,
    /// How often each word stands there, unquoted.
    pub(super) words: [u64; WORDS.len()],
    /// Empty fields.
    pub(super) empty: u64,
    /// Values that are none of the words.
    pub(super) values: u64,
    pub(super) example: Option<String>,
    /// Hashes of the different values, words left out.
    distinct: HashSet<u64>,
    /// There are more than can be told apart.
    many: bool,
    pub(super) tries: Vec<Tried>,
}

/// How a form did.
#[derive(Debug, Clone, Default)]
pub(super) struct Tried {
    pub(super) good: u64,
    /// Values that do not fit, and the first of them.
    pub(super) bad: u64,
    pub(super) bad_example: Option<String>,
    pub(super) unit: Option<TimeUnitSeen>,
    pub(super) earliest: Option<Moment>,
    pub(super) latest: Option<Moment>,
    /// In the order of the records.
    first: Option<Moment>,
    last: Option<Moment>,
    /// Times that lie before the one above them.
    pub(super) backwards: u64,
}

impl Column {
    /// How many different values there are, where they are few enough.
    pub(super) fn distinct(&self) -> Option<u64> {
        (!self.many).then_some(self.distinct.len() as u64)
    }

    /// How often words stand there.
    pub(super) fn in_words(&self) -> u64 {
        self.words.iter().sum()
    }

    fn add_distinct(&mut self, hash: u64, most: usize) {
        if !self.many && self.distinct.insert(hash) && self.distinct.len() > most {
            (self.many, self.distinct) = (true, HashSet::new());
        }
    }

    fn merge(&mut self, next: Column, most: usize) {
        self.point.merge(next.point);
        self.comma.merge(next.comma);
        for (all, one) in self.words.iter_mut().zip(next.words) {
            *all += one;
        }
        self.empty += next.empty;
        self.values += next.values;
        self.example = self.example.take().or(next.example);
        if next.many {
            (self.many, self.distinct) = (true, HashSet::new());
        }
        for hash in next.distinct {
            self.add_distinct(hash, most);
        }
        self.tries.resize(self.tries.len().max(next.tries.len()), Tried::default());
        for (all, one) in self.tries.iter_mut().zip(next.tries) {
            all.merge(one);
        }
    }
}

impl Tried {
    fn add(&mut self, moment: Moment, unit: TimeUnitSeen) {
        self.good += 1;
        self.unit = self.unit.max(Some(unit));
        self.earliest = Some(self.earliest.map_or(moment, |m| m.min(moment)));
        self.latest = self.latest.max(Some(moment));
        self.backwards += u64::from(self.last.is_some_and(|last| moment < last));
        self.first = self.first.or(Some(moment));
        self.last = Some(moment);
    }

    fn merge(&mut self, next: Tried) {
        let turn = self.last.zip(next.first).is_some_and(|(last, first)| first < last);
        self.backwards += next.backwards + u64::from(turn);
        self.good += next.good;
        self.bad += next.bad;
        self.bad_example = self.bad_example.take().or(next.bad_example);
        self.unit = self.unit.max(next.unit);
        self.earliest = match (self.earliest, next.earliest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.latest = self.latest.max(next.latest);
        self.first = self.first.or(next.first);
        self.last = next.last.or(self.last);
    }
}

fn most_distinct(columns: usize) -> usize {
    (DISTINCT / columns.max(1)).min(DISTINCT_OF_ONE)
}

impl Found for Facts {
    fn merge(&mut self, next: Self) {
        self.rows += next.rows;
        self.bad = match (self.bad.take(), next.bad) {
            (Some((n, why)), Some((more, _))) => Some((n + more, why)),
            (a, b) => a.or(b),
        };
        self.columns.resize_with(next.columns.len(), Column::default);
        let most = most_distinct(self.columns.len());
        for (all, one) in self.columns.iter_mut().zip(next.columns) {
            all.merge(one, most);
        }
    }
}

/// Looks at all records.
pub(super) fn gather(input: &Input, forms: &[Vec<Candidate>]) -> Result<Facts> {
    let (mut facts, cut) = input.each(|stretch| look(input, forms, &stretch))?;
    facts.cut = cut;
    Ok(facts)
}

fn look(input: &Input, forms: &[Vec<Candidate>], stretch: &Stretch<'_>) -> Facts {
    let shared = &input.shared;
    let new = |tries: &Vec<Candidate>| Column {
        tries: vec![Tried::default(); tries.len()],
        ..Column::default()
    };
    let mut facts = Facts { columns: forms.iter().map(new).collect(), ..Facts::default() };
    let most = most_distinct(forms.len());
    stretch.records(shared, |record| {
        let fields = match record {
            Ok(fields) => fields,
            Err(why) => {
                let count = facts.bad.take().map_or((1, why), |(n, first)| (n + 1, first));
                facts.bad = Some(count);
                return true;
            }
        };
        facts.rows += 1;
        for (at, (column, tries)) in facts.columns.iter_mut().zip(forms).enumerate() {
            let (value, quoted) = stretch.value(shared, fields, at);
            if !quoted && value.is_empty() {
                column.empty += 1;
            } else if let Some(word) = word(&value).filter(|_| !quoted) {
                column.words[word] += 1;
            } else {
                take(column, tries, &value, most);
            }
        }
        true
    });
    facts
}

fn word(value: &[u8]) -> Option<usize> {
    // Most values are longer than the longest word.
    let short = value.len() <= 6;
    short.then(|| WORDS.iter().position(|w| w.as_bytes() == value)).flatten()
}

fn take(column: &mut Column, tries: &[Candidate], value: &[u8], most: usize) {
    column.values += 1;
    column.point.value(value, '.');
    column.comma.value(value, ',');
    column.add_distinct(xxh3_64(value), most);
    let text = || String::from_utf8_lossy(value).into_owned();
    if column.example.is_none() {
        column.example = Some(text());
    }
    for (tried, candidate) in column.tries.iter_mut().zip(tries) {
        if let Ok((moment, unit)) = candidate.clock.read(value) {
            tried.add(moment, unit);
        } else {
            tried.bad += 1;
            tried.bad_example.get_or_insert_with(text);
        }
    }
}
