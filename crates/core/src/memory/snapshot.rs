//! One version of a table in memory.

use serde_json::json;

use super::value::{Row, time_of};
use crate::columns::Columns;
use crate::connector::Commit;
use crate::error::{Error, Kind, Result};
use crate::interval::Interval;
use crate::receipt::Receipt;

/// One version of the table.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Which table this is: another one after a drop.
    pub identity: u64,
    /// How often the rows were rewritten in place (compacted, restored).
    pub rewritten: u64,
    /// The columns; none where there is no table.
    pub columns: Option<Columns>,
    /// The rows, each with a number that it keeps for life.
    pub rows: Vec<(u64, Row)>,
    /// Receipts committed with them.
    pub receipts: Vec<Receipt>,
    /// Commits whose receipt was lost.
    pub lost: Vec<Commit>,
    /// Manifests by the load that kept them.
    pub manifests: Vec<(Commit, Vec<u8>)>,
}

impl Snapshot {
    pub(super) fn append(&mut self, rows: impl IntoIterator<Item = Row>) {
        let first = self.rows.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        self.rows.extend((first..).zip(rows));
    }

    pub(super) fn columns(&self) -> Result<&Columns> {
        self.columns.as_ref().ok_or_else(|| {
            Error::new(Kind::Stale, "the table in memory is gone").hint("run again to create it")
        })
    }

    /// The rows whose time lies inside, with their numbers.
    pub(super) fn within(&self, interval: &Interval) -> Result<Vec<&(u64, Row)>> {
        let unit = self.columns()?.time_precision();
        let inside = |row: &Row| time_of(&row[0], unit).is_some_and(|t| interval.contains(t));
        Ok(self.rows.iter().filter(|(_, row)| inside(row)).collect())
    }

    pub(super) fn anchor(&self) -> serde_json::Value {
        json!({ "table": self.identity, "rewritten": self.rewritten })
    }
}
