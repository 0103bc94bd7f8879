//! A source in memory: lines in a defined order, in blocks with hashes.

use std::fmt::{self, Write as _};
use std::hash::Hasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::value::{Row, time_of, to_batch};
use crate::columns::{ColumnType, Columns, Precision};
use crate::connector::{FieldType, ReadRequest, Rows, Source, SourceBatch, SurveyRequest};
use crate::error::{Error, Kind, Result};
use crate::examine::{self, Remark, Wanted};
use crate::planted::{self, Bug};
use crate::reject::{Place, Reject};
use crate::survey::{Block, FileStamp, Survey, TimeUnitSeen};

/// The name of the one file.
const FILE: &str = "memory";

/// One line of the source.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A row, in the source's order of columns.
    Row(Row),
    /// A row whose time is known and whose values do not fit.
    Bad(Timestamp, String),
    /// A line without a time: it belongs to no slice.
    Unplaced(String),
}

/// A source in memory; clones are handles to the same lines.
#[derive(Clone)]
pub struct MemorySource {
    columns: Arc<Vec<FieldType>>,
    time: usize,
    unit: Precision,
    per_block: usize,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl fmt::Debug for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySource({} lines)", self.lines().len())
    }
}

impl MemorySource {
    /// A source with these columns, of which `time` is the time, in blocks of `per_block` lines.
    pub fn new(
        columns: Vec<FieldType>,
        time: &str,
        per_block: usize,
        lines: Vec<Line>,
    ) -> Result<Self> {
        let missing = || Error::config(format!("the source has no time column `{time}`"));
        let time = columns.iter().position(|c| c.name == time).ok_or_else(missing)?;
        let ColumnType::Instant { unit } = columns[time].ty else { return Err(missing()) };
        let lines = Arc::new(Mutex::new(lines));
        Ok(MemorySource { columns: Arc::new(columns), time, unit, per_block, lines })
    }

    /// Changes the lines, behind the back of every plan made before.
    pub fn change(&self, work: impl FnOnce(&mut Vec<Line>)) {
        work(&mut self.lines());
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self, line: &Line) -> Option<Timestamp> {
        match line {
            Line::Row(row) => time_of(&row[self.time], self.unit),
            Line::Bad(time, _) => Some(*time),
            Line::Unplaced(_) => None,
        }
    }

    fn block(&self, index: usize, lines: &[Line]) -> Option<Block> {
        let times: Vec<_> = lines.iter().filter_map(|l| self.time(l)).collect();
        Some(Block {
            file: 0,
            offset: (index * self.per_block) as u64,
            length: lines.len() as u64,
            line: (index * self.per_block) as u64 + 1,
            rows: times.len() as u64,
            min: *times.iter().min()?,
            max: *times.iter().max()?,
            hash: hash(lines),
        })
    }

    /// The lines of one block that lie inside, if the block is what the survey saw.
    fn read_block(&self, block: &Block, request: &ReadRequest) -> Result<SourceBatch> {
        let lines = self.lines();
        let (from, to) = (block.offset as usize, (block.offset + block.length) as usize);
        let trusted = planted::is(Bug::StaleBlockAccepted);
        let whole = lines.get(from..to).filter(|lines| trusted || hash(lines) == block.hash);
        let whole = whole.ok_or_else(|| {
            Error::new(Kind::Stale, format!("lines {} to {to} of the source changed", from + 1))
                .hint("plan again to load what is there now")
        })?;
        let order = self.order(&request.columns)?;
        let (mut rows, mut ordinals, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        for (i, line) in whole.iter().enumerate() {
            if !self.time(line).is_some_and(|t| request.interval.contains(t)) {
                continue;
            }
            match line {
                Line::Row(row) => {
                    rows.push(order.iter().map(|&i| row[i].clone()).collect::<Row>());
                    ordinals.push((from + i) as u64);
                }
                line => rejects.push(reject(from + i, line)),
            }
        }
        let rows = to_batch(&request.columns, &rows.iter().collect::<Vec<_>>())?;
        Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 })
    }

    /// For each column of the plan its index here.
    fn order(&self, columns: &Columns) -> Result<Vec<usize>> {
        let index = |name: &str| self.columns.iter().position(|c| c.name == name);
        columns
            .iter()
            .map(|c| {
                let name = c.source_name();
                index(name).ok_or_else(|| Error::bug(format!("no column `{name}`")))
            })
            .collect()
    }
}

fn reject(index: usize, line: &Line) -> Reject {
    let (place, text) = locate(index, line);
    Reject { place, column: None, reason: "the values do not fit their columns".into(), text }
}

fn locate(index: usize, line: &Line) -> (Place, String) {
    let place = Place { file: FILE.into(), line: Some(index as u64 + 1), offset: index as u64 };
    let text = match line {
        Line::Row(row) => format!("{row:?}"),
        Line::Bad(_, text) | Line::Unplaced(text) => text.clone(),
    };
    (place, text)
}

fn hash(lines: &[Line]) -> String {
    struct Text(SipHasher24);
    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut text = Text(SipHasher24::new());
    write!(text, "{lines:?}").expect("a hasher takes everything");
    let hash = text.0.finish128();
    format!("{:016x}{:016x}", hash.h1, hash.h2)
}

