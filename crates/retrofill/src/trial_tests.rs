use std::sync::Arc;
use std::time::Duration;

use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::id::PlanId;
use retrofill_core::interval::Interval;
use retrofill_core::spec::RejectsCap;
use retrofill_core::survey::Survey;

use super::*;
use crate::config::{self, JobSource};

fn hour(i: usize) -> Timestamp {
    Timestamp::from_second(i as i64 * 3_600).unwrap()
}

fn slices(rows: &[u64]) -> Vec<Planned> {
    let slice = |(i, rows): (usize, &u64)| Planned {
        interval: Interval::new(hour(i), hour(i + 1)).unwrap(),
        rows: *rows,
    };
    rows.iter().enumerate().map(slice).collect()
}

#[test]
fn the_sample_has_the_dense_the_sparse_and_the_edges() {
    let slices = slices(&[0, 40, 50, 900, 60, 3, 70, 80, 20, 0]);
    assert_eq!(sample(&slices, 1, 1), [3]);
    assert_eq!(sample(&slices, 2, 1), [3, 8]);
    assert_eq!(sample(&slices, 3, 1), [3, 5, 8]);
    assert_eq!(sample(&slices, 3, 2), [1, 3, 5, 8]);
    assert_eq!(sample(&slices, 99, 2), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn where_no_slice_is_known_to_hold_rows_any_is_tried() {
    assert_eq!(sample(&slices(&[0, 0, 0]), 2, 1).len(), 2);
}

fn plan(rows: &[u64]) -> Plan {
    let ty = ColumnType::Instant { unit: Precision::Microsecond };
    let time = Column { name: "t".into(), ty, role: Role::Time, position: 0, source: None };
    let slices = slices(rows);
    let source = JobSource::Text {
        name: "trial".into(),
        text: "source: a.csv\ntarget: delta:out\nrows: { time: t, key: [] }".into(),
        base_dir: ".".into(),
    };
    let spec = config::load_with(&source, &[], &|_| None).unwrap().spec;
    Plan {
        id: PlanId::new("0123456789abcdef0123456789abcdef"),
        spec_hash: String::new(),
        spec,
        as_written: serde_json::Value::Null,
        base_dir: String::new(),
        frozen_at: Timestamp::UNIX_EPOCH,
        salt: [0; 16],
        columns: Arc::new(Columns::new(vec![time]).unwrap()),
        range: Interval::new(hour(0), hour(rows.len())).unwrap(),
        every: Every::Hours(1),
        later: 0,
        earlier: 0,
        notes: Vec::new(),
        survey: Arc::new(Survey { rows: rows.iter().sum(), ..Survey::default() }),
        slices,
    }
}

/// Tried slices: by index the rows read and written, and seconds.
fn done(plan: &Plan, slices: &[(usize, u64, u64, f64)]) -> BTreeMap<SliceId, Tried> {
    let tried = slices.iter().map(|(i, read, written, seconds)| {
        let (read, written) = (*read, *written);
        let counts = Counts { read, written, rejected: read - written, ..Counts::default() };
        (plan.slices[*i].id(), Tried { counts, seconds: *seconds, halved: false })
    });
    tried.collect()
}

fn measured<'a>(plan: &'a Plan, tried: &'a BTreeMap<SliceId, Tried>, wall: f64) -> Measured<'a> {
    Measured { plan, tried, wall, overhead: 1.0, lanes: 2 }
}

#[test]
fn a_fixed_part_and_a_part_by_rows_are_told_apart() {
    let plan = plan(&[1_000; 100]);
    // 0.1 s a slice and 1 ms a row.
    let tried = done(&plan, &[(0, 1_000, 1_000, 1.1), (1, 500, 500, 0.6)]);
    let forecast = measured(&plan, &tried, 1.1).forecast();
    let within = |s: f64| forecast.seconds.from < s && s < forecast.seconds.to;
    // 110 s of work on two lanes, and a second for the rest.
    assert!(within(56.0) && within(forecast.likely_seconds), "{forecast:?}");
    assert!((50.0..80.0).contains(&forecast.likely_seconds), "{forecast:?}");
    assert!(!within(110.0) && !within(20.0), "{forecast:?}");
}

#[test]
fn slices_of_one_size_tell_no_fixed_part() {
    let plan = plan(&[1_000; 10]);
    let tried = done(&plan, &[(0, 1_000, 1_000, 1.0), (1, 1_000, 1_000, 1.0)]);
    let forecast = measured(&plan, &tried, 1.0).forecast();
    assert!((forecast.likely_seconds - 6.0).abs() < 1e-6, "{forecast:?}");
}

#[test]
fn refused_rows_are_expected_as_often_and_a_cap_is_recommended() {
    let plan = plan(&[1_000; 100]);
    let tried = done(&plan, &[(0, 1_000, 990, 1.0), (1, 1_000, 1_000, 1.0)]);
    let measured = measured(&plan, &tried, 1.0);
    let forecast = measured.forecast();
    assert!(forecast.rejected.from == 0 && forecast.rejected.to >= 1_000, "{forecast:?}");
    assert!(forecast.written.from <= 99_000 && forecast.written.to == 100_000, "{forecast:?}");
    assert!(forecast.written.from > 98_000, "{forecast:?}");
    let advice = measured.advice(&forecast);
    assert_eq!(advice[0].0, "rejects: { max: 1.2% }");
    let mut capped = plan.clone();
    capped.spec.rejects = RejectsCap::Share(0.02);
    assert_eq!(Measured { plan: &capped, ..measured }.advice(&forecast), []);
}

#[test]
fn all_slices_tried_leave_no_doubt_about_rows() {
    let plan = plan(&[10, 20]);
    let tried = done(&plan, &[(0, 10, 10, 1.0), (1, 20, 20, 1.0)]);
    let forecast = measured(&plan, &tried, 1.0).forecast();
    assert_eq!(forecast.written, Range { from: 30, to: 30 });
    assert_eq!(forecast.rejected, Range { from: 0, to: 0 });
}

#[test]
fn long_slices_are_to_be_cut_and_tiny_ones_joined() {
    let long = plan(&[1_000_000; 10]);
    let tried = done(&long, &[(0, 1_000_000, 1_000_000, 300.0)]);
    let advice = |m: Measured<'_>| m.advice(&m.forecast()).into_iter().map(|(line, _)| line);
    let lines: Vec<_> = advice(measured(&long, &tried, 300.0)).collect();
    assert_eq!(lines, ["range: { every: 1min }"], "15 s of 300 s an hour");
    let tiny = plan(&[10; 1_000]);
    let tried = done(&tiny, &[(0, 10, 10, 0.010_1), (1, 20, 20, 0.010_2)]);
    let lines: Vec<_> = advice(measured(&tiny, &tried, 0.02)).collect();
    assert_eq!(lines, ["range: { every: 1mo }"], "20 times 10 ms, at 10 us a row");
    let fine = plan(&[10_000; 1_000]);
    let tried = done(&fine, &[(0, 10_000, 10_000, 0.110), (1, 20_000, 20_000, 0.210)]);
    assert_eq!(advice(measured(&fine, &tried, 0.2)).count(), 0);
}

#[test]
fn a_journal_tells_how_long_each_slice_was_in_hand() {
    use retrofill_core::ledger::Outcome;
    let at = |millis: i64| Timestamp::from_millisecond(millis).unwrap();
    let entry = |millis, slice: &str, what: SliceEvent| Entry {
        sequence: 1,
        at: at(millis),
        event: Event::slice(&SliceId::new(slice), what),
        hash: [0; 32],
    };
    let leased = || SliceEvent::Leased { generation: 1, attempt: 1 };
    let counts = Counts { read: 5, written: 5, ..Counts::default() };
    let (digest, proven) = (String::new(), true);
    let outcome = Outcome { generation: 1, counts, digest, proven, at: at(0) };
    let committed = || SliceEvent::Committed(outcome.clone());
    let entries = [
        entry(1_000, "20130101T000000Z", leased()),
        entry(1_500, "20130101T000000Z", SliceEvent::Split { at: at(0) }),
        entry(2_000, "20130101T000000Z.0", leased()),
        entry(2_100, "20130101T000000Z.0", committed()),
        entry(2_000, "20130101T000000Z.1", leased()),
        entry(2_400, "20130101T000000Z.1", committed()),
    ];
    let (slices, wall) = tried(&entries);
    let one = slices[&SliceId::new("20130101T000000Z")];
    assert!((one.seconds - 1.0).abs() < 1e-9 && one.halved, "{one:?}");
    assert_eq!((one.counts.read, slices.len()), (10, 1));
    assert!((wall - 1.4).abs() < 1e-9, "{wall}");
    assert_eq!(Duration::from_secs_f64(wall).as_millis(), 1_400);
}
