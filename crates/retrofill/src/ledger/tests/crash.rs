use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use retrofill_core::ledger::Fold;

use super::*;

/// Tells the child where its ledger is.
const LEDGER: &str = "RETROFILL_TEST_LEDGER";

#[test]
#[ignore = "runs as the child of `what_was_acknowledged_survives_a_kill`, until it is killed"]
fn child() {
    let path = std::env::var(LEDGER).expect("only the parent starts this");
    let journal = SqliteJournal::open(Path::new(&path)).unwrap();
    let plan = PlanId::new("p1");
    let me = super::super::holder::this_process().unwrap();
    let lease = block_on(journal.lease(&plan, &me)).unwrap();
    if block_on(journal.head(&plan)).unwrap().is_none() {
        block_on(journal.append(&lease, vec![freeze(8)], true)).unwrap();
    }
    for n in (0..8).cycle() {
        let quiet = event(n, SliceEvent::Stale { reason: "again".into() });
        block_on(journal.append(&lease, vec![quiet], false)).unwrap();
        block_on(journal.append(&lease, vec![leased(n), committed(n, 1)], true)).unwrap();
        let (sequence, _) = block_on(journal.head(&plan)).unwrap().unwrap();
        writeln!(std::io::stdout(), "acknowledged {sequence}").unwrap();
    }
}

/// Starts the child and kills it once it acknowledged this many appends; the last sequence it
/// told of.
fn run_and_kill(path: &Path, after: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::tests::crash::child", "--ignored", "--nocapture"])
        .env(LEDGER, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = lines.filter_map(|line| {
        line.rsplit_once("acknowledged ").map(|(_, sequence)| sequence.parse().unwrap())
    });
    let before: u64 = told.by_ref().take(after).last().expect("the child appends");
    child.kill().unwrap();
    let acknowledged = told.last().unwrap_or(before);
    child.wait().unwrap();
    acknowledged
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let plan = PlanId::new("p1");
    let mut before = 0;
    for after in [1, 7, 40, 3, 90] {
        let acknowledged = run_and_kill(&path, after);
        assert!(acknowledged > before, "the child did nothing");
        let journal = SqliteJournal::open(&path).unwrap();
        let entries = block_on(journal.read(&plan, 0)).unwrap();
        assert!(entries.len() as u64 >= acknowledged, "{} < {acknowledged}", entries.len());
        let fold = Fold::of(entries.iter().map(|e| &e.event)).unwrap();
        let slices = block_on(journal.slices(&plan)).unwrap();
        assert_eq!(slices, fold.slices.into_values().collect::<Vec<_>>());
        before = entries.len() as u64;
    }
}

/// Whatever part of the write-ahead log reached the disk, the ledger opens with a prefix.
#[test]
fn a_torn_log_opens_with_a_prefix() {
    let bench = Bench::frozen(4);
    let (mut lengths, path) = (vec![], bench.path());
    let wal = bench.dir.path().join("ledger.db-wal");
    for n in 0..4 {
        bench.append(vec![leased(n), committed(n, 5)]).unwrap();
        lengths.push(fs::metadata(&wal).unwrap().len());
    }
    let all = block_on(bench.journal.read(&bench.plan, 0)).unwrap();
    let (file, log) = (fs::read(&path).unwrap(), fs::read(&wal).unwrap());
    let mut seen = std::collections::BTreeSet::new();
    let torn = (0..=64).map(|n| log.len() * n / 64).chain(lengths.iter().map(|l| *l as usize));
    for length in torn {
        for garbage in [false, true] {
            let copy = tempfile::tempdir().unwrap();
            let to = copy.path().join("ledger.db");
            fs::write(&to, &file).unwrap();
            let mut part = log[..length].to_vec();
            if garbage {
                // A block that was to be written last but holds what was there before.
                part.resize(log.len(), 0x5a);
            }
            fs::write(copy.path().join("ledger.db-wal"), part).unwrap();
            let journal = SqliteJournal::open(&to).unwrap();
            let entries = block_on(journal.read(&bench.plan, 0)).unwrap();
            assert_eq!(entries, all[..entries.len()]);
            let fold = Fold::of(entries.iter().map(|e| &e.event)).unwrap();
            let slices = block_on(journal.slices(&bench.plan)).unwrap();
            assert_eq!(slices, fold.slices.into_values().collect::<Vec<_>>());
            seen.insert(entries.len());
        }
    }
    assert!(seen.len() >= 5 && seen.contains(&all.len()), "{seen:?}");
}
