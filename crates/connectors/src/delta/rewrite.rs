//! Data files from which rows are taken out: written anew without them. Every row that stays is
//! read back with every column of the table, wherever its time lies, because the proof of the
//! slice sees only the slice and the columns of its plan.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use retrofill_core::connector::RowPicker;
use retrofill_core::digest::{Digest, Hasher};
use retrofill_core::error::{Error, Kind, Result};

use super::datafile::{FileWriter, Written};
use super::load::DeltaLoad;
use super::scan::{self, Pieces, Scan};
use super::state::{DataFile, micros};

/// A data file that leaves the table, and the one that takes its place.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// Leaves the table with the commit.
    pub(super) old: Arc<DataFile>,
    /// Its other rows; none where there are none.
    pub(super) new: Option<Written>,
}

impl Rewrite {
    /// The new file, as the table will know it.
    pub(super) fn file(&self) -> Option<Arc<DataFile>> {
        let new = self.new.as_ref()?;
        Some(Arc::new(DataFile::new(&new.path, new.size, Some(new.rows))))
    }
}

/// Sums up whole rows.
struct Sum {
    hasher: Hasher,
    digest: Digest,
}

impl Sum {
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        for hashes in self.hasher.hash(rows)? {
            self.digest.add_row(&hashes);
        }
        Ok(())
    }
}

impl DeltaLoad {
    /// Whether a file holds, or may hold, rows of other slices too: then no other load may
    /// rewrite it meanwhile.
    pub(super) fn shares_files(&self) -> bool {
        let (first, end) = micros(&self.slice.interval);
        let time = &self.slice.columns.time().name;
        let inside =
            |f: &Arc<DataFile>| f.times(time).is_some_and(|(low, high)| first <= low && high < end);
        !self.base.files.iter().all(inside)
    }

    /// The files that hold the slice's rows after the commit, without the one written.
    pub(super) fn others(&self) -> Vec<Arc<DataFile>> {
        let stays = |f: &&Arc<DataFile>| !self.rewritten.iter().any(|r| r.old.path == f.path);
        let stay = self.base.files.iter().filter(stays).cloned();
        stay.chain(self.rewritten.iter().filter_map(Rewrite::file)).collect()
    }

    /// Takes out the rows of the slice that `picker` picks.
    pub(super) async fn take_out(&mut self, picker: &mut dyn RowPicker) -> Result<()> {
        let files = self.base.files.clone();
        let mut gone = vec![Vec::new(); files.len()];
        let mut pieces = scan::start(self.shared.log.durable(), self.scan(files.clone()));
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let goes = picker.pick(piece.rows).await?;
            let places = piece.places.into_iter().zip(goes).filter(|(_, goes)| *goes);
            gone[piece.file].extend(places.map(|(place, _)| place));
        }
        for (file, gone) in files.into_iter().zip(gone) {
            if !gone.is_empty() {
                let new = self.rewrite(&file, &gone).await?;
                self.rewritten.push(Rewrite { old: file, new });
            }
        }
        Ok(())
    }

    /// Writes a file anew without the rows at these places, which are in order.
    async fn rewrite(&self, file: &Arc<DataFile>, gone: &[u64]) -> Result<Option<Written>> {
        let durable = self.shared.log.durable();
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|e| Error::unavailable("no random numbers").because(e))?;
        let hasher = Hasher::new(&self.table, &salt);
        let mut kept = Sum { hasher: hasher.clone(), digest: Digest::default() };
        let mut writer: Option<FileWriter> = None;
        let mut pieces = self.whole(DataFile::clone(file));
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let stays = |place: &u64| gone.binary_search(place).is_err();
            let mask: BooleanArray = piece.places.iter().map(|p| Some(stays(p))).collect();
            if mask.true_count() == 0 {
                continue;
            }
            let rows = filter_record_batch(&piece.rows, &mask)
                .map_err(|e| Error::bug("rows cannot be filtered").because(e))?;
            kept.add(&rows)?;
            let writer = writer.get_or_insert_with(|| {
                FileWriter::start(durable.clone(), &self.slice, self.all.clone())
            });
            writer.write(&rows).await?;
        }
        let Some(writer) = writer else { return Ok(None) };
        let new = writer.seal().await?;
        let mut back = Sum { hasher, digest: Digest::default() };
        let mut pieces = self.whole(DataFile::new(&new.path, new.size, Some(new.rows)));
        while let Some(piece) = pieces.next().await {
            let read = piece.and_then(|piece| back.add(&piece.rows));
            if let Err(e) = read {
                durable.discard(&new.path);
                return Err(e);
            }
        }
        if !back.digest.matches(&kept.digest) {
            durable.discard(&new.path);
            let name = durable.disk().describe(&file.path);
            return Err(Error::new(
                Kind::Mismatch,
                format!("rows of `{name}` that stay were not the same after it was written anew"),
            ));
        }
        Ok(Some(new))
    }

    /// Every row of a file, whatever its time, with every column of the table.
    fn whole(&self, file: DataFile) -> Pieces {
        let columns = self.table.clone();
        let scan = Scan { columns, interval: None, files: vec![Arc::new(file)] };
        scan::start(self.shared.log.durable(), scan)
    }
}
