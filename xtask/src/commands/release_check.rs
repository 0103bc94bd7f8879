//! `release-check`: the long versions of what every push runs, and the benches.

use std::fs;
use std::time::Instant;

use super::bench::{self, commit};
use super::{number, sim};
use crate::consent::Consent;
use crate::need::{self, Need};
use crate::python::{self, JUDGES};
use crate::servers;
use crate::shell::{self, Done, Failure, cargo, root};

const PAGE: &str = "docs/verification.md";
const SEEDS: u64 = 1_000_000;
const KILLS: u64 = 50;
const KILL_ROWS: u64 = 2_000_000;
const CORRUPTIONS: u64 = 100_000;
const SERVER_KILLS: u64 = 20;
const CUTS: u64 = 200;

/// One line of the table.
struct Line {
    what: String,
    how: String,
    minutes: f64,
    result: Done,
}

pub(super) fn run(args: &[String]) -> Done {
    let consent = Consent::from(args);
    python::ensure(JUDGES, consent)?;
    servers::ensure(Need::SERVERS, consent)?;
    if let Some(missing) = Need::ALL.iter().find(|n| !n.is_here()) {
        return Err(Failure::new(format!("the release lane needs {}", missing.name())));
    }
    let mut lines = Vec::new();
    for (what, how, task) in tasks(args)? {
        let start = Instant::now();
        let result = task();
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        println!("{what}: {}", result.as_ref().map_or_else(ToString::to_string, |()| "ok".into()));
        lines.push(Line { what, how, minutes, result });
    }
    fs::write(root().join(PAGE), page(&lines)?)?;
    println!("written to {PAGE}");
    let failed = lines.iter().filter(|l| l.result.is_err()).count();
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} checks failed"))) }
}

type Task = (String, String, Box<dyn FnOnce() -> Done>);

fn tasks(args: &[String]) -> Done<Vec<Task>> {
    let seeds = number(args, "--seeds")?.unwrap_or(SEEDS);
    let kills = number(args, "--kills")?.unwrap_or(KILLS);
    let rows = number(args, "--rows")?.unwrap_or(KILL_ROWS);
    let yes = vec!["--yes".to_owned()];
    let bench = move |name: &str| -> Box<dyn FnOnce() -> Done> {
        let args: Vec<_> = std::iter::once(name.to_owned()).chain(yes.clone()).collect();
        Box::new(move || bench::run(&args))
    };
    Ok(vec![
        (
            format!("simulation, {seeds} seeds, and every planted bug"),
            format!("`cargo xtask sim {seeds} --planted`"),
            Box::new(move || shell::run(&mut sim::command(seeds, true))),
        ),
        (
            format!("{kills} kills on {rows} generated rows, every stage"),
            "`RETROFILL_KILLS`, test `kill`".into(),
            Box::new(move || {
                tests(
                    "it",
                    "kill::generated",
                    &[("RETROFILL_KILLS", kills), ("RETROFILL_KILL_ROWS", rows)],
                )
            }),
        ),
        (
            format!("PostgreSQL: {kills} kills of the program, every stage"),
            "`RETROFILL_KILLS`, test `postgres::kill`".into(),
            Box::new(move || {
                tests("it", "postgres::kill::the_program", &[("RETROFILL_KILLS", kills)])
            }),
        ),
        (
            format!("PostgreSQL: {SERVER_KILLS} kills of the server, between any two steps"),
            "`RETROFILL_SERVER_KILLS`, test `postgres::kill`".into(),
            Box::new(|| {
                let times = [("RETROFILL_SERVER_KILLS", SERVER_KILLS)];
                tests("it", "postgres::kill::a_server_that_is_killed", &times)
            }),
        ),
        (
            format!("PostgreSQL: {CUTS} connections reset at any byte"),
            "`RETROFILL_CUTS`, test `postgres::faults`".into(),
            Box::new(|| tests("it", "postgres::faults::a_connection", &[("RETROFILL_CUTS", CUTS)])),
        ),
        (
            format!("{CORRUPTIONS} corruptions of rows, each found"),
            "`RETROFILL_CORRUPTIONS`, test `digest_vectors`".into(),
            Box::new(|| tests("digest_vectors", "", &[("RETROFILL_CORRUPTIONS", CORRUPTIONS)])),
        ),
        ("speed and memory of CSV to Delta".into(), "benchmarks".into(), bench("trunk")),
        ("100,000 slices".into(), "benchmarks".into(), bench("plan")),
        ("speed of CSV to PostgreSQL".into(), "benchmarks".into(), bench("postgres")),
    ])
}

/// The tests of one target whose names contain `filter`.
fn tests(target: &str, filter: &str, variables: &[(&str, u64)]) -> Done {
    let mut args = vec!["test", "--workspace", "--test", target, "--", "--nocapture"];
    if !filter.is_empty() {
        args.push(filter);
    }
    let mut cargo = cargo(&args);
    cargo.envs(variables.iter().map(|(name, value)| (*name, value.to_string())));
    cargo.env(need::REQUIRE, need::required()).env("RETROFILL_PYTHON", python::interpreter());
    shell::run(&mut cargo)
}

fn page(lines: &[Line]) -> Done<String> {
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let mut page = vec![
        "# Verification".to_owned(),
        String::new(),
        "Written by `cargo xtask release-check`. What every change must pass besides stands in \
         [CONTRIBUTING](../CONTRIBUTING.md)."
            .into(),
        String::new(),
        format!("{day}, commit {}.", commit()?),
        String::new(),
        "| what | by | result | minutes |".into(),
        "|---|---|---|---|".into(),
    ];
    for line in lines {
        let result = match &line.result {
            Ok(()) => "passed".to_owned(),
            Err(failure) => format!("**failed**: {}", failure.to_string().replace('\n', " ")),
        };
        let Line { what, how, minutes, .. } = line;
        page.push(format!("| {what} | {how} | {result} | {minutes:.1} |"));
    }
    Ok(page.join("\n") + "\n")
}
