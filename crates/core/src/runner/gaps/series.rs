//! What is known of each key, folded from points that come in order of time.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cadence::{Differences, Tally};
use super::stretch::{Point, Stretch};
use crate::calendar::{Cell as Bucket, Every};
use crate::error::{Error, Result};
use crate::interval::Interval;
use crate::runner::Cell;

/// So many stretches of missing buckets are kept, over all keys; all are counted.
const MOST_HOLES: usize = 200_000;

/// Buckets that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// From the first to the last.
    pub interval: Interval,
    /// How many there are.
    pub buckets: u64,
}

/// Buckets of a key in which something is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// How many there are.
    pub buckets: u64,
    /// Rows of the source that are missing in them: none where they are absent.
    pub rows: u64,
    /// Where they are, by time.
    pub holes: Vec<Hole>,
    /// Stretches that were counted and not kept.
    pub left_out: u64,
    /// Number of the last bucket, and whether its stretch was kept.
    last: Option<(i64, bool)>,
}

impl Missing {
    /// What is known to be missing.
    pub fn of(rows: u64, holes: Vec<Hole>) -> Self {
        let buckets = holes.iter().map(|h| h.buckets).sum();
        Missing { buckets, rows, holes, ..Missing::default() }
    }

    /// Takes the buckets `first` to `last`, which lie after all that were taken.
    fn take(&mut self, first: i64, last: i64, within: Interval, room: &mut usize) {
        let buckets = last.abs_diff(first) + 1;
        self.buckets += buckets;
        let follows = self.last.filter(|(number, _)| *number + 1 == first);
        if let (Some((_, true)), Some(hole)) = (follows, self.holes.last_mut()) {
            hole.buckets += buckets;
            hole.interval = Interval::new(hole.interval.start(), within.end()).unwrap_or(within);
            self.last = Some((last, true));
            return;
        }
        let kept = follows.is_none() && *room > 0;
        if kept {
            *room -= 1;
            self.holes.push(Hole { interval: within, buckets });
        } else if follows.is_none() {
            self.left_out += 1;
        }
        self.last = Some((last, kept));
    }
}

/// A key, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its values, in the spec's order.
    pub key: Vec<Cell>,
    /// From its first to its last bucket in which source or target have a row.
    pub span: Interval,
    /// Buckets in which they have one.
    pub buckets: u64,
    /// The source has rows there, the target lacks them.
    pub fillable: Missing,
    /// Neither has a row there.
    pub absent: Missing,
}

/// The bucket of the last point of a key.
#[derive(Debug)]
struct Open {
    bucket: Bucket,
    points: u64,
    /// A row that is missing in the target lies in it.
    fillable: bool,
    /// One absent bucket lies before it.
    after_one: bool,
    /// What comes next does not follow it.
    is_over: bool,
}

#[derive(Debug, Default)]
struct One {
    key: Vec<Cell>,
    start: Option<Timestamp>,
    last: Option<i128>,
    differences: Differences,
    open: Option<Open>,
    buckets: u64,
    fillable: Missing,
    absent: Missing,
}

/// What wrong cadences are known by.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Signs {
    /// Points.
    points: u64,
    /// Buckets that hold a point.
    buckets: u64,
    /// Buckets that hold none, between others.
    absent: u64,
    /// Absent buckets whose neighbour holds two points.
    torn: u64,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Fold {
    grid: Option<(Every, TimeZone)>,
    series: HashMap<u128, One>,
    room: usize,
    signs: Signs,
    /// Whatever lies between a point before this and one from it on was not looked at.
    since: i128,
    /// Rows of the source that would be refused.
    pub(super) refused: u64,
    /// Keys whose unequal rows fail their slices.
    pub(super) failing: u64,
}

impl Fold {
    /// Without a cadence no bucket is counted, but rows and differences are.
    pub(super) fn new(grid: Option<(Every, TimeZone)>) -> Self {
        Fold {
            grid,
            series: HashMap::new(),
            room: MOST_HOLES,
            signs: Signs::default(),
            since: i128::MIN,
            refused: 0,
            failing: 0,
        }
    }

