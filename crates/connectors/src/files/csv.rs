//! Cuts bytes into records and fields.
//!
//! A quote opens a quoted field only at the field's first byte; elsewhere it is text. Inside, a
//! doubled quote stands for one. After the closing quote only a delimiter or the end of the line
//! may follow. Where only blanks stand between, or a record is too long, its end is known and it is
//! given up as a whole: no line of its fields is taken for a record. Where the quotes leave no end
//! to be found, the first line alone is given up, and the next record starts on the next line. What
//! a record is depends only on bytes from its start on, so a stretch that starts at a record and
//! ends at one is cut alike wherever it is read.

use std::borrow::Cow;

use memchr::{memchr, memrchr};

use super::encoding;
use super::json;
use super::settings::Encoding;
use super::stops::Stops;

/// The longest record.
pub(super) const LONGEST: usize = 16 << 20;
/// So far the end of a longer one is looked for.
pub(super) const FARTHEST: usize = 64 << 20;

/// How the names of files end, packed or not.
pub(super) const CSV: [&str; 5] = ["csv", "csv.gz", "csv.zst", "csv.bz2", "csv.xz"];
const NDJSON: [&str; 4] = ["ndjson", "ndjson.{gz,zst,bz2,xz}", "jsonl", "jsonl.{gz,zst,bz2,xz}"];

/// The bytes that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

/// How the lines of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Fields by their place.
    Csv(Dialect),
    /// An object a line.
    Json,
}

impl From<Dialect> for Format {
    fn from(dialect: Dialect) -> Self {
        Format::Csv(dialect)
    }
}

impl Format {
    /// The connector's key in a spec.
    pub(super) fn key(self) -> &'static str {
        match self {
            Format::Csv(_) => "csv",
            Format::Json => "ndjson",
        }
    }

    /// How the names of its files end.
    pub(super) fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Csv(_) => &CSV,
            Format::Json => &NDJSON,
        }
    }

    /// How many bytes from the start are whole records (or lines that are none).
    pub(super) fn whole(self, bytes: &[u8], ended: bool) -> usize {
        match self {
            Format::Csv(dialect) => dialect.whole(bytes, ended),
            Format::Json if ended => bytes.len(),
            Format::Json => memrchr(b'\n', bytes).map_or(0, |n| n + 1),
        }
    }

    /// Whether the record that starts these bytes has an open quote at their end.
    pub(super) fn is_open(self, bytes: &[u8]) -> bool {
        let Format::Csv(dialect) = self else { return false };
        matches!(dialect.cut(bytes, 0, true, ignore), Cut::Bad { problem: Problem::OpenQuote, .. })
    }
}

/// Where a field's content stands in the buffer, without its outer quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Field {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) quoted: bool,
    /// Whether doubled quotes, or escapes of JSON, stand in it.
    pub(super) doubled: bool,
}

impl Field {
    /// The bytes as they stand.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The bytes of a quoted field with the quotes around them.
    pub(super) fn with_quotes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize - 1..=self.end as usize]
    }

    /// The value: doubled quotes are one, and escapes of JSON are what they stand for.
    pub(super) fn value<'a>(&self, bytes: &'a [u8], format: impl Into<Format>) -> Cow<'a, [u8]> {
        let raw = self.raw(bytes);
        if !self.doubled {
            return Cow::Borrowed(raw);
        }
        let Format::Csv(Dialect { quote, .. }) = format.into() else {
            return Cow::Owned(json::unescaped(self.with_quotes(bytes)));
        };
        let mut out = Vec::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = memchr(quote, rest) {
            out.extend_from_slice(&rest[..=at]);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    }
}

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// A quoted field has no end.
    OpenQuote,
    /// Something stands between a closing quote and the next delimiter.
    AfterQuote,
    /// Longer than [`LONGEST`].
    TooLong,
    /// Not UTF-8, or not what it was to be read as.
    Encoding,
    /// A zero byte.
    Nul,
    /// So many fields instead of so many.
    Fields(usize, usize),
    /// No JSON object: wrong at this byte.
    Json(usize),
    /// A key of the object stands there twice.
    Twice,
    /// The object has a key that the first look at the files did not see.
    Key,
}

impl Problem {
    /// The reason, for people, in a file of this encoding.
    pub(super) fn reason(self, encoding: Encoding) -> String {
        match self {
            Problem::OpenQuote => "a quote is opened and never closed".into(),
            Problem::AfterQuote => "text follows the closing quote of a field".into(),
            Problem::TooLong => format!("longer than {} MiB", LONGEST >> 20),
            Problem::Encoding => encoding::reason(encoding).into(),
            Problem::Nul => "holds a NUL byte".into(),
            Problem::Fields(has, wants) => {
                format!("{has} {} instead of {wants}", if has == 1 { "field" } else { "fields" })
            }
            Problem::Json(at) => format!("is no JSON object: wrong at byte {}", at + 1),
            Problem::Twice => "a key stands twice in it".into(),
            Problem::Key => "has a key that no line had when the files were first looked at".into(),
        }
    }
}

