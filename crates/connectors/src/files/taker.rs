//! What takes records, with a transform or without: for the rows of an interval, and for their
//! place in time.

use retrofill_core::columns::Columns;
use retrofill_core::connector::ReadRequest;
use retrofill_core::error::Result;
use retrofill_core::survey::{Block, Survey};

use super::Shared;
use super::csv::Field;
use super::header::Order;
use super::read::{Assembler, Timekeeper};
use super::records::{Line, Records};
use super::sorted_copy::Emit;
use super::time::{Last, Moment};
use super::transformed::{Loom, Weaver};

/// Makes batches of records.
#[derive(Debug)]
pub(super) enum Taker<'a> {
    Plain(Box<Assembler<'a>>),
    Woven(Box<Weaver<'a>>),
}

impl<'a> Taker<'a> {
    /// None where the survey saw no time at all.
    pub(super) fn new(shared: &'a Shared, request: &'a ReadRequest) -> Result<Option<Self>> {
        let survey = &*request.survey;
        if let Some(transform) = &shared.transform {
            let time = request.columns.time().source_name();
            let loom = Loom::new(shared, transform, survey, time)?;
            return Ok(Some(Taker::Woven(Box::new(Weaver::new(loom, request)?))));
        }
        let keeper = Timekeeper::new(shared, survey, &request.columns)?;
        let assembler = keeper.map(|keeper| Assembler::new(shared, request, keeper)).transpose()?;
        Ok(assembler.map(|assembler| Taker::Plain(Box::new(assembler))))
    }

    /// Takes the records of a block that lie in the interval. False when no more are wanted.
    pub(super) fn block(
        &mut self,
        block: &Block,
        bytes: &[u8],
        order: &Order,
        emit: &mut Emit<'_>,
    ) -> Result<bool> {
        let mut records = Records::of(self.shared().format, bytes, order, block.line);
        let mut fields = Vec::new();
        while let Some(line) = records.next(&mut fields) {
            if line.problem.is_some() {
                continue;
            }
            let ordinal = super::read::ordinal(block.file, block.offset + line.start as u64);
            self.record(bytes, (line.start, line.end), line.number, ordinal, &fields, order);
            if self.is_full() && !self.flush(bytes, emit)? {
                return Ok(false);
            }
        }
        self.flush(bytes, emit)
    }

    fn shared(&self) -> &'a Shared {
        match self {
            Taker::Plain(assembler) => assembler.shared(),
            Taker::Woven(weaver) => weaver.shared(),
        }
    }

    /// Takes a record, if it can lie in the interval, until `flush` with the same bytes.
    #[inline]
    pub(super) fn record(
        &mut self,
        bytes: &[u8],
        ends: (usize, usize),
        line: u64,
        ordinal: u64,
        fields: &[Field],
        order: &Order,
    ) {
        match self {
            Taker::Plain(assembler) => {
                assembler.record(bytes, ends, line, ordinal, fields, order);
            }
            Taker::Woven(weaver) => weaver.record(bytes, ends, line, ordinal, fields, order),
        }
    }

    /// Whether `flush` would give a batch.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Taker::Plain(assembler) => assembler.is_full(),
            Taker::Woven(weaver) => weaver.is_full(),
        }
    }

    /// Turns what was taken of this buffer into values, and gives a batch if there is enough.
    pub(super) fn flush(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<bool> {
        match self {
            Taker::Plain(assembler) => assembler.flush(bytes, emit),
            Taker::Woven(weaver) => weaver.flush(bytes, emit),
        }
    }

    /// Gives the last batch.
    pub(super) fn finish(&mut self, emit: &mut Emit<'_>) -> Result<bool> {
        match self {
            Taker::Plain(assembler) => assembler.finish(emit),
            // It keeps nothing back.
            Taker::Woven(_) => Ok(true),
        }
    }
}

/// Finds the time of each record.
#[derive(Debug)]
pub(super) enum Placer<'a> {
    Plain(&'a Shared, Timekeeper<'a>),
    Woven(Box<Loom<'a>>),
}

impl<'a> Placer<'a> {
    /// None where the survey saw no time at all.
    pub(super) fn new(
        shared: &'a Shared,
        survey: &Survey,
        columns: &Columns,
    ) -> Result<Option<Self>> {
        if let Some(transform) = &shared.transform {
            let loom = Loom::new(shared, transform, survey, columns.time().source_name())?;
            return Ok(Some(Placer::Woven(Box::new(loom))));
        }
        let keeper = Timekeeper::new(shared, survey, columns)?;
        Ok(keeper.map(|keeper| Placer::Plain(shared, keeper)))
    }

    /// Calls with every record of a block that has a time, whether it stays or not.
    pub(super) fn each(
        &self,
        block: &Block,
        bytes: &[u8],
        order: &Order,
        take: &mut dyn FnMut(&Line, Moment),
    ) -> Result<()> {
        match self {
            Placer::Plain(shared, keeper) => {
                let mut records = Records::of(shared.format, bytes, order, block.line);
                let (mut fields, mut last) = (Vec::new(), Last::default());
                while let Some(line) = records.next(&mut fields) {
                    if line.problem.is_some() {
                        continue;
                    }
                    if let Some(moment) = keeper.time(bytes, &fields, order, &mut last) {
                        take(&line, moment);
                    }
                }
                Ok(())
            }
            Placer::Woven(loom) => loom.each(block, bytes, order, &mut |lines, judged| {
                for (line, fate) in lines.iter().zip(&judged.fates) {
                    if let Some(moment) = fate.moment() {
                        take(line, moment);
                    }
                }
                Ok(())
            }),
        }
    }
}
