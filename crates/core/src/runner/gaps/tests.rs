//! The whole search against an oracle that thinks in sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::BoxFuture;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::columns::{ColumnType, Precision};
use crate::connector::{FieldType, SurveyRequest};
use crate::env::Scratch;
use crate::memory::{Line, MemorySource, MemoryTable, Row, Value};
use crate::plan::{Frozen, Inputs, freeze, resolve_columns};
use crate::runner::{Cell, Silent};
use crate::spec::{
    Endpoint, Limits, OnDuplicate, OnEmptySource, Order, RangeSpec, RejectsCap, Retry, RowsSpec,
    Spec, VerifySpec, WriteSpec,
};

/// A world without time, files and tasks.
struct Still;

impl Env for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {
        panic!("a search starts no task")
    }

    fn spawn_cpu(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn random(&self) -> u64 {
        panic!("a search leaves nothing to chance")
    }

    fn scratch(&self) -> Arc<dyn Scratch> {
        panic!("a search writes nothing")
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        connector: "memory".into(),
        settings: serde_json::Value::Null,
        identity: serde_json::Value::Null,
        label: "memory".into(),
    }
}

fn spec(key: bool, rule: OnDuplicate, memory: u64) -> Spec {
    Spec {
        name: "n".into(),
        source: endpoint(),
        transform: None,
        target: endpoint(),
        rows: RowsSpec {
            time: "t".into(),
            key: key.then(|| vec!["k".into()]),
            compare: None,
            on_duplicate: rule,
        },
        range: RangeSpec {
            from: None,
            to: None,
            every: Some(Every::Minutes(7)),
            timezone: "UTC".into(),
            order: Order::default(),
            settle: Duration::ZERO,
        },
        write: WriteSpec {
            mode: if key { crate::spec::Mode::FillMissing } else { crate::spec::Mode::Append },
            on_empty_source: OnEmptySource::Skip,
            scope: None,
            min_keep: None,
            lock: None,
            live_writers: None,
        },
        limits: Limits { memory, ..Limits::default() },
        retry: Retry::default(),
        rejects: RejectsCap::default(),
        verify: VerifySpec::default(),
    }
}

/// A key (none is NULL), a second, a value.
type Short = (Option<u8>, i64, i64);

fn row((key, time, value): Short) -> Row {
    let key = key.map_or(Value::Null, |k| Value::Text(format!("k{k}")));
    vec![Value::Instant(time), key, Value::Integer(value)]
}

/// What is looked for, and where.
struct Case {
    source: Vec<Short>,
    /// Seconds of lines that do not fit.
    bad: Vec<i64>,
    target: Vec<Short>,
    keyed: bool,
    rule: OnDuplicate,
    memory: u64,
}

impl Case {
    fn search(&self, cadence: Wanted) -> Option<Search> {
        let field = |name: &str, ty, nullable| FieldType::new(name, ty, nullable);
        let fields = vec![
            field("t", ColumnType::Instant { unit: Precision::Second }, true),
            field("k", ColumnType::Text, true),
            field("v", ColumnType::Integer { bits: 64 }, true),
        ];
        let bad = |t: &i64| Line::Bad(Timestamp::from_second(*t).unwrap(), "x".into());
        let mut lines: Vec<_> = self.source.iter().map(|r| Line::Row(row(*r))).collect();
        lines.extend(self.bad.iter().map(bad));
        let source = MemorySource::new(fields, "t", 5, lines).unwrap();
        let survey = block_on(source.survey(&SurveyRequest::default())).unwrap();
        let spec = spec(self.keyed, self.rule, self.memory);
        let of = (&spec.rows, &spec.write);
        let none = MemoryTable::default();
        let (columns, notes) = resolve_columns(of, &survey.columns, None, &none).unwrap();
        let target = MemoryTable::with(columns.clone(), self.held());
        let frozen = freeze(Inputs {
            spec,
            as_written: serde_json::Value::Null,
            base_dir: String::new(),
            survey,
            columns,
            notes,
            most: 1_000_000,
            cuts: Vec::new(),
            now: Timestamp::from_second(10_000_000).unwrap(),
            salt: [7; 16],
        });
        let Frozen::Plan(plan) = frozen.unwrap() else { return None };
        Some(Search {
            plan: Arc::new(*plan),
            source: Arc::new(source),
            target: Arc::new(target),
            env: Arc::new(Still),
            stop: Arc::default(),
            watch: Arc::new(Silent),
            cadence,
        })
    }

    fn held(&self) -> Vec<Row> {
        let order = |r: &Short| {
            let [t, k, v] = <[Value; 3]>::try_from(row(*r)).unwrap();
            // Without a key, the columns beside the time stand by name.
            vec![t, k, v]
        };
        self.target.iter().map(order).collect()
    }
}

