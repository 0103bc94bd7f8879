//! Data files of ours that are gone or damaged.
//!
//! A table whose log names a file that is not there cannot be read in that place by anyone, and
//! Delta has no repair but to drop the name. For a file that loads of this very slice wrote, that
//! loses no row of anybody else: it goes in the same commit that brings the rows back.

use std::sync::Arc;

use retrofill_core::digest::{Digest, Hasher};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::receipt::Receipt;

use super::durable::Durable;
use super::load::DeltaLoad;
use super::receipts;
use super::scan::{self, Scan};
use super::state::DataFile;

impl DeltaLoad {
    /// Parts the slice's files from their wreck, where the load is to repair. Blocks.
    pub(super) fn find_wreck(&mut self) -> Result<()> {
        if !self.slice.repair || self.base.files.is_empty() || self.append_only {
            return Ok(());
        }
        let durable = self.shared.log.durable().clone();
        let own = receipts::own_files(&durable, &self.slice)?;
        let mut sound = Vec::new();
        for file in std::mem::take(&mut self.base.files) {
            let receipt = own.get(&*file.path);
            match self.is_sound(&durable, &file, receipt) {
                Ok(true) => sound.push(file),
                Ok(false) => self.wreck.push(file),
                Err(e) if e.kind() != Kind::Mismatch => return Err(e),
                Err(_) if receipt.is_some() => self.wreck.push(file),
                Err(e) => return Err(foreign(&e)),
            }
        }
        self.base.files = sound;
        Ok(())
    }

    /// Whether every row of the file can be read, and a file of ours holds just what its load
    /// wrote: a damaged page may well be readable.
    fn is_sound(
        &self,
        durable: &Durable,
        file: &Arc<DataFile>,
        receipt: Option<&Receipt>,
    ) -> Result<bool> {
        let receipt = receipt.map(Receipt::latest);
        let receipt = receipt.filter(|r| r.fingerprint == self.slice.columns.fingerprint());
        let mut hasher = receipt.map(|r| Hasher::new(&self.slice.columns, &r.salt));
        let (mut found, mut failed) = (Digest::default(), None);
        let columns = self.slice.columns.clone();
        let scan = Scan { columns, interval: None, files: vec![file.clone()] };
        scan::run(durable, &scan, &mut |piece| {
            let Some(hasher) = &mut hasher else { return true };
            match hasher.hash(&piece.rows) {
                Ok(hashes) => hashes.iter().for_each(|h| found.add_row(h)),
                Err(e) => failed = Some(e),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)?;
        Ok(receipt.is_none_or(|r| found.matches(&r.digests.written)))
    }
}

fn foreign(found: &Error) -> Error {
    Error::new(Kind::Mismatch, found.to_string()).hint(
        "the file is not one that loads of this slice wrote alone, so taking it out could lose \
         rows of others; put it back from a copy, or drop it by the table's own means, and run \
         again with `--select mismatched`",
    )
}
