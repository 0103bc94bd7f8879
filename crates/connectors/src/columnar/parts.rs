//! Columns that stand in the path of a file: texts, alike in all its rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use retrofill_core::error::{Error, Result};

use crate::files::{clash, pairs, seed_of};

/// Such columns of one file, behind those that it holds.
#[derive(Debug)]
pub(super) struct PathColumns {
    /// All columns.
    pub(super) schema: SchemaRef,
    /// How many of them the file holds.
    pub(super) held: usize,
    pairs: Vec<(String, Option<String>)>,
}

impl PathColumns {
    /// What the path says, where that is wanted, of a file that holds these columns.
    pub(super) fn of(wanted: bool, path: &str, held: &SchemaRef) -> Result<PathColumns> {
        let mut fields: Vec<FieldRef> = held.fields().iter().cloned().collect();
        let pairs = if wanted { pairs(path)? } else { Vec::new() };
        for (name, _) in &pairs {
            if held.fields().find(name).is_some() {
                return Err(clash(path, name));
            }
            fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        }
        let schema =
            if pairs.is_empty() { Arc::clone(held) } else { Arc::new(Schema::new(fields)) };
        Ok(PathColumns { schema, held: held.fields().len(), pairs })
    }

    /// The seed of the file's hashes: in other directories the same bytes are other rows.
    pub(super) fn seed(&self, seed: u64) -> u64 {
        if self.pairs.is_empty() { seed } else { seed_of(&self.pairs, seed) }
    }

    /// Of some columns, by index, those to read in the file, and those to add to what was read.
    pub(super) fn split(&self, columns: &[usize]) -> (Vec<usize>, Added) {
        let (mut held, parts): (Vec<_>, Vec<_>) =
            columns.iter().copied().partition(|at| *at < self.held);
        // Not every format tells how many rows there are of no columns.
        if held.is_empty() && self.held > 0 {
            held.push(0);
        }
        let part = |at: usize| {
            let value = self.pairs.get(at - self.held).and_then(|(_, value)| value.clone());
            (Arc::clone(&self.schema.fields()[at]), value)
        };
        (held, Added(parts.into_iter().map(part).collect()))
    }
}

/// Columns to add to the rows of a file.
#[derive(Debug)]
pub(super) struct Added(Vec<(FieldRef, Option<String>)>);

impl Added {
    /// The rows with these columns behind their own.
    pub(super) fn add(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.0.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let schema = batch.schema();
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut arrays = batch.columns().to_vec();
        for (field, value) in &self.0 {
            let values = std::iter::repeat_n(value.as_deref(), rows);
            let array: ArrayRef = Arc::new(values.collect::<StringArray>());
            fields.push(Arc::clone(field));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|e| Error::bug("columns cannot be added to a batch").because(e))
    }
}
