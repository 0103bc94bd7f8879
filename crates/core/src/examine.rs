//! What can be known of a source or a target before a run.

use serde::Serialize;

use crate::after::After;
use crate::columns::ColumnType;
use crate::connector::FieldType;
use crate::error::Error;
use crate::spec::{RowsSpec, Scope, WriteSpec};

/// Which of the two ends is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is read.
    Source,
    /// It is loaded.
    Target,
}

/// What the job wants to do there.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which end it is.
    pub end: End,
    /// Which columns say when and whose a row is.
    pub rows: RowsSpec,
    /// How rows are written.
    pub write: WriteSpec,
    /// What follows loads.
    pub after: Vec<After>,
    /// Columns that a transform reads, beside those above.
    pub reads: Vec<String>,
}

impl Wanted {
    /// The columns that must be there beside the time.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        self.rows.key.iter().chain(&self.rows.compare).flatten().chain(&self.reads)
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// A run works; something is slower, weaker or other than one may think.
    Warning,
    /// A run would end with this.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How much it matters.
    pub verdict: Verdict,
    /// What was looked at: `table`, `rights`, `unique index`.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it, such as a statement to run.
    pub hint: Option<String>,
}

impl Remark {
    fn new(verdict: Verdict, what: &str, found: impl Into<String>) -> Self {
        Remark { verdict, what: what.into(), found: found.into(), hint: None }
    }

    /// As it should be.
    pub fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, what, found)
    }

    /// A run works all the same.
    pub fn warning(what: &str, found: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, what, found)
    }

    /// A run would end with this.
    pub fn error(what: &str, found: impl Into<String>) -> Self {
        Self::new(Verdict::Error, what, found)
    }

    /// A run would end with this error.
    pub fn refused(what: &str, error: &Error) -> Self {
        let hint = error.hint_text().map(str::to_owned);
        Remark { hint, ..Self::error(what, error.to_string()) }
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Wanted {
    /// The same with the names of time and key as the table has them, where those differ in case
    /// alone: so a plan takes them.
    pub fn named_as(&self, columns: &[FieldType]) -> Self {
        let mut named = self.clone();
        let keys = named.rows.key.iter_mut().flatten();
        for name in std::iter::once(&mut named.rows.time).chain(keys) {
            if let Some(there) = find(columns, name) {
                name.clone_from(&there.name);
            }
        }
        named
    }
}

/// What a table has of the columns that the spec names.
pub fn table(wanted: &Wanted, columns: &[FieldType]) -> Vec<Remark> {
    let mut remarks = Vec::new();
    match find(columns, &wanted.rows.time) {
        Some(FieldType { name, ty: ColumnType::Instant { .. } | ColumnType::Date, .. }) => {
            remarks.push(Remark::ok("time column", format!("`{name}`")));
        }
        Some(FieldType { name, ty, .. }) => {
            let found = format!("`{name}` is {} and says no time", ty.common_name());
            remarks.push(Remark::error("time column", found));
        }
        None => remarks.push(missing("time column", &wanted.rows.time, columns)),
    }
    let scope = match &wanted.write.scope {
        Some(Scope::Where(columns)) => columns.keys().collect(),
        _ => Vec::new(),
    };
    for (what, names) in [
        ("key column", wanted.rows.key.iter().flatten().collect()),
        ("compared column", wanted.rows.compare.iter().flatten().collect()),
        ("scope column", scope),
    ] {
        let lacks = |name: &&String| find(columns, name).is_none();
        remarks.extend(names.into_iter().filter(lacks).map(|name| missing(what, name, columns)));
    }
    // A transform names columns exactly.
    let lacks = |name: &&String| !columns.iter().any(|c| c.name == **name);
    remarks.extend(wanted.reads.iter().filter(lacks).map(|name| missing("column", name, columns)));
    remarks
}

/// The column of this name, else the only one that differs in case.
fn find<'t>(columns: &'t [FieldType], name: &str) -> Option<&'t FieldType> {
    let folded = name.to_lowercase();
    let mut alike = columns.iter().filter(|c| c.name.to_lowercase() == folded);
    let exact = columns.iter().find(|c| c.name == name);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

fn missing(what: &str, name: &str, columns: &[FieldType]) -> Remark {
    let list: Vec<_> = columns.iter().map(|c| format!("`{}`", c.name)).collect();
    Remark::error(what, format!("there is no column `{name}`"))
        .hint(format!("its columns are {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::columns::Precision;
    use crate::spec::{Mode, OnDuplicate, OnEmptySource};

    fn field(name: &str, ty: ColumnType) -> FieldType {
        FieldType::new(name, ty, true)
    }

    #[test]
    fn every_named_column_is_looked_for() {
        let scope = BTreeMap::from([("area".to_owned(), vec!["n".to_owned()])]);
        let wanted = Wanted {
            end: End::Target,
            rows: RowsSpec {
                time: "ts".into(),
                key: Some(vec!["Meter".into()]),
                compare: Some(vec!["kwh".into()]),
                on_duplicate: OnDuplicate::Reject,
            },
            write: WriteSpec {
                mode: Mode::Replace,
                on_empty_source: OnEmptySource::Fail,
                scope: Some(Scope::Where(scope)),
                min_keep: None,
                live_writers: None,
                lock: None,
            },
            after: Vec::new(),
            reads: Vec::new(),
        };
        let instant = ColumnType::Instant { unit: Precision::Microsecond };
        let mut columns = vec![field("ts", instant), field("meter", ColumnType::Text)];
        let errors = |columns: &[FieldType]| {
            let remarks = table(&wanted, columns);
            let bad = remarks.into_iter().filter(|r| r.verdict == Verdict::Error);
            bad.map(|r| r.what).collect::<Vec<_>>()
        };
        assert_eq!(errors(&columns), ["compared column", "scope column"]);
        columns.extend(["kwh", "area"].map(|name| field(name, ColumnType::Text)));
        assert_eq!(errors(&columns), [""; 0]);
        columns[0].ty = ColumnType::Text;
        columns[1].name = "METER".into();
        let named = wanted.named_as(&columns);
        assert_eq!(named.rows.key, Some(vec!["METER".to_owned()]));
        columns.push(field("mEtEr", ColumnType::Text));
        assert_eq!(errors(&columns), ["time column", "key column"]);
    }
}
