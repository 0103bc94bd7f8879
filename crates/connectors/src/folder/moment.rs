//! Times as text, in the form that the folder has.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::columns::Precision;
use retrofill_core::survey::TimeUnitSeen;

use super::contents::Contents;
use crate::files::{Form, Moment};

const DAY: i64 = 86_400;

/// How the times of rows are written: as in the first file of others, so that one reader reads
/// both alike.
#[derive(Debug, Clone)]
pub(super) enum Times {
    /// RFC 3339 in UTC.
    Zoned,
    /// Date and time in this zone; the date alone where `days`.
    Local { zone: TimeZone, days: bool },
    /// A number of these units since 1970.
    Epoch(Precision),
}

impl Times {
    /// That of the folder; `zone` is the setting.
    pub(super) fn of(contents: &Contents, zone: &str) -> Times {
        let foreign = contents.values().filter(|p| p.named.is_none());
        let surveys = foreign.filter_map(|p| p.survey.get()?.1.as_ref().ok());
        let seen = surveys.filter_map(|s| Some((Form::named(s.time_form.as_ref()?)?, s.time_unit)));
        match seen.into_iter().next() {
            Some((Form::Local, unit)) => Times::Local {
                zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC),
                days: unit == Some(TimeUnitSeen::Day),
            },
            Some((Form::Epoch(unit), _)) => Times::Epoch(unit),
            _ => Times::Zoned,
        }
    }

    /// Whether a value is a number, not a text.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Times::Epoch(_))
    }

    /// Writes a point in time, or says why it cannot be written.
    pub(super) fn write(&self, t: Moment, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Times::Zoned => {
                civil(t.seconds, t.nanos, b'T', out)?;
                out.push(b'Z');
                Ok(())
            }
            Times::Epoch(unit) => {
                let number = t.whole(*unit).ok_or("is finer than the numbers of the folder")?;
                let from = out.len();
                let _ = write!(out, "{number}");
                // Who reads the file alone has nothing else to go by.
                let read = Form::guess([&out[from..]].into_iter());
                if number != 0 && read != Some(Form::Epoch(*unit)) {
                    return Err("is a number by whose size another unit would be read".into());
                }
                Ok(())
            }
            Times::Local { zone, days } => {
                let seconds = local(t, zone)?;
                if *days {
                    if seconds.rem_euclid(DAY) != 0 || t.nanos != 0 {
                        return Err("is no whole day, as all times of the folder are".into());
                    }
                    return date(seconds.div_euclid(DAY), out);
                }
                civil(seconds, t.nanos, b' ', out)
            }
        }
    }
}

/// Seconds that a clock on the wall shows, if no other moment shows the same.
fn local(t: Moment, zone: &TimeZone) -> Result<i64, String> {
    if *zone == TimeZone::UTC {
        return Ok(t.seconds);
    }
    let beyond = "lies outside of the years that can be written";
    let timestamp = Timestamp::from_second(t.seconds).map_err(|_| beyond)?;
    let offset = zone.to_offset(timestamp);
    let shown = offset.to_datetime(timestamp);
    if zone.to_ambiguous_timestamp(shown).is_ambiguous() {
        let name = zone.iana_name().unwrap_or("its zone");
        return Err(format!("is two times in {name}, in which the folder's times are written"));
    }
    Ok(t.seconds + i64::from(offset.seconds()))
}

/// Date and time of day; the fraction with 3, 6 or 9 digits, or none.
fn civil(seconds: i64, nanos: u32, between: u8, out: &mut Vec<u8>) -> Result<(), String> {
    date(seconds.div_euclid(DAY), out)?;
    let of_day = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    out.push(between);
    // Writing into a vector cannot fail.
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    let _ = match nanos {
        0 => Ok(()),
        n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => write!(out, ".{:06}", n / 1_000),
        n => write!(out, ".{n:09}"),
    };
    Ok(())
}

/// `YYYY-MM-DD` of a number of days since 1970.
pub(super) fn date(days: i64, out: &mut Vec<u8>) -> Result<(), String> {
    const FIRST: i64 = -719_528;
    const LAST: i64 = 2_932_896;
    if !(FIRST..=LAST).contains(&days) {
        return Err("lies outside of the years 0000 to 9999".into());
    }
    // Years begin in March, so that the leap day is the last of them; in 400 of them is every
    // length of a year as often.
    let shifted = days - FIRST - 60 + 146_097;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    let year = (era - 1) * 400 + of_era + i64::from(month <= 2);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_is_the_one_that_jiff_says() {
        let mut day = jiff::civil::Date::constant(0, 1, 1);
        let epoch = jiff::civil::Date::constant(1970, 1, 1);
        let mut days = i64::from(epoch.until(day).unwrap().get_days());
        loop {
            let mut out = Vec::new();
            date(days, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), day.to_string());
            let Some(next) = day.tomorrow().ok().filter(|d| d.year() < 10_000) else { break };
            (day, days) = (next, days + 1);
        }
        assert_eq!(day, jiff::civil::Date::constant(9999, 12, 31));
        assert!(date(days + 1, &mut Vec::new()).is_err());
        assert!(date(-719_529, &mut Vec::new()).is_err());
    }

    fn written(times: &Times, text: &str) -> Result<String, String> {
        let mut out = Vec::new();
        times.write(Moment::new(text.parse().unwrap()), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn times_are_written_in_the_form_of_the_folder() {
        let zoned = |t: &str| written(&Times::Zoned, t).unwrap();
        assert_eq!(zoned("2013-01-01T06:00:00+01"), "2013-01-01T05:00:00Z");
        assert_eq!(zoned("1969-12-31T23:59:59.25Z"), "1969-12-31T23:59:59.250Z");
        assert_eq!(zoned("2013-01-01T06:00:00.000001Z"), "2013-01-01T06:00:00.000001Z");
        assert_eq!(zoned("2013-01-01T06:00:00.000000001Z"), "2013-01-01T06:00:00.000000001Z");
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let local = Times::Local { zone: berlin.clone(), days: false };
        assert_eq!(written(&local, "2013-07-01T00:30:00Z").unwrap(), "2013-07-01 02:30:00");
        assert!(written(&local, "2013-10-27T00:30:00Z").unwrap_err().contains("is two times"));
        let days = Times::Local { zone: berlin, days: true };
        assert_eq!(written(&days, "2013-06-30T22:00:00Z").unwrap(), "2013-07-01");
        assert!(written(&days, "2013-06-30T22:00:01Z").unwrap_err().contains("no whole day"));
        let millis = Times::Epoch(Precision::Millisecond);
        assert_eq!(written(&millis, "2013-01-01T00:00:00.25Z").unwrap(), "1356998400250");
        assert!(written(&millis, "1970-01-01T00:00:01Z").unwrap_err().contains("another unit"));
        let seconds = Times::Epoch(Precision::Second);
        assert_eq!(written(&seconds, "1969-12-31T23:59:59Z").unwrap(), "-1");
        assert!(written(&millis, "1970-01-01T00:00:00.0001Z").is_err());
    }
}
