//! MariaDB tables as sources: a real server, filled by its own client, and compared by others.

use std::fs;

use xtask::metrics::Metrics;
use xtask::need::{Need, here};
use xtask::servers::{Certificates, Fault, Mariadb, MariadbDatabase, Postgres, Proxy};

use crate::exec::exec;
use crate::gaps::gaps;
use crate::harness::{Job, Ran, tells};
use crate::judge;

const ROWS: u64 = 86_400;

const HISTORY: &str = "CREATE TABLE history (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
    ts DATETIME(3) NOT NULL, hostname VARCHAR(40) NOT NULL, region VARCHAR(40), usage_user DOUBLE, \
    usage_system DOUBLE, usage_idle DOUBLE, usage_nice DOUBLE, usage_iowait DOUBLE, \
    usage_irq BIGINT, usage_steal INT, INDEX (ts));";

const COLUMNS: &str = "hostname, region, usage_user, usage_system, usage_idle, usage_nice, \
    usage_iowait, usage_irq, usage_steal";

#[track_caller]
fn ready(test: &str) -> bool {
    here(&format!("mariadb::{test}"), &[Need::Mariadb, Need::Python])
}

fn shared() -> MariadbDatabase<'static> {
    Mariadb::shared().database()
}

/// A job that reads `history` at this address; what the table has besides the file is left out.
fn job(url: &str, rows: u64, more: &str) -> Job {
    let job = Job::new(&format!(
        "name: metrics\nsource: {{ mariadb: {{ url: \"{url}\", table: history }} }}\n\
         transform: SELECT ts, {COLUMNS} FROM source\n\
         target: {{ delta: {{ path: ./out }} }}\nrows: {{ time: ts, key: [hostname] }}\n\
         range: {{ every: 5h }}\n\
         retry: {{ attempts: 8, backoff: 20ms, max_backoff: 500ms }}\n{more}"
    ));
    Metrics::new(rows, 10).write(&job.path("data/metrics.csv")).unwrap();
    job
}

/// The table of history with the rows of the job's file, those of the last hours first.
fn fill(database: &MariadbDatabase<'_>, job: &Job) {
    database.ask(HISTORY);
    database.ask(&format!(
        "CREATE TABLE file LIKE history; \
         LOAD DATA LOCAL INFILE '{}' INTO TABLE file FIELDS TERMINATED BY ',' IGNORE 1 LINES \
         (@t, {COLUMNS}) SET ts = STR_TO_DATE(@t, '%Y-%m-%dT%H:%i:%s.%fZ'); \
         INSERT INTO history (ts, {COLUMNS}) SELECT ts, {COLUMNS} FROM file ORDER BY id DESC; \
         DROP TABLE file;",
        job.path("data/metrics.csv").display()
    ));
}

#[test]
fn rows_go_to_delta_and_late_ones_follow() {
    if !ready("rows_go_to_delta_and_late_ones_follow") {
        return;
    }
    let database = shared();
    let job = job(&database.url(), ROWS, "");
    fill(&database, &job);
    // Whatever the server thinks the time is.
    database.server.try_ask("mysql", "SET GLOBAL time_zone = '+05:00'").unwrap();
    job.call("check", &["--connect"]).ended(0);
    let before = gaps(&job, &[]).ended(0).json();
    assert_eq!(before["fillable"]["rows"], ROWS, "{before}");
    let last = job.run().ended(0).json();
    database.server.try_ask("mysql", "SET GLOBAL time_zone = 'SYSTEM'").unwrap();
    assert_eq!(last["rows"]["written"], ROWS, "{last}");
    assert_eq!(judge::equal(&job), ROWS);
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
    assert_eq!(gaps(&job, &[]).ended(0).json()["fillable"]["rows"], 0);
    database.ask("INSERT INTO history (ts, hostname) VALUES ('2024-01-01 13:00:05', 'late')");
    assert_eq!(job.run().ended(0).json()["rows"]["written"], 1);
    job.nothing_to_do();
}

