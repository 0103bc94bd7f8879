//! How the times of a file run, told by the parts of it that were looked at.

use jiff::Timestamp;
use retrofill_core::survey::Block;

use super::names::list;

/// Ranges of blocks together, in ranges of the file, that rows in order do not reach.
const DISORDER: f64 = 1.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
    /// Rows lie in no order of time.
    None,
}

/// First and last time.
pub(crate) type Range = (Timestamp, Timestamp);

/// Where the rows of a file lie in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    direction: Direction,
    /// Of all that was looked at.
    seen: Range,
}

impl Course {
    /// That of these blocks, in the order of the file; none where none of them has rows.
    pub(crate) fn of(seen: &[Block]) -> Option<Course> {
        let filled = || seen.iter().filter(|b| b.rows > 0);
        let (min, max) = (filled().map(|b| b.min).min()?, filled().map(|b| b.max).max()?);
        let middle = |b: &Block| b.min.as_nanosecond() + b.max.as_nanosecond();
        let middles: Vec<_> = filled().map(middle).collect();
        let each: i128 = filled().map(|b| length((b.min, b.max))).sum();
        let direction = if each as f64 > DISORDER * length((min, max)) as f64 {
            Direction::None
        } else if middles.is_sorted() {
            Direction::Up
        } else if middles.is_sorted_by(|a, b| a >= b) {
            Direction::Down
        } else {
            Direction::None
        };
        Some(Course { direction, seen: (min, max) })
    }

    /// Whether rows follow each other in time.
    pub(crate) fn is_ordered(&self) -> bool {
        self.direction != Direction::None
    }

    /// Where rows may lie that stand between these two blocks, which have rows.
    pub(crate) fn between(&self, before: &Block, after: &Block) -> Range {
        match self.direction {
            Direction::Up if before.max <= after.min => (before.max, after.min),
            Direction::Down if after.max <= before.min => (after.max, before.min),
            // Neighbours that overlap a little.
            Direction::Up | Direction::Down => {
                (before.min.min(after.min), before.max.max(after.max))
            }
            Direction::None => self.seen,
        }
    }

    /// Where rows may lie that stand behind all that was looked at, if they are so many times as
    /// many and go on as those did. `next` is where the next file begins.
    pub(crate) fn behind(&self, times: f64, next: Option<Timestamp>) -> Range {
        let (min, max) = self.seen;
        let more = (length(self.seen) as f64 * times) as i128;
        let at = |t: Timestamp, by: i128| {
            Timestamp::from_nanosecond(t.as_nanosecond().saturating_add(by)).unwrap_or(t)
        };
        match self.direction {
            Direction::Up => {
                let end = at(max, more);
                (max, next.filter(|next| max < *next && *next < end).unwrap_or(end))
            }
            Direction::Down => (at(min, -more), min),
            Direction::None => self.seen,
        }
    }

    /// The earliest time that was seen.
    pub(crate) fn start(&self) -> Timestamp {
        self.seen.0
    }
}

fn length((min, max): Range) -> i128 {
    max.as_nanosecond() - min.as_nanosecond()
}

/// What there is to say of these files; nothing where there is none.
pub(super) fn said(files: &[String], of_one: &str, of_many: &str) -> Option<String> {
    let what = if files.len() == 1 { of_one } else { of_many };
    (!files.is_empty()).then(|| format!("{} {what}", list(files)))
}

/// What there is to say of files whose rows lie in no order of time.
pub(crate) fn disorder(files: &[String]) -> Option<String> {
    said(
        files,
        "is not ordered by time: it may hold earlier and later rows than the sample has",
        "are not ordered by time: they may hold earlier and later rows than the sample has",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(min: i64, max: i64) -> Block {
        let t = |s| Timestamp::from_second(s).unwrap();
        let (min, max) = (t(min), t(max));
        Block { file: 0, offset: 0, length: 1, line: 1, rows: 1, min, max, hash: String::new() }
    }

    fn seconds((min, max): Range) -> (i64, i64) {
        (min.as_second(), max.as_second())
    }

    #[test]
    fn rows_in_order_lie_between_their_neighbours() {
        let up = [block(0, 9), block(50, 59), block(90, 99)];
        let course = Course::of(&up).unwrap();
        assert_eq!(seconds(course.between(&up[0], &up[1])), (9, 50));
        assert_eq!(seconds(course.behind(2.0, None)), (99, 99 + 2 * 99));
        let next = Timestamp::from_second(120).ok();
        assert_eq!(seconds(course.behind(2.0, next)), (99, 120));
        let down = [block(90, 99), block(50, 59)];
        let course = Course::of(&down).unwrap();
        assert_eq!(seconds(course.between(&down[0], &down[1])), (59, 90));
        assert_eq!(seconds(course.behind(1.0, None)), (50 - 49, 50));
    }

    #[test]
    fn rows_without_order_may_lie_anywhere() {
        for list in [
            vec![block(0, 90), block(5, 99), block(1, 98)],
            // One series behind the other.
            vec![block(0, 9), block(60, 69), block(20, 29), block(90, 99)],
        ] {
            let course = Course::of(&list).unwrap();
            assert!(!course.is_ordered());
            assert_eq!(seconds(course.between(&list[0], &list[1])), (0, 99));
            assert_eq!(seconds(course.behind(9.0, None)), (0, 99));
        }
        assert!(Course::of(&[]).is_none());
    }
}
