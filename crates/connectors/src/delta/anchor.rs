//! What a receipt rests on: the table, its version and the data files that hold the rows.

use std::collections::HashMap;
use std::sync::Arc;

use retrofill_core::receipt::Receipt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::datafile::Written;
use super::load::DeltaLoad;
use super::receipts::manifest_path;
use super::state::DataFile;

/// The `anchor` of a receipt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) table_id: String,
    pub(super) version: u64,
    pub(super) files: Vec<AnchorFile>,
    /// Files that this load wrote anew without some rows of its slice: what a receipt says of the
    /// rows of other slices in such a file holds for its successor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rewritten: Vec<Rewritten>,
    /// Where the manifest lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rewritten {
    pub(super) old: String,
    /// None where no row was left.
    pub(super) new: Option<AnchorFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AnchorFile {
    pub(super) path: String,
    pub(super) size: u64,
    /// It was written by this very load, and so holds rows of this slice alone.
    #[serde(default)]
    pub(super) own: bool,
    /// See [`Written::sum`]; none for files of other writers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xxh128: Option<String>,
}

impl AnchorFile {
    fn written(written: &Written, own: bool) -> Self {
        let (path, size) = (written.path.clone(), written.size);
        AnchorFile { path, size, own, xxh128: Some(written.sum.clone()) }
    }

    fn held(file: &DataFile) -> Self {
        AnchorFile { path: file.path.to_string(), size: file.size, own: false, xxh128: None }
    }
}

impl Anchor {
    /// The anchor of a load that is about to be committed.
    ///
    /// Beside the file that was written it names those that hold rows of the slice already: the
    /// proof is about all of them.
    pub(super) fn of_load(
        table_id: &str,
        version: u64,
        load: &DeltaLoad,
        held: &[Arc<DataFile>],
    ) -> Anchor {
        let written = load.written.as_ref().map(|w| AnchorFile::written(w, true));
        let held = held.iter().map(|f| AnchorFile::held(f));
        let rewritten = load.rewritten.iter().map(|r| {
            let new = r.new.as_ref().map(|w| AnchorFile::written(w, false));
            Rewritten { old: r.old.path.to_string(), new }
        });
        Anchor {
            table_id: table_id.to_owned(),
            version,
            files: written.into_iter().chain(held).collect(),
            rewritten: rewritten.collect(),
            manifest: load.manifest.as_ref().map(|_| manifest_path(&load.slice, &load.word)),
        }
    }

    /// The anchor of a receipt; none where it has none of this kind.
    pub(super) fn of(receipt: &Receipt) -> Option<Anchor> {
        Anchor::deserialize(&receipt.latest().anchor).ok()
    }

    /// As it is persisted.
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("an anchor is plain JSON")
    }

    /// The same load, whose rows lie in these files at this version.
    pub(super) fn moved_to(self, version: u64, held: &[Arc<DataFile>]) -> Anchor {
        let old: HashMap<_, _> = self.files.into_iter().map(|f| (f.path.clone(), f)).collect();
        let files = held.iter().map(|f| {
            let old = old.get(&*f.path).filter(|old| old.size == f.size);
            old.cloned().unwrap_or_else(|| AnchorFile::held(f))
        });
        Anchor { version, files: files.collect(), ..self }
    }
}

/// What receipts say of the bytes of data files, by path. No two files ever have one path, so even
/// a receipt that does not count is right about that.
#[derive(Debug, Default)]
pub(super) struct Sums(HashMap<String, String>);

impl Sums {
    /// What these say.
    pub(super) fn of(receipts: &[Receipt]) -> Sums {
        let anchors = receipts.iter().filter_map(Anchor::of);
        let files = anchors.flat_map(|a| {
            let anew = a.rewritten.into_iter().filter_map(|r| r.new);
            a.files.into_iter().chain(anew)
        });
        Sums(files.filter_map(|f| Some((f.path, f.xxh128?))).collect())
    }

    /// The checksum of this file, where one is known.
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The file, with its checksum where one is known.
    pub(super) fn fill(&self, mut file: AnchorFile) -> AnchorFile {
        if file.xxh128.is_none() {
            file.xxh128 = self.get(&file.path).map(str::to_owned);
        }
        file
    }
}
