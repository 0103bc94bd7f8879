//! The commands. Each has a file with its arguments and its work.

mod after;
pub mod check;
pub mod completions;
mod connect;
mod consent;
mod differences;
mod estimate;
pub mod exec;
pub mod exit;
pub mod flags;
pub mod gaps;
pub mod grants;
pub mod init;
pub mod job;
pub mod list;
pub mod log;
pub mod man;
pub mod output;
pub mod parse;
pub mod plan;
pub mod preview;
pub mod progress;
mod reference;
pub mod rejects;
pub mod report;
pub mod run;
pub mod schema;
pub mod show;
pub mod status;
pub mod summary;
mod table;
mod tell;
pub mod trial;
pub mod undo;
pub mod verify;
mod watch;
mod work;

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::exit::Exit;
use self::output::{Failure, Format, LogWriter, Output};

/// Inserts historical time-series data into a live database and proves that it arrived.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub globals: Globals,
}

const AFTER: &str = "\
JOB is a spec, a plan file, `-` (a spec on standard input) or a plan's name in the ledger.
Every flag can be set by the environment: --state-dir as RETROFILL_STATE_DIR.
Exit codes: 0 all verified, 1 some slices failed, 2 bad usage, spec or rights, 3 mismatch,
4 stopped on purpose, 5 held by another runner or plan and spec no longer fit, 6 too many rejects.";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// Where the job keeps its state [default: .retrofill/<name>/ beside the spec].
    #[arg(long, global = true, env = "RETROFILL_STATE_DIR", hide_env = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How results are printed.
    #[arg(
        long,
        global = true,
        env = "RETROFILL_OUTPUT",
        hide_env = true,
        value_enum,
        default_value = "text"
    )]
    pub output: Format,
    /// Print no progress and no notes.
    #[arg(
        short,
        long,
        global = true,
        env = "RETROFILL_QUIET",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub quiet: bool,
    /// Log more to stderr; twice for details.
    #[arg(
        short,
        long,
        global = true,
        env = "RETROFILL_VERBOSE",
        hide_env = true,
        action = ArgAction::Count
    )]
    pub verbose: u8,
}

/// The commands of this version.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the source, guess its format, and write a spec to start from.
    Init(init::InitArgs),
    /// Check the spec: every error at once. With `--connect` also source and target.
    Check(check::CheckArgs),
    /// Show the first rows as they would be loaded, and what would be refused. Writes nothing.
    Preview(preview::PreviewArgs),
    /// Show what is missing, and what of that the source can fill. Writes nothing.
    Gaps(gaps::GapsArgs),
    /// Freeze what `run` will do, and print it. Writes nothing to the target.
    Plan(plan::PlanArgs),
    /// Load a sample aside, prove it, and forecast the full run. Leaves nothing in the target.
    Trial(trial::TrialArgs),
    /// Load and prove; plans first if needed, and always resumes.
    Run(run::RunArgs),
    /// Load and prove exactly one slice; its receipt goes to stdout as JSON.
    Exec(exec::ExecArgs),
    /// Prove again, without writing.
    Verify(verify::VerifyArgs),
    /// Show how far the job is, and why it is not further.
    Status(status::StatusArgs),
    /// List the jobs that were planned here, with their plans.
    List(list::ListArgs),
    /// Show one slice: its tries, counts and digests.
    Show(show::ShowArgs),
    /// Show the journal.
    Log(log::LogArgs),
    /// Write everything there is to say about the job: a page, Markdown or JSON.
    Report(report::ReportArgs),
    /// Show refused rows, write them to a file, or try them again.
    Rejects(rejects::RejectsArgs),
    /// Take out exactly what this job wrote, where that is provable.
    Undo(undo::UndoArgs),
    /// Print the rights that the job needs in source and target, as statements.
    Grants(grants::GrantsArgs),
    /// Print the JSON Schema of the spec.
    Schema(schema::SchemaArgs),
    /// Print what a shell needs to complete commands and flags.
    Completions(completions::CompletionsArgs),
    /// Print the manual, or write a page for each command.
    Man(man::ManArgs),
}

impl Command {
    /// Where the last line for machines goes too, in the commands that have one.
    fn summary_file(&self) -> Option<&Path> {
        match self {
            Command::Trial(args) => args.summary_file.path(),
            Command::Run(args) => args.summary_file.path(),
            Command::Exec(args) => args.summary_file.path(),
            Command::Verify(args) => args.summary_file.path(),
            Command::Undo(args) => args.summary_file.path(),
            Command::Rejects(rejects::RejectsArgs { what: rejects::What::Replay(args) }) => {
                args.summary_file.path()
            }
            _ => None,
        }
    }
}

/// What every command needs.
#[derive(Debug)]
pub struct Context {
    /// Prints.
    pub output: Output,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
}

