//! `retrofill log`: the journal.

use clap::Args;
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;

/// Arguments of `log`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &LogArgs) -> Result<Exit, Failure> {
    Err(Error::config("`log` is not part of this build").into())
}
