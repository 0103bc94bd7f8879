//! `PostgreSQL` of the test's own: databases, replicas, and every way to go down.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::find;
use super::keeper::{Keeper, User, free_port, home};
use super::tls::Certificates;
use crate::shell::{Done, Failure, line};

/// How long a server may take to start, to stop or to catch up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a start is tried: another program may take the port first.
const STARTS: usize = 5;

const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
shared_buffers = '64MB'
max_connections = 60
log_line_prefix = '%m [%p] %a '
";

const TRUST: &str = "\
local all all trust
host all all 127.0.0.1/32 trust
local replication all trust
host replication all 127.0.0.1/32 trust
";

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    settings: Vec<(String, String)>,
    access: Option<String>,
}

impl Setup {
    /// Nothing but what every test server has: the defaults of `PostgreSQL`, synced commits
    /// included, and access without a password from this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this setting.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// With these lines as `pg_hba.conf`, after those that let the superuser in by the socket.
    pub fn access(mut self, lines: &str) -> Self {
        self.access = Some(lines.into());
        self
    }
}

/// How a server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In order; sessions are ended.
    Fast,
    /// At once, without a checkpoint: what `pg_ctl -m immediate` does.
    Immediate,
    /// `kill -9`.
    Kill,
}

/// A running (or stopped) server. Stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    user: User,
    child: Mutex<Option<Child>>,
    /// Dropped before the directory that it would remove.
    keeper: Option<Keeper>,
    home: TempDir,
}

impl Postgres {
    /// A new server with the usual setup.
    pub fn start() -> Done<Self> {
        Self::with(&Setup::new())
    }

    /// A new server.
    pub fn with(setup: &Setup) -> Done<Self> {
        let mut server = Self::empty()?;
        server.initialise()?;
        let access = match &setup.access {
            Some(lines) => format!("local all postgres trust\n{lines}\n"),
            None => TRUST.to_owned(),
        };
        fs::write(server.data().join("pg_hba.conf"), access)?;
        let mut text = SETTINGS.to_owned();
        for (name, value) in &setup.settings {
            let value = value.replace('\'', "''");
            text.extend([name.as_str(), " = '", &value, "'\n"]);
        }
        server.configure(&text)?;
        server.first_start()?;
        Ok(server)
    }

    /// A new server that speaks TLS with this certificate.
    pub fn with_tls(setup: Setup, certificates: &Certificates) -> Done<Self> {
        let files = [certificates.server(), certificates.key()].map(|p| p.display().to_string());
        let [certificate, key] = &files;
        let setup = setup.set("ssl", "on").set("ssl_cert_file", certificate);
        let user = User::find()?;
        for file in &files {
            user.owns(Path::new(file))?;
        }
        Self::with(&setup.set("ssl_key_file", key))
    }

