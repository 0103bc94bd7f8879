//! The source as a whole.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt as _;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{FieldType, ReadRequest, Source as _, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::{Survey, TimeUnitSeen};

use super::{CsvSettings, CsvSource};

const MICROS: ColumnType = ColumnType::Instant { unit: Precision::Microsecond };
const INTEGER: ColumnType = ColumnType::Integer { bits: 64 };
const FLOAT: ColumnType = ColumnType::Float { bits: 64 };

/// Files in a directory of their own, and a source over them.
struct Fixture {
    dir: tempfile::TempDir,
    source: CsvSource,
}

impl Fixture {
    fn new(files: &[(&str, &[u8])], change: impl FnOnce(&mut CsvSettings)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let source = open(dir.path(), "*.csv*", dir.path(), change);
        Fixture { dir, source }
    }

    fn csv(text: &str) -> Fixture {
        Fixture::new(&[("a.csv", text.as_bytes())], |_| ())
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }
}

fn open(base: &Path, path: &str, state: &Path, change: impl FnOnce(&mut CsvSettings)) -> CsvSource {
    let mut settings = CsvSettings { path: path.into(), ..CsvSettings::default() };
    change(&mut settings);
    CsvSource::open(settings, base, &state.join(".state")).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn survey(source: &CsvSource, time: &str) -> Result<Survey> {
    wait(source.survey(&SurveyRequest { time: time.into(), ..SurveyRequest::default() }))
}

/// The plan's columns as the survey has them.
fn columns(survey: &Survey, time: &str) -> Columns {
    let column = |(i, c): (usize, &FieldType)| Column {
        name: c.name.clone(),
        ty: c.ty,
        role: if c.name == time { Role::Time } else { Role::Value },
        position: i as u32,
    };
    Columns::new(survey.columns.iter().enumerate().map(column).collect()).unwrap()
}

fn read(
    source: &CsvSource,
    survey: &Survey,
    columns: &Columns,
    interval: Interval,
) -> Result<Vec<SourceBatch>> {
    let request = ReadRequest {
        interval,
        columns: Arc::new(columns.clone()),
        survey: Arc::new(survey.clone()),
    };
    wait(async { source.read(&request).await?.batches.try_collect().await })
}

fn always() -> Interval {
    Interval::parse("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z").unwrap()
}

/// All rows as text: ordinal, then each column.
fn rows(batches: &[SourceBatch]) -> Vec<(u64, Vec<String>)> {
    let mut out = Vec::new();
    for batch in batches {
        assert_eq!(batch.rows.num_rows(), batch.ordinals.len());
        for (i, ordinal) in batch.ordinals.iter().enumerate() {
            let show =
                |c: &Arc<dyn Array>| arrow::util::display::array_value_to_string(c, i).unwrap();
            out.push((*ordinal, batch.rows.columns().iter().map(show).collect()));
        }
    }
    out
}

fn config_error<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error: Error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    error.to_string()
}

fn weather(state: &Path) -> CsvSource {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc-weather");
    open(&base, "data/*.csv", state, |s| s.null = vec!["NA".into()])
}

#[test]
fn a_year_of_weather() {
    let state = tempfile::tempdir().unwrap();
    let source = weather(state.path());
    let survey = survey(&source, "time_hour").unwrap();
    assert_eq!((survey.rows, survey.unplaced, survey.files.len()), (26_115, 0, 12));
    assert_eq!(survey.files[0].path, "data/2013-01.csv");
    assert_eq!(survey.time_unit, Some(TimeUnitSeen::Second));
    assert!(survey.notes.is_empty());
    let ty = |name: &str| survey.columns.iter().find(|c| c.name == name).unwrap().ty;
    // `visib` holds whole numbers only, until far down.
    assert_eq!((ty("origin"), ty("year"), ty("visib")), (ColumnType::Text, INTEGER, FLOAT));
    assert_eq!((ty("wind_speed"), ty("time_hour")), (FLOAT, MICROS));
    let columns = columns(&survey, "time_hour");
    let mut total = 0;
    for (month, file) in (1..=12).zip(&survey.files) {
        let end = if month == 12 { "2014-01".into() } else { format!("2013-{:02}", month + 1) };
        let month = format!("2013-{month:02}-01T00:00:00Z");
        let interval = Interval::parse(&month, &format!("{end}-01T00:00:00Z")).unwrap();
        let got = rows(&read(&source, &survey, &columns, interval).unwrap()).len();
        let base = &source.shared.base;
        let lines = std::fs::read_to_string(base.join(&file.path)).unwrap().lines().count();
        assert_eq!(got, lines - 1, "{month}");
        total += got;
    }
    assert_eq!(total, 26_115);
}