    /// Nothing between what was taken and this time is looked at.
    pub(super) fn skip_to(&mut self, time: Timestamp) {
        self.since = time.as_nanosecond();
    }

    /// Takes a stretch that lies after all that were taken. Gives how many rows are fillable.
    pub(super) fn take(&mut self, stretch: Stretch) -> Result<u64> {
        let Fold { grid, series, room, signs, since, .. } = self;
        self.refused += stretch.refused;
        self.failing += stretch.failing;
        let mut names = stretch.names;
        let mut fillable = 0;
        for of_one in stretch.points.chunk_by(|a, b| a.series == b.series) {
            let id = of_one[0].series;
            let one = series.entry(id).or_insert_with(|| One {
                key: names.remove(&id).unwrap_or_default(),
                ..One::default()
            });
            for point in of_one {
                fillable += point.missing;
                one.break_off(*since);
                one.take(point, grid.as_ref(), room, signs)?;
            }
        }
        Ok(fillable)
    }

    /// What the differences of all keys say.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for one in self.sorted() {
            tally.take(&one.differences, || shown(&one.key));
        }
        tally
    }

    fn sorted(&self) -> Vec<&One> {
        let mut list: Vec<_> = self.series.values().collect();
        list.sort_by(|a, b| (&a.key, a.last).cmp(&(&b.key, b.last)));
        list
    }

    /// What makes the cadence look wrong, in plain sentences.
    pub(super) fn doubts(&self, every: Every) -> Vec<String> {
        let mut list = self.tally().doubts(every, self.series.len() as u64);
        let Signs { points, buckets, absent, torn } = self.signs;
        if list.is_empty() && absent > buckets {
            list.push(format!(
                "more buckets of {every} are absent ({absent}) than there ({buckets}): rows may \
                 come less often"
            ));
        }
        if list.is_empty() && points >= 2 * buckets && buckets > 0 {
            list.push(format!(
                "{points} times lie in {buckets} buckets of {every}: rows may come more often, and \
                 a hole shorter than a bucket is not seen"
            ));
        }
        if torn > 0 && torn * 10 >= absent {
            list.push(format!(
                "{torn} of {absent} absent buckets stand beside one with two rows: times seem to \
                 wander over the bounds of the buckets"
            ));
        }
        list
    }

    /// Every key, by its values.
    pub(super) fn finish(self) -> Result<Vec<Series>> {
        let mut list: Vec<_> = self.series.into_values().collect();
        list.sort_by(|a, b| (&a.key, a.last).cmp(&(&b.key, b.last)));
        list.into_iter().map(One::finish).collect()
    }
}

/// A key in one word.
fn shown(key: &[Cell]) -> String {
    let list: Vec<_> = key.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
    format!("`{}`", list.join(", "))
}

fn instant(time: i128) -> Result<Timestamp> {
    Timestamp::from_nanosecond(time)
        .map_err(|e| Error::config("a time lies outside the calendar").because(e))
}

impl One {
    fn take(
        &mut self,
        point: &Point,
        grid: Option<&(Every, TimeZone)>,
        room: &mut usize,
        signs: &mut Signs,
    ) -> Result<()> {
        let last = self.last.replace(point.time);
        if let Some(last) = last.filter(|_| self.open.as_ref().is_none_or(|open| !open.is_over)) {
            self.differences.add(point.time - last);
        }
        self.fillable.rows += point.missing;
        signs.points += 1;
        let Some((every, zone)) = grid else { return Ok(()) };
        let time = instant(point.time)?;
        match self.open.as_mut().filter(|open| !open.is_over) {
            Some(open) if time < open.bucket.end => {
                open.points += 1;
                signs.torn += u64::from(std::mem::take(&mut open.after_one));
            }
            _ => self.enter(every.cell(time, zone)?, room, signs),
        }
        let Some(open) = self.open.as_mut().filter(|o| point.missing > 0 && !o.fillable) else {
            return Ok(());
        };
        open.fillable = true;
        let Bucket { number, start, end } = open.bucket;
        self.fillable.take(number, number, Interval::new(start, end)?, room);
        Ok(())
    }

