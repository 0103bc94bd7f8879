//! PostgreSQL as a target: what is in the table is said by psql, never by our own reader.

use std::fs;

use xtask::need::{self, Need};
use xtask::servers::{Database, How, Postgres};

use crate::harness::Job;

/// A word that must turn up nowhere.
const MARKER: &str = "sesame-marker";

/// Whether a server can be started. Where it cannot, says that this test is skipped.
#[track_caller]
fn here(test: &str) -> bool {
    need::here(test, &[Need::Postgres])
}

/// A job of two days and three series by the hour, into the table `public.readings`.
fn job(database: &Database<'_>, more: &str) -> Job {
    let job = Job::new(&format!(
        "name: readings\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ postgres: {{ url: \"{}\", table: public.readings }} }}\n\
         rows: {{ time: ts, key: [id] }}\nrange: {{ every: 6h }}\n{more}\n",
        database.url()
    ));
    fs::write(job.path("data/a.csv"), format!("ts,id,v\n{}\n", lines().join("\n"))).unwrap();
    job
}

/// The rows of the source, as `SHOWN` gives them.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    for hour in 0..48 {
        for id in ["a", "b", "c"] {
            lines.push(format!("2013-01-{:02}T{:02}:00:00Z,{id},{hour}", 1 + hour / 24, hour % 24));
        }
    }
    lines
}

const SHOWN: &str = "SELECT to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                     || ',' || id || ',' || v FROM readings ORDER BY ts, id";

const TABLE: &str = "CREATE TABLE readings (ts timestamptz, id text, v bigint";

/// What must hold after a load: every row once, and no more to do.
#[track_caller]
fn is_whole(job: &Job, database: &Database<'_>) {
    assert_eq!(database.ask(SHOWN).lines().collect::<Vec<_>>(), lines());
    let again = job.call("run", &[]).ended(0);
    assert!(format!("{}{}", again.stdout, again.stderr).contains("nothing to do"), "{again:?}");
}

#[test]
fn a_load_is_there_once_and_what_goes_is_found_and_restored() {
    if !here("postgres::a_load_is_there_once_and_what_goes_is_found_and_restored") {
        return;
    }
    let database = Postgres::shared().database();
    let job = job(&database, "");
    job.run().ended(0);
    is_whole(&job, &database);
    database.ask("DELETE FROM readings WHERE id = 'b' AND ts = '2013-01-01 07:00:00Z'");
    job.call("verify", &[]).ended(3);
    job.call("run", &["--select", "mismatched"]).ended(0);
    is_whole(&job, &database);
}

#[test]
fn the_defaults_of_a_session_change_nothing() {
    if !here("postgres::the_defaults_of_a_session_change_nothing") {
        return;
    }
    let database = Postgres::shared().database();
    let name = &database.name;
    database.ask(&format!(
        "ALTER DATABASE {name} SET TimeZone = 'America/New_York';
         ALTER DATABASE {name} SET DateStyle = 'SQL, DMY';
         ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    ));
    let job = job(&database, "");
    job.run().ended(0);
    is_whole(&job, &database);
}

#[test]
fn a_live_row_stays_and_is_listed() {
    if !here("postgres::a_live_row_stays_and_is_listed") {
        return;
    }
    let database = Postgres::shared().database();
    database.ask(&format!("{TABLE}, PRIMARY KEY (id, ts))"));
    database.ask("INSERT INTO readings VALUES ('2013-01-01 07:00:00Z', 'b', -5)");
    let job = job(&database, "");
    let last = job.run().json();
    assert_eq!(last["plan_rows"]["conflicting"], 1, "{last}");
    assert_eq!(database.ask("SELECT v FROM readings WHERE v < 0"), "-5");
    assert_eq!(database.ask("SELECT count(*), count(DISTINCT (ts, id)) FROM readings"), "144|144");
}

/// Why `plan` refuses the table that these statements make.
#[track_caller]
fn refused(sql: &str, more: &str) -> String {
    let database = Postgres::shared().database();
    database.ask(sql);
    job(&database, more).call("plan", &[]).ended(2).stderr
}

