//! Tables whose own server counts and hashes their rows by stretches of time: what the sources of
//! PostgreSQL and MariaDB share.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use retrofill_core::connector::{ReadRequest, SourceBatch};
use retrofill_core::error::{Error, Result};
use retrofill_core::id::hex;
use retrofill_core::interval::Interval;
use retrofill_core::survey::Block;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches that wait for the reader of a slice.
const QUEUED: usize = 2;

/// Blocks, at most, while they are cut at even distances.
const BLOCKS: i64 = 4_096;

/// A block of more rows is cut finer, where time is filled very unevenly.
const MANY: u64 = 65_536;

/// Lengths of blocks in seconds: parts of what slices are cut by.
const LENGTHS: [i64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 604_800, 2_419_200,
];

/// Rejects that the survey keeps.
pub(crate) const KEPT: usize = 10_000;

/// How long the blocks of a survey are.
pub(crate) struct Length(usize);

impl Length {
    /// For times from the first to the last, in microseconds since 1970.
    pub(crate) fn of(range: Option<(i64, i64)>) -> Self {
        let seconds = range.map_or(1, |(low, high)| (high - low) / 1_000_000 + 1);
        let fitting = LENGTHS.iter().position(|l| *l >= seconds / BLOCKS);
        Length(fitting.unwrap_or(LENGTHS.len() - 1))
    }

    pub(crate) fn seconds(&self) -> i64 {
        LENGTHS[self.0]
    }

    /// A shorter one, where these blocks are few and one of them is too large.
    pub(crate) fn finer(&self, blocks: &[Block]) -> Option<Self> {
        let few = (blocks.len() as i64) < BLOCKS / 8;
        let coarse = few && blocks.iter().any(|b| b.rows > MANY);
        (coarse && self.0 > 0).then(|| Length(self.0.saturating_sub(3)))
    }
}

/// A block of these times, in microseconds since 1970; where it lies is not said yet.
pub(crate) fn block(rows: u64, (min, max): (i64, i64), sum: i128) -> Result<Block> {
    let at = |n| {
        let time = Timestamp::from_microsecond(n);
        time.map_err(|_| Error::bug("the server's counts cannot be read"))
    };
    let (min, max, hash) = (at(min)?, at(max)?, name(sum));
    Ok(Block { file: 0, offset: 0, length: 0, line: 1, rows, min, max, hash })
}

/// The name of a block's content.
pub(crate) fn name(sum: i128) -> String {
    hex(&sum.to_be_bytes())
}

/// The blocks that hold rows of a request.
pub(crate) fn blocks(request: &ReadRequest) -> Vec<Block> {
    request.survey.overlapping(&request.interval).map(|(_, block)| block.clone()).collect()
}

pub(crate) type Batch = Result<SourceBatch>;

/// The batches that a task sends until it ends. An error of it is the last one.
pub(crate) fn poured<W>(work: impl FnOnce(mpsc::Sender<Batch>) -> W) -> BoxStream<'static, Batch>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let (to, from) = mpsc::channel(QUEUED);
    let work = work(to.clone());
    let reader = tokio::spawn(async move {
        if let Err(e) = work.await {
            // Nobody listens any more: then nobody misses the error.
            let _ = to.send(Err(e)).await;
        }
    });
    stream::unfold((from, Some(reader)), next).boxed()
}

/// The error of a task whose batches nobody takes.
pub(crate) fn unread() -> Error {
    Error::unavailable("nobody reads any more")
}

/// The next batch. An end that the reader did not reach is an error, not an end.
async fn next(
    (mut from, mut reader): (mpsc::Receiver<Batch>, Option<JoinHandle<()>>),
) -> Option<(Batch, (mpsc::Receiver<Batch>, Option<JoinHandle<()>>))> {
    if let Some(batch) = from.recv().await {
        return Some((batch, (from, reader)));
    }
    let ended = reader.take()?.await;
    let failed = ended.err()?;
    let error = Error::bug("the reader of a table ended early").because(failed);
    Some((Err(error), (from, None)))
}

/// What of a block lies outside of the interval that cuts through it.
pub(crate) struct Rest {
    /// The block's index among those of the request.
    pub(crate) block: usize,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// Before the interval: `to` is not in it. Behind the interval it is.
    pub(crate) is_before: bool,
}

/// What was found of each block: rows, and the sum of their hashes.
pub(crate) struct Tally {
    /// In the order of time; none overlaps another.
    blocks: Vec<Block>,
    found: Vec<(u64, i128)>,
    /// The block of the row before.
    last: usize,
    /// A row was found that is in no block.
    foreign: bool,
}

impl Tally {
    pub(crate) fn new(blocks: Vec<Block>) -> Self {
        let found = vec![(0, 0); blocks.len()];
        Tally { blocks, found, last: 0, foreign: false }
    }

    /// Where the first block begins, in the order of all rows.
    pub(crate) fn first(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.offset)
    }

    /// What the blocks hold outside of the interval.
    pub(crate) fn rest(&self, interval: &Interval) -> Vec<Rest> {
        let (start, end) = (interval.start(), interval.end());
        let of = |(i, b): (usize, &Block)| {
            let (min, max) = (b.min, b.max);
            let before =
                (min < start).then_some(Rest { block: i, from: min, to: start, is_before: true });
            let behind =
                (max >= end).then_some(Rest { block: i, from: end, to: max, is_before: false });
            before.into_iter().chain(behind)
        };
        self.blocks.iter().enumerate().flat_map(of).collect()
    }

    /// Counts rows of such a rest.
    pub(crate) fn add_rest(&mut self, block: usize, rows: u64, sum: i128) {
        let found = &mut self.found[block];
        *found = (found.0 + rows, found.1 + sum);
    }

    /// Counts a row of the interval.
    pub(crate) fn add(&mut self, micros: i64, hash: i128) {
        let inside =
            |b: &Block| (b.min.as_microsecond()..=b.max.as_microsecond()).contains(&micros);
        if !self.blocks.get(self.last).is_some_and(inside) {
            self.last = self.blocks.partition_point(|b| b.max.as_microsecond() < micros);
        }
        match self.blocks.get(self.last) {
            Some(block) if inside(block) => self.add_rest(self.last, 1, hash),
            _ => self.foreign = true,
        }
    }

    /// Whether the rows are those that the survey saw.
    pub(crate) fn is_as_planned(&self) -> bool {
        let same = |(block, (rows, sum)): (&Block, &(u64, i128))| {
            block.rows == *rows && block.hash == name(*sum)
        };
        !self.foreign && self.blocks.iter().zip(&self.found).all(same)
    }
}
