//! Tables that are legal and unusual: what they do behind a load's back is met, or refused.

use super::*;

const ROWS: &str = "2020-01-01T00:00:00Z,a,1\n2020-01-01T01:00:00Z,b,2\n2020-01-02T00:00:00Z,c,3\n";

const SHOWN: &str = "SELECT to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                     || ',' || k || ',' || v FROM t ORDER BY ts, k";

/// A database with `t`, made by this statement, and a job of three rows into it.
fn odd(ddl: &str, more: &str) -> (Database<'static>, Job) {
    let database = shared();
    database.ask(ddl);
    let job = Job::new(&format!(
        "name: odd\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ postgres: {{ url: \"{}\", table: t }} }}\n\
         rows: {{ time: ts, key: [k] }}\nrange: {{ every: 1d }}\n\
         retry: {{ attempts: 20, backoff: 20ms, max_backoff: 100ms }}\n{more}\n",
        database.url()
    ));
    fs::write(job.path("data/a.csv"), format!("ts,k,v\n{ROWS}")).unwrap();
    (database, job)
}

const PLAIN: &str = "CREATE TABLE t (ts timestamptz, k text, v bigint, PRIMARY KEY (ts, k));";

#[test]
fn what_a_trigger_would_do_at_the_commit_is_seen_before_it() {
    if !ready("odd::what_a_trigger_would_do") {
        return;
    }
    for what in [
        "DELETE FROM t WHERE ts = NEW.ts AND k = 'b' AND k = NEW.k",
        "UPDATE t SET v = v + 1000 WHERE ts = NEW.ts AND k = NEW.k AND v < 1000",
    ] {
        let (database, job) = odd(
            &format!(
                "{PLAIN} CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN {what}; RETURN NULL; END $$; \
                 CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION f()"
            ),
            "",
        );
        let said = job.call("check", &["--connect"]).ended(0);
        assert!(said.stdout.contains("`late` runs after an insert"), "{}", said.stdout);
        job.run().ended(3);
        assert_eq!(database.ask("SELECT count(*) FROM t WHERE v > 1000 OR k IN ('a', 'b')"), "0");
        database.ask("DROP TRIGGER late ON t");
        job.call("run", &["--select", "mismatched"]).ended(0);
        assert_eq!(database.ask(SHOWN), ROWS.trim_end());
    }
}

#[test]
fn rows_that_a_deferred_constraint_refuses_are_listed() {
    if !ready("odd::rows_that_a_deferred_constraint") {
        return;
    }
    for constraint in [
        "FOREIGN KEY (k) REFERENCES known (k) DEFERRABLE INITIALLY DEFERRED",
        "UNIQUE (v) DEFERRABLE INITIALLY DEFERRED",
    ] {
        let (database, job) = odd(
            &format!(
                "CREATE TABLE known (k text PRIMARY KEY); INSERT INTO known VALUES ('a'), ('c'); \
                 {PLAIN} ALTER TABLE t ADD CONSTRAINT late {constraint}; \
                 INSERT INTO t VALUES ('2019-01-01Z', 'a', 2)"
            ),
            "rejects: { max: 1 }",
        );
        let last = job.run().ended(0).json();
        assert_eq!(number(&last, "rows", "rejected"), 1, "{last}");
        let left = ROWS.replace("2020-01-01T01:00:00Z,b,2\n", "");
        assert_eq!(database.ask(SHOWN), format!("2019-01-01T00:00:00Z,a,2\n{}", left.trim_end()));
        let rejects = job.listed_rejects();
        assert!(rejects.contains("late"), "{rejects}");
    }
}

#[test]
fn nothing_goes_that_others_point_at_in_a_partition() {
    if !ready("odd::nothing_goes_that_others_point_at") {
        return;
    }
    let (database, job) = odd(
        &format!(
            "{} PARTITION BY RANGE (ts); CREATE TABLE all_of_t PARTITION OF t DEFAULT; \
             CREATE TABLE child (ts timestamptz, k text, FOREIGN KEY (ts, k) REFERENCES all_of_t \
             ON DELETE CASCADE); INSERT INTO t VALUES ('2020-01-01Z', 'a', 7); \
             INSERT INTO child VALUES ('2020-01-01Z', 'a')",
            PLAIN.trim_end_matches(';')
        ),
        "write: { mode: upsert }",
    );
    refused(job.call("plan", &[]), 2, "point at");
    refused(job.call("check", &["--connect"]), 2, "point at");
    assert_eq!(database.ask("SELECT count(*) FROM child"), "1");
    // The partition itself is bound by a key at the whole.
    database.ask("CREATE TABLE more (ts timestamptz, k text, FOREIGN KEY (ts, k) REFERENCES t)");
    job.respec("table: t ", "table: all_of_t ");
    database.ask("DROP TABLE child");
    refused(job.call("plan", &[]), 2, "point at");
    job.respec("table: all_of_t ", "table: t ");
    database.ask(
        "CREATE TABLE child (ts timestamptz, k text, FOREIGN KEY (ts, k) REFERENCES all_of_t \
         ON DELETE CASCADE); INSERT INTO child VALUES ('2020-01-01Z', 'a')",
    );
    job.respec("write: { mode: upsert }", "");
    job.run().ended(0);
    database.ask("UPDATE t SET v = 8 WHERE k = 'b'");
    refused(job.call("run", &["--overwrite-changed", "--yes"]), 2, "point at");
    refused(job.call("undo", &["--yes"]), 2, "point at");
    assert_eq!(database.ask("SELECT count(*) FROM child"), "1");
}

