//! What every server has: a directory, a user, a port, and somebody who cleans up.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::shell::{Done, Failure, is_root};

/// The user that servers run as; none where this process is unprivileged already.
#[derive(Debug, Clone, Copy)]
pub(super) struct User(Option<(u32, u32)>);

impl User {
    /// `postgres` or `nobody` where this process may become one of them.
    pub(super) fn find() -> Done<Self> {
        if !is_root()? {
            return Ok(User(None));
        }
        let list = fs::read_to_string("/etc/passwd")?;
        let of = |name: &str| {
            let fields = list.lines().map(|l| l.split(':').collect::<Vec<_>>());
            let user = fields.into_iter().find(|f| f.first() == Some(&name))?;
            Some((user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?))
        };
        let ids = of("postgres").or_else(|| of("nobody"));
        ids.map(|ids| User(Some(ids))).ok_or_else(|| Failure::new("no user to run servers as"))
    }

    /// Lets the command run as this user.
    pub(super) fn runs(self, command: &mut Command) -> &mut Command {
        if let User(Some((uid, gid))) = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives the file or directory to this user.
    pub(super) fn owns(self, path: &Path) -> io::Result<()> {
        match self {
            User(Some((uid, gid))) => chown(path, Some(uid), Some(gid)),
            User(None) => Ok(()),
        }
    }
}

/// A new directory that belongs to the user. Its path is short: a socket's path has 107 bytes.
pub(super) fn home(user: User, prefix: &str) -> Done<TempDir> {
    let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
    user.owns(dir.path())?;
    Ok(dir)
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Done<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Ends a server and removes its directory when this process is gone, however it went: killed,
/// or ended without dropping what it holds in a static.
#[derive(Debug)]
pub(super) struct Keeper(Child);

/// Waits for the end of standard input, which comes with the end of this process. `$1` is the
/// file whose first line is the server's process id, `$2` the directory.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r _
pid=$(head -n 1 "$1" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.2
done
kill -9 "$pid" 2>/dev/null
rm -rf "$2"
"#;

impl Keeper {
    pub(super) fn watch(pid_file: &Path, dir: &Path) -> Done<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "keeper"]).arg(pid_file).arg(dir);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Keeper(shell.spawn()?))
    }

    /// What the end of this process does.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.0.stdin = None;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The server has been stopped by whoever dropped it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
