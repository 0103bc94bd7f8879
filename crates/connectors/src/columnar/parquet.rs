//! Parquet files: a row group is a stretch.

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::opened::{BATCH, Batches, Body, Bounds, Broken, Found, Stretch};
use super::pages::Pages;
use super::placed::{From, Placed};
use crate::delta::footer;

impl Length for Placed {
    fn len(&self) -> u64 {
        self.length().unwrap_or(0)
    }
}

impl ChunkReader for Placed {
    type T = std::io::BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(std::io::BufReader::new(self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.bytes(start, length)?)
    }
}

#[derive(Debug)]
struct Parquet(ArrowReaderMetadata);

/// Reads the footer.
pub(super) fn find(file: &Placed) -> Result<Found, Broken> {
    let metadata = footer(file)?;
    let mut first = 0;
    let stretches = metadata.metadata().row_groups().iter().map(|group| {
        let ranges = || group.columns().iter().map(ColumnChunkMetaData::byte_range);
        let offset = ranges().map(|(at, _)| at).min().unwrap_or(0);
        let end = ranges().map(|(at, length)| at + length).max().unwrap_or(0);
        let rows = group.num_rows() as u64;
        first += rows;
        Stretch { offset, length: end - offset, first: first - rows, rows }
    });
    let stretches = stretches.collect();
    Ok(Found { body: Box::new(Parquet(metadata)), stretches, key: Vec::new() })
}

impl Body for Parquet {
    fn schema(&self) -> &SchemaRef {
        self.0.schema()
    }

    fn bounds(&self, column: &str) -> Option<Bounds> {
        let (schema, groups) = (self.0.schema(), self.0.metadata().row_groups());
        let told = StatisticsConverter::try_new(column, schema, self.0.parquet_schema()).ok()?;
        Some(Bounds {
            least: told.row_group_mins(groups).ok()?,
            greatest: told.row_group_maxes(groups).ok()?,
            nulls: told.row_group_null_counts(groups).ok()?,
        })
    }

    fn batches(
        &self,
        file: &Placed,
        (at, _): (usize, &Stretch),
        columns: &[usize],
    ) -> Result<Batches, Broken> {
        let mask = ProjectionMask::roots(self.0.parquet_schema(), columns.iter().copied());
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), self.0.clone())
                .with_projection(mask)
                .with_row_groups(vec![at])
                .with_batch_size(BATCH)
                .build()?;
        Ok(Box::new(reader.map(|batch| Ok(batch?))))
    }

    fn pages(&self, stretch: usize) -> Option<Pages<'_>> {
        Some(Pages::new(self.0.metadata().row_group(stretch), stretch))
    }
}
