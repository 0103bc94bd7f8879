//! Taking refused rows out of a batch, and out of the lists beside it.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use retrofill_core::error::{Error, Result};

/// For each row whether it stays.
pub(crate) struct Sieve(Vec<bool>);

impl Sieve {
    /// Of so many rows all but these stay.
    pub(crate) fn without(rows: usize, refused: impl IntoIterator<Item = usize>) -> Self {
        let mut stays = vec![true; rows];
        for row in refused {
            stays[row] = false;
        }
        Sieve(stays)
    }

    pub(crate) fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let stays = BooleanArray::from(self.0.clone());
        let broken = |e| Error::bug("rows cannot be taken out of a batch").because(e);
        filter_record_batch(rows, &stays).map_err(broken)
    }

    /// A list with an item for each row.
    pub(crate) fn list<T>(&self, list: &mut Vec<T>) {
        let mut stays = self.0.iter();
        list.retain(|_| stays.next().is_some_and(|stays| *stays));
    }
}
