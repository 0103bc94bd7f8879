//! The servers start, go down in every way, and leave nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Certificates, How, Pgbouncer, Postgres, Setup};
use crate::need::{Need, here};

/// Waits until this holds.
#[track_caller]
fn soon(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended and was not waited for stays as a zombie.
    !state.is_empty() && !state.contains(") Z ")
}

#[test]
fn data_outlives_every_way_to_stop_and_nothing_outlives_the_test() {
    if !here("servers::data_outlives_every_way_to_stop", &[Need::Postgres]) {
        return;
    }
    let server = Postgres::with(&Setup::new().set("work_mem", "5MB")).unwrap();
    let database = server.database();
    assert_eq!(database.ask("SHOW work_mem"), "5MB");
    database.ask("CREATE TABLE t (n int)");
    for (n, how) in [How::Fast, How::Immediate, How::Kill].into_iter().enumerate() {
        database.ask(&format!("INSERT INTO t VALUES ({n})"));
        server.stop(how).unwrap();
        assert!(!server.answers().unwrap());
        server.start_again().unwrap();
        assert_eq!(database.ask("SELECT count(*) FROM t"), (n + 1).to_string());
    }
    assert!(database.try_ask("SELECT nothing").unwrap_err().to_string().contains("nothing"));
    let home = server.sockets().parent().unwrap().to_owned();
    let pid = std::fs::read_to_string(home.join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    assert!(runs(&pid));
    drop(server);
    assert!(!runs(&pid) && !home.exists());
}

#[test]
fn a_replica_follows_and_takes_over() {
    if !here("servers::a_replica_follows_and_takes_over", &[Need::Postgres]) {
        return;
    }
    let primary = Postgres::start().unwrap();
    primary.try_ask("postgres", "CREATE TABLE t AS SELECT generate_series(1, 10) n").unwrap();
    let replica = primary.replica().unwrap();
    primary.try_ask("postgres", "INSERT INTO t VALUES (11)").unwrap();
    replica.catch_up(&primary).unwrap();
    let count = "SELECT count(*) FROM t";
    assert_eq!(replica.try_ask("postgres", count).unwrap(), "11");
    let refused = replica.try_ask("postgres", "INSERT INTO t VALUES (12)").unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    primary.stop(How::Kill).unwrap();
    replica.promote().unwrap();
    replica.try_ask("postgres", "INSERT INTO t VALUES (12)").unwrap();
    assert_eq!(replica.try_ask("postgres", count).unwrap(), "12");
}

#[test]
fn sessions_change_behind_the_pooler() {
    if !here("servers::sessions_change_behind_the_pooler", &[Need::Postgres, Need::Pgbouncer]) {
        return;
    }
    let server = Postgres::start().unwrap();
    let pooler = Pgbouncer::start(&server, 1).unwrap();
    let ask = |sql: &str| {
        let mut psql = server.client("psql", "postgres").unwrap();
        let out = psql.args(["-XAtq", "-c", sql]).arg(pooler.url("postgres")).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    // One session for two clients.
    assert_eq!(ask("SELECT pg_backend_pid()"), ask("SELECT pg_backend_pid()"));
}

#[test]
fn only_who_trusts_the_authority_gets_in() {
    if !here("servers::only_who_trusts_the_authority_gets_in", &[Need::Postgres]) {
        return;
    }
    let (ours, other) = (Certificates::new(&["DNS:localhost"]), Certificates::new(&["DNS:other"]));
    let (ours, other) = (ours.unwrap(), other.unwrap());
    let server = Postgres::with_tls(Setup::new(), &ours).unwrap();
    let enters = |authority: &Certificates| {
        let mut psql = server.client("psql", "postgres").unwrap();
        psql.env("PGHOST", "localhost").env("PGSSLMODE", "verify-full");
        psql.env("PGSSLROOTCERT", authority.authority());
        psql.args(["-XAtqc", "SELECT 1"]).output().unwrap().status.success()
    };
    assert!(enters(&ours));
    assert!(!enters(&other));
}

#[test]
fn a_server_whose_test_is_gone_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut server = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = server.id().to_string();
    std::fs::write(&pid_file, &pid).unwrap();
    let mut keeper = super::keeper::Keeper::watch(&pid_file, dir.path()).unwrap();
    assert!(runs(&pid));
    keeper.forget();
    soon("the server is ended", || !runs(&pid));
    soon("its directory is removed", || !dir.path().exists());
    server.wait().unwrap();
}
