//! Connections that break, servers that go, servers that take nothing.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xtask::servers::{Fault, How, Pgbouncer, Proxy, Setup, Way};

use super::*;

/// Tries that come quickly, so that a test need not wait long.
const QUICK: &str = "retry: { attempts: 8, backoff: 20ms, max_backoff: 500ms }";

fn small() -> Metrics {
    Metrics::new(36_000, 10)
}

fn through(proxy: &Proxy, database: &Database<'_>) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port(), database.name)
}

fn cuts() -> u64 {
    std::env::var("RETROFILL_CUTS").map_or(4, |n| n.parse().unwrap())
}

#[test]
fn a_connection_can_be_reset_at_any_byte() {
    if !ready("faults::a_connection_can_be_reset") {
        return;
    }
    let proxy = Proxy::start(Postgres::shared().port()).unwrap();
    let whole = {
        let database = shared();
        let job = job(&through(&proxy, &database), &small(), QUICK);
        proxy.set(Fault::None);
        job.run().ended(0);
        [proxy.bytes(Way::Up), proxy.bytes(Way::Down)]
    };
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    for n in 0..cuts() {
        let (way, length) = if n % 2 == 0 { (Way::Up, whole[0]) } else { (Way::Down, whole[1]) };
        let database = shared();
        let job = job(&through(&proxy, &database), &small(), QUICK);
        let at = dice.next_u64() % length;
        let before = proxy.fired();
        proxy.set(Fault::CutAfter(way, at));
        let ran = job.run();
        assert!(matches!(ran.code, Some(0 | 1)), "{way:?} {at}: {:?} {}", ran.code, ran.stderr);
        proxy.set(Fault::None);
        // A run is not the same to the byte; one that was shorter is not cut.
        println!("{way:?} at byte {at}: cut {}", proxy.fired() - before);
        comes_back(&job, &database);
    }
}

#[test]
fn a_lost_answer_to_a_commit_is_looked_up() {
    if !ready("faults::a_lost_answer") {
        return;
    }
    let proxy = Proxy::start(Postgres::shared().port()).unwrap();
    for delivered in [false, true] {
        let database = shared();
        let job = job(&through(&proxy, &database), &small(), QUICK);
        let before = proxy.fired();
        // The whole message of a slice: what creates the table ends with the same word.
        proxy.set(Fault::CutAt { text: b"Q\0\0\0\x0bCOMMIT\0".to_vec(), delivered });
        let last = job.run().ended(0).json();
        assert_eq!(proxy.fired(), before + 1, "no COMMIT passed");
        assert_eq!(number(&last, "plan_rows", "written"), 36_000);
        comes_back(&job, &database);
    }
}

#[test]
fn a_silent_connection_is_given_up() {
    if !ready("faults::a_silent_connection") {
        return;
    }
    let proxy = Proxy::start(Postgres::shared().port()).unwrap();
    for fault in [Fault::HalfOpen, Fault::Stall] {
        let database = shared();
        let quick = format!("{QUICK}\nlimits: {{ max_transaction: 2s, concurrency: 1 }}");
        let job = job(&through(&proxy, &database), &small(), &quick);
        let mut runner = job.start(&[], &[]);
        job.wait_for("verified", 1, &mut runner);
        proxy.set(fault);
        assert!(runner.says("the transaction took longer than 2 s"), "{}", runner.stderr());
        proxy.set(Fault::None);
        runner.end().ended(0);
        comes_back(&job, &database);
    }
}

#[test]
fn a_pooler_in_transaction_mode_may_stand_between() {
    let test = "postgres::faults::a_pooler_in_transaction_mode";
    if !here(test, &[Need::Postgres, Need::Pgbouncer]) {
        return;
    }
    let database = shared();
    // Fewer sessions than slices in hand: they change with every transaction.
    let pooler = Pgbouncer::start(Postgres::shared(), 2).unwrap();
    let job = job(&pooler.url(&database.name), &small(), "limits: { concurrency: 3 }");
    job.run().ended(0);
    equal(&job, &database);
    job.call("verify", &[]).ended(0);
    idle(&job, &database);
    // Whoever meets rows asks whose they are, while its transaction holds a session.
    database.ask("DELETE FROM retrofill.receipts");
    fs::remove_dir_all(job.state()).unwrap();
    job.run().ended(0);
    equal(&job, &database);
}

