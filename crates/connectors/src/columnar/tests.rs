//! The source as a whole.

mod partitions;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray as _, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{FieldType, ReadRequest, Source as _, SourceBatch, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::Survey;
use tokio::runtime::Runtime;

use super::{ColumnarSettings, ColumnarSource, Format, Shared, Sizes};
use crate::files::Schema;
use crate::testkit::source_suite::to_stage;

const HOUR: i64 = 3_600_000_000;
/// 2020-01-01.
const START: i64 = 1_577_836_800_000_000;

fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, group: usize) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn stamps(micros: impl IntoIterator<Item = i64>) -> ArrayRef {
    let times: TimestampMicrosecondArray = micros.into_iter().map(Some).collect();
    Arc::new(times.with_timezone("UTC"))
}

/// Hours since [`START`].
fn hours(hours: impl IntoIterator<Item = i64>) -> ArrayRef {
    stamps(hours.into_iter().map(|h| START + h * HOUR))
}

fn numbers(list: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(list.into_iter().collect::<Int64Array>())
}

struct Fixture {
    dir: tempfile::TempDir,
    source: ColumnarSource,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut ColumnarSettings)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let source = open(dir.path(), change);
        Fixture { dir, source }
    }

    fn file(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> &Self {
        write(&self.dir.path().join(name), columns, 100);
        self
    }

    fn survey(&self) -> Result<Survey> {
        wait(self.source.survey(&SurveyRequest { time: "t".into(), ..SurveyRequest::default() }))
    }

    fn survey_error(&self) -> Error {
        self.survey().unwrap_err()
    }

    fn read(&self, survey: &Survey, columns: &Columns, interval: Interval) -> Result<SourceBatch> {
        wait(read(&self.source, survey, columns, interval))
    }
}

async fn read(
    source: &ColumnarSource,
    survey: &Survey,
    columns: &Columns,
    interval: Interval,
) -> Result<SourceBatch> {
    let columns = Arc::new(columns.clone());
    let request = ReadRequest { interval, columns: columns.clone(), survey: survey.clone().into() };
    let rows = source.read(&request).await?;
    let batches: Vec<SourceBatch> = rows.batches.try_collect().await?;
    let parts: Vec<_> = batches.iter().map(|b| &b.rows).collect();
    let rows = arrow::compute::concat_batches(&columns.arrow_schema(), parts).unwrap();
    let ordinals = batches.iter().flat_map(|b| b.ordinals.clone()).collect();
    let rejects = batches.into_iter().flat_map(|b| b.rejects).collect();
    Ok(SourceBatch { rows, ordinals, rejects, filtered: 0 })
}

fn open(dir: &Path, change: impl FnOnce(&mut ColumnarSettings)) -> ColumnarSource {
    let mut settings = ColumnarSettings { path: "*.parquet".into(), ..Default::default() };
    change(&mut settings);
    ColumnarSource::open(Format::Parquet, settings, dir, &dir.join(".state")).unwrap()
}

/// With sizes that make every path short.
fn tiny(dir: &Path) -> ColumnarSource {
    let source = open(dir, |_| ());
    let shared = Arc::into_inner(source.shared).unwrap();
    let shared = Shared { sizes: Sizes { cheap: 0, run: 20_000 }, ..shared };
    ColumnarSource { shared: Arc::new(shared), sorted: source.sorted }
}

fn columns(survey: &Survey) -> Columns {
    let column = |(i, c): (usize, &FieldType)| Column {
        name: c.name.clone(),
        ty: c.ty,
        role: if c.name == "t" { Role::Time } else { Role::Value },
        position: i as u32,
        source: None,
    };
    Columns::new(survey.columns.iter().enumerate().map(column).collect()).unwrap()
}

fn with(columns: &Columns, name: &str, ty: ColumnType) -> Columns {
    let list: Vec<Column> = columns.clone().into();
    let changed = |c: Column| if c.name == name { Column { ty, ..c } } else { c };
    Columns::new(list.into_iter().map(changed).collect()).unwrap()
}

fn always() -> Interval {
    Interval::parse("1900-01-01T00:00:00Z", "2200-01-01T00:00:00Z").unwrap()
}

fn type_of(survey: &Survey, name: &str) -> ColumnType {
    survey.columns.iter().find(|c| c.name == name).unwrap().ty
}

/// Writes the batch in parts.
type Writer = fn(&Path, &RecordBatch);

