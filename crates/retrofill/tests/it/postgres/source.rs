//! PostgreSQL tables as sources. What arrived is said by psql and DuckDB.

use std::process::Command;

use xtask::servers::{Fault, Proxy};

use super::*;
use crate::judge;

/// Hosts and hours in two partitions, so that no slice is one by chance.
const HISTORY: &str = "CREATE TABLE history (ts timestamptz(3) NOT NULL, hostname text NOT NULL, \
    region text, usage_user float8, usage_system float8, usage_idle float8, usage_nice float8, \
    usage_iowait float8, usage_irq int8, usage_steal int4) PARTITION BY RANGE (ts); \
    CREATE TABLE noon PARTITION OF history FOR VALUES FROM (MINVALUE) TO ('2024-01-01 12:00Z'); \
    CREATE TABLE night PARTITION OF history DEFAULT; CREATE INDEX ON history (ts);";

/// A job that reads `history` of the database at this address.
fn job(url: &str, target: &str, more: &str, metrics: &Metrics) -> Job {
    let job = Job::new(&format!(
        "name: metrics\nsource: {{ postgres: {{ url: \"{url}\", table: history{more} }} }}\n\
         target: {target}\nrows: {{ time: ts, key: [hostname] }}\nrange: {{ every: 5h }}\n\
         retry: {{ attempts: 8, backoff: 20ms, max_backoff: 500ms }}\n",
    ));
    metrics.write(&job.path("data/metrics.csv")).unwrap();
    job
}

fn into(database: &Database<'_>) -> String {
    format!("{{ postgres: {{ url: \"{}\", table: public.metrics }} }}", database.url())
}

/// A table of history with the rows of the job's file.
fn fill(database: &Database<'_>, job: &Job) {
    database.ask(&format!(
        "{HISTORY}\n\\copy history FROM '{}' CSV HEADER\n",
        job.path("data/metrics.csv").display()
    ));
}

#[test]
fn rows_go_from_one_database_to_another() {
    if !ready("source::rows_go_from_one_database") {
        return;
    }
    let (source, target) = (shared(), shared());
    target.ask(TABLE);
    let name = &source.name;
    source.ask(&format!("ALTER DATABASE {name} SET TimeZone = 'America/New_York'"));
    source.ask(&format!("ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'"));
    let job = job(&source.url(), &into(&target), "", &metrics());
    fill(&source, &job);
    job.call("check", &["--connect"]).ended(0);
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), ROWS, "{last}");
    equal(&job, &target);
    idle(&job, &target);
    // Rows that come late are seen, and nothing else is written.
    source.ask("INSERT INTO history (ts, hostname) VALUES ('2024-01-01 13:00:05Z', 'late')");
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), 1, "{last}");
    assert_eq!(
        target.ask("SELECT ts = '2024-01-01 13:00:05Z' FROM metrics WHERE region IS NULL"),
        "t"
    );
    // A row that goes astray is brought back from the source.
    target.ask("DELETE FROM metrics WHERE hostname = 'host_0004' AND ts < '2024-01-01 00:10Z'");
    job.call("verify", &[]).ended(3);
    job.call("run", &["--select", "mismatched"]).ended(0);
    target.ask("DELETE FROM metrics WHERE hostname = 'late'");
    equal(&job, &target);
}

