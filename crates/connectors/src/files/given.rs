//! What a spec says of columns and times beside where the files lie.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};

use super::names::{list, nearest, parse_type};

/// The types that a spec gives for some columns.
#[derive(Debug, Clone)]
pub(crate) struct GivenTypes {
    /// The connector's key in the spec.
    key: &'static str,
    types: BTreeMap<String, ColumnType>,
}

impl GivenTypes {
    /// The types by their words in a spec, those of [`parse_type`].
    pub(crate) fn parse(key: &'static str, words: &BTreeMap<String, String>) -> Result<Self> {
        let mut given = GivenTypes { key, types: BTreeMap::new() };
        for (name, word) in words {
            let ty = parse_type(word)
                .map_err(|e| given.wrong(name, e.at(format!("`types`: `{name}: {word}`"))))?;
            given.types.insert(name.clone(), ty);
        }
        Ok(given)
    }

    pub(crate) fn get(&self, column: &str) -> Option<ColumnType> {
        self.types.get(column).copied()
    }

    /// Fails where a column is named that no file has.
    pub(crate) fn check(&self, columns: &[String]) -> Result<()> {
        let Some(unknown) = self.types.keys().find(|name| !columns.contains(name)) else {
            return Ok(());
        };
        let hint = match nearest(unknown, columns.iter().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the columns are {}", list(columns)),
        };
        let what = format!("`types` names `{unknown}`, a column that no file has");
        Err(self.wrong(unknown, Error::config(what).hint(hint)))
    }

    /// Fails where the time is to be something else.
    pub(crate) fn check_time(&self, time: &str) -> Result<()> {
        match self.types.get(time) {
            Some(ty) if !matches!(ty, ColumnType::Instant { .. }) => {
                let name = ty.common_name();
                let what = format!("`types` makes `{time}` {name}, but it is the time");
                let hint = "set it to `timestamp`, or leave it out";
                Err(self.wrong(time, Error::config(what).hint(hint)))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, column: &str, error: Error) -> Error {
        error.about(format!("source.{}.types.{column}", self.key))
    }
}

/// The zone of this IANA name.
pub(crate) fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|e| {
        Error::config(format!("`timezone: {name}` is not a known zone"))
            .because(e)
            .hint("give an IANA name, such as `Europe/Berlin` or `UTC`")
    })
}
