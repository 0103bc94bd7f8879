//! `check --connect` and `grants`.

use xtask::servers::Pgbouncer;

use super::*;

#[test]
fn check_names_what_stands_in_the_way() {
    if !ready("connect::check_names") {
        return;
    }
    let database = shared();
    let small = Metrics::new(360, 10);
    let job = job(&database.url(), &small, "");
    let ran = job.call("check", &["--connect"]).ended(0);
    assert!(ran.stdout.contains("the first run creates it"), "{}", ran.stdout);
    let left = database.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'retrofill'");
    assert_eq!(left, "0", "check wrote something");
    database.ask(TABLE);
    job.call("check", &["--connect"]).ended(0);
    database.ask("ALTER TABLE metrics DROP CONSTRAINT metrics_pkey");
    let index = "CREATE UNIQUE INDEX CONCURRENTLY ON \"public\".\"metrics\" (\"ts\", \"hostname\")";
    refused(job.call("check", &["--connect"]), 2, index);
    database.ask("ALTER TABLE metrics ADD PRIMARY KEY (hostname, ts)");
    let ran = job.call("check", &["--connect"]).ended(0);
    assert!(ran.stdout.contains("CREATE INDEX CONCURRENTLY"), "{}", ran.stdout);
    let ran = job.call("plan", &[]).ended(0);
    let note = "writers of the same keys may wait 10 s; CREATE INDEX CONCURRENTLY";
    assert!(ran.stdout.contains(note), "{}", ran.stdout);
    database.ask(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER stamps BEFORE INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION f(); \
         ALTER TABLE metrics ADD place point;",
    );
    let ran = job.call("check", &["--connect", "--output", "json"]).ended(0);
    let target = &ran.json()["ends"][1]["remarks"];
    let warned = |what: &str| {
        let list = target.as_array().unwrap();
        list.iter().any(|r| r["verdict"] == "warning" && r["what"] == what)
    };
    for what in ["trigger", "types"] {
        assert!(warned(what), "{what}: {target:#}");
    }
    database.ask(
        "ALTER TABLE metrics SET UNLOGGED; \
         CREATE RULE away AS ON INSERT TO metrics DO INSTEAD NOTHING",
    );
    let ran = job.call("check", &["--connect"]).ended(2);
    for what in ["rule `away`", "unlogged"] {
        assert!(ran.stdout.contains(what), "{what}: {}", ran.stdout);
    }
}

