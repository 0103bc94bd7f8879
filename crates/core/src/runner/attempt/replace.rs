//! The modes that change held rows: which of them go, and when that is refused.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef};
use arrow::datatypes::Field;
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;

use super::super::exceptions::Exceptions;
use super::super::heal::Allowed;
use super::super::held::{Copies, Held, Standing};
use super::super::sinks::{Hashed, Summer, hash};
use super::Attempt;
use super::fill::moved;
use crate::columns::Columns;
use crate::connector::{Load, RowPicker};
use crate::digest::{Hasher, RowHashes};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::id::hex;
use crate::manifest::{Manifest, entry};
use crate::planted::{self, Bug};
use crate::reject::Replaced;
use crate::scope::Within;
use crate::spec::{Mode, OnEmptySource, WriteSpec};

/// The share of held rows that must come back where the spec does not say.
const MIN_KEEP: f64 = 0.9;

/// What a replacing load knows of the rows it may take out.
#[derive(Default)]
pub(super) struct Changes {
    /// Mode replace: what may go.
    pub(super) scope: Option<Within>,
    /// Mode replace: rows the slice holds outside of the scope.
    outside: Held,
    /// Keys whose held rows go: in mode upsert, or at the user's wish.
    pub(super) replaced: HashSet<u128>,
    /// An undo: the rows that go.
    pub(super) goes: Option<Manifest>,
    /// Mode replace: held rows that stay, because the source has them.
    stay: Copies,
    /// How many of those there are.
    stays: u64,
    /// The first rejects, for the message: where nothing is committed, no list is kept.
    pub(super) first_rejects: Vec<String>,
}

/// What becomes of a source row in a mode that replaces.
pub(super) enum Change {
    /// No held row has its key.
    New,
    /// Held as it is.
    Present,
    /// Held, but for columns that are not compared.
    Alike,
    /// It takes the place of held rows.
    Successor,
    /// A row outside of the scope has its key: one of them.
    Conflict(u128),
}

impl Changes {
    /// For this way of writing.
    pub(super) fn new(write: &WriteSpec, columns: &Columns) -> Result<Self> {
        let scope = match (write.mode, &write.scope) {
            (Mode::Replace, Some(scope)) => Some(Within::new(scope, columns)?),
            _ => None,
        };
        Ok(Changes { scope, ..Changes::default() })
    }

    /// Parts what is held into what lies in the scope, which is given back, and the rest.
    pub(super) fn part(&mut self, kept: Vec<RowHashes>, inside: &[bool]) -> Vec<RowHashes> {
        if self.scope.is_none() {
            return kept;
        }
        let mut rest = Vec::new();
        let mut within = Vec::new();
        for (hashes, inside) in kept.into_iter().zip(inside) {
            if *inside { within.push(hashes) } else { rest.push(hashes) }
        }
        self.outside = Held::new(rest, Vec::new());
        within
    }

    /// How a source row stands, in mode upsert or replace.
    pub(super) fn place(
        &mut self,
        mode: Mode,
        held: &Held,
        hashes: &RowHashes,
        compared: u128,
    ) -> Change {
        if mode == Mode::Replace {
            if let Standing::Conflict(live) = self.outside.standing(hashes, compared) {
                return Change::Conflict(live);
            }
            return match held.standing(hashes, compared) {
                Standing::New => Change::New,
                Standing::Conflict(_) | Standing::Alike(_) => Change::Successor,
                Standing::Present => {
                    self.stay.add(hashes.row);
                    self.stays += 1;
                    Change::Present
                }
            };
        }
        let alone = held.is_single(hashes.key);
        match held.standing(hashes, compared) {
            Standing::New => Change::New,
            Standing::Present if alone => Change::Present,
            Standing::Alike(_) if alone => Change::Alike,
            _ => {
                self.replaced.insert(hashes.key);
                Change::Successor
            }
        }
    }

    /// The target did not take a successor: what is held stays.
    pub(super) fn keep(&mut self, key: u128) {
        self.replaced.remove(&key);
    }
}