fn given_as(
    format: Format,
    write: Writer,
) -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("a.{}", format.key()));
    let put = move |of: i64| {
        let order = |i: i64| i * 77 % 240;
        let times: TimestampMicrosecondArray =
            (0..250).map(|i| (i < 240).then(|| START + order(i) * HOUR)).collect();
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let columns = vec![("t", times), ("v", numbers((0..250).map(|i| i * of)))];
        write(&path, &RecordBatch::try_from_iter_with_nullable(nullable(columns)).unwrap());
    };
    put(1);
    let settings = ColumnarSettings { path: format!("*.{}", format.key()), ..Default::default() };
    let state = dir.path().join(".state");
    let source = ColumnarSource::open(format, settings, dir.path(), &state).unwrap();
    let shared = Arc::into_inner(source.shared).unwrap();
    let shared = Shared { sizes: Sizes { cheap: 0, run: 20_000 }, ..shared };
    let source = Arc::new(ColumnarSource { shared: Arc::new(shared), sorted: source.sorted });
    let change = Box::new(move || put(2));
    crate::testkit::source_suite::Given { source, time: "t", change, _keep: dir }
}

fn nullable(columns: Vec<(&str, ArrayRef)>) -> impl Iterator<Item = (&str, ArrayRef, bool)> {
    columns.into_iter().map(|(name, array)| (name, array, true))
}

fn parts(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    (0..rows.num_rows()).step_by(50).map(|at| rows.slice(at, 50.min(rows.num_rows() - at)))
}

/// What the conformance suite reads: 240 shuffled hours in small row groups, some times NULL.
pub(super) fn given() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    given_as(Format::Parquet, |path, rows| {
        let names: Vec<_> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
        let columns = names.iter().map(String::as_str).zip(rows.columns().iter().cloned());
        write(path, columns.collect(), 50);
    })
}

/// The same as a record batch each.
pub(super) fn given_arrow() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    given_as(Format::Arrow, |path, rows| {
        let file = File::create(path).unwrap();
        let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &rows.schema()).unwrap();
        parts(rows).for_each(|part| writer.write(&part).unwrap());
        writer.finish().unwrap();
    })
}

/// The same as a block each.
pub(super) fn given_avro() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    given_as(Format::Avro, |path, rows| {
        let file = File::create(path).unwrap();
        let schema = rows.schema().as_ref().clone();
        let mut writer = arrow_avro::writer::AvroWriter::new(file, schema).unwrap();
        parts(rows).for_each(|part| writer.write(&part).unwrap());
        writer.finish().unwrap();
    })
}

