//! `generate`: files that are made from the code and kept in the repository.

use std::fs;

use super::has;
use crate::shell::{self, Done, Failure, built, cargo, command, root};

/// The file and the arguments of `retrofill` that print it.
const GENERATED: &[(&str, &[&str])] = &[
    ("docs/retrofill.schema.json", &["schema"]),
    ("docs/src/cli.md", &["man", "--markdown"]),
    ("docs/src/spec.md", &["schema", "--markdown"]),
];

pub(super) fn run(args: &[String]) -> Done {
    shell::run(&mut cargo(&["build", "--workspace"]))?;
    if has(args, "--check") { check() } else { write() }
}

fn write() -> Done {
    for (path, args) in GENERATED {
        fs::write(root().join(path), print(args)?)?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Fails where a file is not what the code prints today.
pub(super) fn check() -> Done {
    for (path, args) in GENERATED {
        let kept = fs::read_to_string(root().join(path)).unwrap_or_default();
        if kept != print(args)? {
            return Err(Failure::new(format!("{path} is stale; run `cargo xtask generate`")));
        }
    }
    Ok(())
}

fn print(args: &[&str]) -> Done<String> {
    shell::output(&mut command(built("debug", "retrofill"), args))
}
