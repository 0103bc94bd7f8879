//! Delimiter, quote and header, from the start of each file.

use std::sync::Arc;

use retrofill_core::error::Result;
use retrofill_core::survey::FileStamp;

use super::super::csv::{Cut, Dialect, Field};
use super::super::iso::{epoch_parts, iso};
use super::super::open::{Content, read_up_to, unreadable};
use super::super::origin::Origin;
use super::super::settings::CsvSettings;
use super::super::types::{Decimal, with_point};
use super::forms::is_custom;

/// Bytes of each file that are looked at.
const START: usize = 64 << 10;
/// Files that are looked at.
const FILES: usize = 8;
/// Records of each that are looked at.
const RECORDS: usize = 200;

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
const QUOTES: [u8; 2] = [b'"', b'\''];

/// The start of a file.
struct Start {
    bytes: Vec<u8>,
    ended: bool,
}

/// Sets delimiter, quote and header.
pub(super) fn guess(
    origin: &Origin,
    settings: &mut CsvSettings,
    files: &[FileStamp],
) -> Result<()> {
    let mut starts = Vec::new();
    for file in files.iter().take(FILES) {
        let (mut content, _) = Content::open(origin, settings, file, Arc::default())?;
        let mut bytes = Vec::new();
        let n =
            read_up_to(&mut content, &mut bytes, START).map_err(|e| unreadable(&file.path, e))?;
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        starts.push(Start { bytes, ended: n < START });
    }
    let mut best: Option<(Dialect, Merit)> = None;
    for quote in QUOTES {
        for delimiter in DELIMITERS {
            let dialect = Dialect { delimiter, quote };
            let merit = merit(dialect, &starts);
            if best.as_ref().is_none_or(|(_, known)| merit > *known) {
                best = Some((dialect, merit));
            }
        }
    }
    if let Some((dialect, _)) = best.filter(|(_, merit)| merit.width > 1) {
        settings.delimiter = char::from(dialect.delimiter);
        settings.quote = char::from(dialect.quote);
    }
    let dialect = Dialect { delimiter: settings.delimiter as u8, quote: settings.quote as u8 };
    settings.header = starts.iter().all(|start| has_header(dialect, start));
    Ok(())
}

/// What speaks for a dialect; the larger the better, the first entry before the second and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    /// Hundredths of the records that have as many fields as most; 0 where that is one field.
    even: usize,
    /// Hundredths of the fields that are numbers, times or empty.
    typed: usize,
    /// Fields in quotes: a quote that is never used is not seen in the others' favour.
    quoted: bool,
    width: usize,
}

fn merit(dialect: Dialect, starts: &[Start]) -> Merit {
    let (mut records, mut even, mut fields, mut typed, mut width) = (0, 0, 0, 0, usize::MAX);
    let mut quoted = false;
    for start in starts {
        let list = cut(dialect, start);
        // A file may be alone in having its width.
        let usual = usual(&list);
        width = width.min(usual);
        records += list.len();
        even += list.iter().filter(|r| r.len() == usual).count();
        for field in list.iter().skip(1).flatten() {
            let value = field.value(&start.bytes, dialect);
            fields += 1;
            typed += usize::from(is_typed(&value));
            quoted |= field.quoted;
        }
    }
    let share = |part: usize, all: usize| (part * 100).checked_div(all).unwrap_or(0);
    let even = if width == 1 || width == usize::MAX { 0 } else { share(even, records) };
    // Only the usual quote needs no sign of its use.
    let quoted = quoted || dialect.quote == QUOTES[0];
    Merit { even, typed: share(typed, fields), quoted, width }
}

/// How many fields most records have.
fn usual(list: &[Vec<Field>]) -> usize {
    let mut widths: Vec<_> = list.iter().map(Vec::len).collect();
    widths.sort_unstable();
    let runs = widths.chunk_by(|a, b| a == b);
    runs.max_by_key(|run| run.len()).map_or(1, |run| run[0])
}

fn cut(dialect: Dialect, start: &Start) -> Vec<Vec<Field>> {
    let (mut at, mut list) = (0, Vec::new());
    while at < start.bytes.len() && list.len() < RECORDS {
        let mut fields = Vec::new();
        match dialect.cut(&start.bytes, at, start.ended, |f| fields.push(f)) {
            Cut::Record { end, next } => {
                if end > at {
                    list.push(fields);
                }
                at = next;
            }
            // A line that is none speaks against the dialect: it has no fields.
            Cut::Bad { next, .. } => {
                list.push(Vec::new());
                at = next;
            }
            Cut::More => break,
        }
    }
    list
}

/// Whether the first record names columns: no name is empty, stands twice, or is a number or time.
fn has_header(dialect: Dialect, start: &Start) -> bool {
    let list = cut(dialect, start);
    let Some(first) = list.first() else { return true };
    let names: Vec<_> = first.iter().map(|f| f.value(&start.bytes, dialect)).collect();
    let is_name = |(i, name): (usize, &std::borrow::Cow<'_, [u8]>)| {
        !name.trim_ascii().is_empty() && !is_typed(name) && !names[..i].contains(name)
    };
    names.iter().enumerate().all(is_name)
}

/// Whether a field is a number, a time or nothing.
fn is_typed(value: &[u8]) -> bool {
    value.is_empty()
        || Decimal::parse(value).is_some()
        || with_point(value).is_some_and(|v| Decimal::parse(&v).is_some())
        || epoch_parts(value).is_ok()
        || iso(value).is_ok()
        || is_custom(value)
}
