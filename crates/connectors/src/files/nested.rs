//! Values that are more than a number or a text: times of day, UUIDs, JSON and lists, in the forms
//! that `PostgreSQL` writes.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use retrofill_core::columns::{ColumnType, Element};
use retrofill_core::digest::json;
use retrofill_core::error::Result;

use super::time::{Clock, Reason};
use super::values::{Cells, Column, Refuse};

const DAY: i64 = 86_400_000_000;

/// `HH:MM[:SS[.ffffff]]` as microseconds since midnight; `24:00` is the end of the day.
pub(super) fn time_of_day(text: &[u8]) -> std::result::Result<i64, Reason> {
    let wrong = || Reason::from("is not a time of day such as `17:05:00.25`");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.split(':');
    let mut two = |most: i64| -> Option<i64> {
        let part = parts.next()?;
        let good = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse().ok().filter(|n| good && *n <= most)
    };
    let (Some(hours), Some(minutes)) = (two(24), two(59)) else { return Err(wrong()) };
    let seconds = two(59);
    if parts.next().is_some() || (seconds.is_none() && clock.len() != 5) {
        return Err(wrong());
    }
    let micros = match fraction {
        None => 0,
        Some(digits) if seconds.is_some() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let kept = digits.trim_end_matches('0');
            if digits.is_empty() {
                return Err(wrong());
            }
            if kept.len() > 6 {
                return Err("is no whole number of microseconds".into());
            }
            format!("{kept:0<6}").parse().map_err(|_| wrong())?
        }
        Some(_) => return Err(wrong()),
    };
    let time = ((hours * 60 + minutes) * 60 + seconds.unwrap_or(0)) * 1_000_000 + micros;
    if time > DAY { Err(wrong()) } else { Ok(time) }
}

/// 32 hex digits, with or without hyphens and braces.
pub(super) fn uuid(text: &[u8]) -> std::result::Result<[u8; 16], Reason> {
    let wrong = || Reason::from("is not a UUID");
    let inner = text.strip_prefix(b"{").and_then(|t| t.strip_suffix(b"}")).unwrap_or(text);
    let hyphens = inner.len() == 36 && [8, 13, 18, 23].iter().all(|i| inner[*i] == b'-');
    let digits: Vec<u8> = match inner.len() {
        36 if hyphens => inner.iter().copied().filter(|b| *b != b'-').collect(),
        32 => inner.to_vec(),
        _ => return Err(wrong()),
    };
    if digits.len() != 32 {
        return Err(wrong());
    }
    let mut out = [0; 16];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(wrong);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(out)
}

/// A JSON document, as it stands.
pub(super) fn json(text: &[u8]) -> std::result::Result<&str, Reason> {
    let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
    json::flaw(text).map_or(Ok(text), |why| Err(why.into()))
}

/// Lists so far.
#[derive(Debug)]
pub(super) struct Lists {
    of: Element,
    lengths: Vec<usize>,
    valid: Vec<bool>,
    inner: Box<Column>,
}

/// Elements of one list.
struct Parts<'a>(&'a [Option<Vec<u8>>]);

impl Cells for Parts<'_> {
    fn each(self, mut take: impl FnMut(usize, Option<&[u8]>)) {
        for (i, part) in self.0.iter().enumerate() {
            take(i, part.as_deref());
        }
    }
}

impl Lists {
    pub(super) fn new(of: Element) -> Self {
        let inner = Box::new(Column::new(of.into(), false, 0));
        Lists { of, lengths: Vec::new(), valid: Vec::new(), inner }
    }

