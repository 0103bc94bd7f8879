use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use retrofill_core::error::Kind;
use retrofill_core::ledger::{Fold, SliceRecord, State};

use super::*;

/// Any event about any slice, possible or not.
fn any_event() -> impl Strategy<Value = (Vec<u8>, u8, SliceEvent)> {
    let text = "[a-z']{0,6}";
    let what = prop_oneof![
        9 => (0..9_u64, 1..4_u32)
            .prop_map(|(generation, attempt)| SliceEvent::Leased { generation, attempt }),
        2 => Just(SliceEvent::Split { at: hour(0) }),
        1 => any::<u64>().prop_map(|rows| SliceEvent::Written { rows }),
        1 => text.prop_map(|digest| SliceEvent::Proven { digest }),
        3 => any_outcome().prop_map(SliceEvent::Committed),
        1 => any_outcome().prop_map(SliceEvent::Recovered),
        4 => text.prop_map(|reason| SliceEvent::CommitUnknown { reason }),
        4 => (text, text).prop_map(|(kind, reason)| SliceEvent::Failed { kind, reason }),
        1 => Just(SliceEvent::Released),
        1 => text.prop_map(|reason| SliceEvent::Mismatched { reason }),
        1 => text.prop_map(|reason| SliceEvent::Stale { reason }),
    ];
    (prop::collection::vec(0..2_u8, 0..2), 0..2_u8, what)
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let at = any::<i32>()
        .prop_map(|n| Timestamp::UNIX_EPOCH + SignedDuration::new(i64::from(n), n % 1_000_000_000));
    (0..9_u64, any::<[u32; 8]>(), any::<u128>(), any::<bool>(), at).prop_map(
        |(generation, n, digest, proven, at)| {
            let mut n = n.map(|n| u64::from(n % 3) * u64::from(n)).into_iter();
            let mut next = || n.next().expect("one for each count");
            let counts = Counts {
                read: next(),
                written: next(),
                updated: next(),
                already_present: next(),
                conflicting: next(),
                duplicate: next(),
                rejected: next(),
                filtered: next(),
            };
            Outcome { generation, counts, digest: format!("{digest:032x}"), proven, at }
        },
    )
}

/// The event with its id, halvings at the true middle.
fn place(bench: &Bench, (halves, root, what): &(Vec<u8>, u8, SliceEvent)) -> Event {
    let id = halves.iter().fold(SliceId::of(hour(usize::from(*root))), |id, half| id.child(*half));
    let records = block_on(bench.journal.slices(&bench.plan)).unwrap();
    let middle = records
        .iter()
        .find(|r| r.id == id)
        .and_then(|r| r.interval.halves())
        .map(|(early, _)| early.end());
    match (what, middle) {
        (SliceEvent::Split { .. }, Some(at)) => Event::slice(&id, SliceEvent::Split { at }),
        _ => Event::slice(&id, what.clone()),
    }
}

fn folded(bench: &Bench) -> Vec<SliceRecord> {
    let entries = block_on(bench.journal.read(&bench.plan, 0)).unwrap();
    Fold::of(entries.iter().map(|e| &e.event)).unwrap().slices.into_values().collect()
}

#[test]
fn slices_equal_the_fold_after_any_events() {
    // One seed for ever: what was reached is checked at the end and must not depend on luck.
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 32, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let appends = prop::collection::vec(prop::collection::vec(any_event(), 1..3), 1..40);
    let reached = RefCell::new(BTreeSet::new());
    runner
        .run(&appends, |appends| {
            let bench = Bench::frozen(2);
            for append in appends {
                let before = block_on(bench.journal.slices(&bench.plan)).unwrap();
                reached.borrow_mut().extend(before.iter().map(|s| s.state));
                let events = append.iter().map(|e| place(&bench, e)).collect();
                if bench.append(events).is_err() {
                    let after = block_on(bench.journal.slices(&bench.plan)).unwrap();
                    prop_assert_eq!(before, after, "a refused append must change nothing");
                }
            }
            let slices = block_on(bench.journal.slices(&bench.plan)).unwrap();
            prop_assert_eq!(&slices, &folded(&bench));
            check_summary(&bench, &slices)
        })
        .unwrap();
    // What was drawn must have reached deep enough to mean something.
    let reached = reached.into_inner();
    assert!(State::ALL.iter().all(|s| reached.contains(s)), "only reached {reached:?}");
}

