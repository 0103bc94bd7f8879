//! Whether what a trial tells comes true.

use std::fs;

use serde_json::Value;

use super::postgres::{self, KEY};
use super::{Bench, DELTA, page};
use crate::commands::number;
use crate::consent::Consent;
use crate::metrics::Metrics;
use crate::need::Need;
use crate::servers::{Postgres, ensure};
use crate::shell::{Done, Failure, output};

const RUNS: u64 = 10;
/// So many of ten forecasts must hold.
const HOLD_MIN: f64 = 0.8;
/// Rows of the smallest and the largest file.
const ROWS: (u64, u64) = (300_000, 3_000_000);

/// A forecast beside what came.
struct Told {
    target: &'static str,
    rows: u64,
    every: &'static str,
    seconds: (f64, f64),
    took: f64,
    written: (f64, f64),
    wrote: f64,
}

impl Told {
    fn holds(&self) -> bool {
        let within = |range: (f64, f64), number: f64| range.0 <= number && number <= range.1;
        within(self.seconds, self.took) && within(self.written, self.wrote)
    }
}

pub(super) fn run(args: &[String]) -> Done {
    ensure(&[Need::Postgres], Consent::from(args))?;
    let bench = Bench::new("trial", args)?;
    let server = postgres::server()?;
    let runs = number(args, "--runs")?.unwrap_or(RUNS).max(1);
    let mut told = Vec::new();
    for run in 0..runs {
        told.push(one(&bench, &server, run, runs)?);
        let last = &told[told.len() - 1];
        println!(
            "{} rows every {} -> {}: {:.1} s to {:.1} s were told, it took {:.1} s",
            last.rows, last.every, last.target, last.seconds.0, last.seconds.1, last.took
        );
    }
    fs::remove_dir_all(&bench.dir)?;
    page::put("trial", &body(&told))?;
    let held = told.iter().filter(|t| t.holds()).count();
    if (held as f64) < HOLD_MIN * told.len() as f64 {
        return Err(Failure::new(format!("{held} of {} forecasts came true", told.len())));
    }
    Ok(())
}

/// Tries, then runs. Every time other data, by turns into both targets.
fn one(bench: &Bench, server: &Postgres, run: u64, runs: u64) -> Done<Told> {
    let rows = ROWS.0 + (ROWS.1 - ROWS.0) * run / runs;
    let every = ["6h", "1h", "auto"][run as usize % 3];
    let metrics = Metrics { seed: run + 1, ..Metrics::new(rows, 20 + 15 * run) };
    metrics.write(&bench.path("metrics.csv"))?;
    bench.reset()?;
    let (name, target) = if run.is_multiple_of(2) {
        ("Delta", DELTA.to_owned())
    } else {
        postgres::empty(server, KEY)?;
        ("PostgreSQL", postgres::target(server))
    };
    bench.spec_of("csv: { path: metrics.csv }", &target, every, "")?;
    let forecast = last_line(bench, "trial")?["forecast"].take();
    let range = |name: &str| {
        let at = |end: &str| forecast[name][end].as_f64().unwrap_or(f64::NAN);
        (at("from"), at("to"))
    };
    let last = last_line(bench, "run")?;
    Ok(Told {
        target: name,
        rows,
        every,
        seconds: range("seconds"),
        took: last["seconds"].as_f64().unwrap_or(f64::NAN),
        written: range("written"),
        wrote: last["rows"]["written"].as_f64().unwrap_or(f64::NAN),
    })
}

fn last_line(bench: &Bench, command: &str) -> Done<Value> {
    let mut program = std::process::Command::new(&bench.program);
    program.args([command, "backfill.yaml", "--quiet", "--output", "json"]);
    let text = output(program.current_dir(&bench.dir))?;
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|e| Failure::new(format!("{e}: {text}")))
}

fn body(told: &[Told]) -> String {
    let mut lines = vec![
        "## What a trial tells".to_owned(),
        String::new(),
        format!(
            "`cargo xtask bench trial`, profile `{}`: `retrofill trial` of four slices, then \
             `retrofill run` of all, each time with other data. A forecast holds where time and \
             rows both lie in its bounds.",
            super::profile()
        ),
        String::new(),
        "| rows | every | target | told, s | took, s | rows told | rows written | holds |".into(),
        "|---|---|---|---|---|---|---|---|".into(),
    ];
    lines.extend(told.iter().map(|t| {
        format!(
            "| {} | {} | {} | {:.1} to {:.1} | {:.1} | {} to {} | {} | {} |",
            t.rows,
            t.every,
            t.target,
            t.seconds.0,
            t.seconds.1,
            t.took,
            t.written.0,
            t.written.1,
            t.wrote,
            if t.holds() { "yes" } else { "no" }
        )
    }));
    lines.join("\n")
}
