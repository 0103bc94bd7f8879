//! Many slices, no order, many files: what they cost beside one slice of one file in order.

use std::fs;
use std::path::Path;

use super::postgres::{self, KEY};
use super::{Bench, DELTA, Measured, median, page};
use crate::commands::number;
use crate::consent::Consent;
use crate::metrics::{HEADER, Metrics};
use crate::need::Need;
use crate::servers::{Postgres, ensure};
use crate::shell::{Done, Failure};

const ROWS: u64 = 5_000_000;
const HOSTS: u64 = 100;
const RUNS: u64 = 3;
const FILES: u64 = 10_000;

/// About one, a hundred and a thousand slices of [`ROWS`].
const SIZES: [(&str, u64); 3] = [("1w", 1), ("5000s", 100), ("500s", 1_000)];

/// Reading a source in slices, in units of reading it in one.
const SOURCE_MAX: f64 = 1.25;
/// Milliseconds that a slice costs more than its rows.
const DELTA_MAX_MS: f64 = 25.0;
const POSTGRES_MAX_MS: f64 = 10.0;
/// A file in random order, in units of the same in order.
const SHUFFLED_MAX: f64 = 2.5;
/// Parquet to Delta, in units of DuckDB's Parquet to Parquet.
const PARQUET_MAX: f64 = 2.2;

/// One way of loading the same rows in slices of all sizes.
struct Way {
    name: &'static str,
    /// Medians, for each of [`SIZES`].
    runs: Vec<Measured>,
    /// Milliseconds for each slice, at most.
    slice_max: Option<f64>,
}

impl Way {
    /// What a slice of the most costs, beside the same rows in fewer, in milliseconds. One slice
    /// of all rows is no measure: it does not fit the memory or the longest transaction.
    fn slice_ms(&self) -> f64 {
        let [.., (_, fewer), (_, most)] = SIZES;
        let [.., few, many] = &self.runs[..] else { return f64::NAN };
        (many.seconds - few.seconds) * 1e3 / (most - fewer) as f64
    }

    /// CPU time of the dearest size, in units of the cheapest.
    fn spread(&self) -> f64 {
        let cpu = self.runs.iter().map(|m| m.cpu);
        cpu.clone().fold(0.0, f64::max) / cpu.fold(f64::INFINITY, f64::min)
    }
}

struct Figures {
    rows: u64,
    ways: Vec<Way>,
    ordered: Measured,
    shuffled: Measured,
    files: Measured,
    parquet: Measured,
    duckdb: f64,
}

pub(super) fn run(args: &[String]) -> Done {
    ensure(&[Need::Postgres], Consent::from(args))?;
    let bench = Bench::new("scale", args)?;
    let rows = number(args, "--rows")?.unwrap_or(ROWS);
    let runs = number(args, "--runs")?.unwrap_or(RUNS).max(1);
    println!("generating {rows} rows");
    let metrics = Metrics::new(rows, HOSTS);
    metrics.write(&bench.path("metrics.csv"))?;
    bench.rival("duckdb", "metrics.csv", "warm.parquet")?;
    let server = postgres::server()?;
    let ways = vec![
        way(&bench, ("the source alone (`gaps`)", "gaps", runs), None)?,
        Way { slice_max: Some(DELTA_MAX_MS), ..way(&bench, ("to Delta", "run", runs), None)? },
        Way {
            slice_max: Some(POSTGRES_MAX_MS),
            ..way(&bench, ("to PostgreSQL, keyed", "run", runs), Some(&server))?
        },
    ];
    bench.spec("metrics.csv", "auto", "")?;
    let ordered = repeated(&bench, "run", runs, None)?;
    let (parquet, duckdb) = parquet(&bench, runs)?;
    Metrics { shuffled: true, ..metrics.clone() }.write(&bench.path("metrics.csv"))?;
    bench.spec("metrics.csv", "auto", "")?;
    let shuffled = repeated(&bench, "run", runs, None)?;
    cut(&bench, &Metrics::new(1_000_000, HOSTS))?;
    bench.spec("\"many/*.csv\"", "auto", "")?;
    let files = repeated(&bench, "run", 1, None)?;
    fs::remove_dir_all(&bench.dir)?;
    let figures = Figures { rows, ways, ordered, shuffled, files, parquet, duckdb };
    page::put("scale", &body(&figures))?;
    judge(&figures)
}

