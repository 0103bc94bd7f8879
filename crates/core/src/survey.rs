//! What a source holds, found by reading it once: the base of planning, reading and trust.

use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::columns::Precision;
use crate::connector::FieldType;
use crate::interval::Interval;
use crate::reject::Reject;

/// A file (or table) of the source, as the survey saw it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileStamp {
    /// The name, relative to the spec where it was given so.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Last change in nanoseconds since 1970, or an object store's tag.
    pub stamp: String,
}

/// A stretch of one file that is read as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Index into [`Survey::files`].
    pub file: u32,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Line number of the first record, from 1.
    pub line: u64,
    /// Rows with a time.
    pub rows: u64,
    /// Earliest time.
    pub min: Timestamp,
    /// Latest time.
    pub max: Timestamp,
    /// Hash of the bytes, hex: finds change, not malice.
    pub hash: String,
}

impl Block {
    /// Whether it may hold rows of the interval.
    pub fn reaches(&self, interval: &Interval) -> bool {
        self.rows > 0 && self.min < interval.end() && interval.start() <= self.max
    }
}

/// Everything the plan knows of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The files in their defined order.
    pub files: Vec<FileStamp>,
    /// The columns with their types over all rows, in the source's order; where there is a
    /// transform, those that it gives.
    pub columns: Vec<FieldType>,
    /// The columns as the source has them, where a transform makes others of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input: Option<Vec<FieldType>>,
    /// How many of the source's own columns, the last of them, stand in the paths of its files.
    #[serde(skip_serializing_if = "crate::receipt::is_zero", default)]
    pub in_paths: u64,
    /// The blocks in file order.
    pub blocks: Vec<Block>,
    /// Rows with a time.
    pub rows: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// The finest unit any time needs, or a day where all times are dates.
    pub time_unit: Option<TimeUnitSeen>,
    /// How the source reads its times, in the source's own words: found once, by the survey, and
    /// frozen with it, so that every later read takes the same text for the same time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_form: Option<String>,
    /// Lines that belong to no slice: they cannot be parsed, or have no time.
    pub unplaced: u64,
    /// The first of them, at most 10,000.
    pub unplaced_rejects: Vec<Reject>,
    /// Rows that the transform left out and that belong to no slice: they have no time, or it
    /// lies outside of the times of all rows that stay.
    #[serde(skip_serializing_if = "crate::receipt::is_zero", default)]
    pub filtered: u64,
    /// How much was looked at, where it was a sample: rows and times of all else are estimates,
    /// and nothing may be loaded by them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sampled: Option<Sampled>,
    /// What the user should know, in plain sentences ("times have no zone and are read as UTC").
    pub notes: Vec<String>,
}

/// How much of a source was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// Bytes that were looked at.
    pub looked_at: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// The granularity of the times in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnitSeen {
    /// Dates without a time of day.
    Day,
    /// Whole seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

impl TimeUnitSeen {
    /// The precision a column needs for it.
    pub fn precision(self) -> Precision {
        match self {
            TimeUnitSeen::Nanosecond => Precision::Nanosecond,
            _ => Precision::Microsecond,
        }
    }

    /// Length in nanoseconds; a day counts as 24 hours.
    pub fn nanoseconds(self) -> i128 {
        match self {
            TimeUnitSeen::Day => 86_400_000_000_000,
            TimeUnitSeen::Second => 1_000_000_000,
            TimeUnitSeen::Millisecond => 1_000_000,
            TimeUnitSeen::Microsecond => 1_000,
            TimeUnitSeen::Nanosecond => 1,
        }
    }
}

impl Survey {
    /// The columns before any transform.
    pub fn source_columns(&self) -> &[FieldType] {
        self.input.as_deref().unwrap_or(&self.columns)
    }

