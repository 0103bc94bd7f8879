//! Cuts bytes into records and fields.
//!
//! A quote opens a quoted field only at the field's first byte; elsewhere it is text. Inside, a
//! doubled quote stands for one. After the closing quote only a delimiter or the end of the line
//! may follow. A record whose quotes are wrong gives up its first line alone: the next record
//! starts on the next line. What a record is depends only on bytes from its start on, so a
//! stretch that starts at a record and ends at one is cut alike wherever it is read.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memrchr};

use super::encoding;
use super::settings::Encoding;

/// The longest record.
pub(super) const LONGEST: usize = 16 << 20;

/// The bytes that have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

/// Where a field's content stands in the buffer, without its outer quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Field {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) quoted: bool,
    /// Whether doubled quotes stand in it.
    pub(super) doubled: bool,
}

impl Field {
    /// The bytes as they stand.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The value: doubled quotes are one.
    pub(super) fn value<'a>(&self, bytes: &'a [u8], quote: u8) -> Cow<'a, [u8]> {
        let raw = self.raw(bytes);
        if !self.doubled {
            return Cow::Borrowed(raw);
        }
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
    pub(super) fn cut(
        self,
        bytes: &[u8],
        at: usize,
        ended: bool,
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
            let Some(n) = memchr2(self.delimiter, b'\n', &bytes[i..]) else {
                if !ended {
                    return more(bytes, at);
                }
                let end = without_return(bytes, i, bytes.len());
                field(plain(i, end));
                return record(bytes, at, end, bytes.len());
            };
            let stop = i + n;
            if bytes[stop] == b'\n' {
                let end = without_return(bytes, i, stop);
                field(plain(i, end));
                return record(bytes, at, end, stop + 1);
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
            (None, _) => Err(record(bytes, at, after, after)),
            (Some(&b), _) if b == self.delimiter => Ok(after + 1),
            (Some(b'\n'), _) => Err(record(bytes, at, after, after + 1)),
            (Some(b'\r'), Some(b'\n')) => Err(record(bytes, at, after, after + 2)),
            (Some(b'\r'), None) if ended => Err(record(bytes, at, after, after + 1)),
            (Some(b'\r'), None) => Err(more(bytes, at)),
            _ => Err(bad_or_more(bytes, at, ended, Problem::AfterQuote)),
        }
    }

    /// How many bytes from the start are whole records (or lines that are none).
    pub(super) fn whole(self, bytes: &[u8], ended: bool) -> usize {
        if ended {
            return bytes.len();
        }
        if memchr(self.quote, bytes).is_none() {
            return memrchr(b'\n', bytes).map_or(0, |n| n + 1);
        }
        let mut at = 0;
        while at < bytes.len() {
            match self.cut(bytes, at, false, |_| ()) {
                Cut::Record { next, .. } | Cut::Bad { next, .. } => at = next,
                Cut::More => break,
            }
        }
        at
    }
}

fn plain(start: usize, end: usize) -> Field {
    Field { start: start as u32, end: end as u32, quoted: false, doubled: false }
}

fn without_return(bytes: &[u8], from: usize, end: usize) -> usize {
    end - usize::from(end > from && bytes[end - 1] == b'\r')
}

fn record(bytes: &[u8], at: usize, end: usize, next: usize) -> Cut {
    if end - at > LONGEST {
        return bad(bytes, at, Problem::TooLong);
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
    if bytes.len() - at <= LONGEST {
        return Cut::More;
    }
    bad_or_more(bytes, at, false, Problem::TooLong)
}

/// One line of a file that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// First byte in the buffer.
    pub(super) start: usize,
    /// One behind the last byte, without the line's end.
    pub(super) end: usize,
    /// Line number.
    pub(super) number: u64,
    /// Why it is no record, where it is none.
    pub(super) problem: Option<Problem>,
}

/// The records of a buffer that starts at a record and ends at one.
#[derive(Debug)]
pub(super) struct Records<'a> {
    dialect: Dialect,
    bytes: &'a [u8],
    /// Fields in a record.
    width: usize,
    at: usize,
    line: u64,
    /// All of it is UTF-8 without NUL.
    clean: bool,
}

impl<'a> Records<'a> {
    /// `line` is the number of the first line.
    pub(super) fn new(dialect: Dialect, bytes: &'a [u8], width: usize, line: u64) -> Self {
        let clean = memchr(0, bytes).is_none() && std::str::from_utf8(bytes).is_ok();
        Records { dialect, bytes, width, at: 0, line, clean }
    }

    /// The number of the line behind the last one given.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next line that is not blank, and its fields.
    #[inline]
    pub(super) fn next(&mut self, fields: &mut Vec<Field>) -> Option<Line> {
        while self.at < self.bytes.len() {
            let (start, number) = (self.at, self.line);
            fields.clear();
            let mut quoted = false;
            let cut = self.dialect.cut(self.bytes, start, true, |f| {
                quoted |= f.quoted;
                fields.push(f);
            });
            let (end, next, problem) = match cut {
                Cut::Record { end, next } => (end, next, None),
                Cut::Bad { end, next, problem } => (end, next, Some(problem)),
                Cut::More => unreachable!("a whole buffer needs no more bytes"),
            };
            self.at = next;
            self.line += if quoted && problem.is_none() {
                memchr::memchr_iter(b'\n', &self.bytes[start..next]).count() as u64
            } else {
                1
            };
            if end > start {
                let problem = problem.or_else(|| self.check(start, end, fields.len()));
                return Some(Line { start, end, number, problem });
            }
        }
        None
    }

    fn check(&self, start: usize, end: usize, fields: usize) -> Option<Problem> {
        if !self.clean {
            let record = &self.bytes[start..end];
            if std::str::from_utf8(record).is_err() {
                return Some(Problem::Encoding);
            }
            if memchr(0, record).is_some() {
                return Some(Problem::Nul);
            }
        }
        (fields != self.width).then_some(Problem::Fields(fields, self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn all(text: &str, width: usize) -> Vec<(u64, Result<Vec<String>, Problem>)> {
        let mut fields = Vec::new();
        let mut records = Records::new(COMMA, text.as_bytes(), width, 1);
        let mut out = Vec::new();
        while let Some(line) = records.next(&mut fields) {
            let values = fields.iter().map(|f| f.value(text.as_bytes(), b'"').into_owned());
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
