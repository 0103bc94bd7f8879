//! `PgBouncer` in front of a server.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::find;
use super::keeper::{Keeper, User, free_port, home};
use super::postgres::Postgres;
use crate::shell::{Done, Failure};

const PATIENCE: Duration = Duration::from_secs(20);

/// `PgBouncer` in transaction mode: each transaction may get another session of the server.
/// Stopped when dropped.
#[derive(Debug)]
pub struct Pgbouncer {
    port: u16,
    child: Child,
    /// Dropped before the directory that it would remove.
    keeper: Option<Keeper>,
    home: TempDir,
}

impl Pgbouncer {
    /// In front of this server, with this many sessions per database, in transaction mode.
    pub fn start(server: &Postgres, sessions: u32) -> Done<Self> {
        Self::with(server, sessions, "transaction")
    }

    /// The same in any mode.
    pub fn with(server: &Postgres, sessions: u32, mode: &str) -> Done<Self> {
        let user = User::find()?;
        let home = home(user, "rf-pb-")?;
        let port = free_port()?;
        let path = |name: &str| home.path().join(name).display().to_string();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = {mode}\ndefault_pool_size = {sessions}\nmax_client_conn = 100\n\
             pidfile = {}\n",
            server.port(),
            path("users"),
            path("pid"),
        );
        fs::write(path("settings"), settings)?;
        fs::write(path("users"), "\"postgres\" \"\"\n")?;
        let keeper = Keeper::watch(&home.path().join("pid"), home.path())?;
        let mut start = find::system("pgbouncer")?;
        start.arg(path("settings")).current_dir(home.path()).stdin(Stdio::null());
        start.stdout(Stdio::null()).stderr(File::create(path("log"))?);
        let child = user.runs(&mut start).spawn()?;
        let mut bouncer = Pgbouncer { port, child, keeper: Some(keeper), home };
        bouncer.wait()?;
        Ok(bouncer)
    }

    fn wait(&mut self) -> Done {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait()?.is_some();
            if ended || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
                return Err(Failure::new(format!("no PgBouncer:\n{log}")));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The address of a database of the server, through `PgBouncer`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_ok() {
            self.keeper = None;
        }
    }
}
