//! The contract of a target, as tests. A connector that passes can be driven by the runner.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, Float64Array, StringArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use retrofill_core::connector::{
    CommitOutcome, Load, Manners, ReadRequest, RowPicker, RowSink, SliceLoad, Standing, Target,
};
use retrofill_core::digest::{Digest, ENCODING};
use retrofill_core::error::{Kind, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::{Counts, Digests, Receipt, ReceiptV1};
use retrofill_core::spec::Mode;
use retrofill_core::survey::Survey;

use super::rows::{HOUR, SALT, Sum, columns, digest, hours, rows};

/// Opens a fresh, empty target.
pub(crate) trait Open<K>: Fn() -> (Arc<dyn Target>, K) {}
impl<K, F: Fn() -> (Arc<dyn Target>, K)> Open<K> for F {}

pub(crate) fn load(interval: Interval, generation: u64) -> SliceLoad {
    SliceLoad {
        plan: PlanId::new("0123456789abcdef0123456789abcdef"),
        slice: SliceId::of(interval.start()),
        generation,
        attempt: 1,
        interval,
        columns: columns(),
        mode: Mode::FillMissing,
        repair: generation > 1,
        // Some tests leave a load open while another one waits for it.
        manners: Manners { longest: Some(Duration::from_mins(1)), ..Manners::default() },
    }
}

pub(crate) fn receipt(load: &SliceLoad, written: &Digest, before: &Digest) -> Receipt {
    let mut after = before.clone();
    after.add(written);
    let counts = Counts { read: written.count, written: written.count, ..Counts::default() };
    let digests = Digests {
        read: written.clone(),
        written: written.clone(),
        before: before.clone(),
        after,
        ..Digests::default()
    };
    Receipt::V1(ReceiptV1 {
        plan: load.plan.clone(),
        spec_hash: String::new(),
        slice: load.slice.clone(),
        generation: load.generation,
        interval: load.interval,
        mode: load.mode,
        policies: Vec::new(),
        encoding: ENCODING.into(),
        fingerprint: load.columns.fingerprint(),
        salt: SALT,
        blocks: vec!["ab".into()],
        counts,
        digests,
        at: jiff::Timestamp::from_second(1_700_000_000).expect("in the calendar"),
        own: None,
        exceptions: None,
        anchor: serde_json::Value::Null,
    })
}

async fn held(load: &mut dyn Load) -> Digest {
    let mut sum = Sum::default();
    load.held(&mut sum).await.expect("held");
    sum.0
}

/// What the target holds of an interval, for anybody who reads.
async fn visible(target: &dyn Target, interval: Interval) -> Digest {
    let survey = Arc::new(Survey::default());
    let request = ReadRequest { interval, columns: columns(), survey };
    let mut batches = target.read(&request).await.expect("readable").batches;
    let mut sum = Sum::default();
    while let Some(batch) = batches.next().await {
        sum.push(batch.expect("readable").rows).await.expect("summed");
    }
    sum.0
}

/// Loads a slice up to the point before its commit.
pub(crate) async fn filled(
    target: &dyn Target,
    slice: &SliceLoad,
    batch: &RecordBatch,
) -> Box<dyn Load> {
    let mut load = target.begin(slice).await.expect("begun");
    let before = held(load.as_mut()).await;
    if batch.num_rows() > 0 {
        let refused = load.write(batch.clone()).await.expect("written");
        assert_eq!(refused, []);
    }
    load.seal().await.expect("sealed");
    let mut back = Sum::default();
    load.read_back(&mut back).await.expect("read back");
    let mut expected = before;
    expected.add(&digest(batch));
    assert!(back.0.matches(&expected), "read back {:?}, expected {expected:?}", back.0);
    load
}

async fn done(target: &dyn Target, slice: &SliceLoad, batch: &RecordBatch) {
    let before = visible(target, slice.interval).await;
    let load = filled(target, slice, batch).await;
    committed(&load.commit(receipt(slice, &digest(batch), &before)).await);
}

#[track_caller]
fn committed(outcome: &CommitOutcome) {
    assert!(matches!(outcome, CommitOutcome::Committed), "{}", word(outcome));
}

fn word(outcome: &CommitOutcome) -> String {
    match outcome {
        CommitOutcome::Committed => "committed".into(),
        CommitOutcome::Moved(_) => "moved".into(),
        CommitOutcome::NotCommitted(e) => format!("not committed: {e}"),
        CommitOutcome::Unknown(e) => format!("unknown: {e}"),
    }
}

async fn fresh<K>(open: &impl Open<K>) -> (Arc<dyn Target>, K) {
    let (target, keep) = open();
    target.prepare(&columns()).await.expect("prepared");
    (target, keep)
}

pub(crate) async fn creates<K>(open: &impl Open<K>) {
    let (target, _keep) = open();
    assert_eq!(target.table().await.expect("asked"), None);
    target.prepare(&columns()).await.expect("prepared");
    target.prepare(&columns()).await.expect("prepared again");
    let table = target.table().await.expect("asked").expect("there");
    let mut wanted: Vec<_> = columns().iter().cloned().collect();
    wanted.sort_by_key(|c| c.position);
    let found: Vec<_> = table.iter().map(|f| (f.name.as_str(), f.ty)).collect();
    let wanted: Vec<_> = wanted.iter().map(|c| (c.name.as_str(), c.ty)).collect();
    assert_eq!(found, wanted);
}

pub(crate) async fn commits<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR, 5 * HOUR], "a", 3));
    let load = filled(target.as_ref(), &slice, &batch).await;
    if target.capabilities().atomic {
        assert_eq!(visible(target.as_ref(), slice.interval).await.count, 0);
    }
    committed(&load.commit(receipt(&slice, &digest(&batch), &Digest::default())).await);
    assert!(visible(target.as_ref(), slice.interval).await.matches(&digest(&batch)));
}

