//! Calendar arithmetic: the grid that slices lie on.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::interval::Interval;

/// The size of a slice. `s`, `min` and `h` are elapsed time on a grid from 1970-01-01T00:00Z;
/// `d`, `w`, `mo` and `y` are calendar units in the plan's time zone, so `1d` is not `24h` on
/// days when the clocks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Every {
    /// Seconds of elapsed time.
    Seconds(u32),
    /// Minutes of elapsed time.
    Minutes(u32),
    /// Hours of elapsed time.
    Hours(u32),
    /// Calendar days, counted from 1970-01-01.
    Days(u32),
    /// Weeks from Monday, counted from 1969-12-29.
    Weeks(u32),
    /// Calendar months, counted from January 1970.
    Months(u32),
    /// Calendar years, counted from 1970.
    Years(u32),
}

impl FromStr for Every {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!("`{text}` is not a slice size"))
                .hint("a whole number and a unit: s min h (elapsed), d w mo y (calendar); or auto")
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: u32 = text[..digits].parse().map_err(|_| wrong())?;
        if n == 0 || n > 1_000_000 {
            return Err(wrong());
        }
        match &text[digits..] {
            "s" => Ok(Every::Seconds(n)),
            "min" => Ok(Every::Minutes(n)),
            "h" => Ok(Every::Hours(n)),
            "d" => Ok(Every::Days(n)),
            "w" => Ok(Every::Weeks(n)),
            "mo" => Ok(Every::Months(n)),
            "y" => Ok(Every::Years(n)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Every {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Every> for String {
    fn from(every: Every) -> Self {
        every.to_string()
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Every::Seconds(n) => write!(f, "{n}s"),
            Every::Minutes(n) => write!(f, "{n}min"),
            Every::Hours(n) => write!(f, "{n}h"),
            Every::Days(n) => write!(f, "{n}d"),
            Every::Weeks(n) => write!(f, "{n}w"),
            Every::Months(n) => write!(f, "{n}mo"),
            Every::Years(n) => write!(f, "{n}y"),
        }
    }
}

/// The time zone of this IANA name.
pub fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|e| {
        Error::config(format!("`{name}` is not a time zone"))
            .because(e)
            .hint("an IANA name such as `Europe/Berlin`, or `UTC`")
    })
}

/// The first day of 1970.
const EPOCH: Date = date(1970, 1, 1);

/// The first Monday that weeks are counted from.
const MONDAY: Date = date(1969, 12, 29);

/// A piece of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Which one: neighbours differ by 1.
    pub(crate) number: i64,
    /// The first instant inside.
    pub(crate) start: Timestamp,
    /// The first instant after.
    pub(crate) end: Timestamp,
}

impl Every {
    fn elapsed_seconds(self) -> Option<i64> {
        match self {
            Every::Seconds(n) => Some(i64::from(n)),
            Every::Minutes(n) => Some(i64::from(n) * 60),
            Every::Hours(n) => Some(i64::from(n) * 3600),
            _ => None,
        }
    }

    /// The last grid boundary at or before `t`.
    pub fn floor(self, t: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let far = || Error::config(format!("{t} lies outside the calendar"));
        if let Some(length) = self.elapsed_seconds() {
            let seconds = t.as_nanosecond().div_euclid(1_000_000_000) as i64;
            let floor = seconds.div_euclid(length) * length;
            return Timestamp::from_second(floor).map_err(|e| far().because(e));
        }
        let local = t.to_zoned(zone.clone()).date();
        let floor = self.floor_date(local).ok_or_else(far)?;
        let mut boundary = midnight(floor, zone)?;
        // Where midnight does not exist, the day begins later; `t` may lie before that.
        while boundary > t {
            let before = floor.checked_sub(1.day()).map_err(|e| far().because(e))?;
            boundary = midnight(self.floor_date(before).ok_or_else(far)?, zone)?;
        }
        Ok(boundary)
    }