impl Context {
    /// From the flags.
    pub fn new(globals: &Globals) -> Self {
        let output = Output { format: globals.output, quiet: globals.quiet };
        Context { output, state_dir: globals.state_dir.clone() }
    }
}

/// Does what was asked for, and says how the process ends.
pub async fn dispatch(cli: Cli) -> Exit {
    let ctx = Context::new(&cli.globals);
    let result = match &cli.command {
        Command::Init(args) => init::execute(&ctx, args).await,
        Command::Check(args) => check::execute(&ctx, args).await,
        Command::Preview(args) => preview::execute(&ctx, args).await,
        Command::Gaps(args) => gaps::execute(&ctx, args).await,
        Command::Plan(args) => plan::execute(&ctx, args).await,
        Command::Trial(args) => trial::execute(&ctx, args).await,
        Command::Run(args) => run::execute(&ctx, args).await,
        Command::Exec(args) => exec::execute(&ctx, args).await,
        Command::Verify(args) => verify::execute(&ctx, args).await,
        Command::Status(args) => status::execute(&ctx, args).await,
        Command::Show(args) => show::execute(&ctx, args).await,
        Command::Log(args) => log::execute(&ctx, args).await,
        Command::Report(args) => report::execute(&ctx, args).await,
        Command::Rejects(args) => rejects::execute(&ctx, args).await,
        Command::Undo(args) => undo::execute(&ctx, args).await,
        Command::List(args) => list::execute(&ctx, args).await,
        Command::Grants(args) => grants::execute(&ctx, args).await,
        Command::Schema(args) => schema::execute(&ctx, args),
        Command::Completions(args) => completions::execute(&ctx, args),
        Command::Man(args) => man::execute(&ctx, args),
    };
    result.unwrap_or_else(|failure: Failure| {
        ctx.output.failure(&failure);
        if let Some(path) = cli.command.summary_file()
            && let Err(e) = std::fs::write(path, format!("{}\n", failure.json()))
        {
            ctx.output.warning(&format!("{} cannot be written: {e}", path.display()));
        }
        failure.exit()
    })
}

/// Logs go to stderr: warnings, or more with `-v`, or only errors with `--quiet`. Libraries log
/// warnings at most, unless `-vvv`.
pub fn start_logging(globals: &Globals) {
    let filter = match (globals.quiet, globals.verbose) {
        (true, 0) => "error",
        (_, 0) => "warn",
        (_, 1) => "warn,retrofill=info,retrofill_core=info,retrofill_connectors=info",
        (_, 2) => "info,retrofill=debug,retrofill_core=debug,retrofill_connectors=debug",
        _ => "debug,retrofill=trace,retrofill_core=trace,retrofill_connectors=trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(|| LogWriter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_can_be_set_by_the_environment() {
        let mut command = Cli::command();
        command.build();
        let mut all = vec![&command];
        for at in 0.. {
            let Some(command) = all.get(at) else { break };
            all.extend(command.get_subcommands());
        }
        assert!(all.iter().any(|c| c.get_name() == "replay"));
        for sub in all {
            for arg in sub.get_arguments().filter(|a| !a.is_positional()) {
                let Some(long) = arg.get_long().filter(|l| !matches!(*l, "help" | "version"))
                else {
                    continue;
                };
                let name = format!("RETROFILL_{}", long.to_uppercase().replace('-', "_"));
                let given = arg.get_env().and_then(std::ffi::OsStr::to_str);
                assert_eq!(given, Some(name.as_str()), "{} --{long}", sub.get_name());
            }
        }
    }

    #[test]
    fn the_help_of_every_command() {
        let mut command = Cli::command().term_width(100).disable_help_subcommand(true);
        command.build();
        let mut text = command.render_help().to_string();
        for sub in command.get_subcommands_mut().filter(|s| s.get_name() != "help") {
            let help = sub.render_help();
            text = format!("{text}\n=== {}\n{help}", sub.get_name());
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn arguments_arrive() {
        let line = "retrofill run a.yaml --from 2019-01-01 --to 2019-02-01T00:00:00Z \
                    --select failed,stale --replan --output json -q -vv --state-dir s";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!((cli.globals.output, cli.globals.quiet), (Format::Json, true));
        assert_eq!(cli.globals.verbose, 2);
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.job.text, "a.yaml");
        assert_eq!(args.select, [run::Selected::Failed, run::Selected::Stale]);
        assert!(args.replan.replan && !args.again && args.from.is_some());
        let cli = Cli::try_parse_from(["retrofill", "status"]).unwrap();
        let Command::Status(args) = cli.command else { panic!("not status") };
        assert_eq!(args.job.text, "./backfill.yaml");
        for bad in ["run --from yesterday", "run --select planned", "verify --level all", "exec p"]
        {
            let words = std::iter::once("retrofill").chain(bad.split_whitespace());
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }
}