    /// The same in two: those that the files hold, and those that stand in their paths.
    pub fn held_and_in_paths(&self) -> (&[FieldType], &[FieldType]) {
        let all = self.source_columns();
        let held = all.len().saturating_sub(usize::try_from(self.in_paths).unwrap_or(usize::MAX));
        all.split_at(held)
    }

    /// Earliest and latest time of all rows.
    pub fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let min = self.blocks.iter().filter(|b| b.rows > 0).map(|b| b.min).min()?;
        let max = self.blocks.iter().filter(|b| b.rows > 0).map(|b| b.max).max()?;
        Some((min, max))
    }

    /// The blocks that may hold rows of the interval, with their index.
    pub fn overlapping(&self, interval: &Interval) -> impl Iterator<Item = (usize, &Block)> {
        let interval = *interval;
        self.blocks.iter().enumerate().filter(move |(_, b)| b.reaches(&interval))
    }
}

/// What is about to be loaded, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coming {
    /// The slices with rows.
    pub slices: Vec<Interval>,
    /// The stretches of them in which rows may lie: from first to last row of each block.
    pub rows: Vec<Interval>,
}

impl Coming {
    /// Of these slices, which are in order and do not overlap.
    pub fn of(survey: &Survey, slices: impl Iterator<Item = Interval>) -> Self {
        let occupied = survey.occupied();
        let (mut coming, mut next) = (Coming::default(), 0);
        for slice in slices {
            while occupied.get(next).is_some_and(|o| o.end() <= slice.start()) {
                next += 1;
            }
            let inside = occupied[next..].iter().take_while(|o| o.start() < slice.end());
            let before = coming.rows.len();
            coming.rows.extend(inside.filter_map(|o| {
                Interval::new(o.start().max(slice.start()), o.end().min(slice.end())).ok()
            }));
            if coming.rows.len() > before {
                coming.slices.push(slice);
            }
        }
        coming
    }
}

impl Survey {
    /// From first to last row of each block; what meets is one. In order.
    fn occupied(&self) -> Vec<Interval> {
        let past = |t: Timestamp| t.checked_add(Span::new().nanoseconds(1)).unwrap_or(t);
        let with_rows = self.blocks.iter().filter(|b| b.rows > 0);
        let mut all: Vec<_> =
            with_rows.filter_map(|b| Interval::new(b.min, past(b.max)).ok()).collect();
        all.sort_unstable_by_key(|i| (i.start(), i.end()));
        let mut out: Vec<Interval> = Vec::new();
        for one in all {
            let met = out.last_mut().filter(|last| one.start() <= last.end());
            let Some(last) = met else {
                out.push(one);
                continue;
            };
            if let Ok(joined) = Interval::new(last.start(), last.end().max(one.end())) {
                *last = joined;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_where_blocks_say_and_slices_without_any_are_left_out() {
        let t = |text: &str| format!("2020-01-{text}:00:00Z").parse::<Timestamp>().unwrap();
        let block = |min: &str, max: &str| Block {
            file: 0,
            offset: 0,
            length: 1,
            line: 1,
            rows: 2,
            min: t(min),
            max: t(max),
            hash: String::new(),
        };
        let blocks =
            vec![block("05T06", "05T07"), block("01T03", "02T09"), block("02T01", "02T12")];
        let survey = Survey { blocks, ..Survey::default() };
        let day = |d: u8| Interval::new(t(&format!("0{d}T00")), t(&format!("0{}T00", d + 1)));
        let coming = Coming::of(&survey, (1..=6).map(|d| day(d).unwrap()));
        assert_eq!(coming.slices, [1, 2, 5].map(|d| day(d).unwrap()));
        let past = |text: &str| t(text).checked_add(Span::new().nanoseconds(1)).unwrap();
        let ends =
            [(t("01T03"), t("02T00")), (t("02T00"), past("02T12")), (t("05T06"), past("05T07"))];
        assert_eq!(coming.rows, ends.map(|(from, to)| Interval::new(from, to).unwrap()));
    }
}
