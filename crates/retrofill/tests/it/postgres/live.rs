//! Live writers that insert the same keys, insert others, update and delete all the time while
//! history is loaded. A trigger keeps account of everything that anybody does to a row.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Every change of a row, by whom.
const AUDIT: &str = "
CREATE TABLE audit (n bigserial, who text, what text, ts timestamptz, hostname text,
    irq bigint);
CREATE FUNCTION account() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit (who, what, ts, hostname, irq) VALUES (
    current_setting('application_name'), TG_OP, COALESCE(NEW.ts, OLD.ts),
    COALESCE(NEW.hostname, OLD.hostname), COALESCE(NEW.usage_irq, OLD.usage_irq));
  RETURN NULL;
END $$;
CREATE TRIGGER account AFTER INSERT OR UPDATE OR DELETE ON metrics
  FOR EACH ROW EXECUTE FUNCTION account();";

/// The same keys as the history has, keys of other hosts, changes and removals of live rows, in
/// and around the slices. A live row is one whose `usage_irq` is negative.
const SCRIPT: &str = "
\\set step random(0, 9500)
\\set host random(0, 9)
\\set dice random(1, 10)
\\set value random(1, 1000000)
\\if :dice <= 4
INSERT INTO metrics (ts, hostname, usage_irq) VALUES ('2023-12-31 23:30Z'::timestamptz
  + :step * interval '10 s', 'host_000' || :host, -:value) ON CONFLICT DO NOTHING;
\\elif :dice <= 6
INSERT INTO metrics (ts, hostname, usage_irq) VALUES ('2023-12-31 23:30Z'::timestamptz
  + :step * interval '10 s', 'other_' || :host, -:value) ON CONFLICT DO NOTHING;
\\elif :dice <= 8
UPDATE metrics SET usage_irq = -:value WHERE ts = '2023-12-31 23:30Z'::timestamptz
  + :step * interval '10 s' AND usage_irq < 0;
\\else
DELETE FROM metrics WHERE ts = '2023-12-31 23:30Z'::timestamptz
  + :step * interval '10 s' AND usage_irq < 0;
\\endif
";

/// Nothing but the keys of the first hour of the history, again and again.
const SAME: &str = "
\\set step random(0, 359)
\\set host random(0, 9)
\\set dice random(1, 10)
\\if :dice <= 8
INSERT INTO metrics (ts, hostname, usage_irq) VALUES ('2024-01-01Z'::timestamptz
  + :step * interval '10 s', 'host_000' || :host, -1) ON CONFLICT DO NOTHING;
\\else
DELETE FROM metrics WHERE ts = '2024-01-01Z'::timestamptz + :step * interval '10 s'
  AND hostname = 'host_000' || :host AND usage_irq < 0;
\\endif
";

/// Rows of ours go in so slowly that live writers are always faster with some key of a slice.
const SLOW: &str = "
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF current_setting('application_name') = 'retrofill' THEN PERFORM pg_sleep(0.0005); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER slow AFTER INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION slow();";

/// pgbench, until it is told to stop.
struct Writers {
    child: Child,
    job: std::path::PathBuf,
}

impl Writers {
    fn start(job: &Job, database: &Database<'_>, script: &str) -> Self {
        fs::write(job.path("live.sql"), script).unwrap();
        let mut pgbench = database.server.client("pgbench", &database.name).unwrap();
        pgbench.args(["-n", "-c", "4", "-j", "1", "-T", "600", "-R", "400", "-f", "live.sql"]);
        pgbench.args(["--log", "--log-prefix=live", "--failures-detailed"]);
        pgbench.current_dir(job.dir.path());
        pgbench.stdout(fs::File::create(job.path("live.out")).unwrap());
        pgbench.stderr(fs::File::create(job.path("live.err")).unwrap()).stdin(Stdio::null());
        Writers { child: pgbench.spawn().unwrap(), job: job.dir.path().to_owned() }
    }

