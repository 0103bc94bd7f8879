//! Tables that are partitioned by time.

use super::*;

/// The table of the generated rows, with a partition for the month after them.
fn partitioned(more: &str) -> Database<'static> {
    let database = shared();
    let table = TABLE.trim_end_matches(';');
    database.ask(&format!(
        "{table} PARTITION BY RANGE (ts); CREATE TABLE february PARTITION OF metrics \
         FOR VALUES FROM ('2024-02-01Z') TO ('2024-03-01Z'); {more}"
    ));
    database
}

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'metrics'::regclass";

fn job_of(database: &Database<'_>, more: &str) -> Job {
    let job = job(&database.url(), &Metrics::new(7_200, 10), "");
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let spec = spec.replace("table: public.metrics", &format!("table: public.metrics{more}"));
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    job
}

#[test]
fn a_missing_partition_is_told_before_the_first_row() {
    if !ready("partitions::a_missing_partition") {
        return;
    }
    let database = partitioned("");
    let job = job_of(&database, "");
    let ran = job.call("plan", &[]).ended(2);
    let told = "has no partition for rows from 2024-01-01T00:00:00Z to 2024-01-01T01:59:50Z";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert!(ran.stderr.contains("ATTACH PARTITION"), "{}", ran.stderr);
    job.call("run", &[]).ended(2);
    assert_eq!(database.ask(PARTITIONS), "1");
    // One for everything else is a place too.
    database.ask("CREATE TABLE rest PARTITION OF metrics DEFAULT");
    job.run().ended(0);
    equal(&job, &database);
    idle(&job, &database);
}

#[test]
fn partitions_are_made_where_that_is_asked_for() {
    if !ready("partitions::partitions_are_made") {
        return;
    }
    let late = "CREATE TABLE late PARTITION OF metrics FOR VALUES FROM ('2024-01-01 01:00Z') \
                TO ('2024-01-20Z')";
    for (more, parts, bounds) in [
        ("", "2", "FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')"),
        (late, "3", "FROM ('2024-01-01 00:00:00+00') TO ('2024-01-01 01:00:00+00')"),
    ] {
        let database = partitioned(more);
        let name = &database.name;
        database.ask(&format!("ALTER DATABASE {name} SET TimeZone = 'America/New_York'"));
        let job = job_of(&database, ", create_partitions: true");
        job.call("plan", &[]).ended(0);
        job.run().ended(0);
        equal(&job, &database);
        assert_eq!(database.ask(PARTITIONS), parts);
        let made = database.ask(
            "SET TimeZone = 'UTC'; SELECT pg_get_expr(relpartbound, oid) FROM pg_class \
             WHERE relname = 'metrics_20240101_000000'",
        );
        assert!(made.contains(bounds), "{made}");
        idle(&job, &database);
    }
}

#[test]
fn a_partition_that_was_taken_away_is_filled_again() {
    if !ready("partitions::a_partition_that_was_taken_away") {
        return;
    }
    let database = partitioned("");
    let job = job_of(&database, ", create_partitions: true");
    job.run().ended(0);
    database.ask("DROP TABLE metrics_20240101_000000");
    job.run().ended(0);
    equal(&job, &database);
    idle(&job, &database);
}

#[test]
fn only_where_rows_lie_a_partition_is_needed() {
    if !ready("partitions::only_where_rows_lie") {
        return;
    }
    // Two hours of rows; the slice goes on for a year.
    let until = "CREATE TABLE first PARTITION OF metrics FOR VALUES FROM ('2024-01-01Z') \
                 TO ('2024-01-01 02:00Z')";
    let database = partitioned(until);
    let job = job_of(&database, "");
    job.respec("every: 1h", "every: 1y");
    job.call("plan", &[]).ended(0);
    job.run().ended(0);
    equal(&job, &database);
    assert_eq!(database.ask(PARTITIONS), "2");
}

#[test]
fn a_partition_with_partitions_of_its_own_must_have_them() {
    if !ready("partitions::a_partition_with_partitions") {
        return;
    }
    let year = "CREATE TABLE y PARTITION OF metrics FOR VALUES FROM ('-infinity') TO \
                ('2024-02-01Z') PARTITION BY RANGE (ts); CREATE TABLE early PARTITION OF y \
                FOR VALUES FROM (MINVALUE) TO ('2024-01-01 01:00Z')";
    let database = partitioned(year);
    let job = job_of(&database, ", create_partitions: true");
    let ran = job.call("plan", &[]).ended(2);
    let told = "has no partition for rows from 2024-01-01T01:00:00Z to 2024-01-01T01:59:50Z";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert!(ran.stderr.contains("public.y has partitions of its own"), "{}", ran.stderr);
    database.ask("CREATE TABLE late PARTITION OF y DEFAULT");
    job.run().ended(0);
    equal(&job, &database);
}

#[test]
fn a_partition_gets_a_name_that_is_free() {
    if !ready("partitions::a_partition_gets_a_name") {
        return;
    }
    let database = partitioned("CREATE VIEW metrics_20240101_000000 AS SELECT 1");
    let job = job_of(&database, ", create_partitions: true");
    job.run().ended(0);
    equal(&job, &database);
    assert_eq!(
        database.ask("SELECT count(*) FROM metrics_20240101_000000_2"),
        database.ask("SELECT count(*) FROM metrics")
    );
}
