//! Hashes of the rows of a batch, under a key of schema and salt.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use sha2::{Digest as _, Sha256};

use super::encode::Encoder;
use super::sip;
use crate::columns::Columns;
use crate::error::{Error, Result};

/// The two hashes of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHashes {
    /// Over tag `K`, time and key.
    pub key: u128,
    /// Over tag `R`, time, key and all other columns.
    pub row: u128,
}

/// Hashes rows. Cheap to clone; every thread has its own.
#[derive(Debug, Clone)]
pub struct Hasher {
    key: [u8; 16],
    key_width: usize,
    encoder: Encoder,
    /// Places of time, keys and the columns that are compared; none where that is all of them.
    compared: Option<Arc<[usize]>>,
}

impl Hasher {
    /// The hasher of a plan: K = the first 16 bytes of SHA-256 over the name of the encoding,
    /// the schema fingerprint and the salt.
    pub fn new(columns: &Columns, salt: &[u8; 16]) -> Self {
        let mut hash = Sha256::new();
        hash.update(super::ENCODING);
        hash.update(columns.fingerprint());
        hash.update(salt);
        let hash: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        let key_width = columns.key_width();
        Hasher { key, key_width, encoder: Encoder::default(), compared: None }
    }

    /// The same, which tells too what rows are by the columns that `rows.compare` names (names of
    /// the source). None, or all there are: rows are compared as they are.
    pub fn comparing(mut self, columns: &Columns, names: Option<&[String]>) -> Self {
        let is_value = |at: &usize| *at >= columns.key_width();
        let named = |at: &usize, names: &[String]| {
            columns.iter().nth(*at).is_some_and(|c| names.iter().any(|n| n == c.source_name()))
        };
        self.compared = names.and_then(|names| {
            let places = (0..columns.len()).filter(|at| !is_value(at) || named(at, names));
            let places: Arc<[usize]> = places.collect();
            (places.len() < columns.len()).then_some(places)
        });
        self
    }

    /// The same, with the buffers of this one.
    pub(crate) fn lend(&mut self) -> Self {
        Hasher { encoder: std::mem::take(&mut self.encoder), ..self.clone() }
    }

    /// Whether rows can be alike that are not equal.
    pub fn is_comparing(&self) -> bool {
        self.compared.is_some()
    }

    /// Hashes over tag `C`, time, key and the compared columns, in the order of the rows: equal
    /// ones are alike. Empty where rows are compared as they are. Never persisted.
    pub fn compared(&mut self, rows: &RecordBatch) -> Result<Vec<u128>> {
        let Some(places) = &self.compared else { return Ok(Vec::new()) };
        let rows = rows
            .project(places)
            .map_err(|e| Error::bug("columns cannot be picked from a batch").because(e))?;
        let mut hashes = Vec::with_capacity(rows.num_rows());
        for piece in pieces(&rows) {
            let mut encoded = self.encoder.encode(&piece, self.key_width)?;
            encoded.tag(b'C');
            sip::hash(&self.key, encoded.bytes(), encoded.rows(), &mut hashes);
        }
        Ok(hashes)
    }

    /// The hashes of every row of a batch in plan order of columns, in the order of the rows.
    pub fn hash(&mut self, rows: &RecordBatch) -> Result<Vec<RowHashes>> {
        let mut hashes = Vec::with_capacity(rows.num_rows());
        let (mut keys, mut all) = (Vec::new(), Vec::new());
        for piece in pieces(rows) {
            let mut encoded = self.encoder.encode(&piece, self.key_width)?;
            encoded.tag(b'K');
            sip::hash(&self.key, encoded.bytes(), encoded.keys(), &mut keys);
            encoded.tag(b'R');
            sip::hash(&self.key, encoded.bytes(), encoded.rows(), &mut all);
            let both = keys.drain(..).zip(all.drain(..));
            hashes.extend(both.map(|(key, row)| RowHashes { key, row }));
        }
        Ok(hashes)
    }
}

/// So many rows are encoded at a time: every column goes through all of them, and they are hashed
/// while the cache still has them.
const PIECE: usize = 512;

/// The batch in pieces. Lists stay whole: each piece would go through the elements of all.
fn pieces(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let lists = rows.columns().iter().any(|c| matches!(c.data_type(), DataType::List(_)));
    let count = rows.num_rows();
    let step = if lists { count.max(1) } else { PIECE };
    (0..count).step_by(step).map(move |first| rows.slice(first, step.min(count - first)))
}
