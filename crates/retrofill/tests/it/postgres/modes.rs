//! Rows that give way: by the mode, and by the user's wish after a load.

use super::*;

const ROWS: &str = "2020-01-01T06:00:00Z,a,1\n\
                    2020-01-01T07:00:00Z,a,2\n\
                    2020-01-02T06:00:00Z,a,3\n\
                    2020-01-02T07:00:00Z,b,4\n\
                    2020-01-03T06:00:00Z,b,5\n";

const SMALL: &str =
    "CREATE TABLE small (t timestamptz, site text, v bigint, PRIMARY KEY (site, t))";

/// Rows of somebody else.
const LIVE: &str = "2020-01-02T08:00:00Z,live,9\n";

fn job(database: &Database<'_>, more: &str) -> Job {
    let job = Job::new(&format!(
        "name: small\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ postgres: {{ url: \"{}\", table: small }} }}\n\
         rows: {{ time: t, key: [site] }}\nrange: {{ every: 1d }}\n{more}\n",
        database.url()
    ));
    source(&job, ROWS);
    job
}

fn source(job: &Job, rows: &str) {
    fs::write(job.path("data/a.csv"), format!("t,site,v\n{rows}")).unwrap();
}

/// A table with these rows.
fn table(rows: &str) -> Database<'static> {
    let database = shared();
    database.ask(SMALL);
    insert(&database, rows);
    database
}

fn insert(database: &Database<'_>, rows: &str) {
    for row in rows.lines() {
        let [t, site, v] = row.split(',').collect::<Vec<_>>()[..] else { panic!("{row}") };
        database.ask(&format!("INSERT INTO small VALUES ('{t}', '{site}', {v})"));
    }
}

/// The table holds exactly these rows, whatever their order.
#[track_caller]
fn holds(database: &Database<'_>, rows: &str) {
    let shown = "SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                 || ',' || site || ',' || v FROM small ORDER BY 1";
    let mut wanted: Vec<_> = rows.lines().collect();
    wanted.sort_unstable();
    assert_eq!(database.ask(shown).lines().collect::<Vec<_>>(), wanted);
}

fn with(old: &str, new: &str) -> String {
    assert!(ROWS.contains(old), "{old}");
    ROWS.replace(old, new)
}

#[track_caller]
fn done(job: &Job) {
    let again = job.call("run", &[]).ended(0);
    assert!(again.stdout.contains("nothing to do"), "{again:?}");
    job.call("verify", &[]).ended(0);
}

#[test]
fn upsert_puts_rows_in_the_place_of_others() {
    if !ready("modes::upsert_puts_rows") {
        return;
    }
    let live = with("a,3", "a,30").lines().nth(2).unwrap().to_owned() + "\n";
    let database = table(&format!("{live}{LIVE}"));
    let job = job(&database, "write: { mode: upsert }");
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "updated"), 1, "{last}");
    assert_eq!(number(&last, "rows", "written"), 4, "{last}");
    holds(&database, &format!("{ROWS}{LIVE}"));
    done(&job);
}

#[test]
fn replace_takes_out_what_its_scope_says_and_no_more() {
    if !ready("modes::replace_takes_out") {
        return;
    }
    let old = "2020-01-02T09:00:00Z,a,7\n2020-01-02T09:00:00Z,c,8\n";
    let database = table(&format!("{old}2019-12-31T23:59:59Z,a,6\n"));
    let job = job(&database, "write: { mode: replace, scope: { site: [a, b] } }");
    job.call("run", &["--yes"]).ended(0);
    holds(&database, &format!("{ROWS}2020-01-02T09:00:00Z,c,8\n2019-12-31T23:59:59Z,a,6\n"));
    done(&job);
}

#[test]
fn changed_rows_are_restored_and_restated_only_when_asked_for() {
    if !ready("modes::changed_rows") {
        return;
    }
    let database = table(LIVE);
    let job = job(&database, "verify: { manifest: true }");
    job.run().ended(0);
    database.ask("UPDATE small SET v = 11 WHERE v = 1");
    job.call("run", &["--overwrite-changed"]).ended(2);
    holds(&database, &(with("a,1", "a,11") + LIVE));
    let last = job.call("run", &["--output", "json", "--overwrite-changed", "--yes"]).ended(0);
    assert_eq!(last.json()["rows"]["updated"], 1, "{last:?}");
    holds(&database, &format!("{ROWS}{LIVE}"));
    source(&job, &with("b,4", "b,400"));
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "conflicting"), 1, "{last}");
    let last = job.call("run", &["--output", "json", "--restate"]).ended(0).json();
    assert_eq!(number(&last, "rows", "updated"), 1, "{last}");
    holds(&database, &(with("b,4", "b,400") + LIVE));
    done(&job);
}

#[test]
fn what_was_loaded_is_taken_back_and_loaded_again() {
    if !ready("modes::what_was_loaded") {
        return;
    }
    for more in ["verify: { manifest: true }", ""] {
        let database = table(LIVE);
        let job = job(&database, more);
        job.run().ended(0);
        // Somebody's correction is not what the job wrote.
        database.ask("UPDATE small SET v = 22 WHERE v = 2");
        let asked = job.call("undo", &[]).ended(2);
        assert!(asked.stderr.contains("takes out 4 rows that this job wrote"), "{asked:?}");
        job.call("undo", &["--yes"]).ended(0);
        holds(&database, &format!("2020-01-01T07:00:00Z,a,22\n{LIVE}"));
        let last = job.run().ended(0).json();
        assert_eq!(number(&last, "rows", "written"), 4, "{last}");
        assert_eq!(number(&last, "rows", "conflicting"), 1, "{last}");
        holds(&database, &(with("a,2", "a,22") + LIVE));
    }
}

