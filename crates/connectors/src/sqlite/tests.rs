//! The source as a whole, on databases that SQLite itself writes.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt as _;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{ReadRequest, Source as _, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::Survey;
use rusqlite::Connection;
use tokio::runtime::Runtime;

use super::{Shared, Sizes, SqliteSettings, SqliteSource};
use crate::testkit::source_suite::Given;

fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

fn open(dir: &Path, change: impl FnOnce(&mut SqliteSettings)) -> SqliteSource {
    let mut settings = SqliteSettings::new("a.db", "t");
    change(&mut settings);
    let source = SqliteSource::open(settings, dir, &dir.join("state")).unwrap();
    let shared = Arc::into_inner(source.shared).unwrap();
    let patience = Duration::from_millis(50);
    let sizes = Sizes { rows: 16, bytes: 1 << 10, cheap: 10, run: 4 << 10, patience };
    SqliteSource { shared: Arc::new(Shared { sizes, ..shared }), sorted: source.sorted }
}

struct Fixture {
    dir: tempfile::TempDir,
    source: SqliteSource,
}

impl Fixture {
    fn new(sql: &str) -> Fixture {
        Self::with(sql, |_| ())
    }

    fn with(sql: &str, change: impl FnOnce(&mut SqliteSettings)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), sql);
        let source = open(dir.path(), change);
        Fixture { dir, source }
    }

    fn survey_by(&self, time: &str) -> Result<Survey> {
        wait(self.source.survey(&SurveyRequest { time: time.into(), ..SurveyRequest::default() }))
    }

    fn survey(&self) -> Result<Survey> {
        self.survey_by("t")
    }

    fn read(&self, survey: &Survey) -> Result<Vec<SourceBatch>> {
        self.read_as(survey, &|_, ty| ty)
    }

    fn read_as(
        &self,
        survey: &Survey,
        ty: &dyn Fn(&str, ColumnType) -> ColumnType,
    ) -> Result<Vec<SourceBatch>> {
        let column = |(i, f): (usize, &retrofill_core::connector::FieldType)| Column {
            name: f.name.clone(),
            ty: ty(&f.name, f.ty),
            role: if f.name == "t" { Role::Time } else { Role::Value },
            position: i as u32,
            source: None,
        };
        let columns = Columns::new(survey.columns.iter().enumerate().map(column).collect())?;
        let (min, max) = survey.time_range().expect("there are rows");
        let end = max + Duration::from_nanos(1);
        let request = ReadRequest {
            interval: Interval::new(min, end)?,
            columns: Arc::new(columns),
            survey: Arc::new(survey.clone()),
        };
        wait(async { self.source.read(&request).await?.batches.try_collect().await })
    }
}

fn write(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("a.db")).unwrap();
    connection.execute_batch(sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
}

fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, text: &str) -> Error {
    let error = result.expect_err(text);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(format!("{error:?}").contains(text), "{error:?}");
    error
}

/// 150 rows over three days, in no order of time; one of them has none.
const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 149) \
    INSERT INTO t SELECT CASE WHEN i <> 77 THEN \
    strftime('%Y-%m-%d %H:%M:%S', 1577836800 + (i * 37 % 150) * 1800, 'unixepoch') END, \
    's' || (i % 3), i / 8.0, i FROM n;";

fn given_of(table: &str, change: &'static str) -> Given<tempfile::TempDir> {
    let fixture = Fixture::new(&format!("{table} {ROWS}"));
    let path = fixture.dir.path().to_owned();
    Given {
        source: Arc::new(fixture.source),
        time: "t",
        change: Box::new(move || write(&path, change)),
        _keep: fixture.dir,
    }
}

pub(super) fn given() -> Given<tempfile::TempDir> {
    given_of(
        "CREATE TABLE t (t DATETIME, s TEXT, v REAL, n INT);",
        "UPDATE t SET n = -1 WHERE n = 9",
    )
}

pub(super) fn given_keyed() -> Given<tempfile::TempDir> {
    let table = "CREATE TABLE t (t TEXT, s TEXT, v REAL, n INT, PRIMARY KEY (s, n)) WITHOUT ROWID;";
    given_of(table, "DELETE FROM t WHERE n = 9")
}

