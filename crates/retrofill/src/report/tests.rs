//! Reports of made-up jobs, in all three forms.

use std::collections::BTreeMap;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};
use jiff::{Timestamp, ToSpan as _};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::State;
use retrofill_core::receipt::Counts;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A report over this many slices of an hour, in these states; each row count is another.
pub(super) fn sample(slices: usize, state: impl Fn(usize) -> State) -> Report {
    let start = at("2013-01-01T00:00:00Z");
    let slice_list: Vec<_> = (0..slices).map(|i| line(start, i, state(i))).collect();
    let mut rows = Counts::default();
    for slice in &slice_list {
        rows.add(&slice.rows.unwrap_or_default());
    }
    let counts = SliceCounts::of(slice_list.iter().map(|s| s.state));
    let end = slice_list.last().map_or(start + 1.hour(), |s| s.interval.end());
    Report {
        v: 1,
        name: "meters".into(),
        labels: BTreeMap::from([("ticket".into(), "OPS-412".into())]),
        source: "12 CSV files, data/*.csv".into(),
        target: "Delta ./out".into(),
        headline: headline(&counts, &rows, false),
        status: counts.status(),
        slices: counts,
        plan_rows: rows,
        verified_through: None,
        verified_back_to: None,
        plan: PlanFacts {
            id: PlanId::new("9f2c0123456789abcdef0123456789ab"),
            spec_hash: "ab".repeat(32),
            frozen_at: at("2026-01-02T03:04:05Z"),
            range: Interval::new(start, end).unwrap(),
            every: "1h".into(),
            timezone: "UTC".into(),
            mode: "fill-missing",
            files: 12,
            bytes: 2_294_110,
            unplaced: 0,
            notes: vec!["times have no zone and are read as UTC".into()],
        },
        run: Some(RunFacts {
            began: Some(at("2026-01-02T03:04:06Z")),
            ended: Some(at("2026-01-02T03:05:06Z")),
            seconds: Some(61.5),
            rows,
            rows_per_second: Some(13_742),
            exit: Some(0),
            error: None,
        }),
        proof: Proof {
            encoding: "retrofill-digest-v1",
            digest: Some("7c1e00112233445566778899aabbccdd".into()),
            salt: "5a".repeat(16),
            fingerprint: "d7".repeat(32),
            columns: vec![("ts".into(), "instant", "time"), ("kwh".into(), "float", "value")],
        },
        rejects: Rejects::default(),
        conflicts: Conflicts::default(),
        journal: JournalFacts { entries: 51, head: "a1".repeat(32), ..JournalFacts::default() },
        resources: Some(Resources {
            peak_memory: 124_200_000,
            cpu_seconds: 0.5,
            bytes_read: 9_100_000,
        }),
        not_told: Vec::new(),
        made_at: at("2026-01-02T03:05:07Z"),
        retrofill: "0.1.0",
        slice_list,
    }
}

fn line(start: Timestamp, i: usize, state: State) -> SliceLine {
    let (from, to) = (start + (i as i64).hours(), start + (i as i64 + 1).hours());
    let loaded = matches!(state, State::Verified | State::Mismatched | State::Stale);
    let read = 1_000 + (i as u64 * 7_919) % 4_001;
    let trouble = matches!(state, State::Failed | State::Mismatched | State::Stale);
    SliceLine {
        id: SliceId::of(from),
        interval: Interval::new(from, to).unwrap(),
        state,
        generation: u64::from(state != State::Planned),
        attempts: u32::from(state != State::Planned),
        rows: loaded.then(|| Counts { read, written: read, ..Counts::default() }),
        digest: loaded.then(|| format!("{:032x}", u128::from(read) * 0x1234_5678_9abc_def1_0123)),
        at: loaded.then(|| at("2026-01-02T03:04:07Z")),
        reason: trouble.then(|| format!("no room on the device for part {i}")),
    }
}

/// One in so many slices is in trouble.
fn troubled(i: usize) -> State {
    match i {
        i if i % 997 == 500 => State::Failed,
        i if i % 4_001 == 77 => State::Mismatched,
        i if i % 1_009 == 700 => State::Stale,
        i if i % 31 == 7 => State::Empty,
        _ => State::Verified,
    }
}