#[test]
fn what_changed_since_the_plan_is_stale() {
    if !ready("what_changed_since_the_plan_is_stale") {
        return;
    }
    for change in [
        "UPDATE history SET usage_irq = -5 \
         WHERE hostname = 'host_0003' AND ts = '2024-01-01 01:00'",
        "DELETE FROM history WHERE hostname = 'host_0003' AND ts = '2024-01-01 01:00'",
        "INSERT INTO history (ts, hostname) VALUES ('2024-01-01 01:00:05', 'new')",
        "ALTER TABLE history DROP COLUMN usage_nice",
    ] {
        let database = shared();
        let job = job(&database.url(), 7_200, "");
        fill(&database, &job);
        job.respec("every: 5h", "every: 1h");
        job.call("plan", &["-o", "plan.json"]).ended(0);
        database.ask(change);
        let last = exec(&job, "20240101T010000Z").ended(1).json();
        let seen = (&last["slices"]["stale"], &last["rows"]["written"]);
        assert_eq!(seen, (&1.into(), &0.into()), "{change}: {last}");
        if change.starts_with("ALTER") {
            continue;
        }
        // The next run sees what is there now.
        job.run().ended(0);
        let now = database.ask(&format!(
            "SELECT DATE_FORMAT(ts, '%Y-%m-%dT%H:%i:%s.%fZ'), {COLUMNS} FROM history"
        ));
        let header = format!("ts,{}\n", COLUMNS.replace(' ', ""));
        let lines = now.replace("NULL", "").replace('\t', ",");
        fs::write(job.path("data/metrics.csv"), format!("{header}{lines}\n")).unwrap();
        judge::equal(&job);
    }
}

/// Rows of every type, and of what no target takes as it is.
const TYPES: &str = "SET time_zone = '+00:00'; CREATE TABLE types ( \
    at TIMESTAMP(6) NULL, id INT UNSIGNED NOT NULL, \
    flag TINYINT(1), small SMALLINT, wide BIGINT UNSIGNED, amount DECIMAL(20,4), single FLOAT, \
    twice DOUBLE, note VARCHAR(20) CHARACTER SET latin1, raw VARBINARY(9), day DATE, \
    plain DATETIME(6), mood ENUM('sad','so so'), clock TIME(6)); \
    INSERT INTO types VALUES \
    ('2024-01-01 00:00:00.000001', 1, 1, -32768, 18446744073709551615, -1234567890123456.7890, \
     0.1, 0.1, 'käse', x'00ff', '1969-12-31', '1960-02-29 23:59:59.999999', 'so so', \
     '23:59:59.5'), \
    ('2024-01-01 00:00:01', 4294967295, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     NULL, NULL), \
    ('2024-01-01 00:00:02', 3, 7, 1, 1, 1, 1, 1, 'two is no bool', '', NULL, NULL, NULL, NULL), \
    ('2024-01-01 00:00:03', 4, 1, 1, 1, 1, 1, 1, 'a long time', '', NULL, NULL, NULL, '25:00:00'), \
    (NULL, 5, 1, 1, 1, 1, 1, 1, 'never', '', NULL, NULL, NULL, NULL); \
    SET sql_mode = ''; INSERT INTO types (at, id, day, note) VALUES \
    ('2024-01-01 00:00:04', 6, '0000-00-00', 'zero');";

#[test]
fn values_arrive_as_they_are_or_are_rejected() {
    if !here("mariadb::values_arrive_as_they_are", &[Need::Mariadb, Need::Postgres]) {
        return;
    }
    let (source, target) = (shared(), Postgres::shared().database());
    source.ask(TYPES);
    let job = Job::new(&format!(
        "name: types\nsource: \"{}?table=types\"\n\
         target: {{ postgres: {{ url: \"{}\", table: public.types }} }}\n\
         rows: {{ time: at, key: [id] }}\nrejects: {{ max: 4 }}\n",
        source.url(),
        target.url()
    ));
    target.ask(
        "CREATE TABLE types (at timestamptz NOT NULL, id bigint NOT NULL, flag boolean, \
         small smallint, wide numeric, amount numeric, single real, twice double precision, \
         note text, raw bytea, day date, plain timestamp, mood text, clock time, \
         PRIMARY KEY (id, at))",
    );
    let last = job.run().ended(0).json();
    assert_eq!((&last["rows"]["written"], &last["rows"]["rejected"]), (&2.into(), &4.into()));
    let same = "('2024-01-01 00:00:00.000001Z', 1, true, -32768, 18446744073709551615, \
        -1234567890123456.7890, 0.1, 0.1, 'käse', '\\x00ff', '1969-12-31', \
        '1960-02-29 23:59:59.999999', 'so so', '23:59:59.5'), \
        ('2024-01-01 00:00:01Z', 4294967295, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
        NULL, NULL, NULL, NULL)";
    target.ask(&format!("CREATE TABLE expected (LIKE types); INSERT INTO expected VALUES {same}"));
    let differ = "SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE types) a";
    assert_eq!(target.ask(differ), "0", "{}", target.ask("TABLE types"));
    tells(
        &job.listed_rejects(),
        &["two is no bool", "`25:00:00` is no time of day", "never", "`0000-00-00`"],
    );
    source.ask("ALTER TABLE types ADD place POINT, ADD mask BIT(8)");
    let again = |told: &[&str]| job.call("run", &["--replan"]).refused(2, told);
    again(&["column `place` is of type point, and another", "`without: [place, mask]`"]);
    let (spec, url) = (fs::read_to_string(job.path("backfill.yaml")).unwrap(), source.url());
    let without = |name: &str| {
        let ours = format!("{{ mariadb: {{ url: \"{url}\", table: types, without: [{name}] }} }}");
        let spec = spec.replace(&format!("\"{url}?table=types\""), &ours);
        fs::write(job.path("backfill.yaml"), spec).unwrap();
    };
    without("plane, mask");
    again(&["`without` names `plane`", "did you mean `place`?"]);
    without("place, mask");
    source.ask("INSERT INTO types (at, id, wide) VALUES ('2024-01-01 00:00:05', 7, 70)");
    assert_eq!(job.run().ended(0).json()["rows"]["written"], 1);
    assert_eq!(target.ask("SELECT wide FROM types WHERE id = 7"), "70");
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    if !ready("a_connection_that_is_cut_is_made_again") {
        return;
    }
    let proxy = Proxy::start(Mariadb::shared().port()).unwrap();
    let database = shared();
    let url = format!("mariadb://root@127.0.0.1:{}/{}", proxy.port(), database.name);
    let first = job(&url, 36_000, "");
    fill(&database, &first);
    for at in [2_000, 400_000, 1_500_000] {
        proxy.set(Fault::None);
        let job = job(&url, 36_000, "");
        job.comes_through_a_cut(&proxy, at);
        assert_eq!(judge::equal(&job), 36_000);
    }
}

