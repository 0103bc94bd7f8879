//! `check --connect` and `grants`.

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