/// The summary, computed once more from the records.
fn check_summary(bench: &Bench, slices: &[SliceRecord]) -> Result<(), TestCaseError> {
    let leaves: Vec<_> = slices.iter().filter(|s| s.state != State::Split).collect();
    let summary = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
    let (mut counts, mut digest) = (Counts::default(), 0_u128);
    for outcome in leaves.iter().filter(|s| s.state.is_done()).filter_map(|s| s.outcome.as_ref()) {
        counts.add(&outcome.counts);
        digest = digest.wrapping_add(u128::from_str_radix(&outcome.digest, 16).unwrap());
    }
    prop_assert_eq!((summary.counts, summary.digest), (counts, digest));
    for state in State::ALL.into_iter().filter(|s| *s != State::Split) {
        let expected = leaves.iter().filter(|s| s.state == state).count() as u64;
        prop_assert_eq!(summary.of(state), expected);
    }
    let through = leaves.iter().take_while(|s| s.state.is_done()).last();
    prop_assert_eq!(summary.verified_through, through.map(|s| s.interval.end()));
    let back_to = leaves.iter().rev().take_while(|s| s.state.is_done()).last();
    prop_assert_eq!(summary.verified_back_to, back_to.map(|s| s.interval.start()));
    Ok(())
}

#[test]
fn halves_stand_for_their_parent() {
    let bench = Bench::frozen(2);
    let at = hour(0) + SignedDuration::from_mins(30);
    let id = SliceId::of(hour(0));
    let done = |id: &SliceId, digest| Event::slice(id, SliceEvent::Committed(outcome(1, digest)));
    let lease = |id: &SliceId| Event::slice(id, SliceEvent::Leased { generation: 1, attempt: 1 });
    bench.append(vec![leased(0), event(0, SliceEvent::Split { at })]).unwrap();
    let (early, late) = (id.child(0), id.child(1));
    bench.append(vec![lease(&early), done(&early, u128::MAX)]).unwrap();
    let half = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
    assert_eq!((half.total(), half.of(State::Verified), half.of(State::Split)), (3, 1, 0));
    assert_eq!((half.verified_through, half.verified_back_to), (Some(at), None));

    bench.append(vec![lease(&late), done(&late, 2), leased(1), committed(1, 4)]).unwrap();
    let all = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
    assert_eq!((all.verified_through, all.verified_back_to), (Some(hour(2)), Some(hour(0))));
    assert_eq!((all.digest, all.counts.read, all.unplaced), (5, 6, 3));
}

#[test]
fn a_stretch_without_slice_ends_the_run() {
    let bench = Bench::new();
    let apart = [(0, 1), (1, 2), (3, 4)].map(|(a, b)| Interval::new(hour(a), hour(b)).unwrap());
    bench
        .append(vec![Event::V1(EventV1::PlanFrozen {
            name: "gaps".into(),
            spec_hash: String::new(),
            salt: [0; 16],
            slices: apart.to_vec(),
            unplaced: 0,
        })])
        .unwrap();
    for n in [0, 1, 3] {
        bench.append(vec![leased(n), committed(n, 1)]).unwrap();
    }
    let summary = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
    assert_eq!(summary.verified_through, Some(hour(2)));
    assert_eq!(summary.verified_back_to, Some(hour(3)));
}

#[test]
fn reasons_are_the_newest_and_go_with_their_cause() {
    let bench = Bench::frozen(20);
    for n in 0..12 {
        let reason = format!("reason {n}");
        bench.append(vec![event(n, SliceEvent::Stale { reason })]).unwrap();
    }
    bench.append(vec![leased(11)]).unwrap();
    let summary = block_on(bench.journal.summary(&bench.plan)).unwrap().unwrap();
    let reasons: Vec<_> = summary.reasons.iter().map(|r| r.reason.as_str()).collect();
    let expected: Vec<_> = (1..11).rev().map(|n| format!("reason {n}")).collect();
    assert_eq!(reasons, expected);
    assert_eq!((summary.reasons[0].state, summary.of(State::Loading)), (State::Stale, 1));
}

#[test]
fn plans_are_listed_and_frozen_once() {
    let bench = Bench::frozen(1);
    let plans = block_on(bench.journal.plans()).unwrap();
    assert_eq!(plans.len(), 1);
    assert_eq!((plans[0].name.as_str(), plans[0].spec_hash.as_str()), ("job", "5bec"));
    assert_eq!(bench.append(vec![freeze(1)]).unwrap_err().kind(), Kind::Bug);
    let unknown = PlanId::new("p2");
    assert_eq!(block_on(bench.journal.summary(&unknown)).unwrap(), None);
    assert_eq!(block_on(bench.journal.head(&unknown)).unwrap(), None);
    assert_eq!(block_on(bench.journal.head(&bench.plan)).unwrap().unwrap().0, 1);
}
