//! What happens to table, ledger and source between two runs.

use std::sync::Arc;

use futures::executor::block_on;
use retrofill_core::ledger::Journal as _;
use retrofill_core::memory::{Line, Value};

use super::{Run, Story, journal, salt};
use crate::setting::vandal;

/// What happens between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    Restored,
    Dropped,
    LedgerLost,
    ReceiptsLost,
    Rewritten,
    RowsLost,
    SourceChanged,
    SourceChangedBack,
    Stopped,
    AskedToEnd,
    ListsLost,
    Undone,
    UndoRefused,
    Overwritten,
    Restated,
    RestateLeft,
}

impl Mishap {
    pub(crate) const ALL: [Mishap; 16] = [
        Mishap::Restored,
        Mishap::Dropped,
        Mishap::LedgerLost,
        Mishap::ReceiptsLost,
        Mishap::Rewritten,
        Mishap::RowsLost,
        Mishap::SourceChanged,
        Mishap::SourceChangedBack,
        Mishap::Stopped,
        Mishap::AskedToEnd,
        Mishap::ListsLost,
        Mishap::Undone,
        Mishap::UndoRefused,
        Mishap::Overwritten,
        Mishap::Restated,
        Mishap::RestateLeft,
    ];
}

impl Story {
    pub(super) fn mishap(&mut self) {
        let alone = self.stopped.iter().all(Run::is_over);
        if alone && self.spare.permille(150) {
            self.mishaps[Mishap::ListsLost as usize] += 1;
            self.chaos.note(|| format!("{:?}", Mishap::ListsLost));
            self.files.lock().unwrap().retain(|name, _| !name.starts_with("rejects/"));
        }
        let mishap = Mishap::ALL[self.dice.below(8)];
        let table = &self.setting.table;
        match mishap {
            Mishap::Restored => {
                self.excuse();
                let version = self.dice.below(table.version() + 1);
                let then = self.setting.others.at(version);
                table.restore(version);
                self.setting.others.set(table.version(), then);
            }
            Mishap::Dropped => {
                self.excuse();
                table.drop_table();
                self.setting.others.set(table.version(), Vec::new());
            }
            Mishap::LedgerLost if alone => {
                self.replan();
                self.orphan();
                self.journal = journal(&self.world);
                self.rules.forget_leases();
            }
            Mishap::ReceiptsLost => {
                let dice = &mut self.dice;
                table.lose_receipts(|_| dice.permille(600));
            }
            Mishap::Rewritten => table.rewrite(|_| {}),
            Mishap::RowsLost => {
                let keyed = self.setting.keyed();
                vandal(&mut self.dice, table, &self.setting.others, keyed);
            }
            Mishap::SourceChanged if !self.changed => {
                self.changed = true;
                let at = self.dice.below(self.setting.lines.len());
                self.setting.source.change(|lines| {
                    if let Line::Row(row) = &mut lines[at] {
                        row[1] = Value::Integer(99);
                    }
                });
            }
            Mishap::SourceChangedBack if self.changed => self.change_back(),
            _ => return,
        }
        self.mishaps[mishap as usize] += 1;
        self.chaos.note(|| format!("{mishap:?}"));
    }

    fn excuse(&self) {
        self.stopped.iter().for_each(|run| self.rules.excuse(run.process));
    }

    pub(super) fn change_back(&mut self) {
        self.changed = false;
        let lines = self.setting.lines.clone();
        self.setting.source.change(|now| *now = lines);
    }

    /// Keeps in mind the halves of slices: a slice that fails as a whole later does not know what
    /// they have loaded.
    fn orphan(&mut self) {
        let slices = block_on(self.journal.slices(&self.plan.id)).expect("a journal in memory");
        let halves = slices.iter().filter(|s| s.id.parent().is_some());
        self.orphans.extend(halves.map(|s| s.interval));
    }

    /// Makes the plan again, as after the loss of the state dir.
    fn replan(&mut self) {
        self.change_back();
        while self.server.is_busy() {
            self.world.step();
        }
        let id = self.plan.id.clone();
        self.plan = Arc::new(self.setting.plan(salt(&mut self.dice)));
        self.salts.push(self.plan.salt);
        assert_eq!(self.plan.id, id, "the same spec and source make the same plan");
    }
}
