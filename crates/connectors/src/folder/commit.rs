//! The commit of one load: the rename of its data file, with the receipt written before.
//!
//! The folder is listed again under a lock that every retrofill takes. Another program takes no
//! lock: what it adds between that look and the rename, some milliseconds later, is not seen.

use std::sync::Arc;

use retrofill_core::connector::CommitOutcome;
use retrofill_core::error::{Error, Result};
use retrofill_core::receipt::Receipt;

use super::blocking;
use super::contents::{Contents, Locked};
use super::load::{FolderLoad, overlapping};
use super::names::REMOVED;
use super::part::Part;
use super::receipts;
use crate::delta::{Created, Durable};

/// Commits, or tells what stands against it.
pub(super) async fn commit(mut load: Box<FolderLoad>, receipt: Receipt) -> CommitOutcome {
    if !load.sealed {
        let error = Error::bug("a load was committed before it was sealed");
        return CommitOutcome::NotCommitted(error);
    }
    if !receipt.is_for(&load.slice.plan, &load.slice.slice, load.slice.generation) {
        let error = Error::bug(format!(
            "the receipt is not the one of slice {} generation {}",
            load.slice.slice, load.slice.generation
        ));
        return CommitOutcome::NotCommitted(error);
    }
    let shared = load.shared.clone();
    let locked = match blocking(move || shared.lock()).await {
        Ok(locked) => locked,
        Err(e) => return CommitOutcome::NotCommitted(e),
    };
    let contents = match load.shared.look(&load.slice.columns.time().name).await {
        Ok(contents) => contents,
        Err(e) => return CommitOutcome::NotCommitted(e),
    };
    match judge(&load, &contents) {
        Err(e) => return CommitOutcome::NotCommitted(e),
        Ok(arrived) if !arrived.is_empty() => {
            load.arrived = Some(arrived);
            return CommitOutcome::Moved(load);
        }
        Ok(_) => {}
    }
    let done = tokio::task::spawn_blocking(move || put(load, receipt, &locked)).await;
    done.unwrap_or_else(|e| {
        let error = Error::unavailable("the commit ended before it answered").because(e);
        CommitOutcome::Unknown(error)
    })
}

/// The files with rows of the slice that came since the load looked; an error where it cannot be
/// committed on what is there now.
fn judge(load: &FolderLoad, now: &Contents) -> Result<Vec<Arc<Part>>> {
    let of = |p: &&Arc<Part>| {
        p.named.as_ref().is_some_and(|n| {
            (&n.plan, &n.slice) == (&load.named.plan, &load.named.slice)
                && n.generation >= load.named.generation
        })
    };
    if now.values().any(|p| of(&p)) {
        return Err(receipts::already_committed(&load.named));
    }
    let known = || load.base.iter().chain(&load.wreck).chain(&load.removed);
    for part in known() {
        if !now.get(&part.name).is_some_and(|now| now.is_still(part)) {
            let (name, slice) = (&part.name, &load.slice.slice);
            let what = format!("`{name}` was changed or removed while slice {slice} was loaded");
            return Err(Error::unavailable(what));
        }
    }
    let mut there = overlapping(now, &load.slice);
    there.retain(|p| !known().any(|k| k.name == p.name));
    Ok(there)
}

/// Writes the receipt, then gives the data file its name.
fn put(mut load: Box<FolderLoad>, mut receipt: Receipt, _: &Locked) -> CommitOutcome {
    let durable = load.shared.durable.clone();
    match durable.disk().stat(&load.named.body()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Ok(_) => return CommitOutcome::NotCommitted(receipts::already_committed(&load.named)),
        Err(e) => {
            let error = durable.error("look at", &load.named.body(), e);
            return CommitOutcome::NotCommitted(error);
        }
    }
    let holds_others = receipt.latest().digests.before.count > 0;
    receipt.latest_mut().anchor = load.anchor(holds_others).to_json();
    let prepared = prepare(&mut load, &durable, &receipt);
    let bytes = match prepared {
        Ok(bytes) => bytes,
        Err(e) => return CommitOutcome::NotCommitted(e),
    };
    let Some(written) = load.written.clone() else {
        let body = load.named.body();
        return match durable.create(&body, &bytes) {
            Created::Done => kept(&mut load),
            Created::Exists => {
                CommitOutcome::NotCommitted(receipts::already_committed(&load.named))
            }
            Created::Not(e) => CommitOutcome::NotCommitted(durable.error("write", &body, e)),
            Created::Unknown(e) => {
                load.litter.clear();
                CommitOutcome::Unknown(durable.error("write", &body, e))
            }
        };
    };
    let (name, pending) = (load.data_file(), load.named.pending(&load.word));
    match durable.publish(&written.path, &name) {
        Created::Done => {
            receipts::promote(&durable, &pending, &load.named);
            kept(&mut load)
        }
        Created::Exists => CommitOutcome::NotCommitted(receipts::already_committed(&load.named)),
        Created::Not(e) => CommitOutcome::NotCommitted(durable.error("name", &name, e)),
        Created::Unknown(e) => {
            load.litter.clear();
            CommitOutcome::Unknown(durable.error("name", &name, e))
        }
    }
}

fn kept(load: &mut FolderLoad) -> CommitOutcome {
    load.litter.clear();
    load.written = None;
    CommitOutcome::Committed
}

/// All that comes before the one step that counts. What goes, goes before what takes its place:
/// a crash between the two leaves too few rows, which the next run sees, and never doubled ones.
fn prepare(load: &mut FolderLoad, durable: &Durable, receipt: &Receipt) -> Result<Vec<u8>> {
    let bytes = receipts::bytes(receipt)?;
    let mut put = |path: String, bytes: &[u8]| {
        load.litter.push(path.clone());
        durable.replace(&path, bytes).map_err(|e| durable.error("write", &path, e))
    };
    if let Some(manifest) = &load.manifest {
        put(load.named.manifest(&load.word), manifest)?;
    }
    if load.written.is_some() {
        put(load.named.pending(&load.word), &bytes)?;
    }
    let gone: Vec<_> = load.wreck.iter().chain(&load.removed).map(|p| p.name.clone()).collect();
    if gone.is_empty() {
        return Ok(bytes);
    }
    durable.ensure_dir(REMOVED).map_err(|e| durable.error("make", REMOVED, e))?;
    for name in gone {
        let aside = format!("{REMOVED}/{name}");
        let moved = durable.disk().rename(&name, &aside);
        moved.map_err(|e| durable.error("move aside", &name, e))?;
        tracing::info!("`{name}` was moved to `{aside}`");
    }
    let synced = durable.disk().sync_dir(REMOVED).and_then(|()| durable.disk().sync_dir(""));
    synced.map_err(|e| durable.error("sync", "", e))?;
    Ok(bytes)
}