pub(crate) async fn leaves_nothing<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR], "a", 3));
    filled(target.as_ref(), &slice, &batch).await.abort().await.expect("aborted");
    drop(filled(target.as_ref(), &slice, &batch).await);
    assert_eq!(visible(target.as_ref(), slice.interval).await.count, 0);
    assert!(target.receipts(&slice.interval).await.expect("asked").found.is_empty());
    done(target.as_ref(), &slice, &batch).await;
}

/// Fills a load that has begun, and asks for its commit.
async fn finished(
    mut load: Box<dyn Load>,
    slice: &SliceLoad,
    batch: &RecordBatch,
) -> Result<CommitOutcome> {
    let before = held(load.as_mut()).await;
    load.write(batch.clone()).await?;
    load.seal().await?;
    Ok(load.commit(receipt(slice, &digest(batch), &before)).await)
}

pub(crate) async fn once<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR], "a", 3));
    let first = filled(target.as_ref(), &slice, &batch).await;
    let proof = receipt(&slice, &digest(&batch), &Digest::default());
    match target.begin(&slice).await {
        Ok(second) => {
            let outcome = finished(second, &slice, &batch).await.expect("filled");
            committed(&outcome);
            let outcome = first.commit(proof).await;
            assert!(!matches!(outcome, CommitOutcome::Committed), "committed twice");
        }
        // Only one load of a slice may be open.
        Err(e) => {
            assert!(e.kind().is_transient(), "{e}");
            let outcome = first.commit(proof).await;
            committed(&outcome);
        }
    }
    let late = target.begin(&slice).await.expect("begun to look");
    match finished(late, &slice, &batch).await {
        Ok(CommitOutcome::NotCommitted(e)) | Err(e) => assert_eq!(e.kind(), Kind::Fenced, "{e}"),
        Ok(outcome) => panic!("a slice was loaded again: {}", word(&outcome)),
    }
    assert!(visible(target.as_ref(), slice.interval).await.matches(&digest(&batch)));
    done(target.as_ref(), &load(hours(0, 10), 2), &rows(&[2 * HOUR], "b", 5)).await;
}

pub(crate) async fn half_open<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let times = [-1, 0, 10 * HOUR - 1, 10 * HOUR];
    done(target.as_ref(), &load(hours(-1, 0), 1), &rows(&times[..1], "a", 3)).await;
    done(target.as_ref(), &load(hours(0, 10), 1), &rows(&times[1..3], "a", 3)).await;
    done(target.as_ref(), &load(hours(10, 11), 1), &rows(&times[3..], "a", 3)).await;
    for (interval, expected) in [(hours(-1, 0), 1), (hours(0, 10), 2), (hours(10, 11), 1)] {
        assert_eq!(visible(target.as_ref(), interval).await.count, expected, "{interval}");
        let mut load = target.begin(&load(interval, 2)).await.expect("begun");
        assert_eq!(held(load.as_mut()).await.count, expected, "{interval}");
        load.abort().await.expect("aborted");
    }
}

