//! `retrofill trial`: a sample, loaded aside and proven, and what it tells about the full run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use retrofill_core::connector::Target;
use retrofill_core::env::Env as _;
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::Journal as _;
use retrofill_core::plan::Plan;
use retrofill_core::reject::{Exception, Reject};
use retrofill_core::runner::{self, Options, Report, Stop};
use serde::Serialize;

use super::Context;
use super::exit::{Exit, Facts, decide};
use super::flags::SummaryFile;
use super::job::{JobArg, Opened};
use super::output::{Failure, Format, grouped, seconds};
use super::summary::{Status, Summary, conservation, count};
use super::watch::Screen;
use super::work::{
    Prospect, explained, facts, finish_empty, forget_summary, note_troubles, prospect, sum_up,
    write_line,
};
use crate::claim::{Claim, Watcher, keep_watch};
use crate::ledger::{SqliteJournal, holder};
use crate::lists;
use crate::look::Look;
use crate::random;
use crate::signals::Signals;
use crate::trial::{Forecast, Measured, sample, tried};

/// Arguments of `trial`.
#[derive(Debug, Clone, Args)]
pub struct TrialArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// About how many slices are tried; rounded up so that all are busy that work at a time.
    #[arg(long, value_name = "N", env = "RETROFILL_SLICES", hide_env = true, default_value = "3")]
    pub slices: usize,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
    /// Only wait for the end of the trial that started this process, and clean up after it.
    #[arg(
        long,
        hide = true,
        env = "RETROFILL_SWEEP",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub sweep: bool,
}

/// Refused rows that are shown.
const SHOWN: usize = 5;

/// Tries a sample.
pub async fn execute(ctx: &Context, args: &TrialArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    if args.sweep {
        keep_watch(&opened.job.state_dir, opened.job.target()?.as_ref()).await?;
        // Every look sweeps away what killed ones left in the state directory.
        drop(Look::open(&opened.job)?);
        return Ok(Exit::Done);
    }
    forget_summary(args.summary_file.path())?;
    let name = opened.job.spec.name.clone();
    let Some(trial) = Trial::plan(ctx, opened, args.slices).await? else {
        finish_empty(ctx, &name, Exit::Done, args.summary_file.path())?;
        return Ok(Exit::Done);
    };
    let from_stdin = args.job.text == "-";
    let tried = Box::pin(trial.aside(from_stdin)).await?;
    if let Some(e) = &tried.report.stopped {
        ctx.output.note(&format!("stopped early: {e}"));
    }
    let outcome = trial.sum_up(&tried, began).await?;
    write_line(&outcome.json(), args.summary_file.path())?;
    match ctx.output.format {
        Format::Json => {
            note_troubles(ctx, &outcome.summary);
            ctx.output.result(&outcome.json());
        }
        Format::Text => ctx.output.result(&outcome.text(&trial)),
    }
    Ok(outcome.summary.exit)
}

/// What is tried.
struct Trial {
    look: Look,
    /// The plan of the full run.
    plan: Plan,
    sample: Arc<Plan>,
    screen: Arc<Screen>,
    state_dir: PathBuf,
    lanes: usize,
    /// Seconds until the full run was planned.
    planning: f64,
}

/// How it went.
struct Done {
    report: Report,
    /// Seconds of the run into the shadow.
    seconds: f64,
    journal: Arc<SqliteJournal>,
    signal: Option<i32>,
}

impl Trial {
    /// Plans the full run and picks the sample; writes nothing. None where the source is empty.
    async fn plan(ctx: &Context, opened: Opened, slices: usize) -> Result<Option<Self>, Failure> {
        let (began, state_dir) = (Instant::now(), opened.job.state_dir.clone());
        let Prospect { look, screen, plan } = prospect(ctx, opened).await?;
        let Some(plan) = plan else {
            screen.finish();
            return Ok(None);
        };
        let lanes = plan.spec.limits.concurrency.unwrap_or(1);
        let chosen = sample(&plan.slices, slices, lanes);
        let sample = plan.sample(|i| chosen.contains(&i), random::bytes()?)?;
        let sample = Arc::new(sample.ok_or_else(|| Error::bug("a plan without slices"))?);
        let planning = began.elapsed().as_secs_f64();
        Ok(Some(Trial { look, plan, sample, screen, state_dir, lanes, planning }))
    }

    /// Loads the sample into a shadow, which is removed whatever happens.
    async fn aside(&self, from_stdin: bool) -> Result<Done> {
        let target = self.look.target.as_ref();
        let claim = Claim::take(&self.state_dir, target).await?;
        // The spec on standard input cannot be read a second time.
        let _watcher = (!from_stdin).then(|| Watcher::start("--sweep"));
        let time = &self.sample.columns.time().name;
        let slices: Vec<Interval> = self.sample.slices.iter().map(|s| s.interval).collect();
        let loaded = match target.shadow(claim.tag(), time, &slices).await {
            Ok(shadow) => self.load(shadow).await,
            Err(e) => Err(e),
        };
        self.screen.finish();
        let left = claim.leave(target).await;
        let done = loaded?;
        left.map(|()| done)
    }

    async fn load(&self, shadow: Arc<dyn Target>) -> Result<Done> {
        let journal = Arc::new(SqliteJournal::open(&self.look.room().join("ledger.db"))?);
        let stop = Arc::new(Stop::default());
        let signals = Signals::listen(stop.clone(), |_| {})?;
        let job = runner::Job {
            plan: self.sample.clone(),
            source: self.look.source.clone(),
            target: shadow.clone(),
            journal: journal.clone(),
            env: self.look.env.clone(),
            holder: holder::this_process()?,
            stop,
            watch: self.screen.clone(),
        };
        let began = Instant::now();
        let result = Box::pin(runner::run(job, options())).await;
        let seconds = began.elapsed().as_secs_f64();
        shadow.idle().await;
        let report = explained(result, &signals)?;
        Ok(Done { report, seconds, journal, signal: signals.exit() })
    }

