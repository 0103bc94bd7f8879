//! PostgreSQL as its users meet it: real servers, and `psql` as the judge.

mod after;
mod basics;
mod connect;
mod example;
mod faults;
mod kill;
mod live;
mod loads;
mod modes;
mod odd;
mod partitions;
mod source;
mod trial;
mod types;
mod unindexed;

use std::fs;

use serde_json::Value;
use xtask::metrics::Metrics;
use xtask::need::{Need, here};
use xtask::servers::{Database, Postgres};

use crate::harness::{Job, Ran};

/// The table of the generated rows, with the key that a load needs.
const TABLE: &str = "CREATE TABLE metrics (ts timestamptz NOT NULL, hostname text NOT NULL, \
    region text, usage_user float8, usage_system float8, usage_idle float8, usage_nice float8, \
    usage_iowait float8, usage_irq bigint, usage_steal bigint, PRIMARY KEY (ts, hostname));";

/// A day of rows of ten hosts.
const ROWS: u64 = 86_400;

fn metrics() -> Metrics {
    Metrics::new(ROWS, 10)
}

/// A job into `public.metrics` of the database at this address.
fn job(url: &str, metrics: &Metrics, more: &str) -> Job {
    let spec = format!(
        "name: metrics\nsource: {{ csv: {{ path: \"data/*\" }} }}\n\
         target: {{ postgres: {{ url: \"{url}\", table: public.metrics }} }}\n\
         rows: {{ time: ts, key: [hostname] }}\nrange: {{ every: 1h }}\n{more}\n"
    );
    let job = Job::new(&spec);
    metrics.write(&job.path("data/metrics.csv")).unwrap();
    job
}

/// Whether the server is here; else says that this test is skipped.
#[track_caller]
fn ready(test: &str) -> bool {
    here(&format!("postgres::{test}"), &[Need::Postgres])
}

/// Live rows in one slice: one that the history has too, one with another value.
fn live_rows(job: &Job, database: &Database<'_>) {
    let first = fs::read_to_string(job.path("data/metrics.csv")).unwrap();
    let mut lines = first.lines();
    fs::write(job.path("live.csv"), format!("{}\n", lines.nth(1).unwrap())).unwrap();
    database.ask(&format!("\\copy metrics FROM '{}' CSV", job.path("live.csv").display()));
    database.ask(
        "INSERT INTO metrics (ts, hostname, usage_irq) \
         VALUES ('2024-01-01 00:30Z', 'host_0001', -1);",
    );
}

/// Rows of the source file that the table lacks, and rows of the table that it does not have, by
/// `psql` alone.
fn differences(job: &Job, database: &Database<'_>) -> (u64, u64) {
    let file = job.path("data/metrics.csv");
    let answer = database.ask(&format!(
        "CREATE TEMP TABLE expected (LIKE metrics);\n\
         \\copy expected FROM '{}' CSV HEADER\n\
         SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE metrics) a), \
         (SELECT count(*) FROM (TABLE metrics EXCEPT ALL TABLE expected) b);",
        file.display()
    ));
    let (lacks, more) = answer.split_once('|').unwrap();
    (lacks.parse().unwrap(), more.parse().unwrap())
}

/// The table holds exactly the rows of the source.
#[track_caller]
fn equal(job: &Job, database: &Database<'_>) {
    assert_eq!(differences(job, database), (0, 0), "rows missing, rows too many");
}

/// What changes in the database when anything is written to it.
fn writes(database: &Database<'_>) -> String {
    database.ask(
        "SELECT (SELECT count(*) || '/' || max(xmin::text::bigint) FROM metrics), \
         (SELECT count(*) || '/' || max(xmin::text::bigint) FROM retrofill.receipts);",
    )
}

/// Runs once more; there is nothing to do, and nothing is written.
#[track_caller]
fn idle(job: &Job, database: &Database<'_>) {
    let before = writes(database);
    let ran = job.call("run", &[]).ended(0);
    assert!(ran.stdout.contains("nothing to do"), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(before, writes(database), "a run with nothing to do wrote something");
}

/// After whatever happened, the same command ends well, exactly once.
#[track_caller]
fn comes_back(job: &Job, database: &Database<'_>) {
    let last = job.run().ended(0).json();
    assert_eq!(last["status"], "verified");
    equal(job, database);
    idle(job, database);
}

/// What a command said and how it ended, for tests that only want its error.
#[track_caller]
fn refused(ran: Ran, code: i32, text: &str) {
    ran.refused(code, &[text]);
}

/// A run's last line.
#[track_caller]
fn number(json: &Value, section: &str, name: &str) -> u64 {
    json[section][name].as_u64().unwrap_or_else(|| panic!("no {section}.{name} in {json}"))
}

/// All conflicts that the job has listed.
fn conflicts(job: &Job) -> u64 {
    let (mut open, mut count) = (vec![job.state()], 0);
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().flatten().map(|e| e.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "jsonl") {
                let text = fs::read_to_string(path).unwrap();
                count += text.lines().filter(|l| l.contains("\"conflict_v1\"")).count();
            }
        }
    }
    count as u64
}

/// The server that tests share which do not harm it.
fn shared() -> Database<'static> {
    Postgres::shared().database()
}
