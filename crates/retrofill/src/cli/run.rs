//! `retrofill run`: load and prove.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, ValueEnum};
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;
use crate::config::Moment;

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Only slices that end after this: a date in the spec's time zone, or RFC 3339.
    #[arg(
        long,
        value_name = "TIME",
        env = "RETROFILL_FROM",
        hide_env = true,
        value_parser = Moment::parse
    )]
    pub from: Option<Moment>,
    /// Only slices that start before this.
    #[arg(
        long,
        value_name = "TIME",
        env = "RETROFILL_TO",
        hide_env = true,
        value_parser = Moment::parse
    )]
    pub to: Option<Moment>,
    /// Only slices in these states, separated by commas.
    #[arg(
        long,
        value_name = "STATES",
        env = "RETROFILL_SELECT",
        hide_env = true,
        value_enum,
        value_delimiter = ','
    )]
    pub select: Vec<Selected>,
    /// Plan anew where an unfinished plan and the spec no longer fit.
    #[arg(
        long,
        env = "RETROFILL_REPLAN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub replan: bool,
    /// Append although rows of this stretch of time were appended before.
    #[arg(
        long,
        env = "RETROFILL_AGAIN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub again: bool,
    /// Exit with 99 instead of 0 where there was nothing to do.
    #[arg(
        long,
        env = "RETROFILL_SKIP_IF_DONE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub skip_if_done: bool,
    /// Write the JSON summary line to this file too.
    #[arg(long, value_name = "FILE", env = "RETROFILL_SUMMARY_FILE", hide_env = true)]
    pub summary_file: Option<PathBuf>,
}

/// States that can be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Selected {
    /// Given up after all tries.
    Failed,
    /// Read back different.
    Mismatched,
    /// Source, receipt or data changed since.
    Stale,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &RunArgs) -> Result<Exit, Failure> {
    Err(Error::config("`run` is not part of this build").into())
}
