//! From what the user names on the command line to something that can run: connectors, state
//! dir, journal and frozen plan.

mod earlier;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use retrofill_connectors::{open_source, open_target};
use retrofill_core::after::After;
use retrofill_core::columns::Columns;
use retrofill_core::connector::{Pulse, Source, SurveyRequest, Target};
use retrofill_core::env::{Env, Scratch};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::{PlanId, hex};
use retrofill_core::ledger::State;
use retrofill_core::plan::{Frozen, Inputs, Plan, freeze, resolve_columns};
use retrofill_core::reject::Exception;
use retrofill_core::runner::{self, Stop, Watch};
use retrofill_core::spec::{ChangedSource, Spec};
use retrofill_core::survey::{Coming, Survey};

use self::earlier::{earlier_cuts, known_salt};
use crate::changes::{Changes, retyped};
use crate::config::{Loaded, SQL};
use crate::env::TokioEnv;
use crate::ledger::{PlanRow, SqliteJournal, holder};
use crate::lists;
use crate::notify::Notify;
use crate::random;

/// A job with everything opened that its commands share.
#[derive(Debug, Clone)]
pub struct Job {
    /// The spec.
    pub spec: Spec,
    /// The spec as written.
    pub as_written: serde_json::Value,
    /// Where relative paths start.
    pub base_dir: PathBuf,
    /// Where each key of the spec stands.
    pub places: BTreeMap<String, String>,
    /// Where ledger, plan, rejects and staging live.
    pub state_dir: PathBuf,
    /// Free words for people and for reports.
    pub labels: BTreeMap<String, String>,
    /// Who is told how a run ended.
    pub notify: Vec<Notify>,
    /// What the target does once slices are loaded.
    pub after: Vec<After>,
}

/// How a run came by its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Made just now.
    Fresh,
    /// Frozen earlier; goes on.
    Resumed,
    /// The source covers another range than it did, or has other columns, which are named: a new
    /// plan, which takes over what is proven.
    Grown(Changes, Vec<String>),
    /// Files of the source have changed within the same slices.
    Changed(Changes),
    /// Frozen earlier; files of the source were damaged since, and what they held is not loaded.
    Damaged(Changes),
}

impl Job {
    /// The job of a loaded spec.
    pub fn new(loaded: Loaded, state_dir: Option<PathBuf>) -> Self {
        let mut spec = loaded.spec;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        spec.limits.concurrency.get_or_insert(cores.min(MAX_AUTO));
        Job {
            state_dir: state_dir.unwrap_or(loaded.state_dir),
            spec,
            as_written: loaded.raw,
            places: loaded.places,
            labels: loaded.labels,
            notify: loaded.notify,
            after: loaded.after,
            // A plan may be run from another directory than it was made in.
            base_dir: std::path::absolute(&loaded.base_dir).unwrap_or(loaded.base_dir),
        }
    }

    /// Opens the source.
    pub fn source(&self) -> Result<Arc<dyn Source>> {
        self.source_at(&self.state_dir)
    }

    /// Opens the source with another place for what must be sorted.
    pub fn source_at(&self, state_dir: &Path) -> Result<Arc<dyn Source>> {
        let transform = self.spec.transform.as_deref();
        open_source(&self.spec.source, transform, &self.base_dir, state_dir)
    }

    /// Opens the target.
    pub fn target(&self) -> Result<Arc<dyn Target>> {
        open_target(&self.spec.target, &self.base_dir)
    }

    /// Opens the world, creating the state dir (mode 0700).
    pub fn env(&self) -> Result<Arc<TokioEnv>> {
        TokioEnv::new(&self.state_dir).map(Arc::new)
    }

    /// Opens the ledger for writing; the state dir must exist.
    pub fn journal(&self) -> Result<Arc<SqliteJournal>> {
        SqliteJournal::open(&self.ledger_path()).map(Arc::new)
    }