/// A command over the same file in slices of all sizes.
fn way(
    bench: &Bench,
    (name, command, runs): (&'static str, &str, u64),
    server: Option<&Postgres>,
) -> Done<Way> {
    let mut all = Vec::new();
    for (every, slices) in SIZES {
        let target = server.map_or_else(|| DELTA.to_owned(), postgres::target);
        bench.spec_of("csv: { path: metrics.csv }", &target, every, "")?;
        let middle = repeated(bench, command, runs, server)?;
        println!("{name}, about {slices} slices: {:.2} s, {:.1} CPU s", middle.seconds, middle.cpu);
        all.push(middle);
    }
    Ok(Way { name, runs: all, slice_max: None })
}

/// The medians of some runs from nothing.
fn repeated(bench: &Bench, command: &str, runs: u64, server: Option<&Postgres>) -> Done<Measured> {
    let mut all = Vec::new();
    for _ in 0..runs {
        bench.reset()?;
        if let Some(server) = server {
            postgres::empty(server, KEY)?;
        }
        all.push(bench.measure(command, 0)?);
    }
    Ok(Measured::middle(&all))
}

/// Loads a Parquet file that DuckDB wrote, and lets DuckDB copy it.
fn parquet(bench: &Bench, runs: u64) -> Done<(Measured, f64)> {
    let mut write = super::python_script("rival.py");
    write.arg("duckdb").args([bench.path("metrics.csv"), bench.path("metrics.parquet")]);
    super::seconds(&mut write)?;
    bench.spec_of("parquet: { path: metrics.parquet }", DELTA, "auto", "")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        bench.reset()?;
        ours.push(bench.measure("run", 0)?);
        theirs.push(bench.rival("duckdb", "metrics.parquet", "copy.parquet")?);
    }
    fs::remove_file(bench.path("metrics.parquet"))?;
    Ok((Measured::middle(&ours), median(theirs.into_iter())))
}

/// Cuts the rows into many files.
fn cut(bench: &Bench, metrics: &Metrics) -> Done {
    let (whole, many) = (bench.path("metrics.csv"), bench.path("many"));
    metrics.write(&whole)?;
    fs::create_dir_all(&many)?;
    let text = fs::read_to_string(&whole)?;
    let lines: Vec<&str> = text.lines().skip(1).collect();
    for (i, part) in lines.chunks(lines.len().div_ceil(FILES as usize)).enumerate() {
        put(&many, i, part)?;
    }
    Ok(())
}

fn put(dir: &Path, number: usize, lines: &[&str]) -> Done {
    let text = format!("{HEADER}\n{}\n", lines.join("\n"));
    fs::write(dir.join(format!("{number:05}.csv")), text)?;
    Ok(())
}

fn body(figures: &Figures) -> String {
    let mut lines = vec![
        "## Scale".to_owned(),
        String::new(),
        format!(
            "`cargo xtask bench scale`, profile `{}`: a generated file of {} rows and 10 columns \
             in the page cache. `gaps` without a table reads all of the source slice by slice, and \
             nothing else. A slice's cost is the difference between the two smaller \
             sizes.",
            super::profile(),
            figures.rows
        ),
        String::new(),
        "| | 1 slice, s | about 100 | about 1,000 | CPU s | | | dearest : cheapest | ms a slice |"
            .into(),
        "|---|---|---|---|---|---|---|---|---|".into(),
    ];
    lines.extend(figures.ways.iter().map(|way| {
        let each = |of: fn(&Measured) -> f64, digits: usize| {
            let all = way.runs.iter().map(|m| format!("{:.digits$}", of(m)));
            all.collect::<Vec<_>>().join(" | ")
        };
        let (seconds, cpu) = (each(|m| m.seconds, 2), each(|m| m.cpu, 1));
        let (name, spread, ms) = (way.name, way.spread(), way.slice_ms());
        format!("| {name} | {seconds} | {cpu} | {spread:.2} | {ms:.1} |")
    }));
    let Figures { ordered, shuffled, files, parquet, duckdb, .. } = figures;
    let row = |name: &str, m: &Measured, of: f64| {
        format!("| {name} | {:.2} | {of:.2} | {:.0} |", m.seconds, m.peak_mib)
    };
    lines.extend([
        String::new(),
        "| to Delta | s | ratio | peak MiB |".into(),
        "|---|---|---|---|".into(),
        row("the file in order", ordered, 1.0),
        row(
            "in random order, sorting included, of that in order",
            shuffled,
            shuffled.seconds / ordered.seconds,
        ),
        row("Parquet, of DuckDB's Parquet to Parquet", parquet, parquet.seconds / duckdb),
        format!("| DuckDB, Parquet to Parquet | {duckdb:.2} | 1.00 | |"),
        format!(
            "| {FILES} files of a million rows in all, once | {:.2} | | {:.0} |",
            files.seconds, files.peak_mib
        ),
    ]);
    lines.join("\n")
}

fn judge(figures: &Figures) -> Done {
    let mut bars = vec![
        ("source in slices", figures.ways[0].spread(), SOURCE_MAX),
        ("random order", figures.shuffled.seconds / figures.ordered.seconds, SHUFFLED_MAX),
        ("Parquet", figures.parquet.seconds / figures.duckdb, PARQUET_MAX),
    ];
    for way in &figures.ways {
        bars.extend(way.slice_max.map(|max| (way.name, way.slice_ms(), max)));
    }
    let missed: Vec<_> = bars
        .into_iter()
        .filter(|(_, is, may)| is > may)
        .map(|(name, is, may)| format!("{name}: {is:.2}, may be {may}"))
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(Failure::new(missed.join("; "))) }
}
