//! The Python packages that judge our tables: other readers, written by others.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use crate::shell::{Done, Failure, command, output, run, target_dir};

/// What the tests need.
pub const JUDGES: &[&str] = &["duckdb==2.0.0", "pyarrow==26.0.1", "deltalake==1.6.6"];

/// What only the benches need.
pub const RIVALS: &[&str] = &["polars==2.1.0"];

/// Whether something may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// `--yes` or CI=true: without asking.
    Given,
    /// Print the commands and ask.
    Ask,
}

impl Consent {
    /// By `--yes` among the arguments or CI=true.
    pub fn from(args: &[String]) -> Self {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        if ci || args.iter().any(|a| a == "--yes") { Consent::Given } else { Consent::Ask }
    }
}

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
    if consent == Consent::Ask && !asked(&home, packages)? {
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

fn asked(home: &str, packages: &[&str]) -> Done<bool> {
    println!("Some tests read tables with other programs. To install them:");
    println!("  python3 -m venv {home}");
    println!("  {home}/bin/python -m pip install {}", packages.join(" "));
    if !io::stdin().is_terminal() {
        println!("Not installed; `--yes` installs them without asking.");
        return Ok(false);
    }
    print!("Do it now? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn make_home(home: &str) -> Done {
    let make = || run(&mut command("python3", &["-m", "venv", "--clear", home]));
    if make().is_ok() {
        return Ok(());
    }
    // Debian ships Python without `venv`.
    let root = output(&mut command("id", &["-u"]))?.trim() == "0";
    if !root {
        return Err(Failure::new(
            "Python has no `venv` module; install the package python3-venv and try again",
        ));
    }
    run(&mut command("apt-get", &["update", "-qq"]))?;
    let mut install = command("apt-get", &["install", "-y", "-qq", "python3-venv"]);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    make()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_consent() {
        assert_eq!(Consent::from(&["--yes".to_owned()]), Consent::Given);
    }
}