#[test]
fn a_server_that_is_away_or_takes_no_writes_is_told_apart() {
    if !ready("connect::a_server_that_is_away") {
        return;
    }
    let small = Metrics::new(360, 10);
    refused(
        job("postgres://postgres@127.0.0.1:1/x", &small, "").call("check", &["--connect"]),
        1,
        "connection",
    );
    let database = shared();
    let nobody = database.url().replace("postgres@", "nobody_here@");
    refused(job(&nobody, &small, "").call("check", &["--connect"]), 2, "connection");
    let name = &database.name;
    database.ask(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    refused(job(&database.url(), &small, "").call("check", &["--connect"]), 2, "read-only");
}

/// Modes that need other rights.
const MODES: [&str; 2] = ["fill-missing", "upsert"];

/// Runs these statements, without the n-th of the grants.
fn granted(database: &Database<'_>, role: &str, list: &[String], without: Option<&String>) {
    database.ask(&format!("CREATE ROLE {role} LOGIN"));
    let kept = list.iter().filter(|s| Some(*s) != without);
    let sql: Vec<&str> = kept.map(String::as_str).collect();
    database.ask(&sql.join("\n"));
}

fn statements(job: &Job, role: &str) -> Vec<String> {
    let ran = job.call("grants", &["--role", role]).ended(0);
    ran.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn exactly_the_grants_are_enough() {
    if !ready("connect::exactly_the_grants") {
        return;
    }
    for mode in MODES {
        let database = shared();
        database.ask(TABLE);
        database.ask("REVOKE ALL ON SCHEMA public FROM PUBLIC");
        database.ask(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", database.name));
        let role = format!("least_{}", database.name);
        let url = database.url().replace("postgres@", &format!("{role}@"));
        let job = job(&url, &Metrics::new(7_200, 10), &format!("write: {{ mode: {mode} }}"));
        let list = statements(&job, &role);
        granted(&database, &role, &list, None);
        job.call("check", &["--connect"]).ended(0);
        job.run().ended(0);
        equal(&job, &database);
        job.call("verify", &[]).ended(0);
    }
}

#[test]
fn with_one_grant_missing_it_is_refused() {
    if !ready("connect::with_one_grant_missing") {
        return;
    }
    let needed = ["GRANT CONNECT", "GRANT USAGE", "GRANT SELECT"];
    let is_needed = |s: &&String| needed.iter().any(|n| s.starts_with(n));
    let database = shared();
    let probe = job(&database.url(), &Metrics::new(360, 10), "");
    let count = statements(&probe, "x").iter().filter(is_needed).count();
    assert!(count >= 5, "CONNECT, two of USAGE, two of SELECT and more");
    for n in 0..count {
        let database = shared();
        database.ask(TABLE);
        database.ask("REVOKE ALL ON SCHEMA public FROM PUBLIC");
        database.ask(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", database.name));
        let role = format!("lacks_{}", database.name);
        let url = database.url().replace("postgres@", &format!("{role}@"));
        let job = job(&url, &Metrics::new(360, 10), "");
        let list = statements(&job, &role);
        let missing = list.iter().filter(is_needed).nth(n).unwrap();
        granted(&database, &role, &list, Some(missing));
        let ran = job.call("run", &[]);
        assert_eq!(ran.code, Some(2), "without {missing}\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(database.ask("SELECT count(*) FROM metrics"), "0", "without {missing}");
        assert_eq!(job.call("check", &["--connect"]).code, Some(2), "without {missing}");
    }
}

#[test]
fn who_asks_for_tls_gets_it_on_this_machine_too() {
    if !ready("connect::who_asks_for_tls") {
        return;
    }
    let database = shared();
    for mode in ["require", "verify-full"] {
        let job = job(&format!("{}?sslmode={mode}", database.url()), &Metrics::new(360, 10), "");
        refused(job.call("check", &["--connect"]), 2, "does not support TLS");
    }
}

#[test]
fn a_pooler_of_single_statements_is_refused() {
    let test = "postgres::connect::a_pooler_of_single_statements";
    if !here(test, &[Need::Postgres, Need::Pgbouncer]) {
        return;
    }
    let database = shared();
    let pooler = Pgbouncer::with(Postgres::shared(), 2, "statement").unwrap();
    let job = job(&pooler.url(&database.name), &Metrics::new(360, 10), "");
    refused(job.call("check", &["--connect"]), 2, "pool_mode");
    database.ask(TABLE);
    refused(job.call("run", &[]), 2, "pool_mode");
}

#[test]
fn receipts_that_would_not_keep_are_refused() {
    if !ready("connect::receipts_that_would_not_keep") {
        return;
    }
    let table = "relation oid, plan text, slice text, generation bigint, table_name text, \
                 from_time timestamptz, to_time timestamptz, proven_at timestamptz, body text, \
                 manifest bytea";
    let key = "PRIMARY KEY (relation, plan, slice, generation)";
    for (sql, told) in [
        ("CREATE TABLE retrofill.receipts (a int)".to_owned(), "has no column `relation`"),
        (format!("CREATE TABLE retrofill.receipts ({table})"), "has no primary key"),
        (format!("CREATE UNLOGGED TABLE retrofill.receipts ({table}, {key})"), "is unlogged"),
        ("CREATE VIEW retrofill.receipts AS SELECT 1 AS a".into(), "is a view"),
        (
            format!(
                "CREATE TABLE retrofill.receipts ({table}, {key}); CREATE FUNCTION f() RETURNS \
                 trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keeps BEFORE \
                 UPDATE ON retrofill.receipts FOR EACH ROW EXECUTE FUNCTION f()"
            ),
            "has the trigger `keeps`",
        ),
    ] {
        let database = shared();
        database.ask(&format!("{TABLE} CREATE SCHEMA retrofill; {sql}"));
        let job = job(&database.url(), &Metrics::new(360, 10), "");
        refused(job.call("check", &["--connect"]), 2, told);
        refused(job.call("run", &[]), 2, told);
        assert_eq!(database.ask("SELECT count(*) FROM metrics"), "0");
    }
}

#[test]
fn a_trial_asks_for_its_rights_and_leaves_nothing() {
    if !ready("connect::a_trial_asks_for_its_rights") {
        return;
    }
    let database = shared();
    database.ask(TABLE);
    let role = format!("tries_{}", database.name);
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let job = job(&url, &Metrics::new(7_200, 10), "");
    let list = statements(&job, &role);
    granted(&database, &role, &list, None);
    let ran = job.call("trial", &[]).ended(2);
    let grants = format!(
        "GRANT CREATE ON SCHEMA retrofill TO \"{role}\"; \
         GRANT DELETE ON retrofill.receipts TO \"{role}\";"
    );
    assert!(ran.stderr.contains(&grants), "{}", ran.stderr);
    database.ask(&grants);
    job.call("trial", &[]).ended(0);
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'trial%') || '/' || \
                (SELECT count(*) FROM retrofill.receipts)";
    assert_eq!(database.ask(left), "0/0");
}

#[test]
fn numbers_and_partitions_take_rights_of_their_own() {
    if !ready("connect::numbers_and_partitions") {
        return;
    }
    let database = shared();
    let table = TABLE.trim_end_matches(';');
    database.ask(&format!("{table} PARTITION BY RANGE (ts); ALTER TABLE metrics ADD n bigserial"));
    let role = format!("lacks_{}", database.name);
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let job = job(&url, &Metrics::new(360, 10), "");
    job.respec("table: public.metrics", "table: public.metrics, create_partitions: true");
    let list = statements(&job, &role);
    granted(&database, &role, &list, None);
    let ran = job.call("check", &["--connect"]).ended(0);
    assert!(ran.stdout.contains("GRANT USAGE ON SEQUENCE public.metrics_n_seq"), "{}", ran.stdout);
    assert!(ran.stdout.contains("`create_partitions` takes"), "{}", ran.stdout);
}
