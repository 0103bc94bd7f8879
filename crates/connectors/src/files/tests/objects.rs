//! NDJSON files.

use retrofill_core::connector::FieldType;

use super::*;
use crate::files::{NdjsonSettings, Schema};

fn source(files: &[(&str, &str)], change: impl FnOnce(&mut NdjsonSettings)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let mut settings: NdjsonSettings =
        serde_json::from_value(serde_json::json!({ "path": "*.ndjson" })).unwrap();
    change(&mut settings);
    let source = FileSource::ndjson(settings, None, dir.path(), dir.path()).unwrap();
    Fixture { dir, source }
}

fn surveyed(fixture: &Fixture) -> Result<Survey> {
    let request = SurveyRequest { time: "t".into(), ..SurveyRequest::default() };
    wait(fixture.source.survey(&request))
}

fn field(name: &str, ty: ColumnType, nullable: bool) -> FieldType {
    FieldType::new(name, ty, nullable)
}

const LINES: &str = r#"
{"t":"2020-01-01T00:00:00Z","n":1,"s":"7","o":{"a":[1]},"b":true}
{"s":"q\"\u00e4","t":"2020-01-01T01:00:00Z","n":2.5,"o":"plain","late":null}
{"t":"2020-01-01T02:00:00Z","late":"x"}
"#;

#[test]
fn keys_are_columns_and_types_are_those_of_json() {
    let fixture = source(&[("a.ndjson", LINES)], |_| ());
    let survey = surveyed(&fixture).unwrap();
    let want = [
        field("t", ColumnType::Instant { unit: Precision::Second }, false),
        field("n", FLOAT, true),
        field("s", ColumnType::Text, true),
        field("o", ColumnType::Json, true),
        field("b", ColumnType::Bool, true),
        field("late", ColumnType::Text, true),
    ];
    // The unit of a time is as fine as its values; what it is exactly is tested elsewhere.
    let found: Vec<_> = survey.columns.iter().map(|c| (&c.name, c.nullable)).collect();
    assert_eq!(found, want.iter().map(|c| (&c.name, c.nullable)).collect::<Vec<_>>());
    assert_eq!(survey.columns[1..], want[1..]);
    let rows = rows(&fixture, &survey);
    let text = |name: &str| {
        let column = rows.column_by_name(name).unwrap();
        arrow::util::display::array_value_to_string(column, 1).unwrap()
    };
    assert_eq!([text("n"), text("s"), text("o")], ["2.5", "q\"ä", "\"plain\""]);
    assert_eq!(rows.column_by_name("late").unwrap().null_count(), 2);
}

fn rows(fixture: &Fixture, survey: &Survey) -> arrow::record_batch::RecordBatch {
    let column = |(i, f): (usize, &FieldType)| Column {
        name: f.name.clone(),
        ty: f.ty,
        role: if f.name == "t" { Role::Time } else { Role::Value },
        position: i as u32,
        source: None,
    };
    let columns = Columns::new(survey.columns.iter().enumerate().map(column).collect()).unwrap();
    let (min, max) = survey.time_range().unwrap();
    let interval = Interval::new(min, max + std::time::Duration::from_secs(1)).unwrap();
    let request =
        ReadRequest { interval, columns: Arc::new(columns), survey: Arc::new(survey.clone()) };
    let batches: Vec<SourceBatch> = wait(async {
        fixture.source.read(&request).await.unwrap().batches.try_collect().await.unwrap()
    });
    assert_eq!(batches.len(), 1);
    batches[0].rows.clone()
}

#[test]
fn what_is_no_object_is_listed_with_its_line() {
    let text =
        "{\"t\":\"2020-01-01\"}\n\n[1]\n{\"t\":\"2020-01-02\",\"t\":1}\n{\"t\":null}\n{\"t\":\n";
    let fixture = source(&[("a.ndjson", text)], |_| ());
    let survey = surveyed(&fixture).unwrap();
    assert_eq!((survey.rows, survey.unplaced), (1, 4));
    let found: Vec<_> = survey
        .unplaced_rejects
        .iter()
        .map(|r| (r.place.line.unwrap(), r.reason.as_str(), r.text.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (3, "is no JSON object: wrong at byte 1", "[1]"),
            (4, "a key stands twice in it", "{\"t\":\"2020-01-02\",\"t\":1}"),
            (5, "the time is NULL", "{\"t\":null}"),
            (6, "is no JSON object: wrong at byte 6", "{\"t\":"),
        ]
    );
}

#[test]
fn files_with_other_keys_need_a_word() {
    let files = [
        ("a.ndjson", "{\"t\":\"2020-01-01\",\"v\":1}\n"),
        ("b.ndjson", "{\"t\":\"2020-01-02\",\"w\":2}\n"),
    ];
    let error = surveyed(&source(&files, |_| ())).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`b.ndjson` has other columns than `a.ndjson`"), "{text}");
    let fixture = source(&files, |s| s.schema = Schema::Union);
    let survey = surveyed(&fixture).unwrap();
    let names: Vec<_> = survey.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["t", "v", "w"]);
    assert_eq!(rows(&fixture, &survey).num_rows(), 2);
}

#[test]
fn a_list_over_many_lines_is_no_ndjson() {
    let fixture = source(&[("a.ndjson", "[\n  {\n \"t\": 1\n  }\n]\n")], |_| ());
    let error = surveyed(&fixture).unwrap_err();
    assert!(error.to_string().contains("no line of `a.ndjson` is a JSON object"), "{error}");
}

/// A number that becomes a text in a later file is told with that file; one that becomes another
/// number, or nothing, is not.
#[test]
fn a_column_that_turns_into_another_type_names_the_file() {
    let files = [
        ("a.ndjson", "{\"t\":\"2020-01-01\",\"v\":1,\"w\":1,\"x\":null}\n"),
        ("b.ndjson", "{\"t\":\"2020-01-02\",\"v\":null,\"w\":1.5,\"x\":\"y\"}\n"),
        ("c.ndjson", "{\"t\":\"2020-01-03\",\"v\":\"n/a\",\"w\":2,\"x\":\"z\"}\n"),
        ("d.ndjson", "{\"t\":\"2020-01-04\",\"v\":\"n/a\",\"w\":2,\"x\":\"z\"}\n"),
    ];
    let survey = surveyed(&source(&files, |_| ())).unwrap();
    let turned: Vec<_> = survey.notes.iter().filter(|n| n.contains("because")).collect();
    assert_eq!(turned, ["`v` is text because of `c.ndjson`: in the files before it is integer"]);
}