    /// Opens the ledger to look at it; an error of kind `Config` where there is none yet.
    pub fn journal_read_only(&self) -> Result<Arc<SqliteJournal>> {
        if !self.ledger_path().exists() {
            return Err(self.never());
        }
        SqliteJournal::open_read_only(&self.ledger_path()).map(Arc::new)
    }

    /// An error about a setting, with the setting's line, or that of what it stands in.
    pub fn pointed(&self, error: Error) -> Error {
        let mut setting = error.setting();
        while let Some(path) = setting {
            if let Some(place) = self.place(path) {
                return error.at(place);
            }
            setting = path.rsplit_once('.').map(|(above, _)| above);
        }
        error
    }

    /// Where a setting stands in the spec; of a transform the very letter, where a line and a
    /// column of its text follow the name.
    fn place(&self, setting: &str) -> Option<String> {
        let Some(within) = setting.strip_prefix(SQL) else {
            return self.places.get(setting).cloned();
        };
        let letter = || {
            let (line, column) = within.split_once(':')?;
            let (rest, first_column) = self.places.get(SQL)?.rsplit_once(':')?;
            let (name, first_line) = rest.rsplit_once(':')?;
            let add = |a: &str, b: &str| Some(a.parse::<u64>().ok()? + b.parse::<u64>().ok()? - 1);
            Some(format!("{name}:{}:{}", add(first_line, line)?, add(first_column, column)?))
        };
        letter().or_else(|| self.places.get(SQL.trim_end_matches(':')).cloned())
    }

    fn ledger_path(&self) -> PathBuf {
        self.state_dir.join("ledger.db")
    }

    /// The plan that is meant: the one that was named, else the job's own, else the one that the
    /// ledger took in last.
    pub async fn meant(&self, named: Option<&PlanId>) -> Result<(Arc<SqliteJournal>, PlanRow)> {
        let journal = self.journal_read_only()?;
        let mut plans = journal.plans().await?;
        plans.sort_by_key(|p| p.frozen_at);
        let own = self.frozen_id();
        let mut wanted = [named, own.as_ref()].into_iter().flatten();
        let place = |id: &PlanId| plans.iter().position(|p| p.plan == *id);
        let at = wanted.find_map(place).or(plans.len().checked_sub(1));
        let row = at.map(|at| plans.swap_remove(at)).ok_or_else(|| self.never())?;
        Ok((journal, row))
    }

    /// The id of the frozen plan by the first bytes of its file: it is large, and this is asked
    /// for again and again.
    fn frozen_id(&self) -> Option<PlanId> {
        let mut head = String::new();
        let file = std::fs::File::open(self.state_dir.join(PLAN_FILE)).ok()?;
        file.take(256).read_to_string(&mut head).ok()?;
        let (_, id) = head.split_once("\"id\":\"")?;
        Some(PlanId::new(id.split_once('"')?.0.to_owned()))
    }

    fn never(&self) -> Error {
        Error::config(format!("`{}` was never run or planned", self.spec.name))
            .hint("`retrofill run` plans and loads it")
    }

