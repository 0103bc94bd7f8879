//! Columns in the paths of files, on every way that rows are read by.

use retrofill_core::columns::{ColumnType, Columns};
use retrofill_core::connector::{FieldType, Source as _};
use retrofill_core::error::Kind;
use retrofill_core::interval::Interval;
use retrofill_core::survey::Survey;

use super::{FLOAT, FileSource, INTEGER, always, columns, open, read, rows, survey, tiny, wait};
use crate::testkit::source_suite::to_stage;
use crate::transform::Transform;

/// Rows of three files, which share a pattern of times.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (f, path) in
        ["k=1/w=1.5", "k=2/w=-2", "k=__HIVE_DEFAULT_PARTITION__/w=x%2Fy"].iter().enumerate()
    {
        let row = |i: usize| format!("2020-01-{:02},\"{f},{i}\"\n", 1 + i * 7 % 20);
        let to = dir.path().join(path);
        std::fs::create_dir_all(&to).unwrap();
        let text: String = (0..20).map(row).collect();
        std::fs::write(to.join("a.csv"), format!("t,v\n{text}")).unwrap();
    }
    dir
}

fn days() -> Vec<Interval> {
    let bound = |d| format!("2020-01-{d:02}T00:00:00Z");
    (1..=20).map(|d| Interval::parse(&bound(d), &bound(d + 1)).unwrap()).collect()
}

fn source(dir: &std::path::Path) -> FileSource {
    open(dir, "**/*.csv", dir, |_| ())
}

/// The rows by ordinal: all values but the time.
fn all(source: &FileSource, survey: &Survey, plan: &Columns) -> Vec<(u64, Vec<String>)> {
    let mut all = rows(&read(source, survey, plan, always()).unwrap());
    all.sort_unstable();
    all
}

#[test]
fn direct_sorted_and_first_rows_agree() {
    let dir = files();
    let whole = source(dir.path());
    let held = survey(&whole, "t").unwrap();
    let found: Vec<_> = held.columns.iter().map(|c| (c.name.as_str(), c.ty, c.nullable)).collect();
    assert_eq!(found[2..], [("k", INTEGER, true), ("w", ColumnType::Text, false)]);
    assert_eq!(held.in_paths, 2);
    let source = tiny(&whole, 60);
    let held = survey(&source, "t").unwrap();
    let plan = columns(&held, "t");
    let direct = all(&source, &held, &plan);
    assert_eq!(direct.len(), 60);
    assert_eq!(direct[0].1[1..], ["1", "0,0", "1.5"]);
    assert_eq!(direct[25].1[1..], ["2", "1,5", "-2"]);
    assert_eq!(direct[59].1[1..], ["", "2,19", "x/y"]);
    wait(source.stage(&to_stage(&held, &plan, &days()))).unwrap();
    assert!(dir.path().join(".state/staging").exists());
    assert_eq!(all(&source, &held, &plan), direct);
    wait(source.unstage()).unwrap();
    let request = retrofill_core::connector::ReadRequest {
        interval: always(),
        columns: std::sync::Arc::new(plan),
        survey: std::sync::Arc::new(held),
    };
    assert_eq!(rows(&wait(source.first(&request, 25)).unwrap())[24], direct[24]);
}

#[test]
fn a_value_that_does_not_fit_refuses_the_rows_of_its_file() {
    let dir = files();
    let source = open(dir.path(), "**/*.csv", dir.path(), |s| {
        s.decimal = ',';
        s.delimiter = ';';
        s.types.insert("w".into(), "float64".into());
    });
    for entry in ["k=1/w=1.5", "k=2/w=-2", "k=__HIVE_DEFAULT_PARTITION__/w=x%2Fy"] {
        let path = dir.path().join(entry).join("a.csv");
        std::fs::write(path, "t;v\n2020-01-01;1,5\n2020-01-02;2\n").unwrap();
    }
    let held = survey(&source, "t").unwrap();
    let plan = columns(&held, "t");
    let batches = read(&source, &held, &plan, always()).unwrap();
    // A comma in numbers is a matter of the files, not of their paths.
    let values: Vec<_> = rows(&batches).into_iter().map(|(_, row)| row[1..].to_vec()).collect();
    assert_eq!((values.len(), held.columns[1].ty), (4, FLOAT));
    assert_eq!(values[0], ["1", "1.5", "1.5"]);
    let rejects: Vec<_> = batches.iter().flat_map(|b| b.rejects.clone()).collect();
    assert_eq!(rejects.len(), 2);
    assert_eq!(rejects[1].column.as_deref(), Some("w"));
    assert_eq!((rejects[1].place.line, rejects[1].text.as_str()), (Some(3), "2020-01-02;2"));
}

#[test]
fn a_file_that_moved_is_another() {
    let dir = files();
    let source = source(dir.path());
    let before = survey(&source, "t").unwrap();
    std::fs::rename(dir.path().join("k=1"), dir.path().join("k=7")).unwrap();
    let error = read(&source, &before, &columns(&before, "t"), always()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale);
    let after = survey(&source, "t").unwrap();
    assert_ne!(super::super::fingerprint(&before), super::super::fingerprint(&after));
}

#[test]
fn transforms_read_and_pass_them_on() {
    let dir = files();
    let settings = source(dir.path()).shared.settings.clone();
    let sql = "SELECT t, v, k + 1 AS n, w AS kept FROM source WHERE k IS NULL OR k < 2";
    let transform = Transform::parse(sql).unwrap();
    let state = dir.path().join(".state");
    let source = FileSource::transformed(settings, transform, dir.path(), &state).unwrap();
    let source = tiny(&source, 60);
    let held = survey(&source, "t").unwrap();
    let names: Vec<_> = held.columns.iter().map(|FieldType { name, .. }| name.as_str()).collect();
    assert_eq!((names, held.in_paths), (vec!["t", "v", "n", "kept"], 2));
    let plan = columns(&held, "t");
    let direct = all(&source, &held, &plan);
    assert_eq!(direct.len(), 40);
    assert_eq!(direct[0].1[1..], ["1.5", "2", "0,0"]);
    assert_eq!(direct[39].1[1..], ["x/y", "", "2,19"]);
    wait(source.stage(&to_stage(&held, &plan, &days()))).unwrap();
    assert_eq!(all(&source, &held, &plan), direct);
}
