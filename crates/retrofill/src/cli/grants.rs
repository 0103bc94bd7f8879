//! `retrofill grants`: the rights that a job needs, and no more.

use clap::Args;
use retrofill_core::examine::{End, Wanted};
use serde::Serialize;

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::{Failure, Format};

/// Arguments of `grants`.
#[derive(Debug, Clone, Args)]
pub struct GrantsArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Who gets the rights [default: the user in the target's address].
    #[arg(long, value_name = "ROLE", env = "RETROFILL_ROLE", hide_env = true)]
    pub role: Option<String>,
}

/// What `grants` says to machines.
#[derive(Serialize)]
struct Granted<'a> {
    v: u8,
    statements: &'a [String],
}

/// Prints the statements. Nothing is run.
pub async fn execute(ctx: &Context, args: &GrantsArgs) -> Result<Exit, Failure> {
    let job = args.job.open(ctx.state_dir.as_deref())?.job;
    let wanted = Wanted {
        end: End::Target,
        rows: job.spec.rows.clone(),
        write: job.spec.write.clone(),
        after: job.after.clone(),
    };
    let statements = job.target()?.grants(args.role.as_deref(), &wanted).await?;
    match ctx.output.format {
        Format::Json => ctx.output.json(&Granted { v: 1, statements: &statements }),
        Format::Text => ctx.output.result(&statements.join("\n")),
    }
    Ok(Exit::Done)
}
