//! Computing over batches, row by row: a row that fails takes no other with it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, new_empty_array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::record_batch::RecordBatch;
use datafusion_common::DataFusionError;
use retrofill_core::error::{Error, Result};

use super::bind::{Bound, Program};
use super::guard::{MOST_BYTES, bytes};

/// Rows that are computed at once.
const ROWS: usize = 8192;

/// Bytes that the computed values of a batch may have together.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Room(MOST_BYTES)
    }
}

/// The values of an expression for a batch.
#[derive(Debug)]
pub(crate) struct Ran {
    /// One per row; NULL where it failed.
    pub(crate) values: ArrayRef,
    /// The rows that failed, in order, and why.
    pub(crate) failed: Vec<(usize, String)>,
}

impl Program {
    /// Computes the expression for every row of a batch. What it gives for a row does not hang on
    /// the rows beside it. `left` is what the values may have of memory, and then what is left of
    /// it. None where the values of several rows together need more: they have to be asked for in
    /// smaller batches. A single row that needs more fails.
    pub(crate) fn run(&self, batch: &RecordBatch, left: &mut Room) -> Result<Option<Ran>> {
        let (arrays, failed) = (Vec::new(), Vec::new());
        let mut ran = Stretch { program: self, batch, arrays, failed, bytes: 0, room: left.0 };
        for first in (0..batch.num_rows()).step_by(ROWS) {
            ran.run(first, ROWS.min(batch.num_rows() - first));
        }
        if ran.is_full() {
            if batch.num_rows() > 1 {
                return Ok(None);
            }
            ran.arrays = vec![new_null_array(&self.ty.arrow(), 1)];
            let most = MOST_BYTES >> 20;
            ran.failed = vec![(0, format!("the row would be larger than {most} MiB"))];
            ran.bytes = 0;
        }
        left.0 -= ran.bytes;
        let values = match &ran.arrays[..] {
            [] => new_empty_array(&self.ty.arrow()),
            [one] => Arc::clone(one),
            many => {
                let many: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
                concat(&many).map_err(|e| Error::bug("values cannot be put together").because(e))?
            }
        };
        Ok(Some(Ran { values, failed: ran.failed }))
    }

    fn once(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let values = self.expr.evaluate(batch)?.into_array(batch.num_rows())?;
        let ty = self.ty.arrow();
        if *values.data_type() == ty {
            return Ok(values);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(&values, &ty, &options)?)
    }
}

impl Bound {
    /// For each row whether it stays; where that cannot be computed, why.
    pub(crate) fn stays(&self, batch: &RecordBatch) -> Result<Vec<Result<bool, String>>> {
        let Some(filter) = &self.filter else { return Ok(vec![Ok(true); batch.num_rows()]) };
        let ran = filter.run(batch, &mut Room::default())?;
        let Ran { values, failed } = ran.ok_or_else(|| Error::bug("a condition is too large"))?;
        // A condition that is NULL is not met.
        let met = values.as_boolean().iter().map(|met| Ok(met == Some(true)));
        let mut stays: Vec<Result<bool, String>> = met.collect();
        for (row, reason) in failed {
            stays[row] = Err(format!("`WHERE` fails: {reason}"));
        }
        Ok(stays)
    }
}

struct Stretch<'a> {
    program: &'a Program,
    batch: &'a RecordBatch,
    arrays: Vec<ArrayRef>,
    failed: Vec<(usize, String)>,
    /// Of all arrays.
    bytes: usize,
    room: usize,
}

impl Stretch<'_> {
    fn is_full(&self) -> bool {
        self.bytes > self.room
    }

    /// Rows that fail are found by halving.
    fn run(&mut self, first: usize, rows: usize) {
        if rows == 0 || self.is_full() {
            return;
        }
        let batch = self.batch.slice(first, rows);
        match self.program.once(&batch) {
            Ok(values) => {
                self.bytes += bytes(&values);
                self.arrays.push(values);
            }
            Err(error) if rows == 1 => {
                self.arrays.push(new_null_array(&self.program.ty.arrow(), 1));
                self.failed.push((first, reason(&error)));
            }
            Err(_) => {
                self.run(first, rows / 2);
                self.run(first + rows / 2, rows - rows / 2);
            }
        }
    }
}

/// The words of an error without the names of the layers it came through.
pub(super) fn reason(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let mut text = text.as_str();
    let layers = [
        "Arrow error: ",
        "Cast error: ",
        "Compute error: ",
        "Arithmetic overflow: ",
        "Invalid argument error: ",
        "Parser error: ",
        "Execution error: ",
        "Error during planning: ",
        "SQL error: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "Optimizer rule 'type_coercion' failed",
        "caused by",
        "External error: ",
        "Resources exhausted: ",
    ];
    if text.ends_with("Cannot cast timezone to different timezone") {
        return "is no time, or two times, in that zone".into();
    }
    while let Some(rest) = layers.iter().find_map(|l| text.trim_start().strip_prefix(l)) {
        text = rest;
    }
    let first = text.trim().lines().next().unwrap_or_default();
    let mut letters = first.chars();
    let lower = letters.next().map(|c| c.to_lowercase().chain(letters).collect::<String>());
    lower.unwrap_or_else(|| "it cannot be computed".into())
}