    /// The frozen plan of the state dir, if there is one.
    pub fn frozen(&self) -> Result<Option<Plan>> {
        let path = self.state_dir.join(PLAN_FILE);
        match std::fs::read(&path) {
            Ok(json) => Plan::from_json(&json, &path.display().to_string()).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::config(format!("{} cannot be read", path.display())).because(e)),
        }
    }

    /// The plan that a run works on: the frozen one while it is unfinished or nothing is new,
    /// else a new one, which is written to the state dir. None where the source is empty and the
    /// spec allows it.
    pub async fn plan(
        &self,
        parts: &Parts,
        replan: bool,
        pulse: Pulse,
    ) -> Result<Option<(Plan, Origin)>> {
        let frozen = self.frozen()?.filter(|_| !replan);
        let Some(frozen) = frozen else {
            return self.fresh(parts, pulse).await;
        };
        let finished = self.is_finished(parts, &frozen).await?;
        if frozen.spec_hash != hex(&self.spec.hash()) {
            if finished {
                return self.fresh(parts, pulse).await;
            }
            return Err(Error::new(
                Kind::Fenced,
                format!("the spec has changed since plan {} was frozen", frozen.id),
            )
            .hint("finish it with the old spec, or drop it with `--replan`"));
        }
        let frozen = frozen.with(&self.spec);
        let source = parts.source.as_ref();
        let changes = Changes::since(&frozen, source, parts.env.now()).await?;
        let believed = frozen.spec.verify.changed_source == ChangedSource::Replan;
        let damaged = source.is_of_files() && changes.loses_rows() && !believed && !finished;
        if damaged || changes.is_none() {
            write_unplaced(parts.env.scratch().as_ref(), &frozen).await?;
            let origin = if damaged { Origin::Damaged(changes) } else { Origin::Resumed };
            return Ok(Some((frozen, origin)));
        }
        let fresh = self.fresh(parts, pulse).await?;
        Ok(fresh.map(|(plan, _)| {
            let origin = if plan.id == frozen.id {
                Origin::Changed(changes)
            } else {
                Origin::Grown(changes, retyped(&frozen, &plan))
            };
            (plan, origin)
        }))
    }

    async fn is_finished(&self, parts: &Parts, plan: &Plan) -> Result<bool> {
        let summary = parts.journal.summary(&plan.id).await?;
        Ok(summary.is_some_and(|s| {
            s.total() > 0 && s.of(State::Verified) + s.of(State::Empty) == s.total()
        }))
    }

    /// Surveys the source in this way, and finds its columns as they would go to the target, with
    /// what the user should know of them. Writes nothing.
    pub async fn look(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        way: SurveyRequest,
    ) -> Result<(Survey, Columns, Vec<String>)> {
        let table = target.table().await?;
        let request = SurveyRequest {
            time: self.spec.rows.time.clone(),
            types: table.clone().unwrap_or_default(),
            ..way
        };
        let survey = source.survey(&request).await.map_err(|e| self.pointed(e))?;
        let table = match table {
            None => target.untyped(&survey.columns, &request.time).await,
            table => Ok(table),
        };
        let table = table.map_err(|e| self.pointed(e))?;
        let (columns, notes) = resolve_columns(
            (&self.spec.rows, &self.spec.write),
            &survey.columns,
            table.as_deref(),
            target,
        )
        .map_err(|e| self.pointed(e))?;
        target.accepts(&columns, self.spec.write.mode, self.spec.manners()).await?;
        Ok((survey, columns, notes))
    }

    /// Surveys the source and freezes a plan.
    async fn fresh(&self, parts: &Parts, pulse: Pulse) -> Result<Option<(Plan, Origin)>> {
        let (source, target) = (parts.source.as_ref(), parts.target.as_ref());
        let way = SurveyRequest { pulse, ..SurveyRequest::default() };
        let drafted = self.draft(source, target, parts.env.now(), way).await?;
        let Some(mut plan) = drafted else { return Ok(None) };
        let coming = Coming::of(&plan.survey, plan.slices.iter().map(|s| s.interval));
        target.room(&plan.columns, &coming, false).await?;
        if let Some(salt) = known_salt(Some(&parts.journal), target, &plan).await? {
            plan.salt = salt;
        }
        let scratch = parts.env.scratch();
        write_unplaced(scratch.as_ref(), &plan).await?;
        lists::put(scratch.as_ref(), PLAN_FILE, &plan.to_json()?).await?;
        Ok(Some((plan, Origin::Fresh)))
    }

    /// The plan that would be frozen now; under a salt of its own, and written nowhere.
    pub(crate) async fn draft(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        now: Timestamp,
        way: SurveyRequest,
    ) -> Result<Option<Plan>> {
        let (survey, columns, mut notes) = self.look(source, target, way).await?;
        let sizing = target.sizing(&columns, self.spec.manners()).await?;
        notes.extend(sizing.note);
        let inputs = Inputs {
            spec: self.spec.clone(),
            as_written: self.as_written.clone(),
            base_dir: self.base_dir.display().to_string(),
            survey,
            columns,
            notes,
            most: sizing.rows,
            cuts: Vec::new(),
            now,
            salt: random::bytes()?,
        };
        let Frozen::Plan(mut plan) = freeze(inputs.clone())? else { return Ok(None) };
        let cuts = earlier_cuts(target, &plan).await?;
        if !cuts.is_empty()
            && let Frozen::Plan(again) = freeze(Inputs { cuts, ..inputs })?
        {
            plan = again;
        }
        let files = plan.survey.files.len();
        let label = &mut plan.spec.source.label;
        if let (2.., Some((kind, path))) = (files, label.split_once(' ')) {
            *label = format!("{files} {kind} files, {path}");
        }
        Ok(Some(*plan))
    }

    /// The plan that a run would work on, without freezing or writing anything: the frozen one
    /// where that still says what is there, else the one that would be made.
    pub async fn prospect(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        pulse: Pulse,
    ) -> Result<Option<Plan>> {
        let now = Timestamp::now();
        let fits = |plan: &Plan| plan.spec_hash == hex(&self.spec.hash());
        if let Some(frozen) = self.frozen()?.filter(fits)
            && Changes::since(&frozen, source, now).await?.is_none()
        {
            return Ok(Some(frozen.with(&self.spec)));
        }
        let way = SurveyRequest { pulse, ..SurveyRequest::default() };
        let Some(mut plan) = self.draft(source, target, now, way).await? else {
            return Ok(None);
        };
        let journal = self.journal_read_only().ok();
        if let Some(salt) = known_salt(journal.as_deref(), target, &plan).await? {
            plan.salt = salt;
        }
        Ok(Some(plan))
    }
}

