//! Receipts: a body per slice and generation beside the data, bound to it by the name of the data
//! file.
//!
//! A body is written under a pending name before the data file gets its own. It counts from the
//! moment the data file has that name, and gets its last name then. So a pending body without its
//! file is a load that never was, and a body without its file one whose file is gone.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use retrofill_core::connector::{Commit, Found, Known, Standing};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::receipt::Receipt;
use serde::{Deserialize, Serialize};

use super::contents::Shared;
use super::names::{Named, RECEIPTS, is_hidden};
use crate::delta::{DirEntry, Durable, is_intact, plain};

/// The `anchor` of a receipt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Anchor {
    /// The files that hold rows of the slice.
    pub(super) files: Vec<AnchorFile>,
    /// Where the manifest lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<String>,
}

/// A file that a receipt rests on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AnchorFile {
    pub(super) path: String,
    pub(super) size: u64,
    /// It was written by this very load.
    #[serde(default)]
    pub(super) own: bool,
    /// Its checksum (XXH3, 128 bits, hex); none for files of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xxh128: Option<String>,
}

impl Anchor {
    /// The anchor of a receipt; none where it has none of this kind.
    pub(super) fn of(receipt: &Receipt) -> Option<Anchor> {
        Anchor::deserialize(&receipt.latest().anchor).ok()
    }

    /// As it is persisted.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("an anchor is plain JSON")
    }

    /// The file that the load wrote.
    fn written(&self) -> Option<&AnchorFile> {
        self.files.iter().find(|f| f.own)
    }
}

/// The names in a folder; none where there is no such folder. Blocks.
pub(super) fn list(durable: &Durable, dir: &str) -> Result<Vec<DirEntry>> {
    match durable.disk().list(dir) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(durable.error("list", dir, e)),
    }
}