pub(crate) async fn arrivals<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR], "a", 3));
    let waiting = filled(target.as_ref(), &slice, &batch).await;
    // A live writer, inside and outside of the slice.
    let live = rows(&[3 * HOUR], "live", 9);
    let mut other = load(hours(3, 4), 1);
    other.plan = PlanId::new("ffffffffffffffffffffffffffffffff");
    done(target.as_ref(), &other, &live).await;
    done(target.as_ref(), &load(hours(20, 21), 1), &rows(&[20 * HOUR], "far", 9)).await;
    let first = waiting.commit(receipt(&slice, &digest(&batch), &Digest::default())).await;
    match first {
        CommitOutcome::Moved(mut waiting) => {
            let mut sum = Sum::default();
            waiting.arrivals(&mut sum).await.expect("arrivals");
            assert!(sum.0.matches(&digest(&live)));
            let outcome = waiting.commit(receipt(&slice, &digest(&batch), &digest(&live))).await;
            committed(&outcome);
        }
        // The load stands on a snapshot, and the server itself sees to the keys.
        CommitOutcome::Committed => {}
        other => panic!("{}", word(&other)),
    }
    let mut all = digest(&batch);
    all.add(&digest(&live));
    assert!(visible(target.as_ref(), slice.interval).await.matches(&all));
    // What commits elsewhere moves nobody.
    let (slice, batch) = (load(hours(30, 31), 1), rows(&[30 * HOUR], "c", 2));
    let waiting = filled(target.as_ref(), &slice, &batch).await;
    done(target.as_ref(), &load(hours(40, 41), 1), &rows(&[40 * HOUR], "d", 2)).await;
    committed(&waiting.commit(receipt(&slice, &digest(&batch), &Digest::default())).await);
}

pub(crate) async fn shadows<K>(open: &impl Open<K>) {
    let (target, _keep) = open();
    let all = columns();
    let time = &all.time().name;
    let tag = format!("{:x}", std::process::id());
    let bare = target.shadow(&tag, time, &[hours(0, 10)]).await.expect("a shadow of nothing");
    bare.prepare(&columns()).await.expect("prepared");
    assert_eq!(target.table().await.expect("asked"), None);
    target.drop_shadow(&tag).await.expect("dropped");
    target.prepare(&columns()).await.expect("prepared");
    let (slice, batch) = (load(hours(0, 10), 1), rows(&[0, HOUR], "a", 3));
    done(target.as_ref(), &slice, &batch).await;
    // The second time shows that the first shadow was removed.
    for _ in 0..2 {
        let shadow = target.shadow(&tag, time, &[hours(0, 10)]).await.expect("a shadow");
        shadow.prepare(&columns()).await.expect("prepared");
        assert!(visible(shadow.as_ref(), slice.interval).await.matches(&digest(&batch)));
        let (other, more) = (load(hours(20, 21), 1), rows(&[20 * HOUR], "b", 4));
        done(shadow.as_ref(), &other, &more).await;
        assert_eq!(visible(target.as_ref(), other.interval).await.count, 0);
        assert!(target.receipts(&other.interval).await.expect("asked").found.is_empty());
        target.drop_shadow(&tag).await.expect("dropped");
        target.drop_shadow(&tag).await.expect("nothing is dropped");
    }
    assert!(visible(target.as_ref(), slice.interval).await.matches(&digest(&batch)));
    assert_eq!(target.receipts(&slice.interval).await.expect("asked").found.len(), 1);
}

pub(crate) async fn hostile<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    let batch = rows(&(0..200).map(|i| i * 1_000_003).collect::<Vec<_>>(), "", i64::MAX / 3);
    let floats = [f64::NAN, -0.0, 1e308, -1e308, 5e-324, f64::INFINITY, f64::NEG_INFINITY, 0.1];
    let texts = ["", "NULL", " x ", "\u{1f980}", "e\u{301}", "a\u{0}b", "\r\n", "\u{feff}"];
    let schema = batch.schema();
    let mut arrays = batch.columns().to_vec();
    let at = |name: &str| schema.index_of(name).expect("there");
    arrays[at("level")] = Arc::new((0..200).map(|i| Some(floats[i % 8])).collect::<Float64Array>());
    arrays[at("note")] = Arc::new((0..200).map(|i| Some(texts[i % 8])).collect::<StringArray>());
    let batch = RecordBatch::try_new(schema, arrays).expect("types fit");
    let slice = load(hours(0, 1), 1);
    let mut load = target.begin(&slice).await.expect("begun");
    held(load.as_mut()).await;
    // What a target cannot keep it names; all else must come back as it was.
    let refused = load.write(batch.clone()).await.expect("written");
    let gone: Vec<_> = refused.iter().map(|r| r.row).collect();
    assert!(gone.len() < 150 && gone.windows(2).all(|w| w[0] < w[1]), "{refused:?}");
    let mask: BooleanArray = (0..200).map(|row| Some(!gone.contains(&row))).collect();
    let kept = arrow::compute::filter_record_batch(&batch, &mask).expect("filtered");
    load.seal().await.expect("sealed");
    let mut back = Sum::default();
    load.read_back(&mut back).await.expect("read back");
    assert!(back.0.matches(&digest(&kept)));
    committed(&load.commit(receipt(&slice, &digest(&kept), &Digest::default())).await);
    assert!(visible(target.as_ref(), slice.interval).await.matches(&digest(&kept)));
}

