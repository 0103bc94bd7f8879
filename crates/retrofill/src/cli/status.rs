//! `retrofill status`: how far the job is.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Show it again every two seconds, until all is done.
    #[arg(
        long,
        env = "RETROFILL_WATCH",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub watch: bool,
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
pub async fn execute(_ctx: &Context, _args: &StatusArgs) -> Result<Exit, Failure> {
    Err(Error::config("`status` is not part of this build").into())
}