#[test]
fn types_are_those_of_the_files() {
    let f = Fixture::new(|_| ());
    let nanos: TimestampNanosecondArray = vec![1_000, 2_000].into();
    let odd: TimestampNanosecondArray = vec![1_000, 2_001].into();
    let words: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
    f.file(
        "a.parquet",
        vec![
            ("t", hours([0, 1])),
            ("small", Arc::new(Int32Array::from(vec![1, 2]))),
            ("counter", Arc::new(UInt64Array::from(vec![1, 2]))),
            ("huge", Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
            ("nanos", Arc::new(nanos.with_timezone("UTC"))),
            ("odd", Arc::new(odd.with_timezone("UTC"))),
            ("words", Arc::new(words)),
            ("day", Arc::new(Date32Array::from(vec![1, 2]))),
        ],
    );
    let survey = f.survey().unwrap();
    let instant = |unit| ColumnType::Instant { unit };
    for (name, ty) in [
        ("t", instant(Precision::Microsecond)),
        ("small", ColumnType::Integer { bits: 32 }),
        ("counter", ColumnType::Integer { bits: 64 }),
        ("huge", ColumnType::Decimal { precision: 20, scale: 0 }),
        ("nanos", instant(Precision::Microsecond)),
        ("odd", instant(Precision::Nanosecond)),
        ("words", ColumnType::Text),
        ("day", ColumnType::Date),
    ] {
        assert_eq!(type_of(&survey, name), ty, "{name}");
    }
    let got = f.read(&survey, &columns(&survey), always()).unwrap();
    assert_eq!((got.rows.num_rows(), got.rejects.len()), (2, 0));
    let huge = got.rows.column_by_name("huge").unwrap();
    let decimals = huge.as_primitive::<arrow::datatypes::Decimal128Type>();
    assert_eq!(decimals.value(1), i128::from(u64::MAX));
    assert_eq!(got.rows.column_by_name("words").unwrap().as_string::<i32>().value(1), "y");
}

#[test]
fn what_does_not_fit_exactly_is_rejected() {
    let f = Fixture::new(|_| ());
    let values = Float64Array::from(vec![Some(1.0), Some(1.5), None, Some(1e300), Some(-7.0)]);
    f.file("a.parquet", vec![("t", hours(0..5)), ("v", Arc::new(values))]);
    let survey = f.survey().unwrap();
    let plan = with(&columns(&survey), "v", ColumnType::Integer { bits: 64 });
    let got = f.read(&survey, &plan, always()).unwrap();
    let kept: Vec<_> = got.rows.column(1).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(kept, [Some(1), None, Some(-7)]);
    assert_eq!(got.ordinals, [0, 2, 4]);
    let reasons: Vec<_> = got.rejects.iter().map(|r| (r.place.line, r.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (Some(2), "`1.5` does not fit integer exactly"),
            (Some(4), "`1e300` does not fit integer exactly")
        ]
    );
    assert_eq!(got.rejects[0].column.as_deref(), Some("v"));
    assert_eq!(got.rejects[0].text, "2020-01-01T01:00:00Z,1.5");
}

#[test]
fn files_may_differ_only_where_the_spec_says_so() {
    let f = Fixture::new(|_| ());
    f.file("a.parquet", vec![("t", hours([0])), ("v", numbers([1]))]);
    f.file("b.parquet", vec![("v", numbers([2])), ("t", hours([1]))]);
    assert_eq!(f.survey().unwrap().rows, 2, "the order is free");
    f.file("c.parquet", vec![("t", hours([2])), ("w", numbers([3]))]);
    let error = f.survey_error();
    assert_eq!(
        error.message(),
        "`c.parquet` has other columns than `a.parquet`: it lacks `v` and has `w`"
    );
    let f = Fixture { source: open(f.dir.path(), |s| s.schema = Schema::Union), dir: f.dir };
    let survey = f.survey().unwrap();
    let got = f.read(&survey, &columns(&survey), always()).unwrap();
    let w = got.rows.column_by_name("w").unwrap().as_primitive::<Int64Type>().clone();
    assert_eq!(w.iter().collect::<Vec<_>>(), [None, None, Some(3)]);
    f.file("d.parquet", vec![("t", hours([3])), ("w", Arc::new(Float64Array::from(vec![0.5])))]);
    let error = f.survey_error();
    assert_eq!(error.message(), "`d.parquet` has column `w` as float, `c.parquet` as integer");
    let typed = |s: &mut ColumnarSettings| {
        s.schema = Schema::Union;
        s.types = [("w".to_owned(), "float64".to_owned())].into();
    };
    let f = Fixture { source: open(f.dir.path(), typed), dir: f.dir };
    let survey = f.survey().unwrap();
    assert_eq!(type_of(&survey, "w"), ColumnType::Float { bits: 64 });
    assert_eq!(f.read(&survey, &columns(&survey), always()).unwrap().rows.num_rows(), 4);
}

#[test]
fn times_may_be_dates_text_or_numbers() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["2020-01-01 00:00", "2020-01-01 01:00"]));
    let millis = numbers([START / 1000, (START + HOUR) / 1000]);
    let naive: TimestampMillisecondArray = vec![START / 1000, (START + HOUR) / 1000].into();
    for column in [texts, millis, Arc::new(naive)] {
        let f = Fixture::new(|_| ());
        f.file("a.parquet", vec![("t", column), ("v", numbers([1, 2]))]);
        let survey = f.survey().unwrap();
        let (min, max) = survey.time_range().unwrap();
        assert_eq!((min.as_microsecond(), max.as_microsecond()), (START, START + HOUR));
        let got = f.read(&survey, &columns(&survey), always()).unwrap();
        let times = got.rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[START, START + HOUR]);
        assert_eq!(survey.notes.len(), 1, "{:?}", survey.notes);
    }
    let f = Fixture::new(|s| s.timezone = "Europe/Berlin".into());
    f.file("a.parquet", vec![("t", Arc::new(Date32Array::from(vec![18262])))]);
    let survey = f.survey().unwrap();
    assert_eq!(survey.time_range().unwrap().0.as_microsecond(), START - HOUR);
    let got = f.read(&survey, &columns(&survey), always()).unwrap();
    let times = got.rows.column(0).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(0), START - HOUR);
}

#[test]
fn a_local_hour_that_is_two_or_none_is_refused() {
    let f = Fixture::new(|s| s.timezone = "America/New_York".into());
    // 2013-03-10 02:30 does not exist, 2013-11-03 01:30 is two times.
    let local = [1_362_882_600, 1_383_442_200, 1_383_438_600];
    let times: TimestampMillisecondArray = local.map(|s: i64| Some(s * 1000)).into_iter().collect();
    f.file("a.parquet", vec![("t", Arc::new(times))]);
    let survey = f.survey().unwrap();
    assert_eq!((survey.rows, survey.unplaced), (1, 2));
    let reasons: Vec<_> = survey.unplaced_rejects.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "does not exist in America/New_York: clocks were set forward",
            "is two times in America/New_York: clocks were set back"
        ]
    );
}

