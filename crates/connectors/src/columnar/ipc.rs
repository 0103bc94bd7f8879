//! Arrow IPC files, also called Feather 2: a record batch is a stretch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, MetadataVersion, root_as_footer, root_as_message};

use super::opened::{BATCH, Batches, Body, Broken, Found, Stretch};
use super::placed::Placed;

/// Bytes behind the footer: its length, and the magic word.
const TAIL: usize = 10;
/// Before a message: a mark, which very old files lack, and its length.
const MARK: [u8; 4] = [0xff; 4];

#[derive(Debug)]
struct Arrow {
    schema: SchemaRef,
    version: MetadataVersion,
    /// Where each record batch lies.
    blocks: Vec<Block>,
    /// Where the values of dictionaries lie, and their bytes.
    dictionaries: Vec<(Block, Buffer)>,
}

/// Reads the footer, the dictionaries, and the head of every record batch.
pub(super) fn find(file: &Placed) -> Result<Found, Broken> {
    let end = file.length()?;
    let at = end.checked_sub(TAIL as u64).ok_or("the file is too short")?;
    let mut tail = [0; TAIL];
    file.fill(&mut tail, at)?;
    let length = read_footer_length(tail)?;
    let at = at.checked_sub(length as u64).ok_or("the footer is longer than the file")?;
    let footer = file.bytes(at, length)?;
    let footer = root_as_footer(&footer).map_err(|e| format!("the footer cannot be read: {e}"))?;
    let schema = Arc::new(fb_to_schema(footer.schema().ok_or("the footer has no schema")?));
    let list = |blocks: Option<Vec<Block>>| blocks.unwrap_or_default();
    let blocks = list(footer.recordBatches().map(|all| all.iter().copied().collect()));
    let mut dictionaries = Vec::new();
    let mut key = Vec::new();
    for block in list(footer.dictionaries().map(|all| all.iter().copied().collect())) {
        let bytes = bytes(file, &block, end)?;
        key.extend_from_slice(&bytes);
        dictionaries.push((block, bytes));
    }
    let mut stretches = Vec::with_capacity(blocks.len());
    let mut first = 0;
    for block in &blocks {
        let (offset, head, length) = place(block, end)?;
        let rows = rows(&file.bytes(offset, head)?)?;
        stretches.push(Stretch { offset, length: length as u64, first, rows });
        first += rows;
    }
    let version = footer.version();
    let body = Box::new(Arrow { schema, version, blocks, dictionaries });
    Ok(Found { body, stretches, key })
}

/// Begin, length of the head and of all of a block that lies inside the file.
fn place(block: &Block, end: u64) -> Result<(u64, usize, usize), Broken> {
    let (at, head) = (u64::try_from(block.offset())?, usize::try_from(block.metaDataLength())?);
    let length = usize::try_from(block.bodyLength())?.checked_add(head);
    match length {
        Some(length) if at.checked_add(length as u64).is_some_and(|to| to <= end) => {
            Ok((at, head, length))
        }
        _ => Err("a block lies outside of the file".into()),
    }
}

fn bytes(file: &Placed, block: &Block, end: u64) -> Result<Buffer, Broken> {
    let (at, _, length) = place(block, end)?;
    Ok(Buffer::from(file.bytes(at, length)?))
}

/// How many rows the head of a record batch tells.
fn rows(head: &[u8]) -> Result<u64, Broken> {
    let start = if head.starts_with(&MARK) { 8 } else { 4 };
    let message = head.get(start..).ok_or("a record batch has no head")?;
    let message = root_as_message(message).map_err(|e| format!("a head cannot be read: {e}"))?;
    let batch = message.header_as_record_batch().ok_or("a block is no record batch")?;
    Ok(u64::try_from(batch.length())?)
}

impl Body for Arrow {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn batches(
        &self,
        file: &Placed,
        (at, stretch): (usize, &Stretch),
        columns: &[usize],
    ) -> Result<Batches, Broken> {
        let mut decoder = FileDecoder::new(self.schema.clone(), self.version);
        for (block, bytes) in &self.dictionaries {
            decoder.read_dictionary(block, bytes)?;
        }
        let decoder = decoder.with_projection(columns.to_vec());
        let bytes = file.bytes(stretch.offset, stretch.length as usize)?;
        let batch = decoder.read_record_batch(&self.blocks[at], &Buffer::from(bytes))?;
        let batch = batch.ok_or_else(|| ArrowError::IpcError("an empty message".into()))?;
        Ok(Box::new(pieces(batch).map(Ok)))
    }
}

/// The rows in pieces of the usual size.
fn pieces(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> + Send {
    let starts = (0..batch.num_rows()).step_by(BATCH);
    starts.map(move |at| batch.slice(at, BATCH.min(batch.num_rows() - at)))
}
