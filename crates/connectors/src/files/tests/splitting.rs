//! However files and time are cut: every record is placed exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use retrofill_core::columns::{Column, ColumnType, Columns, Role};
use retrofill_core::connector::Source;
use retrofill_core::interval::Interval;

use super::super::{CsvSettings, Encoding};
use super::{Fixture, MICROS, gzip, open, read, rows, survey, tiny, wait};
use crate::testkit::source_suite::to_stage;

/// A line by the rules of the format, told one character at a time: its fields, or none where it
/// is no record, and where the next line starts.
fn line(text: &[char], from: usize) -> (Option<Vec<Option<String>>>, usize) {
    let give_up = || {
        let end = text[from..].iter().position(|c| *c == '\n');
        (None, end.map_or(text.len(), |n| from + n + 1))
    };
    let mut fields = Vec::new();
    let mut at = from;
    loop {
        let mut value = String::new();
        let quoted = text.get(at) == Some(&'"');
        if quoted {
            at += 1;
            loop {
                match (text.get(at), text.get(at + 1)) {
                    (None, _) => return give_up(),
                    (Some('"'), Some('"')) => {
                        value.push('"');
                        at += 2;
                    }
                    (Some('"'), _) => break,
                    (Some(c), _) => {
                        value.push(*c);
                        at += 1;
                    }
                }
            }
            at += 1;
        } else {
            while let Some(c) = text.get(at).filter(|c| !matches!(c, ',' | '\n')) {
                value.push(*c);
                at += 1;
            }
            let ends = text.get(at).is_none_or(|c| *c == '\n');
            if ends && value.ends_with('\r') {
                value.pop();
            }
        }
        fields.push((quoted || !value.is_empty()).then_some(value));
        match (text.get(at), text.get(at + 1)) {
            (Some(','), _) => at += 1,
            (None, _) => return (Some(fields), at),
            (Some('\n'), _) => return (Some(fields), at + 1),
            (Some('\r'), Some('\n')) => return (Some(fields), at + 2),
            (Some('\r'), None) => return (Some(fields), at + 1),
            _ => {
                let blanks = text[at..].iter().take_while(|c| matches!(c, ' ' | '\t')).count();
                let end = at + blanks;
                return match (text.get(end), text.get(end + 1)) {
                    (None, _) => (None, end),
                    (Some('\n'), _) => (None, end + 1),
                    (Some('\r'), Some('\n')) => (None, end + 2),
                    (Some(','), _) if blanks > 0 => (None, line(text, end + 1).1),
                    _ => give_up(),
                };
            }
        }
    }
}

type Row = (u32, Vec<Option<String>>);

/// The rows by offset, and the offsets of unplaced lines.
fn parse(text: &str, start: usize) -> (BTreeMap<u64, Row>, Vec<u64>) {
    let text: Vec<char> = text.chars().collect();
    let (mut rows, mut unplaced, mut at) = (BTreeMap::new(), Vec::new(), start);
    while at < text.len() {
        let (fields, next) = line(&text, at);
        let content: String = text[at..next].iter().collect();
        let blank = content.trim_end_matches('\n').strip_suffix('\r').unwrap_or(&content);
        let blank = blank.trim_end_matches('\n').is_empty();
        let day = fields.as_ref().filter(|f| f.len() == 3).and_then(|f| {
            let day = f[1].as_ref()?.strip_prefix("2013-01-")?;
            day.parse().ok().filter(|n| day.len() == 2 && (1..=31).contains(n))
        });
        match (day, fields) {
            (Some(day), Some(fields)) => {
                rows.insert(at as u64, (day, fields));
            }
            _ if blank => {}
            _ => unplaced.push(at as u64),
        }
        at = next;
    }
    (rows, unplaced)
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c5\" ]{0,4}",
        "[a-c,\"\r\n]{0,6}".prop_map(|v| format!("\"{}\"", v.replace('"', "\"\""))),
    ]
}

fn record() -> impl Strategy<Value = String> {
    let day = prop_oneof![
        8 => (1..=31).prop_map(|d| format!("2013-01-{d:02}")),
        1 => (1..=31).prop_map(|d| format!("\"2013-01-{d:02}\"")),
        1 => "(2013-01-32|x|)".prop_map(String::from),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n")];
    let good = (field(), day, field(), end).prop_map(|(a, t, b, end)| format!("{a},{t},{b}{end}"));
    prop_oneof![8 => good, 1 => "[a,\"\r\n]{0,8}\n", 1 => "\"?[a,\"\n]{0,3}"]
}

fn plan() -> Columns {
    let column = |(i, (name, ty, role)): (usize, (&str, ColumnType, Role))| Column {
        name: name.into(),
        ty,
        role,
        position: i as u32,
        source: None,
    };
    let columns = [
        ("a", ColumnType::Text, Role::Value),
        ("t", MICROS, Role::Time),
        ("b", ColumnType::Text, Role::Value),
    ];
    Columns::new(columns.into_iter().enumerate().map(column).collect()).unwrap()
}

/// The text in a file of one kind or the other.
fn stored(how: usize, text: &str) -> Fixture {
    let bytes = text.as_bytes();
    let packed = |name, content: Vec<u8>| Fixture::new(&[(name, &content)], |_| ());
    match how {
        0 => packed("a.csv.gz", gzip(bytes)),
        1 => packed("a.csv.zst", zstd::encode_all(bytes, 1).unwrap()),
        2 => packed(
            "a.csv.bz2",
            written(bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast())),
        ),
        3 => packed("a.csv.xz", written(liblzma::read::XzEncoder::new(bytes, 1))),
        4 => {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            let encoding = |s: &mut CsvSettings| s.encoding = Encoding::Utf16Be;
            Fixture::new(&[("a.csv.gz", &gzip(&wide))], encoding)
        }
        5 => Fixture::new(&[("a.csv", bytes)], |s| s.encoding = Encoding::Latin1),
        _ => Fixture::csv(text),
    }
}