    pub(super) fn append(&mut self, cells: impl Cells, clock: &Clock, refuse: &mut Refuse<'_>) {
        cells.each(|row, value| {
            let parsed = value.map(elements).transpose();
            let (length, valid) = match parsed {
                Ok(None) => (0, false),
                Ok(Some(parts)) => {
                    // Refused elements are NULL, and the row is gone with them.
                    let mut first = None;
                    self.inner.append(Parts(&parts), clock, &mut |_, why| {
                        first.get_or_insert(why);
                    });
                    if let Some(why) = first {
                        refuse(row, format!("has an element that {why}").into());
                    }
                    (parts.len(), true)
                }
                Err(why) => {
                    refuse(row, why);
                    (0, false)
                }
            };
            self.lengths.push(length);
            self.valid.push(valid);
        });
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let item = Field::new_list_field(ColumnType::from(self.of).arrow(), true);
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        let inner = self.inner.finish()?;
        Ok(Arc::new(ListArray::new(Arc::new(item), offsets, inner, Some(nulls))))
    }
}

/// The elements of `{a,"b c",NULL}`, unescaped.
fn elements(text: &[u8]) -> std::result::Result<Vec<Option<Vec<u8>>>, Reason> {
    let wrong = || Reason::from("is not a list such as `{1,2}`");
    let inner = text.strip_prefix(b"{").and_then(|t| t.strip_suffix(b"}")).ok_or_else(wrong)?;
    let mut out = Vec::new();
    if inner.is_empty() {
        return Ok(out);
    }
    let mut at = 0;
    loop {
        let (element, end) = element(inner, at).ok_or_else(wrong)?;
        out.push(element);
        match inner.get(end) {
            None => return Ok(out),
            Some(b',') => at = end + 1,
            Some(_) => return Err(wrong()),
        }
    }
}

/// One element that begins at `at`, and where it ends.
fn element(text: &[u8], at: usize) -> Option<(Option<Vec<u8>>, usize)> {
    let quoted = text.get(at) == Some(&b'"');
    let mut out = Vec::new();
    let mut i = at + usize::from(quoted);
    loop {
        match (text.get(i).copied(), quoted) {
            (Some(b'\\'), _) => {
                out.push(*text.get(i + 1)?);
                i += 2;
            }
            (Some(b'"'), true) => return Some((Some(out), i + 1)),
            (None, true) => return None,
            (Some(b',') | None, false) => {
                if out.is_empty() {
                    return None;
                }
                let null = out.eq_ignore_ascii_case(b"null");
                return Some(((!null).then_some(out), i));
            }
            (Some(b'{' | b'}' | b'"'), false) => return None,
            (Some(byte), _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day(b"00:00"), Ok(0));
        assert_eq!(time_of_day(b"17:05:01.25"), Ok(61_501_250_000));
        assert_eq!(time_of_day(b"23:59:59.999999000"), Ok(DAY - 1));
        assert_eq!(time_of_day(b"24:00:00"), Ok(DAY));
        for text in ["", "7:00", "24:00:01", "12:60", "12:00:00.", "12:00.5", "1:2:3", "12:00Z"] {
            assert!(time_of_day(text.as_bytes()).is_err(), "{text}");
        }
        assert!(time_of_day(b"12:00:00.0000001").is_err());
    }

    #[test]
    fn uuids() {
        let bytes: [u8; 16] = std::array::from_fn(|i| i as u8 * 17);
        for text in [
            "00112233-4455-6677-8899-aabbccddeeff",
            "{00112233-4455-6677-8899-AABBCCDDEEFF}",
            "00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(uuid(text.as_bytes()), Ok(bytes), "{text}");
        }
        for text in ["", "0011", "00112233-4455-6677-8899-aabbccddeefg", "0-0"] {
            assert!(uuid(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_taken_apart() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(elements(b"{}"), Ok(vec![]));
        assert_eq!(elements(b"{1,NULL,3}"), Ok(vec![some("1"), None, some("3")]));
        let text = br#"{"a,b","say \"x\"",NULL,"NULL",""}"#;
        let list = vec![some("a,b"), some("say \"x\""), None, some("NULL"), some("")];
        assert_eq!(elements(text), Ok(list));
        for text in ["", "1,2", "{1", "{1,}", "{,1}", "{\"a}", "{\"a\"b}", "{{1},{2}}"] {
            assert!(elements(text.as_bytes()).is_err(), "{text}");
        }
    }
}