#[test]
fn what_changes_in_a_block_is_stale_and_what_comes_behind_is_not() {
    let table = "CREATE TABLE t (t TEXT, s TEXT, v REAL, n INT);";
    for (change, stale) in [
        ("UPDATE t SET v = v + 1 WHERE n = 140", true),
        ("DELETE FROM t WHERE n = 3", true),
        ("DELETE FROM t WHERE rowid = 40", true),
        ("INSERT INTO t (rowid, t) VALUES (200, '2020-01-02 00:00:00')", true),
        ("INSERT INTO t (rowid, t) VALUES (-5, '2020-01-02 00:00:00')", false),
        ("INSERT INTO t (t) VALUES ('2020-01-02 00:00:00')", false),
        ("ALTER TABLE t ADD COLUMN more", false),
        ("ALTER TABLE t RENAME COLUMN v TO w", true),
        ("DROP TABLE t", true),
        ("CREATE TABLE u AS SELECT * FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t", true),
    ] {
        let fixture = Fixture::new(&format!("{table} {ROWS}"));
        // A gap between two blocks.
        write(fixture.dir.path(), "UPDATE t SET rowid = rowid + 1000 WHERE rowid > 32");
        let survey = fixture.survey().unwrap();
        let stamps = wait(fixture.source.stamps()).unwrap();
        assert_eq!(stamps.as_deref(), Some(&survey.files[..]));
        write(fixture.dir.path(), &change.replace("rowid = 40", "rowid = 1040"));
        match fixture.read(&survey) {
            Err(e) if stale => assert_eq!(e.kind(), Kind::Stale, "{change}: {e}"),
            Ok(batches) if !stale => {
                let rows: usize = batches.iter().map(|b| b.rows.num_rows()).sum();
                assert_eq!(rows, 149, "{change}");
            }
            other => panic!("{change}: {:?}", other.map(|b| b.len())),
        }
        assert_ne!(wait(fixture.source.stamps()).unwrap(), stamps, "{change}");
    }
}

#[test]
fn times_are_read_however_they_are_kept() {
    for (declared, values, form, want) in [
        ("TEXT", "'2020-01-01T01:00:00+01:00'", "rfc3339", 1_577_836_800_000_000),
        ("DATETIME", "'2020-01-01 00:00:00.25'", "local", 1_577_836_800_250_000),
        ("INTEGER", "1577836800", "epoch seconds", 1_577_836_800_000_000),
        ("TIMESTAMP", "1577836800123", "epoch milliseconds", 1_577_836_800_123_000),
        ("REAL", "1577836800.5", "epoch seconds", 1_577_836_800_500_000),
        ("", "1577836800000001", "epoch microseconds", 1_577_836_800_000_001),
    ] {
        let fixture = Fixture::new(&format!(
            "CREATE TABLE t (v INT, t {declared}); INSERT INTO t VALUES (1, {values})"
        ));
        let survey = fixture.survey().unwrap();
        assert_eq!(survey.time_form.as_deref(), Some(form), "{declared}");
        let batches = fixture.read(&survey).unwrap();
        let times = batches[0].rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(0), want, "{declared}");
    }
}

