//! The verifier is verified: it agrees with a sound table, and names the slice of a damaged row.

use std::sync::{Arc, Mutex};

use retrofill_core::ledger::{Holder, State};
use retrofill_core::memory::Value;
use retrofill_core::runner::{self, Judgement, Level, Options};

use super::{POLLS, Story};
use crate::env::Step;
use crate::oracle;

impl Story {
    /// The verifier agrees, and finds a row that is gone.
    pub(super) fn verify(&mut self) -> Result<(), String> {
        for finding in self.verified()? {
            let fine = matches!(finding.judgement, Judgement::Verified | Judgement::Extra { .. });
            if !fine {
                let id = &finding.record.id;
                return Err(format!("slice {id} does not verify: {:?}", finding.judgement));
            }
        }
        Ok(())
    }

    /// A row of ours is damaged in silence: the verifier names its slice and no other, and the
    /// next load of that slice puts right what is missing.
    pub(super) fn damage(&mut self) -> Result<(), String> {
        let (table, others) = (&self.setting.table, self.setting.others.now());
        let rows = table.rows();
        let ours: Vec<_> = (0..rows.len()).filter(|at| !others.contains(&rows[*at])).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let at = *self.dice.pick(&ours);
        let mut new = rows[at].clone();
        new[3] = Value::Integer(30);
        let changed = self.setting.keyed() && self.dice.permille(500);
        table.damage(|rows| {
            let (id, _) = rows.remove(at);
            rows.extend(changed.then(|| (id, new.clone())));
        });
        self.setting.others.add(table.version(), changed.then_some(new));
        let damaged = oracle::time(&rows[at]);
        for finding in self.verified()? {
            let found = matches!(finding.judgement, Judgement::Mismatched { .. });
            if found != finding.record.interval.contains(damaged) {
                let id = &finding.record.id;
                return Err(format!("damage at {damaged}, slice {id}: {:?}", finding.judgement));
            }
        }
        let select = vec![State::Mismatched];
        let report = self.run_calmly(Options { select, ..Options::default() })?;
        self.judge(&report.slices).map_err(|e| format!("after a damage: {e}"))
    }

    fn verified(&mut self) -> Result<Vec<runner::Finding>, String> {
        let process = self.world.start();
        let holder = Holder {
            host: "sim".into(),
            boot: "1".into(),
            pid: process as u32,
            started: "0".into(),
        };
        let job = self.job(process, holder);
        let result = Arc::new(Mutex::new(None));
        let give = Arc::clone(&result);
        let work = async move {
            let found = runner::verify(job, Options::default(), Level::Digest).await;
            *give.lock().unwrap() = Some(found);
        };
        self.world.spawn(process, Box::pin(work));
        for _ in 0..POLLS {
            if let Some(found) = result.lock().unwrap().take() {
                return found.map_err(|e| format!("verify failed: {e:?}"));
            }
            if self.world.step() == Step::Idle {
                return Err("verify hangs".into());
            }
        }
        Err("verify does not end".into())
    }
}
