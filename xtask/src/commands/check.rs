//! `check`: what a change needs before it is worth testing.

use crate::shell::{self, Done, cargo, root};
use crate::tidy;

pub(super) fn run_format() -> Done {
    shell::run(&mut cargo(&["fmt", "--all", "--", "--check"]))
}

pub(super) fn run_lints() -> Done {
    shell::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

pub(super) fn run() -> Done {
    run_format()?;
    tidy::check(&root())?;
    run_lints()
}