/// What stands at some place of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A record up to `end` (without the line's end), and where the next one starts.
    Record { end: usize, next: usize },
    /// A line that is no record.
    Bad { end: usize, next: usize, problem: Problem },
    /// Only more bytes can tell.
    More,
}

impl Dialect {
    /// Cuts the record that starts at `at` and tells its fields. `ended`: no more bytes follow.
    /// Fields told before `Bad` or `More` mean nothing.
    #[inline]
    pub(super) fn cut(self, bytes: &[u8], at: usize, ended: bool, field: impl FnMut(Field)) -> Cut {
        self.cut_next(bytes, at, ended, &mut self.stops(), field)
    }

    /// What finds the ends of fields in one buffer.
    pub(super) fn stops(self) -> Stops {
        Stops::new(self.delimiter)
    }

    /// [`cut`](Self::cut), for one record of many in a buffer.
    #[inline]
    pub(super) fn cut_next(
        self,
        bytes: &[u8],
        at: usize,
        ended: bool,
        stops: &mut Stops,
        mut field: impl FnMut(Field),
    ) -> Cut {
        let mut i = at;
        loop {
            if bytes.get(i) == Some(&self.quote) {
                match self.quoted(bytes, at, i, ended, &mut field) {
                    Ok(next) => i = next,
                    Err(cut) => return cut,
                }
                continue;
            }
            let Some(stop) = stops.next(bytes, i) else {
                if !ended {
                    return more(bytes, at);
                }
                let end = without_return(bytes, i, bytes.len());
                field(plain(i, end));
                return record(at, end, bytes.len());
            };
            if bytes[stop] == b'\n' {
                let end = without_return(bytes, i, stop);
                field(plain(i, end));
                return record(at, end, stop + 1);
            }
            field(plain(i, stop));
            i = stop + 1;
        }
    }

    /// A quoted field from its opening quote on: where the next field starts, or how the record
    /// ends.
    fn quoted(
        self,
        bytes: &[u8],
        at: usize,
        open: usize,
        ended: bool,
        field: &mut impl FnMut(Field),
    ) -> Result<usize, Cut> {
        let (mut from, mut doubled) = (open + 1, false);
        let close = loop {
            let Some(n) = memchr(self.quote, &bytes[from..]) else {
                return Err(if ended {
                    bad(bytes, at, Problem::OpenQuote)
                } else {
                    more(bytes, at)
                });
            };
            match bytes.get(from + n + 1) {
                Some(&b) if b == self.quote => (from, doubled) = (from + n + 2, true),
                None if !ended => return Err(more(bytes, at)),
                _ => break from + n,
            }
        };
        field(Field { start: open as u32 + 1, end: close as u32, quoted: true, doubled });
        let after = close + 1;
        match (bytes.get(after), bytes.get(after + 1)) {
            (None, _) => Err(record(at, after, after)),
            (Some(&b), _) if b == self.delimiter => Ok(after + 1),
            (Some(b'\n'), _) => Err(record(at, after, after + 1)),
            (Some(b'\r'), Some(b'\n')) => Err(record(at, after, after + 2)),
            (Some(b'\r'), None) if ended => Err(record(at, after, after + 1)),
            (Some(b'\r'), None) => Err(more(bytes, at)),
            _ => Err(self.loose(bytes, at, after, ended)),
        }
    }

