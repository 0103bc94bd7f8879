//! `retrofill completions`: what a shell needs to complete commands and flags.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use retrofill_core::error::Error;

use super::exit::Exit;
use super::output::Failure;
use super::{Cli, Context};

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
    /// Write to this file instead of stdout.
    #[arg(short, long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
}

/// Prints or writes the shell's script.
pub fn execute(ctx: &Context, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "retrofill", &mut script);
    match &args.out {
        None => ctx.output.result(&String::from_utf8_lossy(&script)),
        Some(path) => std::fs::write(path, script)
            .map_err(|e| Error::config(format!("cannot write `{}`", path.display())).because(e))?,
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::output::Output;

    #[test]
    fn every_shell_completes_every_command() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Context { output: Output::default(), state_dir: None };
        for shell in Shell::value_variants() {
            let out = dir.path().join(shell.to_string());
            let args = CompletionsArgs { shell: *shell, out: Some(out.clone()) };
            assert_eq!(execute(&ctx, &args).unwrap(), Exit::Done);
            let script = std::fs::read_to_string(out).unwrap();
            for word in ["verify", "replay", "--detailed-exitcode"] {
                // Fish leaves the dashes of flags away.
                let word = if *shell == Shell::Fish { word.trim_start_matches('-') } else { word };
                assert!(script.contains(word), "{shell} lacks {word}");
            }
        }
    }
}
