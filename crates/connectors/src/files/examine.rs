//! What the heads of the files tell before any of them is read.

use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::examine::{Remark, Wanted};

use super::Shared;
use super::columns::headers;
use super::names::list;

/// Opens every file, looks at its first bytes and its header.
pub(super) fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let (names, files) = match headers(shared, &wanted.rows.time) {
        Ok(found) => found,
        Err(e) if e.kind() == Kind::Config => return Ok(vec![refused(&e)]),
        Err(e) => return Err(e),
    };
    let bytes: u64 = files.iter().map(|f| f.stamp.size).sum();
    let word = if files.len() == 1 { "file" } else { "files" };
    let size = format!("{} {word}, {:.1} MB", files.len(), bytes as f64 / 1e6);
    let mut remarks = vec![Remark::ok("files", size), Remark::ok("columns", list(&names))];
    if bytes == 0 {
        remarks.push(Remark::warning("files", "there is nothing in them"));
    }
    let named = wanted.rows.key.iter().chain(&wanted.rows.compare).flatten();
    for name in named.filter(|name| !names.contains(name)) {
        let found = format!("the files have no column `{name}`");
        remarks.push(Remark::error("columns", found));
    }
    if let Err(e) = shared.settings.check_types(&names) {
        remarks.push(refused(&e));
    }
    Ok(remarks)
}

fn refused(error: &Error) -> Remark {
    let remark = Remark::error("files", error.to_string());
    match error.hint_text() {
        Some(hint) => remark.hint(hint),
        None => remark,
    }
}

#[cfg(test)]
mod tests {
    use retrofill_core::connector::Source as _;
    use retrofill_core::examine::{End, Verdict};
    use retrofill_core::spec::{Mode, OnDuplicate, OnEmptySource, RowsSpec, WriteSpec};

    use super::*;
    use crate::files::{CsvSettings, CsvSource};

    fn wanted(time: &str, key: &str) -> Wanted {
        Wanted {
            end: End::Source,
            rows: RowsSpec {
                time: time.into(),
                key: Some(vec![key.into()]),
                compare: None,
                on_duplicate: OnDuplicate::Reject,
            },
            write: WriteSpec {
                mode: Mode::FillMissing,
                on_empty_source: OnEmptySource::Fail,
                scope: None,
                min_keep: None,
                lock: None,
            },
            after: Vec::new(),
        }
    }

    #[tokio::test]
    async fn files_are_looked_at_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        // A survey would list the second line; the head is all that is looked at.
        std::fs::write(dir.path().join("a.csv"), "t,k\nyesterday,1\n").unwrap();
        let settings = |path: &str| CsvSettings { path: path.into(), ..CsvSettings::default() };
        let open = |path| CsvSource::open(settings(path), dir.path(), dir.path()).unwrap();
        let source = open("*.csv");
        let good = source.examine(&wanted("t", "k")).await.unwrap();
        assert!(good.iter().all(|r| r.verdict == Verdict::Ok), "{good:?}");
        for (source, time, key, text) in [
            (&source, "time", "k", "has no column `time`"),
            (&source, "t", "key", "no column `key`"),
            (&open("*.txt"), "t", "k", "no file matches"),
        ] {
            let remarks = source.examine(&wanted(time, key)).await.unwrap();
            let bad = remarks.iter().find(|r| r.verdict == Verdict::Error).unwrap();
            assert!(bad.found.contains(text), "{bad:?}");
        }
    }
}