#[test]
fn what_others_would_lose_is_refused() {
    if !ready("modes::what_others_would_lose") {
        return;
    }
    let upsert = "write: { mode: upsert }";
    let database = table("");
    database.ask("ALTER TABLE small ADD note text");
    refused(job(&database, upsert).call("plan", &[]), 2, "`note`");
    let database = table("");
    database.ask(
        "CREATE TABLE child (site text, t timestamptz, FOREIGN KEY (site, t) REFERENCES small \
         ON DELETE CASCADE)",
    );
    let job = job(&database, upsert);
    refused(job.call("plan", &[]), 2, "point at");
    refused(job.call("check", &["--connect"]), 2, "point at");
    // Nothing goes in the plain mode; what was loaded cannot be taken back there.
    job.respec(upsert, "");
    job.run().ended(0);
    database.ask("INSERT INTO child VALUES ('a', '2020-01-01T06:00:00Z')");
    refused(job.call("undo", &["--yes"]), 2, "point at");
    assert_eq!(database.ask("SELECT count(*) FROM child"), "1");
    holds(&database, ROWS);
}

/// Rows without a key, which two plans of other slices have in hand at the same moment.
#[test]
fn two_plans_do_not_append_at_once() {
    if !ready("modes::two_plans_do_not_append_at_once") {
        return;
    }
    let database = shared();
    database.ask(&format!("{TABLE}ALTER TABLE metrics DROP CONSTRAINT metrics_pkey;"));
    let small = Metrics::new(10_800, 10);
    let plan = |every: &str| {
        let job = super::job(&database.url(), &small, "");
        job.respec("rows: { time: ts, key: [hostname] }", "rows: { time: ts }");
        job.respec("every: 1h", every);
        job
    };
    let (one, two) = (plan("every: 1h"), plan("every: 3h"));
    let later = ["--from", "2024-01-01T01:00:00Z"];
    let mut held = one.start(&later, &[("RETROFILL_HOLD", "commit:1")]);
    assert!(held.says("held at commit"), "{}", held.stderr());
    let mut other = two.start(&["--output", "json"], &[]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(other.is_running(), "it did not wait");
    assert_eq!(database.ask("SELECT count(*) FROM metrics").trim(), "0");
    held.kill();
    let last = other.end().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), 10_800);
    refused(one.run(), 2, "was loaded already by plan");
    equal(&two, &database);
}

#[test]
fn what_could_not_be_taken_back_stays_proven() {
    if !ready("modes::what_could_not_be_taken_back") {
        return;
    }
    let database = table(LIVE);
    let job = job(&database, "verify: { manifest: true }");
    job.run().ended(0);
    database.ask(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE \
         insufficient_privilege; END $$; CREATE TRIGGER no BEFORE DELETE ON small \
         FOR EACH ROW EXECUTE FUNCTION no()",
    );
    refused(job.call("undo", &["--yes"]), 2, "42501");
    holds(&database, &format!("{ROWS}{LIVE}"));
    done(&job);
    database.ask("DROP TRIGGER no ON small");
    job.call("undo", &["--yes"]).ended(0);
    holds(&database, LIVE);
    // What was not proven before is not after.
    job.run().ended(0);
    database.ask(
        "DELETE FROM small WHERE v = 1; \
         CREATE TRIGGER no BEFORE DELETE ON small FOR EACH ROW EXECUTE FUNCTION no()",
    );
    job.call("verify", &[]).ended(3);
    refused(job.call("undo", &["--yes"]), 2, "42501");
    let last = job.run().ended(0).json();
    assert_eq!(number(&last, "rows", "written"), 1, "{last}");
    holds(&database, &format!("{ROWS}{LIVE}"));
}

#[test]
fn what_a_table_computes_is_not_lost() {
    if !ready("modes::what_a_table_computes") {
        return;
    }
    for mode in ["upsert", "replace, scope: all"] {
        let database = table("2020-01-02T06:00:00Z,a,30\n");
        database.ask("ALTER TABLE small ADD twice bigint GENERATED ALWAYS AS (v * 2) STORED");
        let job = job(&database, &format!("write: {{ mode: {mode} }}"));
        job.call("check", &["--connect"]).ended(0);
        job.call("run", &["--yes"]).ended(0);
        holds(&database, ROWS);
        assert_eq!(database.ask("SELECT count(*) FROM small WHERE twice = 2 * v"), "5");
        done(&job);
    }
}

#[test]
fn names_may_differ_in_case() {
    if !ready("modes::names_may_differ_in_case") {
        return;
    }
    let database = table("");
    let job = job(&database, "");
    job.respec("time: t, key: [site]", "time: T, key: [Site]");
    fs::write(job.path("data/a.csv"), format!("T,Site,v\n{ROWS}")).unwrap();
    let ran = job.call("check", &["--connect"]).ended(0);
    assert!(ran.stdout.contains("`small_pkey`"), "{}", ran.stdout);
    job.run().ended(0);
    holds(&database, ROWS);
}
