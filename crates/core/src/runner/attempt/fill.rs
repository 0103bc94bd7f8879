//! Deciding for every row of the source what becomes of it, and writing what is missing.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use arrow::array::{Array, BooleanArray};
use arrow::compute::filter_record_batch;

use super::super::Happening;
use super::super::held::{Copies, Held, Standing};
use super::super::ours::{Basis, common};
use super::super::recover;
use super::super::repeats::{Fate, prefix, repeated, row_prefix};
use super::super::sinks::{Hashed, Taken, hash};
use super::Attempt;
use super::ahead::Ahead;
use super::replace::Change;
use crate::columns::Columns;
use crate::connector::{Load, SourceBatch};
use crate::digest::RowHashes;
use crate::error::{Error, Kind, Result};
use crate::id::hex;
use crate::manifest::{Manifest, entry};
use crate::planted::{self, Bug};
use crate::reject::{Conflict, Reject};
use crate::spec::Mode;

/// Refused rows that an error tells one by one.
const TOLD: usize = 10;

/// What is done with a row of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Leave,
    /// It is written.
    Write,
    /// It is written in the place of held rows.
    Succeed,
}

impl Attempt<'_> {
    /// Reads the source and writes what is missing. Gives the prefixes that repeat.
    pub(super) async fn fill(
        &mut self,
        load: &mut dyn Load,
        ahead: Option<Ahead>,
    ) -> Result<HashSet<u64>> {
        let mut ahead = match ahead {
            Some(ahead) => ahead,
            None => self.open().await?,
        };
        self.blocks = std::mem::take(&mut ahead.rows.blocks);
        while let Some(batch) = ahead.next().await {
            self.shared.go_on()?;
            self.shared.env().reached("read");
            self.take(load, batch?).await?;
        }
        let mut again = repeated(&mut self.prefixes);
        if self.mode == Mode::Append || planted::is(Bug::DuplicateKept) {
            return Ok(HashSet::new());
        }
        again.retain(|p| !self.repeats.prefixes.contains(p));
        Ok(again)
    }

    /// Reads what the slice holds; false where that is more than fits into memory.
    pub(super) async fn hold(&mut self, load: &mut dyn Load) -> Result<bool> {
        if planted::is(Bug::SkipHeld) {
            return Ok(true);
        }
        let plan = &self.shared.job.plan;
        let append = self.mode == Mode::Append;
        if append {
            self.refuse_others().await?;
            // Asked after `begin`: what the load stands on cannot be older than the answer. What
            // was known when the run began can be: a table may have been put back since.
            self.again = self.loaded_before().await?;
        }
        let sink = Taken::new(self.shared.env(), &self.hasher, &self.slice.interval, &plan.columns);
        // Append writes whatever is held, but never twice what an earlier generation wrote.
        let mut sink = if append && !self.again {
            sink
        } else {
            sink.keeping().at_most(self.share).scoped(self.changes.scope.as_ref())
        };
        load.held(&mut sink).await?;
        if sink.is_full() {
            return Ok(false);
        }
        let kept = sink.kept.take().unwrap_or_default();
        let compared = std::mem::take(&mut sink.compared);
        self.digests.before = sink.sum.digest();
        if !append || self.again {
            let of = (&self.slice.slice, &self.slice.interval);
            self.owned = self.evidence.judge(self.shared, of, &kept, &self.digests.before).await?;
        } else {
            self.owned.complete = true;
            self.owned.whole = self.digests.before.count == 0;
        }
        let receipt = self.evidence.receipt.as_ref();
        if self.owned.untouched && receipt.is_some_and(|r| r.undone().is_some()) {
            // Everything that an earlier load wrote is gone.
            self.again = false;
        }
        if let (Some(allowed), basis) = (self.undo(), self.owned.basis) {
            let listed = match (allowed.basis, &self.of_source) {
                (Basis::Source, Some(rows)) => rows.clone(),
                (wanted, _) if basis == Some(wanted) => self.owned.carried.clone(),
                _ => return Err(moved("the slice holds other rows than it did")),
            };
            self.changes.goes = Some(Manifest::of(common(&kept, listed)));
        } else if !append {
            self.held = Held::new(self.changes.part(kept, &sink.inside), compared);
        } else if self.again {
            self.copies = Copies::new(&kept);
        }
        Ok(true)
    }

    /// Whether the target knows of an earlier load of this slice.
    pub(super) async fn loaded_before(&self) -> Result<bool> {
        let target = &self.shared.job.target;
        for plan in self.before.by.iter().chain([&self.slice.plan]) {
            if target.is_committed(plan, &self.slice.slice).await? {
                return Ok(!planted::is(Bug::AppendedTwice));
            }
        }
        Ok(false)
    }

    /// Mode append: an error where another plan has loaded rows of the slice since the run began.
    /// Asked for after `begin`, and again when rows have arrived since: what is committed between
    /// the two is either seen in the table's state or arrives.
    pub(super) async fn refuse_others(&self) -> Result<()> {
        let (shared, slice) = (self.shared, self.slice);
        let known = self.before.commits_of_others.filter(|_| self.undo().is_none());
        let Some(known) = known else { return Ok(()) };
        if shared.job.target.commits_of_others(&slice.plan).await? == known {
            return Ok(());
        }
        let receipts = recover::receipts(shared).await?;
        recover::refuse_overlap(shared, &receipts, &[(slice.slice.clone(), slice.interval)])
    }

    async fn take(&mut self, load: &mut dyn Load, batch: SourceBatch) -> Result<()> {
        let SourceBatch { rows, ordinals, rejects, filtered } = batch;
        let read = rows.num_rows() as u64 + rejects.len() as u64 + filtered;
        self.counts.read += read;
        self.counts.filtered += filtered;
        for reject in rejects {
            self.refuse(reject)?;
        }
        let hashed = hash(self.shared.env(), &mut self.hasher, rows).await?;
        let acts = self.decide(&hashed, &ordinals).await?;
        for act in [Act::Write, Act::Succeed] {
            self.write(load, &hashed, &ordinals, &acts, act).await?;
        }
        self.exceptions.spill().await?;
        self.read.fetch_add(read, Ordering::Relaxed);
        self.shared.job.watch.on(&Happening::Rows(read));
        Ok(())
    }

    fn refuse(&mut self, reject: Reject) -> Result<()> {
        if !planted::is(Bug::RejectUncounted) {
            self.counts.rejected += 1;
        }
        if self.changes.first_rejects.len() < TOLD {
            self.changes.first_rejects.push(format!("{}: {}", reject.place, reject.reason));
        }
        self.exceptions.reject(reject)
    }

    /// For each row what is to be done; counts and lists those with which nothing is.
    async fn decide(&mut self, hashed: &Hashed, ordinals: &[u64]) -> Result<Vec<Act>> {
        let incomplete = incomplete(self, hashed);
        let inside = self.changes.scope.as_ref().map(|s| s.mask(&hashed.rows)).transpose()?;
        let mut refused = Vec::new();
        let mut acts = vec![Act::Leave; hashed.hashes.len()];
        for (row, hashes) in hashed.hashes.iter().enumerate() {
            if let Some(column) = incomplete.as_ref().and_then(|i| i[row].clone()) {
                refused.push((ordinals[row], Some(column), "NULL in a key or in the time"));
                continue;
            }
            if inside.as_ref().is_some_and(|mask| !mask.value(row)) {
                refused.push((ordinals[row], None, "the row lies outside of `write.scope`"));
                continue;
            }
            match self.repeats.fates.get(&ordinals[row]) {
                Some(Fate::Duplicate) => self.counts.duplicate += 1,
                Some(Fate::Rejected) => {
                    refused.push((ordinals[row], None, "unequal rows of the source share its key"));
                }
                None => {
                    self.digests.read.add_row(hashes);
                    acts[row] = self.place(hashed, row)?;
                    match self.mode {
                        Mode::Append if self.again => self.prefixes.push(row_prefix(hashes)),
                        Mode::Append => {}
                        _ => self.prefixes.push(prefix(hashes)),
                    }
                }
            }
        }
        self.refuse_all(refused).await?;
        Ok(acts)
    }

    /// What is to be done with a row that stays, by what is held.
    fn place(&mut self, hashed: &Hashed, row: usize) -> Result<Act> {
        let hashes = &hashed.hashes[row];
        if self.copies.take(hashes) {
            return Ok(self.present(hashes));
        }
        let (mode, compared) = (self.mode, hashed.compared(row));
        if matches!(mode, Mode::Upsert | Mode::Replace) {
            return match self.changes.place(mode, &self.held, hashes, compared) {
                Change::New => Ok(Act::Write),
                Change::Present => Ok(self.present(hashes)),
                Change::Alike => Ok(self.alike(hashes)),
                Change::Successor => Ok(Act::Succeed),
                Change::Conflict(live) => self.conflict(hashed, row, live, false),
            };
        }
        if self.held.is_empty() {
            return Ok(Act::Write);
        }
        match self.held.standing(hashes, compared) {
            Standing::New => Ok(Act::Write),
            Standing::Present => Ok(self.present(hashes)),
            Standing::Alike(live) if self.restores_alike() => self.differs(hashed, row, live),
            Standing::Alike(_) => Ok(self.alike(hashes)),
            Standing::Conflict(_) if planted::is(Bug::ConflictOverwritten) => Ok(Act::Write),
            Standing::Conflict(live) => self.differs(hashed, row, live),
        }
    }

    /// Whether a held row that is only alike is one of ours that was changed, and is to get the
    /// source's values again: no row was only alike when it was loaded.
    fn restores_alike(&self) -> bool {
        let receipt = self.evidence.receipt.as_ref();
        self.before.leave.overwrite.is_some() && receipt.is_some_and(|r| r.digests.alike.count == 0)
    }

    /// Mode fill-missing: a held row has the key and another value. It stays, unless the user
    /// wants otherwise and it is one that may go.
    fn differs(&mut self, hashed: &Hashed, row: usize, live: u128) -> Result<Act> {
        let key = hashed.hashes[row].key;
        let alone = self.held.is_single(key);
        let ours = alone && self.owned.has(&RowHashes { key, row: live });
        let leave = &self.before.leave;
        let restates = ours && leave.restate;
        let listed = self.listed.as_ref().is_none_or(|keys| keys.contains(&key));
        let listed = listed && !planted::is(Bug::OverwritesListed);
        let overwrites = alone && leave.overwrite.is_some() && !listed;
        if !restates && !overwrites {
            return self.conflict(hashed, row, live, ours);
        }
        let new = self.changes.replaced.insert(key);
        self.overwritten += u64::from(new && !restates);
        Ok(Act::Succeed)
    }

    pub(super) fn present(&mut self, hashes: &RowHashes) -> Act {
        self.counts.already_present += 1;
        self.digests.present.add_row(hashes);
        Act::Leave
    }

    /// Present as far as the user compares; the held row stays as it is.
    pub(super) fn alike(&mut self, hashes: &RowHashes) -> Act {
        self.digests.alike.add_row(hashes);
        self.present(hashes)
    }

    pub(super) fn conflict(
        &mut self,
        hashed: &Hashed,
        row: usize,
        live: u128,
        restated: bool,
    ) -> Result<Act> {
        let hashes = &hashed.hashes[row];
        self.counts.conflicting += 1;
        self.digests.conflict_source.add_row(hashes);
        self.digests.conflict_live.add_row(&RowHashes { key: hashes.key, row: live });
        let conflict = conflict(&self.shared.job.plan.columns, hashed, row, live)?;
        let conflict = Conflict { restated, ..conflict };
        self.exceptions.conflict(conflict)?;
        Ok(Act::Leave)
    }

    /// Refuses rows that only we can refuse; the source tells where they stand.
    async fn refuse_all(&mut self, rows: Vec<(u64, Option<String>, &str)>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let job = &self.shared.job;
        let ordinals: Vec<_> = rows.iter().map(|r| r.0).collect();
        let places = job.source.locate(&job.plan.survey, &ordinals).await?;
        for ((_, column, reason), (place, text)) in rows.into_iter().zip(places) {
            self.refuse(Reject { place, column, reason: reason.into(), text })?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        load: &mut dyn Load,
        hashed: &Hashed,
        ordinals: &[u64],
        acts: &[Act],
        act: Act,
    ) -> Result<()> {
        let chosen: Vec<_> = (0..acts.len()).filter(|row| acts[*row] == act).collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let rows = if chosen.len() == acts.len() {
            hashed.rows.clone()
        } else {
            let mask: BooleanArray = acts.iter().map(|a| Some(*a == act)).collect();
            filter_record_batch(&hashed.rows, &mask)
                .map_err(|e| Error::bug("a batch cannot be filtered").because(e))?
        };
        self.shared.env().reached("write");
        let mut refused = match act {
            Act::Succeed => load.write_successors(rows).await?,
            Act::Write | Act::Leave => load.write(rows).await?,
        };
        refused.sort_by_key(|r| r.row);
        let mut refused = refused.into_iter().peekable();
        let mut list = Vec::new();
        for (place, &row) in chosen.iter().enumerate() {
            if let Some(r) = refused.next_if(|r| r.row == place) {
                list.push((ordinals[row], r.column, r.reason));
                self.changes.keep(hashed.hashes[row].key);
            } else {
                match act {
                    Act::Succeed => self.counts.updated += 1,
                    Act::Write | Act::Leave => self.counts.written += 1,
                }
                self.written.add(&hashed.hashes[row], hashed.times[row]);
                if self.shared.job.plan.spec.verify.manifest {
                    self.entries.push(entry(&hashed.hashes[row]));
                }
            }
        }
        let list: Vec<_> = list.iter().map(|(o, c, r)| (*o, c.clone(), r.as_str())).collect();
        self.refuse_all(list).await
    }
}

