//! What follows loads.

use super::*;

const LOG: &str = "CREATE TABLE calls (from_time timestamptz, to_time timestamptz);";

#[test]
fn views_and_statements_follow_exactly_what_was_loaded() {
    if !ready("after::views_and_statements") {
        return;
    }
    let database = shared();
    database.ask(TABLE);
    database.ask(LOG);
    database.ask(
        "CREATE MATERIALIZED VIEW hourly AS SELECT date_trunc('hour', ts, 'UTC') AS hour, \
         count(*) AS n FROM metrics GROUP BY 1; CREATE UNIQUE INDEX ON hourly (hour);",
    );
    let after = "after: [ { refresh_materialized_view: hourly }, \
                 { sql: \"INSERT INTO public.calls VALUES (:from, :to)\" } ]";
    let job = job(&database.url(), &metrics(), after);
    job.call("run", &["--from", "2024-01-01", "--to", "2024-01-01T06:00:00Z"]).ended(0);
    assert_eq!(database.ask("SELECT count(*), sum(n) FROM hourly"), "6|21600");
    let first = "SELECT * FROM calls ORDER BY 1";
    assert_eq!(database.ask(&utc(first)), "2024-01-01 00:00:00+00|2024-01-01 06:00:00+00");
    let last = job.run().ended(0).json();
    assert_eq!(last["after"][0]["failed"], Value::Null);
    assert_eq!(database.ask("SELECT sum(n) FROM hourly"), ROWS.to_string());
    assert_eq!(
        database.ask(&utc("SELECT * FROM calls ORDER BY 1 OFFSET 1")),
        "2024-01-01 06:00:00+00|2024-01-02 00:00:00+00"
    );
    let last = job.run().ended(0).json();
    assert!(last.get("after").is_none(), "nothing was loaded: {last}");
    assert_eq!(database.ask("SELECT count(*) FROM calls"), "2");
}

fn utc(sql: &str) -> String {
    format!("SET TimeZone = 'UTC'; {sql};")
}

#[test]
fn what_fails_is_done_by_the_next_run() {
    if !ready("after::what_fails") {
        return;
    }
    let database = shared();
    let after = "after: [ { sql: \"INSERT INTO public.calls VALUES (:from, :to)\" }, \
                 { sql: \"INSERT INTO public.calls VALUES (NULL, NULL)\" } ]";
    let job = job(&database.url(), &Metrics::new(7_200, 10), after);
    let ran = job.run().ended(1);
    let last = ran.json();
    assert_eq!(last["status"], "verified");
    assert!(last["after"][0]["failed"].as_str().unwrap().contains("calls"), "{last}");
    assert_eq!(last["after"][1], Value::Null, "what follows a failure waits");
    equal(&job, &database);
    database.ask(LOG);
    let before = database.ask("SELECT count(*) FROM retrofill.receipts");
    let ran = job.call("run", &[]).ended(0);
    assert!(ran.stdout.contains("nothing to do") && ran.stdout.contains("done"), "{}", ran.stdout);
    assert_eq!(database.ask("SELECT count(*) FROM retrofill.receipts"), before);
    assert_eq!(database.ask("SELECT count(*), count(from_time) FROM calls"), "2|1");
    let log = job.call("log", &[]).ended(0).stdout;
    assert!(log.contains("failed: ") && log.contains(" done for "), "{log}");
    job.run().ended(0);
    assert_eq!(database.ask("SELECT count(*) FROM calls"), "2");
}
