//! `retrofill show`: one slice in detail.

use clap::Args;
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::output::Failure;

/// Arguments of `show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// A spec, a plan file, or a plan's name in the ledger.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The slice, such as `20190101T000000Z`.
    #[arg(value_name = "ID")]
    pub slice: String,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &ShowArgs) -> Result<Exit, Failure> {
    Err(Error::config("`show` is not part of this build").into())
}