    fn floor_date(self, day: Date) -> Option<Date> {
        let days = |d: Date| (d - EPOCH).get_days();
        match self {
            Every::Days(n) => {
                let n = i32::try_from(n).ok()?;
                EPOCH.checked_add(Span::new().days(days(day).div_euclid(n) * n)).ok()
            }
            Every::Weeks(n) => {
                debug_assert_eq!(MONDAY.weekday(), Weekday::Monday);
                let n = i32::try_from(n).ok()?.checked_mul(7)?;
                let since = (day - MONDAY).get_days();
                MONDAY.checked_add(Span::new().days(since.div_euclid(n) * n)).ok()
            }
            Every::Months(n) => {
                let n = i32::try_from(n).ok()?;
                let months = (i32::from(day.year()) - 1970) * 12 + i32::from(day.month()) - 1;
                EPOCH.checked_add(Span::new().months(months.div_euclid(n) * n)).ok()
            }
            Every::Years(n) => {
                let n = i32::try_from(n).ok()?;
                let years = i32::from(day.year()) - 1970;
                EPOCH.checked_add(Span::new().years(years.div_euclid(n) * n)).ok()
            }
            Every::Seconds(_) | Every::Minutes(_) | Every::Hours(_) => None,
        }
    }

    /// The first grid boundary after the boundary `t`.
    pub fn after(self, t: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let far = || Error::config(format!("the slice after {t} lies outside the calendar"));
        if let Some(length) = self.elapsed_seconds() {
            let seconds = t.as_second().checked_add(length).ok_or_else(far)?;
            return Timestamp::from_second(seconds).map_err(|e| far().because(e));
        }
        let span = match self {
            Every::Days(n) => Span::new().try_days(n),
            Every::Weeks(n) => Span::new().try_weeks(n),
            Every::Months(n) => Span::new().try_months(n),
            _ => Span::new().try_years(match self {
                Every::Years(n) => n,
                _ => 1,
            }),
        }
        .map_err(|e| far().because(e))?;
        let day = t.to_zoned(zone.clone()).date();
        let next = day.checked_add(span).map_err(|e| far().because(e))?;
        midnight(next, zone)
    }

    /// The first grid boundary at or after `t`.
    pub fn ceil(self, t: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let floor = self.floor(t, zone)?;
        if floor == t { Ok(t) } else { self.after(floor, zone) }
    }

    /// The piece of the grid that `t` lies in.
    pub(crate) fn cell(self, t: Timestamp, zone: &TimeZone) -> Result<Cell> {
        let start = self.floor(t, zone)?;
        let date = || start.to_zoned(zone.clone()).date();
        let days = |since: Date| i64::from((date() - since).get_days());
        let number = match (self, self.elapsed_seconds()) {
            (_, Some(length)) => start.as_second().div_euclid(length),
            (Every::Days(n), _) => days(EPOCH).div_euclid(i64::from(n)),
            (Every::Weeks(n), _) => days(MONDAY).div_euclid(i64::from(n) * 7),
            (Every::Months(n), _) => {
                let months = (i64::from(date().year()) - 1970) * 12 + i64::from(date().month()) - 1;
                months.div_euclid(i64::from(n))
            }
            (_, None) => {
                let Every::Years(n) = self else { return Err(Error::bug("no such length")) };
                (i64::from(date().year()) - 1970).div_euclid(i64::from(n))
            }
        };
        // The last piece of the calendar has no boundary behind it.
        let end = self.after(start, zone).unwrap_or(Timestamp::MAX);
        Ok(Cell { number, start, end })
    }

    /// About how long it is: months and years have their mean length.
    pub fn nominal_seconds(self) -> u64 {
        match self {
            Every::Seconds(n) => u64::from(n),
            Every::Minutes(n) => u64::from(n) * 60,
            Every::Hours(n) => u64::from(n) * 3_600,
            Every::Days(n) => u64::from(n) * 86_400,
            Every::Weeks(n) => u64::from(n) * 604_800,
            Every::Months(n) => u64::from(n) * 2_629_746,
            Every::Years(n) => u64::from(n) * 31_556_952,
        }
    }

    /// Cuts the range at the grid; the first and the last piece may be shorter.
    pub fn slices(self, range: &Interval, zone: &TimeZone) -> Result<Vec<Interval>> {
        let mut out = Vec::new();
        let mut start = range.start();
        let mut boundary = self.after(self.floor(start, zone)?, zone)?;
        while start < range.end() {
            let end = boundary.min(range.end());
            out.push(Interval::new(start, end)?);
            if out.len() > MAX_SLICES {
                return Err(Error::config(format!(
                    "`every: {self}` cuts {range} into more than {MAX_SLICES} slices"
                ))
                .hint("choose a larger `every`, or a shorter range"));
            }
            start = end;
            if start < range.end() {
                boundary = self.after(boundary, zone)?;
            }
        }
        Ok(out)
    }
}

