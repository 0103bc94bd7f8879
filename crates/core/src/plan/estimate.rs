//! How many rows each slice will hold, from the survey's blocks.

use jiff::Timestamp;

use crate::interval::Interval;
use crate::survey::{Block, Survey};

/// What an interval may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Estimate {
    /// Rows. Rounded so that many intervals hold together what all blocks do.
    pub(super) rows: u64,
    /// Whether a block reaches it: it may hold rows, however few.
    pub(super) reached: bool,
}

/// Rows per interval, assuming that a block's rows lie evenly between its first and last time.
/// The intervals are in order and do not overlap. O(blocks x log + intervals).
pub(super) fn rows(survey: &Survey, intervals: &[Interval]) -> Vec<Estimate> {
    let mut exact = vec![0.0_f64; intervals.len()];
    // Density in rows per nanosecond begins and ends at these indices.
    let mut slope = vec![0.0_f64; intervals.len() + 1];
    let mut touched = vec![0_i64; intervals.len() + 1];
    for block in survey.blocks.iter().filter(|b| b.rows > 0) {
        spread(block, intervals, &mut exact, &mut slope, &mut touched);
    }
    let (mut density, mut cover) = (0.0, 0);
    let (mut sum, mut given) = (0.0_f64, 0);
    intervals
        .iter()
        .enumerate()
        .map(|(i, interval)| {
            density += slope[i];
            cover += touched[i];
            let inner = if cover > 0 { density * interval.nanoseconds() as f64 } else { 0.0 };
            sum += exact[i] + inner;
            let rows = (sum.round() as u64).saturating_sub(given);
            given += rows;
            Estimate { rows, reached: exact[i] > 0.0 || cover > 0 }
        })
        .collect()
}

/// Rows of one interval, by the same assumption.
pub(crate) fn within<'a>(blocks: impl IntoIterator<Item = &'a Block>, interval: &Interval) -> u64 {
    blocks.into_iter().map(|block| share(block, interval)).sum::<f64>().round() as u64
}

/// Nanoseconds from a block's first row to behind its last.
fn length(block: &Block) -> f64 {
    (nanos(block.max) - nanos(block.min) + 1) as f64
}

/// Rows of a block in an interval.
fn share(block: &Block, interval: &Interval) -> f64 {
    let from = nanos(interval.start()).max(nanos(block.min));
    let to = nanos(interval.end()).min(nanos(block.max) + 1);
    (to - from).max(0) as f64 / length(block) * block.rows as f64
}

fn spread(
    block: &Block,
    intervals: &[Interval],
    exact: &mut [f64],
    slope: &mut [f64],
    touched: &mut [i64],
) {
    let first = intervals.partition_point(|i| i.end() <= block.min);
    let last = intervals.partition_point(|i| i.start() <= block.max);
    if first >= last {
        return;
    }
    exact[first] += share(block, &intervals[first]);
    if last - 1 > first {
        exact[last - 1] += share(block, &intervals[last - 1]);
    }
    if last - first > 2 {
        let density = block.rows as f64 / length(block);
        slope[first + 1] += density;
        slope[last - 1] -= density;
        touched[first + 1] += 1;
        touched[last - 1] -= 1;
    }
}

fn nanos(t: Timestamp) -> i128 {
    t.as_nanosecond()
}

/// Rows of blocks before and after the range.
pub(super) fn outside(survey: &Survey, range: &Interval) -> (u64, u64) {
    let far = |a: Timestamp, b: Timestamp| Interval::new(a, b).ok();
    let before = far(Timestamp::MIN, range.start());
    let after = far(range.end(), Timestamp::MAX);
    let count = |i: Option<Interval>| i.map_or(0, |i| rows(survey, &[i])[0].rows);
    (count(before), count(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(min: i64, max: i64, rows: u64) -> Block {
        let t = |s| Timestamp::from_second(s).unwrap();
        let (min, max) = (t(min), t(max));
        Block { file: 0, offset: 0, length: 0, line: 1, rows, min, max, hash: String::new() }
    }

    #[test]
    fn rows_are_spread_over_the_slices_a_block_reaches() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let intervals: Vec<_> =
            (0..10).map(|i| Interval::new(t(i * 10), t(i * 10 + 10)).unwrap()).collect();
        let blocks = vec![block(5, 44, 400), block(20, 20, 7), block(95, 200, 1000)];
        let survey = Survey { blocks, ..Survey::default() };
        let got = rows(&survey, &intervals);
        assert!(got[5..9].iter().all(|e| *e == Estimate { rows: 0, reached: false }));
        let close = |a: u64, b: u64| a.abs_diff(b) <= 4;
        assert!(close(got[1].rows, 103), "a quarter of the first block, evenly over 39 s");
        assert!(close(got[2].rows, 103 + 7));
        assert!(close(got.iter().map(|e| e.rows).sum(), 400 + 7 + 47), "{got:?}");
        assert_eq!(outside(&survey, &Interval::new(t(0), t(100)).unwrap()).0, 0);
        assert!(close(outside(&survey, &Interval::new(t(0), t(100)).unwrap()).1, 952));
        for (interval, estimate) in intervals.iter().zip(&got) {
            assert!(close(within(&survey.blocks, interval), estimate.rows), "{interval}");
        }
    }

    #[test]
    fn few_rows_in_many_slices_are_not_rounded_up() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let intervals: Vec<_> = (0..1000).map(|i| Interval::new(t(i), t(i + 1)).unwrap()).collect();
        let survey = Survey { blocks: vec![block(0, 999, 250)], ..Survey::default() };
        let got = rows(&survey, &intervals);
        assert_eq!(got.iter().map(|e| e.rows).sum::<u64>(), 250);
        assert!(got.iter().all(|e| e.reached));
    }
}
