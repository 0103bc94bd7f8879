//! `retrofill report`: everything there is to say about a job, for people and machines.

use std::path::{Path, PathBuf};

use clap::Args;

use jiff::Timestamp;
use retrofill_core::env::Scratch as _;
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::{Failure, Format};
use crate::env::DirScratch;
use crate::job::Job;
use crate::report::{FILE, Form, Inputs, JustEnded, Report, gather};

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Write it to this file; its ending says how: .html, .md or .json [default: report.html in
    /// the state directory].
    #[arg(short, long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
}

/// Writes the report and prints where; with `--output json` prints the JSON report.
pub async fn execute(ctx: &Context, args: &ReportArgs) -> Result<Exit, Failure> {
    let form = match &args.out {
        Some(path) => Some(Form::of(path).ok_or_else(|| {
            Error::config(format!("`{}` has no ending of a report", path.display()))
                .hint("a file that ends in .html, .md or .json")
        })?),
        None => None,
    };
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let job = opened.job;
    let journal = job.journal_read_only()?;
    let never = || {
        Error::config(format!("`{}` was never run or planned", job.spec.name))
            .hint("`retrofill run` plans and loads it")
    };
    let frozen = match opened.plan {
        Some(plan) => plan,
        None => job.frozen()?.ok_or_else(never)?,
    };
    if journal.summary(&frozen.id).await?.is_none() {
        return Err(never().into());
    }
    let scratch = DirScratch::open(&job.state_dir)?;
    let report = gather(Inputs {
        plan: &frozen.with(&job.spec),
        labels: &job.labels,
        journal: &journal,
        scratch: &scratch,
        run: None::<JustEnded>,
        now: Timestamp::now(),
    })
    .await?;
    let path = match (&args.out, form) {
        (Some(path), Some(form)) => {
            std::fs::write(path, report.write(form)).map_err(|e| {
                Error::config(format!("{} cannot be written", path.display())).because(e)
            })?;
            path.clone()
        }
        _ => keep(&job, &scratch, &report).await?,
    };
    match ctx.output.format {
        Format::Json => ctx.output.result(&report.json_line()),
        Format::Text => ctx.output.result(&path.display().to_string()),
    }
    Ok(Exit::Done)
}

/// Writes the page into the state directory; gives its path.
pub(super) async fn keep(
    job: &Job,
    scratch: &DirScratch,
    report: &Report,
) -> Result<PathBuf, Error> {
    scratch.write(FILE, report.write(Form::Html).as_bytes()).await?;
    Ok(Path::join(&job.state_dir, FILE))
}
