//! `generate compat-fixture vN`: what this version leaves on the disk, for every later one to open.

use std::fs;
use std::path::Path;

use crate::shell::{self, Done, Failure, built, cargo, command, root};

/// Days one to three: the first has a refused line, the second a conflict, and the third is undone
/// once and loaded again.
const ROWS: &str = "\
t,site,v,note
2020-01-01T06:00:00Z,a,1,first
2020-01-01T07:00:00Z,a,one,refused
2020-01-01T08:00:00Z,b,3,
2020-01-02T06:00:00Z,a,4,conflict
2020-01-02T07:00:00Z,b,5,\"with, comma\"
2020-01-03T06:00:00Z,a,6,last
";

/// Rows of somebody else.
const LIVE: &str = "t,site,v,note\n2020-01-02T06:00:00Z,a,40,live\n";

const SPEC: &str = "\
name: compat
source: { csv: { path: \"data/*.csv\", types: { v: int64 } } }
target: { delta: { path: ./out } }
rows: { time: t, key: [site] }
range: { every: 1d }
rejects: { max: 1 }
verify: { manifest: true }
";

/// Writes the folder of one version, which must not be there: what a version wrote never changes.
pub(super) fn run(version: &str) -> Done {
    let dir = root().join("crates/retrofill/tests/compat").join(version);
    if dir.exists() {
        let what = format!("{} is there already; a new format is a new version", dir.display());
        return Err(Failure::new(what));
    }
    shell::run(&mut cargo(&["build", "--workspace"]))?;
    fs::create_dir_all(dir.join("data"))?;
    fs::write(dir.join("backfill.yaml"), SPEC)?;
    fs::write(dir.join("data/a.csv"), ROWS)?;
    let live = dir.join("live");
    fs::create_dir(&live)?;
    fs::write(live.join("live.csv"), LIVE)?;
    let spec = SPEC.replace("data/*.csv", "live.csv").replace("./out", "../out");
    fs::write(live.join("live.yaml"), spec)?;
    call(&live, &["run", "live.yaml"])?;
    fs::remove_dir_all(live)?;
    call(&dir, &["run", "backfill.yaml", "--state-dir", "state"])?;
    let third = ["undo", "backfill.yaml", "20200103T000000Z", "--yes", "--state-dir", "state"];
    call(&dir, &third)?;
    call(&dir, &["run", "backfill.yaml", "--state-dir", "state"])?;
    call(&dir, &["report", "backfill.yaml", "--state-dir", "state", "-o", "report.json"])?;
    if fs::metadata(dir.join("state/ledger.db-wal")).is_ok_and(|wal| wal.len() > 0) {
        return Err(Failure::new("the ledger was not closed: its log holds entries"));
    }
    for left in ["report.html", "ledger.db-wal", "ledger.db-shm"] {
        // The last two are there only while somebody looks.
        let _ = fs::remove_file(dir.join("state").join(left));
    }
    // Nobody else has this directory.
    let plan = fs::read_to_string(dir.join("state/plan.json"))?;
    let here = dir.display().to_string();
    fs::write(dir.join("state/plan.json"), plan.replace(&here, "."))?;
    println!("wrote {}; commit it", dir.display());
    Ok(())
}

fn call(dir: &Path, args: &[&str]) -> Done {
    shell::run(command(built("debug", "retrofill"), args).current_dir(dir))
}
