//! Reads times. The form is found once per source from its first values; every value must then
//! keep to it.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use retrofill_core::columns::Precision;
use retrofill_core::survey::TimeUnitSeen;

use super::iso::{Civil, LEAP, epoch_parts, fraction, iso};

/// The last hours of the year 9999 are left out, so that every zone has a name for every time.
const BEYOND: &str = "lies behind 9999-12-30T22:00:00Z, the last time there is";

/// Why a text is no time.
pub(crate) type Reason = Cow<'static, str>;

/// A point in time: floor seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl Moment {
    /// From a point in time.
    pub(crate) fn new(t: Timestamp) -> Self {
        let n = t.as_nanosecond();
        Moment {
            seconds: n.div_euclid(1_000_000_000) as i64,
            nanos: n.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// The same; moments are only made inside the range of [`Timestamp`].
    pub(crate) fn timestamp(self) -> Timestamp {
        Timestamp::from_nanosecond(
            i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos),
        )
        .expect("the clock refuses what a timestamp cannot hold")
    }

    /// Whole units since 1970; none where it is finer or does not fit.
    pub(crate) fn whole(self, unit: Precision) -> Option<i64> {
        let length = unit.nanoseconds();
        let nanos = i64::from(self.nanos);
        if nanos % length != 0 {
            return None;
        }
        let n = i128::from(self.seconds) * i128::from(1_000_000_000 / length)
            + i128::from(nanos / length);
        i64::try_from(n).ok()
    }

    /// The unit that it needs.
    pub(crate) fn unit(self) -> TimeUnitSeen {
        match self.nanos {
            0 => TimeUnitSeen::Second,
            n if n % 1_000_000 == 0 => TimeUnitSeen::Millisecond,
            n if n % 1_000 == 0 => TimeUnitSeen::Microsecond,
            _ => TimeUnitSeen::Nanosecond,
        }
    }
}

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 3339: with `Z` or an offset.
    Zoned,
    /// Date, or date and time, without a zone.
    Local,
    /// A number of these units since 1970.
    Epoch(Precision),
    /// As the setting `time_format` says.
    Custom,
}

impl Form {
    const ALL: [(Form, &'static str); 7] = [
        (Form::Zoned, "rfc3339"),
        (Form::Local, "local"),
        (Form::Epoch(Precision::Second), "epoch seconds"),
        (Form::Epoch(Precision::Millisecond), "epoch milliseconds"),
        (Form::Epoch(Precision::Microsecond), "epoch microseconds"),
        (Form::Epoch(Precision::Nanosecond), "epoch nanoseconds"),
        (Form::Custom, "time_format"),
    ];

    /// The name kept in the survey.
    pub(crate) fn name(self) -> &'static str {
        Form::ALL.iter().find(|(f, _)| *f == self).expect("every form has a name").1
    }

    /// The form of this name.
    pub(crate) fn named(name: &str) -> Option<Form> {
        Form::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }

    /// The form most of these first values have; the earlier one where two are as frequent.
    pub(crate) fn guess<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Form> {
        let mut seen: Vec<(Form, usize)> = Vec::new();
        for form in values.filter_map(Form::of) {
            match seen.iter_mut().find(|(f, _)| *f == form) {
                Some((_, n)) => *n += 1,
                None => seen.push((form, 1)),
            }
        }
        let most = seen.iter().map(|(_, n)| *n).max()?;
        seen.iter().find(|(_, n)| *n == most).map(|(f, _)| *f)
    }

    fn of(text: &[u8]) -> Option<Form> {
        if let Ok((number, _)) = epoch_parts(text) {
            return Some(Form::Epoch(magnitude(number)));
        }
        let civil = iso(text).ok()?;
        Some(if civil.offset.is_some() { Form::Zoned } else { Form::Local })
    }
}

/// Reads the times of one source.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    form: Form,
    /// The zone of times without one; none is UTC.
    zone: Option<TimeZone>,
    format: Option<String>,
}

/// The time that was read last: the rows of many series often come with the same one in turn.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    text: [u8; LAST],
    length: usize,
    read: (Moment, TimeUnitSeen),
}

/// Longer texts are read each time.
const LAST: usize = 40;

