//! A trial beside a live table.

use super::*;

#[test]
fn a_trial_is_seen_by_nobody_and_forgotten() {
    if !ready("trial::a_trial_is_seen_by_nobody") {
        return;
    }
    let database = shared();
    database.ask(TABLE);
    let job = job(&database.url(), &metrics(), "");
    live_rows(&job, &database);
    let table = "SELECT md5(string_agg(m::text, '|' ORDER BY ts, hostname)) FROM metrics m";
    let before = database.ask(table);
    // All slices, so that the one with the live rows is among them.
    let ran = job.call("trial", &["--slices", "24", "--output", "json"]).ended(0);
    let line = ran.json();
    assert_eq!(number(&line, "rows", "already_present"), 1, "{line}");
    assert_eq!(number(&line, "rows", "conflicting"), 1, "{line}");
    assert_eq!(number(&line, "rows", "written"), ROWS - 2, "{line}");
    assert_eq!(line["forecast"]["written"]["to"], ROWS - 2, "{line}");
    assert_eq!(database.ask(table), before);
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'trial%') || '/' || \
                (SELECT count(*) FROM retrofill.receipts)";
    assert_eq!(database.ask(left).trim(), "0/0");
    // Killed, and cleaned up after.
    let mut started = job.start_as("trial", &[], &[("RETROFILL_HOLD", "commit:2")]);
    assert!(started.says("held at commit"), "{}", started.stderr());
    let shadow = "SELECT count(*) FROM pg_class WHERE relname LIKE 'trial\\_%' AND relkind = 'r'";
    assert_eq!(database.ask(shadow).trim(), "1");
    started.kill();
    let began = std::time::Instant::now();
    while database.ask(left).trim() != "0/0" {
        assert!(began.elapsed().as_secs() < 60, "the shadow stays");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(database.ask(table), before);
    job.run().ended(0);
    assert_eq!(differences(&job, &database), (1, 1));
}

#[test]
fn a_trial_draws_no_number_from_the_tables_sequences() {
    if !ready("trial::a_trial_draws_no_number") {
        return;
    }
    for id in ["bigint GENERATED ALWAYS AS IDENTITY", "serial"] {
        let database = shared();
        database.ask(&format!(
            "CREATE TABLE t (id {id} PRIMARY KEY, ts timestamptz NOT NULL, k text NOT NULL, \
             v bigint, UNIQUE (ts, k)); INSERT INTO t (ts, k, v) SELECT '2020-01-01 00:00Z', \
             'live_' || n, n FROM generate_series(1, 5) n"
        ));
        let job = Job::new(&format!(
            "name: t\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
             target: {{ postgres: {{ url: \"{}\", table: t }} }}\n\
             rows: {{ time: ts, key: [k] }}\nrange: {{ every: 1d }}\n",
            database.url()
        ));
        fs::write(job.path("data/a.csv"), "ts,k,v\n2020-01-01T00:00:00Z,a,1\n").unwrap();
        let line = job.call("trial", &["--output", "json"]).ended(0).json();
        assert_eq!(number(&line, "rows", "written"), 1, "{line}");
        job.run().ended(0);
        assert_eq!(database.ask("SELECT max(id) FROM t WHERE k = 'a'"), "6");
        assert_eq!(database.ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'trial%'"), "0");
    }
}
