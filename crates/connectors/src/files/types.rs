//! The type of a column from all its values: each value adds bits, the union decides. Union is
//! order-free, so files and blocks can be looked at in any order, side by side.

use std::borrow::Cow;

use memchr::memchr;
use retrofill_core::columns::ColumnType;

/// Digits that a 64-bit float is trusted with.
pub(super) const FLOAT_DIGITS: usize = 17;

/// Every whole number of so many digits is exact in a 64-bit float.
const EXACT_DIGITS: usize = 15;

/// What the values of one column look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen(u8);

impl Seen {
    const INTEGER: u8 = 1;
    /// A whole number that no 64-bit float equals.
    const WIDE: u8 = 2;
    const FLOAT: u8 = 4;
    const BOOL: u8 = 8;
    const TEXT: u8 = 16;
    const NULL: u8 = 32;
    /// An object or a list of JSON.
    const NESTED: u8 = 64;

    /// Adds a NULL.
    #[inline]
    pub(super) fn null(&mut self) {
        self.0 |= Self::NULL;
    }

    /// Adds a value; `decimal` stands before the fraction of a number.
    #[inline]
    pub(super) fn value(&mut self, value: &[u8], decimal: char) {
        if self.0 & Self::TEXT == 0 {
            self.0 |= if decimal == '.' { look(value) } else { look_for_comma(value) };
        }
    }

    /// Adds a value of a JSON object that is not null: a text is one, whatever it looks like.
    #[inline]
    pub(super) fn member(&mut self, raw: &[u8], quoted: bool) {
        match raw {
            _ if quoted => self.0 |= Self::TEXT,
            [b'{' | b'[', ..] => self.0 |= Self::NESTED,
            _ => self.value(raw, '.'),
        }
    }

    /// Adds another look at the same column.
    pub(super) fn merge(&mut self, other: Seen) {
        self.0 |= other.0;
    }

    /// Whether values of another kind have come in: numbers became text and the like.
    pub(super) fn turned_into(self, all: Seen) -> bool {
        let is_number =
            |ty: ColumnType| matches!(ty, ColumnType::Integer { .. } | ColumnType::Float { .. });
        let (before, after) = (self.column_type(), all.column_type());
        self.0 & !Self::NULL != 0 && before != after && !(is_number(before) && is_number(after))
    }

    /// Whether there was a NULL.
    pub(super) fn nullable(self) -> bool {
        self.0 & Self::NULL != 0
    }

    /// The narrowest type that holds every value; text where there was none.
    pub(super) fn column_type(self) -> ColumnType {
        let has = |bits| self.0 & bits != 0;
        if has(Self::NESTED) {
            return ColumnType::Json;
        }
        if has(Self::TEXT) || has(Self::BOOL) && has(Self::INTEGER | Self::FLOAT) {
            return ColumnType::Text;
        }
        if has(Self::BOOL) {
            return ColumnType::Bool;
        }
        if has(Self::FLOAT) {
            return if has(Self::WIDE) { ColumnType::Text } else { ColumnType::Float { bits: 64 } };
        }
        if has(Self::INTEGER) { ColumnType::Integer { bits: 64 } } else { ColumnType::Text }
    }
}

fn look(value: &[u8]) -> u8 {
    match value {
        [b'0'..=b'9' | b'-' | b'.', ..] => number(value),
        b"true" | b"false" => Seen::BOOL,
        _ => Seen::TEXT,
    }
}

fn look_for_comma(value: &[u8]) -> u8 {
    with_point(value).map_or(Seen::TEXT, |value| look(&value))
}

/// The text of a number that has a decimal comma, with a point instead; none where it has a
/// point already.
pub(super) fn with_point(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr(b'.', text).is_some() {
        return None;
    }
    let Some(at) = memchr(b',', text) else { return Some(text.into()) };
    let mut text = text.to_owned();
    text[at] = b'.';
    Some(text.into())
}

/// A decimal number taken apart: `-?digits(.digits)?([eE][+-]?digits)?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a [u8],
    pub(super) fraction: &'a [u8],
    pub(super) exponent: i64,
    /// Only digits: no point, no exponent.
    pub(super) plain: bool,
}

