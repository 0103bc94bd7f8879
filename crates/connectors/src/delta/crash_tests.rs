//! Loads on a disk that loses power or is full, at every point.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use async_trait::async_trait;
use jiff::Timestamp;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{
    CommitOutcome, Manners, RowSink, SliceLoad, Standing, Target as _,
};
use retrofill_core::error::Result;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::{Counts, Digests, Receipt, ReceiptV1};
use retrofill_core::spec::Mode;

use super::crash::{Chance, CrashDisk, Image, Op};
use super::disk::Disk;
use super::{DeltaTarget, receipts, upkeep};

const HOUR: i64 = 3_600_000_000;
const ROWS: i64 = 40;

fn columns() -> Arc<Columns> {
    let time = ColumnType::Instant { unit: Precision::Microsecond };
    let value = ColumnType::Integer { bits: 64 };
    let list = vec![
        Column { name: "t".into(), ty: time, role: Role::Time, position: 0, source: None },
        Column { name: "v".into(), ty: value, role: Role::Value, position: 1, source: None },
    ];
    Arc::new(Columns::new(list).unwrap())
}

fn interval(from: usize, to: usize) -> Interval {
    let at = |hour: usize| Timestamp::from_microsecond(hour as i64 * HOUR).unwrap();
    Interval::new(at(from), at(to)).unwrap()
}

fn slice(hour: usize) -> SliceLoad {
    let interval = interval(hour, hour + 1);
    SliceLoad {
        plan: PlanId::new("p"),
        slice: SliceId::of(interval.start()),
        generation: 1,
        attempt: 1,
        interval,
        columns: columns(),
        mode: Mode::FillMissing,
        repair: false,
        manners: Manners::default(),
    }
}

fn receipt(slice: &SliceLoad) -> Receipt {
    Receipt::V1(ReceiptV1 {
        plan: slice.plan.clone(),
        spec_hash: String::new(),
        slice: slice.slice.clone(),
        generation: slice.generation,
        interval: slice.interval,
        mode: slice.mode,
        policies: Vec::new(),
        encoding: "retrofill-digest-v1".into(),
        fingerprint: [0; 32],
        salt: [0; 16],
        blocks: Vec::new(),
        counts: Counts::default(),
        digests: Digests::default(),
        at: Timestamp::UNIX_EPOCH,
        own: None,
        exceptions: None,
        anchor: serde_json::Value::Null,
    })
}

fn rows(hour: usize) -> RecordBatch {
    let times = (0..ROWS).map(|i| hour as i64 * HOUR + i);
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    RecordBatch::try_new(columns().arrow_schema(), vec![Arc::new(times), values]).unwrap()
}

struct Count(usize);

#[async_trait]
impl RowSink for Count {
    async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.0 += rows.num_rows();
        Ok(())
    }
}

/// Loads one slice unless its rows are there; whether it is committed, as far as is known.
async fn load(target: &DeltaTarget, hour: usize) -> Result<bool> {
    let slice = slice(hour);
    let mut load = target.begin(&slice).await?;
    let mut held = Count(0);
    load.held(&mut held).await?;
    if held.0 == 0 && hour % 5 != 4 {
        load.write(rows(hour)).await?;
    }
    load.seal().await?;
    match load.commit(receipt(&slice)).await {
        CommitOutcome::Committed => Ok(true),
        CommitOutcome::Moved(_) => Ok(false),
        CommitOutcome::NotCommitted(e) | CommitOutcome::Unknown(e) => Err(e),
    }
}

fn expected(hour: usize) -> usize {
    if hour % 5 == 4 { 0 } else { ROWS as usize }
}

async fn count(target: &DeltaTarget, hour: usize) -> usize {
    let mut load = target.begin(&slice(hour)).await.unwrap();
    let mut held = Count(0);
    load.held(&mut held).await.unwrap();
    held.0
}

