//! What must be there in the end, found out without the runner: from the source's lines and the
//! rows of others.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Event, Fold, SliceRecord, State};
use retrofill_core::memory::{Line, Row, Value};
use retrofill_core::plan::Plan;
use retrofill_core::receipt::Counts;
use retrofill_core::reject::Exception;
use retrofill_core::spec::{Mode, OnDuplicate, OnEmptySource};

use crate::env::Files;
use crate::setting::{Setting, UNLUCKY, alike, key, planned};

type Check = Result<(), String>;

/// What must become of the source's lines of one slice.
#[derive(Default)]
struct Fate {
    read: u64,
    duplicates: u64,
    /// Line numbers of rejects, from 1.
    rejects: BTreeSet<u64>,
    /// Rows that must be in the target.
    present: Vec<Row>,
    /// Rows that others have, as far as they are compared.
    equal: Vec<Row>,
    /// Keys whose row of others stays.
    conflicts: BTreeSet<String>,
    /// Unequal repetitions where that fails the slice.
    doomed: bool,
}

pub(crate) fn time(row: &Row) -> Timestamp {
    let Value::Instant(second) = row[0] else { panic!("a row has a time") };
    Timestamp::from_second(second).unwrap()
}

/// Decides for every line of an interval.
fn fate(setting: &Setting, interval: &Interval, others: &BTreeMap<String, Vec<Row>>) -> Fate {
    let mut fate = Fate::default();
    let mut groups: BTreeMap<String, Vec<(u64, Row)>> = BTreeMap::new();
    for (number, line) in (1..).zip(&setting.lines) {
        match line {
            Line::Bad(at, _) if interval.contains(*at) => {
                fate.read += 1;
                fate.rejects.insert(number);
            }
            Line::Row(row) if interval.contains(time(&planned(row))) => {
                let row = planned(row);
                fate.read += 1;
                if !setting.keyed() {
                    fate.place(setting, number, row, None);
                } else if row[1] == Value::Null {
                    fate.rejects.insert(number);
                } else {
                    groups.entry(key(&row)).or_default().push((number, row));
                }
            }
            _ => {}
        }
    }
    for (key, group) in groups {
        let equal = group.iter().all(|(_, row)| *row == group[0].1);
        let rule = setting.spec.rows.on_duplicate;
        let stays = match rule {
            _ if equal => 0,
            OnDuplicate::First => 0,
            OnDuplicate::Last => group.len() - 1,
            OnDuplicate::Reject => {
                fate.rejects.extend(group.iter().map(|(number, _)| number));
                continue;
            }
            OnDuplicate::Fail => {
                fate.doomed = true;
                continue;
            }
        };
        fate.duplicates += group.len() as u64 - 1;
        let (number, row) = group[stays].clone();
        let others = others.get(&key);
        match setting.spec.write.mode {
            // Whatever else had the key was taken out; an equal row may have come since.
            mode @ (Mode::Upsert | Mode::Replace) => {
                let stays =
                    |o: &&Row| **o == row || (mode == Mode::Replace && !setting.in_scope(o));
                let rest: Vec<_> = others.into_iter().flatten().filter(stays).cloned().collect();
                let rest = Some(&rest).filter(|rest| !rest.is_empty());
                fate.place(setting, number, row, rest);
            }
            _ => fate.place(setting, number, row, others),
        }
    }
    fate
}

impl Fate {
    fn place(&mut self, setting: &Setting, number: u64, row: Row, others: Option<&Vec<Row>>) {
        let stands = |other: &Row| alike(&setting.spec, other, &row);
        match others {
            Some(others) if others.iter().any(stands) => self.equal.push(row),
            Some(_) => {
                self.conflicts.insert(key(&row));
            }
            None if row[3] == Value::Integer(UNLUCKY) => {
                self.rejects.insert(number);
            }
            None => self.present.push(row),
        }
    }
}