/// Lines that belong to no slice are listed beside the rejects of the slices.
async fn write_unplaced(scratch: &dyn Scratch, plan: &Plan) -> Result<()> {
    let mut lines = Vec::new();
    for reject in &plan.survey.unplaced_rejects {
        serde_json::to_writer(&mut lines, &Exception::RejectV1(reject.clone()))
            .map_err(|e| Error::bug("a reject cannot be written as JSON").because(e))?;
        lines.push(b'\n');
    }
    if lines.is_empty() {
        return Ok(());
    }
    let name = lists::unplaced(&plan.id);
    if scratch.read(&name).await?.as_ref() == Some(&lines) {
        return Ok(());
    }
    lists::put(scratch, &name, &lines).await
}

/// Slices at a time, at most, where the spec leaves it to us.
const MAX_AUTO: usize = 8;

const PLAN_FILE: &str = "plan.json";

/// The opened parts of a job.
#[derive(Debug)]
pub struct Parts {
    /// The world.
    pub env: Arc<TokioEnv>,
    /// The ledger.
    pub journal: Arc<SqliteJournal>,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub target: Arc<dyn Target>,
}

impl Parts {
    /// Opens all parts; creates the state dir and the ledger.
    pub fn open(job: &Job) -> Result<Self> {
        let env = job.env()?;
        Ok(Parts { env, journal: job.journal()?, source: job.source()?, target: job.target()? })
    }

    /// What the runner needs to work on a plan in this process.
    pub fn for_runner(
        &self,
        plan: &Arc<Plan>,
        stop: Arc<Stop>,
        watch: Arc<dyn Watch>,
    ) -> Result<runner::Job> {
        Ok(runner::Job {
            plan: plan.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            journal: self.journal.clone(),
            env: self.env.clone(),
            holder: holder::this_process()?,
            stop,
            watch,
        })
    }
}
