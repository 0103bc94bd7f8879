//! The names of types in a spec, and lists of names.

use retrofill_core::columns::{ColumnType, Precision};
use retrofill_core::error::{Error, Result};
pub(crate) use retrofill_core::names::nearest;

/// Names of columns that a message lists at most.
const LISTED: usize = 20;

/// The types without parentheses, and the forms of those with.
pub const TYPE_NAMES: [&str; 16] = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "text",
    "bytes",
    "date",
    "timestamp",
    "timestamp(s)",
    "timestamp(ms)",
    "timestamp(us)",
    "timestamp(ns)",
    "decimal(p,s)",
];

/// The type of this name: one of [`TYPE_NAMES`], where `decimal(p,s)` stands for all decimals of
/// `p` digits, at most 38, of which `s` stand behind the point.
pub fn parse_type(name: &str) -> Result<ColumnType> {
    Ok(match name {
        "bool" => ColumnType::Bool,
        "int8" => ColumnType::Integer { bits: 8 },
        "int16" => ColumnType::Integer { bits: 16 },
        "int32" => ColumnType::Integer { bits: 32 },
        "int64" => ColumnType::Integer { bits: 64 },
        "float32" => ColumnType::Float { bits: 32 },
        "float64" => ColumnType::Float { bits: 64 },
        "text" => ColumnType::Text,
        "bytes" => ColumnType::Bytes,
        "date" => ColumnType::Date,
        "timestamp(s)" => ColumnType::Instant { unit: Precision::Second },
        "timestamp(ms)" => ColumnType::Instant { unit: Precision::Millisecond },
        "timestamp" | "timestamp(us)" => ColumnType::Instant { unit: Precision::Microsecond },
        "timestamp(ns)" => ColumnType::Instant { unit: Precision::Nanosecond },
        other => return decimal(other),
    })
}

fn decimal(name: &str) -> Result<ColumnType> {
    let numbers = name.strip_prefix("decimal").map(str::trim_start);
    let numbers = numbers.and_then(|n| n.strip_prefix('(')?.strip_suffix(')'));
    let Some(numbers) = numbers else {
        let hint = match name {
            "int" | "integer" | "long" | "bigint" => "did you mean `int64`?".into(),
            "float" | "double" | "real" => "did you mean `float64`?".into(),
            "string" | "varchar" | "str" => "did you mean `text`?".into(),
            "decimal" | "numeric" => "say how many digits: `decimal(10,2)`".into(),
            _ => match nearest(name, TYPE_NAMES.into_iter()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("types are {}", TYPE_NAMES.join(", ")),
            },
        };
        return Err(Error::config("is not a type").hint(hint));
    };
    let (precision, scale) = numbers.split_once(',').unwrap_or((numbers, "0"));
    let number = |text: &str| text.trim().parse::<u8>().ok();
    match (number(precision), number(scale)) {
        (Some(precision @ 1..=38), Some(scale)) if scale <= precision => {
            Ok(ColumnType::Decimal { precision, scale: scale as i8 })
        }
        _ => Err(Error::config("is not a decimal")
            .hint("`decimal(p,s)`: 1 to 38 digits, 0 to all of them behind the point")),
    }
}

/// An error for a name in `without` that is none of these columns.
pub(crate) fn check_without(without: &[String], columns: &[String], of: &str) -> Result<()> {
    let Some(odd) = without.iter().find(|name| !columns.contains(name)) else { return Ok(()) };
    let hint = match nearest(odd, columns.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("its columns are {}", list(columns)),
    };
    let what = format!("`without` names `{odd}`, which is no column of {of}");
    Err(Error::config(what).hint(hint))
}

/// An error that names a column with its type, and all columns that no target keeps.
pub(crate) fn unkept(first: String, columns: &[String]) -> Error {
    let what = match columns.len().saturating_sub(1) {
        0 => first,
        1 => format!("{first}, and another one is of such a type"),
        more => format!("{first}, and {more} more are of such types"),
    };
    let hint = "no target keeps such values; leave them out";
    Error::config(what).hint(format!("{hint}: `without: [{}]`", columns.join(", ")))
}

/// Names for a message, not too many.
pub(crate) fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED).map(|n| format!("`{n}`")).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_name() {
        for name in TYPE_NAMES.into_iter().filter(|n| *n != "decimal(p,s)") {
            assert!(parse_type(name).is_ok(), "{name}");
        }
        let money = ColumnType::Decimal { precision: 10, scale: 2 };
        assert_eq!(parse_type("decimal(10, 2)").unwrap(), money);
        let whole = ColumnType::Decimal { precision: 38, scale: 0 };
        assert_eq!(parse_type("decimal(38)").unwrap(), whole);
        for (name, hint) in [
            ("int46", "did you mean `int64`?"),
            ("double", "did you mean `float64`?"),
            ("Text", "did you mean `text`?"),
            ("decimal", "say how many digits: `decimal(10,2)`"),
            ("decimal(39,0)", "`decimal(p,s)`: 1 to 38 digits, 0 to all of them behind the point"),
            ("decimal(2,3)", "`decimal(p,s)`: 1 to 38 digits, 0 to all of them behind the point"),
        ] {
            assert_eq!(parse_type(name).unwrap_err().hint_text(), Some(hint), "{name}");
        }
        let hint = parse_type("geometry").unwrap_err().hint_text().unwrap().to_owned();
        assert!(hint.starts_with("types are bool, int8"), "{hint}");
    }
}