/// Per key the sorted buckets, as runs.
fn runs(buckets: &BTreeSet<i64>, every: i64) -> Vec<(i64, i64, u64)> {
    let mut out: Vec<(i64, i64, u64)> = Vec::new();
    for b in buckets {
        match out.last_mut() {
            Some((_, end, n)) if *end == b * every => (*end, *n) = (*end + every, *n + 1),
            _ => out.push((b * every, (b + 1) * every, 1)),
        }
    }
    out
}

type Told = BTreeMap<Vec<Cell>, (u64, Vec<(i64, i64, u64)>, Vec<(i64, i64, u64)>)>;

fn told(gaps: &Gaps) -> Told {
    let list = |m: &Missing| -> Vec<_> {
        assert_eq!(m.buckets, m.holes.iter().map(|h| h.buckets).sum::<u64>());
        let ends = |h: &Hole| (h.interval.start().as_second(), h.interval.end().as_second());
        m.holes.iter().map(|h| (ends(h).0, ends(h).1, h.buckets)).collect()
    };
    let one = |s: &Series| (s.key.clone(), (s.fillable.rows, list(&s.fillable), list(&s.absent)));
    gaps.series.iter().map(one).collect()
}

type At = (Option<u8>, i64);

/// The values at each key and time, without rows that have no key and need one; and how many of
/// those there are.
fn grouped(case: &Case, rows: &[Short], range: &Interval) -> (BTreeMap<At, Vec<i64>>, u64) {
    let mut groups: BTreeMap<At, Vec<i64>> = BTreeMap::new();
    let mut without = 0;
    for (key, time, value) in rows {
        if !range.contains(Timestamp::from_second(*time).unwrap()) {
            continue;
        }
        match (case.keyed, key) {
            (true, None) => without += 1,
            (true, _) => groups.entry((*key, *time)).or_default().push(*value),
            // One number for key and value.
            (false, _) => {
                let whole = value * 100 + key.map_or(99, i64::from);
                groups.entry((None, *time)).or_default().push(whole);
            }
        }
    }
    (groups, without)
}

/// How many of these have no equal of their own among the others.
fn lacking(values: &[i64], held: &[i64]) -> u64 {
    let mut left = held.to_vec();
    let mut missing = 0;
    for value in values {
        match left.iter().position(|h| h == value) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => missing += 1,
        }
    }
    missing
}

/// The same by brute force, and how many rows are refused.
fn oracle(case: &Case, range: &Interval, every: i64) -> (Told, u64) {
    let inside = |t: &&i64| range.contains(Timestamp::from_second(**t).unwrap());
    let (groups, without) = grouped(case, &case.source, range);
    let (held, _) = grouped(case, &case.target, range);
    let mut refused = without + case.bad.iter().filter(inside).count() as u64;
    let mut fillable: BTreeMap<Option<u8>, BTreeMap<i64, u64>> = BTreeMap::new();
    let mut there: BTreeMap<Option<u8>, BTreeSet<i64>> = BTreeMap::new();
    let none = Vec::new();
    for ((key, time), values) in &groups {
        let unequal = values.iter().any(|v| v != &values[0]);
        if case.keyed && unequal && case.rule == OnDuplicate::Reject {
            refused += values.len() as u64;
            continue;
        }
        let bucket = time.div_euclid(every);
        there.entry(*key).or_default().insert(bucket);
        let same = held.get(&(*key, *time)).unwrap_or(&none);
        let missing = if case.keyed { u64::from(same.is_empty()) } else { lacking(values, same) };
        if missing > 0 {
            *fillable.entry(*key).or_default().entry(bucket).or_default() += missing;
        }
    }
    for (key, time) in held.keys() {
        there.entry(*key).or_default().insert(time.div_euclid(every));
    }
    let mut told = Told::new();
    for (key, buckets) in there {
        let (first, last) = (*buckets.first().unwrap(), *buckets.last().unwrap());
        let absent = (first..=last).filter(|b| !buckets.contains(b)).collect();
        let mine = fillable.remove(&key).unwrap_or_default();
        let name = if case.keyed { vec![key.map(|k| format!("k{k}"))] } else { Vec::new() };
        let rows = mine.values().sum();
        told.insert(name, (rows, runs(&mine.into_keys().collect(), every), runs(&absent, every)));
    }
    (told, refused)
}

