//! Data files of ours that are gone or damaged.
//!
//! A table whose log names a file that is not there cannot be read in that place by anyone, and
//! Delta has no repair but to drop the name. For a file that loads of this very slice wrote, that
//! loses no row of anybody else: it goes in the same commit that brings the rows back.

use std::collections::HashMap;
use std::sync::Arc;

use retrofill_core::digest::{Digest, Hasher};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::receipt::{Receipt, ReceiptV1};

use super::anchor::{Anchor, AnchorFile, Sums};
use super::checksum;
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
        let own = self.own_files(&durable)?;
        let shares = self.base.files.iter().any(|f| !own.contains_key(&*f.path));
        let sums = if shares { receipts::sums(&durable)? } else { Sums::default() };
        let mut sound = Vec::new();
        for file in std::mem::take(&mut self.base.files) {
            let own = own.get(&*file.path);
            let sum = own.and_then(|own| own.sum.as_deref()).or_else(|| sums.get(&file.path));
            let judged = match sum {
                Some(sum) => is_summed(&durable, &file, sum),
                None => self.is_readable(&durable, &file, own.map(|own| own.receipt.latest())),
            };
            match judged {
                Ok(()) => sound.push(file),
                Err(e) if e.kind() != Kind::Mismatch => return Err(e),
                Err(_) if own.is_some() => self.wreck.push(file),
                Err(e) => return Err(foreign(&e)),
            }
        }
        self.base.files = sound;
        Ok(())
    }

    /// The data files that loads of this very slice wrote, whatever their plan: they hold rows of
    /// it alone.
    fn own_files(&self, durable: &Durable) -> Result<HashMap<String, Own>> {
        let mut own = HashMap::new();
        for receipt in receipts::of_slice(durable, &self.slice.slice)? {
            let Some(anchor) = Anchor::of(&receipt) else { continue };
            if receipt.latest().interval == self.slice.interval {
                let files = anchor.files.into_iter().filter(|f| f.own);
                let with =
                    |f: AnchorFile| (f.path, Own { receipt: receipt.clone(), sum: f.xxh128 });
                own.extend(files.map(with));
            }
        }
        Ok(own)
    }

    /// Fails unless every row of the file can be read, and a file of ours holds just what its
    /// load wrote: a damaged page may well be readable.
    fn is_readable(
        &self,
        durable: &Durable,
        file: &Arc<DataFile>,
        receipt: Option<&ReceiptV1>,
    ) -> Result<()> {
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
        match receipt {
            Some(r) if !found.matches(&r.digests.written) => {
                let name = durable.disk().describe(&file.path);
                let what = format!("`{name}` does not hold the rows that were written into it");
                Err(Error::new(Kind::Mismatch, what))
            }
            _ => Ok(()),
        }
    }
}

/// A data file that a load of this slice wrote.
struct Own {
    receipt: Receipt,
    sum: Option<String>,
}

/// Fails unless the file has just the bytes that were written.
fn is_summed(durable: &Durable, file: &DataFile, sum: &str) -> Result<()> {
    if checksum::is_intact(durable, &file.path, sum)? {
        return Ok(());
    }
    Err(Error::new(Kind::Mismatch, checksum::altered(durable, &file.path)))
}

fn foreign(found: &Error) -> Error {
    Error::new(Kind::Mismatch, found.to_string()).hint(
        "the file is not one that loads of this slice wrote alone, so taking it out could lose \
         rows of others; put it back from a copy, or drop it by the table's own means, and run \
         again with `--select mismatched`",
    )
}