    /// What was taken before this time is not followed by what comes now.
    fn break_off(&mut self, since: i128) {
        if let Some(open) = self.open.as_mut().filter(|_| self.last.is_some_and(|t| t < since)) {
            open.is_over = true;
        }
    }

    /// Goes on to another bucket.
    fn enter(&mut self, bucket: Bucket, room: &mut usize, signs: &mut Signs) {
        self.start.get_or_insert(bucket.start);
        self.buckets += 1;
        signs.buckets += 1;
        let mut after_one = false;
        if let Some(before) = self.open.as_ref().filter(|open| !open.is_over) {
            let (first, last) = (before.bucket.number + 1, bucket.number - 1);
            // A day that a zone left out has a number and no time.
            if first <= last
                && let Ok(within) = Interval::new(before.bucket.end, bucket.start)
            {
                self.absent.take(first, last, within, room);
                signs.absent += last.abs_diff(first) + 1;
                let one = first == last;
                signs.torn += u64::from(one && before.points > 1);
                after_one = one && before.points == 1;
            }
        }
        self.open = Some(Open { bucket, points: 1, fillable: false, after_one, is_over: false });
    }

    fn finish(self) -> Result<Series> {
        let One { key, start, last, open, buckets, fillable, absent, .. } = self;
        let at = instant(last.unwrap_or_default())?;
        let start = start.unwrap_or(at);
        // Without buckets: the last row and the smallest time there is.
        let end = open.map_or(at + std::time::Duration::from_nanos(1), |o| o.bucket.end);
        Ok(Series { key, span: Interval::new(start, end)?, buckets, fillable, absent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_that_are_not_kept_are_counted() {
        let within = |a: i64, b: i64| {
            let t = |s| Timestamp::from_second(s).unwrap();
            Interval::new(t(a), t(b)).unwrap()
        };
        let (mut missing, mut room) = (Missing::default(), 2);
        for (first, last) in [(1, 2), (3, 3), (7, 7), (9, 9), (10, 12), (20, 20)] {
            missing.take(first, last, within(first, last + 1), &mut room);
        }
        assert_eq!((missing.buckets, missing.left_out), (9, 2));
        let kept: Vec<_> = missing.holes.iter().map(|h| (h.interval, h.buckets)).collect();
        assert_eq!(kept, [(within(1, 4), 3), (within(7, 8), 1)]);
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_no_hole() {
        // Samoa went from the 29th to the 31st.
        let zone = crate::calendar::zone("Pacific/Apia").unwrap();
        let mut fold = Fold::new(Some((Every::Days(1), zone)));
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_nanosecond();
        let noon = ["2011-12-28T22:00:00Z", "2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"];
        let point = |text: &str| Point { series: 0, time: at(text), missing: 1 };
        let points: Vec<_> = noon.into_iter().map(point).collect();
        assert_eq!(fold.take(Stretch { points, ..Stretch::default() }).unwrap(), 3);
        let series = fold.finish().unwrap();
        assert_eq!((series[0].buckets, series[0].absent.buckets), (3, 0));
    }

    #[test]
    fn what_was_not_looked_at_is_no_hole() {
        let minute = |m: i64| Timestamp::from_second(m * 60).unwrap();
        let mut fold = Fold::new(Some((Every::Seconds(60), TimeZone::UTC)));
        let mut take = |minutes: [i64; 2], since: Option<i64>| {
            if let Some(since) = since {
                fold.skip_to(minute(since));
            }
            let point = |m| Point { series: 0, time: minute(m).as_nanosecond(), missing: 0 };
            let points = minutes.map(point).to_vec();
            fold.take(Stretch { points, ..Stretch::default() }).unwrap();
        };
        take([0, 2], None);
        take([100, 102], Some(100));
        let series = fold.finish().unwrap();
        assert_eq!((series[0].buckets, series[0].absent.buckets), (4, 2));
    }
}