#[test]
fn rights_and_names_are_told_with_their_class() {
    if !ready("rights_and_names_are_told_with_their_class") {
        return;
    }
    let database = shared();
    let first = job(&database.url(), 720, "");
    fill(&database, &first);
    let user = format!("reader_{}", database.name);
    database.ask(&format!("CREATE USER {user}@'%' IDENTIFIED BY 's3cret'"));
    let url = database.url().replace("root@", &format!("{user}:${{PW}}@"));
    let job = job(&url, 720, "");
    let call = |command: &str, args: &[&str], password: &str| -> Ran {
        job.command(command, args).env("PW", password).output().unwrap().into()
    };
    call("run", &[], "wrong").refused(2, &["is not let in", "(1045)"]);
    call("run", &[], "s3cret").refused(2, &["is not let in"]);
    let grants = call("grants", &[], "s3cret").ended(0).stdout;
    database.ask(&grants);
    let ran = call("run", &["--output", "json"], "s3cret").ended(0);
    assert_eq!(ran.json()["rows"]["written"], 720);
    assert_eq!(judge::equal(&job), 720);
    for file in ["plan.json", "report.html", "ledger.db"] {
        let bytes = fs::read(job.state().join(file)).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"s3cret"), "the password stands in {file}");
    }
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    fs::write(job.path("backfill.yaml"), spec.replace("table: history", "table: histroy")).unwrap();
    call("plan", &[], "s3cret").refused(2, &["did you mean `history`?"]);
    fs::write(job.path("backfill.yaml"), spec.replace("127.0.0.1:", "127.0.0.1:1")).unwrap();
    database.ask("ALTER TABLE history DROP INDEX ts");
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    let ran = call("check", &["--connect"], "s3cret").ended(0);
    assert!(ran.stdout.contains("CREATE INDEX `history_ts`"), "{}", ran.stdout);
}

#[test]
fn a_server_proves_who_it_is() {
    if !ready("a_server_proves_who_it_is") {
        return;
    }
    let certificates = Certificates::new(&["DNS:localhost", "IP:127.0.0.1"]).unwrap();
    let other = Certificates::new(&["DNS:localhost", "IP:127.0.0.1"]).unwrap();
    let wrong = Certificates::new(&["DNS:elsewhere"]).unwrap();
    let run = |server: &Mariadb, authority: &Certificates| {
        let database = server.database();
        let url = format!("{}?sslrootcert={}", database.url(), authority.authority().display());
        let job = job(&url, 720, "");
        fill(&database, &job);
        job.run()
    };
    let server = Mariadb::with_tls(&certificates).unwrap();
    run(&server, &certificates).ended(0);
    run(&server, &other).refused(2, &["sslrootcert"]);
    let server = Mariadb::with_tls(&wrong).unwrap();
    run(&server, &wrong).refused(2, &["sslrootcert"]);
    // Without TLS on the other side nothing is sent in plain text.
    run(Mariadb::shared(), &certificates).refused(2, &["switch TLS on"]);
}