#[test]
fn what_would_double_or_change_rows_is_refused_by_the_plan() {
    if !here("postgres::what_would_double_or_change_rows_is_refused_by_the_plan") {
        return;
    }
    let keyed = format!("{TABLE}, PRIMARY KEY (id, ts))");
    let said = refused(&format!("{TABLE})"), "");
    assert!(said.contains("CREATE UNIQUE INDEX CONCURRENTLY"), "{said}");
    let said =
        refused(&format!("{keyed}; CREATE RULE r AS ON INSERT TO readings DO INSTEAD NOTHING"), "");
    assert!(said.contains("rule `r`"), "{said}");
    let said = refused(&format!("{keyed}; CREATE TABLE more () INHERITS (readings)"), "");
    assert!(said.contains("inherit"), "{said}");
    let said = refused(&keyed.replace("CREATE TABLE", "CREATE UNLOGGED TABLE"), "");
    assert!(said.contains("unlogged"), "{said}");
    let computed = keyed.replace("v bigint", "v bigint GENERATED ALWAYS AS (7) STORED");
    let said = refused(&computed, "");
    assert!(said.contains("generated"), "{said}");
}

#[test]
fn a_lock_stands_in_for_a_unique_key() {
    if !here("postgres::a_lock_stands_in_for_a_unique_key") {
        return;
    }
    let database = Postgres::shared().database();
    database.ask(&format!("{TABLE})"));
    let job = job(&database, "write: { lock: share-row-exclusive }");
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:1")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    let insert = "SET lock_timeout = '200ms'; INSERT INTO readings VALUES (now(), 'x', 1)";
    let failure = database.try_ask(insert).unwrap_err();
    assert!(failure.to_string().contains("lock timeout"), "{failure}");
    runner.kill();
    job.run().ended(0);
    is_whole(&job, &database);
}

#[test]
fn rows_that_a_trigger_changes_are_not_committed() {
    if !here("postgres::rows_that_a_trigger_changes_are_not_committed") {
        return;
    }
    let database = Postgres::shared().database();
    database.ask(&format!(
        "{TABLE}, PRIMARY KEY (id, ts));
         CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN NEW.v = NEW.v + 1; RETURN NEW; END';
         CREATE TRIGGER more BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION more()"
    ));
    job(&database, "").run().ended(3);
    assert_eq!(database.ask("SELECT count(*) FROM readings"), "0");
}

#[test]
fn a_password_is_kept_and_shown_nowhere() {
    if !here("postgres::a_password_is_kept_and_shown_nowhere") {
        return;
    }
    let database = Postgres::shared().database();
    let job = job(&database, "");
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let with = |word: &str| {
        let login = format!("postgres:{word}@127");
        fs::write(job.path("backfill.yaml"), spec.replace("postgres@127", &login)).unwrap();
    };
    with(MARKER);
    let ran = job.call("run", &[]).ended(2);
    assert!(ran.stderr.contains("written out"), "{}", ran.stderr);
    assert!(!format!("{ran:?}").contains(MARKER), "{ran:?}");
    assert!(!job.path(".retrofill").exists());
    with("${PG_WORD}");
    for command in ["plan", "run", "verify"] {
        let ran = job.command(command, &[]).env("PG_WORD", MARKER).output().unwrap();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        let said = [ran.stdout, ran.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(MARKER), "{command}");
    }
    let mut open = vec![job.path(".retrofill")];
    let mut files = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(MARKER), "{}", path.display());
    }
    assert!(files > 1);
    let kept = database.ask("SELECT count(*) FROM retrofill.receipts WHERE body LIKE '%sesame%'");
    assert_eq!(kept, "0");
}

#[test]
fn a_kill_in_every_stage_and_a_rerun_load_once() {
    if !here("postgres::a_kill_in_every_stage_and_a_rerun_load_once") {
        return;
    }
    for stage in ["read", "write", "read-back", "commit", "ledger"] {
        let database = Postgres::shared().database();
        let job = job(&database, "");
        let mut runner = job.start(&[], &[("RETROFILL_HOLD", &format!("{stage}:2"))]);
        assert!(runner.says(&format!("held at {stage}")), "{stage}: {}", runner.stderr());
        runner.kill();
        job.run().ended(0);
        is_whole(&job, &database);
    }
}

#[test]
fn a_server_that_goes_down_in_a_commit_has_the_rows_once() {
    if !here("postgres::a_server_that_goes_down_in_a_commit_has_the_rows_once") {
        return;
    }
    let server = Postgres::start().unwrap();
    let database = server.database();
    let job = job(&database, "");
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:2")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    server.stop(How::Immediate).unwrap();
    runner.kill();
    server.start_again().unwrap();
    job.run().ended(0);
    is_whole(&job, &database);
}
