//! `retrofill plan`: freeze what `run` will do.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Write the plan to this file too.
    #[arg(short, long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
    /// Exit with 10 instead of 0 while work is outstanding.
    #[arg(
        long,
        env = "RETROFILL_DETAILED_EXITCODE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub detailed_exitcode: bool,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &PlanArgs) -> Result<Exit, Failure> {
    Err(Error::config("`plan` is not part of this build").into())
}
