//! Where the programs of the servers lie: on the machine, or unpacked under `target/servers`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Done, Failure, target_dir};

/// Where packages are unpacked that cannot be installed.
pub(super) fn unpacked() -> PathBuf {
    target_dir().join("servers/root")
}

/// Roots under which `usr` is looked for, in this order.
fn roots() -> [PathBuf; 2] {
    [PathBuf::from("/"), unpacked()]
}

/// The directory with the programs of the newest `PostgreSQL` that is here.
pub fn postgres_dir() -> Option<PathBuf> {
    roots().iter().find_map(|root| {
        let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
        let number = |p: &PathBuf| p.file_name()?.to_str()?.parse::<u32>().ok();
        let mut dirs: Vec<_> = versions.flatten().map(|e| e.path()).collect();
        dirs.retain(|dir| ["postgres", "psql", "pgbench"].iter().all(|p| is_program(dir, p)));
        dirs.into_iter().max_by_key(number).map(|dir| dir.join("bin"))
    })
}

fn is_program(version: &Path, name: &str) -> bool {
    version.join("bin").join(name).is_file()
}

/// A program of the system, such as `pgbouncer` or `openssl`.
pub fn program(name: &str) -> Option<PathBuf> {
    let places = ["usr/bin", "usr/sbin", "usr/local/bin"];
    let found = |root: PathBuf| places.map(|p| root.join(p).join(name)).into_iter();
    roots().into_iter().flat_map(found).find(|path| path.is_file())
}

/// The variable that names a directory with programs of another `PostgreSQL`. What it lacks is
/// taken from the one that is here.
pub const PROGRAMS: &str = "RETROFILL_POSTGRES_PROGRAMS";

/// A program of `PostgreSQL`, with the libraries it needs.
pub(super) fn postgres(name: &str) -> Done<Command> {
    let other = std::env::var_os(PROGRAMS).map(|dir| Path::new(&dir).join(name));
    if let Some(other) = other.filter(|path| path.is_file()) {
        return Ok(ready(other));
    }
    let dir = postgres_dir().ok_or_else(|| Failure::new("there is no PostgreSQL here"))?;
    Ok(ready(dir.join(name)))
}

/// A program of the system, with the libraries it needs.
pub(super) fn system(name: &str) -> Done<Command> {
    let path = program(name).ok_or_else(|| Failure::new(format!("there is no {name} here")))?;
    Ok(ready(path))
}

/// A command that sees neither the settings nor the language of whoever runs the tests.
fn ready(program: PathBuf) -> Command {
    let libraries = libraries(&program);
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    if let Some(path) = libraries {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

/// Where an unpacked program finds its libraries.
fn libraries(program: &Path) -> Option<OsString> {
    let root = unpacked();
    let lib = program.starts_with(&root).then(|| root.join("usr/lib"))?;
    let named = |dir: &Path| dir.to_string_lossy().ends_with("-linux-gnu");
    let mut dirs: Vec<PathBuf> =
        std::fs::read_dir(lib).ok()?.flatten().map(|e| e.path()).filter(|d| named(d)).collect();
    dirs.sort();
    std::env::join_paths(dirs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_outside_do_not_reach_a_server() {
        let command = ready("psql".into());
        let is = |name: &str| {
            let found = command.get_envs().find(|(n, _)| *n == name);
            found.and_then(|(_, v)| v).map(|v| v.to_string_lossy().into_owned())
        };
        assert_eq!(is("TZ").as_deref(), Some("UTC"));
        assert_eq!(is("LD_LIBRARY_PATH"), None);
    }

    #[test]
    fn what_is_not_here_is_not_found() {
        assert!(program("no-such-program").is_none());
        assert!(system("no-such-program").unwrap_err().to_string().contains("no-such-program"));
    }
}
