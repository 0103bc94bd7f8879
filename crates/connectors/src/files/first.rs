//! The first rows, read from the files as they lie: nothing is sorted for them and nothing kept.

use std::sync::Arc;

use retrofill_core::connector::{ReadRequest, SourceBatch};
use retrofill_core::error::{Error, Result};

use super::Shared;
use super::chunks::Chunk;
use super::header::Order;
use super::open::unreadable;
use super::read::{Assembler, Timekeeper, ordinal};
use super::records::Records;

/// Refused rows after which the look ends, whatever it has found.
const MOST_REFUSED: usize = 1000;

/// A stretch of a file, and where it stands.
struct Stretch<'a> {
    file: u32,
    offset: u64,
    line: u64,
    order: &'a Order,
    bytes: &'a [u8],
}

/// The first rows of the interval in the order of the source, `most` of them, and the rows among
/// them that are refused.
pub(super) fn first(
    shared: &Shared,
    request: &ReadRequest,
    most: usize,
) -> Result<Vec<SourceBatch>> {
    let survey = &*request.survey;
    let mut found = Vec::new();
    let Some(keeper) = Timekeeper::new(shared, survey, &request.columns)? else {
        return Ok(found);
    };
    let mut assembler = Assembler::new(shared, request, keeper)?;
    for (index, stamp) in survey.files.iter().enumerate() {
        let path = &stamp.path;
        let (header, mut chunks) = shared.open_file(stamp, Arc::default())?;
        let order = shared.order(survey, &header, path, "the first file")?;
        let mut line = header.line;
        while let Some(chunk) = chunks.next().map_err(|e| unreadable(path, e))? {
            let Chunk::Records { offset, bytes } = chunk else {
                line += 1;
                continue;
            };
            let file = u32::try_from(index).map_err(|_| Error::config("too many files"))?;
            let stretch = Stretch { file, offset, line, order: &order, bytes: &bytes };
            line = take(shared, &mut assembler, &stretch, most, &mut found)?;
            if is_enough(&found, most) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Takes rows of one stretch; gives the number of the line behind it.
fn take(
    shared: &Shared,
    assembler: &mut Assembler<'_>,
    stretch: &Stretch<'_>,
    most: usize,
    found: &mut Vec<SourceBatch>,
) -> Result<u64> {
    let Stretch { file, offset, line, order, bytes } = *stretch;
    let mut records = Records::of(shared.format, bytes, order, line);
    let mut fields = Vec::new();
    let mut ended = false;
    while !ended && !is_enough(found, most) {
        let wanted = most - rows(found);
        ended = true;
        while let Some(line) = records.next(&mut fields) {
            if line.problem.is_none() {
                let ordinal = ordinal(file, offset + line.start as u64);
                let place = (line.start, line.end);
                assembler.record(bytes, place, line.number, ordinal, &fields, order);
            }
            if assembler.taken() >= wanted {
                ended = false;
                break;
            }
        }
        assembler.flush(bytes, &mut |batch| {
            found.push(batch);
            true
        })?;
        assembler.finish(&mut |batch| {
            found.push(batch);
            true
        })?;
    }
    Ok(records.line())
}

fn rows(found: &[SourceBatch]) -> usize {
    found.iter().map(|b| b.rows.num_rows()).sum()
}

fn is_enough(found: &[SourceBatch], most: usize) -> bool {
    let refused: usize = found.iter().map(|b| b.rejects.len()).sum();
    rows(found) >= most || refused >= MOST_REFUSED
}