#[test]
fn tables_that_keep_no_promise_are_refused_with_their_part() {
    if !ready("odd::tables_that_keep_no_promise") {
        return;
    }
    let parted = format!("{} PARTITION BY RANGE (ts);", PLAIN.trim_end_matches(';'));
    let upsert = "write: { mode: upsert }";
    for (ddl, more, told) in [
        (
            format!("{parted} CREATE UNLOGGED TABLE quick PARTITION OF t DEFAULT"),
            "",
            "public.quick of public.t is unlogged",
        ),
        (
            format!(
                "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
                 {} PARTITION BY RANGE (ts); CREATE FOREIGN TABLE far PARTITION OF t DEFAULT \
                 SERVER files OPTIONS (filename '/dev/null')",
                PLAIN.replace(", PRIMARY KEY (ts, k)", "").trim_end_matches(';')
            ),
            "",
            "public.far of public.t is a foreign table",
        ),
        (
            format!("{PLAIN} CREATE RULE stay AS ON DELETE TO t DO INSTEAD NOTHING"),
            upsert,
            "rule `stay` on DELETE",
        ),
        (
            "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', \
             deterministic = false); CREATE TABLE t (ts timestamptz, k text, v bigint); \
             CREATE UNIQUE INDEX folded ON t (ts, k COLLATE ci)"
                .into(),
            "",
            "no unique index on the key",
        ),
    ] {
        let (_database, job) = odd(&ddl, more);
        refused(job.call("plan", &[]), 2, told);
        refused(job.call("check", &["--connect"]), 2, told);
    }
}

#[test]
fn rows_with_an_identity_give_way_too() {
    if !ready("odd::rows_with_an_identity") {
        return;
    }
    let (database, job) = odd(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, ts timestamptz, k text, \
         v bigint, PRIMARY KEY (ts, k))",
        "",
    );
    let rows: Vec<_> =
        ROWS.lines().enumerate().map(|(n, row)| format!("{},{row}", n + 50)).collect();
    fs::write(job.path("data/a.csv"), format!("id,ts,k,v\n{}\n", rows.join("\n"))).unwrap();
    std::thread::scope(|scope| {
        // Longer than two tries with a snapshot.
        let live = scope.spawn(|| {
            database.ask(
                "BEGIN; INSERT INTO t (ts, k, v) VALUES ('2020-01-01 01:00Z', 'b', 99); \
                 SELECT pg_sleep(3); COMMIT",
            )
        });
        let held = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' \
                    OR query LIKE '%pg_sleep(3); COMMIT'";
        while database.ask(held) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let last = job.run().ended(0).json();
        assert_eq!(number(&last, "plan_rows", "conflicting"), 1, "{last}");
        live.join().unwrap();
    });
    let there = "SELECT string_agg(id || ':' || k || ':' || v, ' ' ORDER BY ts) FROM t";
    assert_eq!(database.ask(there), "50:a:1 1:b:99 52:c:3");
    idle_here(&job);
}

#[track_caller]
fn idle_here(job: &Job) {
    let ran = job.call("run", &[]).ended(0);
    assert!(ran.stdout.contains("nothing to do"), "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn a_column_that_is_another_one_now_is_noticed() {
    if !ready("odd::a_column_that_is_another_one") {
        return;
    }
    let (database, job) = odd(PLAIN, "");
    job.run().ended(0);
    // One more column takes nothing away.
    database.ask("ALTER TABLE t ADD note text");
    idle_here(&job);
    database.ask("ALTER TABLE t DROP v, ADD v bigint");
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "conflicting"), 3, "{last}");
    database.ask("ALTER TABLE t DROP v");
    refused(job.call("run", &[]), 2, "`v`");
}

#[test]
fn a_table_that_cannot_be_is_told_by_the_plan() {
    if !ready("odd::a_table_that_cannot_be") {
        return;
    }
    let (database, job) = odd("SELECT 1", "");
    let long = "n".repeat(64);
    for (name, told) in [("ctid", "`ctid` is a system's"), (&long, "is longer than 63 bytes")] {
        fs::write(job.path("data/a.csv"), format!("ts,k,{name}\n{ROWS}")).unwrap();
        refused(job.call("plan", &[]), 2, told);
    }
    fs::write(job.path("data/a.csv"), format!("ts,k,v\n{ROWS}")).unwrap();
    job.respec("table: t ", "table: nowhere.t ");
    refused(job.call("plan", &[]), 2, "CREATE SCHEMA \"nowhere\";");
    database.ask(
        "CREATE SCHEMA nowhere; CREATE TABLE nowhere.t (ts timestamptz, k text, \
                  v numeric(5,-2), PRIMARY KEY (ts, k))",
    );
    refused(job.call("plan", &[]), 2, "numeric(5,-2), which is not kept exactly");
}