const SLICES: usize = 48;
const TOGETHER: usize = 8;

/// Two runners with slices of their own, side by side, and a checkpoint every four versions.
async fn work(disk: &CrashDisk) {
    let targets = [0, 1].map(|_| Arc::new(DeltaTarget::on(Arc::new(disk.clone()), 4)));
    targets[0].prepare(&columns()).await.unwrap();
    for first in (0..SLICES).step_by(TOGETHER) {
        let start = |hour: usize| {
            let (target, disk) = (targets[hour % 2].clone(), disk.clone());
            tokio::spawn(async move {
                assert!(load(&target, hour).await.unwrap());
                disk.done(hour);
            })
        };
        let tasks: Vec<_> = (first..first + TOGETHER).map(start).collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Lets checkpoints come between commits.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The bytes of every data file as written.
fn contents(disk: &CrashDisk) -> HashMap<String, bytes::Bytes> {
    let names = disk.list("").unwrap().into_iter().map(|e| e.name);
    let files = names.filter(|n| n.ends_with(".parquet"));
    files.map(|name| (name.clone(), disk.read(&name).unwrap())).collect()
}

/// Everything that was acknowledged is there, and everything that is there is whole.
fn check(disk: &CrashDisk, done: &[usize], files: &HashMap<String, bytes::Bytes>) {
    let target = DeltaTarget::on(Arc::new(disk.clone()), 4);
    let seen = target.shared.log.newest(|state| (state.version, state.all())).unwrap();
    let Some((_, active)) = seen else {
        assert!(done.is_empty(), "the table is gone");
        return;
    };
    for file in active {
        let bytes = disk.read(&file.path).unwrap();
        assert_eq!(Some(&bytes), files.get(&*file.path), "{} is torn", file.path);
    }
    let found = receipts::find(&target.shared, &interval(0, SLICES)).unwrap();
    for receipt in &found.found {
        assert_eq!(receipt.standing, Standing::Sound);
    }
    for hour in done {
        let slice = slice(*hour);
        let is_ours = found.found.iter().filter(|f| f.receipt.is_for(&slice.plan, &slice.slice, 1));
        assert_eq!(is_ours.count(), 1, "slice {hour} was acknowledged but is gone");
    }
}

/// Different states that every push looks at, of ten thousand drawn.
const DIFFERENT: usize = 1_000;

/// `RETROFILL_CRASH_STATES=10000` looks at that many different ones.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_power_losses() {
    let wanted = std::env::var("RETROFILL_CRASH_STATES").map_or(DIFFERENT, |n| n.parse().unwrap());
    let (mut drawn, mut seen, mut works, mut checkpoints) = (0, HashSet::new(), 0, 0);
    // Each time the work is done its operations come in another order, and commits share their
    // log entries in another way: how many checkpoints there are hangs on it.
    while drawn < 10_000 || seen.len() < wanted || checkpoints == 0 {
        let (states, with_checkpoint) = lose_power(works, &mut seen).await;
        drawn += states;
        checkpoints += u64::from(with_checkpoint);
        works += 1;
        assert!(works < 1_000, "no work of {works} makes a checkpoint");
    }
    println!("{drawn} states of {works} runs, {} different ones", seen.len());
}

/// Does the work once and loses power at each of its operations; gives the states drawn, and
/// whether there was a checkpoint among the operations.
async fn lose_power(work_number: u64, seen: &mut HashSet<(u128, usize)>) -> (usize, bool) {
    let disk = CrashDisk::new();
    work(&disk).await;
    let (trace, files) = (disk.trace(), contents(&disk));
    let checkpoint =
        trace.iter().any(|op| matches!(op, Op::Set { path, .. } if path.contains(".checkpoint")));
    let per_point = 10_000_usize.div_ceil(trace.len());
    let (mut image, mut done) = (Image::default(), Vec::new());
    for (point, op) in trace.iter().enumerate() {
        image.apply(op);
        if let Op::Done(hour) = op {
            done.push(*hour);
        }
        for turn in 0..per_point {
            let seed = work_number << 32 | (point * per_point + turn) as u64;
            let left = image.after_power_loss(&mut Chance::new(seed));
            // What was checked once, with as much acknowledged, need not be checked again.
            if !seen.insert((left.fingerprint(), done.len())) {
                continue;
            }
            let after = CrashDisk::with(left);
            let checked = std::panic::catch_unwind(|| check(&after, &done, &files));
            assert!(checked.is_ok(), "run {work_number} point {point} seed {seed}: {op:?}");
            if seen.len().is_multiple_of(100) {
                rerun(after, &done).await;
            }
        }
    }
    (trace.len() * per_point, checkpoint)
}

/// delta-rs reads the same, and the same work again completes it.
async fn rerun(disk: CrashDisk, done: &[usize]) {
    let target = DeltaTarget::on(Arc::new(disk), 4);
    target.prepare(&columns()).await.unwrap();
    let log = &target.shared.log;
    let (version, files) = log.newest(|s| (s.version, s.all().len())).unwrap().unwrap();
    let table = upkeep::open(log.durable(), None).await.unwrap();
    assert_eq!(table.version(), Some(version));
    assert_eq!(table.get_file_uris().unwrap().count(), files);
    for hour in 0..SLICES {
        let there = target.receipts(&interval(hour, hour + 1)).await.unwrap().found;
        if there.is_empty() {
            assert!(!done.contains(&hour));
            assert!(load(&target, hour).await.unwrap());
        }
        assert_eq!(count(&target, hour).await, expected(hour));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_any_change_loses_and_doubles_nothing() {
    let mut failed = 0;
    for changes in 0.. {
        let disk = CrashDisk::new();
        let target = DeltaTarget::on(Arc::new(disk.clone()), 4);
        target.prepare(&columns()).await.unwrap();
        assert!(load(&target, 0).await.unwrap());
        disk.fail_after(changes);
        let first = load(&target, 1).await;
        let untouched = disk.fails_later();
        disk.fail_after(-1);
        failed += usize::from(first.is_err());
        let found = target.receipts(&interval(1, 2)).await.unwrap().found.len();
        if matches!(first, Ok(true)) {
            assert_eq!(found, 1, "acknowledged at {changes}");
        }
        if found == 0 {
            assert!(load(&target, 1).await.unwrap());
        }
        assert_eq!(count(&target, 0).await, expected(0));
        assert_eq!(count(&target, 1).await, expected(1), "change {changes}");
        if untouched {
            break;
        }
    }
    assert!(failed > 8, "only {failed} changes failed a load");
}

#[test]
fn what_was_not_synced_may_be_gone_and_what_was_is_not() {
    let disk = CrashDisk::new();
    disk.create_root().unwrap();
    let mut kept = disk.create("kept").unwrap();
    kept.write_all(b"all of it").unwrap();
    kept.sync().unwrap();
    disk.sync_dir("").unwrap();
    let mut torn = disk.create("torn").unwrap();
    torn.write_all(&[7; 2_000]).unwrap();
    disk.create_dir("dir").unwrap();
    disk.rename("kept", "renamed").unwrap();
    let mut seen = HashSet::new();
    for seed in 0..500 {
        let image = disk.image().after_power_loss(&mut Chance::new(seed));
        let after = CrashDisk::with(image);
        let names: Vec<String> = after.list("").unwrap().into_iter().map(|e| e.name).collect();
        for name in ["kept", "renamed"] {
            assert!(after.read(name).map_or(true, |b| b == "all of it"));
        }
        let torn = after.read("torn").map(|b| (b.len(), b.iter().all(|b| *b == 7)));
        seen.insert(format!("{names:?} {:?}", torn.ok()));
    }
    assert!(seen.len() > 50, "only {} different states", seen.len());
}
