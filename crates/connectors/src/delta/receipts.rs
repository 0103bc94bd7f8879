//! Receipts: a body per slice and generation beside the log, bound to it by a transaction.
//!
//! A body counts only while the table's own log says that exactly this generation was the last
//! to be committed for the slice.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use retrofill_core::connector::{Found, SliceLoad, Standing};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shared;
use super::datafile::{Written, plain};
use super::durable::Durable;
use super::state::DataFile;

/// Where the bodies lie; the underscore keeps VACUUM away.
pub(super) const RECEIPTS: &str = "_retrofill/receipts";

/// Bodies read by one thread at a time.
const SHARE: usize = 256;

/// What a receipt rests on.
#[derive(Debug, Serialize, Deserialize)]
struct Anchor {
    table_id: String,
    version: u64,
    files: Vec<AnchorFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AnchorFile {
    path: String,
    size: u64,
}

/// The application id of a slice's transactions.
pub(super) fn app_id(plan: &PlanId, slice: &SliceId) -> String {
    format!("retrofill/{plan}/{slice}")
}

fn body_path(plan: &PlanId, slice: &SliceId, generation: u64) -> String {
    let (plan, slice) = (plain(plan.as_str()), plain(slice.as_str()));
    format!("{RECEIPTS}/{plan}/{slice}.{generation}.json")
}

/// The anchor of a receipt that is about to be committed.
///
/// Beside the file that was written it names those that hold rows of the slice already: the proof
/// is about all of them.
pub(super) fn anchor(
    table_id: &str,
    version: u64,
    written: Option<&Written>,
    held: &[Arc<DataFile>],
) -> Value {
    let written = written.iter().map(|w| AnchorFile { path: w.path.clone(), size: w.size });
    let held = held.iter().map(|f| AnchorFile { path: f.path.to_string(), size: f.size });
    let files = written.chain(held).collect();
    let anchor = Anchor { table_id: table_id.to_owned(), version, files };
    serde_json::to_value(anchor).expect("an anchor is plain JSON")
}

/// Writes the body; its name is durable once its directory is synced. Gives its path.
pub(super) fn write_body(
    durable: &Durable,
    slice: &SliceLoad,
    receipt: &Receipt,
) -> Result<String> {
    if !receipt.is_for(&slice.plan, &slice.slice, slice.generation) {
        return Err(Error::bug(format!(
            "the receipt is not the one of slice {} generation {}",
            slice.slice, slice.generation
        )));
    }
    let path = body_path(&slice.plan, &slice.slice, slice.generation);
    let bytes = serde_json::to_vec(receipt)
        .map_err(|e| Error::bug("a receipt cannot be written as JSON").because(e))?;
    durable.replace_unsynced(&path, &bytes).map_err(|e| durable.error("write", &path, e))?;
    Ok(path)
}

/// The error for a load whose generation the log has already.
pub(super) fn already_committed(shared: &Shared, slice: &SliceLoad) -> Error {
    let path = body_path(&slice.plan, &slice.slice, slice.generation);
    let what = format!(
        "slice {} generation {} of plan {} is committed already",
        slice.slice, slice.generation, slice.plan
    );
    match shared.log.durable().disk().stat(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Error::config(format!(
            "{what}, but its receipt `{}` is missing",
            shared.log.durable().disk().describe(&path)
        ))
        .hint("put the file back, or load the slice again as the next generation"),
        _ => Error::new(Kind::Fenced, what)
            .hint("another runner has committed this slice; its receipt lies in the table"),
    }
}

/// All receipts that count and overlap the interval. Blocks.
pub(super) fn find(shared: &Shared, within: &Interval) -> Result<Vec<Found>> {
    let Some(table_id) = shared.log.newest(|state| state.metadata.id.clone())? else {
        return Ok(Vec::new());
    };
    let durable = shared.log.durable();
    let mut bodies = Vec::new();
    for plan in list(durable, RECEIPTS)?.into_iter().filter(|e| e.is_dir) {
        let dir = format!("{RECEIPTS}/{}", plan.name);
        for body in list(durable, &dir)? {
            if Path::new(&body.name).extension().is_some_and(|e| e == "json") {
                bodies.push(format!("{dir}/{}", body.name));
            }
        }
    }
    let threads = thread::available_parallelism().map_or(2, usize::from).min(8);
    let share = bodies.len().div_ceil(threads).max(SHARE);
    let read = thread::scope(|scope| {
        let parts: Vec<_> = bodies
            .chunks(share)
            .map(|part| scope.spawn(move || read_bodies(durable, part)))
            .collect();
        parts.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut found = Vec::new();
    for part in read {
        let part = part.map_err(|_| Error::bug("a thread that reads receipts ended early"))??;
        found.extend(part.into_iter().filter(|r| r.latest().interval.overlaps(within)));
    }
    let mut standing = stand(shared, &table_id, found);
    standing.sort_by(|a, b| {
        let key =
            |f: &Found| (f.receipt.latest().interval.start(), f.receipt.latest().slice.clone());
        key(a).cmp(&key(b))
    });
    Ok(standing)
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

/// Keeps the receipts that the log confirms, each with how its data stand.
fn stand(shared: &Shared, table_id: &str, receipts: Vec<Receipt>) -> Vec<Found> {
    let mut confirmed = Vec::new();
    shared.log.seen(|state| {
        for receipt in receipts {
            let r = receipt.latest();
            let generation = i64::try_from(r.generation).unwrap_or(-1);
            if state.txn(&app_id(&r.plan, &r.slice)) != Some(generation) {
                continue;
            }
            let Ok(anchor) = serde_json::from_value::<Anchor>(r.anchor.clone()) else { continue };
            if anchor.table_id != table_id {
                continue;
            }
            let missing = anchor
                .files
                .iter()
                .find(|f| state.active(&f.path).is_none_or(|active| active.size != f.size));
            let moved = missing.map(|f| format!("`{}` is no longer part of the table", f.path));
            confirmed.push((receipt, anchor, moved));
        }
    });
    let durable = shared.log.durable();
    confirmed
        .into_iter()
        .map(|(receipt, anchor, moved)| {
            let moved = moved.or_else(|| anchor.files.iter().find_map(|f| damage(durable, f)));
            let standing = moved.map_or(Standing::Sound, Standing::Recheck);
            Found { receipt, standing }
        })
        .collect()
}

fn damage(durable: &Durable, file: &AnchorFile) -> Option<String> {
    match durable.disk().stat(&file.path) {
        Ok(stat) if stat.length == file.size => None,
        Ok(stat) => Some(format!("`{}` has {} bytes, not {}", file.path, stat.length, file.size)),
        Err(e) => Some(format!("`{}` cannot be found: {e}", file.path)),
    }
}