    async fn sum_up(&self, done: &Done, began: Instant) -> Result<Outcome> {
        let standing = done.journal.summary(&self.sample.id).await?;
        let standing = standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))?;
        let mut summary = sum_up(&self.sample, &standing, began.elapsed().as_secs_f64());
        summary.rows = done.report.rows;
        let entries = done.journal.read(&self.sample.id, 0).await?;
        let (slices, wall) = tried(&entries);
        let rows = summary.rows;
        summary.exit = decide(Facts {
            // The cap is one of the whole plan; of a sample it is held against the sample's rows.
            rejects: self.plan.spec.rejects.exceeded(rows.rejected, rows.read),
            ..facts(&self.sample, &options(), &done.report, &summary, done.signal)
        });
        let measured = Measured {
            plan: &self.plan,
            tried: &slices,
            wall,
            overhead: self.planning + (done.seconds - wall).max(0.0),
            lanes: self.lanes,
        };
        let whole = summary.status == Status::Verified && summary.slices.done() > 0;
        let forecast = whole.then(|| measured.forecast());
        let advice = forecast.as_ref().map(|f| measured.advice(f)).unwrap_or_default();
        let each = slices.iter().map(|(id, t)| {
            format!("{id}  {}  {}", count(t.counts.read, "row"), seconds(t.seconds))
        });
        let (each, refused) = (each.collect(), self.refused(&done.report).await?);
        Ok(Outcome { summary, forecast, advice, each, refused })
    }

    /// The first refused rows: those of the sample, then those without a time.
    async fn refused(&self, report: &Report) -> Result<Vec<String>> {
        let mut shown = Vec::new();
        let scratch = self.look.env.scratch();
        let sample = &self.sample.id;
        lists::each(scratch.as_ref(), sample, &report.slices, |_, exception| {
            if let Exception::RejectV1(reject) = exception
                && shown.len() < SHOWN
            {
                shown.push(reject);
            }
            Ok(())
        })
        .await?;
        shown.extend(self.plan.survey.unplaced_rejects.iter().take(SHOWN).cloned());
        shown.truncate(SHOWN);
        let line = |r: Reject| match &r.column {
            Some(column) => format!("{}  {column}: {}", r.place, r.reason),
            None => format!("{}  {}", r.place, r.reason),
        };
        Ok(shown.into_iter().map(line).collect())
    }
}

/// Rows that were appended before are in the shadow too.
fn options() -> Options {
    Options { again: true, ..Options::default() }
}

/// What is told.
struct Outcome {
    summary: Summary,
    /// None where not all of the sample was proven.
    forecast: Option<Forecast>,
    /// Lines of a spec and the reason for each.
    advice: Vec<(String, String)>,
    each: Vec<String>,
    refused: Vec<String>,
}

/// The line for machines.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    forecast: Option<&'a Forecast>,
    recommended: Vec<&'a str>,
}

impl Outcome {
    fn json(&self) -> String {
        let recommended = self.advice.iter().map(|(line, _)| line.as_str()).collect();
        let line = Line { summary: &self.summary, forecast: self.forecast.as_ref(), recommended };
        serde_json::to_string(&line).expect("a summary is plain JSON")
    }

    fn text(&self, trial: &Trial) -> String {
        let s = &self.summary;
        let mut out = format!(
            "{}: trial of {} of {}: {} -> a shadow of {}\n",
            s.job,
            count(trial.sample.slices.len() as u64, "slice"),
            grouped(trial.plan.slices.len() as u64),
            s.source,
            s.target
        );
        // Writing to a text cannot fail.
        let mut line = |text: String| {
            let _ = writeln!(out, "  {text}");
        };
        let rows = count(s.rows.read, "row");
        line(format!("{}   {rows}   {}", s.standing(), seconds(s.seconds)));
        line(conservation(&s.rows));
        for each in &self.each {
            line(format!("  {each}"));
        }
        for trouble in &s.troubles {
            line(trouble.clone());
        }
        for refused in &self.refused {
            line(format!("refused  {refused}"));
        }
        if s.digest.is_some() {
            line("proven by reading back; the shadow is removed again".into());
        }
        let Some(forecast) = &self.forecast else {
            line("no forecast: not all of the sample was proven".into());
            return out + "Next: mend what is told above, and try again";
        };
        let (time, rows) = (&forecast.seconds, &forecast.written);
        line(format!(
            "the full run takes about {}: between {} and {}",
            seconds(forecast.likely_seconds),
            seconds(time.from),
            seconds(time.to)
        ));
        line(format!(
            "it writes {} to {} and refuses {} to {}",
            grouped(rows.from),
            count(rows.to, "row"),
            grouped(forecast.rejected.from),
            count(forecast.rejected.to, "row")
        ));
        match self.advice.as_slice() {
            [] => line("recommended: the spec as it is".into()),
            advice => {
                line("recommended".into());
                for (text, why) in advice {
                    line(format!("  {text}   # {why}"));
                }
            }
        }
        out + match s.exit {
            Exit::Rejects => {
                "Next: see what was refused, mend it or raise rejects.max; retrofill run"
            }
            _ => "Next: retrofill run",
        }
    }
}
