//! The story of one seed: runs with faults, kills, stops and mishaps between them; then a calm
//! run, the judgement, and one more run that must change nothing.

mod healing;
mod mishap;
mod verifier;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::executor::block_on;
use retrofill_core::error::Result;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::{Holder, Journal as _, SliceRecord, State};
use retrofill_core::memory::MemoryJournal;
use retrofill_core::plan::Plan;
use retrofill_core::runner::{self, Job, Options, Report, Silent, Stop};

pub(crate) use mishap::Mishap;

use crate::chaos::{Chaos, Fault, Tally};
use crate::dice::Dice;
use crate::env::{Files, Process, SimEnv, SimScratch, Step, World};
use crate::faulty::{Caller, FaultyJournal, FaultyScratch, FaultySource};
use crate::oracle;
use crate::rules::Rules;
use crate::setting::Setting;
use crate::target::{FaultyTarget, Server};

/// No run takes more polls than this.
const POLLS: u64 = 400_000;

/// What one seed came to.
pub(crate) struct Ending {
    pub tally: Tally,
    pub mishaps: [u64; Mishap::ALL.len()],
    pub failure: Option<String>,
    pub trace: Vec<String>,
}

/// A process at work on the plan.
struct Run {
    process: Process,
    holder: Holder,
    stop: Arc<Stop>,
    result: Arc<Mutex<Option<Result<Report>>>>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.result.lock().unwrap().is_some()
    }
}

struct Story {
    setting: Arc<Setting>,
    world: World,
    chaos: Chaos,
    rules: Rules,
    server: Server,
    dice: Dice,
    /// For what came later, so that the seeds that are known keep their story.
    spare: Dice,
    journal: MemoryJournal,
    files: Files,
    plan: Arc<Plan>,
    salts: Vec<[u8; 16]>,
    cursed: bool,
    stopped: Vec<Run>,
    changed: bool,
    /// Halves of which a ledger knew that was lost.
    orphans: Vec<Interval>,
    mishaps: [u64; Mishap::ALL.len()],
}

/// Plays one seed.
pub(crate) fn play(seed: u64, tracing: bool) -> Ending {
    let mut story = Story::new(seed, tracing);
    let failure = story.tell().err().or_else(|| story.rules.broken().first().cloned());
    let (tally, trace) = (story.chaos.tally(), story.chaos.trace());
    story.end();
    Ending { tally, mishaps: story.mishaps, failure, trace }
}

fn journal(world: &World) -> MemoryJournal {
    let clock = world.clone();
    MemoryJournal::new(move || clock.now())
}

impl Story {
    fn new(seed: u64, tracing: bool) -> Self {
        let world = World::new(seed);
        world.start();
        let chaos = Chaos::new(seed, &world, tracing);
        let setting = Arc::new(Setting::new(seed));
        chaos.set_live(setting.live_writer(seed));
        let mut dice = Dice::new(seed, 5);
        let plan = Arc::new(setting.plan(salt(&mut dice)));
        chaos.note(|| format!("{:?} in {} slices", plan.spec.write.mode, plan.slices.len()));
        let cursed = dice.permille(60);
        Story {
            setting,
            journal: journal(&world),
            server: Server::new(&world),
            world,
            chaos,
            rules: Rules::default(),
            dice,
            spare: Dice::new(seed, 6),
            files: Files::default(),
            salts: vec![plan.salt],
            plan,
            cursed,
            stopped: Vec::new(),
            changed: false,
            orphans: Vec::new(),
            mishaps: [0; Mishap::ALL.len()],
        }
    }

    fn tell(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.between(1, 4) {
            let run = self.launch(Options::default());
            self.disturb(run)?;
            self.rules.broken().first().map_or(Ok(()), |rule| Err(rule.clone()))?;
            if self.dice.permille(400) {
                self.mishap();
            }
            let pause = self.dice.between(0, 15) as u64;
            self.world.pass(Duration::from_secs(pause));
        }
        self.calm()?;
        let slices = self.finish()?;
        let left = oracle::left_over(&self.setting, &slices, &self.orphans);
        self.setting.others.add(self.setting.table.version(), left);
        self.judge(&slices)?;
        self.nothing_more(&slices)?;
        self.verify()?;
        self.damage()?;
        self.heal()
    }