fn written(mut packed: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed.read_to_end(&mut bytes).unwrap();
    bytes
}

fn slices(mut days: Vec<u32>) -> Vec<Interval> {
    days.extend([1, 32]);
    days.sort_unstable();
    days.dedup();
    let day = |d: u32| if d > 31 { "2013-02-01".into() } else { format!("2013-01-{d:02}") };
    let bound = |d| format!("{}T00:00:00Z", day(d));
    days.windows(2).map(|w| Interval::parse(&bound(w[0]), &bound(w[1])).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_record_exactly_once(
        records in prop::collection::vec(record(), 1..40),
        days in prop::collection::vec(2_u32..32, 0..6),
        chunk in 1_usize..200,
        how in 0..7_usize,
        staged: bool,
    ) {
        // The first record fixes the form of the times.
        let text = format!("a,t,b\nx,2013-01-01,y\n{}", records.concat());
        let (want, unplaced) = parse(&text, 6);
        let fixture = stored(how, &text);
        let source = tiny(&fixture.source, chunk);
        let survey = survey(&source, "t").unwrap();
        let listed: Vec<_> = survey.unplaced_rejects.iter().map(|r| r.place.offset).collect();
        prop_assert_eq!(&listed, &unplaced);
        prop_assert_eq!(survey.unplaced, unplaced.len() as u64);
        prop_assert_eq!(survey.rows, want.len() as u64);
        for reject in &survey.unplaced_rejects {
            let before = &text.as_bytes()[..reject.place.offset as usize];
            let line = 1 + memchr::memchr_iter(b'\n', before).count() as u64;
            prop_assert_eq!(reject.place.line, Some(line));
        }
        let slices = slices(days);
        if staged {
            wait(Source::stage(&source, &to_stage(&survey, &plan(), &slices))).unwrap();
        }
        let mut got = BTreeMap::new();
        for slice in &slices {
            for batch in read(&source, &survey, &plan(), *slice).unwrap() {
                prop_assert!(batch.rejects.is_empty());
                for (ordinal, [t, a, b]) in cells(&batch) {
                    let day: u32 = t.unwrap()[8..10].parse().unwrap();
                    let row = (day, vec![a, Some(format!("2013-01-{day:02}")), b]);
                    prop_assert!(got.insert(ordinal, row).is_none(), "twice: {}", ordinal);
                }
            }
        }
        prop_assert_eq!(&got, &want);
        let ordinals: Vec<_> = got.keys().copied().collect();
        let places = wait(Source::locate(&source, &survey, &ordinals)).unwrap();
        for (ordinal, (place, record)) in ordinals.iter().zip(places) {
            prop_assert_eq!(place.offset, *ordinal);
            prop_assert!(text[*ordinal as usize..].starts_with(&record));
        }
    }
}

/// Ordinal and values of each row; NULL is none.
fn cells(batch: &retrofill_core::connector::SourceBatch) -> Vec<(u64, [Option<String>; 3])> {
    use arrow::array::Array as _;
    let shown = rows(std::slice::from_ref(batch));
    let value = |row: usize, column: usize, text: &String| {
        batch.rows.column(column).is_valid(row).then(|| text.clone())
    };
    let all = shown.iter().enumerate();
    all.map(|(i, (o, r))| (*o, [value(i, 0, &r[0]), value(i, 1, &r[1]), value(i, 2, &r[2])]))
        .collect()
}

#[test]
fn the_order_of_files_and_rows_changes_no_type() {
    let parts = ["2013-01-01,1,true\n", "2013-01-02,2.5,\n", "2013-01-03,,false\n"];
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let dir = tempfile::tempdir().unwrap();
        for (i, part) in order.iter().enumerate() {
            let text = format!("t,v,w\n{}", parts[*part]);
            std::fs::write(dir.path().join(format!("{i}.csv")), text).unwrap();
        }
        let source = open(dir.path(), "*.csv", dir.path(), |_| ());
        seen.push(survey(&source, "t").unwrap().columns);
    }
    assert!(seen.windows(2).all(|w| w[0] == w[1]), "{seen:?}");
    assert_eq!(seen[0][1].ty, ColumnType::Float { bits: 64 });
    assert_eq!((seen[0][2].ty, seen[0][2].nullable), (ColumnType::Bool, true));
}
