//! Writing into a table that has refused a row: piece by piece, each behind a savepoint, so that
//! the rows it refuses can be told from the others.

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::SinkExt as _;
use retrofill_core::connector::Refused;
use retrofill_core::error::{Error, Result};

use super::decode::HEADER;
use super::encode::{self, TRAILER};
use super::fault;
use super::load::PostgresLoad;

impl PostgresLoad {
    /// Writes what the table takes; names the rest.
    pub(super) async fn write_careful(&mut self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        let mut refused = encode::encode(&self.written(), rows, &mut Vec::new())?;
        let sent = |row: &usize| !refused.iter().any(|r| r.row == *row);
        let good: Vec<usize> = (0..rows.num_rows()).filter(sent).collect();
        let mut open = vec![good];
        while let Some(mut some) = open.pop() {
            if some.is_empty() {
                continue;
            }
            let Err(e) = self.piece(rows, &some).await? else { continue };
            if !self.is_about_data(&e) {
                return Err(self.broken(&e));
            }
            // The server counts from 1; where it names no line, halves find the row.
            let line = fault::line(&e).map(|n| n as usize).filter(|n| (1..=some.len()).contains(n));
            let line = line.or((some.len() == 1).then_some(1));
            let rest = some.split_off(line.unwrap_or(some.len() / 2));
            if line.is_some() {
                let row = some.pop().ok_or_else(|| Error::bug("no row was refused"))?;
                let (column, reason) = fault::refusal(&e);
                refused.push(Refused { row, column, reason });
            }
            open.extend([rest, some]);
        }
        refused.sort_by_key(|r| r.row);
        Ok(refused)
    }

    /// Copies some rows; takes them back where the server refuses one.
    async fn piece(
        &self,
        rows: &RecordBatch,
        some: &[usize],
    ) -> Result<std::result::Result<(), tokio_postgres::Error>> {
        let client = self.client()?;
        client.batch_execute("SAVEPOINT rows").await.map_err(|e| self.fault(&e))?;
        let mut bytes = HEADER.to_vec();
        let places = arrow::array::UInt64Array::from_iter_values(some.iter().map(|i| *i as u64));
        let chosen = arrow::compute::take_record_batch(rows, &places)
            .map_err(|e| Error::bug("rows cannot be chosen").because(e))?;
        encode::encode(&self.written(), &chosen, &mut bytes)?;
        bytes.extend_from_slice(&TRAILER);
        let mut copying = self.start_copy().await?;
        // What breaks off a COPY is told at its end.
        let _ = copying.send(Bytes::from(bytes)).await;
        let mut ended = copying.as_mut().finish().await.map(drop);
        if let (Ok(()), Some(moving)) = (&ended, &self.moving) {
            ended = client.batch_execute(moving).await;
        }
        let (end, result) = match ended {
            Ok(()) => ("RELEASE rows", Ok(())),
            Err(e) if e.as_db_error().is_some() => ("ROLLBACK TO rows; RELEASE rows", Err(e)),
            Err(e) => return Ok(Err(e)),
        };
        client.batch_execute(end).await.map_err(|e| self.fault(&e))?;
        Ok(result)
    }
}
