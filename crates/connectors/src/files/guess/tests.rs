//! What is guessed of small files whose truth is known.

use std::fmt::Write as _;
use std::fs;

use super::super::settings::{Compression, Encoding};
use super::*;

fn of(text: impl AsRef<[u8]>) -> Guess {
    with(&[("a.csv", text.as_ref())], &Ask::default()).unwrap()
}

fn with(files: &[(&str, &[u8])], ask: &Ask) -> Result<Guess> {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    guess(&Ask { path: "**/*".into(), base: dir.path().into(), ..ask.clone() })
}

/// `hours` hours of each site, with a value made by `value`.
fn hourly(sites: &[&str], hours: u32, value: impl Fn(u32) -> String) -> String {
    let rows = (0..hours).flat_map(|h| {
        let value = &value;
        let time = format!("2020-01-{:02}T{:02}:00:00Z", h / 24 + 1, h % 24);
        sites.iter().map(move |site| format!("{time},{site},{}\n", value(h)))
    });
    format!("t,site,v\n{}", rows.collect::<String>())
}

fn number(h: u32) -> String {
    format!("{}.5", h * 7 % 13)
}

#[test]
fn an_ordinary_file() {
    let guess = of(hourly(&["a", "b"], 48, number));
    assert_eq!((guess.rows, guess.whole, &guess.bad), (96, true, &None));
    assert_eq!((guess.time.column.as_str(), guess.time.form), ("t", "rfc3339"));
    assert_eq!(guess.time.last.to_string(), "2020-01-02T23:00:00Z");
    assert_eq!(guess.key.columns, Some(vec!["site".to_owned()]));
    assert_eq!((guess.key.repeated, guess.key.time_alone), (0, false));
    let types: Vec<_> = guess.columns.iter().map(|c| c.ty.common_name()).collect();
    assert_eq!(types, ["instant", "text", "float"]);
    assert_eq!(guess.settings, CsvSettings { path: "**/*".into(), ..CsvSettings::default() });
}

#[test]
fn what_stands_in_paths_is_a_column() {
    let rows = hourly(&["a"], 48, number);
    let without = rows.replace(",site", "").replace(",a,", ",");
    let files = |rows: &str| {
        let files = [("site=a/x.csv", rows.as_bytes()), ("site=b/x.csv", rows.as_bytes())];
        with(&files, &Ask::default()).unwrap()
    };
    let guess = files(&without);
    assert_eq!(guess.key.columns, Some(vec!["site".to_owned()]));
    let names: Vec<_> = guess.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, guess.settings.hive), (vec!["t", "v", "site"], true));
    // Where the files have it too, theirs is meant.
    assert!(!files(&rows).settings.hive);
}

#[test]
fn one_series_has_no_key_column() {
    let guess = of(hourly(&["a"], 48, number));
    assert_eq!(guess.key.columns, Some(vec![]));
    // A column that is named like a series is part of the key although the time would do.
    let text = hourly(&["a"], 48, number);
    let turned = |(i, line): (usize, &str)| match i % 2 {
        0 => line.replace(",a,", ",b,") + "\n",
        _ => line.to_owned() + "\n",
    };
    let guess = of(text.lines().enumerate().map(turned).collect::<String>());
    assert_eq!((guess.key.columns, guess.key.time_alone), (Some(vec!["site".into()]), true));
}

#[test]
fn rows_that_nothing_tells_apart_have_no_key() {
    let guess = of(hourly(&["a", "a"], 4, number));
    assert_eq!((&guess.key.columns, guess.key.repeated), (&Some(vec![]), 4), "the same rows");
    let mut text = "t,site,v\n".to_owned();
    for i in 0..40 {
        let site = if i % 2 == 0 { "x" } else { "y" };
        writeln!(text, "2020-01-{:02},{site},{i}.5", i / 4 + 1).unwrap();
    }
    let guess = of(text);
    assert_eq!(guess.key.columns, None);
    assert_eq!(guess.key.nearly, Some((vec!["site".to_owned()], 20)));
}

