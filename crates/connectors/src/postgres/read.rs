//! The rows of an interval, for anybody who reads the table.

use std::sync::Arc;

use retrofill_core::connector::{ReadRequest, Rows, SourceBatch};
use retrofill_core::error::Result;

use super::Shared;
use super::copy::{self, AsyncTake, exact};
use super::decode::{Decoded, Decoder};
use super::packing::Packing;
use super::session::{self, Opening};
use crate::counted::{Batch, poured, unread};

struct Send(tokio::sync::mpsc::Sender<Batch>, u64);

#[async_trait::async_trait]
impl AsyncTake for Send {
    async fn take(&mut self, decoded: Decoded) -> Result<()> {
        exact(&decoded)?;
        let first = self.1;
        self.1 += decoded.rows.num_rows() as u64;
        let batch = SourceBatch {
            ordinals: (first..self.1).collect(),
            rows: decoded.rows,
            rejects: Vec::new(),
            filtered: 0,
        };
        self.0.send(Ok(batch)).await.map_err(|_| unread())
    }
}

pub(super) async fn read(shared: &Arc<Shared>, request: &ReadRequest) -> Result<Rows> {
    let table = shared.known_table().await?;
    let columns = request.columns.clone();
    let kinds = copy::kinds(&table, &columns)?;
    let condition = copy::within(&table, &columns.time().name, &request.interval)?;
    let packing = Packing::none(kinds.len());
    let sql = copy::statement(&shared.name, &columns, &packing, &condition)?;
    let decoder = Decoder::new(&kinds, columns.arrow_schema());
    let shared = shared.clone();
    let batches = poured(|to| async move {
        let client = match shared.server.idle() {
            Some(client) => client,
            None => shared.server.fresh().await?,
        };
        let failed = |e: &tokio_postgres::Error| shared.server.fault(e, "cannot read");
        session::ask(&client, &Opening::LOOK.sql()).await.map_err(|e| failed(&e))?;
        copy::out((&shared.server, &client), &sql, decoder, &mut Send(to, 0)).await?;
        shared.server.roll_back(client).await;
        Ok(())
    });
    Ok(Rows { batches, blocks: Vec::new() })
}
