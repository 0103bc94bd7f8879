//! What the heads of the files tell before any of them is read.

use retrofill_core::error::{Kind, Result};
use retrofill_core::examine::{Remark, Wanted};

use super::Shared;
use super::columns::{SurveyedFile, check_time, headers};
use super::names::list;

/// Opens every file, looks at its first bytes and its header.
pub(super) fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let looked = headers(shared, None).and_then(|(names, files)| {
        let given = given(shared, &names, &files, &wanted.rows.time)?;
        Ok((names, files, given))
    });
    let (names, files, given) = match looked {
        Ok(found) => found,
        Err(e) if e.kind() == Kind::Config => return Ok(vec![Remark::refused("files", &e)]),
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
    for name in named.filter(|name| !given.contains(name)) {
        let found = match shared.transform {
            Some(_) => format!("the transform gives no column `{name}`"),
            None => format!("the files have no column `{name}`"),
        };
        remarks.push(Remark::error("columns", found));
    }
    if let Err(e) = shared.types.check(&names) {
        remarks.push(Remark::refused("files", &e));
    }
    Ok(remarks)
}

/// The columns that rows have in the end, once there is the time among them.
fn given(
    shared: &Shared,
    names: &[String],
    files: &[SurveyedFile],
    time: &str,
) -> Result<Vec<String>> {
    let Some(transform) = &shared.transform else {
        check_time(names, files, time)?;
        return Ok(names.to_vec());
    };
    let wiring = transform.wire(names)?;
    wiring.check(time, "rows.time")?;
    if let Some(index) = wiring.passed_on(time) {
        check_time(names, files, &names[index])?;
    }
    Ok(wiring.names())
}

#[cfg(test)]
mod tests {
    use retrofill_core::connector::Source as _;
    use retrofill_core::examine::{End, Verdict};
    use retrofill_core::spec::{Mode, OnDuplicate, OnEmptySource, RowsSpec, WriteSpec};

    use super::*;
    use crate::files::{CsvSettings, FileSource};
    use crate::transform::Transform;

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
                live_writers: None,
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
        let open = |path| FileSource::open(settings(path), dir.path(), dir.path()).unwrap();
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

    #[tokio::test]
    async fn what_a_transform_gives_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.csv"), "t,k\nyesterday,1\n").unwrap();
        let settings = CsvSettings { path: "*.csv".into(), ..CsvSettings::default() };
        let open = |sql| {
            let (settings, sql) = (settings.clone(), Transform::parse(sql).unwrap());
            FileSource::transformed(settings, sql, dir.path(), dir.path()).unwrap()
        };
        let renamed = open("SELECT t AS at, k + 1 AS n FROM source");
        let good = renamed.examine(&wanted("at", "n")).await.unwrap();
        assert!(good.iter().all(|r| r.verdict == Verdict::Ok), "{good:?}");
        for (source, time, key, text) in [
            (&renamed, "t", "n", "the transform gives no column `t`"),
            (&renamed, "at", "k", "the transform gives no column `k`"),
            (&open("SELECT x AS at, k FROM source"), "at", "k", "the source has no column `x`"),
        ] {
            let remarks = source.examine(&wanted(time, key)).await.unwrap();
            let bad = remarks.iter().find(|r| r.verdict == Verdict::Error).unwrap();
            assert!(bad.found.contains(text), "{bad:?}");
        }
    }
}