/// What was told before it was asked for is no longer so.
pub(super) fn moved(what: &str) -> Error {
    Error::new(Kind::Refused, format!("{what} now; nothing was changed"))
        .hint("give the command again: it counts anew what it would do")
}

/// For each row the first of time and key columns that is NULL; none where no column has NULLs.
fn incomplete(attempt: &Attempt<'_>, hashed: &Hashed) -> Option<Vec<Option<String>>> {
    let width = attempt.shared.job.plan.columns.key_width();
    let columns = &hashed.rows.columns()[..width];
    if columns.iter().all(|c| c.null_count() == 0) {
        return None;
    }
    let schema = hashed.rows.schema();
    let name = |row| {
        let null = columns.iter().position(|c| c.is_null(row));
        null.map(|i| schema.field(i).name().clone())
    };
    Some((0..hashed.rows.num_rows()).map(name).collect())
}

fn conflict(columns: &Columns, hashed: &Hashed, row: usize, live: u128) -> Result<Conflict> {
    let text = |column: usize| -> Result<Option<String>> {
        let array = hashed.rows.column(column);
        if array.is_null(row) {
            return Ok(None);
        }
        arrow::util::display::array_value_to_string(array, row)
            .map(Some)
            .map_err(|e| Error::bug("a key cannot be shown as text").because(e))
    };
    let hashes = &hashed.hashes[row];
    Ok(Conflict {
        time: hashed.times[row].and_then(|t| jiff::Timestamp::from_nanosecond(t).ok()),
        key: (1..columns.key_width()).map(text).collect::<Result<_>>()?,
        key_hash: hex(&hashes.key.to_be_bytes()),
        source_hash: hex(&hashes.row.to_be_bytes()),
        live_hash: hex(&live.to_be_bytes()),
        restated: false,
    })
}