#[test]
fn two_columns_together() {
    let mut text = "t,v,phase,meter\n".to_owned();
    for i in 0..120 {
        let (meter, phase) = (["m1", "m2"][i / 2 % 2], ["L1", "L2"][i % 2]);
        writeln!(text, "2020-01-{:02},{}.25,{phase},{meter}", i / 4 % 30 + 1, i % 7).unwrap();
    }
    let guess = of(text);
    assert_eq!(guess.key.columns, Some(vec!["meter".to_owned(), "phase".to_owned()]));
}

#[test]
fn a_key_is_held_against_all_rows_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), hourly(&["a", "b"], 240, number)).unwrap();
    let settings = CsvSettings { path: "**/*".into(), ..CsvSettings::default() };
    let input = open(dir.path(), &settings, None).unwrap();
    let clock = input.shared.clock(super::super::time::Form::Zoned);
    assert_eq!(key::proven(&input, &clock, &[1], 5).unwrap(), Some(0));
    assert_eq!(key::proven(&input, &clock, &[], 5).unwrap(), None);
}

#[test]
fn times_in_many_forms() {
    let file = |time: &dyn Fn(u32) -> String| {
        let rows = (1..=28).map(|d| format!("{};{d}\n", time(d)));
        of(format!("when;v\n{}", rows.collect::<String>())).time
    };
    let form = |time: &dyn Fn(u32) -> String| {
        let time = file(time);
        (time.form, time.first.to_string())
    };
    let first = "2020-12-01T00:00:00Z".to_owned();
    assert_eq!(form(&|d| format!("2020-12-{d:02}")), ("local", first.clone()));
    let epoch = |d: u32| 1_606_780_800_i64 + i64::from(d - 1) * 86_400;
    assert_eq!(form(&|d| epoch(d).to_string()), ("epoch seconds", first.clone()));
    assert_eq!(form(&|d| format!("{}000", epoch(d))), ("epoch milliseconds", first.clone()));
    assert_eq!(form(&|d| format!("{}000000", epoch(d))), ("epoch microseconds", first.clone()));
    assert_eq!(form(&|d| format!("{}000000000", epoch(d))), ("epoch nanoseconds", first.clone()));
    for time in [
        &|d: u32| format!("{d:02}.12.2020 00:00") as String,
        &|d: u32| format!("12/{d:02}/2020 12:00 AM"),
        &|d: u32| format!("202012{d:02}"),
        &|d: u32| format!("202012{d:02}000000"),
        &|d: u32| format!("{d:02}-Dec-2020"),
        &|d: u32| format!("2020/12/{d:02} 00:00:00"),
    ] as [&dyn Fn(u32) -> String; 6]
    {
        assert_eq!(form(time), ("time_format", first.clone()), "{}", time(1));
    }
}

#[test]
fn day_and_month_by_the_order_of_rows() {
    let rows = |format: &dyn Fn(u32, u32) -> String| {
        let days = (1..=12).flat_map(|m| (1..=12).map(move |d| (m, d)));
        let rows = days.map(|(m, d)| format!("{};{d}\n", format(m, d)));
        of(format!("when;v\n{}", rows.collect::<String>()))
    };
    let american = rows(&|m, d| format!("{m:02}/{d:02}/2020"));
    assert_eq!(american.settings.time_format.as_deref(), Some("%m/%d/%Y"));
    let other = rows(&|m, d| format!("{d:02}/{m:02}/2020"));
    assert_eq!(other.settings.time_format.as_deref(), Some("%d/%m/%Y"));
}

#[test]
fn delimiters_quotes_and_headers() {
    let guess = of("t;a;b\n2020-01-01;1,5;x, y\n2020-01-02;2,5;z\n");
    assert_eq!((guess.settings.delimiter, guess.settings.decimal), (';', ','));
    assert_eq!(guess.comma, ["a"]);
    let guess = of("2020-01-01;1,5;2,5\n2020-01-02;2,5;0,5\n");
    assert_eq!((guess.settings.delimiter, guess.settings.header), (';', false));
    assert_eq!(guess.time.column, "column_1");
    let guess = of("t\ta\n2020-01-01\t1,5,6\n2020-01-02\t1\n");
    assert_eq!((guess.settings.delimiter, guess.settings.decimal), ('\t', '.'));
    let guess = of("t|a\n2020-01-01|1.5\n2020-01-02|1\n");
    assert_eq!(guess.settings.delimiter, '|');
    let guess = of("t,a,n\n2020-01-01,'x, y',1\n2020-01-02,'z',2\n2020-01-03,'q, r, s',3\n");
    assert_eq!(guess.settings.quote, '\'');
    let guess = of("t,a,n\n2020-01-01,\"x, y\",1\n2020-01-02,it's,2\n");
    assert_eq!(guess.settings.quote, '"');
    assert_eq!(of("t\n2020-01-01\n2020-01-02\n").settings.delimiter, ',');
}

