//! The tests of object stores against Azure Blob Storage, as its emulator plays it.

use std::process::Command;

use crate::need;
use crate::python;
use crate::shell::{self, Done, Failure, cargo, command, target_dir};

/// The emulator. Newer ones need a newer Node than distributions have.
pub(super) const PACKAGE: &str = "azurite@3.35.0";

/// The variable that names the emulator's program to the tests.
const PROGRAM: &str = "RETROFILL_AZURITE";

pub(super) fn run() -> Done {
    for program in ["npm", "node"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Err(Failure::new(format!("Azurite comes from npm; {program} is not here")));
        }
    }
    let dir = target_dir().join("servers/azurite");
    let mut install = command("npm", &["install", "--no-audit", "--no-fund", "--prefix"]);
    shell::run(install.arg(&dir).arg(PACKAGE))?;
    let tests = ["objects::", "in_a_store"];
    let mut cargo = cargo(&[&["test", "--workspace", "--test", "it", "--"], &tests[..]].concat());
    cargo.env(PROGRAM, dir.join("node_modules/azurite/dist/src/blob/main.js"));
    cargo.env(need::REQUIRE, need::required()).env("RETROFILL_PYTHON", python::interpreter());
    shell::run(&mut cargo)
}
