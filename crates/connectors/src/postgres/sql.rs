//! Text of SQL: everything that is not fixed passes through here.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::error::{Error, Result};

/// A name as SQL has it, whatever is in it. A NUL cannot stand in any name.
pub(super) fn ident(name: &str) -> Result<String> {
    if name.is_empty() || name.contains('\0') {
        return Err(Error::config("a name for PostgreSQL is empty or holds a NUL"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Several names, separated by commas.
pub(super) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let list: Result<Vec<_>> = names.into_iter().map(ident).collect();
    Ok(list?.join(", "))
}

/// A text as SQL has it, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::config("a text for PostgreSQL holds a NUL"));
    }
    Ok(format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")))
}

/// A table by its schema and name, byte for byte as the catalog has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl TableName {
    /// Reads `table`, `schema.table` or the same with `"` around a name that holds a dot. A table
    /// without a schema is one of `public`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::config(format!("`{text}` does not name a table"))
                .hint("`schema.table`; names are taken byte for byte, with `\"` around a dot")
        };
        let mut parts = vec![String::new()];
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let part = parts.last_mut().ok_or_else(wrong)?;
            match c {
                '"' if quoted && chars.next_if_eq(&'"').is_some() => part.push('"'),
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                '\0' => return Err(wrong()),
                c => part.push(c),
            }
        }
        if quoted || parts.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), None, None) => Ok(TableName { schema: "public".into(), name }),
            (Some(schema), Some(name), None) => Ok(TableName { schema, name }),
            _ => Err(wrong()),
        }
    }

    /// As SQL has it.
    pub fn sql(&self) -> Result<String> {
        Ok(format!("{}.{}", ident(&self.schema)?, ident(&self.name)?))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str| {
            if name.contains(['.', '"']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.to_owned()
            }
        };
        write!(f, "{}.{}", part(&self.schema), part(&self.name))
    }
}

/// The longest name, in bytes, that the server keeps whole.
pub(super) const NAME: usize = 63;

/// The earliest time that PostgreSQL can read, in seconds since 1970.
const FIRST_SECOND: i64 = -210_866_803_200;

/// A point in time as a text that means the same in every session. Half microseconds are rounded
/// up: no stored time lies between.
fn instant(t: Timestamp) -> String {
    if t.as_second() < FIRST_SECOND {
        return "4714-11-24 00:00:00 BC".into();
    }
    let nanos = t.as_nanosecond();
    let micros = nanos.div_euclid(1_000) + i128::from(nanos.rem_euclid(1_000) != 0);
    let up = Timestamp::from_nanosecond(micros * 1_000).unwrap_or(t);
    let at = TimeZone::UTC.to_datetime(up);
    let (year, era) = match at.year() {
        year if year <= 0 => (1 - year, " BC"),
        year => (year, ""),
    };
    format!(
        "{year:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00{era}",
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.subsec_nanosecond() / 1_000
    )
}

/// A point in time as a literal of the column's type, which has a zone or is bound to UTC.
pub(super) fn instant_literal(t: Timestamp, zoned: bool) -> String {
    let text = instant(t);
    if zoned {
        return format!("'{text}'::pg_catalog.timestamptz");
    }
    format!("'{}'::pg_catalog.timestamp", text.replace("+00", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_nul_is_refused() {
        assert_eq!(ident("Time \"x\"").unwrap(), "\"Time \"\"x\"\"\"");
        assert!(ident("a\0b").is_err() && ident("").is_err() && literal("\0").is_err());
        assert_eq!(literal("it's \\ a").unwrap(), "E'it''s \\\\ a'");
    }

    #[test]
    fn tables_are_read_byte_for_byte() {
        let parse = |text| TableName::parse(text).map(|t| (t.schema, t.name));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parse("readings").unwrap(), pair("public", "readings"));
        assert_eq!(parse("Grid.Readings").unwrap(), pair("Grid", "Readings"));
        assert_eq!(parse("a.\"b.c\"\"d\"").unwrap(), pair("a", "b.c\"d"));
        let table = TableName::parse("a.\"b.c\"\"d\"").unwrap();
        assert_eq!(TableName::parse(&table.to_string()).unwrap(), table);
        assert_eq!(table.sql().unwrap(), "\"a\".\"b.c\"\"d\"");
        for wrong in ["", ".", "a.", "a.b.c", "\"a", "\0"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_have_their_offset() {
        let t = |text: &str| instant_literal(text.parse().unwrap(), true);
        assert!(t("2013-01-01T00:00:00Z").starts_with("'2013-01-01 00:00:00.000000+00'"));
        assert!(t("2013-01-01T00:00:00.0000001Z").starts_with("'2013-01-01 00:00:00.000001+00'"));
        assert!(t("0000-01-01T00:00:00Z").starts_with("'0001-01-01 00:00:00.000000+00 BC'"));
        assert!(t("-009000-01-01T00:00:00Z").starts_with("'4714-11-24 00:00:00 BC'"));
        let plain = instant_literal("2013-01-01T00:00:00Z".parse().unwrap(), false);
        assert_eq!(plain, "'2013-01-01 00:00:00.000000'::pg_catalog.timestamp");
    }
}