#[test]
fn words_are_null_only_where_they_break_numbers() {
    let guess = of("t,site,v\n2020-01-01,NA,1\n2020-01-02,b,NA\n2020-01-03,-,-\n2020-01-04,c,2\n");
    let words: Vec<_> = guess.null.iter().map(|n| (n.word.as_str(), n.count)).collect();
    assert_eq!(words, [("NA", 1), ("-", 1)]);
    assert_eq!(guess.null[0].texts, ["site"]);
    assert_eq!(guess.settings.null, ["NA", "-"]);
    let guess = of("t,site\n2020-01-01,NA\n2020-01-02,DE\n");
    assert!(guess.null.is_empty());
}

#[test]
fn encodings_and_packing() {
    let text = "t,ort,v\n2020-01-01,Köln,1\n2020-01-02,Málaga,2\n";
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    assert_eq!(of(&latin).settings.encoding, Encoding::Latin1);
    let windows = [b"t,v,n\n2020-01-01,\x80,1\n2020-01-02,\xfc,2\n".as_slice()].concat();
    assert_eq!(of(windows).settings.encoding, Encoding::Windows1252);
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(of(&utf16).settings.encoding, Encoding::Utf16Le);
    let marked = [&b"\xff\xfe"[..], &utf16].concat();
    assert_eq!(of(marked).settings.encoding, Encoding::Utf8, "its mark tells");
    assert_eq!(of(format!("\u{feff}{text}")).time.column, "t");
    let packed = |level| zstd::encode_all(text.as_bytes(), level).unwrap();
    let named = with(&[("a.csv.zst", &packed(3))], &Ask::default()).unwrap();
    assert_eq!((named.settings.compression, named.rows), (Compression::Auto, 2));
    let unnamed = with(&[("a.csv", &packed(3))], &Ask::default()).unwrap();
    assert_eq!(unnamed.settings.compression, Compression::Zstd);
}

#[test]
fn files_with_other_columns_make_a_union() {
    let files: [(&str, &[u8]); 2] =
        [("a.csv", b"t,a\n2020-01-01,1\n"), ("b.csv", b"b,t\n5,2020-01-02\n")];
    let guess = with(&files, &Ask::default()).unwrap();
    assert_eq!(guess.settings.schema, Schema::Union);
    assert_eq!((guess.rows, guess.columns.len()), (2, 3));
}

#[test]
fn a_sample_is_said_to_be_one() {
    let text = hourly(&["a", "b"], 48, number);
    let guess =
        with(&[("a.csv", text.as_bytes())], &Ask { most: Some(10), ..Ask::default() }).unwrap();
    assert_eq!((guess.rows, guess.whole), (10, false));
    let guess =
        with(&[("a.csv", text.as_bytes())], &Ask { most: Some(96), ..Ask::default() }).unwrap();
    assert_eq!((guess.rows, guess.whole), (96, true));
}

#[test]
fn the_likeliest_of_several_times() {
    let guess = of("created_at,date,time,year\n\
                    2021-05-01T00:00:00Z,2020-01-01,2020-01-01 00:00,2020\n\
                    2021-05-01T00:00:00Z,2020-01-01,2020-01-01 01:00,2020\n");
    assert_eq!(guess.time.column, "time");
    assert_eq!(guess.time.others, ["date", "created_at"]);
    let error = with(&[("a.csv", b"a,b\n1,x\n2,y\n")], &Ask::default()).unwrap_err();
    assert!(error.message().contains("no column of `**/*` holds times"), "{error}");
}

#[test]
fn lines_and_times_that_are_none_are_counted() {
    let mut text = hourly(&["a"], 48, number);
    text += "broken\nsoon,a,1\n";
    let guess = of(text);
    assert_eq!(guess.bad, Some((1, "1 field instead of 3".to_owned())));
    assert_eq!((guess.time.unread, guess.time.unread_example.as_deref()), (1, Some("soon")));
}
