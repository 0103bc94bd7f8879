//! `ci`: everything that must hold before a change is taken.

use super::{check, generate, test};
use crate::consent::Consent;
use crate::shell::{self, Done, cargo};
use crate::tally::Tally;

pub(super) fn run(args: &[String]) -> Done {
    let mut tally = Tally::default();
    tally.step("format", check::run_format());
    // The tests first: what they build the generated files need, and clippy builds on its own.
    test::all(Consent::from(args), &mut tally);
    tally.step("build", shell::run(&mut cargo(&["build", "--workspace"])));
    tally.step("generated files", generate::check());
    tally.step("lints", check::run_lints());
    test::conclude(&tally)
}