impl<'a> Decimal<'a> {
    /// None where the text is no such number. At least one digit, leading zeros allowed.
    #[inline]
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(rest);
        let mut number = Decimal { negative, whole, fraction: &[], exponent: 0, plain: true };
        if rest.is_empty() {
            return (!whole.is_empty()).then_some(number);
        }
        number.plain = false;
        let rest = match rest {
            [b'.', rest @ ..] => {
                let (fraction, rest) = digits(rest);
                number.fraction = fraction;
                rest
            }
            _ => rest,
        };
        if whole.is_empty() && number.fraction.is_empty() {
            return None;
        }
        match rest {
            [] => {}
            [b'e' | b'E', rest @ ..] => {
                let unsigned = rest.strip_prefix(b"-").or(rest.strip_prefix(b"+")).unwrap_or(rest);
                let (exponent, end) = digits(unsigned);
                if exponent.is_empty() || exponent.len() > 9 || !end.is_empty() {
                    return None;
                }
                let n = exponent.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
                number.exponent = if rest[0] == b'-' { -n } else { n };
            }
            _ => return None,
        }
        Some(number)
    }

    /// Digits between the first and the last that is not zero, both counted.
    #[inline]
    pub(super) fn significant(&self) -> usize {
        let (mut count, mut last) = (0, 0);
        for digit in self.whole.iter().chain(self.fraction) {
            count += usize::from(count > 0 || *digit != b'0');
            if *digit != b'0' {
                last = count;
            }
        }
        last
    }

    fn leading_zero(&self) -> bool {
        self.whole.len() > 1 && self.whole[0] == b'0'
    }
}

#[inline]
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

fn number(text: &[u8]) -> u8 {
    let Some(number) = Decimal::parse(text) else { return Seen::TEXT };
    if number.leading_zero() {
        return Seen::TEXT;
    }
    if number.plain {
        if number.whole.len() <= EXACT_DIGITS {
            return Seen::INTEGER;
        }
        if let Ok(value) = lexical_core::parse::<i64>(text) {
            let exact = (value as f64) as i128 == i128::from(value);
            return Seen::INTEGER | if exact { 0 } else { Seen::WIDE };
        }
    }
    let short = number.whole.len() + number.fraction.len() <= FLOAT_DIGITS;
    if !short && number.significant() > FLOAT_DIGITS {
        return Seen::TEXT;
    }
    if (number.exponent != 0 || !short) && !in_float_range(text, &number) {
        return Seen::TEXT;
    }
    Seen::FLOAT
}

/// Whether the number is neither too large nor too small for a 64-bit float.
pub(super) fn in_float_range(text: &[u8], number: &Decimal<'_>) -> bool {
    lexical_float(text).is_some_and(|v| v.is_finite() && (v != 0.0 || number.significant() == 0))
}

/// The nearest 64-bit float of a text that [`Decimal::parse`] takes.
#[inline]
pub(super) fn lexical_float(text: &[u8]) -> Option<f64> {
    lexical_core::parse::<f64>(text)
        .ok()
        // What lexical refuses of our grammar (`5.`, `.5`), the standard library reads.
        .or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> ColumnType {
        let mut seen = Seen::default();
        for value in values {
            seen.value(value.as_bytes(), '.');
        }
        seen.column_type()
    }

    #[test]
    fn the_lattice() {
        let (int, float) = (ColumnType::Integer { bits: 64 }, ColumnType::Float { bits: 64 });
        let (text, bool) = (ColumnType::Text, ColumnType::Bool);
        for (values, want) in [
            (&["0", "-12", "9223372036854775807"][..], int),
            (&["10", "9.5"], float),
            (&["10.357019999999999"], float),
            (&["10.3570199999999991"], text),
            (&["100000000000000000000"], float),
            (&["9223372036854775808"], text),
            (&["1234567890123456789", "0.5"], text),
            (&["1e3", "-2.5E-7", ".5", "5."], float),
            (&["1e999"], text),
            (&["1e-999"], text),
            (&["0e-999"], float),
            (&["007"], text),
            (&["+7"], text),
            (&["00.5"], text),
            (&["-"], text),
            (&["."], text),
            (&["1e"], text),
            (&["1.5.2"], text),
            (&["NaN"], text),
            (&["inf"], text),
            (&[" 1"], text),
            (&[""], text),
            (&["true", "false"], bool),
            (&["True"], text),
            (&["true", "1"], text),
            (&[], text),
        ] {
            assert_eq!(of(values), want, "{values:?}");
            let turned: Vec<_> = values.iter().rev().copied().collect();
            assert_eq!(of(&turned), want, "{turned:?}");
        }
    }

    #[test]
    fn a_decimal_comma() {
        let (int, float, text) =
            (ColumnType::Integer { bits: 64 }, ColumnType::Float { bits: 64 }, ColumnType::Text);
        for (value, want) in [
            ("1,5", float),
            ("-,5e3", float),
            ("15", int),
            ("1.5", text),
            ("1.234,5", text),
            ("1,234,5", text),
        ] {
            let mut seen = Seen::default();
            seen.value(value.as_bytes(), ',');
            assert_eq!(seen.column_type(), want, "{value}");
        }
    }

    #[test]
    fn significant_digits() {
        for (text, want) in [("0", 0), ("-0.00120", 2), ("1200", 2), ("10.01", 4), ("1e5", 1)] {
            assert_eq!(Decimal::parse(text.as_bytes()).unwrap().significant(), want, "{text}");
        }
    }
}