    /// Lets go of everything, so that the parts of the world do not hold each other.
    fn end(&mut self) {
        self.chaos.set_live(Box::new(|| {}));
        self.world.end();
    }

    fn launch(&mut self, options: Options) -> Run {
        let process = self.world.start();
        let holder = Holder {
            host: "sim".into(),
            boot: "1".into(),
            pid: process as u32,
            started: "0".into(),
        };
        let job = self.job(process, holder.clone());
        let stop = Arc::clone(&job.stop);
        let result = Arc::new(Mutex::new(None));
        let give = Arc::clone(&result);
        let work = async move {
            let report = runner::run(job, options).await;
            *give.lock().unwrap() = Some(report);
        };
        self.world.spawn(process, Box::pin(work));
        self.chaos.note(|| format!("[{process}] starts"));
        Run { process, holder, stop, result }
    }

    fn job(&self, process: Process, holder: Holder) -> Job {
        let caller = Caller { process, chaos: self.chaos.clone(), rules: self.rules.clone() };
        let slice = |n: usize| self.plan.slices[n % self.plan.slices.len()].interval;
        let target = FaultyTarget {
            setting: Arc::clone(&self.setting),
            inner: self.setting.table.clone(),
            caller: caller.clone(),
            server: self.server.clone(),
            cursed: self.cursed.then(|| slice(self.plan.slices.len() / 2)),
        };
        let scratch = Arc::new(SimScratch::new(&self.world, process, &self.files));
        let scratch = FaultyScratch { inner: scratch, caller: caller.clone() };
        let table = self.setting.table.clone();
        let journal = FaultyJournal { inner: self.journal.clone(), table, caller: caller.clone() };
        Job {
            plan: Arc::clone(&self.plan),
            source: Arc::new(FaultySource { inner: self.setting.source.clone(), caller }),
            target: Arc::new(target),
            journal: Arc::new(journal),
            env: Arc::new(SimEnv {
                world: self.world.clone(),
                process,
                scratch: Arc::new(scratch),
            }),
            holder,
            stop: Arc::new(Stop::default()),
            watch: Arc::new(Silent),
        }
    }

    /// Lets a run go until it ends, is killed or is stopped.
    fn disturb(&mut self, run: Run) -> Result<(), String> {
        let polls = 1_u64 << self.dice.below(12);
        let polls = polls + self.dice.below(polls as usize) as u64;
        let (kill, stop) = match self.dice.below(10) {
            0..=2 => (u64::MAX, u64::MAX),
            3..=4 => (u64::MAX, polls),
            _ => (polls, u64::MAX),
        };
        let ask = if self.dice.permille(80) { polls / 2 } else { u64::MAX };
        let resume = self.dice.below(polls as usize + 1) as u64;
        for poll in 0..POLLS {
            if poll == resume {
                for stopped in &self.stopped {
                    self.chaos.note(|| format!("[{}] goes on", stopped.process));
                    self.world.resume(stopped.process);
                }
            }
            if run.is_over() {
                self.exit(&run);
                return Ok(());
            }
            let wanted = self.chaos.wanted(run.process);
            if poll == ask {
                self.ask(&run);
            }
            if poll == kill || wanted == Some(Fault::Kill) {
                if poll == kill {
                    self.chaos.count_at_last(run.process, Fault::Kill);
                }
                self.bury(&run);
                return Ok(());
            }
            if poll == stop || wanted == Some(Fault::Stop) {
                if poll == stop {
                    self.chaos.count_at_last(run.process, Fault::Stop);
                }
                self.mishaps[Mishap::Stopped as usize] += 1;
                self.world.stop(run.process);
                self.stopped.push(run);
                return Ok(());
            }
            if self.world.step() == Step::Idle {
                return Err("the run hangs: nothing is ready and no timer runs".into());
            }
        }
        Err("the run does not end".into())
    }

    /// As a signal does: finish what is in hand, or roll it back.
    fn ask(&mut self, run: &Run) {
        self.mishaps[Mishap::AskedToEnd as usize] += 1;
        self.chaos.note(|| format!("[{}] is asked to end", run.process));
        if self.dice.permille(500) {
            run.stop.gracefully();
        } else {
            run.stop.now();
        }
    }

