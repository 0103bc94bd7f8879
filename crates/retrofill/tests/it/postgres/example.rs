//! The example for PostgreSQL, as it stands.

use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::harness::copy;

fn call(dir: &Path, database: &Database<'_>, args: &[&str]) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(args).arg("backfill.yaml").args(["--output", "json"]);
    program.current_dir(dir).env("TSDB_URL", database.url()).stdin(Stdio::null());
    program.output().unwrap().into()
}

#[test]
fn the_example_loads_beside_live_rows() {
    if !ready("example::the_example_loads") {
        return;
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("postgres");
    copy(&examples.join("nyc-weather/data"), &place.path().join("nyc-weather/data"));
    fs::create_dir(&dir).unwrap();
    fs::copy(examples.join("postgres/backfill.yaml"), dir.join("backfill.yaml")).unwrap();
    let database = shared();
    call(&dir, &database, &["check", "--connect"]).ended(0);
    let last = call(&dir, &database, &["run"]).ended(0).json();
    assert_eq!(number(&last, "rows", "written"), 26_115, "{last}");
    assert_eq!(database.ask("SELECT count(*) FROM weather"), "26115");
    // What lives stays as it is.
    database.ask("UPDATE weather SET temp = -99 WHERE time_hour = '2013-06-01 12:00Z'");
    call(&dir, &database, &["verify"]).ended(3);
    call(&dir, &database, &["run", "--select", "mismatched"]).ended(0);
    assert_eq!(database.ask("SELECT count(*) FROM weather WHERE temp = -99"), "3");
    let bare = dir.join("backfill.yaml");
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["check"]).arg(bare).env_remove("TSDB_URL");
    let ran = Ran::from(program.output().unwrap()).ended(2);
    assert!(ran.stderr.contains("cargo xtask server"), "{ran:?}");
}