/// More slices than this in one plan are taken for a mistake in `every`.
pub const MAX_SLICES: usize = 1_000_000;

/// The first instant of a day.
fn midnight(day: Date, zone: &TimeZone) -> Result<Timestamp> {
    day.to_zoned(zone.clone())
        .map(|z| z.timestamp())
        .map_err(|e| Error::config(format!("{day} lies outside the calendar")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(every: &str, from: &str, to: &str, name: &str) -> Vec<String> {
        let range = Interval::parse(from, to).unwrap();
        let every: Every = every.parse().unwrap();
        let list = every.slices(&range, &zone(name).unwrap()).unwrap();
        assert_eq!(list[0].start(), range.start());
        assert_eq!(list[list.len() - 1].end(), range.end());
        assert!(list.windows(2).all(|w| w[0].end() == w[1].start()));
        list.iter().map(|i| i.start().to_string()).collect()
    }

    #[test]
    fn a_day_is_not_24_hours_when_clocks_change() {
        let berlin = |every| {
            let (from, to) = ("2019-03-30T23:00:00Z", "2019-04-01T22:00:00Z");
            slices(every, from, to, "Europe/Berlin")
        };
        assert_eq!(berlin("1d"), ["2019-03-30T23:00:00Z", "2019-03-31T22:00:00Z"]);
        assert_eq!(
            berlin("24h"),
            ["2019-03-30T23:00:00Z", "2019-03-31T00:00:00Z", "2019-04-01T00:00:00Z"]
        );
    }

    #[test]
    fn a_day_without_midnight_begins_later() {
        // In Sao Paulo clocks went from 2018-11-03 24:00 to 2018-11-04 01:00.
        let (from, to) = ("2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z");
        assert_eq!(
            slices("1d", from, to, "America/Sao_Paulo"),
            ["2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"]
        );
    }

    #[test]
    fn the_grid_does_not_depend_on_the_range() {
        let (to, zone) = ("2020-06-01T00:00:00Z", "UTC");
        let early = slices("3mo", "2019-12-05T00:00:00Z", to, zone);
        let late = slices("3mo", "2020-01-20T00:00:00Z", to, zone);
        assert_eq!(early, ["2019-12-05T00:00:00Z", "2020-01-01T00:00:00Z", "2020-04-01T00:00:00Z"]);
        assert_eq!(late, ["2020-01-20T00:00:00Z", "2020-04-01T00:00:00Z"]);
        let weeks = slices("2w", "1969-12-01T00:00:00Z", "1970-02-01T00:00:00Z", zone);
        assert_eq!(weeks[2], "1969-12-29T00:00:00Z");
    }

    #[test]
    fn pieces_are_numbered_as_they_follow_each_other() {
        let range = Interval::parse("1967-10-28T21:30:00Z", "1972-03-02T00:00:00Z").unwrap();
        for (every, name) in [
            ("90min", "UTC"),
            ("1d", "America/Sao_Paulo"),
            ("3d", "Europe/London"),
            ("2w", "UTC"),
            ("1mo", "Europe/London"),
            ("5mo", "UTC"),
            ("1y", "UTC"),
        ] {
            let (every, zone): (Every, _) = (every.parse().unwrap(), zone(name).unwrap());
            let slices = every.slices(&range, &zone).unwrap();
            let first = every.cell(range.start(), &zone).unwrap();
            for (i, slice) in slices.iter().enumerate() {
                let last = slice.end() - std::time::Duration::from_nanos(1);
                for t in [slice.start(), last] {
                    let cell = every.cell(t, &zone).unwrap();
                    assert_eq!(cell.number, first.number + i as i64, "{every} {t}");
                    assert!(cell.start <= slice.start() && slice.end() <= cell.end, "{every} {t}");
                }
            }
        }
    }

    #[test]
    fn sizes_read_and_print_alike() {
        for text in ["90s", "15min", "6h", "1d", "2w", "1mo", "10y"] {
            assert_eq!(text.parse::<Every>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0d", "mo", "1m", "-1d", "1 d", "99999999d"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }
}
