//! Values with a syntax of their own: durations, sizes, slice sizes, times, shares.

use std::borrow::Cow;
use std::str::FromStr as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use retrofill_core::calendar::Every;
use retrofill_core::error::{Error, Result};
use retrofill_core::spec::RejectsCap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::problem::Problem;
use super::read::{Read, unexpected, whole, word};
use super::tree::{Node, NodeKind};

/// JSON Schema of a value, always in place.
macro_rules! schema {
    ($name:ident, $json:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($json)
            }
        }
    };
}

/// A text that may look like a number: as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(pub String);

schema!(Word, { "type": ["string", "number", "boolean"] });

impl Read for Word {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = word(node).map(|text| Word(text.to_owned()));
        if found.is_none() {
            let problem = unexpected(node, what, "a text");
            problems.push(match &node.kind {
                NodeKind::Scalar(s) if !s.written.is_empty() => {
                    problem.hint(format!("put it in quotes: \"{}\"", s.written))
                }
                _ => problem,
            });
        }
        found
    }
}

/// A length of time: a whole number and `ms`, `s`, `m` (or `min`), `h` or `d` (24 hours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub Duration);

schema!(Span, { "type": "string", "pattern": r"^[0-9]+(ms|s|m|min|h|d)$|\$\{.*\}" });

impl Read for Span {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = word(node).and_then(span);
        if found.is_none() {
            let problem = unexpected(node, what, "a length of time");
            problems.push(problem.hint("a whole number and a unit: ms, s, m, h or d"));
        }
        found.map(Span)
    }
}

fn span(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    // A century is longer than any run; what lies beyond would overflow somewhere later.
    let total = number.checked_mul(milliseconds).filter(|ms| *ms <= 100 * 366 * 86_400_000)?;
    Some(Duration::from_millis(total))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A number of bytes: a whole number and `KiB MiB GiB TiB` (powers of 1024) or `kB MB GB TB`
/// (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub u64);

schema!(Size, { "type": "string", "pattern": r"^[0-9]+([KMGT]iB|[kMGT]B)$|\$\{.*\}" });

impl Read for Size {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = word(node).and_then(size);
        if found.is_none() {
            let problem = unexpected(node, what, "a size");
            problems.push(problem.hint("a whole number and a unit, such as `384MiB` or `1GiB`"));
        }
        found.map(Size)
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share(pub f64);

schema!(Share, { "type": "number", "minimum": 0, "maximum": 1 });

impl Read for Share {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = word(node).and_then(|text| text.parse().ok());
        let found = found.filter(|share| (0.0..=1.0).contains(share));
        if found.is_none() {
            let problem = unexpected(node, what, "a share");
            problems.push(problem.hint("a number from 0 to 1, such as 0.9"));
        }
        found.map(Share)
    }
}

/// `auto`, or a size of slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SliceSize(pub Option<Every>);

schema!(SliceSize, {
    "type": "string",
    "pattern": r"^(auto|[1-9][0-9]*(s|min|h|d|w|mo|y))$|\$\{.*\}"
});

impl Read for SliceSize {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = match word(node) {
            Some("auto") => return Some(SliceSize(None)),
            Some(text) => Every::from_str(text).ok(),
            None => None,
        };
        if found.is_none() {
            let problem = unexpected(node, what, "`auto` or a slice size");
            problems
                .push(problem.hint(
                    "a whole number and a unit: s, min, h (elapsed), d, w, mo, y (calendar)",
                ));
        }
        found.map(|every| SliceSize(Some(every)))
    }
}

/// `auto`, or a number of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Concurrency(pub Option<usize>);

schema!(Concurrency, {
    "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }]
});

impl Read for Concurrency {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        if word(node) == Some("auto") {
            return Some(Concurrency(None));
        }
        let found = whole(node).filter(|n| (1..=1024).contains(n));
        if found.is_none() {
            problems.push(unexpected(node, what, "`auto` or a whole number from 1 to 1024"));
        }
        found.map(|n| Concurrency(Some(n as usize)))
    }
}

