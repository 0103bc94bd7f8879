//! `sim N`: the seeded simulation of the core.

use super::has;
use crate::shell::{self, Done, Failure, cargo};

/// Seeds that every push runs.
pub(super) const SEEDS: u64 = 10_000;

/// `cargo test` of the simulation, with or without the planted bugs.
pub(super) fn command(seeds: u64, planted: bool) -> std::process::Command {
    let mut args = vec!["test", "--workspace"];
    if planted {
        args.extend(["--features", "retrofill-core/planted"]);
    }
    args.extend(["--test", "sim", "--", "--nocapture"]);
    let mut command = cargo(&args);
    command.env("RETROFILL_SIM_SEEDS", seeds.to_string());
    command
}

pub(super) fn run(args: &[String]) -> Done {
    let seeds = args.iter().find_map(|a| a.replace('_', "").parse().ok());
    let seeds = seeds.ok_or_else(|| Failure::new("how many seeds? `cargo xtask sim 10000`"))?;
    shell::run(&mut command(seeds, has(args, "--planted")))
}