/// The tags of a page with their attributes, and its text, as a browser reads them.
struct Read {
    tags: Vec<(String, BTreeMap<String, String>)>,
    text: String,
}

fn read(page: &str) -> Read {
    let mut emitter = DefaultEmitter::<()>::new_with_span();
    // What stands in a script or style is no markup.
    emitter.naively_switch_states(true);
    let mut found = Read { tags: Vec::new(), text: String::new() };
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let attributes =
                    tag.attributes.iter().map(|(name, value)| (text(name), text(value)));
                found.tags.push((text(&tag.name), attributes.collect()));
            }
            Token::String(part) => found.text.push_str(&String::from_utf8_lossy(&part)),
            Token::Error(e) => panic!("the page is not well-formed: {e:?}"),
            _ => {}
        }
    }
    found
}

#[test]
fn hostile_text_stays_text() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' -->]]>&amp;";
    let mut report = sample(3, |i| if i == 1 { State::Failed } else { State::Verified });
    report.name = evil.into();
    report.source = evil.into();
    report.target = evil.into();
    report.headline = evil.into();
    report.labels = BTreeMap::from([(evil.into(), evil.into())]);
    report.plan.notes = vec![evil.into()];
    report.plan.timezone = evil.into();
    report.not_told = vec![evil.into()];
    report.run.as_mut().unwrap().error = Some(evil.into());
    report.slice_list[1].reason = Some(evil.into());
    report.proof.columns = vec![(evil.into(), "text", "key")];
    let reject = RejectLine {
        slice: None,
        file: evil.into(),
        line: Some(7),
        offset: 0,
        column: Some(evil.into()),
        reason: evil.into(),
        text: format!("{evil}\u{202e}\u{0}"),
    };
    let reason = Reason { column: None, reason: evil.into(), rows: 1 };
    report.rejects =
        Rejects { rows: 1, listed: 1, by_reason: vec![reason], first: vec![reject], lists: vec![] };
    let slice = report.slice_list[0].id.clone();
    let key = vec![Some(evil.to_owned()), None];
    let hash = String::from("ab");
    let (source_hash, live_hash) = (hash.clone(), hash);
    let line = ConflictLine { slice, time: None, key, source_hash, live_hash };
    report.conflicts = Conflicts { rows: 1, listed: 1, first: vec![line], lists: vec![] };

    let page = read(&report.write(Form::Html));
    let of = |name: &str| page.tags.iter().filter(|(tag, _)| tag == name).count();
    assert_eq!((of("script"), of("style"), of("img")), (1, 1, 0));
    let inline = |(_, a): &(String, BTreeMap<String, String>)| {
        a.keys().any(|name| name.starts_with("on") || name == "style")
    };
    assert!(!page.tags.iter().any(inline), "no handler and no style in an attribute");
    assert!(page.text.matches("<script>alert(1)</script>").count() >= 12);
    assert!(page.text.contains("\u{fffd}\u{2400}"), "what cannot be seen is shown");
    let markdown = report.write(Form::Markdown);
    assert!(!markdown.contains("<script") && !markdown.contains("<img"), "{markdown}");
    let json: serde_json::Value = serde_json::from_str(&report.json_line()).unwrap();
    assert_eq!(json["rejects"]["first"][0]["file"], evil);
}

