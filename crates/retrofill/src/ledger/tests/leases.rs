use std::sync::Barrier;
use std::time::Duration;

use retrofill_core::error::Kind;

use super::super::holder;
use super::*;

/// Moves the plan's last heartbeat.
fn shift_beat(bench: &Bench, seconds: i64) {
    let job = move |connection: &mut rusqlite::Connection, _: &std::path::Path| {
        let sql = "UPDATE leases SET beat_ms = beat_ms + ?1";
        assert_eq!(connection.execute(sql, [seconds * 1000]).unwrap(), 1);
        Ok(())
    };
    block_on(bench.journal.write_with(job)).unwrap();
}

#[test]
fn a_living_lease_is_respected_and_its_holder_named() {
    let bench = Bench::new();
    shift_beat(&bench, -3);
    let error = block_on(bench.journal.lease(&bench.plan, &elsewhere("b"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    let text = error.message();
    assert!(text.starts_with("plan p1 is held by process 7 on a.invalid (heartbeat 3."), "{text}");
    assert!(error.hint_text().is_some());
    assert!(block_on(bench.journal.lease(&PlanId::new("p2"), &elsewhere("b"))).is_ok());
}

#[test]
fn an_expired_lease_is_taken_over_and_its_holder_fenced() {
    for seconds in [-11, 11] {
        let bench = Bench::frozen(1);
        shift_beat(&bench, seconds);
        let new = block_on(bench.journal.lease(&bench.plan, &elsewhere("b"))).unwrap();
        assert_eq!(new.token, bench.lease.token + 1);
        let error = bench.append(vec![leased(0)]).unwrap_err();
        assert_eq!(error.kind(), Kind::Fenced);
        assert!(error.message().contains("process 7 on b.invalid holds it now"), "{error}");
        let renewed = block_on(bench.journal.renew(&bench.lease)).unwrap_err();
        assert_eq!(renewed.kind(), Kind::Fenced);
        let released = block_on(bench.journal.release(bench.lease.clone())).unwrap_err();
        assert_eq!(released.kind(), Kind::Fenced);
        assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 1);
        block_on(bench.journal.append(&new, vec![leased(0)], true)).unwrap();
    }
}

#[test]
fn renewing_keeps_a_lease() {
    let bench = Bench::new();
    shift_beat(&bench, -9);
    block_on(bench.journal.renew(&bench.lease)).unwrap();
    shift_beat(&bench, -9);
    assert!(block_on(bench.journal.lease(&bench.plan, &elsewhere("b"))).is_err());
    let state = block_on(bench.journal.read_with({
        let plan = bench.plan.clone();
        move |connection, path| super::super::lease::find(connection, path, &plan)
    }));
    let state = state.unwrap().unwrap();
    assert!(state.is_live() && state.beat_age >= Duration::from_secs(9), "{state:?}");
}

/// A holder never waits for itself, but its two leases never append both.
#[test]
fn the_same_holder_gets_a_new_lease_and_loses_the_old() {
    let bench = Bench::frozen(1);
    let new = block_on(bench.journal.lease(&bench.plan, &elsewhere("a"))).unwrap();
    assert_eq!(new.token, 2);
    assert_eq!(bench.append(vec![leased(0)]).unwrap_err().kind(), Kind::Fenced);
    block_on(bench.journal.append(&new, vec![leased(0)], true)).unwrap();
}

#[test]
fn a_released_plan_is_free_and_its_tokens_go_on() {
    let bench = Bench::frozen(1);
    block_on(bench.journal.release(bench.lease.clone())).unwrap();
    let error = bench.append(vec![leased(0)]).unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert!(error.message().contains("given back"));
    let new = block_on(bench.journal.lease(&bench.plan, &elsewhere("b"))).unwrap();
    assert_eq!(new.token, 2);
}

#[test]
fn a_holder_that_is_gone_is_replaced_at_once() {
    let here = holder::this_process().unwrap();
    let ended = Holder { started: here.started.replacen(' ', "9 ", 1), ..here.clone() };
    let restarted = Holder { boot: "before".into(), ..here.clone() };
    for gone in [ended, restarted] {
        let bench = Bench::new();
        let plan = PlanId::new("p2");
        block_on(bench.journal.lease(&plan, &gone)).unwrap();
        let lease = block_on(bench.journal.lease(&plan, &here)).unwrap();
        assert_eq!(lease.token, 2);
        let error = block_on(bench.journal.lease(&plan, &elsewhere("b"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Fenced);
    }
}

/// Two connections and many threads: of those that ask at one moment, exactly one wins.
#[test]
fn one_of_many_wins() {
    let bench = Bench::new();
    let other = SqliteJournal::open(&bench.path()).unwrap();
    let (threads, rounds) = (8, 10);
    let barrier = Barrier::new(threads);
    let won = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..threads {
            let (barrier, won) = (&barrier, &won);
            let journal = if n % 2 == 0 { &bench.journal } else { &other };
            scope.spawn(move || {
                for round in 0..rounds {
                    let plan = PlanId::new(format!("round {round}"));
                    barrier.wait();
                    match block_on(journal.lease(&plan, &elsewhere(&n.to_string()))) {
                        Ok(lease) => won.lock().unwrap().push((round, lease.token)),
                        Err(error) => assert_eq!(error.kind(), Kind::Fenced, "{error}"),
                    }
                }
            });
        }
    });
    let mut won = won.into_inner().unwrap();
    won.sort_unstable();
    assert_eq!(won, (0..rounds).map(|round| (round, 1)).collect::<Vec<_>>());
}
