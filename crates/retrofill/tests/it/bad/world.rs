//! Nothing is wrong with the rows: the place where they go, or the state of the job, is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use super::{Case, seen};
use crate::harness::{Job, Ran};
use crate::judge;

const ROWS: &str = "t,site,v\n2020-01-01,a,1\n2020-01-02,b,2\n";

/// What a first run shows in a world that was spoilt before it, with more arguments for it.
fn spoilt(args: &[&str], spoil: impl FnOnce(&Job)) -> (Job, String) {
    let job = Case::csv(ROWS).job();
    spoil(&job);
    let ran = job.call("run", &[&["--output", "json"], args].concat());
    let seen = seen(&job, &ran);
    (job, seen)
}

macro_rules! shows {
    ($seen:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($seen); });
    };
}

/// Once the world is mended, the same command loads everything.
#[track_caller]
fn loads_in_the_end(job: &Job) {
    job.run().ended(0);
    job.holds(ROWS);
    job.nothing_to_do();
}

#[test]
fn the_target_is_a_file() {
    let (job, seen) = spoilt(&[], |job| fs::write(job.table(), "precious").unwrap());
    shows!(seen);
    assert_eq!(fs::read_to_string(job.table()).unwrap(), "precious");
    fs::remove_file(job.table()).unwrap();
    loads_in_the_end(&job);
}

#[test]
fn the_target_lies_below_a_file() {
    let (job, seen) = spoilt(&[], |job| {
        let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        fs::write(job.path("backfill.yaml"), spec.replace("./out", "./taken/out")).unwrap();
        fs::write(job.path("taken"), "precious").unwrap();
    });
    shows!(seen);
    assert_eq!(fs::read_to_string(job.path("taken")).unwrap(), "precious");
    fs::remove_file(job.path("taken")).unwrap();
    job.run().ended(0);
    assert!(job.path("taken/out/_delta_log").is_dir());
}

/// Rights bind only those who are not root.
#[test]
fn the_target_is_read_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |job: &Job, mode| {
        fs::set_permissions(job.table(), fs::Permissions::from_mode(mode)).unwrap();
    };
    let (job, seen) = spoilt(&[], |job| {
        fs::create_dir(job.table()).unwrap();
        mode(job, 0o555);
    });
    mode(&job, 0o755);
    if rustix::process::geteuid().is_root() {
        job.holds(ROWS);
        return;
    }
    shows!(seen);
    loads_in_the_end(&job);
}

#[test]
fn the_state_dir_is_a_file() {
    let (job, seen) = spoilt(&[], |job| fs::write(job.path(".retrofill"), "precious").unwrap());
    shows!(seen);
    assert!(!job.table().exists());
    fs::remove_file(job.path(".retrofill")).unwrap();
    loads_in_the_end(&job);
}

#[test]
fn the_state_dir_cannot_be_made() {
    let (job, seen) = spoilt(&["--state-dir", "data/a.csv/state"], |_| {});
    shows!(seen);
    assert!(!job.table().exists());
    loads_in_the_end(&job);
}

/// A loaded job whose ledger is spoilt: nothing is done, and without that file all is found again.
fn ledger(spoil: impl FnOnce(&Path)) -> String {
    let job = Case::csv(ROWS).job();
    job.run().ended(0);
    let path = job.state().join("ledger.db");
    spoil(&path);
    let before = job.files();
    let ran = job.run();
    let seen = seen(&job, &ran);
    assert_eq!(before, job.files(), "a run without a ledger touched the table");
    fs::rename(&path, job.path("old.db")).unwrap();
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 0, "{last}");
    job.holds(ROWS);
    job.nothing_to_do();
    seen
}

#[test]
fn a_ledger_that_is_none() {
    let text = "not a database, but long enough to be taken for one\n".repeat(40);
    shows!(ledger(|path| fs::write(path, text).unwrap()));
}

#[test]
fn a_ledger_with_a_torn_page() {
    shows!(ledger(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[4096..].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(path, bytes).unwrap();
    }));
}

#[test]
fn a_ledger_whose_history_was_altered() {
    shows!(ledger(|path| {
        let db = Connection::open(path).unwrap();
        let altered = db.execute("UPDATE entries SET json = replace(json, '1', '2')", []).unwrap();
        assert!(altered > 0);
    }));
}

#[test]
fn a_ledger_of_a_newer_version() {
    shows!(ledger(|path| {
        Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    }));
}

#[test]
fn a_second_runner() {
    let job = Case::csv(ROWS).job();
    let mut first = job.start(&[], &[("RETROFILL_HOLD", "commit:1")]);
    assert!(first.says("held at commit"), "{}", first.stderr());
    let ran = job.run();
    let seen = seen(&job, &ran);
    // Who holds it differs with each call.
    let pid = first.child.id().to_string();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    first.kill();
    let seen = seen.replace(&pid, "PID").replace(&host, "HOST");
    let (start, rest) = seen.split_once(" (heartbeat ").expect("it tells when it was heard of");
    let (_, rest) = rest.split_once(')').expect("and ends");
    shows!(format!("{start}{rest}"));
    loads_in_the_end(&job);
}

/// No file may grow beyond so many blocks of 512 bytes, as if the disk were full.
fn limited(job: &Job, blocks: u32) -> Ran {
    let script = format!(
        "ulimit -f {blocks}; exec '{}' run backfill.yaml --output json",
        env!("CARGO_BIN_EXE_retrofill")
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(job.dir.path()).output().unwrap().into()
}

/// Three small days and one whose data file does not fit.
#[test]
fn the_disk_is_full() {
    let mut text = "t,site,v\n2020-01-01,a,1\n2020-01-02,b,2\n2020-01-04,c,4\n".to_owned();
    for n in 0..60_000_u64 {
        let value = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let other = value.rotate_left(17);
        writeln!(text, "2020-01-03,s{n},{value:016x}{other:016x}").unwrap();
    }
    let job = Case::csv(&text).job();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    fs::write(job.path("backfill.yaml"), spec + "retry: { attempts: 2, backoff: 1s }\n").unwrap();
    let ran = limited(&job, 1000).ended(1);
    let last = ran.json();
    assert_eq!(last["slices"]["verified"], 3, "{last}");
    assert_eq!(last["slices"]["failed"], 1, "{last}");
    let trouble = ran.stderr.lines().find(|l| l.starts_with("slice 20200103T000000Z failed"));
    let trouble = trouble.unwrap_or_else(|| panic!("{}", ran.stderr));
    let dir = job.dir.path().to_str().unwrap();
    let trouble = trouble.replace(dir, "DIR");
    // A temporary file has a name by chance.
    let (start, rest) = trouble.split_once(".retrofill-").expect("it names the file");
    let (_, rest) = rest.split_once(".tmp").expect("it is a temporary one");
    shows!(format!("{start}.retrofill-TEMPORARY.tmp{rest}"));
    let ours = |f: &PathBuf| f.file_name().unwrap().to_str().unwrap().starts_with(".retrofill-");
    let left: Vec<_> = job.files().into_keys().filter(ours).collect();
    assert!(left.is_empty(), "{left:?} could not be written and was left");
    job.holds("t,site,v\n2020-01-01,a,1\n2020-01-02,b,2\n2020-01-04,c,4\n");
    let said = job.call("verify", &[]).ended(1).stdout;
    assert!(said.contains("verified 3/3") && said.contains("1 slice failed"), "{said}");
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 60_000, "{last}");
    if judge::here("bad::world::the_disk_is_full") {
        assert_eq!(judge::equal(&job), 60_003);
    }
    job.nothing_to_do();
}
