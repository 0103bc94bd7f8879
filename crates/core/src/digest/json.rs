//! The canonical text of a JSON document: RFC 8785, and what it leaves out.
//!
//! Two documents that are the same value have the same text: no spaces, members sorted by the
//! UTF-16 units of their names, of repeated names the last, texts with the fewest escapes, numbers
//! as ECMAScript writes them. Beyond the RFC: a number that no 64-bit float is keeps all its
//! digits, in the form `1.25e+400`; half of a surrogate pair stays an escape.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::{Error, Kind, Result};

/// Documents nested deeper are refused.
const MAX_DEPTH: u32 = 512;

/// Exponents of so many digits fit.
const EXPONENT_DIGITS: usize = 18;

/// The canonical text. An error of kind `Refused` for what has none.
pub fn canonical(text: &str) -> Result<String> {
    read(text).map_err(|why| Error::new(Kind::Refused, format!("a text {why}")))
}

/// Why the text has no canonical one, as the end of a sentence; none where it has.
pub fn flaw(text: &str) -> Option<&'static str> {
    read(text).err()
}

/// The same of a text that is known to be JSON.
pub fn flaw_of_json(text: &str) -> Option<&'static str> {
    let mut run = 0;
    let long = text.len() > MAX_DEPTH as usize
        || text.bytes().any(|b| {
            run = if b.is_ascii_digit() { run + 1 } else { 0 };
            run > EXPONENT_DIGITS
        });
    if long { flaw(text) } else { None }
}

fn read(text: &str) -> std::result::Result<String, &'static str> {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0, flaw: "is not JSON" };
    let mut out = String::with_capacity(text.len());
    let whole = reader.value(&mut out, 0).is_some() && {
        reader.spaces();
        reader.at == reader.bytes.len()
    };
    if whole { Ok(out) } else { Err(reader.flaw) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Why it would be that nothing can be read on.
    flaw: &'static str,
}

impl<'a> Reader<'a> {
    fn spaces(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        self.spaces();
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.at += 1)
    }

    fn value(&mut self, out: &mut String, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            self.flaw = "is JSON nested deeper than 512 levels";
            return None;
        }
        match self.next()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => {
                quote(&self.text()?, out);
                Some(())
            }
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            _ => self.number(out),
        }
    }

    fn word(&mut self, word: &str, out: &mut String) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        rest.starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            out.push_str(word);
        })
    }

    fn array(&mut self, out: &mut String, depth: u32) -> Option<()> {
        self.take(b'[')?;
        out.push('[');
        if self.next()? != b']' {
            loop {
                self.value(out, depth + 1)?;
                if self.next()? != b',' {
                    break;
                }
                self.at += 1;
                out.push(',');
            }
        }
        out.push(']');
        self.take(b']')
    }

    fn object(&mut self, out: &mut String, depth: u32) -> Option<()> {
        self.take(b'{')?;
        let mut members = BTreeMap::new();
        if self.next()? != b'}' {
            loop {
                self.next()?;
                let name = self.text()?;
                self.take(b':')?;
                let mut value = String::new();
                self.value(&mut value, depth + 1)?;
                members.insert(name, value);
                if self.next()? != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        out.push('{');
        for (i, (name, value)) in members.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            quote(name, out);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        self.take(b'}')
    }

    /// A text as UTF-16 units, which is the order of names too.
    fn text(&mut self) -> Option<Vec<u16>> {
        self.take(b'"')?;
        let mut units = Vec::new();
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20))?;
            let text = std::str::from_utf8(&rest[..plain]).ok()?;
            units.extend(text.encode_utf16());
            self.at += plain + 1;
            match rest[plain] {
                b'"' => return Some(units),
                b'\\' => units.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let c = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => u16::from(c),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().try_fold(0_u16, |unit, digit| {
                    Some(unit << 4 | char::from(*digit).to_digit(16)? as u16)
                })?
            }
            _ => return None,
        })
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        &rest[..count]
    }

    fn eat(&mut self, wanted: &[u8]) -> Option<u8> {
        let found = self.bytes.get(self.at).copied().filter(|b| wanted.contains(b))?;
        self.at += 1;
        Some(found)
    }

    fn number(&mut self, out: &mut String) -> Option<()> {
        let start = self.at;
        let negative = self.eat(b"-").is_some();
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
            return None;
        }
        let fraction = match self.eat(b".") {
            Some(_) => Some(self.digits()).filter(|d| !d.is_empty())?,
            None => &[],
        };
        let mut exponent = 0;
        if self.eat(b"eE").is_some() {
            let down = self.eat(b"+-") == Some(b'-');
            let digits = Some(self.digits()).filter(|d| !d.is_empty())?;
            if digits.len() > EXPONENT_DIGITS {
                self.flaw = "is JSON with an exponent of more than 18 digits";
                return None;
            }
            let size: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            exponent = if down { -size } else { size };
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        let exact = Number::new(negative, &[whole, fraction].concat(), {
            exponent.checked_sub(fraction.len() as i64)?
        });
        let nearest = text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Number::of);
        match nearest {
            Some(nearest) if nearest == exact => exact.as_float(out),
            _ => exact.as_exact(out),
        }
        Some(())
    }
}

