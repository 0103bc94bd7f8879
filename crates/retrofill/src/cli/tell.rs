//! After a run: writes the report and tells those who want to know. Nothing here changes how the
//! process ends: what fails is a warning.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use retrofill_core::error::Error;
use retrofill_core::plan::Plan;
use serde_json::{Value, json};

use super::Context;
use super::exit::Exit;
use super::output::{Failure, describe, grouped, seconds};
use super::report::keep;
use super::summary::{Summary, count, interval};
use super::work::{Done, sum_up};
use crate::env::DirScratch;
use crate::job::Job;
use crate::ledger::SqliteJournal;
use crate::notify::{Message, Occasion, Sender};
use crate::report::{Inputs, JustEnded, Report, fates, gather, headline};

/// Writes the report of a run that did something, and names it in the summary.
pub(super) async fn report(ctx: &Context, called: Timestamp, done: &mut Done) -> Option<Report> {
    if done.summary.nothing_to_do {
        return None;
    }
    let ended = JustEnded {
        called,
        rows: done.summary.rows,
        seconds: done.summary.seconds,
        exit: done.summary.exit.code(),
        error: done.stopped.as_ref().map(ToString::to_string),
    };
    let written = write(&done.job, &done.plan, &done.parts.journal, ended).await;
    let (report, path) = warned(ctx, written)?;
    done.summary.report = Some(path);
    Some(report)
}

/// Tells how a run ended whose summary has been printed.
pub(super) async fn notify(ctx: &Context, done: &Done, report: Option<Report>) {
    let summary = &done.summary;
    let idle = summary.nothing_to_do && matches!(summary.exit, Exit::Done | Exit::Skipped);
    if done.job.notify.is_empty() || idle {
        return;
    }
    let too_many = summary.exit == Exit::Rejects;
    let mut sentence = headline(&summary.slices, &summary.plan_rows, too_many);
    if let Some(e) = &done.stopped {
        sentence = format!("{sentence}. Stopped early: {e}");
    }
    let message = message(summary, sentence, None);
    send(ctx, &done.job, &message, report).await;
}

/// Tells that a later look has found what is no longer there. A look that finds nothing tells
/// nobody.
pub(super) async fn verified(ctx: &Context, job: &Job, summary: &Summary) {
    if summary.exit == Exit::Mismatched && !job.notify.is_empty() {
        let sentence = headline(&summary.slices, &summary.plan_rows, false);
        send(ctx, job, &message(summary, sentence, None), None).await;
    }
}

/// Tells of a run that could not be made. Another runner's report is left alone.
pub(super) async fn failed(ctx: &Context, called: Timestamp, job: &Job, failure: &Failure) {
    let why = match failure {
        Failure::Spec(problems) => problems.clone().into_error().to_string(),
        Failure::Error(error) | Failure::As(_, error) => error.to_string(),
    };
    let exit = failure.exit();
    let mut known = if exit == Exit::Held { None } else { standing(job).await };
    let mut page = None;
    if let Some((plan, journal, summary)) = &mut known {
        summary.seconds = Timestamp::now().duration_since(called).as_secs_f64().max(0.0);
        let ended = JustEnded {
            called,
            rows: summary.rows,
            seconds: summary.seconds,
            exit: exit.code(),
            error: Some(why.clone()),
        };
        summary.exit = exit;
        if let Some((report, path)) = warned(ctx, write(job, plan, journal, ended).await) {
            summary.report = Some(path);
            page = Some(report);
        }
    }
    if job.notify.is_empty() {
        return;
    }
    let sentence = format!("The run could not be made: {why}");
    let message = match known {
        Some((_, _, summary)) => message(&summary, sentence, Some(&why)),
        None => Message {
            name: job.spec.name.clone(),
            occasion: Occasion::of(exit),
            headline: sentence,
            facts: Vec::new(),
            summary: json!({
                "v": 1, "plan": null, "status": "failed", "exit": exit.code(), "report": null,
                "error": why,
            }),
        },
    };
    send(ctx, job, &message, page).await;
}

/// What the ledger knows of the frozen plan, where there is one: a look that may fail like the
/// run itself.
async fn standing(job: &Job) -> Option<(Arc<Plan>, Arc<SqliteJournal>, Summary)> {
    let plan = Arc::new(job.frozen().ok()??.with(&job.spec));
    let journal = job.journal_read_only().ok()?;
    // A ledger that cannot be trusted is what the run itself has failed with.
    journal.check_chain(&plan.id).await.ok()?;
    let known = journal.summary(&plan.id).await.ok()??;
    let summary = sum_up(&plan, &known, 0.0);
    Some((plan, journal, summary))
}

async fn write(
    job: &Job,
    plan: &Plan,
    journal: &SqliteJournal,
    ended: JustEnded,
) -> Result<(Report, String), Error> {
    let scratch = DirScratch::open(&job.state_dir)?;
    let labels: &BTreeMap<_, _> = &job.labels;
    let now = Timestamp::now();
    let inputs = Inputs { plan, labels, journal, scratch: &scratch, run: Some(ended), now };
    let report = gather(inputs).await?;
    let path = keep(job, &scratch, &report).await?;
    Ok((report, path.display().to_string()))
}

fn warned<T>(ctx: &Context, written: Result<T, Error>) -> Option<T> {
    let failed = |e| ctx.output.warning(&format!("no report was written: {}", describe(&e)));
    written.map_err(failed).ok()
}

fn message(summary: &Summary, headline: String, error: Option<&str>) -> Message {
    let mut line = serde_json::to_value(summary).expect("a summary is plain JSON");
    if let (Some(error), Value::Object(map)) = (error, &mut line) {
        map.insert("error".into(), error.into());
    }
    Message {
        name: summary.job.clone(),
        occasion: Occasion::of(summary.exit),
        headline,
        facts: facts(summary),
        summary: line,
    }
}

/// The numbers that a person wants in a message.
fn facts(summary: &Summary) -> Vec<(&'static str, String)> {
    let rows = &summary.rows;
    let mut parts = vec![format!("{} read", grouped(rows.read))];
    for (word, number) in fates(rows) {
        if number > 0 {
            parts.push(format!("{} {word}", grouped(number)));
        }
    }
    let done = grouped(summary.slices.done());
    let mut facts = vec![
        ("Slices", format!("{done} of {} done", grouped(summary.slices.total))),
        ("Rows of this run", parts.join(", ")),
        ("Range", interval(&summary.interval)),
        ("From", summary.source.clone()),
        ("To", summary.target.clone()),
    ];
    if summary.seconds > 0.0 {
        let length = seconds(summary.seconds);
        facts.push((
            "Took",
            format!("{length}, {} a second", count(summary.rows_per_second(), "row")),
        ));
    }
    if let Some(trouble) = summary.troubles.first() {
        facts.push(("First trouble", trouble.clone()));
    }
    facts.push(("Plan", summary.plan.clone()));
    if let Some(report) = &summary.report {
        facts.push(("Report", report.clone()));
    }
    facts
}

/// Who cannot be told is named on standard error and in the report.
async fn send(ctx: &Context, job: &Job, message: &Message, report: Option<Report>) {
    let not_told = Sender::default().send(&job.notify, message).await;
    for line in &not_told {
        ctx.output.warning(line);
    }
    if let Some(mut report) = report.filter(|_| !not_told.is_empty()) {
        report.not_told = not_told;
        let written = async { keep(job, &DirScratch::open(&job.state_dir)?, &report).await };
        warned(ctx, written.await);
    }
}