impl Attempt<'_> {
    /// Takes out what the source replaces, or refuses the slice.
    pub(super) async fn replace(&mut self, load: &mut dyn Load) -> Result<()> {
        let write = &self.shared.job.plan.spec.write;
        // Not sooner: rows of the source that share a key are seen before they are decided.
        if let Some(allowed) = self.before.leave.overwrite
            && self.overwritten > allowed.rows
        {
            let (now, then) = (self.overwritten, allowed.rows);
            return Err(moved(&format!("{now} rows of it are changed, not {then}")));
        }
        let goes = match self.mode {
            _ if self.changes.goes.is_some() => {
                self.changes.goes.as_ref().is_some_and(|goes| !goes.is_empty())
            }
            Mode::Upsert | Mode::FillMissing => !self.changes.replaced.is_empty(),
            Mode::Replace => self.may_replace(write)? && self.held.len() > self.changes.stays,
            Mode::Append => false,
        };
        if !goes {
            return Ok(());
        }
        let mut picker = Picker {
            env: self.shared.env(),
            hasher: self.hasher.clone(),
            changes: &mut self.changes,
            sum: Summer::new(&self.slice.interval),
            carried: &mut self.owned.carried,
            displaced: 0,
            // Rows that were changed by hand are lost with the load that puts others in their
            // place; in the modes that replace, that is what was asked for.
            listed: (self.mode == Mode::FillMissing).then_some(&mut self.exceptions),
        };
        self.shared.env().reached("remove");
        load.remove(&mut picker).await?;
        let (removed, displaced) = (picker.sum.digest(), picker.displaced);
        self.displaced = displaced;
        if !planted::is(Bug::RemovedUncounted) {
            self.digests.removed = removed;
        }
        Ok(())
    }

    /// An undo: whether no more goes than was told.
    pub(super) fn pick_ours(&mut self, allowed: &Allowed) -> Result<()> {
        let rows = self.changes.goes.as_ref().map_or(0, Manifest::len);
        if rows > allowed.rows {
            return Err(moved(&format!("{rows} rows of it would go, not {}", allowed.rows)));
        }
        Ok(())
    }

    /// Whether the scope may be replaced; an error where that could be an accident.
    fn may_replace(&self, write: &WriteSpec) -> Result<bool> {
        let (counts, held) = (&self.counts, self.held.len());
        let refused = |what: String| Error::new(Kind::Refused, what);
        if counts.rejected > 0 {
            let (rows, first) = (counts.rejected, self.changes.first_rejects.join("; "));
            let more = rows.saturating_sub(self.changes.first_rejects.len() as u64);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return Err(refused(format!(
                "mode replace commits nothing while rows are refused: {rows}, {first}{more}"
            ))
            .hint("mend those rows, or use mode `upsert`"));
        }
        let unplaced = self.shared.job.plan.survey.unplaced;
        if unplaced > 0 && held > self.changes.stays {
            let lines = if unplaced == 1 { "line has" } else { "lines have" };
            let what = format!(
                "{unplaced} {lines} no time that can be read, and may belong to rows that would go"
            );
            return Err(refused(what).hint(
                "mode replace takes nothing out while lines are refused: mend them \
                 (`retrofill rejects list` shows them), or use mode `upsert`",
            ));
        }
        if counts.read == 0 {
            return match write.on_empty_source {
                OnEmptySource::Clear => Ok(true),
                OnEmptySource::Skip => Ok(false),
                OnEmptySource::Fail if held == 0 => Ok(false),
                OnEmptySource::Fail => Err(refused(format!(
                    "the source holds no row of the slice, the target {held} in the scope"
                ))
                .hint("`write.on_empty_source` may say skip or clear")),
            };
        }
        let accepted = counts.written + counts.updated + counts.already_present;
        let share = write.min_keep.unwrap_or(MIN_KEEP);
        if (accepted as f64) < share * held as f64 {
            return Err(refused(format!(
                "{accepted} rows would replace {held}, fewer than `write.min_keep` = {share} allows"
            ))
            .hint("a source that lost rows must not delete them; a lower `min_keep` does it"));
        }
        Ok(true)
    }
}

/// Picks the rows that go, and sums them up.
struct Picker<'a> {
    env: &'a dyn Env,
    hasher: Hasher,
    changes: &'a mut Changes,
    sum: Summer,
    /// Held rows that are ours.
    carried: &'a mut Manifest,
    /// How many go that are not.
    displaced: u64,
    /// Takes every row in whose place another one is put.
    listed: Option<&'a mut Exceptions>,
}

impl Picker<'_> {
    fn goes(&mut self, hashes: &RowHashes, inside: Option<bool>) -> bool {
        if let Some(goes) = &mut self.changes.goes {
            return goes.take(entry(hashes)) || planted::is(Bug::UndoTakesLive);
        }
        match inside {
            Some(inside) if planted::is(Bug::ScopeIgnored) || inside => {
                !self.changes.stay.take(hashes)
            }
            Some(_) => false,
            None => self.changes.replaced.contains(&hashes.key),
        }
    }

    /// Notes a row that goes.
    fn note(&mut self, hashed: &Hashed, row: usize) -> Result<()> {
        let hashes = &hashed.hashes[row];
        self.sum.add(hashes, hashed.times[row]);
        let ours = self.carried.take(entry(hashes));
        self.displaced += u64::from(!ours);
        match &mut self.listed {
            Some(list) if self.changes.goes.is_none() && !planted::is(Bug::OldValuesLost) => list
                .replaced(Replaced {
                    ours,
                    columns: cells(&hashed.rows, row)?,
                    key_hash: hex(&hashes.key.to_be_bytes()),
                    row_hash: hex(&hashes.row.to_be_bytes()),
                }),
            _ => Ok(()),
        }
    }
}

/// The columns of a row, as text.
fn cells(rows: &RecordBatch, row: usize) -> Result<Vec<(String, Option<String>)>> {
    let schema = rows.schema();
    let cell = |(field, column): (&Arc<Field>, &ArrayRef)| {
        let value = if column.is_null(row) {
            None
        } else {
            let text = array_value_to_string(column, row);
            Some(text.map_err(|e| Error::bug("a value cannot be shown as text").because(e))?)
        };
        Ok((field.name().clone(), value))
    };
    schema.fields().iter().zip(rows.columns()).map(cell).collect()
}

#[async_trait]
impl RowPicker for Picker<'_> {
    async fn pick(&mut self, rows: RecordBatch) -> Result<Vec<bool>> {
        let inside = self.changes.scope.as_ref().map(|s| s.mask(&rows)).transpose()?;
        let hashed = hash(self.env, &mut self.hasher, rows).await?;
        let mut goes = Vec::with_capacity(hashed.hashes.len());
        for (row, hashes) in hashed.hashes.iter().enumerate() {
            let go = self.goes(hashes, inside.as_ref().map(|mask| mask.value(row)));
            if go {
                self.note(&hashed, row)?;
            }
            goes.push(go);
        }
        if let Some(list) = &mut self.listed {
            list.spill().await?;
        }
        Ok(goes)
    }
}
