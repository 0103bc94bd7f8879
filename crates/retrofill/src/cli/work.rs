//! What `run` and `exec` share: open, plan, load, sum up.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use retrofill_core::error::{Error, Kind};
use retrofill_core::ledger::State;
use retrofill_core::plan::Plan;
use retrofill_core::receipt::Counts;
use retrofill_core::runner::{self, Options, Report, Stop};

use super::Context;
use super::consent;
use super::exit::{Exit, Facts, decide};
use super::job::Opened;
use super::output::{Failure, Format, Output};
use super::summary::{SliceCounts, Summary};
use super::watch::Screen;
use crate::job::{Job, Origin, Parts};
use crate::ledger;
use crate::look::Look;
use crate::signals::Signals;

/// How a piece of work ended.
pub(super) struct Done {
    pub(super) plan: Arc<Plan>,
    pub(super) parts: Parts,
    pub(super) summary: Summary,
    pub(super) job: Job,
    /// What ended it before its time.
    pub(super) stopped: Option<Error>,
}

/// What the user allowed beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct May {
    /// Plan anew where an unfinished plan and the spec no longer fit.
    pub(super) replan: bool,
    /// Take rows out without asking.
    pub(super) yes: bool,
    /// Give rows that were changed since they were loaded the source's values again.
    pub(super) overwrite: bool,
}

/// What a command looks with that leaves source and target as they are.
pub(super) struct Prospect {
    pub(super) look: Look,
    pub(super) screen: Arc<Screen>,
    /// The plan that a run would work on; none where the source is empty.
    pub(super) plan: Option<Plan>,
}

/// Opens source and target to look at them, and finds the plan.
pub(super) async fn prospect(ctx: &Context, opened: Opened) -> Result<Prospect, Failure> {
    let look = Look::open(&opened.job)?;
    let screen = Screen::new(ctx.output);
    let (source, target) = (look.source.as_ref(), look.target.as_ref());
    let plan = match opened.plan {
        Some(plan) => Some(check_pinned(&opened.job, plan)?),
        None => opened.job.prospect(source, target, screen.survey()).await?,
    };
    Ok(Prospect { look, screen, plan })
}

/// Says what became of the source since it was planned.
pub(super) fn tell(output: Output, origin: &Origin, plan: &Plan) {
    match origin {
        Origin::Grown(changes, retyped) => {
            let what = if changes.loses_rows() { "changed" } else { "grown" };
            output.note(&format!(
                "the source has {what} ({changes}): planned anew over {}; proven slices are kept",
                plan.range
            ));
            for name in retyped {
                output.note(&format!("`{name}` has another type than it was planned with"));
            }
        }
        Origin::Changed(changes) => output.note(&format!(
            "the source has changed ({changes}): slices whose blocks differ are loaded again"
        )),
        Origin::Damaged(changes) => output.note(&format!(
            "the source has changed since it was planned ({changes}): slices whose blocks differ \
             are not loaded; `run --replan` takes it as it is now"
        )),
        Origin::Fresh | Origin::Resumed => {}
    }
}

