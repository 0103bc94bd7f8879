//! Half-open stretches of time.

use std::fmt;

use arrow::datatypes::TimeUnit;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A stretch of time `[start, end)`, in UTC, never empty.
///
/// ```
/// use retrofill_core::interval::Interval;
/// let day = Interval::parse("2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z")?;
/// assert!(day.contains("2013-01-01T00:00:00Z".parse()?));
/// assert!(!day.contains("2013-01-02T00:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bounds", into = "Bounds")]
pub struct Interval {
    start: Timestamp,
    end: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Bounds {
    from: Timestamp,
    to: Timestamp,
}

impl TryFrom<Bounds> for Interval {
    type Error = Error;
    fn try_from(b: Bounds) -> Result<Self> {
        Interval::new(b.from, b.to)
    }
}

impl From<Interval> for Bounds {
    fn from(i: Interval) -> Self {
        Bounds { from: i.start, to: i.end }
    }
}

impl Interval {
    /// The interval `[start, end)`; an error where it would be empty or reversed.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self> {
        if start < end {
            return Ok(Interval { start, end });
        }
        Err(Error::config(format!("the interval from {start} to {end} is empty"))
            .hint("`to` is exclusive and must lie after `from`"))
    }

    /// Both ends as RFC 3339 text.
    pub fn parse(start: &str, end: &str) -> Result<Self> {
        let parse = |text: &str| {
            text.parse::<Timestamp>()
                .map_err(|e| Error::config(format!("`{text}` is not a time")).because(e))
        };
        Interval::new(parse(start)?, parse(end)?)
    }

    /// The first instant inside.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// Whether `t` lies inside.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.start <= t && t < self.end
    }

    /// Whether the two share an instant.
    pub fn overlaps(&self, other: &Interval) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What the two share.
    pub fn intersect(&self, other: &Interval) -> Option<Interval> {
        Interval::new(self.start.max(other.start), self.end.min(other.end)).ok()
    }

    /// Length in nanoseconds.
    pub fn nanoseconds(&self) -> i128 {
        self.end.as_nanosecond() - self.start.as_nanosecond()
    }

    /// The two halves, cut at a whole microsecond; none where the interval is too short.
    pub fn halves(&self) -> Option<(Interval, Interval)> {
        let middle = (self.start.as_microsecond() + self.end.as_microsecond()).div_euclid(2);
        let middle = Timestamp::from_microsecond(middle).ok()?;
        Some((Interval::new(self.start, middle).ok()?, Interval::new(middle, self.end).ok()?))
    }

    /// The bounds `(first, last + 1)` for whole numbers of `unit` since 1970: a number `n` lies
    /// inside exactly when `first <= n && n < last + 1`. Clamped to what 64 bits hold.
    pub fn bounds(&self, unit: TimeUnit) -> (i64, i64) {
        let per: i128 = match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        };
        let ceil = |t: Timestamp| {
            let n = t.as_nanosecond();
            let up = n.div_euclid(per) + i128::from(n.rem_euclid(per) != 0);
            up.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
        };
        (ceil(self.start), ceil(self.end))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <= t < {}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_with_contains() {
        let i = Interval::parse("1969-12-31T23:59:59.0000005Z", "1970-01-01T00:00:01.5Z").unwrap();
        let (low, high) = i.bounds(TimeUnit::Microsecond);
        for n in [-1_000_001, -1_000_000, -999_999, -1, 0, 1_499_999, 1_500_000] {
            let inside = i.contains(Timestamp::from_microsecond(n).unwrap());
            assert_eq!(inside, low <= n && n < high, "{n}");
        }
        assert_eq!(i.bounds(TimeUnit::Second), (0, 2));
    }

    #[test]
    fn empty_and_reversed_are_refused() {
        assert!(Interval::parse("2013-01-01T00:00:00Z", "2013-01-01T00:00:00Z").is_err());
        assert!(Interval::parse("2014-01-01T00:00:00Z", "2013-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn halves_cover_exactly() {
        let i = Interval::parse("2013-01-01T00:00:00Z", "2013-01-01T00:00:00.000003Z").unwrap();
        let (a, b) = i.halves().unwrap();
        assert_eq!((a.start(), a.end(), b.end()), (i.start(), b.start(), i.end()));
        assert!(a.halves().is_none());
    }
}
