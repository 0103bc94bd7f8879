//! `retrofill exec`: load and prove exactly one slice.

use std::path::PathBuf;

use clap::Args;
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::output::Failure;

/// Arguments of `exec`.
#[derive(Debug, Clone, Args)]
pub struct ExecArgs {
    /// A plan file, or a plan's name in the ledger.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// The slice, such as `20190101T000000Z`.
    #[arg(long, value_name = "ID", env = "RETROFILL_SLICE", hide_env = true)]
    pub slice: String,
    /// Write the JSON summary line to this file too.
    #[arg(long, value_name = "FILE", env = "RETROFILL_SUMMARY_FILE", hide_env = true)]
    pub summary_file: Option<PathBuf>,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &ExecArgs) -> Result<Exit, Failure> {
    Err(Error::config("`exec` is not part of this build").into())
}
