//! The target's own record of a committed slice.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::id::{PlanId, SliceId, as_hex};
use crate::interval::Interval;
use crate::manifest::ManifestRef;
use crate::spec::Mode;

/// Where every row of a slice went. Conservation: `read` is the sum of all the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows the source gave for the slice.
    pub read: u64,
    /// New rows in the target.
    pub written: u64,
    /// Rows that replaced a held one.
    pub updated: u64,
    /// Rows the target held already, equal in every column that is compared.
    pub already_present: u64,
    /// Rows whose key the target held with another value; the held row stays.
    pub conflicting: u64,
    /// Equal repetitions inside the source.
    pub duplicate: u64,
    /// Rows refused, each listed with its place and reason.
    pub rejected: u64,
    /// Rows the transform left out.
    pub filtered: u64,
}

impl Counts {
    /// The sum of everything a row can become.
    pub fn accounted(&self) -> u64 {
        self.written
            + self.updated
            + self.already_present
            + self.conflicting
            + self.duplicate
            + self.rejected
            + self.filtered
    }

    /// An error of kind `Bug` unless every row read is accounted for.
    pub fn check(&self) -> Result<()> {
        if self.read == self.accounted() {
            return Ok(());
        }
        Err(Error::bug(format!(
            "rows are not conserved: read {} but accounted {}",
            self.read,
            self.accounted()
        )))
    }

    /// Adds another slice's counts.
    pub fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.written += other.written;
        self.updated += other.updated;
        self.already_present += other.already_present;
        self.conflicting += other.conflicting;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.filtered += other.filtered;
    }
}

/// The digests of one slice, by what happened to the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// All rows of the source that could be hashed.
    pub read: Digest,
    /// Rows put into the target.
    pub written: Digest,
    /// Rows taken out of the target.
    pub removed: Digest,
    /// Source rows that the target held already.
    pub present: Digest,
    /// Those of them whose held row differs in columns that `rows.compare` does not name.
    #[serde(default, skip_serializing_if = "Digest::is_empty")]
    pub alike: Digest,
    /// Source rows that lost against a held row.
    pub conflict_source: Digest,
    /// The held rows they lost against.
    pub conflict_live: Digest,
    /// The slice before the load.
    pub before: Digest,
    /// The slice as read back: before - removed + written.
    pub after: Digest,
}

/// What a load knew of who wrote the rows that its slice holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Every row that the slice held after the load was written by loads of this job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Rows of others that this load and those before it put others in the place of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub displaced: u64,
    /// The rows that loads of this job wrote, where `verify.manifest` keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestRef>,
    /// The receipt of an `undo`: so many rows that earlier loads wrote are gone again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Everything needed to know, from the target alone, what was loaded and under which rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptV1 {
    /// The plan.
    pub plan: PlanId,
    /// SHA-256 of the spec's identity, hex: a later plan of the same spec takes the slice over.
    pub spec_hash: String,
    /// The slice (or a half of one).
    pub slice: SliceId,
    /// Counts up each time the slice is loaded again on purpose.
    pub generation: u64,
    /// What the slice covers.
    pub interval: Interval,
    /// How rows that are already there were treated.
    pub mode: Mode,
    /// Value policies applied before write and digest, by column.
    pub policies: Vec<String>,
    /// Version of the canonical encoding, `retrofill-digest-v1`.
    pub encoding: String,
    /// The schema fingerprint.
    #[serde(with = "as_hex")]
    pub fingerprint: [u8; 32],
    /// The plan's salt: with it a lost ledger can be rebuilt.
    #[serde(with = "as_hex")]
    pub salt: [u8; 16],
    /// Hashes of the source blocks the slice was read from.
    pub blocks: Vec<String>,
    /// Where every row went.
    pub counts: Counts,
    /// What was read, written and found.
    pub digests: Digests,
    /// Who wrote the rows of the slice; none in receipts of versions that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
    /// When the slice was proven.
    pub at: Timestamp,
    /// File with the rejects and conflicts of the slice, relative to the state dir.
    pub exceptions: Option<String>,
    /// What the target needs to know that the data can still be there (table identity, files).
    /// Filled in by the target.
    pub anchor: serde_json::Value,
}

impl ReceiptV1 {
    /// Whether every row that the slice held after the load was written by loads of this job.
    pub fn is_whole(&self) -> bool {
        self.own.as_ref().map_or(self.digests.before.count == 0, |own| own.whole)
    }

    /// Rows of others that loads of this job put others in the place of.
    pub fn displaced(&self) -> u64 {
        self.own.as_ref().map_or(self.digests.removed.count, |own| own.displaced)
    }

    /// How many rows an `undo` took out, where this is its receipt.
    pub fn undone(&self) -> Option<u64> {
        self.own.as_ref().and_then(|own| own.undone)
    }
}

/// A receipt as persisted, in the version it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum Receipt {
    /// The first format.
    #[serde(rename = "1")]
    V1(ReceiptV1),
}

impl Receipt {
    /// The receipt in today's form, whatever its version.
    pub fn latest(&self) -> &ReceiptV1 {
        match self {
            Receipt::V1(receipt) => receipt,
        }
    }

    /// The same, for the target to fill in its anchor.
    pub fn latest_mut(&mut self) -> &mut ReceiptV1 {
        match self {
            Receipt::V1(receipt) => receipt,
        }
    }

    /// Whether this is the receipt of exactly this load.
    pub fn is_for(&self, plan: &PlanId, slice: &SliceId, generation: u64) -> bool {
        let r = self.latest();
        r.plan == *plan && r.slice == *slice && r.generation == generation
    }
}
