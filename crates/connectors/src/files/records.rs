//! The lines of a buffer, each with its fields.

use memchr::memchr;

use super::csv::{Cut, Dialect, Field, Format, LONGEST, Problem, without_return};
use super::header::Order;
use super::json::{self, Keys};
use super::stops::Stops;

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

/// What tells the fields of a line.
#[derive(Debug)]
enum Cutter<'a> {
    /// So many in a record.
    Csv(Dialect, usize, Stops),
    Json(&'a Keys),
}

/// The records of a buffer that starts at a record and ends at one.
#[derive(Debug)]
pub(super) struct Records<'a> {
    cutter: Cutter<'a>,
    bytes: &'a [u8],
    at: usize,
    line: u64,
    /// All of it is UTF-8 without NUL.
    clean: bool,
}

impl<'a> Records<'a> {
    /// CSV with so many fields in a record; `line` is the number of the first line.
    pub(super) fn new(dialect: Dialect, bytes: &'a [u8], width: usize, line: u64) -> Self {
        Self::with(Cutter::Csv(dialect, width, dialect.stops()), bytes, line)
    }

    /// Of a file with this order of columns.
    pub(super) fn of(format: Format, bytes: &'a [u8], order: &'a Order, line: u64) -> Self {
        let cutter = match (format, order.keys()) {
            (Format::Csv(dialect), _) => Cutter::Csv(dialect, order.width(), dialect.stops()),
            (Format::Json, keys) => Cutter::Json(keys),
        };
        Self::with(cutter, bytes, line)
    }

    fn with(cutter: Cutter<'a>, bytes: &'a [u8], line: u64) -> Self {
        let clean = memchr(0, bytes).is_none() && std::str::from_utf8(bytes).is_ok();
        Records { cutter, bytes, at: 0, line, clean }
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
            let (dialect, width, stops) = match &mut self.cutter {
                Cutter::Csv(dialect, width, stops) => (*dialect, *width, stops),
                Cutter::Json(keys) => {
                    let keys = *keys;
                    match self.object(keys, fields) {
                        Some(line) => return Some(line),
                        None => continue,
                    }
                }
            };
            let mut quoted = false;
            let cut = dialect.cut_next(self.bytes, start, true, stops, |f| {
                quoted |= f.quoted;
                fields.push(f);
            });
            let (end, next, problem) = match cut {
                Cut::Record { end, next } => (end, next, None),
                Cut::Bad { end, next, problem } => (end, next, Some(problem)),
                Cut::More => unreachable!("a whole buffer needs no more bytes"),
            };
            self.at = next;
            self.line += if quoted || problem.is_some() {
                memchr::memchr_iter(b'\n', &self.bytes[start..next]).count().max(1) as u64
            } else {
                1
            };
            if end > start {
                let problem = problem.or_else(|| self.check(start, end));
                let wrong = (fields.len() != width).then_some(Problem::Fields(fields.len(), width));
                let problem = problem.or(wrong);
                return Some(Line { start, end, number, problem });
            }
        }
        None
    }

    /// The next line as an object; none where it is blank.
    fn object(&mut self, keys: &Keys, fields: &mut Vec<Field>) -> Option<Line> {
        let (start, number) = (self.at, self.line);
        let stop = memchr(b'\n', &self.bytes[start..]).map_or(self.bytes.len(), |n| start + n);
        self.at = (stop + 1).min(self.bytes.len());
        self.line += 1;
        let end = without_return(self.bytes, start, stop);
        let line = &self.bytes[start..end];
        if line.trim_ascii().is_empty() {
            return None;
        }
        let long = (line.len() > LONGEST).then_some(Problem::TooLong);
        let problem = long.or_else(|| self.check(start, end));
        let problem = problem.or_else(|| json::cut(line, start, keys, fields).err());
        Some(Line { start, end, number, problem })
    }

    fn check(&self, start: usize, end: usize) -> Option<Problem> {
        if !self.clean {
            let record = &self.bytes[start..end];
            if std::str::from_utf8(record).is_err() {
                return Some(Problem::Encoding);
            }
            if memchr(0, record).is_some() {
                return Some(Problem::Nul);
            }
        }
        None
    }
}
