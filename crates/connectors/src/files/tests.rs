//! The source as a whole.

mod objects;
mod partitions;
mod sample;
mod sorted;
mod splitting;

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt as _;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{
    FieldType, Pulse, ReadRequest, Source as _, SourceBatch, SurveyRequest,
};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::{Survey, TimeUnitSeen};
use tokio::runtime::Runtime;

use super::sorted_copy::SortedCopy;
use super::{CsvSettings, FileSource, Shared, Sizes};

const MICROS: ColumnType = ColumnType::Instant { unit: Precision::Microsecond };
const INTEGER: ColumnType = ColumnType::Integer { bits: 64 };
const FLOAT: ColumnType = ColumnType::Float { bits: 64 };

/// Files in a directory of their own, and a source over them.
struct Fixture {
    dir: tempfile::TempDir,
    source: FileSource,
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

fn open(
    base: &Path,
    path: &str,
    state: &Path,
    change: impl FnOnce(&mut CsvSettings),
) -> FileSource {
    let mut settings = CsvSettings { path: path.into(), ..CsvSettings::default() };
    change(&mut settings);
    FileSource::open(settings, base, &state.join(".state")).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

fn survey(source: &FileSource, time: &str) -> Result<Survey> {
    wait(source.survey(&SurveyRequest { time: time.into(), ..SurveyRequest::default() }))
}

/// The plan's columns as the survey has them.
fn columns(survey: &Survey, time: &str) -> Columns {
    let column = |(i, c): (usize, &FieldType)| Column {
        name: c.name.clone(),
        ty: c.ty,
        role: if c.name == time { Role::Time } else { Role::Value },
        position: i as u32,
        source: None,
    };
    Columns::new(survey.columns.iter().enumerate().map(column).collect()).unwrap()
}

fn read(
    source: &FileSource,
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

/// The same source, handling tiny stretches at a time, and sorting whatever is out of order.
fn tiny(source: &FileSource, chunk: usize) -> FileSource {
    let sizes = Sizes { chunk, block: 1 + chunk as u64 / 2, bucket: 200, cheap: 0 };
    let old = &source.shared;
    let shared = Shared {
        settings: old.settings.clone(),
        transform: old.transform.clone(),
        types: old.types.clone(),
        format: old.format,
        zone: old.zone.clone(),
        origin: old.origin.clone(),
        marks: super::open::Marks::default(),
        state: old.state.clone(),
        sizes,
    };
    FileSource { shared: Arc::new(shared), staging: SortedCopy::default() }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
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

fn weather(state: &Path) -> FileSource {
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
        let text = source.shared.origin.list(&file.path);
        let lines = text.unwrap().lines().count();
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
    let speed = column("wind_speed").as_primitive::<Float64Type>().value(0);
    assert_eq!(speed.to_bits(), 10.357_019_999_999_999_f64.to_bits());
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

#[test]
fn sources_that_cannot_be_say_why() {
    for (files, what) in [
        (&[("a.csv", "t,v,v\n")][..], "`a.csv`: column `v` occurs twice"),
        (&[("a.csv", "t,,v\n")], "`a.csv`: column 2 has no name"),
        (&[("a.csv", "t,\"v\n")], "`a.csv` line 1: a quote is opened and never closed"),
        (&[("a.csv", "\n\n")], "`a.csv` has no line with text"),
        (&[("a.csv", "u,v\n")], "`a.csv` has no column `t`"),
        (&[("a.csv", "t,v\nsoon,1\n")], "`a.csv`: column `t` holds no times: `soon`"),
        (
            &[("a.csv", "t,v\n20130101,1\n20130102,2\n")],
            "`a.csv`: column `t` holds dates or numbers: `20130101`",
        ),
        (
            &[("a.csv", "t,v,w\n"), ("b.csv", "v,x,t\n")],
            "`b.csv` has other columns than `a.csv`: it lacks `w` and has `x`",
        ),
        (&[("a.csv.gz", "t,v\n")], "`a.csv.gz` ends in `.gz` but is not gzip"),
        (&[("a.csv", "\u{1f}")], "`a.csv` has no column `t`"),
    ] {
        let files: Vec<_> = files.iter().map(|(n, c)| (*n, c.as_bytes())).collect();
        let fixture = Fixture::new(&files, |_| ());
        assert_eq!(config_error(survey(&fixture.source, "t")), what);
    }
    let fixture = Fixture::new(&[("a.csv", &gzip(b"t\n"))], |_| ());
    assert_eq!(
        config_error(survey(&fixture.source, "t")),
        "`a.csv` is gzip but does not end in `.gz`"
    );
    let wide = vec!["c"; 4097].join(",");
    let error = config_error(survey(&Fixture::csv(&wide).source, "t"));
    assert_eq!(error, "`a.csv` has 4097 columns; 4096 are possible");
}

#[test]
fn settings_that_cannot_be_say_why() {
    type Change = fn(&mut CsvSettings);
    let cases: [(Change, &str); 5] = [
        (|s| s.delimiter = 'ö', "`delimiter: 'ö'`"),
        (|s| s.quote = '\n', "`quote: '\\n'`"),
        (|s| s.quote = ',', "`delimiter` and `quote`"),
        (|s| s.timezone = "Mars/Base".into(), "`timezone: Mars/Base`"),
        (|s| s.time_format = Some("%!".into()), "`time_format: %!`"),
    ];
    for (change, what) in cases {
        let mut settings = CsvSettings::default();
        change(&mut settings);
        let error = config_error(FileSource::open(settings, Path::new("."), Path::new(".")));
        assert!(error.starts_with(what), "{error}");
    }
}

#[test]
fn files_may_order_their_columns_as_they_like() {
    let files = [("a.csv", "t,v,w\n2013-01-01,1,x\n"), ("b.csv", "w,t,v\ny,2013-01-02,2\n")];
    let fixture = Fixture::new(&files.map(|(n, c)| (n, c.as_bytes())), |_| ());
    let survey = survey(&fixture.source, "t").unwrap();
    let columns = columns(&survey, "t");
    let got = rows(&read(&fixture.source, &survey, &columns, always()).unwrap());
    assert_eq!(got[0].1, ["2013-01-01T00:00:00Z", "1", "x"]);
    assert_eq!(got[1].1, ["2013-01-02T00:00:00Z", "2", "y"]);
    // Another order of columns with the very same records is another content.
    fixture.write("b.csv", b"w,t,z\ny,2013-01-02,2\n");
    let error = read(&fixture.source, &survey, &columns, always()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale);
    fixture.write("b.csv", b"v,t,w\ny,2013-01-02,2\n");
    let error = read(&fixture.source, &survey, &columns, always()).unwrap_err();
    assert!(error.message().starts_with("`b.csv` changed between"), "{error}");
}

#[test]
fn without_header_columns_are_numbered() {
    let fixture = Fixture::new(&[("a.csv", b"\xef\xbb\xbf1356998400;1\n1356998401;2")], |s| {
        s.header = false;
        s.delimiter = ';';
    });
    let survey = survey(&fixture.source, "column_1").unwrap();
    assert_eq!((survey.rows, survey.blocks[0].offset, survey.blocks[0].line), (2, 3, 1));
    assert_eq!(survey.notes, ["times are epoch seconds"]);
    let columns = columns(&survey, "column_1");
    let got = rows(&read(&fixture.source, &survey, &columns, always()).unwrap());
    assert_eq!(got[1].1, ["2013-01-01T00:00:01Z", "2"]);
    assert_eq!(got[1].0, 16);
}

#[test]
fn a_header_alone_is_no_error() {
    let fixture = Fixture::csv("t,v");
    let survey = survey(&fixture.source, "t").unwrap();
    assert_eq!((survey.rows, survey.blocks.len(), survey.time_form.as_ref()), (0, 0, None));
    let columns = columns(&survey, "t");
    assert!(read(&fixture.source, &survey, &columns, always()).unwrap().is_empty());
}

#[test]
fn the_types_of_the_target_win() {
    let text = "t,v,n\n2013-01-01T00:00:00Z,1,a\n2013-01-01T00:00:01Z,300,b\n\
                2013-01-01T00:00:02.5Z,3,c\n2013-01-01T00:00:03Z,,d\n";
    let fixture = Fixture::csv(text);
    let second = ColumnType::Instant { unit: Precision::Second };
    let given = |name: &str, ty| FieldType::new(name, ty, true);
    let types = vec![given("T", second), given("v", ColumnType::Integer { bits: 8 })];
    let request = SurveyRequest { time: "t".into(), types, ..SurveyRequest::default() };
    let survey = wait(fixture.source.survey(&request)).unwrap();
    let types: Vec<_> = survey.columns.iter().map(|c| c.ty).collect();
    assert_eq!(types, [second, ColumnType::Integer { bits: 8 }, ColumnType::Text]);
    let columns = columns(&survey, "t");
    let batches = read(&fixture.source, &survey, &columns, always()).unwrap();
    let got: Vec<_> = rows(&batches).into_iter().map(|(_, row)| row[1].clone()).collect();
    assert_eq!(got, ["a", "d"]);
    let list = batches[0].rejects.iter().map(|r| {
        let line = r.place.line.unwrap();
        (line, r.column.as_deref().unwrap(), r.reason.as_str(), r.text.as_str())
    });
    assert_eq!(
        list.collect::<Vec<_>>(),
        [
            (3, "v", "does not fit in 8 bits", "2013-01-01T00:00:01Z,300,b"),
            (
                4,
                "t",
                "is no whole number of seconds that fits in 64 bits",
                "2013-01-01T00:00:02.5Z,3,c"
            ),
        ]
    );
}

#[test]
fn a_changed_source_is_stale() {
    let fixture = Fixture::csv("t,v\n2013-01-01,1\n2013-01-02,2");
    let survey = survey(&fixture.source, "t").unwrap();
    let columns = columns(&survey, "t");
    let read = || read(&fixture.source, &survey, &columns, always()).map(|b| rows(&b).len());
    for (content, want) in [
        ("t,v\n2013-01-01,1\n2013-01-02,2", Ok(2)),
        ("t,v\n2013-01-01,1\n2013-01-02,2\n2013-01-03,3\n", Ok(2)),
        ("t,v\n2013-01-01,1\n2013-01-02,25", Err("goes on in the line that was its last")),
        ("t,v\n2013-01-01,1\n2013-01-02,3", Err("changed between the bytes 4 and 29")),
        ("t,v\n2013-01-01,1\n2013-01-02,", Err("is shorter than planned")),
    ] {
        fixture.write("a.csv", content.as_bytes());
        let got = read();
        match want {
            Ok(count) => assert_eq!(got.unwrap(), count),
            Err(how) => {
                let error = got.unwrap_err();
                assert_eq!(error.kind(), Kind::Stale);
                assert_eq!(error.message(), format!("`a.csv` {how}"));
            }
        }
    }
    std::fs::remove_file(fixture.dir.path().join("a.csv")).unwrap();
    let error = read().unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Stale, "`a.csv` is gone"));
}

#[test]
fn records_are_located() {
    let text = "t,v\n\n2013-01-01,\"a\nb\"\n2013-01-02,2\r\n2013-01-03,3\n";
    let fixture = Fixture::csv(text);
    let source = tiny(&fixture.source, 16);
    let survey = survey(&source, "t").unwrap();
    assert!(survey.blocks.len() > 1);
    let columns = columns(&survey, "t");
    let got = rows(&read(&source, &survey, &columns, always()).unwrap());
    let ordinals: Vec<_> = got.iter().rev().map(|(o, _)| *o).collect();
    let places = wait(source.locate(&survey, &ordinals)).unwrap();
    let list: Vec<_> =
        places.iter().map(|(p, text)| (p.line.unwrap(), p.offset, text.as_str())).collect();
    assert_eq!(
        list,
        [(6, 36, "2013-01-03,3"), (5, 22, "2013-01-02,2"), (3, 5, "2013-01-01,\"a\nb\"")]
    );
    assert_eq!(wait(source.locate(&survey, &[23])).unwrap_err().kind(), Kind::Bug);
}

#[test]
fn progress_reaches_the_end() {
    let state = tempfile::tempdir().unwrap();
    let last = Arc::new(std::sync::Mutex::new((0, 0)));
    let told = Arc::clone(&last);
    let pulse = Pulse::new(move |done, all| {
        *told.lock().unwrap() = (done, all);
        Ok(())
    });
    let request = SurveyRequest { time: "time_hour".into(), pulse, ..Default::default() };
    let survey = wait(weather(state.path()).survey(&request)).unwrap();
    let total = survey.files.iter().map(|f| f.size).sum();
    assert_eq!(*last.lock().unwrap(), (total, total));
}