/// Plans where needed and runs the slices that the options choose. None where the source is
/// empty and the spec allows it. `options` is made once the plan is known.
pub(super) async fn work(
    ctx: &Context,
    opened: Opened,
    may: May,
    options: impl FnOnce(&Plan) -> Result<Options, Failure>,
) -> Result<Option<Done>, Failure> {
    let began = Instant::now();
    let screen = Screen::new(ctx.output);
    let parts = Parts::open(&opened.job)?;
    let planned = match opened.plan {
        Some(plan) => Some((check_pinned(&opened.job, plan)?, Origin::Resumed)),
        None => opened.job.plan(&parts, may.replan, screen.survey()).await?,
    };
    let Some((plan, origin)) = planned else {
        screen.finish();
        return Ok(None);
    };
    tell(ctx.output, &origin, &plan);
    let plan = Arc::new(plan);
    let mut options = options(&plan)?;
    // What was altered is not added to, nor is anything loaded by what it says.
    parts.journal.check_chain(&plan.id).await?;
    let open = |s: ledger::Summary| s.of(State::Verified) + s.of(State::Empty) < s.total();
    if parts.journal.summary(&plan.id).await?.is_none_or(open) {
        consent::to_replace(ctx.output, &plan, may.yes)?;
    }
    let stop = Arc::new(Stop::default());
    let output = ctx.output;
    let signals = Signals::listen(stop.clone(), move |text| output.note(text))?;
    let job = parts.for_runner(&plan, stop, screen.clone())?;
    if may.overwrite {
        let found = runner::changed(job.clone(), options.clone()).await;
        options.overwrite = consent::to_overwrite(ctx.output, &plan, found?, may.yes)?;
    }
    let result = runner::run(job, options.clone()).await;
    screen.finish();
    let report = explained(result, &signals)?;
    if let Some(e) = &report.stopped {
        ctx.output.note(&format!("stopped early: {e}"));
    }
    let standing = parts.journal.summary(&plan.id).await?;
    let standing = standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))?;
    let mut summary = sum_up(&plan, &standing, began.elapsed().as_secs_f64());
    summary.rows = report.rows;
    if matches!(origin, Origin::Fresh | Origin::Grown(..)) {
        summary.rows.read += plan.survey.unplaced + plan.survey.filtered;
        summary.rows.rejected += plan.survey.unplaced;
        summary.rows.filtered += plan.survey.filtered;
    }
    summary.nothing_to_do = report.touched == 0 && report.stopped.is_none();
    summary.exit = decide(facts(&plan, &options, &report, &summary, signals.exit()));
    Ok(Some(Done { plan, parts, summary, job: opened.job, stopped: report.stopped }))
}

/// The report of a run. A signal explains one that ended early better than what it broke off.
pub(super) fn explained(result: Result<Report, Error>, signals: &Signals) -> Result<Report, Error> {
    match (result, signals.exit()) {
        (Err(e), Some(_)) if e.kind() == Kind::Stopped => {
            Ok(Report { stopped: Some(e), ..Report::default() })
        }
        (result, _) => result,
    }
}

/// A plan file works only while its spec still means the same.
pub(super) fn check_pinned(job: &Job, plan: Plan) -> Result<Plan, Failure> {
    if plan.spec_hash == retrofill_core::id::hex(&job.spec.hash()) {
        return Ok(plan);
    }
    let error = Error::config(format!("plan {} no longer fits what its spec says now", plan.id))
        .hint("a variable of the environment has another value, or the plan is of another version");
    Err(Failure::As(Exit::Held, error))
}

/// The standing of the whole plan, by the ledger.
pub(super) fn sum_up(plan: &Plan, standing: &ledger::Summary, seconds: f64) -> Summary {
    let states = State::ALL
        .into_iter()
        .filter(|s| *s != State::Split)
        .flat_map(|s| std::iter::repeat_n(s, standing.of(s) as usize));
    let slices = SliceCounts::of(states);
    let mut plan_rows = standing.counts;
    plan_rows.read += standing.unplaced + plan.survey.filtered;
    plan_rows.rejected += standing.unplaced;
    plan_rows.filtered += plan.survey.filtered;
    let trouble =
        |r: &ledger::Reason| format!("slice {} {}: {}", r.slice, r.state.as_str(), r.reason);
    Summary {
        job: plan.spec.name.clone(),
        plan: plan.id.to_string(),
        source: plan.spec.source.label.clone(),
        target: plan.spec.target.label.clone(),
        status: slices.status(),
        interval: plan.range,
        whole: plan.is_whole(),
        rows: Counts::default(),
        outside: outside(plan, &slices, &plan_rows),
        plan_rows,
        digest: (slices.done() > 0).then(|| format!("{:032x}", standing.digest)),
        verified_through: standing.verified_through,
        verified_back_to: standing.verified_back_to,
        seconds,
        exit: Exit::Done,
        report: None,
        nothing_to_do: false,
        after: Vec::new(),
        troubles: standing.reasons.iter().map(trouble).collect(),
        slices,
    }
}

