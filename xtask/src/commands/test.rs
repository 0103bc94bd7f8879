//! `test`: every test there is, on a machine that needs nothing but a Rust toolchain.

use std::fs;
use std::path::PathBuf;

use super::sim;
use crate::consent::Consent;
use crate::need::{self, Need};
use crate::python::{self, JUDGES};
use crate::servers;
use crate::shell::{self, Done, Failure, built, cargo, command, root};
use crate::tally::Tally;

pub(super) fn run(args: &[String]) -> Done {
    let filter: Vec<&str> = args.iter().map(String::as_str).filter(|a| *a != "--yes").collect();
    let consent = Consent::from(args);
    let mut tally = Tally::default();
    if filter.is_empty() {
        all(consent, &mut tally);
    } else {
        python::ensure(JUDGES, consent)?;
        servers::ensure(Need::SERVERS, consent)?;
        let mut args = vec!["test", "--workspace", "--"];
        args.extend(filter);
        counted(cargo(&args), &mut tally);
    }
    conclude(&tally)
}

/// Prints the line that ends every run of the tests; a failure if one failed.
pub(super) fn conclude(tally: &Tally) -> Done {
    let summary = tally.summary();
    println!("{summary}");
    if tally.failed == 0 { Ok(()) } else { Err(Failure::new("not everything passed")) }
}

/// All tests, the simulation with planted bugs, and the checks by other programs.
pub(super) fn all(consent: Consent, tally: &mut Tally) {
    let judged = python::ensure(JUDGES, consent).unwrap_or_else(|failure| {
        tally.step("Python packages", Err(failure));
        false
    });
    tally.step("servers", servers::ensure(Need::SERVERS, consent));
    counted(cargo(&["test", "--workspace", "--no-fail-fast"]), tally);
    counted(sim::command(sim::SEEDS, true), tally);
    tally.step("digest vectors", vectors());
    tally.step("the example as in the README", example());
    if judged {
        tally.step("digest of the example's table", digest());
    } else {
        tally.skipped.push("digest of the example's table (python)".into());
    }
}

/// Runs `cargo test` and counts. In CI what cannot run is a failure.
fn counted(mut cargo: std::process::Command, tally: &mut Tally) {
    if let Some(python) = python::found() {
        cargo.env("RETROFILL_PYTHON", python);
    }
    cargo.env(need::REQUIRE, need::required());
    let before = tally.failed;
    let ended = shell::watch(&mut cargo, |line| tally.see(line));
    let well = ended.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        false
    });
    if !well && tally.failed == before {
        let text = shell::line(&cargo);
        tally.step(&text, Err(Failure::new("ended badly without a failing test")));
    }
}

/// The published digest vectors under the program written in Python.
fn vectors() -> Done {
    VECTORS.iter().try_for_each(|path| {
        shell::run(&mut command("python3", &["docs/digest/digest.py", "vectors", path]))
    })
}

const VECTORS: [&str; 2] = ["docs/digest/vectors.json", "docs/digest/vectors-more.json"];
const EXAMPLE: &str = "examples/nyc-weather";

/// The README's first command, from nothing, and again.
fn example() -> Done {
    for made in ["out", ".retrofill"] {
        let dir = root().join(EXAMPLE).join(made);
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    let spec = format!("{EXAMPLE}/backfill.yaml");
    shell::run(&mut command(built("debug", "retrofill"), &["run", &spec]))?;
    let again = shell::output(&mut command(built("debug", "retrofill"), &["run", &spec]))?;
    if again.contains("nothing to do") {
        return Ok(());
    }
    Err(Failure::new(format!("the second run of {EXAMPLE} says: {again}")))
}

/// One slice of the example's table against its receipt, by the program written in Python.
fn digest() -> Done {
    let table = root().join(EXAMPLE).join("out");
    let (receipt, files) = receipt_with_files(&table.join("_retrofill/receipts"))?;
    let mut check = command(python::interpreter(), &["docs/digest/digest.py", "parquet"]);
    check.arg(receipt).args(["time_hour", "origin"]);
    check.args(files.iter().map(|f| table.join(f)));
    shell::run(&mut check)
}

/// The first receipt under a directory, with the data files that it names.
fn receipt_with_files(dir: &std::path::Path) -> Done<(PathBuf, Vec<String>)> {
    let mut open = vec![dir.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    for path in found {
        let receipt: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        let files = receipt["anchor"]["files"].as_array().cloned().unwrap_or_default();
        let files: Vec<_> =
            files.iter().filter_map(|f| f["path"].as_str().map(str::to_owned)).collect();
        if !files.is_empty() {
            return Ok((path, files));
        }
    }
    Err(Failure::new(format!("no receipt with data files under {}", dir.display())))
}