fn short() -> impl Strategy<Value = Short> {
    (proptest::option::weighted(0.9, 0_u8..3), -1_500_i64..6_000, 0_i64..2)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any rows on either side, in any order, in slices of seven minutes of which each is taken in
    /// pieces where memory is small.
    #[test]
    fn what_is_missing_is_found_exactly(
        source in proptest::collection::vec(short(), 1..60),
        taken in proptest::collection::vec(any::<bool>(), 60),
        live in proptest::collection::vec(short(), 0..25),
        bad in proptest::collection::vec(-1_500_i64..6_000, 0..4),
        round in proptest::sample::select(vec![1_i64, 60, 300]),
        minutes in 1_u32..12,
        keyed in any::<bool>(),
        first in any::<bool>(),
        memory in proptest::sample::select(vec![160_u64, 1_600, 100_000]),
    ) {
        let round = |(k, t, v): &Short| (*k, t.div_euclid(round) * round, *v);
        let source: Vec<_> = source.iter().map(round).collect();
        let taken = source.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(row, _)| *row);
        let target = taken.chain(live.iter().map(round)).collect();
        let rule = if first { OnDuplicate::First } else { OnDuplicate::Reject };
        let case = Case { source, bad, target, keyed, rule, memory };
        let search = case.search(Wanted::Every(Every::Minutes(minutes))).unwrap();
        let range = search.plan.range;
        let found = block_on(gaps(search)).unwrap();
        let (want, refused) = oracle(&case, &range, i64::from(minutes) * 60);
        prop_assert_eq!(told(&found), want);
        prop_assert_eq!(found.refused, refused);
        let rows = |s: &Series| s.fillable.rows;
        prop_assert_eq!(found.series.iter().map(rows).sum::<u64>(), found.fillable_rows());
        // Without a cadence the same rows are found.
        let bare = block_on(gaps(case.search(Wanted::Rows).unwrap())).unwrap();
        prop_assert_eq!(bare.slices, found.slices);
        prop_assert!(bare.series.iter().all(|s| s.buckets == 0 && s.absent.buckets == 0));
    }
}

/// Rows of one key at these minutes.
fn minutes(list: impl IntoIterator<Item = i64>) -> Case {
    let source = list.into_iter().map(|m| (Some(0), m * 60, 0)).collect();
    let (bad, target) = (Vec::new(), Vec::new());
    Case { source, bad, target, keyed: true, rule: OnDuplicate::Reject, memory: 1 << 20 }
}

fn found(case: &Case, cadence: Wanted) -> Gaps {
    block_on(gaps(case.search(cadence).unwrap())).unwrap()
}

#[test]
fn the_whole_source_decides_on_the_cadence_not_its_beginning() {
    // At first every minute, for long enough to be believed; then for longer every five.
    let rows = (0..1_200).chain((1_200..20_000).step_by(5)).filter(|m| *m != 15_000);
    let mut case = minutes(rows);
    case.source.extend(case.source.clone().into_iter().map(|(_, t, v)| (Some(1), t, v)));
    let search = case.search(Wanted::Find).unwrap();
    let guess = block_on(async { Searching::new(search).await?.guess().await });
    assert_eq!(guess.unwrap(), Some(Every::Minutes(1)));
    let gaps = found(&case, Wanted::Find);
    assert_eq!(gaps.cadence.unwrap().every, Every::Minutes(5));
    assert!(gaps.cadence.unwrap().found.unwrap() < 0.8);
    assert_eq!(gaps.series[0].absent.buckets, 1);
    assert_eq!(gaps.series[0].absent.holes[0].interval.start().as_second(), 15_000 * 60);
    assert!(gaps.doubts.is_empty(), "{:?}", gaps.doubts);
}

#[test]
fn a_cadence_that_does_not_fit_is_named() {
    let regular = minutes((0..200).map(|n| n * 10));
    let fine = found(&regular, Wanted::Every(Every::Minutes(1)));
    assert_eq!(fine.series[0].absent.buckets, 199 * 9);
    assert_eq!(
        fine.doubts,
        ["rows come every 10min, not every 1min: most buckets that are called absent lie between \
          two rows that are neighbours"]
    );
    let coarse = found(&regular, Wanted::Every(Every::Hours(1)));
    assert_eq!(coarse.series[0].absent.buckets, 0);
    assert_eq!(
        coarse.doubts,
        ["rows come every 10min, not every 1h: several share a bucket, and a hole shorter than a \
          bucket is not seen"]
    );
    assert!(found(&regular, Wanted::Every(Every::Minutes(10))).doubts.is_empty());
    let irregular = minutes((0..40).map(|n| n * n));
    let sparse = found(&irregular, Wanted::Every(Every::Minutes(5)));
    assert!(sparse.doubts[0].starts_with("more buckets of 5min are absent ("), "{sparse:?}");
    let crowded = found(&irregular, Wanted::Every(Every::Hours(5)));
    assert!(crowded.doubts[0].starts_with("40 times lie in 6 buckets of 5h"), "{crowded:?}");
    let search = irregular.search(Wanted::Find).unwrap();
    let error = block_on(gaps(search)).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.hint_text().unwrap().contains("--every"), "{error:?}");
}