#[test]
fn rows_go_to_delta_and_back() {
    if !ready("source::rows_go_to_delta") {
        return;
    }
    let (source, target) = (shared(), shared());
    target.ask(TABLE);
    let there = job(&source.url(), "{ delta: { path: ./out } }", "", &metrics());
    fill(&source, &there);
    let last = there.run().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), ROWS, "{last}");
    if judge::here("postgres::source::rows_go_to_delta") {
        assert_eq!(judge::equal(&there), ROWS);
    }
    there.nothing_to_do();
    let back = job(&source.url(), &into(&target), "", &metrics());
    let spec = fs::read_to_string(back.path("backfill.yaml")).unwrap();
    let (from, rest) = spec.split_once("source: ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let delta = format!("source: {{ delta: {{ path: \"{}\" }} }}", there.path("out").display());
    fs::write(back.path("backfill.yaml"), format!("{from}{delta}\n{rest}")).unwrap();
    back.run().ended(0);
    equal(&back, &target);
    idle(&back, &target);
}

/// Changes rows of the last hours while the first slices are loaded.
fn changed_meanwhile(more: &str) -> (Ran, Job, Database<'static>, Database<'static>) {
    let (source, target) = (shared(), shared());
    target.ask(TABLE);
    let job = job(&source.url(), &into(&target), more, &metrics());
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let slow = spec + "limits: { rows_per_second: 20000, concurrency: 1 }\n";
    fs::write(job.path("backfill.yaml"), slow).unwrap();
    fill(&source, &job);
    let mut runner = job.start(&["--output", "json"], &[]);
    job.wait_for("verified", 1, &mut runner);
    source.ask("UPDATE history SET usage_irq = -5 WHERE ts = '2024-01-01 23:00Z'");
    (runner.end(), job, source, target)
}

#[test]
fn what_changes_while_it_is_read_is_stale() {
    if !ready("source::what_changes_while_it_is_read") {
        return;
    }
    let (ran, job, source, target) = changed_meanwhile("");
    let last = ran.ended(1).json();
    assert_eq!(number(&last, "slices", "stale"), 1, "{last}");
    // The next run sees what is there now.
    job.run().ended(0);
    assert_eq!(target.ask("SELECT count(*) FROM metrics WHERE usage_irq = -5"), "10");
    assert_eq!(target.ask("SELECT count(*) FROM metrics"), ROWS.to_string());
    let copy = job.path("now.csv");
    source.ask(&format!("\\copy (TABLE history) TO '{}' CSV HEADER\n", copy.display()));
    fs::rename(copy, job.path("data/metrics.csv")).unwrap();
    equal(&job, &target);
}

#[test]
fn one_snapshot_shows_one_state() {
    if !ready("source::one_snapshot_shows") {
        return;
    }
    let (ran, job, source, target) = changed_meanwhile(", snapshot: true");
    let last = ran.ended(0).json();
    assert_eq!(last["status"], "verified", "{last}");
    equal(&job, &target);
    // The next run sees the change, and leaves to a person whether it counts.
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "conflicting"), 10, "{last}");
    job.call("run", &["--restate"]).ended(0);
    assert_eq!(target.ask("SELECT count(*) FROM metrics WHERE usage_irq = -5"), "10");
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'retrofill'";
    assert_eq!(source.ask(held), "0");
}

#[test]
fn a_source_that_is_cut_off_is_read_again() {
    if !ready("source::a_source_that_is_cut_off") {
        return;
    }
    let proxy = Proxy::start(Postgres::shared().port()).unwrap();
    for at in [3_000, 900_000, 2_500_000] {
        let (source, target) = (shared(), shared());
        target.ask(TABLE);
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), source.name);
        proxy.set(Fault::None);
        let job = job(&url, &into(&target), "", &Metrics::new(36_000, 10));
        fill(&source, &job);
        job.comes_through_a_cut(&proxy, at);
        equal(&job, &target);
    }
}

/// What a table of `types.rs` holds, by psql.
const SHOWN: &str = "SELECT md5(p::text), p.* FROM plain p ORDER BY \"Time\"";

#[test]
fn every_common_type_is_read_as_it_is() {
    if !ready("source::every_common_type") {
        return;
    }
    let (source, target) = (shared(), shared());
    for database in [&source, &target] {
        database.ask(&format!(
            "{}; CREATE TABLE plain AS SELECT {} FROM \"All Types\" WITH NO DATA;",
            types::TYPES,
            types::COLUMNS
        ));
    }
    target.ask("CREATE UNIQUE INDEX ON plain (\"ID\", \"Time\")");
    let job = Job::new(&format!(
        "name: plain\nsource: {{ postgres: {{ url: \"{}\", table: plain }} }}\n\
         target: {{ postgres: {{ url: \"{}\", table: plain }} }}\n\
         rows: {{ time: Time, key: [ID] }}\nrejects: {{ max: 3 }}\n",
        source.url(),
        target.url()
    ));
    fs::write(job.path("data/t.csv"), types::FILE).unwrap();
    let file = job.path("data/t.csv");
    source.ask(&format!("\\copy plain FROM '{}' CSV HEADER\n", file.display()));
    let good = source.ask(SHOWN);
    let id = "gen_random_uuid()";
    source.ask(&format!(
        "INSERT INTO plain (\"Time\", \"ID\", free, note) VALUES ('infinity', {id}, 1, 'never'),
         (NULL, {id}, 1, 'unknown'), ('2013-01-01 00:30Z', {id}, 'NaN', 'no number')"
    ));
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), 3, "{last}");
    assert_eq!(number(&last, "rows", "rejected"), 3, "{last}");
    assert_eq!(target.ask(SHOWN), good);
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["rejects", "list", "backfill.yaml"]).current_dir(job.dir.path());
    let said = Ran::from(program.output().unwrap()).ended(0).stdout;
    for word in ["never", "unknown", "no number"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    job.call("verify", &["--level", "rows"]).ended(0);
}