#[test]
fn what_is_no_source_says_so() {
    let f = Fixture::new(|_| ());
    std::fs::write(f.dir.path().join("a.parquet"), "t,v\n1,2\n").unwrap();
    assert_eq!(f.survey_error().message(), "`a.parquet` is not a Parquet file");
    f.file("a.parquet", vec![("time", hours([0]))]);
    let error = f.survey_error();
    assert_eq!(error.message(), "`a.parquet` has no column `t`");
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    f.file("a.parquet", vec![("t", hours([0])), ("l", Arc::new(list))]);
    assert!(f.survey_error().message().starts_with("`a.parquet`: column `l` is of type List"));
    f.file("b.parquet", vec![("t", hours([1]))]);
    let rest = Fixture { source: open(f.dir.path(), |s| s.without = vec!["l".into()]), dir: f.dir };
    let survey = rest.survey().unwrap();
    assert_eq!((survey.rows, survey.columns.len()), (2, 1), "files may differ in what is left out");
    let f = Fixture { source: open(rest.dir.path(), |_| ()), dir: rest.dir };
    std::fs::remove_file(f.dir.path().join("b.parquet")).unwrap();
    f.file("a.parquet", vec![("t", Arc::new(Float64Array::from(vec![1.0])))]);
    assert_eq!(f.survey_error().message(), "column `t` of `a.parquet` holds no times");
    f.file("a.parquet", vec![("t", hours(0..300)), ("v", numbers(0..300))]);
    let whole = std::fs::read(f.dir.path().join("a.parquet")).unwrap();
    std::fs::write(f.dir.path().join("a.parquet"), &whole[..whole.len() - 3]).unwrap();
    let error = f.survey_error();
    assert_eq!((error.kind(), error.message()), (Kind::Config, "`a.parquet` is damaged"));
}

/// Shuffled rows, many slices: one pass, then each slice finds its rows, also after a stop.
#[test]
fn a_sorted_copy_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let source = tiny(dir.path());
    let order = |i: i64| i * 7_919 % 5_000;
    write(
        &dir.path().join("a.parquet"),
        vec![("t", hours((0..5_000).map(order))), ("v", numbers(0..5_000))],
        1_000,
    );
    let request = SurveyRequest { time: "t".into(), ..SurveyRequest::default() };
    let survey = wait(source.survey(&request)).unwrap();
    let plan = with(&columns(&survey), "v", ColumnType::Integer { bits: 8 });
    let at = |h: i64| jiff::Timestamp::from_microsecond(START + h * HOUR).unwrap();
    let slices: Vec<_> =
        (0..500).map(|i| Interval::new(at(i * 10), at(i * 10 + 10)).unwrap()).collect();
    wait(source.stage(&to_stage(&survey, &plan, &slices))).unwrap();
    let copy = dir.path().join(".state/staging");
    let copy = std::fs::read_dir(&copy).unwrap().next().unwrap().unwrap().path();
    let runs = || {
        let names = std::fs::read_dir(&copy).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|n| n.to_string_lossy().starts_with("run-")).count()
    };
    let all = runs();
    assert!(all > 3, "{all}");
    let sum = |source: &ColumnarSource| {
        let mut seen = Vec::new();
        for slice in &slices {
            let got = wait(read(source, &survey, &plan, *slice)).unwrap();
            assert_eq!(got.rows.num_rows() + got.rejects.len(), 10, "{slice}");
            seen.extend(got.ordinals);
            seen.extend(got.rejects.iter().map(|r| r.place.offset));
        }
        seen.sort_unstable();
        seen
    };
    let whole: Vec<u64> = (0..5_000).collect();
    assert_eq!(sum(&source), whole);

    // As if it had been stopped in the middle of the third run.
    std::fs::remove_file(copy.join("manifest.json")).unwrap();
    for run in 2..all {
        std::fs::remove_file(copy.join(format!("run-{run:05}.json"))).unwrap();
    }
    let again = tiny(dir.path());
    wait(again.stage(&to_stage(&survey, &plan, &slices))).unwrap();
    assert_eq!(runs(), all);
    assert_eq!(sum(&again), whole);

    // A damaged copy is found, and the next read does without.
    let rows = copy.join("rows");
    let mut bytes = std::fs::read(&rows).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&rows, bytes).unwrap();
    let failed = slices.iter().find_map(|s| wait(read(&again, &survey, &plan, *s)).err());
    assert_eq!(failed.unwrap().kind(), Kind::Unavailable);
    assert!(!copy.exists());
    assert_eq!(sum(&again), whole);
    wait(again.unstage()).unwrap();
    assert!(!dir.path().join(".state/staging").exists());
}

mod far;