#[test]
fn a_page_needs_nothing_else_and_allows_nothing_else() {
    let page = report_page(12);
    let read = read(&page);
    for (tag, attributes) in &read.tags {
        assert!(!matches!(tag.as_str(), "link" | "img" | "iframe" | "object"), "{tag}");
        for name in ["src", "href", "action"] {
            assert!(!attributes.contains_key(name), "{tag} {name}");
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
    let csp = read.tags.iter().find_map(|(_, a)| {
        let csp = a.get("http-equiv").is_some_and(|e| e == "Content-Security-Policy");
        csp.then(|| a["content"].clone())
    });
    let csp = csp.unwrap();
    assert!(csp.starts_with("default-src 'none'; style-src 'sha256-"), "{csp}");
    assert!(!csp.contains("unsafe"), "{csp}");
    let unnamed = read.tags.iter().filter(|(tag, a)| tag == "th" && !a.contains_key("scope"));
    assert_eq!(unnamed.count(), 0, "every heading says what it is the heading of");
}

fn report_page(slices: usize) -> String {
    sample(slices, troubled).write(Form::Html)
}

#[test]
fn many_slices_stay_a_page_and_none_is_lost() {
    let report = sample(100_000, troubled);
    let page = report.write(Form::Html);
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    for slice in report.open() {
        assert!(page.contains(slice.id.as_str()), "{} is not done and not listed", slice.id);
    }
    for i in [0, 499, 99_500, 99_999] {
        assert!(page.contains(report.slice_list[i].id.as_str()), "{i}");
    }
    assert!(!page.contains(report.slice_list[50_000].id.as_str()));
    let json: serde_json::Value = serde_json::from_str(&report.json_line()).unwrap();
    assert_eq!(json["slice_list"].as_array().unwrap().len(), 100_000);
    let all_open = sample(100_000, |_| State::Failed).write(Form::Html);
    assert!(all_open.len() < 5_000_000, "{} bytes", all_open.len());
}

mod maps {
    use super::super::heat::{Cell, Heat, Step, Tone};
    use super::*;

    fn cells(heat: &Heat) -> Vec<&Cell> {
        match heat {
            Heat::Single(cells) => cells.iter().collect(),
            Heat::Grid { rows, .. } => rows.iter().flat_map(|(_, c)| c.iter().flatten()).collect(),
        }
    }

    #[test]
    fn every_size_fits_a_screen_and_loses_neither_rows_nor_trouble() {
        for slices in [1, 12, 36, 37, 1_000, 5_000, 100_000] {
            let report =
                sample(slices, |i| if i == slices / 2 { State::Failed } else { State::Verified });
            let heat = Heat::of(&report).unwrap();
            let cells = cells(&heat);
            assert!(cells.len() <= 45 * 60, "{slices}: {} cells", cells.len());
            if let Heat::Grid { rows, .. } = &heat {
                assert!(rows.len() <= 45, "{slices}: {} rows", rows.len());
            }
            assert_eq!(cells.iter().map(|c| c.slices()).sum::<u64>(), slices as u64);
            let rows = cells.iter().map(|c| c.rows).sum::<f64>().round() as u64;
            assert_eq!(rows, report.plan_rows.read, "{slices}");
            let failed = cells.iter().filter(|c| c.tone == Tone::Failed).count();
            assert_eq!(failed, 1, "{slices}: one failed slice is one red cell");
        }
    }

    #[test]
    fn the_calendar_fits_the_slices() {
        let step = |slices| match Heat::of(&sample(slices, troubled)).unwrap() {
            Heat::Single(_) => None,
            Heat::Grid { step, .. } => Some(step),
        };
        assert_eq!(step(36), None);
        assert_eq!(step(1_000), Some(Step::Hour));
        assert_eq!(step(9_000), Some(Step::Day));
        assert_eq!(step(100_000), Some(Step::Week));
    }

    #[test]
    fn slices_longer_than_a_cell_are_spread() {
        let mut report = sample(40, |_| State::Verified);
        let long = &mut report.slice_list[39];
        let end = long.interval.start() + 5.hours();
        long.interval = Interval::new(long.interval.start(), end).unwrap();
        let heat = Heat::of(&report).unwrap();
        assert_eq!(cells(&heat).len(), 44);
        let rows = cells(&heat).iter().map(|c| c.rows).sum::<f64>().round() as u64;
        assert_eq!(rows, report.plan_rows.read);
    }

    #[test]
    fn clocks_that_go_back_lose_no_slice() {
        let mut report = sample(24 * 365, |_| State::Verified);
        report.plan.timezone = "America/New_York".into();
        report.slice_list.drain(..24 * 300);
        report.slice_list.truncate(24 * 20);
        let heat = Heat::of(&report).unwrap();
        assert_eq!(cells(&heat).iter().map(|c| c.slices()).sum::<u64>(), 24 * 20);
    }

    #[test]
    fn part_of_a_cell_may_be_to_do() {
        let report = sample(100_000, |i| if i < 50_010 { State::Verified } else { State::Planned });
        let heat = Heat::of(&report).unwrap();
        assert_eq!(cells(&heat).iter().filter(|c| c.tone == Tone::Part).count(), 1);
    }
}
