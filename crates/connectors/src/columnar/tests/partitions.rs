//! Columns in the paths of files.

use super::*;

/// Three files of ten hours each, in no order of time.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (f, path) in
        ["k=1/w=1.5", "k=2/w=-2", "k=__HIVE_DEFAULT_PARTITION__/w=x%2Fy"].iter().enumerate()
    {
        let to = dir.path().join(path);
        std::fs::create_dir_all(&to).unwrap();
        let (times, values) =
            (hours((0..10).map(|i| i * 7 % 10)), numbers((0..10).map(|i| i + 10 * f as i64)));
        write(&to.join("a.parquet"), vec![("t", times), ("v", values)], 4);
    }
    dir
}

fn source(dir: &Path, change: impl FnOnce(&mut ColumnarSettings)) -> ColumnarSource {
    let source = open(dir, |s| {
        s.path = "**/*.parquet".into();
        change(s);
    });
    let shared = Arc::into_inner(source.shared).unwrap();
    let shared = Shared { sizes: Sizes { cheap: 0, run: 1_000 }, ..shared };
    ColumnarSource { shared: Arc::new(shared), sorted: source.sorted }
}

fn surveyed(source: &ColumnarSource, time: &str) -> Result<Survey> {
    wait(source.survey(&SurveyRequest { time: time.into(), ..SurveyRequest::default() }))
}

/// Value, `k` and `w` of each row, by ordinal.
fn rows(batch: &SourceBatch) -> Vec<(u64, Vec<String>)> {
    let show = |row, name: &str| {
        let column = batch.rows.column_by_name(name).unwrap();
        arrow::util::display::array_value_to_string(column, row).unwrap()
    };
    let row = |(i, n): (usize, &u64)| (*n, ["v", "k", "w"].map(|name| show(i, name)).to_vec());
    let mut rows: Vec<_> = batch.ordinals.iter().enumerate().map(row).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn direct_and_sorted_rows_agree() {
    let dir = files();
    let source = source(dir.path(), |_| ());
    let survey = surveyed(&source, "t").unwrap();
    assert_eq!(type_of(&survey, "k"), ColumnType::Integer { bits: 64 });
    assert_eq!((type_of(&survey, "w"), survey.in_paths), (ColumnType::Text, 2));
    let plan = columns(&survey);
    let direct = rows(&wait(read(&source, &survey, &plan, always())).unwrap());
    assert_eq!(direct.len(), 30);
    assert_eq!(direct[0].1, ["0", "1", "1.5"]);
    assert_eq!(direct[15].1, ["15", "2", "-2"]);
    assert_eq!(direct[29].1, ["29", "", "x/y"]);
    let bound = |h: i64| (START + h * HOUR) / 1_000_000;
    let at = |h| jiff::Timestamp::from_second(bound(h)).unwrap();
    let slices: Vec<_> = (0..10).map(|h| Interval::new(at(h), at(h + 1)).unwrap()).collect();
    wait(source.stage(&to_stage(&survey, &plan, &slices))).unwrap();
    assert!(dir.path().join(".state/staging").exists());
    assert_eq!(rows(&wait(read(&source, &survey, &plan, always())).unwrap()), direct);
    let (place, text) = wait(source.locate(&survey, &[direct[15].0])).unwrap().remove(0);
    assert_eq!((place.file.as_str(), place.line), ("k=2/w=-2/a.parquet", Some(6)));
    assert!(text.ends_with(",15,2,-2"), "{text}");
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = files();
    let clashing = dir.path().join("k=2/w=-2/v=1");
    std::fs::create_dir(&clashing).unwrap();
    write(&clashing.join("b.parquet"), vec![("t", hours([1])), ("v", numbers([1]))], 4);
    let error = surveyed(&source(dir.path(), |_| ()), "t").unwrap_err();
    assert!(error.message().contains("has a column `v`, and lies in"), "{error}");
    let off = surveyed(&source(dir.path(), |s| s.hive = false), "t").unwrap();
    assert_eq!((off.columns.len(), off.rows, off.in_paths), (2, 31, 0));
    std::fs::remove_dir_all(&clashing).unwrap();
    // A column that one file holds and another's path has is one of both.
    let other = dir.path().join("b.parquet");
    write(&other, vec![("t", hours([1])), ("v", numbers([1])), ("k", numbers([1]))], 4);
    let error = surveyed(&source(dir.path(), |_| ()), "t").unwrap_err();
    assert!(error.message().contains("lies in other directories"), "{error}");
    let error = surveyed(&source(dir.path(), |s| s.schema = Schema::Union), "t").unwrap_err();
    assert!(error.message().contains("`k`"), "{error}");
    write(&other, vec![("t", hours([1])), ("v", numbers([1]))], 4);
    let union = surveyed(&source(dir.path(), |s| s.schema = Schema::Union), "t").unwrap();
    assert_eq!((union.columns.len(), union.rows), (4, 31));
}
