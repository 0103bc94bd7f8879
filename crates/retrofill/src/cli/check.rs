//! `retrofill check`: every problem of the spec at once.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use super::connect;
use super::exit::Exit;
use super::job::JobArg;
use super::output::{Failure, Format};
use crate::config::Problems;
use crate::job::Job;

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The spec.
    #[command(flatten)]
    pub job: JobArg,
    /// Open source and target too, and look for everything that could keep a run from working.
    #[arg(
        long,
        env = "RETROFILL_CONNECT",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub connect: bool,
}

/// Checks the spec; opens source and target only where that is asked for, and writes nothing.
pub async fn execute(ctx: &Context, args: &CheckArgs) -> Result<Exit, Failure> {
    let loaded = match args.job.load_spec() {
        Ok(loaded) => loaded,
        Err(Failure::Spec(problems)) if ctx.output.format == Format::Json => {
            ctx.output.json(&Checked::bad(&problems));
            return Ok(Exit::Config);
        }
        Err(failure) => return Err(failure),
    };
    if args.connect {
        return connect::execute(ctx, &Job::new(loaded, ctx.state_dir.clone())).await;
    }
    let spec = &loaded.spec;
    match ctx.output.format {
        Format::Json => ctx.output.json(&Checked::good(&spec.name)),
        Format::Text => ctx.output.result(&format!(
            "{}: {} -> {}\n  the spec is sound; nothing was opened\n\
             Next: retrofill check --connect | plan | run",
            spec.name, spec.source.label, spec.target.label
        )),
    }
    Ok(Exit::Done)
}

/// What `check` says to machines.
#[derive(Serialize)]
struct Checked<'a> {
    v: u8,
    name: Option<&'a str>,
    problems: Value,
    exit: u8,
}

impl<'a> Checked<'a> {
    fn good(name: &'a str) -> Self {
        Checked { v: 1, name: Some(name), problems: json!([]), exit: Exit::Done.code() }
    }

    fn bad(problems: &Problems) -> Self {
        Checked { v: 1, name: None, problems: problems.json(), exit: Exit::Config.code() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;

    #[tokio::test]
    async fn a_bad_spec_exits_2_in_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backfill.yaml");
        std::fs::write(&path, "source: a.csv\ntarget: delta:o\nrow: { time: t }\n").unwrap();
        let job = JobArg::named(path.to_str().unwrap());
        let args = CheckArgs { job, connect: false };
        let with = |format| Context { output: Output { format, quiet: true }, state_dir: None };
        let failure = execute(&with(Format::Text), &args).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        let Failure::Spec(problems) = failure else { panic!("not the spec's fault") };
        assert_eq!(execute(&with(Format::Json), &args).await.unwrap(), Exit::Config);
        let json = serde_json::to_value(Checked::bad(&problems)).unwrap();
        assert_eq!(json["problems"][0]["message"], "unknown key `row`");
        assert_eq!(json["problems"][0]["hint"], "did you mean `rows`?");
        assert_eq!(
            (&json["problems"][0]["line"], &json["problems"][0]["column"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(json["problems"].as_array().map(Vec::len), Some(1));
    }

    #[tokio::test]
    async fn a_good_spec_exits_0() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backfill.yaml");
        std::fs::write(&path, "source: a.csv\ntarget: delta:o\nrows: { time: t }\n").unwrap();
        let args = CheckArgs { job: JobArg::named(path.to_str().unwrap()), connect: false };
        let ctx = Context { output: Output::default(), state_dir: None };
        assert_eq!(execute(&ctx, &args).await.unwrap(), Exit::Done);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "check writes nothing");
    }
}