/// A number of rows, or a share such as `0.1%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cap(pub RejectsCap);

schema!(Cap, {
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$" }
    ]
});

impl Read for Cap {
    const SUBSTITUTABLE: bool = true;

    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = whole(node).map(RejectsCap::Rows).or_else(|| word(node).and_then(share));
        if found.is_none() {
            let problem = unexpected(node, what, "a number of rows or a share of them");
            problems.push(problem.hint("such as `100`, or `0.1%` of all rows surveyed"));
        }
        found.map(Cap)
    }
}

fn share(text: &str) -> Option<RejectsCap> {
    let number = text.strip_suffix('%')?;
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (percent <= 100.0).then_some(RejectsCap::Share(percent / 100.0))
}

/// A date, or an instant in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Midnight of this day, in the time zone of the range.
    Day(Date),
    /// Exactly then.
    Instant(Timestamp),
}

schema!(Moment, { "type": "string", "examples": ["2019-01-01", "2019-01-01T06:00:00Z"] });

impl Moment {
    /// A date `2019-01-01`, or an instant `2019-01-01T06:00:00Z` with its offset.
    pub fn parse(text: &str) -> Result<Self> {
        let is_day = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let found = if is_day {
            text.parse().map(Moment::Day).ok()
        } else {
            text.parse().map(Moment::Instant).ok()
        };
        found.ok_or_else(|| Error::config(format!("`{text}` is not a time")).hint(MOMENT))
    }

    /// The instant, with days begun in this zone.
    pub fn instant(self, zone: &TimeZone) -> Result<Timestamp> {
        match self {
            Moment::Instant(t) => Ok(t),
            Moment::Day(day) => match day.to_zoned(zone.clone()) {
                Ok(start) => Ok(start.timestamp()),
                Err(e) => Err(Error::config("the day lies outside the calendar").because(e)),
            },
        }
    }
}

const MOMENT: &str = "a date such as `2019-01-01`, or a time with its offset such as \
                      `2019-01-01T06:00:00Z`";

impl Read for Moment {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let found = word(node).and_then(|text| Moment::parse(text).ok());
        if found.is_none() {
            problems.push(unexpected(node, what, "a time").hint(MOMENT));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_sizes() {
        let ms = |text| span(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Some(250));
        assert_eq!(ms("2m"), Some(120_000));
        assert_eq!(ms("2min"), Some(120_000));
        assert_eq!(ms("8h"), Some(28_800_000));
        assert_eq!(ms("0s"), Some(0));
        for text in ["", "1", "s", "-1s", "1.5h", "1h30m", "99999999999d", "1 s"] {
            assert_eq!(ms(text), None, "{text}");
        }
        assert_eq!(size("384MiB"), Some(384 << 20));
        assert_eq!(size("2GB"), Some(2_000_000_000));
        for text in ["", "1", "1M", "1mb", "99999999999TiB", "-1MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn shares_are_percent() {
        assert_eq!(share("0.1%"), Some(RejectsCap::Share(0.001)));
        assert_eq!(share("100%"), Some(RejectsCap::Share(1.0)));
        for text in ["101%", "%", "-1%", "1e1%", "inf%", ".5%", "1", "1.%"] {
            assert_eq!(share(text), None, "{text}");
        }
    }

    #[test]
    fn a_day_begins_in_its_zone() {
        let berlin = retrofill_core::calendar::zone("Europe/Berlin").unwrap();
        let at = |text: &str| Moment::parse(text).unwrap().instant(&berlin).unwrap().to_string();
        assert_eq!(at("2019-07-01"), "2019-06-30T22:00:00Z");
        assert_eq!(at("2019-07-01T00:00:00+01:00"), "2019-06-30T23:00:00Z");
        for text in ["2019-07", "2019-02-30", "2019-07-01T00:00:00", "yesterday", ""] {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
    }
}