#[test]
fn exactly_the_grants_are_enough_to_read() {
    if !ready("source::exactly_the_grants") {
        return;
    }
    let delta = "{ delta: { path: ./out } }";
    let setup = || {
        let source = shared();
        fill(&source, &job(&source.url(), delta, "", &metrics()));
        source.ask("REVOKE ALL ON SCHEMA public FROM PUBLIC");
        source.ask(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", source.name));
        let role = format!("reader_{}", source.name);
        source.ask(&format!("CREATE ROLE {role} LOGIN"));
        let url = source.url().replace("postgres@", &format!("{role}@"));
        let job = job(&url, delta, ", snapshot: true", &metrics());
        let list = job.call("grants", &[]).ended(0).stdout;
        assert!(list.contains(&format!("TO \"{role}\"")), "{list}");
        (source, job, list.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let (source, job, list) = setup();
    source.ask(&list.join("\n"));
    job.run().ended(0);
    if judge::here("postgres::source::exactly_the_grants") {
        assert_eq!(judge::equal(&job), ROWS);
    }
    for n in 0..list.iter().filter(|s| s.starts_with("GRANT")).count() {
        let (source, job, list) = setup();
        let missing = list.iter().filter(|s| s.starts_with("GRANT")).nth(n).unwrap();
        source.ask(&list.iter().filter(|s| *s != missing).cloned().collect::<Vec<_>>().join("\n"));
        refused(job.call("run", &[]), 2, "");
    }
}

/// Its rows come much more slowly than a transaction of the target may take.
#[test]
fn a_slow_source_holds_no_transaction_open() {
    if !ready("source::a_slow_source_holds_no_transaction_open") {
        return;
    }
    let (source, target) = (shared(), shared());
    target.ask(TABLE);
    let proxy = Proxy::start(Postgres::shared().port()).unwrap();
    let slow = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), source.name);
    let job = job(&slow, &into(&target), "", &Metrics::new(7_200, 10));
    fill(&source, &job);
    // Both hours are one slice of some 800 kB.
    proxy.set(Fault::Slow(250_000));
    let ran = job.call("run", &[]).ended(0);
    proxy.set(Fault::None);
    let log = job.call("log", &[]).ended(0).stdout;
    assert!(!log.contains("halved") && !log.contains("try 2"), "{log}\n{ran:?}");
    equal(&job, &target);
    idle(&job, &target);
}

#[test]
fn rows_without_a_place_of_their_own_are_refused() {
    if !ready("source::rows_without_a_place") {
        return;
    }
    let (source, target) = (shared(), shared());
    let job = job(&source.url(), &into(&target), "", &metrics());
    source.ask(&format!(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; {HISTORY} \
         ALTER TABLE history DETACH PARTITION night; CREATE FOREIGN TABLE far PARTITION OF \
         history DEFAULT SERVER files OPTIONS (filename '{}', format 'csv', header 'true')",
        job.path("data/metrics.csv").display()
    ));
    for command in [&["plan"][..], &["check", "--connect"]] {
        let ran = job.call(command[0], &command[1..]);
        refused(ran, 2, "public.far of public.history is a foreign table");
    }
}

#[test]
fn documents_that_no_digest_takes_are_listed() {
    if !ready("source::documents_that_no_digest") {
        return;
    }
    let (source, target) = (shared(), shared());
    let deep = "(repeat('[', 600) || repeat(']', 600))";
    source.ask(&format!(
        "CREATE TABLE history (ts timestamptz, hostname text, doc json); INSERT INTO history \
         VALUES ('2024-01-01Z', 'a', '{{\"x\": 1}}'), ('2024-01-01Z', 'b', {deep}::json), \
         ('2024-01-01Z', 'c', '[1e1234567890123456789]')"
    ));
    target.ask(
        "CREATE TABLE metrics (ts timestamptz, hostname text, doc jsonb, \
         PRIMARY KEY (ts, hostname))",
    );
    let job = job(&source.url(), &into(&target), "", &metrics());
    let last = job.run().ended(6).json();
    assert_eq!(number(&last, "rows", "rejected"), 2, "{last}");
    let listed = job.listed_rejects();
    assert!(listed.contains("nested deeper than 512 levels"), "{listed}");
    assert!(listed.contains("exponent of more than 18 digits"), "{listed}");
    // One that is held is told with its column and its time.
    target.ask(&format!("INSERT INTO metrics VALUES ('2024-01-01Z', 'held', {deep}::jsonb)"));
    let ran = job.call("verify", &[]);
    assert!(ran.stderr.contains("whose `doc` is JSON nested deeper"), "{}", ran.stderr);
    assert!(ran.stderr.contains("2024-01-01"), "{}", ran.stderr);
}
