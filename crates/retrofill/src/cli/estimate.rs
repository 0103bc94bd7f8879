//! `retrofill plan --survey sample`: a first look at what a plan would be.

use retrofill_core::error::Error;
use retrofill_core::plan::{Plan, PlanFile};
use retrofill_core::reject::Reject;

use super::Context;
use super::exit::Exit;
use super::job::Opened;
use super::output::{Failure, Format, grouped};
use super::plan::{LISTED, PlanArgs, bytes, columns, empty, write};
use super::summary::{count, interval};
use super::table::cell;
use super::watch::Screen;

/// No more refused lines than these are shown.
const SHOWN: usize = 5;

/// Prints the estimate. Keeps nothing: neither ledger nor state directory is touched.
pub(super) async fn execute(
    ctx: &Context,
    args: &PlanArgs,
    opened: Opened,
) -> Result<Exit, Failure> {
    check(args, &opened)?;
    let job = opened.job;
    let screen = Screen::new(ctx.output);
    let (source, target) = (job.source()?, job.target()?);
    let made = job.estimate(source.as_ref(), target.as_ref(), screen.survey()).await;
    screen.finish();
    let Some(plan) = made? else {
        empty(ctx, &job.spec.name);
        return Ok(Exit::Done);
    };
    write(args, &plan)?;
    match ctx.output.format {
        Format::Json => ctx.output.json(&PlanFile::of(plan)),
        Format::Text => ctx.output.result(&text(&plan)),
    }
    Ok(Exit::Done)
}

/// What an estimate cannot be asked.
fn check(args: &PlanArgs, opened: &Opened) -> Result<(), Error> {
    let (what, hint) = if opened.plan.is_some() {
        let what = format!("`{}` is a plan already; there is nothing to estimate", args.job.text);
        (what, "name its spec to look at the source anew")
    } else if args.only_gaps {
        let hint = "gaps are found by reading all rows: leave one of the two out";
        ("`--only-gaps` cannot be told from a sample".to_owned(), hint)
    } else if args.detailed.detailed_exitcode {
        let hint = "a sample does not tell what is outstanding: leave one of the two out";
        ("`--detailed-exitcode` cannot be told from a sample".to_owned(), hint)
    } else {
        return Ok(());
    };
    Err(Error::config(what).hint(hint))
}

fn text(plan: &Plan) -> String {
    let sampled = plan.survey.sampled.unwrap_or_default();
    let share = 100.0 * sampled.looked_at as f64 / sampled.bytes.max(1) as f64;
    let mut out = vec![
        format!(
            "{}: {} -> {}      ESTIMATE, nothing is planned",
            plan.spec.name, plan.spec.source.label, plan.spec.target.label
        ),
        format!(
            "  by a sample: {} of {} were looked at ({share:.1} %)",
            bytes(sampled.looked_at),
            bytes(sampled.bytes)
        ),
        format!(
            "  about {} in about {}, every {} in {}   about {}",
            count(plan.estimated_rows(), "row"),
            count(plan.slices.len() as u64, "slice"),
            plan.every,
            plan.spec.range.timezone,
            interval(&plan.range)
        ),
        format!("  columns  {}", columns(plan)),
    ];
    for (rows, place) in [(plan.earlier, "before"), (plan.later, "after")] {
        if rows > 0 {
            out.push(format!("  about {} lie {place} the range", count(rows, "row")));
        }
    }
    if plan.survey.unplaced > 0 {
        let lines = count(plan.survey.unplaced, "line");
        out.push(format!("  about {lines} cannot be placed in time and would be rejected"));
    }
    out.extend(plan.survey.unplaced_rejects.iter().take(SHOWN).map(refused));
    if plan.survey.filtered > 0 {
        let rows = count(plan.survey.filtered, "row");
        out.push(format!("  about {rows} left out by the transform have no time among the others"));
    }
    out.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    for slice in plan.slices.iter().take(LISTED) {
        out.push(format!("    {}  about {}", slice.id(), count(slice.rows, "row")));
    }
    if plan.slices.len() > LISTED {
        out.push(format!("    and about {} more", grouped((plan.slices.len() - LISTED) as u64)));
    }
    out.push("Next: retrofill plan (reads all of the source)".into());
    out.join("\n")
}

/// A line that was found in the sample.
fn refused(reject: &Reject) -> String {
    let column = reject.column.as_ref().map_or(String::new(), |c| format!(" `{c}`"));
    format!("    {}{column}: {}\n      {}", reject.place, reject.reason, cell(&reject.text))
}
