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
