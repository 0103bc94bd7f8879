use retrofill_core::error::Kind;
use retrofill_core::ledger::chain;

use super::*;

fn worked() -> Bench {
    let bench = Bench::frozen(3);
    for n in 0..3 {
        bench.append(vec![leased(n), committed(n, 10)]).unwrap();
    }
    bench
}

#[test]
fn entries_are_chained_without_gaps() {
    let bench = worked();
    let entries = block_on(bench.journal.read(&bench.plan, 0)).unwrap();
    assert_eq!(entries.len(), 7);
    let mut previous = [0; 32];
    for (entry, sequence) in entries.iter().zip(1..) {
        assert_eq!(entry.sequence, sequence);
        assert_eq!(entry.hash, chain(&previous, sequence, entry.at, &entry.event));
        previous = entry.hash;
    }
    let head = block_on(bench.journal.head(&bench.plan)).unwrap();
    assert_eq!(head, Some((7, previous)));
    assert_eq!(block_on(bench.journal.read(&bench.plan, 4)).unwrap(), entries[4..]);
    assert_eq!(block_on(bench.journal.read(&bench.plan, 7)).unwrap(), []);
    assert_eq!(block_on(bench.journal.read(&bench.plan, u64::MAX)).unwrap(), []);
}

#[test]
fn plans_have_chains_of_their_own() {
    let bench = worked();
    let other = PlanId::new("p0");
    let lease = block_on(bench.journal.lease(&other, &elsewhere("b"))).unwrap();
    block_on(bench.journal.append(&lease, vec![freeze(2)], true)).unwrap();
    bench.append(vec![event(0, SliceEvent::Stale { reason: "gone".into() })]).unwrap();
    assert_eq!(block_on(bench.journal.read(&other, 0)).unwrap().len(), 1);
    assert_eq!(block_on(bench.journal.read(&bench.plan, 0)).unwrap().len(), 8);
    assert_eq!(block_on(bench.journal.slices(&other)).unwrap().len(), 2);
}

/// Whatever is done to the rows behind the journal's back, `read` names the place.
#[test]
fn tampering_is_found() {
    let cases = [
        ("UPDATE entries SET json = replace(json, ':10,', ':11,') WHERE sequence = 5", 5),
        ("UPDATE entries SET json = json || ' ' WHERE sequence = 1", 1),
        ("UPDATE entries SET at = '2020-01-01T00:00:00Z' WHERE sequence = 2", 2),
        ("UPDATE entries SET at = 'x' WHERE sequence = 2", 2),
        ("UPDATE entries SET json = CAST(x'ff' AS TEXT) WHERE sequence = 2", 2),
        ("UPDATE entries SET hash = zeroblob(32) WHERE sequence = 3", 3),
        ("UPDATE entries SET hash = x'00' WHERE sequence = 3", 3),
        ("DELETE FROM entries WHERE sequence = 1", 1),
        ("DELETE FROM entries WHERE sequence = 4", 4),
        ("DELETE FROM entries WHERE sequence = 7", 7),
        ("DELETE FROM entries", 1),
        ("UPDATE entries SET sequence = 8 WHERE sequence = 7", 7),
    ];
    for (sql, place) in cases {
        let (_dir, plan, journal) = worked().tamper(sql);
        let error = block_on(journal.read(&plan, 0)).expect_err(sql);
        assert_eq!(error.kind(), Kind::Config, "{sql}");
        let expected = format!("entry {place} of plan p1 breaks the chain");
        assert!(error.message().starts_with(&expected), "{sql}: {error}");
        assert!(error.hint_text().unwrap().contains("receipts"));
    }
}

#[test]
fn an_event_of_a_newer_retrofill_is_named_as_such() {
    let bench = worked();
    let entries = block_on(bench.journal.read(&bench.plan, 0)).unwrap();
    let json = r#"{"v":"2","event":"new"}"#;
    let at = entries[6].at;
    let hash = retrofill_core::ledger::chain_text(&entries[5].hash, 7, at, json);
    let hex = retrofill_core::id::hex(&hash);
    let sql = format!("UPDATE entries SET json = '{json}', hash = x'{hex}' WHERE sequence = 7");
    let (_dir, plan, journal) = bench.tamper(&sql);
    let error = block_on(journal.read(&plan, 0)).unwrap_err();
    assert!(error.message().contains("entry 7 of plan p1 has a format"), "{error}");
}

#[test]
fn a_damaged_projection_is_an_error_not_a_guess() {
    for sql in [
        "UPDATE slices SET state = 'fine' WHERE start_s = 0",
        "UPDATE slices SET end_s = start_s WHERE start_s = 0",
        "UPDATE slices SET at = 'noon' WHERE start_s = 0",
        "UPDATE slices SET start_ns = 2000000000 WHERE start_s = 0",
    ] {
        let (_dir, plan, journal) = worked().tamper(sql);
        let error = block_on(journal.slices(&plan)).expect_err(sql);
        assert_eq!(error.kind(), Kind::Config, "{sql}");
        assert!(error.message().contains("it is damaged"), "{error}");
    }
}