#[test]
fn values_of_the_first_row() {
    let state = tempfile::tempdir().unwrap();
    let source = weather(state.path());
    let survey = survey(&source, "time_hour").unwrap();
    let columns = columns(&survey, "time_hour");
    let hour = Interval::parse("2013-01-01T06:00:00Z", "2013-01-01T07:00:00Z").unwrap();
    let batches = read(&source, &survey, &columns, hour).unwrap();
    let first = &batches[0].rows;
    let column = |name: &str| first.column_by_name(name).unwrap();
    assert_eq!(column("origin").as_string::<i32>().value(0), "EWR");
    assert_eq!(column("wind_dir").as_primitive::<Int64Type>().value(0), 270);
    assert_eq!(column("wind_speed").as_primitive::<Float64Type>().value(0), 10.357019999999999);
    assert!(column("wind_gust").is_null(0));
}

#[test]
fn null_empty_and_quoted() {
    let text =
        "\u{feff} t , v \r\n2013-01-01,\"\"\r\n2013-01-02,\r\n\r\n2013-01-03,\"a,\"\"b\"\"\n\"";
    let fixture = Fixture::csv(text);
    let survey = survey(&fixture.source, "t").unwrap();
    assert_eq!((survey.rows, survey.unplaced), (3, 0));
    assert_eq!(survey.time_unit, Some(TimeUnitSeen::Day));
    assert_eq!(survey.notes, ["times have no zone and are read as UTC"]);
    let columns = columns(&survey, "t");
    let batches = read(&fixture.source, &survey, &columns, always()).unwrap();
    let v = batches[0].rows.column_by_name("v").unwrap().as_string::<i32>();
    let got: Vec<_> = v.iter().collect();
    assert_eq!(got, [Some(""), None, Some("a,\"b\"\n")]);
}

#[test]
fn unplaced_lines_are_listed_with_their_place() {
    let text = "t,v\n2013-01-01,1\n2013-01-02\n2013-02-30,2\n,3\n2013-01-03,4,5\n2013-01-04,6\n";
    let fixture = Fixture::csv(text);
    let survey = survey(&fixture.source, "t").unwrap();
    assert_eq!((survey.rows, survey.unplaced), (2, 4));
    let list = survey.unplaced_rejects.iter();
    let list: Vec<_> =
        list.map(|r| (r.place.line.unwrap(), r.reason.as_str(), r.text.as_str())).collect();
    assert_eq!(
        list,
        [
            (3, "1 field instead of 2", "2013-01-02"),
            (4, "there is no such day", "2013-02-30,2"),
            (5, "the time is NULL", ",3"),
            (6, "3 fields instead of 2", "2013-01-03,4,5"),
        ]
    );
    let places = survey.unplaced_rejects.iter().map(|r| &text[r.place.offset as usize..]);
    for (reject, rest) in survey.unplaced_rejects.iter().zip(places) {
        assert!(rest.starts_with(&reject.text));
    }
    assert_eq!(survey.columns[1].ty, INTEGER);
    let columns = columns(&survey, "t");
    assert_eq!(rows(&read(&fixture.source, &survey, &columns, always()).unwrap()).len(), 2);
}
