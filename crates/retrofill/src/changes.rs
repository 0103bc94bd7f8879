//! What became of the source's files since they were planned.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use retrofill_core::columns::Column;
use retrofill_core::connector::Source;
use retrofill_core::error::Result;
use retrofill_core::plan::Plan;
use retrofill_core::survey::FileStamp;

/// So many files are named; the others are counted.
const NAMED: usize = 5;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There was none.
    New,
    /// It is longer than it was.
    Grown,
    /// Its bytes were written anew.
    Changed,
    /// It is shorter than it was.
    Shrunk,
    /// There is none any more.
    Gone,
}

/// All that happened to the source of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    files: Vec<(Kind, String)>,
    /// Rows that were too new for the plan are old enough now.
    settled: bool,
}

impl Changes {
    /// Looks at the files, not into them.
    pub async fn since(plan: &Plan, source: &dyn Source, now: Timestamp) -> Result<Self> {
        let end = plan.range.end();
        let settled = now.checked_sub(plan.spec.range.settle).ok();
        let open = plan.later > 0 && plan.spec.range.to.is_none_or(|to| to > end);
        let settled = open && settled.is_some_and(|s| s.as_second() > end.as_second());
        let files = match source.stamps().await? {
            Some(now) => compared(&plan.survey.files, &now),
            None => Vec::new(),
        };
        Ok(Changes { files, settled })
    }

    /// Whether a plan made now would be the same.
    pub fn is_none(&self) -> bool {
        self.files.is_empty() && !self.settled
    }

    /// Whether rows that were planned may be there no more, or be others.
    pub fn loses_rows(&self) -> bool {
        self.files.iter().any(|(kind, _)| *kind >= Kind::Changed)
    }
}

/// Each file, with what happened to it.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (kind, words) in [
            (Kind::Gone, ["is gone", "are gone"]),
            (Kind::Shrunk, ["is shorter", "are shorter"]),
            (Kind::Changed, ["was changed", "were changed"]),
            (Kind::Grown, ["has grown", "have grown"]),
            (Kind::New, ["is new", "are new"]),
        ] {
            let of: Vec<_> = self.files.iter().filter(|(k, _)| *k == kind).collect();
            let names = of.iter().take(NAMED).map(|(_, path)| format!("`{path}`"));
            let mut names = names.collect::<Vec<_>>().join(", ");
            if let Some(more @ 1..) = of.len().checked_sub(NAMED) {
                names = format!("{names} and {more} more");
            }
            match of.len() {
                0 => {}
                1 => parts.push(format!("{names} {}", words[0])),
                _ => parts.push(format!("{names} {}", words[1])),
            }
        }
        if self.settled {
            parts.push("rows that were too new have settled".into());
        }
        f.write_str(&parts.join("; "))
    }
}

fn compared(then: &[FileStamp], now: &[FileStamp]) -> Vec<(Kind, String)> {
    let by_path = |list: &'_ [FileStamp]| -> BTreeMap<String, FileStamp> {
        list.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (then, now) = (by_path(then), by_path(now));
    let mut found = Vec::new();
    for (path, old) in &then {
        let kind = match now.get(path) {
            None => Kind::Gone,
            Some(new) if new == old => continue,
            Some(new) if new.size > old.size => Kind::Grown,
            Some(new) if new.size < old.size => Kind::Shrunk,
            Some(_) => Kind::Changed,
        };
        found.push((kind, path.clone()));
    }
    let new = now.keys().filter(|path| !then.contains_key(*path));
    found.extend(new.map(|path| (Kind::New, path.clone())));
    found
}

/// Columns that have another type than they had.
pub fn retyped(then: &Plan, now: &Plan) -> Vec<String> {
    let before = |name: &str| then.columns.iter().find(|c| c.name == name).map(|c| c.ty);
    let other = |c: &&Column| before(&c.name).is_some_and(|ty| ty != c.ty);
    now.columns.iter().filter(other).map(|c| c.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(path: &str, size: u64, stamp: &str) -> FileStamp {
        FileStamp { path: path.into(), size, stamp: stamp.into() }
    }

    #[test]
    fn every_file_is_named_with_what_happened() {
        let then = [stamp("a", 5, "1"), stamp("b", 5, "1"), stamp("c", 5, "1"), stamp("d", 5, "1")];
        let mut now = vec![stamp("a", 5, "2"), stamp("b", 6, "2"), stamp("c", 4, "2")];
        now.extend((0..7).map(|i| stamp(&format!("n{i}"), 1, "1")));
        let changes = Changes { files: compared(&then, &now), settled: false };
        assert_eq!(
            changes.to_string(),
            "`d` is gone; `c` is shorter; `a` was changed; `b` has grown; \
             `n0`, `n1`, `n2`, `n3`, `n4` and 2 more are new"
        );
        assert!(changes.loses_rows() && !changes.is_none());
        let grown = Changes { files: compared(&then[..1], &now[..2]), settled: false };
        assert!(grown.loses_rows(), "`a` was changed");
        let grown = Changes { files: compared(&then[1..2], &now[1..2]), settled: true };
        assert_eq!(grown.to_string(), "`b` has grown; rows that were too new have settled");
        assert!(!grown.loses_rows());
        assert!(Changes { files: compared(&then, &then), settled: false }.is_none());
    }
}