/// A body; none where it is gone or no receipt.
fn read(durable: &Durable, path: &str) -> Result<Option<Receipt>> {
    let bytes = match durable.disk().read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(durable.error("read", path, e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(receipt) => Ok(Some(receipt)),
        // Ours are whole or not there: someone else's damage is not believed.
        Err(e) => {
            tracing::warn!(path = %durable.disk().describe(path), error = %e,
                "this receipt cannot be read and does not count");
            Ok(None)
        }
    }
}

/// Bytes of a receipt.
pub(super) fn bytes(receipt: &Receipt) -> Result<Vec<u8>> {
    serde_json::to_vec(receipt)
        .map_err(|e| Error::bug("a receipt cannot be written as JSON").because(e))
}

/// Every body of a plan's folder that may count: with its path, and whether it is final.
fn bodies(durable: &Durable, plan: &str) -> Result<Vec<(Named, bool, String)>> {
    let dir = format!("{RECEIPTS}/{plan}");
    let named = |name: &str| {
        let (named, done) = Named::of_body(plan, name)?;
        Some((named, done, format!("{dir}/{name}")))
    };
    Ok(list(durable, &dir)?.iter().filter_map(|e| named(&e.name)).collect())
}

pub(super) fn plans(durable: &Durable) -> Result<Vec<String>> {
    let all = list(durable, RECEIPTS)?.into_iter();
    Ok(all.filter(|e| e.is_dir).map(|e| e.name).collect())
}

/// Whether the data file of a pending body has its name: then the load is committed.
fn is_there(durable: &Durable, receipt: &Receipt) -> Result<bool> {
    let anchor = Anchor::of(receipt);
    let Some(file) = anchor.as_ref().and_then(Anchor::written) else { return Ok(false) };
    let Some(sum) = &file.xxh128 else { return Ok(false) };
    Ok(resized(durable, file).is_none() && is_intact(durable, &file.path, sum)?)
}

/// Whether a file is gone or of another size, in words.
fn resized(durable: &Durable, file: &AnchorFile) -> Option<String> {
    match durable.disk().stat(&file.path) {
        Ok(stat) if stat.length == file.size => None,
        Ok(stat) => Some(format!("`{}` has {} bytes, not {}", file.path, stat.length, file.size)),
        Err(e) if e.kind() == ErrorKind::NotFound => Some(format!("`{}` is gone", file.path)),
        Err(e) => Some(format!("`{}` cannot be looked at: {e}", file.path)),
    }
}

/// What the receipt of the load that wrote a file says of it; none where there is no receipt.
pub(super) fn of_file(
    durable: &Durable,
    named: &Named,
    name: &str,
) -> Result<Option<(Interval, AnchorFile)>> {
    let of = |receipt: Receipt| {
        let file = Anchor::of(&receipt)?.files.into_iter().find(|f| f.own && f.path == name)?;
        Some((receipt.latest().interval, file))
    };
    if let Some(receipt) = read(durable, &named.body())? {
        return Ok(of(receipt));
    }
    for (other, _, path) in bodies(durable, named.plan.as_str())? {
        if other == *named
            && let Some(receipt) = read(durable, &path)?
            && is_there(durable, &receipt)?
        {
            return Ok(of(receipt));
        }
    }
    // It may have got its last name since it was looked for.
    Ok(read(durable, &named.body())?.and_then(of))
}

/// Gives pending bodies their last name whose data file is there, and removes the others. Only
/// under the lock: without it a load may be between its body and its file.
pub(super) fn settle(durable: &Durable) -> Result<()> {
    for plan in plans(durable)? {
        for (named, done, path) in bodies(durable, &plan)? {
            if done {
                continue;
            }
            let counts = match read(durable, &path)? {
                Some(receipt) => is_there(durable, &receipt)?,
                None => false,
            };
            if counts {
                promote(durable, &path, &named);
            } else {
                durable.discard(&path);
            }
        }
    }
    Ok(())
}

/// Gives a body its last name. It counts anyway: a failure is no failure of the commit.
pub(super) fn promote(durable: &Durable, pending: &str, named: &Named) {
    let body = named.body();
    let done = durable.disk().rename(pending, &body);
    if let Err(e) = done.and_then(|()| durable.disk().sync_dir(&named.dir())) {
        tracing::warn!(path = %durable.disk().describe(pending), error = %e,
            "a receipt keeps its pending name until the next run");
    }
}

/// What is known of commits: receipts that count and overlap the interval, and data files without
/// one. Blocks.
pub(super) fn find(shared: &Shared, within: &Interval) -> Result<Known> {
    let durable = &shared.durable;
    let (mut known, mut seen) = (Known::default(), BTreeSet::new());
    for plan in plans(durable)? {
        let mut all = bodies(durable, &plan)?;
        // Final ones first: a pending one of the same load is then of no interest.
        all.sort_by_key(|(_, done, _)| !done);
        for (named, done, path) in all {
            if seen.contains(&named) {
                continue;
            }
            let receipt = match read(durable, &path)? {
                Some(receipt) if done || is_there(durable, &receipt)? => receipt,
                // It may have got its last name since it was listed.
                _ => match read(durable, &named.body())? {
                    Some(receipt) => receipt,
                    None => continue,
                },
            };
            seen.insert(named);
            if receipt.latest().interval.overlaps(within) {
                known.found.push(stand(durable, receipt));
            }
        }
    }
    let files = list(durable, "")?;
    let files = files.iter().filter_map(|e| Named::parse(&e.name));
    known.lost.extend(files.filter(|named| !seen.contains(named)).map(|named| Commit {
        plan: named.plan,
        slice: named.slice,
        generation: named.generation,
    }));
    known.found.sort_by(|a, b| {
        let key =
            |f: &Found| (f.receipt.latest().interval.start(), f.receipt.latest().slice.clone());
        key(a).cmp(&key(b))
    });
    Ok(known)
}

fn stand(durable: &Durable, receipt: Receipt) -> Found {
    let moved = match Anchor::of(&receipt) {
        Some(anchor) => anchor.files.iter().find_map(|f| resized(durable, f)),
        None => Some("its receipt names no files".into()),
    };
    Found { receipt, standing: moved.map_or(Standing::Sound, Standing::Recheck) }
}

/// Every load that was committed, by name. Blocks.
pub(super) fn committed(durable: &Durable) -> Result<BTreeSet<Named>> {
    let mut all = BTreeSet::new();
    for plan in plans(durable)? {
        let done = bodies(durable, &plan)?.into_iter().filter(|(_, done, _)| *done);
        all.extend(done.map(|(named, ..)| named));
    }
    let files = list(durable, "")?.into_iter().filter(|e| !is_hidden(&e.name));
    all.extend(files.filter_map(|e| Named::parse(&e.name)));
    Ok(all)
}

/// Whether the slice, a part of it or one that it is a part of was committed. Blocks.
pub(super) fn is_committed(durable: &Durable, plan: &PlanId, slice: &SliceId) -> Result<bool> {
    let slice = SliceId::new(plain(slice.as_str()));
    let plan = plain(plan.as_str());
    let of = |n: &Named| n.plan.as_str() == plan && n.slice.is_kin(&slice);
    Ok(committed(durable)?.iter().any(of))
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

/// What is wrong with the first file of ours that the receipt rests on and whose bytes are not
/// those that were written. Blocks.
pub(super) fn damage(durable: &Durable, receipt: &Receipt) -> Result<Option<String>> {
    let Some(anchor) = Anchor::of(receipt) else { return Ok(None) };
    for file in &anchor.files {
        let Some(sum) = &file.xxh128 else { continue };
        if let Some(why) = resized(durable, file) {
            return Ok(Some(why));
        }
        if !is_intact(durable, &file.path, sum)? {
            let name = durable.disk().describe(&file.path);
            return Ok(Some(format!("the bytes of `{name}` are not those that were written")));
        }
    }
    Ok(None)
}

/// The error for a load whose generation is committed already.
pub(super) fn already_committed(named: &Named) -> Error {
    let Named { plan, slice, generation } = named;
    let what = format!("slice {slice} generation {generation} of plan {plan} is committed already");
    Error::new(Kind::Fenced, what)
        .hint("another runner has committed this slice; its receipt lies in the folder")
}
