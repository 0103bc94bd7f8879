//! Receipts: a body per slice and generation beside the log, bound to it by a transaction.
//!
//! A body counts only while the table's own log says that exactly this generation was the last
//! to be committed for the slice. Its name ends with a random word of the load that wrote it: two
//! runners that both believe they hold the plan never overwrite each other's.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use retrofill_core::connector::{Commit, Found, Known, SliceLoad, Standing};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;

use super::Shared;
use super::anchor::{Anchor, AnchorFile, Sums};
use super::datafile::plain;
use super::durable::{Durable, parent};
use super::load::DeltaLoad;
use super::state::{DataFile, State};

/// Where the bodies lie; the underscore keeps VACUUM away.
pub(super) const RECEIPTS: &str = "_retrofill/receipts";

/// Bodies read by one thread at a time.
const SHARE: usize = 256;

/// The application id of a slice's transactions.
pub(super) fn app_id(plan: &PlanId, slice: &SliceId) -> String {
    format!("retrofill/{plan}/{slice}")
}

/// The plan and slice of an application id.
pub(super) fn parse_app_id(app_id: &str) -> Option<(PlanId, SliceId)> {
    let (plan, slice) = app_id.strip_prefix("retrofill/")?.split_once('/')?;
    Some((PlanId::new(plan), SliceId::new(slice)))
}

fn body_dir(plan: &PlanId) -> String {
    format!("{RECEIPTS}/{}", plain(plan.as_str()))
}

/// What the names of all bodies of a load begin with.
fn body_prefix(slice: &SliceId, generation: u64) -> String {
    format!("{}.{generation}.", plain(slice.as_str()))
}

/// Writes the body; its name is durable once its directory is synced. Gives its path. `word` is
/// the load's own.
pub(super) fn write_body(
    durable: &Durable,
    slice: &SliceLoad,
    word: &str,
    receipt: &Receipt,
) -> Result<String> {
    if !receipt.is_for(&slice.plan, &slice.slice, slice.generation) {
        return Err(Error::bug(format!(
            "the receipt is not the one of slice {} generation {}",
            slice.slice, slice.generation
        )));
    }
    let prefix = body_prefix(&slice.slice, slice.generation);
    let path = format!("{}/{prefix}{word}.json", body_dir(&slice.plan));
    let bytes = serde_json::to_vec(receipt)
        .map_err(|e| Error::bug("a receipt cannot be written as JSON").because(e))?;
    durable.replace_unsynced(&path, &bytes).map_err(|e| durable.error("write", &path, e))?;
    Ok(path)
}

/// Where the manifest of a load lies; `word` is the load's own.
pub(super) fn manifest_path(slice: &SliceLoad, word: &str) -> String {
    let prefix = body_prefix(&slice.slice, slice.generation);
    format!("{}/{prefix}{word}.rows", body_dir(&slice.plan))
}

/// Writes the manifest of a load beside the body of its receipt, where it has one; its name is
/// durable once its directory is synced.
pub(super) fn write_manifest(durable: &Durable, load: &DeltaLoad) -> Result<Option<String>> {
    let Some(bytes) = &load.manifest else { return Ok(None) };
    let path = manifest_path(&load.slice, &load.word);
    durable.replace_unsynced(&path, bytes).map_err(|e| durable.error("write", &path, e))?;
    Ok(Some(path))
}

/// The manifest of a receipt; none where it has none or it is gone. Blocks.
pub(super) fn manifest(durable: &Durable, receipt: &Receipt) -> Result<Option<Vec<u8>>> {
    let Some(path) = Anchor::of(receipt).and_then(|a| a.manifest) else { return Ok(None) };
    match durable.disk().read(&path) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(durable.error("read", &path, e)),
    }
}

/// The error for a load whose generation the log has already.
pub(super) fn already_committed(slice: &SliceLoad) -> Error {
    let what = format!(
        "slice {} generation {} of plan {} is committed already",
        slice.slice, slice.generation, slice.plan
    );
    Error::new(Kind::Fenced, what)
        .hint("another runner has committed this slice; its receipt lies in the table")
}