/// A number as its digits without zeros at either end, and the power of ten behind them.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: String,
    power: i64,
}

impl Number {
    fn new(negative: bool, digits: &[u8], power: i64) -> Self {
        let text = String::from_utf8_lossy(digits);
        let text = text.trim_start_matches('0');
        let short = text.trim_end_matches('0');
        let power = power + (text.len() - short.len()) as i64;
        if short.is_empty() {
            return Number { negative: false, digits: "0".into(), power: 0 };
        }
        Number { negative, digits: short.into(), power }
    }

    /// The shortest digits that mean this float.
    fn of(number: f64) -> Self {
        let text = format!("{:e}", number.abs());
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let fraction = digits.split_once('.').map_or(0, |(_, f)| f.len()) as i64;
        let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).collect();
        Number::new(number < 0.0, &digits, power.parse::<i64>().unwrap_or(0) - fraction)
    }

    /// As ECMAScript writes a number.
    fn as_float(&self, out: &mut String) {
        let (digits, count) = (self.digits.as_str(), self.digits.len() as i64);
        let point = count + self.power;
        if !(-5..=21).contains(&point) {
            return self.as_exact(out);
        }
        if self.negative {
            out.push('-');
        }
        if point <= 0 {
            out.push_str("0.");
            out.extend((point..0).map(|_| '0'));
            out.push_str(digits);
        } else if point >= count {
            out.push_str(digits);
            out.extend((count..point).map(|_| '0'));
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
    }

    /// With an exponent, whatever the size.
    fn as_exact(&self, out: &mut String) {
        if self.negative {
            out.push('-');
        }
        let (first, rest) = self.digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let exponent = self.power + rest.len() as i64;
        let _ = write!(out, "e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
}

/// A text with the fewest escapes.
fn quote(units: &[u16], out: &mut String) {
    out.push('"');
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok(c) if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            Ok(c) => out.push(c),
            Err(half) => {
                let _ = write!(out, "\\u{:04x}", half.unpaired_surrogate());
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str, expected: &str) {
        assert_eq!(canonical(text).unwrap(), expected, "{text}");
    }

    #[test]
    fn the_same_value_has_one_text() {
        is(r#" { "b" : [ 1.0 , true,null ], "a":{} , "b": 2 } "#, r#"{"a":{},"b":2}"#);
        is(r#"["\u20ac$\u000f\nA'B\"\\\"\/"]"#, "[\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\"/\"]");
        is("{\"\u{10000}\":1,\"\u{e000}\":2}", "{\"\u{10000}\":1,\"\u{e000}\":2}");
        is(r#""\uD83D\uDE00 \ud83d""#, "\"\u{1f600} \\ud83d\"");
        is("[]", "[]");
    }

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("1e0", "1"),
            ("4.50", "4.5"),
            ("2e-3", "0.002"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1E30", "1e+30"),
            ("100000000000000000000", "100000000000000000000"),
            ("1000000000000000000000", "1e+21"),
            ("-5e-324", "-5e-324"),
            ("9007199254740993", "9.007199254740993e+15"),
            ("1e400", "1e+400"),
        ] {
            is(text, expected);
        }
        // One digit more than the float has: the digits stay.
        is("333333333.33333329", "3.3333333333333329e+8");
        is("333333333.3333333", "333333333.3333333");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(600) + &"]".repeat(600);
        for text in [
            "",
            "nul",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "\"\t\"",
            "\"\\x\"",
            "1 2",
            "\"a",
            "NaN",
            "\"\\u12\"",
            "{\"a\":1,}",
        ] {
            assert_eq!(flaw(text), Some("is not JSON"), "{text}");
        }
        let of_json = |text: &str| assert_eq!(flaw_of_json(text), flaw(text), "{text}");
        assert_eq!(flaw(&deep), Some("is JSON nested deeper than 512 levels"));
        of_json(&deep);
        let far = "[1e1234567890123456789]";
        assert_eq!(flaw(far), Some("is JSON with an exponent of more than 18 digits"));
        of_json(far);
        is("1e123456789012345678", "1e+123456789012345678");
    }
}
