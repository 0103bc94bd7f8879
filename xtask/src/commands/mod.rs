//! One file per command, and the one place that names them.

mod bench;
mod check;
mod ci;
mod generate;
mod generate_compat;
mod generate_csv;
mod release_check;
mod server;
mod sim;
mod test;

use crate::shell::{Done, Failure};

const HELP: &str = "\
cargo xtask COMMAND

  check                    compile everything, lint it, look at its form
  test [--yes] [FILTER]    every test, set-up of a fresh machine included
  sim N [--planted]        the simulation with N seeds
  generate [--check]       write what is generated from the code, or check that it is fresh
  generate compat-fixture vN   what this version leaves on the disk, into tests/compat
  generate-csv FILE --rows N [--hosts N] [--seed N] [--shuffled] [--gzip]
  bench trunk|plan|postgres [--rows N] [--runs N] [--no-big]
  server [--yes]           a PostgreSQL to throw away, while the command runs
  ci [--yes]               what .ci/run does
  release-check [--yes] [--only NAME,NAME] [--seeds N] [--kills N] [--rows N] [--megabytes N]

`--yes` (or CI=true) installs what is missing without asking.";

/// Runs the command that the arguments name.
pub fn dispatch(args: &[String]) -> Done {
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", args),
    };
    match name {
        "check" => check::run(),
        "test" => test::run(rest),
        "sim" => sim::run(rest),
        "generate" => generate::run(rest),
        "generate-csv" => generate_csv::run(rest),
        "bench" => bench::run(rest),
        "server" => server::run(rest),
        "ci" => ci::run(rest),
        "release-check" => release_check::run(rest),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(Failure::new(format!("no command `{other}`\n\n{HELP}"))),
    }
}

/// Whether this flag is among the arguments.
fn has(args: &[String], flag: &str) -> bool {
    args.iter().any(|a| a == flag)
}

/// The number after this option, if it is given.
fn number(args: &[String], option: &str) -> Done<Option<u64>> {
    let Some(at) = args.iter().position(|a| a == option) else { return Ok(None) };
    let value = args.get(at + 1).map(|v| v.replace('_', ""));
    match value.and_then(|v| v.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Failure::new(format!("`{option}` needs a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let args: Vec<String> = ["--rows", "1_000", "--gzip"].map(str::to_owned).into();
        assert_eq!(number(&args, "--rows").unwrap(), Some(1_000));
        assert_eq!(number(&args, "--hosts").unwrap(), None);
        assert!(number(&args, "--gzip").is_err());
        assert!(has(&args, "--gzip"));
    }

    #[test]
    fn an_unknown_command_is_named() {
        let failure = dispatch(&["chek".to_owned()]).unwrap_err();
        assert!(failure.to_string().starts_with("no command `chek`"));
    }
}
