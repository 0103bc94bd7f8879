//! A sample of files that are too large to be looked at whole.

use std::fmt::Write as _;

use super::*;
use crate::transform::Transform;

/// Rows of a large file.
const ROWS: i64 = 120_000;

/// One line, or more of them, for each row.
fn large(line: impl Fn(&mut String, i64, &str)) -> String {
    let mut text = String::new();
    for i in 0..ROWS {
        let second = jiff::Timestamp::from_second(1_577_836_800 + 60 * i).unwrap();
        line(&mut text, i, &second.to_string());
    }
    assert!(text.len() > 9 << 20, "a sample would hold all of it");
    text
}

fn sample(source: &FileSource) -> Survey {
    let request = SurveyRequest { time: "t".into(), sample: true, ..SurveyRequest::default() };
    let survey = wait(source.survey(&request)).unwrap();
    let sampled = survey.sampled.unwrap();
    assert!(sampled.looked_at < sampled.bytes, "{sampled:?}");
    survey
}

fn near(number: u64, truth: i64) -> bool {
    number.abs_diff(truth as u64) * 100 < truth as u64
}

/// Places begin in the middle of lines that are none, and of quoted fields that look like rows.
#[test]
fn records_are_found_in_the_middle_of_a_file() {
    let text = large(|text, i, t| {
        let quoted = "one line of text\nnow, another one\nof \"\"two\"\" fields, 5\n";
        writeln!(text, "{t},\"{quoted}\",{i}").unwrap();
    });
    let text = format!("t,note,n\ngestern,x,1\n{text}morgen,x,1\n");
    let survey = sample(&Fixture::csv(&text).source);
    assert!(near(survey.rows, ROWS), "{}", survey.rows);
    let (first, last) = survey.time_range().unwrap();
    assert_eq!(first.as_second(), 1_577_836_800);
    assert_eq!(last.as_second(), 1_577_836_800 + 60 * (ROWS - 1));
    let refused: Vec<_> =
        survey.unplaced_rejects.iter().map(|r| (r.text.as_str(), r.place.line)).collect();
    assert_eq!(refused, [("gestern,x,1", Some(2)), ("morgen,x,1", None)]);
    assert_eq!(survey.columns.len(), 3);
    let last = survey.unplaced_rejects[1].place.offset as usize;
    assert!(text[last..].starts_with("morgen"), "{last}");
}

#[test]
fn keys_are_learnt_from_the_sample() {
    let text = large(|text, i, t| {
        let more = if i == ROWS - 1 { ", \"last\": 1" } else { "" };
        writeln!(text, "{{\"t\": \"{t}\", \"n\": {i}, \"text\": \"some text \\n {i:40}\"{more}}}")
            .unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.ndjson"), text).unwrap();
    let settings = serde_json::from_str(r#"{"path": "a.ndjson"}"#).unwrap();
    let source = FileSource::ndjson(settings, None, dir.path(), dir.path()).unwrap();
    let survey = sample(&source);
    assert!(near(survey.rows, ROWS), "{}", survey.rows);
    let names: Vec<_> = survey.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["t", "n", "text", "last"]);
    assert_eq!((survey.unplaced, survey.columns[1].ty), (0, INTEGER));
}

#[test]
fn a_transform_is_done_to_the_sample() {
    let text = large(|text, i, t| {
        writeln!(text, "{t},{},{:60}", i % 4, i).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.csv"), format!("at,n,text\n{text}")).unwrap();
    let settings = CsvSettings { path: "a.csv".into(), ..CsvSettings::default() };
    let sql = "SELECT to_timestamp(at) + INTERVAL '1 day' AS t, n * 2 AS m FROM source WHERE n > 0";
    let sql = Transform::parse(sql).unwrap();
    let source = FileSource::transformed(settings, sql, dir.path(), dir.path()).unwrap();
    let (survey, truth) = (sample(&source), self::survey(&source, "t").unwrap());
    assert!(near(survey.rows, truth.rows as i64), "{} {}", survey.rows, truth.rows);
    assert_eq!(survey.columns, truth.columns);
    assert_eq!(survey.time_range(), truth.time_range());
}
