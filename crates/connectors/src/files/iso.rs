//! Takes times apart as they are written, without asking in which zone.

use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime};

use super::time::Reason;

pub(super) const LEAP: &str = "the second is not 0 to 59";

/// A date and time of day as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Civil {
    /// Days since 1970.
    pub(super) days: i64,
    pub(super) second_of_day: i64,
    pub(super) nanos: u32,
    /// Seconds east of UTC.
    pub(super) offset: Option<i64>,
    pub(super) date_only: bool,
}

impl Civil {
    /// The same for jiff.
    pub(super) fn datetime(&self) -> DateTime {
        let first = Date::constant(1970, 1, 1).to_datetime(jiff::civil::Time::midnight());
        // Years 0 to 9999 are all within jiff's range.
        let day = first.saturating_add(self.days.days());
        day.saturating_add(self.second_of_day.seconds())
            .saturating_add(i64::from(self.nanos).nanoseconds())
    }
}

/// Days since 1970 of a date in the years 0 to 9999; none where there is no such day.
fn days(year: u32, month: u32, day: u32) -> Option<i64> {
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const LENGTH: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let index = month.checked_sub(1)? as usize;
    let length = LENGTH.get(index)? + u32::from(leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    let years = 365 * year + year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    let of_year = BEFORE[index] + u32::from(leap && month > 2) + day - 1;
    Some(i64::from(years + of_year) - 719_528)
}

fn number(digits: &[u8]) -> Option<u32> {
    let mut n = 0;
    for b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n * 10 + u32::from(d);
    }
    Some(n)
}

pub(super) const NO_TIME: &str = "is not a time";

/// `YYYY-MM-DD`, and what is behind it.
fn date(text: &[u8]) -> Result<(i64, &[u8]), Reason> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, rest @ ..] = text else {
        return Err(NO_TIME.into());
    };
    let year = number(&[*y0, *y1, *y2, *y3]).ok_or(NO_TIME)?;
    let month = number(&[*m0, *m1]).ok_or(NO_TIME)?;
    let day = number(&[*d0, *d1]).ok_or(NO_TIME)?;
    Ok((days(year, month, day).ok_or("there is no such day")?, rest))
}

/// Days since 1970 of exactly `YYYY-MM-DD`.
pub(super) fn read_date(text: &[u8]) -> Result<i64, Reason> {
    match date(text)? {
        (days, []) => Ok(days),
        _ => Err("is not a date".into()),
    }
}

/// Whether a number may well be meant as `YYYYMMDD`, alone or with `HHMMSS` behind it.
pub(super) fn is_compact_date(text: &[u8]) -> bool {
    let ([y0, y1, y2, y3, m0, m1, d0, d1] | [y0, y1, y2, y3, m0, m1, d0, d1, _, _, _, _, _, _]) =
        text
    else {
        return false;
    };
    let year = number(&[*y0, *y1, *y2, *y3]).filter(|y| (1900..2100).contains(y));
    let (month, day) = (number(&[*m0, *m1]), number(&[*d0, *d1]));
    year.zip(month.zip(day)).is_some_and(|(y, (m, d))| days(y, m, d).is_some())
}

/// `YYYY-MM-DD[ T]HH:MM[:SS[.f]]` with or without `Z` or an offset, or the date alone.
pub(super) fn iso(text: &[u8]) -> Result<Civil, Reason> {
    let (days, rest) = date(text)?;
    let mut civil = Civil { days, second_of_day: 0, nanos: 0, offset: None, date_only: true };
    if rest.is_empty() {
        return Ok(civil);
    }
    let [b' ' | b'T' | b't', h0, h1, b':', m0, m1, rest @ ..] = rest else {
        return Err(NO_TIME.into());
    };
    let hour = number(&[*h0, *h1]).ok_or(NO_TIME)?;
    let minute = number(&[*m0, *m1]).ok_or(NO_TIME)?;
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (number(&[*s0, *s1]).ok_or(NO_TIME)?, rest),
        _ => (0, rest),
    };
    if hour > 23 {
        return Err("the hour is not 0 to 23".into());
    }
    if minute > 59 {
        return Err("the minute is not 0 to 59".into());
    }
    if second > 59 {
        return Err(LEAP.into());
    }
    let (nanos, rest) = match rest {
        [b'.', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    civil.second_of_day = i64::from(hour * 3600 + minute * 60 + second);
    civil.nanos = nanos;
    civil.offset = offset(rest)?;
    civil.date_only = false;
    Ok(civil)
}

/// Nanoseconds from the digits behind a point, and what is behind them.
pub(super) fn fraction(text: &[u8]) -> Result<(u32, &[u8]), Reason> {
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(count);
    if digits.is_empty() {
        return Err(NO_TIME.into());
    }
    if digits.len() > 9 && digits[9..].iter().any(|b| *b != b'0') {
        return Err("is finer than a nanosecond".into());
    }
    let kept = &digits[..digits.len().min(9)];
    let n = number(kept).ok_or(NO_TIME)?;
    Ok((n * 10_u32.pow(9 - kept.len() as u32), rest))
}

/// `Z`, `+hh:mm`, `+hhmm`, `+hh` or nothing.
fn offset(text: &[u8]) -> Result<Option<i64>, Reason> {
    let (sign, hours, minutes) = match text {
        [] => return Ok(None),
        [b'Z' | b'z'] => return Ok(Some(0)),
        [s, h0, h1] => (s, [*h0, *h1], [b'0', b'0']),
        [s, h0, h1, b':', m0, m1] | [s, h0, h1, m0, m1] => (s, [*h0, *h1], [*m0, *m1]),
        _ => return Err(NO_TIME.into()),
    };
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return Err(NO_TIME.into()),
    };
    let hours = number(&hours).ok_or(NO_TIME)?;
    let minutes = number(&minutes).ok_or(NO_TIME)?;
    if hours > 23 || minutes > 59 {
        return Err("the offset from UTC is not within 23:59".into());
    }
    Ok(Some(sign * i64::from(hours * 3600 + minutes * 60)))
}

/// A whole number and the text of the fraction behind it.
pub(super) fn epoch_parts(text: &[u8]) -> Result<(i64, &[u8]), Reason> {
    let (whole, rest) = match memchr::memchr(b'.', text) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &text[text.len()..]),
    };
    let digits = whole.strip_prefix(b"-").unwrap_or(whole);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let empty_fraction = rest.is_empty() && whole.len() != text.len();
    if !plain || empty_fraction || !rest.iter().all(u8::is_ascii_digit) {
        return Err("is not a number of units since 1970".into());
    }
    let number = lexical_core::parse::<i64>(whole)
        .map_err(|_| Reason::from("is too large for a number of units since 1970"))?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_agrees_with_jiff() {
        let mut day = Date::constant(0, 1, 1);
        let mut want = Date::constant(1970, 1, 1).until(day).unwrap().get_days();
        while day.year() < 9999 || day.month() < 12 || day.day() < 31 {
            let (y, m, d) = (day.year() as u32, day.month() as u32, day.day() as u32);
            assert_eq!(days(y, m, d), Some(i64::from(want)), "{day}");
            if day == day.last_of_month() {
                assert_eq!(days(y, m, d + 1), None, "{day}");
            }
            day = day.tomorrow().unwrap();
            want += 1;
        }
    }
}
