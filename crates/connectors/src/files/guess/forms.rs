//! In which ways the values of each column could be times.

use retrofill_core::error::Result;

use super::super::iso::is_compact_date;
use super::super::time::{Clock, Form};
use super::records::Input;

/// Values of each column from which its forms are chosen.
const VALUES: usize = 500;
/// Forms of a column that all its values are tried in.
const MOST: usize = 4;

/// Seconds since 1970 of the years 1980 and 2100: a number outside is rather something else.
const LIKELY: std::ops::Range<i64> = 315_532_800..4_102_444_800;

/// How times are written in much of the world, where it is none of the forms that need no word.
/// Where two fit, the first is taken unless the order of the rows speaks for the other.
pub(super) const FORMATS: [&str; 34] = [
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y",
    "%d.%m.%y %H:%M",
    "%d.%m.%y",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y %H:%M",
    "%m-%d-%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%m-%d-%Y %H:%M:%S",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d",
    "%Y.%m.%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S %z",
    "%Y%m%d %H:%M",
    "%Y%m%d %H%M",
    "%Y%m%dT%H%M%S",
    "%Y%m%dT%H%M%SZ",
    "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y",
    "%d %b %Y %H:%M:%S",
    "%b %d, %Y",
    "%a, %d %b %Y %H:%M:%S %z",
];

/// A way in which the values of a column could be times.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) form: Form,
    /// The setting `time_format` for it.
    pub(super) format: Option<String>,
    pub(super) clock: Clock,
}

/// Whether a text is a time in one of the formats.
pub(super) fn is_custom(value: &[u8]) -> bool {
    // The first digits and the length tell most others from times without a try.
    let plausible = (8..=40).contains(&value.len()) && value.iter().any(u8::is_ascii_digit);
    let zone = jiff::tz::TimeZone::UTC;
    plausible
        && FORMATS.iter().any(|format| {
            Clock::new(Form::Custom, zone.clone(), Some((*format).into())).read(value).is_ok()
        })
}

/// The forms of each column, from its first values.
pub(super) fn candidates(input: &Input) -> Result<Vec<Vec<Candidate>>> {
    let shared = &input.shared;
    let first = input.start(|stretch| {
        let mut values: Vec<Vec<Vec<u8>>> = vec![Vec::new(); input.names.len()];
        let mut rows = 0;
        stretch.records(shared, |record| {
            if let Ok(fields) = record {
                for (at, list) in values.iter_mut().enumerate() {
                    let (value, _) = stretch.value(shared, fields, at);
                    if !value.is_empty() {
                        list.push(value.into_owned());
                    }
                }
                rows += 1;
            }
            rows < VALUES
        });
        values
    })?;
    let zone = |form, format: Option<String>| {
        let clock = Clock::new(form, shared.zone.clone(), format.clone());
        Candidate { form, format, clock }
    };
    let of = |values: Vec<Vec<u8>>| forms(&values, &zone);
    Ok(first.unwrap_or_else(|| vec![Vec::new(); input.names.len()]).into_iter().map(of).collect())
}

fn forms(
    values: &[Vec<u8>],
    candidate: &impl Fn(Form, Option<String>) -> Candidate,
) -> Vec<Candidate> {
    if values.is_empty() {
        return Vec::new();
    }
    // A few values that are no times do not hide that the others are.
    let fits = |c: &Candidate| {
        let good = values.iter().filter(|v| c.clock.read(v).is_ok()).count();
        good * 10 >= values.len() * 9
    };
    let custom = |format: &str| candidate(Form::Custom, Some(format.to_owned()));
    if values.iter().all(|v| is_compact_date(v)) {
        let format = if values[0].len() == 8 { "%Y%m%d" } else { "%Y%m%d%H%M%S" };
        return vec![custom(format)].into_iter().filter(fits).collect();
    }
    if let Some(form) = Form::guess(values.iter().map(Vec::as_slice)) {
        let found = candidate(form, None);
        if fits(&found) && (!matches!(form, Form::Epoch(_)) || is_likely(values, &found.clock)) {
            return vec![found];
        }
    }
    FORMATS.iter().map(|f| custom(f)).filter(fits).take(MOST).collect()
}

/// Whether numbers are rather times than something else.
fn is_likely(values: &[Vec<u8>], clock: &Clock) -> bool {
    let likely = |v: &Vec<u8>| clock.read(v).is_ok_and(|(m, _)| LIKELY.contains(&m.seconds));
    values.iter().all(likely)
}