/// Rows of the source outside of the plan's range.
fn outside(plan: &Plan, slices: &SliceCounts, rows: &Counts) -> u64 {
    if slices.done() < slices.total || !plan.is_whole() {
        return plan.earlier + plan.later;
    }
    surveyed(plan).saturating_sub(rows.read)
}

/// All rows of the source that the survey saw.
fn surveyed(plan: &Plan) -> u64 {
    plan.survey.rows + plan.survey.unplaced + plan.survey.filtered
}

pub(super) fn facts(
    plan: &Plan,
    options: &Options,
    report: &Report,
    summary: &Summary,
    signal: Option<i32>,
) -> Facts {
    let chosen = |state: State| report.slices.iter().any(|s| s.state == state && options.means(s));
    let stopped = report.stopped.as_ref().map(Error::kind);
    Facts {
        interrupted: signal == Some(130),
        terminated: signal == Some(143),
        held: stopped == Some(Kind::Fenced),
        config: matches!(stopped, Some(Kind::Config | Kind::Bug)),
        mismatched: chosen(State::Mismatched),
        rejects: plan.spec.rejects.exceeded(summary.plan_rows.rejected, surveyed(plan)),
        failed: chosen(State::Failed) || chosen(State::Stale) || chosen(State::Unknown),
        stopped: stopped == Some(Kind::Stopped),
    }
}

/// Removes what an earlier command said: one that fails must not leave it standing.
pub(super) fn forget_summary(file: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = file else { return Ok(()) };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::config(format!("{} cannot be written", path.display())).because(e).into())
        }
        _ => Ok(()),
    }
}

/// Writes the JSON line to the file of `--summary-file`.
pub(super) fn write_summary(summary: &Summary, file: Option<&Path>) -> Result<(), Failure> {
    write_line(&summary.json_line(), file)
}

pub(super) fn write_line(line: &str, file: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = file else { return Ok(()) };
    std::fs::write(path, format!("{line}\n")).map_err(|e| {
        Error::config(format!("{} cannot be written", path.display())).because(e).into()
    })
}

/// Says that there is no plan because the source is empty.
pub(super) fn finish_empty(
    ctx: &Context,
    name: &str,
    exit: Exit,
    file: Option<&Path>,
) -> Result<(), Failure> {
    let (rows, slices) = (Counts::default(), SliceCounts::default());
    let line = serde_json::json!({
        "v": 1, "plan": null, "status": slices.status(), "slices": slices, "rows": rows,
        "plan_rows": rows, "outside": 0, "digest": null, "verified_through": null,
        "verified_back_to": null, "seconds": 0.0, "rows_per_second": 0,
        "exit": exit.code(), "report": null,
    });
    write_line(&line.to_string(), file)?;
    match ctx.output.format {
        Format::Json => ctx.output.json(&line),
        Format::Text => {
            ctx.output.result(&format!("{name}: the source is empty; nothing to do"));
        }
    }
    Ok(())
}

/// Prints a summary in the way the user asked for, and writes it to the file where one is named.
pub(super) fn finish(ctx: &Context, summary: &Summary, file: Option<&Path>) -> Result<(), Failure> {
    write_summary(summary, file)?;
    match ctx.output.format {
        Format::Json => {
            note_troubles(ctx, summary);
            ctx.output.result(&summary.json_line());
        }
        Format::Text => ctx.output.result(&summary.text()),
    }
    Ok(())
}

/// Why slices are not done, for those who read JSON.
pub(super) fn note_troubles(ctx: &Context, summary: &Summary) {
    for trouble in &summary.troubles {
        ctx.output.note(trouble);
    }
}