    /// The process is gone for good, and everybody can see that.
    fn bury(&mut self, run: &Run) {
        self.world.kill(run.process);
        self.journal.bury(&run.holder);
        let alone = self.stopped.iter().all(Run::is_over);
        if alone {
            let keep = self.dice.below(4);
            self.journal.crash(keep);
        }
    }

    /// The process has come to its end by itself.
    fn exit(&self, run: &Run) {
        self.world.kill(run.process);
        self.journal.bury(&run.holder);
        self.report(run);
    }

    fn report(&self, run: &Run) {
        let result = run.result.lock().unwrap();
        let text = match result.as_ref() {
            Some(Ok(report)) => {
                let states: Vec<_> = report.slices.iter().map(|s| s.state.as_str()).collect();
                format!("ends: {states:?} {:?} {:?}", report.rows, report.stopped)
            }
            Some(Err(e)) => format!("ends: {e:?}"),
            None => "is not over".into(),
        };
        self.chaos.note(|| format!("[{}] {text}", run.process));
    }

    /// Nothing goes wrong from here on; stopped processes come to their end.
    fn calm(&mut self) -> Result<(), String> {
        self.chaos.note(|| "calm".into());
        self.chaos.calm();
        self.cursed = false;
        self.change_back();
        for run in std::mem::take(&mut self.stopped) {
            self.world.resume(run.process);
            self.until_over(&run)?;
        }
        Ok(())
    }

    fn until_over(&self, run: &Run) -> Result<(), String> {
        for _ in 0..POLLS {
            if run.is_over() {
                self.exit(run);
                return Ok(());
            }
            if self.world.step() == Step::Idle {
                return Err("a run hangs: nothing is ready and no timer runs".into());
            }
        }
        Err("a run does not end".into())
    }

    fn run_calmly(&mut self, options: Options) -> Result<Report, String> {
        self.world.pass(Duration::from_secs(11));
        let run = self.launch(options);
        self.until_over(&run)?;
        let result = run.result.lock().unwrap().take();
        match result.expect("the run is over") {
            Ok(report) => match &report.stopped {
                Some(e) => Err(format!("a calm run stopped: {e:?}")),
                None => Ok(report),
            },
            Err(e) => Err(format!("a calm run failed: {e:?}")),
        }
    }

    /// Runs until nothing is left to do; a person selects mismatched slices.
    fn finish(&mut self) -> Result<Vec<SliceRecord>, String> {
        let mut report = self.run_calmly(Options::default())?;
        if self.is_mismatched(&report)? {
            let select = vec![State::Mismatched];
            report = self.run_calmly(Options { select, ..Options::default() })?;
        }
        Ok(report.slices)
    }

    /// Whether slices are mismatched, which takes a damage.
    fn is_mismatched(&self, report: &Report) -> Result<bool, String> {
        let mismatched = report.slices.iter().any(|s| s.state == State::Mismatched);
        let damaged = self.chaos.tally().keys().any(|(_, fault)| *fault == Fault::Corrupted);
        if mismatched && !damaged {
            return Err("a slice is mismatched though nothing was damaged".into());
        }
        Ok(mismatched)
    }

    /// One more run finds nothing to do and leaves no trace in the target.
    fn nothing_more(&mut self, slices: &[SliceRecord]) -> Result<(), String> {
        let doomed = slices.iter().any(|s| s.state == State::Failed);
        let version = self.setting.table.version();
        let report = self.run_calmly(Options::default())?;
        if self.setting.table.version() != version {
            return Err("a run after the last one changed the table".into());
        }
        if !doomed && report.touched != 0 {
            return Err(format!("a run after the last one took {} slices", report.touched));
        }
        let plan = &self.plan.id;
        let entries = block_on(self.journal.read(plan, 0)).map_err(|e| e.to_string())?;
        let shown = block_on(self.journal.slices(plan)).map_err(|e| e.to_string())?;
        oracle::folds(&entries, &shown)
    }

    fn judge(&self, slices: &[SliceRecord]) -> Result<(), String> {
        let oracle = oracle::Oracle {
            setting: &self.setting,
            plan: &self.plan,
            salts: &self.salts,
            files: &self.files,
        };
        oracle.judge(slices)
    }
}

fn salt(dice: &mut Dice) -> [u8; 16] {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&dice.number().to_be_bytes());
    salt[8..].copy_from_slice(&dice.number().to_be_bytes());
    salt
}