#[test]
fn times_that_wander_over_a_bound_are_named() {
    // On the hour, and every other time a minute too soon.
    let case = minutes((1..100).map(|n| n * 60 - i64::from(n % 2 == 0)));
    let gaps = found(&case, Wanted::Every(Every::Hours(1)));
    assert_eq!(gaps.series[0].absent.buckets, 49);
    let torn = gaps.doubts.iter().any(|d| d.contains("wander over the bounds"));
    assert!(torn, "{:?}", gaps.doubts);
}

#[test]
fn rows_that_fail_their_slice_are_named() {
    let mut case = minutes(0..10);
    case.source.push((Some(0), 0, 1));
    case.rule = OnDuplicate::Fail;
    let gaps = found(&case, Wanted::Every(Every::Minutes(1)));
    assert_eq!((gaps.fillable_rows(), gaps.refused), (9, 2));
    assert!(gaps.doubts[0].contains("`on_duplicate: fail`"), "{:?}", gaps.doubts);
}

#[test]
fn a_search_can_be_stopped() {
    let search = minutes(0..10).search(Wanted::Find).unwrap();
    search.stop.gracefully();
    assert_eq!(block_on(gaps(search)).unwrap_err().kind(), Kind::Stopped);
}

#[test]
fn a_plan_of_some_slices_claims_no_more() {
    let plan = minutes(0..50).search(Wanted::Rows).unwrap().plan;
    let now = Timestamp::from_second(77).unwrap();
    assert_eq!(plan.only(|_| false, now).unwrap(), None);
    assert_eq!(plan.only(|_| true, now).unwrap().as_ref(), Some(&*plan));
    let some = plan.only(|i| i == 1 || i == 4, now).unwrap().unwrap();
    assert!(plan.is_whole() && !some.is_whole());
    assert_eq!(some.slices, [plan.slices[1].clone(), plan.slices[4].clone()]);
    let ends = (plan.slices[1].interval.start(), plan.slices[4].interval.end());
    assert_eq!((some.range.start(), some.range.end()), ends);
    assert!(some.id != plan.id && some.spec_hash == plan.spec_hash && some.salt == plan.salt);
    let again = Plan::from_json(&some.to_json().unwrap(), "plan").unwrap();
    assert_eq!(again, some);
}

#[test]
fn a_slice_that_does_not_fit_is_read_in_parts_and_once() {
    let slice = |from: i64, to: i64, rows| {
        let t = |s| Timestamp::from_second(s).unwrap();
        Planned { interval: Interval::new(t(from), t(to)).unwrap(), rows }
    };
    let block = |min, max, rows| {
        let t = |s| Timestamp::from_second(s).unwrap();
        let (min, max) = (t(min), t(max) - jiff::SignedDuration::from_nanos(1));
        Block { file: 0, offset: 0, length: 0, line: 1, rows, min, max, hash: String::new() }
    };
    let survey = |blocks| Survey { blocks, ..Survey::default() };
    let slices = [slice(0, 8, 10), slice(8, 16, 40), slice(16, 24, 0)];
    let even = survey(vec![block(0, 8, 10), block(8, 12, 20), block(12, 16, 20)]);
    let parts = super::parts(&even, &slices, 10);
    let of = |i: usize| parts.iter().filter(|p| p.0 == i).map(|p| p.1).collect::<Vec<_>>();
    assert_eq!(of(0), [slices[0].interval]);
    assert_eq!(of(2), [slices[2].interval]);
    let seconds = |i: &Interval| (i.start().as_second(), i.end().as_second());
    let cut: Vec<_> = of(1).iter().map(seconds).collect();
    assert_eq!(cut, [(8, 10), (10, 12), (12, 14), (14, 16)]);
    assert!(parts.is_sorted_by_key(|p| p.1.start()));
    // All rows lie in an eighth of the time: only that is cut.
    let uneven = survey(vec![block(13, 14, 40)]);
    let parts = super::parts(&uneven, &slices[1..2], 10);
    let ends: Vec<_> = parts.iter().map(|p| p.1.end().as_millisecond()).collect();
    assert_eq!(ends, [12_000, 13_000, 13_250, 13_500, 13_750, 14_000, 16_000]);
    // No time is cut finer than it can be.
    let end = Timestamp::from_microsecond(2).unwrap();
    let dense = Interval::new(Timestamp::UNIX_EPOCH, end).unwrap();
    let crowd = Block { max: Timestamp::UNIX_EPOCH, ..block(0, 1, 1_000) };
    let slice = Planned { interval: dense, rows: 1_000 };
    assert_eq!(super::parts(&survey(vec![crowd]), &[slice], 1).len(), 2);
}