    fn log(&self) -> String {
        let files = fs::read_dir(&self.job).unwrap().flatten().map(|e| e.path());
        let logs = files.filter(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("live.") && name[5..].starts_with(|c: char| c.is_ascii_digit())
        });
        logs.map(|p| fs::read_to_string(p).unwrap()).collect()
    }

    /// Ends them; gives how many transactions there were, and the longest.
    fn stop(mut self) -> (usize, Duration) {
        assert!(self.child.try_wait().unwrap().is_none(), "the writers ended by themselves");
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        // Whoever started this test may have had the signal ignored, by all its children too.
        let told = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(told.elapsed() < Duration::from_secs(30), "the writers do not end");
            if told.elapsed() > Duration::from_secs(5) {
                // It may have gone meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let errors = fs::read_to_string(self.job.join("live.err")).unwrap();
        assert!(!errors.contains("ERROR") && !errors.contains("aborted"), "{errors}");
        // client, transaction, microseconds since its turn, script, time in two fields, and how
        // many of those microseconds it waited for its client; the last line may be cut.
        let log = self.log();
        let time = |line: &str| {
            let mut fields = line.split(' ').map(|field| field.parse::<u64>().ok());
            Some(fields.nth(2)?? - fields.nth(3)??)
        };
        let times: Vec<u64> = log.lines().filter_map(time).collect();
        let longest = times.iter().max().copied().unwrap_or_default();
        (times.len(), Duration::from_micros(longest))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_live_writer_is_hurt_and_no_row_of_history_is_lost() {
    if !ready("live::no_live_writer_is_hurt") {
        return;
    }
    let server = Postgres::start().unwrap();
    let database = server.database();
    database.ask(TABLE);
    database.ask(AUDIT);
    let more =
        "limits: { rows_per_second: 8000, concurrency: 2 }\nretry: { attempts: 20, backoff: 50ms }";
    let job = job(&database.url(), &metrics(), more);
    beside(&job, &database, SCRIPT, ROWS);
}

#[test]
fn rows_give_way_where_live_writers_are_always_faster() {
    if !ready("live::rows_give_way") {
        return;
    }
    let server = Postgres::start().unwrap();
    let database = server.database();
    for sql in [TABLE, AUDIT, SLOW] {
        database.ask(sql);
    }
    let more = "limits: { concurrency: 2 }\nretry: { attempts: 4, backoff: 10ms }";
    let job = job(&database.url(), &Metrics::new(3_600, 10), more);
    // A live writer of the same key waits for a whole slice of ours, which sleeps with every row.
    job.respec("every: 1h", "every: 10min");
    beside(&job, &database, SAME, 3_600);
    // Some slice was begun with a snapshot twice in vain: its halves were loaded without one.
    let log = job.call("log", &[]).ended(0).stdout;
    assert!(log.contains("halved"), "nobody came first: {log}");
}

/// The slice as given would take ten seconds; nothing is said of how long a transaction may take.
#[test]
fn a_slice_that_is_too_large_for_live_writers_is_cut() {
    if !ready("live::a_slice_that_is_too_large_for_live_writers") {
        return;
    }
    let server = Postgres::start().unwrap();
    let database = server.database();
    for sql in [TABLE, AUDIT, SLOW] {
        database.ask(sql);
    }
    let more = "retry: { attempts: 20, backoff: 10ms }";
    let job = job(&database.url(), &Metrics::new(18_000, 10), more);
    job.respec("every: 1h", "every: 1y");
    beside(&job, &database, SAME, 18_000);
}

/// Loads beside live writers, and holds everything against their own account.
#[track_caller]
fn beside(job: &Job, database: &Database<'_>, script: &str, rows: u64) {
    let writers = Writers::start(job, database, script);
    std::thread::sleep(Duration::from_secs(1));
    let last = job.run().ended(0).json();
    let (transactions, longest) = writers.stop();
    let conflicting = number(&last, "plan_rows", "conflicting");
    println!("{transactions} live transactions, longest {longest:?}, {conflicting} conflicts");
    assert!(transactions > 500, "only {transactions} live transactions");
    assert!(longest <= Duration::from_secs(2), "a live writer waited {longest:?}");
    assert!(conflicting > 0, "no live row had a key of the history");
    assert_eq!(conflicts(job), conflicting, "not every conflict is listed");
    assert_eq!(number(&last, "plan_rows", "read"), rows);
    // We only ever inserted, and nothing that lives.
    let ours =
        "SELECT count(*) FROM audit WHERE who = 'retrofill' AND (what <> 'INSERT' OR irq < 0)";
    assert_eq!(database.ask(ours), "0");
    let written = "SELECT count(*) FROM audit WHERE who = 'retrofill'";
    assert_eq!(database.ask(written), number(&last, "plan_rows", "written").to_string());
    // What the writers left is what their own account says: the last word on each key is theirs.
    let wrong = database.ask(
        "WITH word AS (SELECT DISTINCT ON (ts, hostname) ts, hostname, what, irq FROM audit
           WHERE who <> 'retrofill' ORDER BY ts, hostname, n DESC),
         live AS (SELECT ts, hostname, irq FROM word WHERE what <> 'DELETE'),
         held AS (SELECT ts, hostname, usage_irq FROM metrics WHERE usage_irq < 0)
         SELECT (SELECT count(*) FROM (TABLE live EXCEPT ALL TABLE held) a),
                (SELECT count(*) FROM (TABLE held EXCEPT ALL TABLE live) b);",
    );
    assert_eq!(wrong, "0|0", "live rows lost, live rows too many");
    // Every row of the history is there, or its key was found held by a live row.
    let answer = database.ask(&format!(
        "CREATE TEMP TABLE expected (LIKE metrics);
\\copy expected FROM '{}' CSV HEADER
SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE metrics) a),
       (SELECT count(*) FROM expected e WHERE NOT EXISTS (SELECT FROM metrics m
          WHERE m.ts = e.ts AND m.hostname = e.hostname AND m = e)
          AND NOT EXISTS (SELECT FROM audit w WHERE w.who <> 'retrofill'
          AND w.ts = e.ts AND w.hostname = e.hostname));",
        job.path("data/metrics.csv").display()
    ));
    assert_eq!(
        answer,
        format!("{conflicting}|0"),
        "rows of history without a conflict in the list"
    );
}