impl Default for Last {
    fn default() -> Self {
        // No text is that long.
        let nothing = (Moment { seconds: 0, nanos: 0 }, TimeUnitSeen::Second);
        Last { text: [0; LAST], length: usize::MAX, read: nothing }
    }
}

impl Last {
    fn keep(&mut self, text: &[u8], read: (Moment, TimeUnitSeen)) {
        if let Some(place) = self.text.get_mut(..text.len()) {
            place.copy_from_slice(text);
            self.length = text.len();
            self.read = read;
        }
    }
}

impl Clock {
    /// `zone` applies to times without one; `format` is the setting `time_format`.
    pub(crate) fn new(form: Form, zone: TimeZone, format: Option<String>) -> Self {
        let zone = (zone != TimeZone::UTC).then_some(zone);
        Clock { form, zone, format }
    }

    /// The same as [`read`](Self::read), sooner where it is the last text again.
    #[inline]
    pub(crate) fn read_on(
        &self,
        text: &[u8],
        last: &mut Last,
    ) -> Result<(Moment, TimeUnitSeen), Reason> {
        if last.length == text.len() && last.text[..last.length] == *text {
            return Ok(last.read);
        }
        let read = self.read(text)?;
        last.keep(text, read);
        Ok(read)
    }

    /// The point in time and the unit it needs.
    pub(crate) fn read(&self, text: &[u8]) -> Result<(Moment, TimeUnitSeen), Reason> {
        match self.form {
            Form::Zoned => {
                let civil = iso(text)?;
                match civil.offset {
                    Some(offset) => civil.at_offset(offset),
                    None => Err("has no zone, unlike the first times of this source".into()),
                }
            }
            Form::Local => {
                let civil = iso(text)?;
                match civil.offset {
                    None => self.local(&civil),
                    Some(_) => Err("has a zone, unlike the first times of this source".into()),
                }
            }
            Form::Epoch(unit) => epoch(text, unit),
            Form::Custom => self.custom(text),
        }
    }

    /// A time of a column that is not the time column: any of the forms with a date in it.
    pub(crate) fn read_any(&self, text: &[u8]) -> Result<(Moment, TimeUnitSeen), Reason> {
        let civil = iso(text)?;
        match civil.offset {
            Some(offset) => civil.at_offset(offset),
            None => self.local(&civil),
        }
    }

    fn local(&self, civil: &Civil) -> Result<(Moment, TimeUnitSeen), Reason> {
        let Some(zone) = &self.zone else { return civil.at_offset(0) };
        let moment = in_zone(civil.datetime(), zone)?;
        Ok((moment, if civil.date_only { TimeUnitSeen::Day } else { moment.unit() }))
    }

    fn custom(&self, text: &[u8]) -> Result<(Moment, TimeUnitSeen), Reason> {
        let format = self.format.as_deref().unwrap_or_default();
        let refuse = |e: jiff::Error| Reason::from(format!("does not fit `time_format`: {e}"));
        let broken = BrokenDownTime::parse(format, text).map_err(refuse)?;
        let leap = broken.second() == Some(59) && {
            // jiff reads a leap second as 59; what it read then shows one 59 more than the text.
            let count = |t: &[u8]| memchr::memmem::find_iter(t, b"59").count();
            broken.to_string(format).is_ok_and(|s| count(s.as_bytes()) > count(text))
        };
        if leap {
            return Err(LEAP.into());
        }
        if let Ok(t) = broken.to_timestamp() {
            let moment = Moment::new(t);
            return Ok((moment, moment.unit()));
        }
        let date = broken.to_date().map_err(refuse)?;
        let (datetime, date_only) = match broken.to_time() {
            Ok(time) if broken.hour().is_some() => (date.to_datetime(time), false),
            _ => (date.to_datetime(jiff::civil::Time::midnight()), true),
        };
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        let moment = in_zone(datetime, &zone)?;
        Ok((moment, if date_only { TimeUnitSeen::Day } else { moment.unit() }))
    }
}

/// The point in time that a date and time is in a zone.
pub(crate) fn in_zone(datetime: DateTime, zone: &TimeZone) -> Result<Moment, Reason> {
    let ambiguous = zone.to_ambiguous_timestamp(datetime);
    let name = || zone.iana_name().unwrap_or("its zone");
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            let t = ambiguous.unambiguous().map_err(|e| Reason::from(e.to_string()))?;
            Ok(Moment::new(t))
        }
        AmbiguousOffset::Gap { .. } => {
            Err(format!("does not exist in {}: clocks were set forward", name()).into())
        }
        AmbiguousOffset::Fold { .. } => {
            Err(format!("is two times in {}: clocks were set back", name()).into())
        }
    }
}

