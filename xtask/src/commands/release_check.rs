//! `release-check`: the long versions of what every push runs, and the benches.

mod azurite;
mod facts;
mod newest;

use std::fs;
use std::time::Instant;

use super::bench::{self, commit, stream};
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
const CRASH_STATES: u64 = 10_000;
const SERVER_KILLS: u64 = 20;
const CUTS: u64 = 200;

/// One check of the lane.
struct Task {
    /// The name it is chosen by.
    name: &'static str,
    /// What is checked.
    what: String,
    /// How to do it alone.
    how: String,
    /// Does it; tells what to say beside that it passed, or nothing.
    work: Work,
}

type Work = Box<dyn FnOnce() -> Done<String>>;

/// Work that says nothing.
fn quiet(work: impl FnOnce() -> Done + 'static) -> Work {
    Box::new(move || work().map(|()| String::new()))
}

pub(super) fn run(args: &[String]) -> Done {
    let consent = Consent::from(args);
    python::ensure(JUDGES, consent)?;
    servers::ensure(Need::SERVERS, consent)?;
    if let Some(missing) = Need::ALL.iter().find(|n| !n.is_here()) {
        return Err(Failure::new(format!("the release lane needs {}", missing.name())));
    }
    let only = args.iter().position(|a| a == "--only").and_then(|at| args.get(at + 1));
    let wanted = |name: &str| only.is_none_or(|list| list.split(',').any(|n| n == name));
    let (mut done, mut failed) = (0, 0);
    for task in tasks(args)?.into_iter().filter(|task| wanted(task.name)) {
        let Task { name, what, how, work } = task;
        let start = Instant::now();
        let result = work();
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let ended = result.as_ref().map_or_else(ToString::to_string, |more| format!("ok {more}"));
        println!("{what}: {}", ended.trim_end());
        done += 1;
        failed += u64::from(result.is_err());
        let said = match &result {
            Ok(more) if more.is_empty() => "passed".to_owned(),
            Ok(more) => format!("passed: {more}"),
            Err(failure) => format!("**failed**: {}", failure.to_string().replace('\n', " ")),
        };
        let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let at = commit()?;
        put(name, &format!("| {name} | {what} | {how} | {said} | {minutes:.1} | {day}, {at} |"))?;
    }
    println!("written to {PAGE}");
    match (done, failed) {
        (0, _) => Err(Failure::new("no check has such a name")),
        (_, 0) => Ok(()),
        (_, failed) => Err(Failure::new(format!("{failed} checks failed"))),
    }
}

fn tasks(args: &[String]) -> Done<Vec<Task>> {
    let seeds = number(args, "--seeds")?.unwrap_or(SEEDS);
    let kills = number(args, "--kills")?.unwrap_or(KILLS);
    let rows = number(args, "--rows")?.unwrap_or(KILL_ROWS);
    let bench = |name: &'static str, what: &str| {
        let args = vec![name.to_owned(), "--yes".to_owned()];
        Task {
            name,
            what: what.into(),
            how: format!("`cargo xtask bench {name}`"),
            work: quiet(move || bench::run(&args)),
        }
    };
    let mut tasks = vec![
        Task {
            name: "sim",
            what: format!("simulation, {seeds} seeds, and every planted bug"),
            how: format!("`cargo xtask sim {seeds} --planted`"),
            work: quiet(move || shell::run(&mut sim::command(seeds, true))),
        },
        Task {
            name: "kill",
            what: format!("{kills} kills on {rows} generated rows, every stage"),
            how: "`RETROFILL_KILLS`, test `kill`".into(),
            work: quiet(move || {
                let variables = [("RETROFILL_KILLS", kills), ("RETROFILL_KILL_ROWS", rows)];
                tests("it", "kill::generated", &variables)
            }),
        },
        Task {
            name: "power",
            what: format!("{CRASH_STATES} different states of a disk that lost power"),
            how: "`RETROFILL_CRASH_STATES`, test `ten_thousand_power_losses`".into(),
            work: quiet(|| {
                let variables = [("RETROFILL_CRASH_STATES", CRASH_STATES)];
                tests("", "ten_thousand_power_losses", &variables)
            }),
        },
        Task {
            name: "corruptions",
            what: format!("{CORRUPTIONS} corruptions of rows and as many of files, each found"),
            how: "`RETROFILL_CORRUPTIONS`, tests `digest_vectors` and `damage`".into(),
            work: quiet(|| {
                let many = [("RETROFILL_CORRUPTIONS", CORRUPTIONS)];
                tests("digest_vectors", "", &many)?;
                tests("it", "every_damage", &many)
            }),
        },
        Task {
            name: "facts",
            what: "what the guide says of Spark and vmctl".into(),
            how: "`docs/facts`".into(),
            work: quiet(facts::run),
        },
        Task {
            name: "csv-append",
            what: "a folder that PySpark appends to: killed, run twice, read by PySpark".into(),
            how: "`examples/csv-append/spark.py`".into(),
            work: quiet(facts::csv_append),
        },
        bench("trunk", "speed and memory of CSV to Delta, see benchmarks"),
        bench("plan", "100,000 slices, see benchmarks"),
        bench("postgres", "speed of CSV to PostgreSQL, see benchmarks"),
    ];
    tasks.extend(of_postgres(kills));
    tasks.extend(of_files(args)?);
    Ok(tasks)
}

