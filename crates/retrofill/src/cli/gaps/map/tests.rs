//! The map as it is drawn.

use std::time::Duration;

use retrofill_core::runner::Missing;

use super::*;

const PLAIN: Style = Style { blocks: false, colours: false, width: 120 };

fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_356_998_400 + hour * 3_600).unwrap()
}

fn missing(holes: &[(i64, i64)]) -> Missing {
    let hole = |(a, b): &(i64, i64)| Hole {
        interval: Interval::new(at(*a), at(*b)).unwrap(),
        buckets: (b - a) as u64,
    };
    let holes: Vec<_> = holes.iter().map(hole).collect();
    Missing::of(holes.iter().map(|h| h.buckets).sum(), holes)
}

/// A key that is there in these hours, and what it lacks.
fn series(key: &str, (from, to): (i64, i64), gaps: [&[(i64, i64)]; 2]) -> Series {
    let [fillable, absent] = gaps.map(missing);
    Series {
        key: vec![Some(key.into())],
        span: Interval::new(at(from), at(to)).unwrap(),
        buckets: (to - from) as u64 - absent.buckets,
        fillable,
        absent: Missing::of(0, absent.holes),
    }
}

fn three() -> Vec<Series> {
    vec![
        series("EWR", (0, 480), [&[(30, 31), (120, 240)], &[(31, 33), (300, 312)]]),
        series("a longer name\nof two lines and more", (100, 480), [&[], &[(144, 162)]]),
        series("whole", (0, 300), [&[], &[]]),
    ]
}

fn drawn(series: &[Series], style: Style) -> String {
    Map::new(series, Every::Hours(1), &TimeZone::UTC).draw(style).unwrap()
}

#[test]
fn gaps_are_seen_where_they_are() {
    insta::assert_snapshot!(drawn(&three(), PLAIN));
    insta::assert_snapshot!(drawn(&three(), Style { blocks: true, ..PLAIN }));
}

#[test]
fn colours_begin_and_end_with_what_they_paint() {
    let text = drawn(&three(), Style { colours: true, blocks: true, width: 60 });
    for line in text.lines() {
        assert_eq!(line.matches("\x1b[3").count(), line.matches("\x1b[0m").count(), "{line:?}");
    }
    assert!(text.contains("\x1b[33m▁▃▅▇\x1b[0m fillable"), "{text:?}");
    let plain = drawn(&three(), Style { blocks: true, width: 60, ..PLAIN });
    let mut bare = text;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, plain);
    assert!(plain.lines().all(|l| l.chars().count() <= 80), "{plain}");
}

#[test]
fn one_missing_bucket_of_many_is_seen() {
    let year = [series("k", (0, 8_760), [&[(5_000, 5_001)], &[]])];
    let text = drawn(&year, PLAIN);
    assert_eq!(text.lines().nth(2).unwrap().matches('1').count(), 2, "{text}");
}

#[test]
fn the_keys_with_most_gaps_are_drawn_and_the_others_counted() {
    let series: Vec<_> = (0..50_i64)
        .map(|n| {
            let lacks = [(10, 10 + n % 10)];
            let lacks = &lacks[..usize::from(n % 10 > 0)];
            series(&format!("k{n:02}"), (0, 100), [lacks, &[]])
        })
        .collect();
    let text = drawn(&series, PLAIN);
    assert!(text.contains("  and 30 more, 25 of them with gaps\n"), "{text}");
    let drawn = text.lines().filter(|l| l.trim_start().starts_with('k')).count();
    assert_eq!((drawn, text.contains("k09"), text.contains("k01")), (KEYS, true, false));
}

#[test]
fn every_length_has_columns() {
    for (hours, cadence) in
        [(1, Every::Seconds(1)), (7, Every::Minutes(1)), (24 * 366 * 700, Every::Days(1))]
    {
        let series = [series("k", (0, hours), [&[], &[]])];
        let zone = TimeZone::UTC;
        let map = Map::new(&series, cadence, &zone);
        let (columns, step) = map.columns(FEWEST).unwrap();
        assert!(step.is_some() && columns.len() <= FEWEST, "{hours} {step:?}");
        assert_eq!(columns[columns.len() - 1].end(), series[0].span.end());
    }
    let one = series("k", (0, 1), [&[], &[]]);
    let end = one.span.start() + Duration::from_nanos(1);
    let short = [Series { span: Interval::new(one.span.start(), end).unwrap(), ..one }];
    assert!(drawn(&short, PLAIN).contains('.'));
}

#[test]
fn a_terminal_shows_what_it_can() {
    let on = |width, variables: &[(&str, &str)]| {
        let list: Vec<(String, String)> =
            variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let variable =
            move |name: &str| list.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let style = Style::on(&Screen { width, variable: &variable });
        (style.blocks, style.colours)
    };
    let term = ("TERM", "xterm");
    assert_eq!(on(Some(80), &[term, ("LANG", "en_US.UTF-8")]), (true, true));
    assert_eq!(on(Some(80), &[term, ("LANG", "C"), ("LC_ALL", "C.utf8")]), (true, true));
    assert_eq!(on(Some(80), &[term, ("LC_ALL", "C"), ("LANG", "C.utf8")]), (false, true));
    let quiet = [term, ("LANG", "C.utf8"), ("NO_COLOR", "1")];
    assert_eq!(on(Some(80), &quiet), (true, false));
    assert_eq!(on(Some(80), &[("TERM", "dumb"), ("LANG", "C.utf8")]), (false, false));
    assert_eq!(on(None, &[term, ("LANG", "en_US.UTF-8")]), (false, false));
}
