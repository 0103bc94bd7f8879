//! CSV to PostgreSQL, proven, beside `psql \copy`, unproven.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::{Bench, Measured, median, page};
use crate::commands::number;
use crate::consent::Consent;
use crate::metrics::{HEADER, Metrics};
use crate::need::Need;
use crate::python;
use crate::servers::{Postgres, Setup, ensure, program};
use crate::shell::{Done, Failure, output};

const ROWS: u64 = 5_000_000;
const RUNS: u64 = 5;
const HOSTS: u64 = 100;

/// Slices of the plan whose rerun is measured, and how long that may take.
const SLICES: u64 = 1_000;
const RERUN_MAX: f64 = 2.0;

/// What a load may cost, in units of what `psql \copy` needs.
const PLAIN_MAX: f64 = 0.95;
const KEYED_MAX: f64 = 1.05;
const SPLIT_MAX: f64 = 1.35;
/// The same in units of what Spark's `write.jdbc` needs, as its guide shows it.
const SPARK_MAX: f64 = 0.25;

const SLING: &str = "sling-linux-amd64==1.4.11";
const JDBC: &str = "Spark JDBC";
/// Spark with many rows in one INSERT, which the driver has to be told.
const TUNED: &str = "Spark JDBC, `reWriteBatchedInserts`, `batchsize` 10000";
const SPARK: &str = "pyspark==4.3.0";

const COLUMNS: &str = "ts timestamptz NOT NULL, hostname text NOT NULL, region text, \
    usage_user float8, usage_system float8, usage_idle float8, usage_nice float8, \
    usage_iowait float8, usage_irq bigint, usage_steal bigint";

#[derive(Default)]
struct Figures {
    rows: u64,
    bytes: u64,
    plain: Vec<Measured>,
    keyed: Vec<Measured>,
    copy: Vec<f64>,
    copy_keyed: Vec<f64>,
    copy_split: Vec<f64>,
    /// Other programs, once each.
    others: Vec<(&'static str, f64)>,
    rerun: Vec<f64>,
}

pub(super) fn run(args: &[String]) -> Done {
    let consent = Consent::from(args);
    ensure(&[Need::Postgres], consent)?;
    let bench = Bench::new("postgres", args)?;
    let rows = number(args, "--rows")?.unwrap_or(ROWS);
    let runs = number(args, "--runs")?.unwrap_or(RUNS).max(1);
    println!("generating {rows} rows");
    let metrics = Metrics::new(rows, HOSTS);
    metrics.write(&bench.path("metrics.csv"))?;
    split(&bench)?;
    let rivals = Rivals { bench: &bench, server: server()? };
    let bytes = fs::metadata(bench.path("metrics.csv"))?.len();
    let mut figures = Figures { rows, bytes, ..Figures::default() };
    // Reads the file into the page cache, for all alike.
    rivals.copy("", &["metrics.csv"])?;
    for run in 1..=runs {
        figures.plain.push(rivals.ours(false)?);
        figures.copy.push(rivals.copy("", &["metrics.csv"])?);
        figures.copy_split.push(rivals.copy("", &["half.0.csv", "half.1.csv"])?);
        figures.keyed.push(rivals.ours(true)?);
        figures.copy_keyed.push(rivals.copy(KEY, &["metrics.csv"])?);
        let last = |of: &[f64]| of.last().copied().unwrap_or(f64::NAN);
        println!(
            "run {run} of {runs}: {:.2} s beside {:.2} and {:.2} of `\\copy`; keyed {:.2} beside \
             {:.2}",
            figures.plain.last().map_or(f64::NAN, |m| m.seconds),
            last(&figures.copy),
            last(&figures.copy_split),
            figures.keyed.last().map_or(f64::NAN, |m| m.seconds),
            last(&figures.copy_keyed)
        );
    }
    figures.others = rivals.others(consent)?;
    figures.rerun = rivals.reruns(runs)?;
    fs::remove_dir_all(&bench.dir)?;
    page::put("postgres", &body(&figures))?;
    judge(&figures)
}

pub(super) const KEY: &str = ", PRIMARY KEY (ts, hostname)";

/// A server that is not held up by its own housekeeping.
pub(super) fn server() -> Done<Postgres> {
    Postgres::with(&Setup::new().set("shared_buffers", "1GB").set("max_wal_size", "16GB"))
}

/// An empty table with this key; nothing of the one before is left to be written.
pub(super) fn empty(server: &Postgres, key: &str) -> Done {
    server.try_ask(
        "postgres",
        &format!(
            "DROP TABLE IF EXISTS metrics; DROP SCHEMA IF EXISTS retrofill CASCADE; \
             CREATE TABLE metrics ({COLUMNS}{key}); CHECKPOINT;"
        ),
    )?;
    Ok(())
}

/// The table, as a spec names it.
pub(super) fn target(server: &Postgres) -> String {
    format!("postgres: {{ url: \"{}\", table: metrics }}", server.url("postgres"))
}

/// The two halves of the file, for those who cannot split it.
fn split(bench: &Bench) -> Done {
    let text = fs::read(bench.path("metrics.csv"))?;
    let middle = text.len() / 2;
    let end = text[middle..].iter().position(|b| *b == b'\n').unwrap_or_default() + middle + 1;
    fs::write(bench.path("half.0.csv"), &text[..end])?;
    let mut second = format!("{HEADER}\n").into_bytes();
    second.extend_from_slice(&text[end..]);
    fs::write(bench.path("half.1.csv"), second)?;
    Ok(())
}

struct Rivals<'a> {
    bench: &'a Bench,
    server: Postgres,
}