    /// One server for all tests of this process that need nothing special, each in a database
    /// of its own. It ends with the process.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|failure| panic!("{failure}")))
    }

    /// A streaming replica of this server.
    pub fn replica(&self) -> Done<Self> {
        let mut replica = Self::empty()?;
        let mut copy = find::postgres("pg_basebackup")?;
        copy.arg("-D").arg(replica.data()).args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        copy.arg("-h").arg(self.sockets()).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        finished(replica.user.runs(&mut copy).current_dir(replica.home.path()))?;
        replica.first_start()?;
        Ok(replica)
    }

    /// A directory without a cluster in it.
    fn empty() -> Done<Self> {
        let user = User::find()?;
        let home = home(user, "rf-pg-")?;
        fs::create_dir(home.path().join("s"))?;
        user.owns(&home.path().join("s"))?;
        Ok(Postgres { port: 0, user, child: Mutex::default(), keeper: None, home })
    }

    fn initialise(&self) -> Done {
        let mut make = find::postgres("initdb")?;
        make.arg("-D").arg(self.data()).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        make.args(["--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
        finished(self.user.runs(&mut make).current_dir(self.home.path()))
    }

    /// Adds to the settings; the last of two counts.
    fn configure(&self, text: &str) -> Done {
        let path = self.data().join("postgresql.conf");
        Ok(OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?)
    }

    fn first_start(&mut self) -> Done {
        self.keeper = Some(Keeper::watch(&self.data().join("postmaster.pid"), self.home.path())?);
        let mut last = Failure::new("never tried");
        for _ in 0..STARTS {
            self.port = free_port()?;
            let sockets = self.sockets().display().to_string();
            let port = self.port;
            self.configure(&format!("port = {port}\nunix_socket_directories = '{sockets}'\n"))?;
            match self.start_again() {
                Ok(()) => return Ok(()),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Starts it on the data that it has, at the port that it had.
    pub fn start_again(&self) -> Done {
        let begun = Instant::now();
        let mut child = self.held();
        loop {
            match self.spawn()? {
                Some(started) => {
                    *child = Some(started);
                    return Ok(());
                }
                // After kill -9 the sessions of the old one may need a moment to go.
                None if begun.elapsed() < PATIENCE && self.log().contains("still in use") => {
                    sleep(Duration::from_millis(100));
                }
                None => return Err(Failure::new(format!("no server:\n{}", self.log()))),
            }
        }
    }

    /// Starts it and waits until it answers; none where it ended instead.
    fn spawn(&self) -> Done<Option<Child>> {
        let mut start = find::postgres("postgres")?;
        start.arg("-D").arg(self.data()).current_dir(self.home.path()).stdin(Stdio::null());
        start.stdout(Stdio::null()).stderr(File::create(self.home.path().join("log"))?);
        let mut child = self.user.runs(&mut start).spawn()?;
        let begun = Instant::now();
        while !self.answers()? {
            if child.try_wait()?.is_some() {
                return Ok(None);
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Err(Failure::new(format!("it does not start:\n{}", self.log())));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(Some(child))
    }

    /// Whether it takes connections.
    pub fn answers(&self) -> Done<bool> {
        let mut ask = find::postgres("pg_isready")?;
        ask.arg("-q").arg("-h").arg(self.sockets()).args(["-p", &self.port.to_string()]);
        Ok(ask.status()?.success())
    }

    /// Stops it; it can be started again. Does nothing where it does not run.
    pub fn stop(&self, how: How) -> Done {
        let Some(mut child) = self.held().take() else { return Ok(()) };
        self.signal(&child, how)?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Err(Failure::new(format!("it does not stop:\n{}", self.log())));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn signal(&self, child: &Child, how: How) -> Done {
        let signal = match how {
            How::Fast => Signal::INT,
            How::Immediate => Signal::QUIT,
            How::Kill => Signal::KILL,
        };
        kill_process(Pid::from_child(child), signal)
            .map_err(|e| Failure::new(format!("the server on port {}: {e}", self.port)))
    }

    fn held(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a replica a server of its own.
    pub fn promote(&self) -> Done {
        self.try_ask("postgres", "SELECT pg_promote(true, 30)").map(drop)
    }

    /// Waits until this replica has all that the other server has written so far.
    pub fn catch_up(&self, primary: &Postgres) -> Done {
        let position = primary.try_ask("postgres", "SELECT pg_current_wal_lsn()")?;
        let there = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        let begun = Instant::now();
        while self.try_ask("postgres", &there)? != "t" {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("the replica does not catch up"));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The directory of its socket.
    pub fn sockets(&self) -> PathBuf {
        self.home.path().join("s")
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// The address of a database, for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A program of `PostgreSQL` such as `psql` or `pgbench`, told where this server is by its
    /// environment.
    pub fn client(&self, program: &str, database: &str) -> Done<Command> {
        let mut client = find::postgres(program)?;
        client.env("PGHOST", self.sockets()).env("PGPORT", self.port.to_string());
        client.env("PGUSER", "postgres").env("PGDATABASE", database);
        client.env("PGAPPNAME", program);
        Ok(client)
    }

    /// What `psql` prints for these statements: values without decoration, `|` between columns.
    pub fn try_ask(&self, database: &str, sql: &str) -> Done<String> {
        let mut psql = self.client("psql", database)?;
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        fed(&mut psql, sql)
    }

    /// A new database.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn database(&self) -> Database<'_> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = self.try_ask("postgres", &format!("CREATE DATABASE {name}"));
        made.unwrap_or_else(|failure| panic!("{failure}"));
        Database { server: self, name }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What cannot be stopped is left to the keeper, which takes the directory too.
        if self.stop(How::Immediate).is_ok() {
            self.keeper = None;
        }
    }
}

/// A database of a server.
#[derive(Debug)]
pub struct Database<'a> {
    /// Where it lies.
    pub server: &'a Postgres,
    /// Its name.
    pub name: String,
}

impl Database<'_> {
    /// Its address, for the superuser.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// What `psql` prints, or why it fails.
    pub fn try_ask(&self, sql: &str) -> Done<String> {
        self.server.try_ask(&self.name, sql)
    }

    /// What `psql` prints.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        self.try_ask(sql).unwrap_or_else(|failure| panic!("{failure}\n{sql}"))
    }
}

/// Runs a program to its end; what it says is told only where it fails.
pub(super) fn finished(command: &mut Command) -> Done {
    let text = line(command);
    let out = command.output().map_err(|e| Failure::new(format!("`{text}`: {e}")))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(Failure::new(format!("`{text}` ended with {}: {said}", out.status)))
}

/// What a program prints for this input, without the last line end.
pub(super) fn fed(command: &mut Command, input: &str) -> Done<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut pipe = child.stdin.take().expect("it was piped");
    let text = input.to_owned();
    // Beside reading: what it prints may fill its pipe before it has read everything.
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let out = child.wait_with_output()?;
    // A program that fails early closes its input; its status tells.
    let _ = writer.join();
    if !out.status.success() {
        return Err(Failure::new(String::from_utf8_lossy(&out.stderr).into_owned()));
    }
    let text =
        String::from_utf8(out.stdout).map_err(|_| Failure::new("the client printed no text"))?;
    Ok(text.trim_end_matches('\n').to_owned())
}
