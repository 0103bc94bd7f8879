//! `retrofill verify`: prove again, without writing.

use clap::{Args, ValueEnum};

use std::sync::Arc;
use std::time::Instant;

use retrofill_core::error::Error;
use retrofill_core::runner::{self, Finding, Judgement, Options, Stop};

use super::Context;
use super::differences;
use super::exit::{Exit, Facts, decide};
use super::flags::SummaryFile;
use super::job::JobArg;
use super::output::Failure;
use super::output::{Format, grouped, seconds};
use super::summary::{Summary, count, extent};
use super::tell;
use super::watch::Screen;
use super::work::{sum_up, write_summary};
use crate::job::Parts;
use crate::signals::Signals;

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// How closely to look.
    #[arg(long, env = "RETROFILL_LEVEL", hide_env = true, value_enum, default_value = "digest")]
    pub level: Level,
    /// Level rows: so many of each class and slice at most.
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "ROWS",
        env = "RETROFILL_LIMIT",
        hide_env = true,
        default_value_t = 20
    )]
    pub limit: usize,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Rows are counted.
    Count,
    /// Every value is read and compared by digest, and every data file that was written is compared
    /// byte by byte with its checksum.
    Digest,
    /// Where a digest differs, the rows that differ are shown, and what they have in common.
    Rows,
}

/// Proves again.
pub async fn execute(ctx: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let plan = opened.run_plan("`retrofill run` loads it")?;
    let plan = Arc::new(plan);
    let parts = Parts::open(&opened.job)?;
    let screen = Screen::new(ctx.output);
    let stop = Arc::new(Stop::default());
    let output = ctx.output;
    let signals = Signals::listen(stop.clone(), move |text| output.note(text))?;
    let job = parts.for_runner(&plan, stop, screen.clone())?;
    let level = match args.level {
        Level::Count => runner::Level::Count,
        Level::Digest => runner::Level::Digest,
        Level::Rows => runner::Level::Rows { most: args.limit },
    };
    let result = Box::pin(runner::verify(job, Options::default(), level)).await;
    screen.finish();
    let findings = match (result, signals.exit()) {
        (Ok(findings), _) => findings,
        (Err(_), Some(130)) => return Ok(Exit::Interrupted),
        (Err(_), Some(_)) => return Ok(Exit::Terminated),
        (Err(e), None) => return Err(e.into()),
    };
    if findings.is_empty() {
        let error = Error::config(format!("no slice of plan {} is loaded", plan.id));
        return Err(error.hint("`retrofill run` loads it").into());
    }
    let standing = parts.journal.summary(&plan.id).await?;
    let standing = standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))?;
    let mut summary = sum_up(&plan, &standing, began.elapsed().as_secs_f64());
    let slices = &summary.slices;
    summary.exit = decide(Facts {
        mismatched: slices.mismatched > 0,
        failed: slices.failed + slices.unknown > 0,
        ..Facts::default()
    });
    if ctx.output.format == Format::Text {
        ctx.output.result(&text(&findings, &summary));
    }
    write_summary(&summary, args.summary_file.path())?;
    if ctx.output.format == Format::Json {
        for finding in &findings {
            differences::json(ctx.output, finding);
        }
        ctx.output.result(&summary.json_line());
    }
    tell::verified(ctx, &opened.job, &summary).await;
    Ok(summary.exit)
}

fn text(findings: &[Finding], summary: &Summary) -> String {
    let mut out = vec![format!(
        "{}: {} -> {}      {}",
        summary.job,
        summary.source,
        summary.target,
        extent(findings.len() as u64, &summary.interval, summary.whole)
    )];
    let mut good = 0;
    for finding in findings {
        let id = &finding.record.id;
        match &finding.judgement {
            Judgement::Verified => good += 1,
            Judgement::Extra { rows, doubled } => {
                good += 1;
                let copies = match doubled {
                    0 => String::new(),
                    n => format!(", {} of rows that were there", count(*n, "copy")),
                };
                let rows = count(*rows, "row");
                out.push(format!("  slice {id} verified; {rows} came in beside it{copies}"));
            }
            Judgement::Mismatched { reason, .. } => {
                out.push(format!("  slice {id} mismatched: {reason}"));
            }
            Judgement::CannotAttribute { reason } => {
                out.push(format!("  slice {id} cannot be attributed: {reason}"));
            }
        }
        out.extend(differences::lines(finding));
    }
    let todo = summary.slices.total - findings.len() as u64;
    out.push(format!(
        "  verified {}/{}   {}",
        grouped(good),
        grouped(findings.len() as u64),
        seconds(summary.seconds)
    ));
    let failed = summary.slices.failed + summary.slices.unknown;
    if failed > 0 {
        out.push(format!("  {} failed: `retrofill status` tells why", count(failed, "slice")));
    }
    if todo > failed {
        out.push(format!("  {} not loaded yet", count(todo - failed, "slice")));
    }
    if let Some(digest) = summary.digest.as_ref().filter(|_| good == findings.len() as u64) {
        out.push(format!("  proven by reading back: digest {digest}"));
    }
    out.push(match summary.exit {
        Exit::Mismatched => {
            "Next: retrofill verify --level rows | show | run --select mismatched".into()
        }
        _ => "Next: retrofill status | run (safe to repeat)".to_owned(),
    });
    out.join("\n")
}