impl Civil {
    fn at_offset(&self, offset: i64) -> Result<(Moment, TimeUnitSeen), Reason> {
        let seconds = self.days * 86_400 + self.second_of_day - offset;
        let moment = in_range(seconds, self.nanos)?;
        Ok((moment, if self.date_only { TimeUnitSeen::Day } else { moment.unit() }))
    }
}

/// A point in time that a calendar has.
pub(super) fn in_range(seconds: i64, nanos: u32) -> Result<Moment, Reason> {
    if seconds < Timestamp::MIN.as_second() {
        return Err("lies before the year -9999".into());
    }
    if seconds >= Timestamp::MAX.as_second() {
        return Err(BEYOND.into());
    }
    Ok(Moment { seconds, nanos })
}

/// Seconds reach the year 5138, milliseconds too, and so on.
fn magnitude(number: i64) -> Precision {
    match number.unsigned_abs() {
        0..100_000_000_000 => Precision::Second,
        100_000_000_000..100_000_000_000_000 => Precision::Millisecond,
        100_000_000_000_000..100_000_000_000_000_000 => Precision::Microsecond,
        _ => Precision::Nanosecond,
    }
}

fn epoch(text: &[u8], unit: Precision) -> Result<(Moment, TimeUnitSeen), Reason> {
    let (number, rest) = epoch_parts(text)?;
    if number != 0 && magnitude(number) != unit {
        let seen = Form::Epoch(magnitude(number)).name();
        let first = Form::Epoch(unit).name();
        return Err(format!("looks like {seen}, the first times like {first}").into());
    }
    let per = 1_000_000_000 / unit.nanoseconds();
    let mut seconds = number.div_euclid(per);
    let mut nanos = (number.rem_euclid(per) * unit.nanoseconds()) as u32;
    if rest.iter().any(|b| *b != b'0') {
        if unit != Precision::Second {
            return Err("a fraction is only read behind whole seconds".into());
        }
        nanos = fraction(rest)?.0;
        if text[0] == b'-' {
            (seconds, nanos) = (seconds - 1, 1_000_000_000 - nanos);
        }
    }
    let moment = in_range(seconds, nanos)?;
    Ok((moment, moment.unit()))
}

#[cfg(test)]
mod tests {
    use super::super::iso::NO_TIME;
    use super::*;

    fn clock(form: Form, zone: &str) -> Clock {
        Clock::new(form, TimeZone::get(zone).unwrap(), None)
    }

    fn read(form: Form, text: &str) -> Result<String, Reason> {
        clock(form, "UTC").read(text.as_bytes()).map(|(m, _)| m.timestamp().to_string())
    }