/// The rows of others that are left once a slice is committed.
pub(crate) fn left(setting: &Setting, interval: &Interval, others: Vec<Row>) -> Vec<Row> {
    let fate = fate(setting, interval, &BTreeMap::new());
    let landed: BTreeSet<_> = fate.present.iter().map(key).collect();
    let table = setting.table.rows();
    let gave_way = |row: &Row| {
        interval.contains(time(row)) && setting.others.yields(row) && !table.contains(row)
    };
    let skipped = setting.spec.write.on_empty_source == OnEmptySource::Skip && fate.read == 0;
    let goes = |row: &Row| match setting.spec.write.mode {
        Mode::Upsert => landed.contains(&key(row)),
        Mode::Replace => interval.contains(time(row)) && setting.in_scope(row) && !skipped,
        Mode::FillMissing => gave_way(row),
        Mode::Append => false,
    };
    others.into_iter().filter(|row| !goes(row)).collect()
}

/// What the source has for each slice of the plan, against the rows of others.
fn fates(setting: &Setting, plan: &Plan) -> Vec<Fate> {
    let known = by_key(&setting.others.now());
    plan.slices.iter().map(|s| fate(setting, &s.interval, &known)).collect()
}

/// Rows of the source that these lost halves have left in slices that have failed.
pub(crate) fn left_over(
    setting: &Setting,
    slices: &[SliceRecord],
    halves: &[Interval],
) -> Vec<Row> {
    let known = by_key(&setting.others.now());
    let failed = slices.iter().filter(|s| s.state == State::Failed);
    let present = failed.flat_map(|s| fate(setting, &s.interval, &known).present);
    let rows = setting.table.rows();
    let lost = |row: &Row| halves.iter().any(|half| half.contains(time(row)));
    present.filter(|row| lost(row) && rows.contains(row)).collect()
}

/// Rows of the source that are in the table, alone with their key, and the rows of others that
/// stay because they have a key of the source.
pub(crate) fn loaded(setting: &Setting, plan: &Plan) -> (Vec<Row>, Vec<Row>) {
    let rows = setting.table.rows();
    let alone = |row: &Row| rows.iter().filter(|r| key(r) == key(row)).count() == 1;
    let fates = fates(setting, plan);
    let ours = fates.iter().flat_map(|f| f.present.iter().chain(&f.equal));
    let ours = ours.filter(|row| rows.contains(row) && alone(row)).cloned().collect();
    let conflict = |row: &&Row| fates.iter().any(|f| f.conflicts.contains(&key(row)));
    (ours, rows.iter().filter(conflict).cloned().collect())
}

/// The row of the source that belongs in the place of this one of ours.
pub(crate) fn wanted(setting: &Setting, plan: &Plan, row: &Row) -> Option<Row> {
    let fates = fates(setting, plan);
    let mut present = fates.iter().flat_map(|f| &f.present);
    present.find(|r| key(r) == key(row)).cloned()
}

/// Rows in the table that are neither of others nor what the source has now: loads of ours wrote
/// them when it had other values.
pub(crate) fn overtaken(setting: &Setting, plan: &Plan, rows: &[Row]) -> Vec<Row> {
    let (others, fates) = (setting.others.now(), fates(setting, plan));
    let known = |row: &&Row| others.contains(row) || fates.iter().any(|f| f.present.contains(row));
    rows.iter().filter(|row| !known(row)).cloned().collect()
}

fn by_key(rows: &[Row]) -> BTreeMap<String, Vec<Row>> {
    let mut map: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        map.entry(key(row)).or_default().push(row.clone());
    }
    map
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Check {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {wanted:?}"))
}

/// All that the judgement needs.
pub(crate) struct Oracle<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) plan: &'a Plan,
    /// A plan made again after the loss of everything has another salt.
    pub(crate) salts: &'a [[u8; 16]],
    pub(crate) files: &'a Files,
}

