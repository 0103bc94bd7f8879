//! `retrofill verify`: prove again, without writing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use retrofill_core::error::Error;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::Failure;

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// How closely to look.
    #[arg(long, env = "RETROFILL_LEVEL", hide_env = true, value_enum, default_value = "digest")]
    pub level: Level,
    /// Write the JSON summary line to this file too.
    #[arg(long, value_name = "FILE", env = "RETROFILL_SUMMARY_FILE", hide_env = true)]
    pub summary_file: Option<PathBuf>,
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Rows are counted.
    Count,
    /// Every value is read and compared by digest.
    Digest,
}

/// Does it.
#[expect(clippy::unused_async, reason = "the engine behind it waits")]
pub async fn execute(_ctx: &Context, _args: &VerifyArgs) -> Result<Exit, Failure> {
    Err(Error::config("`verify` is not part of this build").into())
}
