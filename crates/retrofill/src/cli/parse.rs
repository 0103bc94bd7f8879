//! From the words of the command line and the environment to what is to be done.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use super::output::Output;

/// Understands the command line. A variable that is empty counts as not set, as shells and
/// orchestrators mean it.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = without_empty(Cli::command());
    let mut matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command))
}

fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    });
    let names: Vec<_> = command.get_subcommands().map(|s| s.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, without_empty))
}

/// Prints why a command line was not understood, or the help that was asked for; gives the exit
/// code. Who asked for JSON gets a line of it, too.
pub fn refuse(error: &clap::Error, words: &[OsString]) -> u8 {
    // A reader that is gone is no failure of ours.
    let _ = error.print();
    if error.use_stderr() && wants_json(words) {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default().trim();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        Output::default().json(&serde_json::json!({
            "v": 1, "status": "failed", "exit": error.exit_code(),
            "error": { "kind": "usage", "message": message, "hint": "see `retrofill --help`" },
        }));
    }
    u8::try_from(error.exit_code()).unwrap_or(u8::MAX)
}

/// A command line that is not understood as a whole still tells what its reader expects.
fn wants_json(words: &[OsString]) -> bool {
    let given = words.iter().enumerate().find_map(|(i, word)| match word.to_str()? {
        "--output" => words.get(i + 1)?.to_str().map(str::to_owned),
        word => word.strip_prefix("--output=").map(str::to_owned),
    });
    given.or_else(|| std::env::var("RETROFILL_OUTPUT").ok()).is_some_and(|form| form == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_wanted_where_it_is_asked_for() {
        let wants = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            wants_json(&words)
        };
        assert!(wants("retrofill run --bad --output json"));
        assert!(wants("retrofill --output=json run --bad"));
        assert!(!wants("retrofill run --bad --output text"));
        assert!(!wants("retrofill run --bad --output"));
    }
}
