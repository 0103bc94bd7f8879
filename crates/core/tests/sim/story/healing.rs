//! After done: what was loaded is undone, changed rows get the source's values again, and a source
//! that changed its rows is followed where the held ones are ours. With faults, kills and stops
//! on the way; the judgement is the same as for a load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use retrofill_core::error::Result as CoreResult;
use retrofill_core::id::SliceId;
use retrofill_core::ledger::{Holder, SliceRecord, State};
use retrofill_core::memory::{Line, Row, Value};
use retrofill_core::receipt::Receipt;
use retrofill_core::reject::Exception;
use retrofill_core::runner::{self, Allowed, Job, Options, Prospect};
use retrofill_core::spec::{Mode, OnDuplicate};

use super::{Mishap, POLLS, Story, salt};
use crate::env::Step;
use crate::oracle;
use crate::setting::{key, planned};

/// What is asked for before rows are taken out.
type Told = BTreeMap<SliceId, Allowed>;

impl Story {
    /// One of the three, in some seeds.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        let setting = Arc::clone(&self.setting);
        let fills = setting.spec.write.mode == Mode::FillMissing;
        let fails = setting.spec.rows.on_duplicate == OnDuplicate::Fail;
        let what = match self.spare.below(4) {
            _ if self.spare.permille(600) => return Ok(()),
            0 if fills && !fails => self.overwrite().map_err(|e| format!("overwrite: {e}")),
            1 | 2 if fills && !fails => self.restate().map_err(|e| format!("restate: {e}")),
            _ => self.undo().map_err(|e| format!("undo: {e}")),
        };
        setting.others.be_gentle(false);
        what
    }

    fn met(&mut self, what: Mishap) {
        self.mishaps[what as usize] += 1;
        self.chaos.note(|| format!("{what:?}"));
    }

    /// Runs with these options, made anew each time, in a world where things go wrong; the last
    /// time in a calm one.
    fn at_last(
        &mut self,
        mut options: impl FnMut(&mut Story) -> Result<Options, String>,
    ) -> Result<Vec<SliceRecord>, String> {
        for _ in 0..self.spare.below(3) {
            let options = options(self)?;
            self.chaos.stir(self.spare.below(8) as u32);
            let run = self.launch(options);
            self.disturb(run)?;
            self.calm()?;
        }
        let wish = options(self)?;
        let report = self.run_calmly(wish)?;
        // Two readings damaged in a row leave a slice mismatched; a person selects it.
        if !self.is_mismatched(&report)? {
            return Ok(report.slices);
        }
        let wish = Options { select: vec![State::Mismatched], ..options(self)? };
        Ok(self.run_calmly(wish)?.slices)
    }

    /// Asks the runner something that it answers without a change.
    fn look<F>(&mut self, ask: fn(Job, Options) -> F) -> Result<Vec<Prospect>, String>
    where
        F: Future<Output = CoreResult<Vec<Prospect>>> + Send + 'static,
    {
        let process = self.world.start();
        let pid = process as u32;
        let holder = Holder { host: "sim".into(), boot: "1".into(), pid, started: "0".into() };
        self.world.pass(std::time::Duration::from_secs(11));
        let job = self.job(process, holder.clone());
        let result = Arc::new(Mutex::new(None));
        let give = Arc::clone(&result);
        let work = async move {
            let found = ask(job, Options::default()).await;
            *give.lock().unwrap() = Some(found);
        };
        self.world.spawn(process, Box::pin(work));
        for _ in 0..POLLS {
            if let Some(found) = result.lock().unwrap().take() {
                self.world.kill(process);
                self.journal.bury(&holder);
                return found.map_err(|e| format!("a look failed: {e:?}"));
            }
            if self.world.step() == Step::Idle {
                return Err("a look hangs".into());
            }
        }
        Err("a look does not end".into())
    }

    /// What we wrote goes from some slices, and nothing else; then it is loaded again.
    fn undo(&mut self) -> Result<(), String> {
        let lines: Vec<_> = self.setting.lines.iter().filter_map(as_row).collect();
        let alike = self.setting.others.now().iter().any(|row| lines.contains(row));
        if !self.setting.keyed() && alike {
            // Rows without a key that equal those of others cannot be told apart any more.
            return Ok(());
        }
        let part = *self.spare.pick(&[300, 1000]);
        let mut refused = false;
        let slices = self.at_last(|story| {
            let mut told = Told::new();
            for prospect in story.look(runner::undoable)? {
                refused |= prospect.verdict.is_err();
                if let (Ok(allowed), true) = (prospect.verdict, story.spare.permille(part)) {
                    told.insert(prospect.record.id, allowed);
                }
            }
            if told.is_empty() {
                // An empty wish would be one to load.
                let select = vec![State::Loaded];
                return Ok(Options { select, ..Options::default() });
            }
            Ok(Options { undo: told, ..Options::default() })
        })?;
        if refused {
            self.met(Mishap::UndoRefused);
        }
        self.setting.others.forget_twins(&self.setting.table);
        let undone = |s: &&SliceRecord| s.state == State::Stale && s.outcome.is_none();
        for slice in slices.iter().filter(undone) {
            self.met(Mishap::Undone);
            let inside = |row: &Row| slice.interval.contains(oracle::time(row));
            let sorted = |rows: Vec<Row>| {
                let mut rows: Vec<_> =
                    rows.into_iter().filter(inside).map(|r| format!("{r:?}")).collect();
                rows.sort();
                rows
            };
            let left = sorted(self.setting.table.rows());
            let others = sorted(self.setting.others.now());
            // In the modes that replace, a row of others that equals the source's counts as taken
            // over; it stays.
            let replaces = self.setting.spec.write.replaces();
            let whole = replaces && others.iter().all(|row| left.contains(row));
            if left != others && !whole {
                return Err(format!("slice {} is left with {left:?}, not {others:?}", slice.id));
            }
        }
        self.settled()
    }

    /// Loads what is left to do, and judges.
    fn settled(&mut self) -> Result<(), String> {
        let slices = self.finish()?;
        self.judge(&slices)?;
        self.nothing_more(&slices)?;
        self.verify()
    }

    /// Another hand changes rows that were loaded, and one that is a conflict; the first get the
    /// source's values again.
    fn overwrite(&mut self) -> Result<(), String> {
        self.setting.others.be_gentle(true);
        let (mut loaded, conflicts) = oracle::loaded(&self.setting, &self.plan);
        let mut yielding = Vec::new();
        for _ in 0..self.spare.between(1, 3) {
            if !loaded.is_empty() {
                let row = loaded.swap_remove(self.spare.below(loaded.len()));
                yielding.push(self.alter(&row, 40));
            }
        }
        if let Some(row) = conflicts.first() {
            self.alter(row, 41);
        }
        self.setting.others.yield_to(&yielding);
        let slices = self.at_last(|story| {
            let found = story.look(runner::changed)?;
            let told = found.into_iter().filter_map(|p| Some((p.record.id, p.verdict.ok()?)));
            Ok(Options { overwrite: told.collect(), ..Options::default() })
        })?;
        let rows = self.setting.table.rows();
        if let Some(left) = yielding.iter().find(|row| rows.contains(row)) {
            return Err(format!("{left:?} was changed and is still there"));
        }
        self.judge(&slices)?;
        self.journalled(&yielding)?;
        if !yielding.is_empty() {
            self.met(Mishap::Overwritten);
        }
        self.settled()
    }

    /// Another hand gives this row another value; gives the new row.
    fn alter(&mut self, row: &Row, value: i64) -> Row {
        let mut new = row.clone();
        new[3] = Value::Integer(value);
        let (table, others) = (&self.setting.table, &self.setting.others);
        table.rewrite(|rows| {
            let next = rows.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
            if let Some(at) = rows.iter().position(|(_, r)| r == row) {
                rows.remove(at);
            }
            rows.push((next, new.clone()));
        });
        let mut all = others.now();
        if let Some(at) = all.iter().position(|r| r == row) {
            all.remove(at);
        }
        all.push(new.clone());
        others.set(table.version(), all);
        new
    }

    /// The source gives rows that were loaded other values: those of ours follow, no others.
    fn restate(&mut self) -> Result<(), String> {
        self.setting.others.be_gentle(true);
        let (mut loaded, _) = oracle::loaded(&self.setting, &self.plan);
        let mut lines = self.setting.lines.clone();
        for _ in 0..self.spare.between(1, 3) {
            if loaded.is_empty() {
                break;
            }
            let row = loaded.swap_remove(self.spare.below(loaded.len()));
            for line in &mut lines {
                if let Line::Row(values) = line
                    && key(&planned(values)) == key(&row)
                {
                    values[1] = Value::Integer(50);
                }
            }
        }
        let mut setting = (*self.setting).clone();
        setting.lines.clone_from(&lines);
        setting.source.change(|now| *now = lines);
        self.setting = Arc::new(setting);
        self.plan = Arc::new(self.setting.plan(salt(&mut self.spare)));
        self.salts.push(self.plan.salt);
        let must = self.provable();
        if self.spare.permille(500) {
            self.run_calmly(Options::default())?;
        }
        let before = self.setting.table.rows();
        let wish = Options { restate: true, ..Options::default() };
        let slices = self.at_last(|_| Ok(wish.clone()))?;
        let after = self.setting.table.rows();
        let mut others = self.setting.others.now();
        let mut applied = Vec::new();
        for row in before.iter().filter(|row| !others.contains(row)) {
            let now = after.iter().filter(|r| key(r) == key(row)).collect::<Vec<_>>();
            let wanted = oracle::wanted(&self.setting, &self.plan, row);
            if now == [row] && wanted.as_ref().is_some_and(|w| w != row) {
                if must.contains(&key(row)) {
                    return Err(format!("{row:?} is provably ours and was not restated"));
                }
                self.mishaps[Mishap::RestateLeft as usize] += 1;
            } else if now != [row] {
                applied.push(row.clone());
            }
        }
        // What could not be shown to be ours stays, as if it were of others.
        let left = oracle::overtaken(&self.setting, &self.plan, &after);
        others.extend(left);
        self.setting.others.set(self.setting.table.version(), others);
        if !applied.is_empty() {
            self.met(Mishap::Restated);
        }
        self.judge(&slices)?;
        self.journalled(&applied)?;
        self.settled()
    }

    /// Keys of rows of ours in slices whose manifest is whole.
    fn provable(&self) -> BTreeSet<String> {
        let newest = self.setting.table.newest();
        let receipts: Vec<_> = newest.receipts.iter().map(Receipt::latest).collect();
        let others = self.setting.others.now();
        let listed = |row: &&Row| {
            let of = receipts.iter().filter(|r| r.interval.contains(oracle::time(row)));
            // A slice may have been halved since: the smallest speaks.
            let newest = of.max_by_key(|r| (r.slice.as_str().len(), r.generation));
            let own = newest.and_then(|r| r.own.as_ref());
            own.and_then(|own| own.manifest.as_ref()).is_some_and(|m| !m.partial)
        };
        let rows = self.setting.table.rows();
        rows.iter().filter(|r| !others.contains(r)).filter(listed).map(key).collect()
    }

    /// Every value that gave way stands in a list.
    fn journalled(&self, gone: &[Row]) -> Result<(), String> {
        let files = self.files.lock().unwrap();
        let mut listed = BTreeSet::new();
        for (_, bytes) in files.iter().filter(|(name, _)| !name.contains(".part")) {
            for line in String::from_utf8_lossy(bytes).lines() {
                if let Ok(Exception::ReplacedV1(replaced)) = serde_json::from_str(line) {
                    let values = replaced.columns.iter().map(|(_, v)| v.clone());
                    listed.insert(values.collect::<Vec<_>>());
                }
            }
        }
        let text = |value: &Value| match value {
            Value::Instant(_) => None,
            Value::Text(text) => Some(text.clone()),
            Value::Integer(n) => Some(n.to_string()),
            _ => None,
        };
        for row in gone {
            let values: Vec<_> = row.iter().map(text).collect();
            if !listed.iter().any(|l| l[1..] == values[1..]) {
                return Err(format!("{row:?} gave way, and no list has it: {listed:?}"));
            }
        }
        Ok(())
    }
}

fn as_row(line: &Line) -> Option<Row> {
    match line {
        Line::Row(row) => Some(planned(row)),
        _ => None,
    }
}
