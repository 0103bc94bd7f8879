//! Running other programs, loudly.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The result of a task.
pub type Done<T = ()> = Result<T, Failure>;

/// Why a task failed, in words for the person at the terminal.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure(e.to_string())
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_owned()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where a built binary of this name lies (`profile` is the directory: `debug`, `dist`).
pub fn built(profile: &str, name: &str) -> PathBuf {
    target_dir().join(profile).join(name)
}

/// A command that starts in the root of the workspace.
pub fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// `cargo` of the running toolchain, in an environment as if it were called from a shell.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that `cargo run` sets for this program. Build scripts watch some of them (the one of
/// `ring` does): if they were passed on, half of the dependencies would be built again whenever
/// `cargo xtask` follows `cargo run`, and the other way round.
fn is_of_outer_cargo(name: &str) -> bool {
    let outer = ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_MANIFEST_LINKS"];
    let prefixes = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    outer.contains(&name) || prefixes.iter().any(|p| name.starts_with(p))
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut text = Path::new(command.get_program()).display().to_string();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Prints the command and runs it; a non-zero end is a failure.
pub fn run(command: &mut Command) -> Done {
    let text = line(command);
    println!("$ {text}");
    let status = command.status().map_err(|e| Failure::new(format!("`{text}`: {e}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{text}` ended with {status}")))
}

/// Runs the command and gives what it printed; a non-zero end is a failure.
pub fn output(command: &mut Command) -> Done<String> {
    let text = line(command);
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::new(format!("`{text}`: {e}")))?;
    if !out.status.success() {
        return Err(Failure::new(format!("`{text}` ended with {}", out.status)));
    }
    String::from_utf8(out.stdout).map_err(|_| Failure::new(format!("`{text}` printed no text")))
}

/// Whether this process may do everything on this machine.
pub fn is_root() -> Done<bool> {
    Ok(output(&mut command("id", &["-u"]))?.trim() == "0")
}

/// Prints the command, runs it and shows every line of its output to `see` as it comes. Tells
/// whether it ended well.
pub fn watch(command: &mut Command, mut see: impl FnMut(&str)) -> Done<bool> {
    let text = line(command);
    println!("$ {text}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::new(format!("`{text}`: {e}")))?;
    let pipe = child.stdout.take().expect("stdout was piped");
    for bytes in BufReader::new(pipe).split(b'\n') {
        let bytes = bytes?;
        let line = String::from_utf8_lossy(&bytes);
        println!("{line}");
        see(&line);
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_cargo_does_not_see_the_outer_one() {
        assert!(is_of_outer_cargo("CARGO_PKG_NAME"));
        assert!(is_of_outer_cargo("CARGO_MANIFEST_DIR"));
        for kept in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_TERM_COLOR", "CARGO_BUILD_JOBS"] {
            assert!(!is_of_outer_cargo(kept), "{kept}");
        }
        // Tests run under cargo, which sets these.
        let removed = cargo(&[]);
        let gone = removed.get_envs().any(|(n, v)| n == "CARGO_MANIFEST_DIR" && v.is_none());
        assert!(gone);
    }
}