impl Rivals<'_> {
    fn fresh(&self, key: &str) -> Done {
        empty(&self.server, key)
    }

    fn spec(&self, source: &str, every: &str, more: &str) -> Done {
        let source = format!("csv: {{ path: {source} }}");
        self.bench.spec_of(&source, &target(&self.server), every, more)
    }

    /// A whole proven load. Into a table without an index nobody else writes, which is asserted.
    fn ours(&self, keyed: bool) -> Done<Measured> {
        self.fresh(if keyed { KEY } else { "" })?;
        self.bench.reset()?;
        let more = if keyed { "" } else { "write: { live_writers: none }\n" };
        self.spec("metrics.csv", "auto", more)?;
        self.bench.measure("run", 0)
    }

    /// Seconds that one `psql` per file needs, all at once.
    fn copy(&self, key: &str, files: &[&str]) -> Done<f64> {
        self.fresh(key)?;
        let began = Instant::now();
        let mut running = Vec::new();
        for file in files {
            let mut psql = self.server.client("psql", "postgres")?;
            let sql = format!("\\copy metrics FROM '{file}' CSV HEADER");
            // By the same way as all others: a socket would spare it some of the work.
            psql.env("PGHOST", "127.0.0.1");
            psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &sql]);
            running.push(psql.current_dir(&self.bench.dir).spawn()?);
        }
        for mut psql in running {
            if !psql.wait()?.success() {
                return Err(Failure::new("`psql \\copy` failed"));
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds of the other programs that are here or can be had.
    fn others(&self, consent: Consent) -> Done<Vec<(&'static str, f64)>> {
        let mut done = Vec::new();
        let jar = PathBuf::from("/usr/share/java/postgresql.jar");
        let mut known = vec!["pgloader"];
        if python::ensure(&[SLING], consent)? {
            known.push("sling");
        }
        if program("java").is_some() && jar.is_file() && python::ensure(&[SPARK], consent)? {
            known.extend([JDBC, TUNED]);
        }
        for name in known {
            self.fresh("")?;
            let mut script = super::python_script("rival_postgres.py");
            let (source, url) = (self.bench.path("metrics.csv"), self.server.url("postgres"));
            let seconds = match name {
                "pgloader" => self.pgloader()?,
                "sling" => Some(super::seconds(script.arg("sling").arg(source).arg(url))?),
                _ => {
                    let way = if name == TUNED { "spark-tuned" } else { "spark" };
                    Some(super::seconds(script.arg(way).arg(source).arg(url).arg(&jar))?)
                }
            };
            let Some(seconds) = seconds else { continue };
            let rows = self.server.try_ask("postgres", "SELECT count(*) FROM metrics")?;
            println!("{name}: {rows} rows in {seconds:.1} s");
            done.push((name, seconds));
        }
        Ok(done)
    }

    fn pgloader(&self) -> Done<Option<f64>> {
        if program("pgloader").is_none() {
            return Ok(None);
        }
        let names = HEADER.replace(',', ", ");
        let text = format!(
            "LOAD CSV FROM '{}' ({names}) INTO {}?tablename=metrics ({names}) \
             WITH skip header = 1, fields terminated by ',';\n",
            self.bench.path("metrics.csv").display(),
            self.server.url("postgres")
        );
        fs::write(self.bench.path("pgloader.load"), text)?;
        let began = Instant::now();
        let mut load = std::process::Command::new("pgloader");
        output(load.arg("--quiet").arg(self.bench.path("pgloader.load")))?;
        Ok(Some(began.elapsed().as_secs_f64()))
    }

    /// Seconds of a run that finds a plan of many slices done.
    fn reruns(&self, runs: u64) -> Done<Vec<f64>> {
        self.fresh(KEY)?;
        self.bench.reset()?;
        // A slice a minute, each of 60 rows.
        Metrics::new(SLICES * 60, 10).write(&self.bench.path("many.csv"))?;
        self.spec("many.csv", "1min", "")?;
        self.bench.measure("run", 0)?;
        let rerun = |_| Ok(self.bench.measure("run", 0)?.seconds);
        (0..runs).map(rerun).collect()
    }
}

fn seconds(of: &[Measured]) -> f64 {
    median(of.iter().map(|m| m.seconds))
}

fn middle(of: &[f64]) -> f64 {
    median(of.iter().copied())
}

fn body(figures: &Figures) -> String {
    let Figures { plain, keyed, copy, copy_keyed, copy_split, .. } = figures;
    let base = middle(copy);
    let ours = |name: &str, of: &[Measured], base: f64| {
        let peak = median(of.iter().map(|m| m.peak_mib));
        let cpu = median(of.iter().map(|m| m.cpu));
        let s = seconds(of);
        format!("| {name} | {s:.2} | {:.2} | {cpu:.1} | {peak:.0} |", s / base)
    };
    let theirs =
        |name: &str, s: f64, base: f64| format!("| {name} | {s:.2} | {:.2} | | |", s / base);
    let mut lines = vec![
        "## CSV to PostgreSQL".to_owned(),
        String::new(),
        format!(
            "`cargo xtask bench postgres`, profile `{}`: a generated file of {} rows and 10 \
             columns, {:.0} MB, in the page cache; the server on the same cores, by TCP, `fsync` \
             on. `retrofill run` starts each time with an empty table and without state; it plans, \
             loads, reads back, keeps receipts and ledger. The others write only. Runs alternate; \
             the table shows medians of {}. The third column is relative to `\\copy` into the same \
             kind of table.",
            super::profile(),
            figures.rows,
            figures.bytes as f64 / 1e6,
            plain.len()
        ),
        String::new(),
        "| | s | of `\\copy` | CPU s | peak MiB |".into(),
        "|---|---|---|---|---|".into(),
        ours("retrofill, proven, no index", plain, base),
        theirs("`psql \\copy`, no index", base, base),
        theirs("two `psql \\copy` of split files, no index", middle(copy_split), base),
        ours("retrofill, proven, primary key", keyed, middle(copy_keyed)),
        theirs("`psql \\copy`, primary key", middle(copy_keyed), middle(copy_keyed)),
    ];
    let once = |(name, s): &(&str, f64)| theirs(&format!("{name}, no index, once"), *s, base);
    lines.extend(figures.others.iter().map(once));
    lines.push(String::new());
    lines.push(format!(
        "A rerun that finds {SLICES} slices proven takes {:.2} s.",
        middle(&figures.rerun)
    ));
    lines.join("\n")
}

fn judge(figures: &Figures) -> Done {
    let plain = seconds(&figures.plain);
    let bars = [
        ("no index", plain / middle(&figures.copy), PLAIN_MAX),
        ("primary key", seconds(&figures.keyed) / middle(&figures.copy_keyed), KEYED_MAX),
        ("against two", plain / middle(&figures.copy_split), SPLIT_MAX),
        ("seconds of a rerun", middle(&figures.rerun), RERUN_MAX),
    ];
    let spark = figures.others.iter().filter(|(name, _)| *name == JDBC);
    let missed: Vec<_> = bars
        .into_iter()
        .chain(spark.map(|(name, s)| (*name, plain / s, SPARK_MAX)))
        .filter(|(_, is, may)| is > may)
        .map(|(name, is, may)| format!("{name}: {is:.2}, may be {may}"))
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(Failure::new(missed.join("; "))) }
}
