//! CSV to Delta, proven, beside DuckDB's CSV to Parquet, unproven.

use std::fs;

use super::{Bench, Measured, median, page};
use crate::commands::{has, number};
use crate::metrics::Metrics;
use crate::shell::{Done, Failure};

const ROWS: u64 = 5_000_000;
const RUNS: u64 = 3;
const HOSTS: u64 = 100;

/// What the load may cost, in units of what DuckDB needs.
const RATIO_MAX: f64 = 3.0;

/// What the load may take, and how much more of it ten times the file.
pub(super) const PEAK_MAX_MIB: f64 = 512.0;
const GROWTH_MAX: f64 = 1.10;

/// The share of the run's CPU time that encoding and hashing may take, on each side.
const HASH_MAX: f64 = 0.15;

struct Figures {
    rows: u64,
    bytes: u64,
    ours: Vec<Measured>,
    duckdb: Vec<f64>,
    polars: f64,
    deltalake: f64,
    /// CPU seconds that encoding and hashing every row once takes.
    hash: f64,
    big: Option<Measured>,
}

pub(super) fn run(args: &[String]) -> Done {
    let bench = Bench::new("trunk", args)?;
    let rows = number(args, "--rows")?.unwrap_or(ROWS);
    let runs = number(args, "--runs")?.unwrap_or(RUNS).max(1);
    println!("generating {rows} rows");
    Metrics::new(rows, HOSTS).write(&bench.path("metrics.csv"))?;
    bench.spec("metrics.csv", "auto", "")?;
    let mut figures = Figures {
        rows,
        bytes: fs::metadata(bench.path("metrics.csv"))?.len(),
        ours: Vec::new(),
        duckdb: Vec::new(),
        polars: 0.0,
        deltalake: 0.0,
        hash: 0.0,
        big: None,
    };
    // Reads the file into the page cache, for all alike.
    bench.rival("duckdb", "metrics.csv", "warm.parquet")?;
    for run in 1..=runs {
        bench.reset()?;
        let ours = bench.measure("run", 0)?;
        let theirs = bench.rival("duckdb", "metrics.csv", "duckdb.parquet")?;
        println!("run {run}: retrofill {:.2} s, DuckDB {theirs:.2} s", ours.seconds);
        figures.ours.push(ours);
        figures.duckdb.push(theirs);
    }
    figures.polars = bench.rival("polars", "metrics.csv", "polars")?;
    figures.deltalake = bench.rival("deltalake", "metrics.csv", "deltalake")?;
    figures.hash = super::hash_cost(rows)?;
    if !has(args, "--no-big") {
        figures.big = Some(big(&bench, rows * 10)?);
    }
    fs::remove_dir_all(&bench.dir)?;
    page::put("trunk", &body(&figures))?;
    judge(&figures)
}

/// The same with ten times the file, once.
fn big(bench: &Bench, rows: u64) -> Done<Measured> {
    bench.reset()?;
    let file = bench.path("metrics.csv");
    println!("generating {rows} rows");
    Metrics::new(rows, HOSTS).write(&file)?;
    bench.measure("run", 0)
}

fn middle(figures: &Figures) -> Measured {
    Measured::middle(&figures.ours)
}

fn ratio(figures: &Figures) -> f64 {
    middle(figures).seconds / median(figures.duckdb.iter().copied())
}

fn body(figures: &Figures) -> String {
    let ours = middle(figures);
    let duckdb = median(figures.duckdb.iter().copied());
    let all =
        |values: &[f64]| values.iter().map(|v| format!("{v:.2}")).collect::<Vec<_>>().join(", ");
    let each: Vec<f64> = figures.ours.iter().map(|m| m.seconds).collect();
    let mut lines = vec![
        "## CSV to Delta".to_owned(),
        String::new(),
        format!(
            "`cargo xtask bench trunk`, profile `{}`: a generated file of {} rows and 10 columns, \
             {:.0} MB, in \
             the page cache. `retrofill run` starts each time without table and state; it plans, \
             loads, reads back, keeps receipts and ledger, and syncs to disk. The others write \
             only. Runs of retrofill and DuckDB alternate; the table shows medians.",
            super::profile(),
            figures.rows,
            figures.bytes as f64 / 1e6
        ),
        String::new(),
        "| | s | of DuckDB | CPU s | peak MiB |".into(),
        "|---|---|---|---|---|".into(),
        format!(
            "| retrofill, CSV to Delta, proven ({}) | {:.2} | {:.2} | {:.1} | {:.0} |",
            all(&each),
            ours.seconds,
            ratio(figures),
            ours.cpu,
            ours.peak_mib
        ),
        format!(
            "| DuckDB 2.0, CSV to Parquet snappy ({}) | {duckdb:.2} | 1.00 | | |",
            all(&figures.duckdb)
        ),
    ];
    let rivals =
        [("Python `write_deltalake`", figures.deltalake), ("Polars `write_delta`", figures.polars)];
    for (name, seconds) in rivals {
        let of = seconds / duckdb;
        lines.push(format!("| {name}, CSV to Delta, once | {seconds:.2} | {of:.2} | | |"));
    }
    if let Some(big) = figures.big {
        lines.push(format!(
            "| retrofill, ten times the rows, once | {:.2} | | {:.1} | {:.0} |",
            big.seconds, big.cpu, big.peak_mib
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "Encoding and hashing {} rows of this shape once takes {:.2} CPU s alone: {:.1} % of the \
         run's CPU time on the source's side, and as much again on the read-back's.",
        figures.rows,
        figures.hash,
        100.0 * figures.hash / ours.cpu
    ));
    lines.join("\n")
}

fn judge(figures: &Figures) -> Done {
    let (ours, ratio) = (middle(figures), ratio(figures));
    let mut missed = Vec::new();
    if ratio > RATIO_MAX {
        missed.push(format!("{ratio:.2} x DuckDB, may be {RATIO_MAX}"));
    }
    let peak = figures.big.map_or(ours.peak_mib, |b| b.peak_mib.max(ours.peak_mib));
    if peak > PEAK_MAX_MIB {
        missed.push(format!("peak {peak:.0} MiB, may be {PEAK_MAX_MIB}"));
    }
    if figures.hash > HASH_MAX * ours.cpu {
        missed.push(format!("hashing takes {:.2} of {:.2} CPU s", figures.hash, ours.cpu));
    }
    if let Some(big) = figures.big.filter(|b| b.peak_mib > ours.peak_mib * GROWTH_MAX) {
        let (small, big) = (ours.peak_mib, big.peak_mib);
        missed.push(format!("peak grows with the file: {small:.0} to {big:.0} MiB"));
    }
    if missed.is_empty() { Ok(()) } else { Err(Failure::new(missed.join("; "))) }
}
