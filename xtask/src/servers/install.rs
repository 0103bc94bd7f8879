//! Getting servers from the distribution: installed where we may, else unpacked under `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::find;
use crate::consent::Consent;
use crate::need::Need;
use crate::shell::{Done, Failure, command, is_root, output, run, target_dir};

/// Installs the servers that are missing, if it may. Afterwards some may still be missing: the
/// tests that need them are skipped by name.
pub fn ensure(needs: &[Need], consent: Consent) -> Done {
    let missing: Vec<&str> =
        needs.iter().filter(|n| !n.is_here()).flat_map(|n| n.packages()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    if Command::new("apt-get").arg("--version").output().is_err() {
        println!("Not here, and no apt-get to install it: {}", missing.join(", "));
        return Ok(());
    }
    let root = is_root()?;
    let lines = if root {
        vec!["apt-get update".to_owned(), format!("apt-get install {}", missing.join(" "))]
    } else {
        vec![format!("apt-get download {}   (unpacked under target/servers)", missing.join(" "))]
    };
    if !consent.to("Some tests start real servers.", &lines)? {
        return Ok(());
    }
    if root { install(&missing) } else { unpack(&missing) }
}

fn install(packages: &[&str]) -> Done {
    let _quiet = Quiet::new()?;
    run(&mut command("apt-get", &["update", "-qq"]))?;
    let mut install = command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"]);
    run(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// While it lives, packages that are installed start no service and make no database cluster.
struct Quiet {
    made: Vec<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const CLUSTERS: &str = "/etc/postgresql-common/createcluster.d";

impl Quiet {
    fn new() -> Done<Self> {
        let mut quiet = Quiet { made: Vec::new() };
        // One that is there already is somebody's decision.
        if !Path::new(POLICY).exists() {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            quiet.made.push(POLICY.into());
            run(&mut command("chmod", &["755", POLICY]))?;
        }
        fs::create_dir_all(CLUSTERS)?;
        let file = Path::new(CLUSTERS).join("zz-retrofill.conf");
        fs::write(&file, "create_main_cluster = false\n")?;
        quiet.made.push(file);
        Ok(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        for path in &self.made {
            // Nothing depends on it any more; what cannot be removed does no harm.
            let _ = fs::remove_file(path);
        }
    }
}

/// Downloads the packages, with all that this machine lacks for them, and unpacks them.
fn unpack(packages: &[&str]) -> Done {
    let mut simulate = command("apt-get", &["install", "-s", "-y", "--no-install-recommends"]);
    let plan = output(simulate.args(packages))?;
    let wanted = to_install(&plan);
    if wanted.is_empty() {
        return Err(Failure::new(format!("apt-get finds nothing to unpack for {packages:?}")));
    }
    let store = target_dir().join("servers/packages");
    fs::create_dir_all(&store)?;
    let mut download = command("apt-get", &["download", "-qq"]);
    run(download.args(&wanted).current_dir(&store))?;
    fs::create_dir_all(find::unpacked())?;
    for file in fs::read_dir(&store)? {
        let file = file?.path();
        if file.extension().is_some_and(|e| e == "deb") {
            run(command("dpkg", &["-x"]).arg(&file).arg(find::unpacked()))?;
        }
    }
    fs::remove_dir_all(&store)?;
    Ok(())
}

/// The packages that a simulated `apt-get install` would install.
fn to_install(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|l| l.strip_prefix("Inst ")?.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_read_from_the_simulation() {
        let plan = "NOTE: This is only a simulation!\n\
                    Inst libpq5 (15.14-0 Debian:12/stable [amd64])\n\
                    Inst pgbouncer (1.18.0-1 Debian:12/stable [amd64])\n\
                    Conf libpq5 (15.14-0 Debian:12/stable [amd64])\n";
        assert_eq!(to_install(plan), ["libpq5", "pgbouncer"]);
    }
}