#[test]
fn a_replica_that_takes_over_goes_on_in_mid_run() {
    if !ready("faults::a_replica_that_takes_over") {
        return;
    }
    let settings = Setup::new().set("synchronous_standby_names", "*");
    let primary = Postgres::with(&settings.set("wal_keep_size", "256MB")).unwrap();
    // Commits wait for the replica, so that none that was answered is lost with the primary.
    let replica = {
        primary.try_ask("postgres", "SET synchronous_commit = local; SELECT 1").unwrap();
        primary.replica().unwrap()
    };
    let proxy = Proxy::start(primary.port()).unwrap();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let job = job(&url, &metrics(), &format!("{QUICK}\nlimits: {{ rows_per_second: 40000 }}"));
    let mut runner = job.start(&["--output", "json"], &[]);
    job.wait_for("verified", 3, &mut runner);
    primary.stop(How::Kill).unwrap();
    proxy.point_to(replica.port());
    replica.try_ask("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    replica.promote().unwrap();
    replica.try_ask("postgres", "SELECT pg_reload_conf()").unwrap();
    let ran = runner.end();
    assert!(matches!(ran.code, Some(0 | 1)), "{:?}\n{}", ran.code, ran.stderr);
    let now = Database { server: &replica, name: "postgres".into() };
    comes_back(&job, &now);
}

#[test]
fn a_standby_is_no_target() {
    if !ready("faults::a_standby") {
        return;
    }
    let primary = Postgres::start().unwrap();
    let replica = primary.replica().unwrap();
    let job = job(&replica.url("postgres"), &Metrics::new(360, 10), "retry: { attempts: 1 }");
    refused(job.call("check", &["--connect"]), 2, "standby");
    let ran = job.run();
    assert!(matches!(ran.code, Some(1 | 2)), "{:?} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains("standby") || ran.stderr.contains("read-only"), "{}", ran.stderr);
}

#[test]
fn passwords_that_are_wrong_or_expired_end_with_2_and_stay_secret() {
    if !ready("faults::passwords") {
        return;
    }
    let access = "host all all 127.0.0.1/32 scram-sha-256";
    let server = Postgres::with(&Setup::new().access(access)).unwrap();
    let database = server.database();
    database.ask(
        "CREATE ROLE late LOGIN PASSWORD 'marker-5f1e' VALID UNTIL '2001-01-01'; \
         CREATE ROLE good LOGIN SUPERUSER PASSWORD 'marker-5f1e';",
    );
    let run = |user: &str, word: &str, said: &mut String| {
        let port = server.port();
        let url = format!("postgres://{user}:${{WORD}}@127.0.0.1:{port}/{}", database.name);
        let job = job(&url, &Metrics::new(360, 10), "");
        let ran = Ran::from(job.command("run", &["-vv"]).env("WORD", word).output().unwrap());
        write!(said, "{}{}", ran.stdout, ran.stderr).unwrap();
        (job, ran)
    };
    let mut said = String::new();
    for (user, word) in [("good", "marker-wrong"), ("late", "marker-5f1e")] {
        run(user, word, &mut said).1.ended(2);
    }
    let (job, ran) = run("good", "marker-5f1e", &mut said);
    ran.ended(0);
    assert!(!said.contains("marker-"), "a password was shown: {said}");
    for file in std::fs::read_dir(job.state()).unwrap().flatten() {
        if let Ok(bytes) = std::fs::read(file.path()) {
            let found = bytes.windows(7).any(|w| w == b"marker-");
            assert!(!found, "a password in {}", file.path().display());
        }
    }
}

/// A small disk for a server.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where this user may not have one.
    fn new(server: &Postgres, size: &str) -> Option<Self> {
        let data = server.try_ask("postgres", "SHOW data_directory").unwrap();
        let owner = std::fs::metadata(data).unwrap();
        let disk = Disk(tempfile::tempdir().unwrap());
        let (uid, gid) = (owner.uid(), owner.gid());
        let options = format!("size={size},mode=0700,uid={uid},gid={gid}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "small"]).arg(disk.0.path());
        mount.output().is_ok_and(|out| out.status.success()).then_some(disk)
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &options]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_takes_no_half_of_a_slice() {
    if !ready("faults::a_full_disk") {
        return;
    }
    let server = Postgres::start().unwrap();
    let Some(disk) = Disk::new(&server, "6m") else {
        println!("skipped: faults::a_full_disk: this user may not mount a file system");
        return;
    };
    let place = disk.0.path().display();
    server.try_ask("postgres", &format!("CREATE TABLESPACE small LOCATION '{place}'")).unwrap();
    let database = server.database();
    database.ask(&format!("SET default_tablespace = small; {TABLE}"));
    let quick = "retry: { attempts: 2, backoff: 10ms, max_backoff: 10ms }";
    let job = job(&database.url(), &metrics(), quick);
    let last = job.run().ended(1).json();
    let (verified, failed) =
        (number(&last, "slices", "verified"), number(&last, "slices", "failed"));
    assert!(verified > 0 && failed > 0, "{last}");
    assert_eq!(database.ask("SELECT count(*) FROM metrics"), (verified * 3_600).to_string());
    let said = job.call("log", &[]).ended(0).stdout;
    assert!(said.contains("(53100)"), "{said}");
    disk.grow("128m");
    comes_back(&job, &database);
}

/// The way to the server is so slow that six hours do not fit into one transaction; and all rows of
/// a year lie in them. Halves that cannot make it are not tried.
#[test]
fn what_takes_too_long_is_halved_at_once() {
    if !ready("faults::what_takes_too_long_is_halved_at_once") {
        return;
    }
    let (proxy, database) = (Proxy::start(Postgres::shared().port()).unwrap(), shared());
    let job = job(
        &through(&proxy, &database),
        &Metrics::new(21_600, 10),
        "limits: { max_transaction: 1s, concurrency: 1 }\nretry: { backoff: 10ms }",
    );
    job.respec("every: 1h", "every: 1y");
    proxy.set(Fault::Slow(2_000_000));
    let ran = job.call("run", &[]).ended(0);
    proxy.set(Fault::None);
    let halved = |why: &str| {
        let said = |line: &&str| line.contains(" is halved: ") && line.contains(why);
        ran.stderr.lines().filter(said).count()
    };
    let untried = halved("more than one transaction can take in its time");
    assert!(untried > 6 && (1..8).contains(&(halved("") - untried)), "{ran:?}");
    let log = job.call("log", &[]).ended(0).stdout;
    assert!(log.contains("halved") && !log.contains("try 2"), "{log}");
    assert_eq!(differences(&job, &database), (0, 0));
    comes_back(&job, &database);
}

/// A trigger that takes its time once a statement: no half is quicker than its whole.
#[test]
fn what_no_half_makes_quicker_is_not_halved_for_ever() {
    if !ready("faults::what_no_half_makes_quicker") {
        return;
    }
    let database = shared();
    database.ask(&format!(
        "{TABLE} CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_sleep(1.5); RETURN NULL; END $$; CREATE TRIGGER slow AFTER INSERT ON metrics \
         FOR EACH STATEMENT EXECUTE FUNCTION slow();"
    ));
    let more = "limits: { max_transaction: 1s, concurrency: 1 }\n\
                retry: { attempts: 2, backoff: 10ms }";
    let job = job(&database.url(), &Metrics::new(7_200, 10), more);
    let ran = job.call("run", &[]).ended(1);
    let halved = ran.stderr.lines().filter(|line| line.contains(" is halved: ")).count();
    assert!((6..20).contains(&halved), "{halved} halvings: {}", ran.stderr);
    assert!(ran.stderr.contains("took longer than 1 s") || ran.stderr.contains("57014"), "{ran:?}");
    database.ask("DROP TRIGGER slow ON metrics");
    comes_back(&job, &database);
}

/// Somebody puts another table in the place of the one that is being loaded, or empties it.
#[test]
fn a_table_that_is_swapped_in_mid_run_is_not_called_whole() {
    if !ready("faults::a_table_that_is_swapped") {
        return;
    }
    for what in [
        "ALTER TABLE metrics RENAME TO old; CREATE TABLE metrics (LIKE old INCLUDING ALL)",
        "TRUNCATE metrics",
    ] {
        let database = shared();
        database.ask(TABLE);
        let more = "limits: { concurrency: 1, rows_per_second: 20000 }";
        let job = job(&database.url(), &metrics(), more);
        let mut runner = job.start(&["--output", "json"], &[]);
        job.wait_for("verified", 3, &mut runner);
        database.ask(what);
        assert!(runner.is_running(), "the run was over too soon");
        let ran = runner.end().ended(1);
        assert!(ran.stderr.contains("gone from the target") || ran.stderr.contains("truncated"));
        comes_back(&job, &database);
    }
}