/// Paths of the bodies whose name begins so, of every plan.
fn bodies(durable: &Durable, prefix: &str) -> Result<Vec<String>> {
    let mut bodies = Vec::new();
    for plan in list(durable, RECEIPTS)?.into_iter().filter(|e| e.is_dir) {
        let dir = format!("{RECEIPTS}/{}", plan.name);
        for body in list(durable, &dir)?.into_iter().filter(|b| b.name.starts_with(prefix)) {
            if Path::new(&body.name).extension().is_some_and(|e| e == "json") {
                bodies.push(format!("{dir}/{}", body.name));
            }
        }
    }
    Ok(bodies)
}

/// What is known of commits: receipts that count and overlap the interval, and the transactions
/// without a receipt. Blocks.
pub(super) fn find(shared: &Shared, within: &Interval) -> Result<Known> {
    let Some(table_id) = shared.log.newest(|state| state.metadata.id.clone())? else {
        return Ok(Known::default());
    };
    let durable = shared.log.durable();
    let bodies = bodies(durable, "")?;
    let threads = thread::available_parallelism().map_or(2, usize::from).min(8);
    let share = bodies.len().div_ceil(threads).max(SHARE);
    let read = thread::scope(|scope| {
        let parts: Vec<_> = bodies
            .chunks(share)
            .map(|part| scope.spawn(move || read_bodies(durable, part)))
            .collect();
        parts.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut receipts = Vec::new();
    for part in read {
        receipts.extend(part.map_err(|_| Error::bug("a thread that reads receipts ended early"))??);
    }
    let (confirmed, lost) = confirm(shared, &table_id, receipts);
    let within = confirmed.into_iter().filter(|c| c.receipt.latest().interval.overlaps(within));
    let mut found = best(within.map(|c| c.stand(durable)).collect());
    found.sort_by(|a, b| {
        let key =
            |f: &Found| (f.receipt.latest().interval.start(), f.receipt.latest().slice.clone());
        key(a).cmp(&key(b))
    });
    Ok(Known { found, lost })
}

fn list(durable: &Durable, dir: &str) -> Result<Vec<super::disk::Entry>> {
    match durable.disk().list(dir) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(durable.error("list", dir, e)),
    }
}

fn read_bodies(durable: &Durable, paths: &[String]) -> Result<Vec<Receipt>> {
    let mut found = Vec::new();
    for path in paths {
        let bytes = match durable.disk().read(path) {
            Ok(bytes) => bytes,
            // Removed since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(durable.error("read", path, e)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(receipt) => found.push(receipt),
            // Ours are whole or not there: someone else's damage is not believed.
            Err(e) => tracing::warn!(path = %durable.disk().describe(path), error = %e,
                "this receipt cannot be read and does not count"),
        }
    }
    Ok(found)
}

/// Whether the slice, a part of it or one that it is a part of has a transaction.
pub(super) fn is_committed(state: &State, plan: &PlanId, slice: &SliceId) -> bool {
    let mut kin = std::iter::successors(Some(slice.clone()), SliceId::parent);
    kin.any(|id| state.txn(&app_id(plan, &id)).is_some())
        || state.has_txn_below(&format!("{}.", app_id(plan, slice)))
}

/// A receipt that the log confirms.
struct Confirmed {
    receipt: Receipt,
    anchor: Anchor,
    /// A file of it that is no longer part of the table.
    moved: Option<String>,
}

/// The receipts that the log confirms, and the transactions that have none.
fn confirm(
    shared: &Shared,
    table_id: &str,
    receipts: Vec<Receipt>,
) -> (Vec<Confirmed>, Vec<Commit>) {
    let sums = Sums::of(&receipts);
    let look = |state: &mut State| {
        let mut valid = Vec::new();
        let mut known = HashSet::new();
        let mut successors = HashMap::new();
        for receipt in receipts {
            let r = receipt.latest();
            let app_id = app_id(&r.plan, &r.slice);
            if state.txn(&app_id) != i64::try_from(r.generation).ok() {
                continue;
            }
            let Some(anchor) = Anchor::of(&receipt) else { continue };
            if anchor.table_id != table_id {
                continue;
            }
            for r in &anchor.rewritten {
                successors.insert(r.old.clone(), r.new.clone());
            }
            known.insert(app_id);
            valid.push((receipt, anchor));
        }
        let gone = |f: &AnchorFile| state.active(&f.path).is_none_or(|a| a.size != f.size);
        let mut confirmed = Vec::new();
        for (receipt, mut anchor) in valid {
            let mut moved = None;
            let files = std::mem::take(&mut anchor.files).into_iter();
            for mut file in files {
                // A chain of successors cannot be longer than there are of them.
                let mut left = successors.len();
                let mut rests = true;
                while rests && gone(&file) && left > 0 {
                    left -= 1;
                    match successors.get(&file.path) {
                        Some(Some(new)) => file = new.clone(),
                        Some(None) => rests = false,
                        None => break,
                    }
                }
                if rests && gone(&file) {
                    moved = Some(format!("`{}` is no longer part of the table", file.path));
                }
                anchor.files.extend(rests.then(|| sums.fill(file)));
            }
            confirmed.push(Confirmed { receipt, anchor, moved });
        }
        let lost = state.txns().filter(|(app_id, _)| !known.contains(*app_id));
        let lost = lost.filter_map(|(app_id, version)| {
            let (plan, slice) = parse_app_id(app_id)?;
            Some(Commit { plan, slice, generation: u64::try_from(version).ok()? })
        });
        (confirmed, lost.collect())
    };
    shared.log.seen(look).unwrap_or_default()
}

impl Confirmed {
    /// With how its data stand, and the version it was put on.
    fn stand(self, durable: &Durable) -> (u64, Found) {
        let Confirmed { mut receipt, anchor, moved } = self;
        receipt.latest_mut().anchor = anchor.to_json();
        let moved = moved.or_else(|| anchor.files.iter().find_map(|f| resized(durable, f)));
        let standing = moved.map_or(Standing::Sound, Standing::Recheck);
        (anchor.version, Found { receipt, standing })
    }
}

/// One receipt per slice of a plan. There are more of one generation after a crash between body
/// and log entry, or after a race of two runners: what stands sound is believed first, then the
/// newest. The others differ at most in what was there before.
fn best(found: Vec<(u64, Found)>) -> Vec<Found> {
    let mut best: HashMap<String, (u64, Found)> = HashMap::new();
    for (version, found) in found {
        let r = found.receipt.latest();
        let rank = |version: u64, f: &Found| {
            (f.standing == Standing::Sound, version, f.receipt.latest().at)
        };
        let key = app_id(&r.plan, &r.slice);
        let old = best.get(&key);
        if old.is_none_or(|(v, old)| rank(*v, old) < rank(version, &found)) {
            best.insert(key, (version, found));
        }
    }
    best.into_values().map(|(_, found)| found).collect()
}

/// Puts a receipt, whose slice was found whole, on the files that hold it at this version, and
/// takes its other bodies away. Blocks.
pub(super) fn refresh(
    shared: &Shared,
    load: &SliceLoad,
    (word, version): (&str, u64),
    held: &[Arc<DataFile>],
    mut receipt: Receipt,
) -> Result<()> {
    let Some(old) = Anchor::of(&receipt) else {
        return Err(Error::bug("a receipt without its anchor was found whole"));
    };
    receipt.latest_mut().anchor = old.moved_to(version, held).to_json();
    let durable = shared.log.durable();
    let path = write_body(durable, load, word, &receipt)?;
    let dir = body_dir(&load.plan);
    durable.disk().sync_dir(&dir).map_err(|e| durable.error("sync", &dir, e))?;
    let prefix = body_prefix(&load.slice, load.generation);
    for old in bodies(durable, &prefix)? {
        if old != path && parent(&old) == dir {
            durable.discard(&old);
        }
    }
    Ok(())
}

/// Every body that bears the slice's name, whatever its plan and generation. Blocks.
pub(super) fn of_slice(durable: &Durable, slice: &SliceId) -> Result<Vec<Receipt>> {
    read_bodies(durable, &bodies(durable, &format!("{}.", plain(slice.as_str())))?)
}

/// What all bodies say of the bytes of data files. Blocks.
pub(super) fn sums(durable: &Durable) -> Result<Sums> {
    Ok(Sums::of(&read_bodies(durable, &bodies(durable, "")?)?))
}

/// Whether a file is gone or of another size, in words.
pub(super) fn resized(durable: &Durable, file: &AnchorFile) -> Option<String> {
    match durable.disk().stat(&file.path) {
        Ok(stat) if stat.length == file.size => None,
        Ok(stat) => Some(format!("`{}` has {} bytes, not {}", file.path, stat.length, file.size)),
        Err(e) => Some(format!("`{}` cannot be found: {e}", file.path)),
    }
}
