use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use retrofill_core::error::Kind;

use super::super::sqlite::VERSION;
use super::*;

#[test]
fn files_are_private() {
    let bench = Bench::frozen(1);
    let files: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|f| f.unwrap()).collect();
    assert!(files.len() >= 2, "the log beside the file is there too: {files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn an_open_file_is_closed_to_others_again() {
    let bench = Bench::new();
    let path = bench.path();
    drop(bench.journal);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(SqliteJournal::open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_newer_format_is_refused_by_name_and_number() {
    let bench = Bench::new();
    let path = bench.path();
    drop(bench.journal);
    let newer = VERSION + 1;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", newer).unwrap();
    drop(connection);
    for error in [SqliteJournal::open(&path), SqliteJournal::open_read_only(&path)] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let expected = format!("ledger.db` has format {newer}, this retrofill knows up to 1");
        assert!(error.message().ends_with(&expected), "{error}");
    }
}

#[test]
fn files_that_are_no_ledger_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    fs::write(&text, "not a database, but long enough to be taken for one ".repeat(40)).unwrap();
    let error = SqliteJournal::open(&text).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("text.db` cannot be read: it is damaged"), "{error}");
    assert!(error.hint_text().unwrap().contains("move the file"));

    let foreign = dir.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute("CREATE TABLE t (a)", []).unwrap();
    let before = fs::read(&foreign).unwrap();
    let error = SqliteJournal::open(&foreign).unwrap_err();
    assert!(error.message().contains("database of another program"), "{error}");
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[test]
fn a_torn_page_is_reported_as_damage() {
    let bench = Bench::frozen(500);
    let path = bench.path();
    drop(bench.journal);
    let mut bytes = fs::read(&path).unwrap();
    let second_page = 4096;
    bytes[second_page..].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let error = SqliteJournal::open(&path)
        .and_then(|journal| block_on(journal.slices(&bench.plan)))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(error.hint_text().unwrap().contains("receipts"), "{error:?}");
}

#[test]
fn a_missing_ledger_or_dir_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = SqliteJournal::open_read_only(&dir.path().join("ledger.db")).unwrap_err();
    assert!(error.message().starts_with("there is no ledger at"), "{error}");
    assert!(!dir.path().join("ledger.db").exists());
    let error = SqliteJournal::open(&dir.path().join("none/ledger.db")).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
}

#[test]
fn many_may_create_one_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..8).map(|_| scope.spawn(|| SqliteJournal::open(&path).unwrap())).collect();
        for journal in all {
            assert_eq!(block_on(journal.join().unwrap().plans()).unwrap(), []);
        }
    });
}

#[test]
fn a_reader_sees_what_a_runner_does_and_cannot_write() {
    let bench = Bench::frozen(2);
    let reader = SqliteJournal::open_read_only(&bench.path()).unwrap();
    assert_eq!(block_on(reader.read(&bench.plan, 0)).unwrap().len(), 1);
    bench.append(vec![leased(0)]).unwrap();
    assert_eq!(block_on(reader.read(&bench.plan, 0)).unwrap().len(), 2);
    let slices = block_on(bench.journal.slices(&bench.plan)).unwrap();
    assert_eq!(block_on(reader.slices(&bench.plan)).unwrap(), slices);
    let error = block_on(reader.append(&bench.lease, vec![leased(1)], true)).unwrap_err();
    assert_eq!(error.kind(), Kind::Bug);
    assert!(block_on(reader.lease(&bench.plan, &elsewhere("b"))).is_err());
    drop(bench.journal);
    assert_eq!(block_on(reader.read(&bench.plan, 0)).unwrap().len(), 2);
}