    /// A record with something behind a closing quote. Blanks alone leave no doubt where it ends.
    #[cold]
    #[inline(never)]
    fn loose(self, bytes: &[u8], at: usize, after: usize, ended: bool) -> Cut {
        let blanks = bytes[after..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let end = after + blanks;
        let whole = |end, next| Cut::Bad { end, next, problem: Problem::AfterQuote };
        match (bytes.get(end), bytes.get(end + 1)) {
            (None, _) if ended => whole(end, end),
            (None, _) => more(bytes, at),
            (Some(b'\n'), _) => whole(end, end + 1),
            (Some(b'\r'), Some(b'\n')) => whole(end, end + 2),
            (Some(b'\r'), None) if !ended => more(bytes, at),
            (Some(&b), _) if b == self.delimiter && blanks > 0 => {
                match self.cut_anew(bytes, end + 1, ended) {
                    Cut::Record { end, next } | Cut::Bad { end, next, .. } => whole(end, next),
                    Cut::More => more(bytes, at),
                }
            }
            _ => bad_or_more(bytes, at, ended, Problem::AfterQuote),
        }
    }

    /// What stands at `at`, its fields told to nobody. Never part of its caller: `cut` comes back
    /// here, and a compiler that unfolds that takes minutes.
    #[inline(never)]
    fn cut_anew(self, bytes: &[u8], at: usize, ended: bool) -> Cut {
        self.cut(bytes, at, ended, ignore)
    }

    /// How many bytes from the start are whole records (or lines that are none).
    pub(super) fn whole(self, bytes: &[u8], ended: bool) -> usize {
        if ended {
            return bytes.len();
        }
        if memchr(self.quote, bytes).is_none() {
            return memrchr(b'\n', bytes).map_or(0, |n| n + 1);
        }
        let (mut at, mut stops) = (0, self.stops());
        while at < bytes.len() {
            match self.cut_next(bytes, at, false, &mut stops, |_| ()) {
                Cut::Record { next, .. } | Cut::Bad { next, .. } => at = next,
                Cut::More => break,
            }
        }
        at
    }
}

fn ignore(_: Field) {}

fn plain(start: usize, end: usize) -> Field {
    Field { start: start as u32, end: end as u32, quoted: false, doubled: false }
}

pub(super) fn without_return(bytes: &[u8], from: usize, end: usize) -> usize {
    end - usize::from(end > from && bytes[end - 1] == b'\r')
}

fn record(at: usize, end: usize, next: usize) -> Cut {
    if end - at > LONGEST {
        return Cut::Bad { end, next, problem: Problem::TooLong };
    }
    Cut::Record { end, next }
}

/// Gives up the first line of what starts at `at`.
fn bad(bytes: &[u8], at: usize, problem: Problem) -> Cut {
    let stop = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
    let end = without_return(bytes, at, stop);
    Cut::Bad { end, next: (stop + 1).min(bytes.len()), problem }
}

fn bad_or_more(bytes: &[u8], at: usize, ended: bool, problem: Problem) -> Cut {
    if !ended && memchr(b'\n', &bytes[at..]).is_none() {
        return Cut::More;
    }
    bad(bytes, at, problem)
}

fn more(bytes: &[u8], at: usize) -> Cut {
    if bytes.len() - at <= FARTHEST {
        return Cut::More;
    }
    bad_or_more(bytes, at, false, Problem::TooLong)
}

#[cfg(test)]
mod tests {
    use super::super::records::Records;
    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn all(text: &str, width: usize) -> Vec<(u64, Result<Vec<String>, Problem>)> {
        let mut fields = Vec::new();
        let mut records = Records::new(COMMA, text.as_bytes(), width, 1);
        let mut out = Vec::new();
        while let Some(line) = records.next(&mut fields) {
            let values = fields.iter().map(|f| f.value(text.as_bytes(), COMMA).into_owned());
            let values = values.map(|v| String::from_utf8(v).unwrap()).collect();
            out.push((line.number, line.problem.map_or(Ok(values), Err)));
        }
        out
    }

    fn good(number: u64, values: &[&str]) -> (u64, Result<Vec<String>, Problem>) {
        (number, Ok(values.iter().map(|v| (*v).to_owned()).collect()))
    }

    #[test]
    fn quotes_newlines_and_returns() {
        let text = "a,\"b,\"\"c\"\"\nd\"\r\n\r\n5\" pipe,x\n,\nlast,\"\"";
        let want = [
            good(1, &["a", "b,\"c\"\nd"]),
            good(4, &["5\" pipe", "x"]),
            good(5, &["", ""]),
            good(6, &["last", ""]),
        ];
        assert_eq!(all(text, 2), want);
    }

    #[test]
    fn a_wrong_quote_costs_its_first_line_only() {
        assert_eq!(
            all("\"a\"b,1\nx,2\n\"open,3\ny,4\n", 2),
            [
                (1, Err(Problem::AfterQuote)),
                good(2, &["x", "2"]),
                (3, Err(Problem::OpenQuote)),
                good(4, &["y", "4"]),
            ]
        );
    }

    #[test]
    fn only_whole_records_are_cut_off() {
        for (text, whole) in
            [("a\nb", 2), ("a\n\"b\nc", 2), ("a\n\"b\n\"", 2), ("a\n\"b\n\"\n", 7), ("\"a\"\r", 0)]
        {
            assert_eq!(COMMA.whole(text.as_bytes(), false), whole, "{text:?}");
        }
    }

    #[test]
    fn the_longest_record_is_still_one() {
        let mut text = "x".repeat(LONGEST);
        text.push_str("\ny\n");
        assert!(matches!(COMMA.cut(text.as_bytes(), 0, true, |_| ()), Cut::Record { .. }));
        let text = format!("x{text}");
        assert_eq!(all(&text, 1), [(1, Err(Problem::TooLong)), good(2, &["y"])]);
    }

    #[test]
    fn nul_and_bad_bytes_are_told() {
        let mut fields = Vec::new();
        let mut records = Records::new(COMMA, b"a\n\xff\nb\0\nc\n", 1, 1);
        let mut next = || records.next(&mut fields).and_then(|l| l.problem);
        assert_eq!(
            [next(), next(), next(), next()],
            [None, Some(Problem::Encoding), Some(Problem::Nul), None]
        );
    }
}