    #[test]
    fn zoned_forms() {
        for (text, want) in [
            ("2013-01-01T06:00:00Z", "2013-01-01T06:00:00Z"),
            ("2013-01-01 06:00:00+01:00", "2013-01-01T05:00:00Z"),
            ("2013-01-01t06:00z", "2013-01-01T06:00:00Z"),
            ("1969-12-31T23:59:59.25-0530", "1970-01-01T05:29:59.25Z"),
            ("2013-01-01T06:00:00.1234567890+00", "2013-01-01T06:00:00.123456789Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(Form::Zoned, text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_why() {
        for (text, reason) in [
            ("2013-02-30T00:00:00Z", "there is no such day"),
            ("2013-13-01T00:00:00Z", "there is no such day"),
            ("2013-01-01T24:00:00Z", "the hour is not 0 to 23"),
            ("2016-12-31T23:59:60Z", LEAP),
            ("2013-01-01T00:60:00Z", "the minute is not 0 to 59"),
            ("2013-01-01T00:00:00", "has no zone, unlike the first times of this source"),
            ("2013-01-01", "has no zone, unlike the first times of this source"),
            ("2013-01-01T00:00:00.1234567891Z", "is finer than a nanosecond"),
            ("2013-01-01T00:00:00+24:00", "the offset from UTC is not within 23:59"),
            ("9999-12-31T23:59:59Z", BEYOND),
            ("2013-01-01T00:00:00Zx", NO_TIME),
            ("2013-1-01T00:00:00Z", NO_TIME),
            ("2013-01-01T00:00:00.Z", NO_TIME),
            ("", NO_TIME),
        ] {
            assert_eq!(read(Form::Zoned, text), Err(reason.into()), "{text}");
        }
    }

    #[test]
    fn local_times_are_bound_to_their_zone() {
        let berlin = clock(Form::Local, "Europe/Berlin");
        let read = |t: &str| berlin.read(t.as_bytes()).map(|(m, u)| (m.timestamp().to_string(), u));
        let good = |t: &str, unit| Ok((t.to_owned(), unit));
        assert_eq!(read("2013-07-01"), good("2013-06-30T22:00:00Z", TimeUnitSeen::Day));
        let want = good("2013-01-01T00:00:00.5Z", TimeUnitSeen::Millisecond);
        assert_eq!(read("2013-01-01 01:00:00.500"), want);
        assert!(read("2013-03-31T02:30:00").unwrap_err().contains("does not exist"));
        assert!(read("2013-10-27T02:30:00").unwrap_err().contains("is two times"));
        assert!(read("2013-10-27T02:30:00Z").is_err());
    }

    #[test]
    fn epochs_by_magnitude() {
        for (text, unit, want) in [
            ("1356998400", Precision::Second, "2013-01-01T00:00:00Z"),
            ("-1.25", Precision::Second, "1969-12-31T23:59:58.75Z"),
            ("-0.25", Precision::Second, "1969-12-31T23:59:59.75Z"),
            ("1356998400123", Precision::Millisecond, "2013-01-01T00:00:00.123Z"),
            ("1356998400123456", Precision::Microsecond, "2013-01-01T00:00:00.123456Z"),
            ("1356998400123456789", Precision::Nanosecond, "2013-01-01T00:00:00.123456789Z"),
        ] {
            let guessed = Form::guess([text.as_bytes()].into_iter()).unwrap();
            assert_eq!(guessed, Form::Epoch(unit));
            assert_eq!(read(guessed, text).as_deref(), Ok(want), "{text}");
        }
        let mixed = read(Form::Epoch(Precision::Millisecond), "1356998400").unwrap_err();
        assert!(mixed.contains("looks like epoch seconds"), "{mixed}");
        assert!(read(Form::Epoch(Precision::Second), "1.").is_err());
        assert!(read(Form::Epoch(Precision::Second), "+1").is_err());
    }

    #[test]
    fn the_most_frequent_form_wins() {
        let guess = |list: &[&str]| Form::guess(list.iter().map(|t| t.as_bytes()));
        let (zoned, local) = ("2013-01-01T00:00:00Z", "2013-01-01");
        assert_eq!(guess(&[local, zoned, zoned]), Some(Form::Zoned));
        assert_eq!(guess(&[local, zoned]), Some(Form::Local));
        assert_eq!(guess(&["yesterday"]), None);
        for (form, name) in Form::ALL {
            assert_eq!(Form::named(name), Some(form));
        }
    }

    #[test]
    fn a_custom_format() {
        let read = |format: &str, text: &str| {
            let clock = Clock::new(Form::Custom, TimeZone::UTC, Some(format.into()));
            clock.read(text.as_bytes()).map(|(m, u)| (m.timestamp().to_string(), u))
        };
        let want = Ok(("2013-01-02T03:04:00Z".to_owned(), TimeUnitSeen::Second));
        assert_eq!(read("%d.%m.%Y %H:%M", "02.01.2013 03:04"), want);
        assert_eq!(read("%d.%m.%Y %H:%M %z", "02.01.2013 04:04 +0100"), want);
        let day = Ok(("2013-01-02T00:00:00Z".to_owned(), TimeUnitSeen::Day));
        assert_eq!(read("%d.%m.%Y", "02.01.2013"), day);
        assert!(read("%d.%m.%Y", "30.02.2013").is_err());
        assert!(read("%d.%m.%Y %H:%M:%S", "31.12.2016 23:59:60").is_err());
        assert!(read("%d.%m.%Y %H:%M:%S", "31.12.2016 23:59:59").is_ok());
        assert!(read("%d.%m.%Y", "02.01.2013x").is_err());
    }
}