#[async_trait]
impl Source for MemorySource {
    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        Ok(examine::table(wanted, &self.columns))
    }

    async fn survey(&self, _: &SurveyRequest) -> Result<Survey> {
        let lines = self.lines();
        let blocks: Vec<_> = lines
            .chunks(self.per_block)
            .enumerate()
            .filter_map(|(i, lines)| self.block(i, lines))
            .collect();
        let unplaced: Vec<_> =
            lines.iter().enumerate().filter(|(_, l)| self.time(l).is_none()).collect();
        Ok(Survey {
            files: vec![FileStamp {
                path: FILE.into(),
                size: lines.len() as u64,
                stamp: hash(&lines),
            }],
            columns: (*self.columns).clone(),
            rows: blocks.iter().map(|b| b.rows).sum(),
            bytes: lines.len() as u64,
            time_unit: Some(match self.unit {
                Precision::Second => TimeUnitSeen::Second,
                Precision::Millisecond => TimeUnitSeen::Millisecond,
                Precision::Microsecond => TimeUnitSeen::Microsecond,
                Precision::Nanosecond => TimeUnitSeen::Nanosecond,
            }),
            unplaced: unplaced.len() as u64,
            unplaced_rejects: unplaced.iter().map(|(i, line)| reject(*i, line)).collect(),
            blocks,
            ..Survey::default()
        })
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let blocks: Vec<_> =
            request.survey.overlapping(&request.interval).map(|(_, b)| b.clone()).collect();
        let hashes = blocks.iter().map(|b| b.hash.clone()).collect();
        let (source, request) = (self.clone(), request.clone());
        let read = move |block: Block| source.read_block(&block, &request);
        Ok(Rows { batches: stream::iter(blocks).map(read).boxed(), blocks: hashes })
    }

    async fn locate(&self, _: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let lines = self.lines();
        let at = |n: &u64| lines.get(*n as usize).map(|line| locate(*n as usize, line));
        let gone = || Error::new(Kind::Stale, "a line of the source is gone");
        ordinals.iter().map(|n| at(n).ok_or_else(gone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::columns::{Column, Role};
    use crate::interval::Interval;
    use crate::memory::{Value, from_batch};

    fn source() -> MemorySource {
        let field = |name: &str, ty| FieldType::new(name, ty, true);
        let row = |t, v| Line::Row(vec![Value::Integer(v), Value::Instant(t)]);
        let columns = vec![
            field("v", ColumnType::Integer { bits: 64 }),
            field("t", ColumnType::Instant { unit: Precision::Second }),
        ];
        let bad = Line::Bad(Timestamp::from_second(11).unwrap(), "x,11".into());
        let lines =
            vec![row(20, 1), row(10, 2), bad, row(3, 3), Line::Unplaced("??".into()), row(19, 4)];
        MemorySource::new(columns, "t", 2, lines).unwrap()
    }

    fn request(source: &MemorySource) -> ReadRequest {
        let survey = block_on(source.survey(&SurveyRequest::default())).unwrap();
        let column = |f: &FieldType, role| Column {
            name: f.name.clone(),
            ty: f.ty,
            role,
            position: 0,
            source: None,
        };
        let columns = Columns::new(vec![
            column(&survey.columns[0], Role::Value),
            column(&survey.columns[1], Role::Time),
        ]);
        ReadRequest {
            interval: Interval::parse("1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z").unwrap(),
            columns: Arc::new(columns.unwrap()),
            survey: Arc::new(survey),
        }
    }

    #[test]
    fn a_read_gives_the_interval_in_plan_order_with_its_rejects() {
        let source = source();
        let request = request(&source);
        assert_eq!((request.survey.rows, request.survey.unplaced), (5, 1));
        let rows = block_on(source.read(&request)).unwrap();
        assert_eq!(rows.blocks.len(), 3);
        let batches: Vec<_> = block_on(rows.batches.collect::<Vec<_>>());
        let batches: Vec<_> = batches.into_iter().map(Result::unwrap).collect();
        let rows: Vec<_> = batches.iter().flat_map(|b| from_batch(&b.rows).unwrap()).collect();
        let row = |t, v| vec![Value::Instant(t), Value::Integer(v)];
        assert_eq!(rows, [row(10, 2), row(19, 4)]);
        let ordinals: Vec<_> = batches.iter().flat_map(|b| b.ordinals.clone()).collect();
        assert_eq!(ordinals, [1, 5]);
        let rejects: Vec<_> = batches.iter().flat_map(|b| b.rejects.clone()).collect();
        assert_eq!(rejects[0].place.line, Some(3));
        let located = block_on(source.locate(&request.survey, &[2])).unwrap();
        assert_eq!(located[0], (rejects[0].place.clone(), "x,11".into()));
    }

    #[test]
    fn a_changed_block_ends_the_stream_as_stale() {
        let source = source();
        let request = request(&source);
        source.change(|lines| lines[5] = Line::Unplaced(String::new()));
        let rows = block_on(source.read(&request)).unwrap();
        let last = block_on(rows.batches.collect::<Vec<_>>()).pop().unwrap();
        assert_eq!(last.err().map(|e| e.kind()), Some(Kind::Stale));
    }
}
