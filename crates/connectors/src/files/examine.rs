//! What the heads of the files tell before any of them is read.

use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::survey::FileStamp;

use super::Shared;
use super::checksums::listed;
use super::columns::{check_time, headers};
use super::form::find_form;
use super::names::list;
use super::origin::Origin;

/// What the heads of files tell.
pub(crate) struct Heads {
    pub(crate) files: Vec<FileStamp>,
    /// The columns of the files.
    pub(crate) names: Vec<String>,
    /// Those that a transform makes of them.
    pub(crate) given: Option<Vec<String>>,
    /// How times are written; none where nothing says.
    pub(crate) time: Result<Option<String>>,
}

/// Opens every file, looks at its first bytes and its header, and at the first times there are.
pub(super) fn examine(shared: &Shared, wanted: &Wanted) -> Result<Vec<Remark>> {
    let settings = &shared.settings;
    let found = heads(shared, &wanted.rows.time);
    let from = (&shared.origin, settings.path.as_str(), settings.checksums.as_deref());
    remarks(found, from, wanted)
}

/// What there is to say of files: of those of this pattern, and of a list of their checksums.
pub(crate) fn remarks(
    heads: Result<Heads>,
    (origin, pattern, checksums): (&Origin, &str, Option<&str>),
    wanted: &Wanted,
) -> Result<Vec<Remark>> {
    let Heads { files, names, given, time } = match heads {
        Ok(heads) => heads,
        Err(e) => return refused("files", e).map(|remark| vec![remark]),
    };
    let bytes: u64 = files.iter().map(|f| f.size).sum();
    let word = if files.len() == 1 { "file" } else { "files" };
    let size = format!("{} {word}, {:.1} MB", files.len(), bytes as f64 / 1e6);
    let mut remarks = vec![Remark::ok("files", size), Remark::ok("columns", list(&names))];
    if bytes == 0 {
        remarks.push(Remark::warning("files", "there is nothing in them"));
    }
    let column = &wanted.rows.time;
    remarks.push(match time {
        Ok(Some(form)) => Remark::ok("time column", format!("`{column}`, {form}")),
        Ok(None) => Remark::warning("time column", format!("`{column}` holds nothing but NULL")),
        Err(e) => refused("time column", e)?,
    });
    for name in wanted.named().filter(|name| !given.as_ref().unwrap_or(&names).contains(name)) {
        let found = match given {
            Some(_) => format!("the transform gives no column `{name}`"),
            None => format!("the files have no column `{name}`"),
        };
        remarks.push(Remark::error("columns", found));
    }
    if let Some(checksums) = checksums {
        remarks.push(match listed(origin, pattern, checksums) {
            Ok(_) => Remark::ok("checksums", format!("`{checksums}` lists every file")),
            Err(e) => refused("checksums", e)?,
        });
    }
    Ok(remarks)
}

/// What a run would end with is a finding.
fn refused(what: &str, error: Error) -> Result<Remark> {
    if error.kind() == Kind::Config { Ok(Remark::refused(what, &error)) } else { Err(error) }
}

fn heads(shared: &Shared, time: &str) -> Result<Heads> {
    let (names, files) = headers(shared, None)?;
    shared.types.check(&names)?;
    let wiring = shared.transform.as_ref().map(|t| t.wire(&names)).transpose()?;
    let source = match &wiring {
        None => Some(time),
        Some(wiring) => {
            wiring.check(time, "rows.time")?;
            wiring.passed_on(time).map(|at| names[at].as_str())
        }
    };
    let form = |name: &str| {
        shared.types.check_time(name)?;
        let Some(at) = names.iter().position(|n| n == name) else { return Ok(None) };
        // As the plan finds it: only so much is read until there are times.
        let form = find_form(shared, &files, name, at, None)?;
        Ok(form.map(|form| form.name().to_owned()))
    };
    let time = match source {
        Some(name) => {
            check_time(&names, &files, name)?;
            form(name)
        }
        None => Ok(Some("which the transform computes".into())),
    };
    let given = wiring.map(|wiring| wiring.names());
    let files = files.into_iter().map(|f| f.stamp).collect();
    Ok(Heads { files, names, given, time })
}

#[cfg(test)]
mod tests {
    use retrofill_core::connector::Source as _;
    use retrofill_core::examine::Verdict;

    use crate::files::{CsvSettings, FileSource};
    use crate::testkit::source_suite::wanted;
    use crate::transform::Transform;

    #[tokio::test]
    async fn files_are_looked_at_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        // A survey would list the third line; the first times are all that is looked at.
        std::fs::write(dir.path().join("a.csv"), "t,k\n2020-01-01,1\nyesterday,1\n").unwrap();
        std::fs::write(dir.path().join("b.csv"), "t,k\nyesterday,1\n").unwrap();
        let settings = |path: &str| CsvSettings { path: path.into(), ..CsvSettings::default() };
        let open = |path| FileSource::open(settings(path), dir.path(), dir.path()).unwrap();
        let source = open("a.csv");
        let good = source.examine(&wanted("t", "k")).await.unwrap();
        assert!(good.iter().all(|r| r.verdict == Verdict::Ok), "{good:?}");
        let sums = "60b725f10c9c85c70d97880dfe8191b3  b.csv\n";
        std::fs::write(dir.path().join("SUMS"), sums).unwrap();
        let listed = |name: &str| {
            let settings = CsvSettings { checksums: Some(name.into()), ..settings("a.csv") };
            FileSource::open(settings, dir.path(), dir.path()).unwrap()
        };
        for (source, time, key, text) in [
            (&source, "time", "k", "has no column `time`"),
            (&source, "t", "key", "no column `key`"),
            (&open("*.txt"), "t", "k", "no file matches"),
            (&open("b.csv"), "t", "k", "column `t` holds no times: `yesterday`"),
            (&listed("none"), "t", "k", "there is no file `none`"),
            (&listed("SUMS"), "t", "k", "`a.csv` is not listed in `SUMS`"),
        ] {
            let remarks = source.examine(&wanted(time, key)).await.unwrap();
            let bad = remarks.iter().find(|r| r.verdict == Verdict::Error).unwrap();
            assert!(bad.found.contains(text), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn what_a_transform_gives_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.csv"), "t,k\n2020-01-01,1\n").unwrap();
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
