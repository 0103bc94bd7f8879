//! `retrofill grants`: the rights that a job needs at both ends, and no more.

use clap::Args;
use retrofill_core::error::Error;
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
    /// Who gets the rights [default: the user in the address of the source or target].
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
    let wanted = |end| Wanted {
        end,
        rows: job.spec.rows.clone(),
        write: job.spec.write.clone(),
        after: job.after.clone(),
        reads: Vec::new(),
    };
    let role = args.role.as_deref();
    let mut statements = job.source()?.grants(role, &wanted(End::Source)).await?;
    statements.extend(job.target()?.grants(role, &wanted(End::Target)).await?);
    if statements.is_empty() {
        let what = "neither source nor target grants rights by statements";
        return Err(Error::config(what)
            .hint("files belong to the user that runs the job; `check` looks at both ends")
            .into());
    }
    match ctx.output.format {
        Format::Json => ctx.output.json(&Granted { v: 1, statements: &statements }),
        Format::Text => ctx.output.result(&statements.join("\n")),
    }
    Ok(Exit::Done)
}