impl Oracle<'_> {
    /// The table holds the rows of others and exactly what the source adds to them, and the slices
    /// say so.
    pub(crate) fn judge(&self, slices: &[SliceRecord]) -> Check {
        let Oracle { setting, plan, .. } = *self;
        let others = setting.others.now();
        let known = by_key(&others);
        let mut wanted: Vec<_> = others.iter().map(|row| format!("{row:?}")).collect();
        let mut covered = plan.range.start();
        for slice in slices.iter().filter(|s| s.state != State::Split) {
            if slice.interval.start() != covered {
                return Err(format!("slices do not join at {covered}"));
            }
            covered = slice.interval.end();
            let fate = fate(setting, &slice.interval, &known);
            if fate.doomed {
                same(&format!("doomed slice {}", slice.id), &slice.state, &State::Failed)?;
                continue;
            }
            self.judge_slice(slice, &fate).map_err(|e| format!("slice {}: {e}", slice.id))?;
            wanted.extend(fate.present.iter().map(|row| format!("{row:?}")));
        }
        same("end of the slices", &covered, &plan.range.end())?;
        let mut found: Vec<_> = setting.table.rows().iter().map(|row| format!("{row:?}")).collect();
        found.sort();
        wanted.sort();
        let difference = |a: &[String], b: &[String]| {
            let mut rest = b.to_vec();
            let extra = a.iter().filter(|row| match rest.iter().position(|r| r == *row) {
                Some(at) => {
                    rest.swap_remove(at);
                    false
                }
                None => true,
            });
            extra.cloned().collect::<Vec<_>>()
        };
        if found != wanted {
            return Err(format!(
                "the table is wrong: missing {:?}, too much {:?}",
                difference(&wanted, &found),
                difference(&found, &wanted)
            ));
        }
        receipts(setting, plan)
    }

    fn judge_slice(&self, slice: &SliceRecord, fate: &Fate) -> Check {
        let Oracle { setting, plan, salts, files } = *self;
        let state = if fate.read == 0 { State::Empty } else { State::Verified };
        same("state", &slice.state, &state)?;
        let outcome = slice.outcome.as_ref().ok_or("it is done without an outcome")?;
        let counts = outcome.counts;
        counts.check().map_err(|e| e.to_string())?;
        let landed =
            fate.read - fate.duplicates - fate.rejects.len() as u64 - fate.conflicts.len() as u64;
        let wanted = Counts {
            read: fate.read,
            written: counts.written,
            updated: counts.updated,
            already_present: landed - (counts.written + counts.updated).min(landed),
            conflicting: fate.conflicts.len() as u64,
            duplicate: fate.duplicates,
            rejected: fate.rejects.len() as u64,
            ..Counts::default()
        };
        same("counts", &counts, &wanted)?;
        let newest = setting.table.newest();
        let receipt = newest
            .receipts
            .iter()
            .find(|r| r.is_for(&plan.id, &slice.id, outcome.generation))
            .ok_or("its receipt is not in the target")?
            .latest();
        if !salts.contains(&receipt.salt) {
            return Err("its receipt has a salt that no plan had".into());
        }
        same("counts of the receipt", &receipt.counts, &counts)?;
        let (mut rejects, mut conflicts) = (BTreeSet::new(), BTreeSet::new());
        let listed = receipt.exceptions.as_ref().map(|name| {
            files.lock().unwrap().get(name).cloned().ok_or(format!("the list {name} is not there"))
        });
        let listed = listed.transpose()?.unwrap_or_default();
        for text in String::from_utf8(listed).map_err(|e| e.to_string())?.lines() {
            match serde_json::from_str(text).map_err(|e| e.to_string())? {
                Exception::RejectV1(reject) => rejects.insert(reject.place.line.unwrap_or(0)),
                Exception::ReplacedV1(_) => false,
                Exception::ConflictV1(conflict) => {
                    let second = conflict.time.map_or(0, Timestamp::as_second);
                    let text = conflict.key[0].clone().map_or(Value::Null, Value::Text);
                    conflicts.insert(key(&vec![Value::Instant(second), text]))
                }
            };
        }
        same("listed rejects", &rejects, &fate.rejects)?;
        same("listed conflicts", &conflicts, &fate.conflicts)
    }
}

/// No two receipts are for one load.
fn receipts(setting: &Setting, plan: &Plan) -> Check {
    let mut seen = BTreeSet::new();
    for receipt in &setting.table.newest().receipts {
        let r = receipt.latest();
        same("plan of a receipt", &r.plan, &plan.id)?;
        if !seen.insert((r.slice.clone(), r.generation)) {
            return Err(format!("slice {} generation {} has two receipts", r.slice, r.generation));
        }
    }
    Ok(())
}

/// What the journal shows is the fold of what it holds.
pub(crate) fn folds(entries: &[retrofill_core::ledger::Entry], slices: &[SliceRecord]) -> Check {
    let events: Vec<&Event> = entries.iter().map(|e| &e.event).collect();
    let fold = Fold::of(events).map_err(|e| e.to_string())?;
    same("the journal's slices", &slices.to_vec(), &fold.slices.into_values().collect())
}