fn of_files(args: &[String]) -> Done<[Task; 2]> {
    let megabytes = number(args, "--megabytes")?.unwrap_or(stream::MEGABYTES);
    let args = args.to_vec();
    Ok([
        Task {
            name: "gzip-stream",
            what: format!(
                "{megabytes} MB of CSV, packed with gzip as they are generated, to Delta; all \
                 rows compared by DuckDB"
            ),
            how: "`--megabytes`, profile `dist`".into(),
            work: Box::new(move || stream::run(&args)),
        },
        Task {
            name: "azurite",
            what: "sources in Azure Blob Storage: every test of a store that lists its objects"
                .into(),
            how: format!("tests `objects::`, npm `{}`", azurite::PACKAGE),
            work: quiet(azurite::run),
        },
    ])
}

fn of_postgres(kills: u64) -> [Task; 4] {
    [
        Task {
            name: "postgres-newest",
            what: "PostgreSQL 18: every test of PostgreSQL that needs no replica".into(),
            how: format!("tests `postgres::`, npm `{}`", newest::PACKAGE),
            work: quiet(newest::run),
        },
        Task {
            name: "postgres-kill",
            what: format!("PostgreSQL: {kills} kills of the program, every stage"),
            how: "`RETROFILL_KILLS`, test `postgres::kill`".into(),
            work: quiet(move || {
                tests("it", "postgres::kill::the_program", &[("RETROFILL_KILLS", kills)])
            }),
        },
        Task {
            name: "postgres-server-kill",
            what: format!("PostgreSQL: {SERVER_KILLS} kills of the server, between any two steps"),
            how: "`RETROFILL_SERVER_KILLS`, test `postgres::kill`".into(),
            work: quiet(|| {
                let times = [("RETROFILL_SERVER_KILLS", SERVER_KILLS)];
                tests("it", "postgres::kill::a_server_that_is_killed", &times)
            }),
        },
        Task {
            name: "postgres-cuts",
            what: format!("PostgreSQL: {CUTS} connections reset at any byte"),
            how: "`RETROFILL_CUTS`, test `postgres::faults`".into(),
            work: quiet(|| {
                tests("it", "postgres::faults::a_connection", &[("RETROFILL_CUTS", CUTS)])
            }),
        },
    ]
}

/// The tests of one target, or of the libraries where it has no name, that contain `filter`.
fn tests(target: &str, filter: &str, variables: &[(&str, u64)]) -> Done {
    let chosen: &[&str] = if target.is_empty() { &["--lib"] } else { &["--test", target] };
    let mut args = [&["test", "--workspace"], chosen, &["--", "--nocapture"]].concat();
    if !filter.is_empty() {
        args.push(filter);
    }
    let mut cargo = cargo(&args);
    cargo.envs(variables.iter().map(|(name, value)| (*name, value.to_string())));
    cargo.env(need::REQUIRE, need::required()).env("RETROFILL_PYTHON", python::interpreter());
    shell::run(&mut cargo)
}

const HEAD: &str = "\
# Verification

Written by `cargo xtask release-check`, one line a check; `--only NAME,NAME` does some of them. What
every change must pass besides stands in [CONTRIBUTING](../CONTRIBUTING.md).

| name | what | by | result | minutes | when, commit |
|---|---|---|---|---|---|
";

/// Writes the line of a check in the place of its last one, or adds it.
fn put(name: &str, line: &str) -> Done {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.into());
    fs::write(path, with_line(&page, name, line))?;
    Ok(())
}

fn with_line(page: &str, name: &str, line: &str) -> String {
    let start = format!("| {name} |");
    let mut lines: Vec<&str> = page.lines().collect();
    match lines.iter_mut().find(|l| l.starts_with(&start)) {
        Some(old) => *old = line,
        None => lines.push(line),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_one_line() {
        let once = with_line(HEAD, "sim", "| sim | one |");
        let twice = with_line(&with_line(&once, "kill", "| kill | x |"), "sim", "| sim | two |");
        assert_eq!(twice, format!("{HEAD}| sim | two |\n| kill | x |\n"));
    }
}