/// Takes out every second row that it is shown.
#[derive(Default)]
struct EverySecond {
    seen: u64,
    gone: Sum,
}

#[async_trait]
impl RowPicker for EverySecond {
    async fn pick(&mut self, rows: RecordBatch) -> Result<Vec<bool>> {
        let first = self.seen;
        self.seen += rows.num_rows() as u64;
        let goes: Vec<_> = (first..self.seen).map(|n| n % 2 == 1).collect();
        let mask = BooleanArray::from(goes.clone());
        let gone = arrow::compute::filter_record_batch(&rows, &mask).expect("filtered");
        self.gone.push(gone).await?;
        Ok(goes)
    }
}

pub(crate) async fn replaces<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    if !target.capabilities().modes.contains(&Mode::Upsert) {
        return;
    }
    // One file of all hours, so that the slice shares it with its neighbours.
    let all = load(hours(0, 30), 1);
    let times: Vec<_> = (0..30).map(|h| h * HOUR).collect();
    done(target.as_ref(), &all, &rows(&times, "old", 3)).await;
    let mut slice = load(hours(10, 20), 1);
    slice.mode = Mode::Upsert;
    let held_before = visible(target.as_ref(), slice.interval).await;
    let outside = visible(target.as_ref(), hours(0, 10)).await;
    for commit in [false, true] {
        let new = rows(&[10 * HOUR + 1, 11 * HOUR + 1], "new", 9);
        let mut load = target.begin(&slice).await.expect("begun");
        assert!(held(load.as_mut()).await.matches(&held_before));
        assert_eq!(load.write_successors(new.clone()).await.expect("written"), []);
        let mut picker = EverySecond::default();
        load.remove(&mut picker).await.expect("removed");
        assert_eq!((picker.seen, picker.gone.0.count), (10, 5));
        load.seal().await.expect("sealed");
        let mut back = Sum::default();
        load.read_back(&mut back).await.expect("read back");
        let mut expected = held_before.clone();
        expected.subtract(&picker.gone.0);
        expected.add(&digest(&new));
        assert!(back.0.matches(&expected), "{:?}, expected {expected:?}", back.0);
        assert!(visible(target.as_ref(), slice.interval).await.matches(&held_before));
        if commit {
            let outcome = load.commit(receipt(&slice, &digest(&new), &held_before)).await;
            committed(&outcome);
            assert!(visible(target.as_ref(), slice.interval).await.matches(&expected));
        } else {
            load.abort().await.expect("aborted");
            assert!(visible(target.as_ref(), slice.interval).await.matches(&held_before));
        }
        assert!(visible(target.as_ref(), hours(0, 10)).await.matches(&outside));
        assert_eq!(visible(target.as_ref(), hours(20, 30)).await.count, 10);
    }
}

pub(crate) async fn receipts<K>(open: &impl Open<K>) {
    let (target, _keep) = fresh(open).await;
    assert!(target.receipts(&hours(0, 100)).await.expect("asked").found.is_empty());
    done(target.as_ref(), &load(hours(0, 10), 1), &rows(&[0], "a", 3)).await;
    done(target.as_ref(), &load(hours(10, 20), 1), &rows(&[], "a", 3)).await;
    done(target.as_ref(), &load(hours(20, 30), 1), &rows(&[25 * HOUR], "a", 3)).await;
    let of = |from, to| {
        let target = target.clone();
        async move {
            let found = target.receipts(&hours(from, to)).await.expect("asked").found;
            assert!(found.iter().all(|f| f.standing == Standing::Sound), "{found:?}");
            let mut starts: Vec<_> = found
                .iter()
                .map(|f| f.receipt.latest().interval.start().as_microsecond() / HOUR)
                .collect();
            starts.sort_unstable();
            starts
        }
    };
    assert_eq!(of(0, 100).await, [0, 10, 20]);
    assert_eq!(of(10, 20).await, [10]);
    assert_eq!(of(9, 11).await, [0, 10]);
    let found = target.receipts(&hours(0, 1)).await.expect("asked").found;
    let slice = load(hours(0, 10), 1);
    let r = found[0].receipt.latest();
    let written = digest(&rows(&[0], "a", 3));
    let mut expected = receipt(&slice, &written, &Digest::default());
    expected.latest_mut().anchor = r.anchor.clone();
    assert_eq!(found[0].receipt, expected);
}