#[test]
fn types_are_those_declared_or_those_of_the_values() {
    let fixture = Fixture::with(
        "CREATE TABLE t (t INTEGER, i BIGINT, x VARCHAR(9), r DOUBLE, b BLOB, ok BOOLEAN, \
         number NUMERIC, whole NUMERIC, free, never DATE, given);
         INSERT INTO t VALUES (1, 2, 'a', 1.5, x'00ff', 1, 2.5, 7, 'text', NULL, '12.30');
         INSERT INTO t VALUES (2, NULL, NULL, NULL, NULL, NULL, 3, NULL, NULL, NULL, 5);
         INSERT INTO t VALUES (3, 'n/a', x'61', 'much', 'b', 2, 0.5, 7, 'text', NULL, 'x');",
        |settings| {
            settings.types.insert("given".into(), "decimal(6,2)".into());
        },
    );
    let survey = fixture.survey().unwrap();
    let types: Vec<_> = survey.columns[1..].iter().map(|c| c.ty).collect();
    let (whole, float) = (ColumnType::Integer { bits: 64 }, ColumnType::Float { bits: 64 });
    let (text, bytes) = (ColumnType::Text, ColumnType::Bytes);
    let money = ColumnType::Decimal { precision: 6, scale: 2 };
    let want = [whole, text, float, bytes, ColumnType::Bool, float, whole, text, text, money];
    assert_eq!(types, want);
    let batch = fixture.read(&survey).unwrap().remove(0);
    assert_eq!(batch.rows.num_rows(), 2, "{:?}", batch.rejects);
    let column = |name: &str| batch.rows.column_by_name(name).unwrap();
    assert_eq!(column("number").as_primitive::<Float64Type>().values()[..], [2.5, 3.0]);
    assert_eq!(column("i").as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(column("b").as_binary::<i32>().value(0), b"\x00\xff");
    let [reject] = &batch.rejects[..] else { panic!("{:?}", batch.rejects) };
    assert_eq!((reject.place.line, reject.place.to_string()), (Some(3), "a.db:3".into()));
    assert_eq!(reject.column.as_deref(), Some("b"), "the first by name");
    assert_eq!(reject.reason, "`b` is text; it is declared BLOB");
    assert!(reject.text.starts_with("3,n/a,"), "{}", reject.text);
}

/// The table of a target has wider and other types: values fit them, or are refused.
#[test]
fn the_types_of_a_plan_are_met_exactly() {
    let fixture = Fixture::new(
        "CREATE TABLE t (t INTEGER, at TEXT, n INTEGER, day TEXT);
         INSERT INTO t VALUES (1, '2020-01-01 00:00:00', 5, '2020-01-01');
         INSERT INTO t VALUES (2, 'soon', 5, '2020-01-01');
         INSERT INTO t VALUES (3, '2020-01-01 00:00:00', 50000, '2020-02-30');",
    );
    let survey = fixture.survey().unwrap();
    let batch = fixture.read_as(&survey, &|name, ty| match name {
        "at" => ColumnType::Instant { unit: Precision::Microsecond },
        "n" => ColumnType::Integer { bits: 16 },
        "day" => ColumnType::Date,
        _ => ty,
    });
    let batch = batch.unwrap().remove(0);
    let reasons: Vec<_> = batch.rejects.iter().map(|r| r.reason.as_str()).collect();
    let want = ["`soon` does not fit instant exactly", "`2020-02-30` does not fit date exactly"];
    assert_eq!((batch.rows.num_rows(), &reasons[..]), (1, &want[..]));
}

#[test]
fn what_cannot_be_read_says_why() {
    let (config, gone) = (Kind::Config, Kind::Unavailable);
    let sql = "CREATE TABLE t (t TEXT, v); INSERT INTO t VALUES ('2020-01-01', 1); \
               CREATE VIEW seen AS SELECT * FROM t;";
    let of =
        |sql: &str, table: &str| Fixture::with(sql, |settings| settings.table = table.to_owned());
    refused(of(sql, "T").survey(), config, "did you mean `t`?");
    refused(of(sql, "nothing").survey(), config, "its tables are `t`");
    refused(of(sql, "seen").survey(), config, "is a view");
    let fixture = of(sql, "t");
    let error = refused(fixture.survey_by("time"), config, "has no column `time`");
    assert_eq!(error.setting(), Some("rows.time"));
    // Mixed values in a column that allows them.
    write(fixture.dir.path(), "INSERT INTO t VALUES ('2020-01-01', 'many')");
    refused(fixture.survey(), config, "types: { v: float64 }");
    write(fixture.dir.path(), "UPDATE t SET t = 'yesterday'");
    refused(fixture.survey(), config, "holds no times: `yesterday`");
    let day = "CREATE TABLE t (t REAL); INSERT INTO t VALUES (2456293.5)";
    refused(of(day, "t").survey(), config, "Julian day");

    let locked = Connection::open(fixture.dir.path().join("a.db")).unwrap();
    locked.execute_batch("BEGIN EXCLUSIVE").unwrap();
    refused(fixture.survey(), gone, "locked");
    drop(locked);
    std::fs::write(fixture.dir.path().join("a.db"), vec![b'x'; 9000]).unwrap();
    refused(fixture.survey(), config, "is it encrypted?");
    std::fs::remove_file(fixture.dir.path().join("a.db")).unwrap();
    refused(fixture.survey(), config, "there is no file `a.db`");
    assert!(!fixture.dir.path().join("a.db").exists(), "a source is never made");
}

/// A live writer in the mode that keeps its changes in a file of their own.
#[test]
fn a_log_of_changes_is_read_and_seen_to_change() {
    let fixture = Fixture::new(&format!(
        "PRAGMA journal_mode = wal; CREATE TABLE t (t TEXT, s TEXT, v REAL, n INT); {ROWS}"
    ));
    let writer = Connection::open(fixture.dir.path().join("a.db")).unwrap();
    writer.execute_batch("UPDATE t SET v = 0 WHERE n = 1").unwrap();
    let survey = fixture.survey().unwrap();
    assert_eq!(survey.rows, 149);
    let stamps = wait(fixture.source.stamps()).unwrap();
    let rows =
        |batches: Vec<SourceBatch>| -> usize { batches.iter().map(|b| b.rows.num_rows()).sum() };
    // A transaction under way keeps nobody waiting, and is not seen.
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE t SET v = 1").unwrap();
    assert_eq!(rows(fixture.read(&survey).unwrap()), 149);
    writer.execute_batch("COMMIT").unwrap();
    refused(fixture.read(&survey).map(rows), Kind::Stale, "other rows");
    assert_ne!(wait(fixture.source.stamps()).unwrap(), stamps);
}
