//! `MariaDB` of the test's own.

use std::fs::{self, File};
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
use super::postgres::{fed, finished};
use super::tls::Certificates;
use crate::shell::{Done, Failure};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often a start is tried: another program may take the port first.
const STARTS: usize = 5;

/// A running (or stopped) server. Stopped and removed when dropped. `root` needs no password.
#[derive(Debug)]
pub struct Mariadb {
    port: u16,
    user: User,
    settings: Vec<String>,
    child: Mutex<Option<Child>>,
    /// Dropped before the directory that it would remove.
    keeper: Option<Keeper>,
    home: TempDir,
}

impl Mariadb {
    /// A new server with these settings, such as `--ssl-cert=..`, beside the usual ones.
    pub fn start(settings: &[String]) -> Done<Self> {
        let user = User::find()?;
        let home = home(user, "rf-md-")?;
        let child = Mutex::default();
        let settings = settings.to_vec();
        let mut server = Mariadb { port: 0, user, settings, child, keeper: None, home };
        server.initialise()?;
        server.keeper = Some(Keeper::watch(&server.pid_file(), server.home.path())?);
        let mut last = Failure::new("never tried");
        for _ in 0..STARTS {
            server.port = free_port()?;
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// A new server that speaks TLS with this certificate.
    pub fn with_tls(certificates: &Certificates) -> Done<Self> {
        let user = User::find()?;
        let files = [certificates.server(), certificates.key()];
        for file in &files {
            user.owns(file)?;
        }
        let [certificate, key] = files.map(|p| p.display().to_string());
        Self::start(&[format!("--ssl-cert={certificate}"), format!("--ssl-key={key}")])
    }

    /// One server for all tests of this process that need nothing special, each in a database of
    /// its own. It ends with the process.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn shared() -> &'static Mariadb {
        static SHARED: OnceLock<Mariadb> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]).unwrap_or_else(|failure| panic!("{failure}")))
    }

    /// The directory that its programs and its messages lie below.
    fn base() -> Done<PathBuf> {
        let program =
            find::program("mariadbd").ok_or_else(|| Failure::new("there is no mariadbd"))?;
        let base = program.parent().and_then(Path::parent);
        base.map(Path::to_owned).ok_or_else(|| Failure::new("mariadbd lies nowhere"))
    }

    fn initialise(&self) -> Done {
        let mut make = find::system("mariadb-install-db")?;
        make.arg("--no-defaults").arg(format!("--basedir={}", Self::base()?.display()));
        make.arg(format!("--datadir={}", self.data().display()));
        make.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        make.arg("--skip-name-resolve");
        finished(self.user.runs(&mut make).current_dir(self.home.path()))?;
        // Whoever comes by the network, which is this machine alone.
        fs::write(
            self.home.path().join("init.sql"),
            "CREATE USER IF NOT EXISTS root@'127.0.0.1';\n\
             GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n",
        )?;
        Ok(())
    }

    /// Starts it on the data that it has, at the port that it had.
    pub fn start_again(&self) -> Done {
        let base = Self::base()?;
        let mut start = find::system("mariadbd")?;
        start.arg("--no-defaults").arg(format!("--basedir={}", base.display()));
        start.arg(format!("--lc-messages-dir={}", base.join("share/mysql").display()));
        start.arg(format!("--datadir={}", self.data().display()));
        start.arg(format!("--init-file={}", self.home.path().join("init.sql").display()));
        start.arg(format!("--socket={}", self.socket().display()));
        start.arg(format!("--pid-file={}", self.pid_file().display()));
        start.arg(format!("--port={}", self.port));
        start.args(["--bind-address=127.0.0.1", "--skip-name-resolve"]);
        // Small, and as durable as anybody has it.
        start.args(["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=1"]);
        start.args(&self.settings).current_dir(self.home.path()).stdin(Stdio::null());
        start.stdout(Stdio::null()).stderr(File::create(self.home.path().join("log"))?);
        let mut child = self.user.runs(&mut start).spawn()?;
        let begun = Instant::now();
        while self.try_ask("mysql", "SELECT 1").is_err() {
            if child.try_wait()?.is_some() {
                return Err(Failure::new(format!("no server:\n{}", self.log())));
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Err(Failure::new(format!("it does not start:\n{}", self.log())));
            }
            sleep(Duration::from_millis(50));
        }
        *self.held() = Some(child);
        Ok(())
    }

    /// `kill -9`; it can be started again. Does nothing where it does not run.
    pub fn kill(&self) -> Done {
        let Some(mut child) = self.held().take() else { return Ok(()) };
        kill_process(Pid::from_child(&child), Signal::KILL)
            .map_err(|e| Failure::new(format!("the server on port {}: {e}", self.port)))?;
        child.wait()?;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("s")
    }

    fn pid_file(&self) -> PathBuf {
        self.home.path().join("pid")
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// What `mariadb` prints for these statements: values without decoration, tabs between columns.
    pub fn try_ask(&self, database: &str, sql: &str) -> Done<String> {
        let mut client: Command = find::system("mariadb")?;
        client.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        client.args(["--user=root", "--batch", "--skip-column-names", "--local-infile=1"]);
        client.args(["--default-character-set=utf8mb4", "--raw", database]);
        fed(&mut client, sql)
    }

    /// A new database.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn database(&self) -> MariadbDatabase<'_> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = self.try_ask("mysql", &format!("CREATE DATABASE {name}"));
        made.unwrap_or_else(|failure| panic!("{failure}"));
        MariadbDatabase { server: self, name }
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // What cannot be stopped is left to the keeper, which takes the directory too.
        if self.kill().is_ok() {
            self.keeper = None;
        }
    }
}

/// A database of a server.
#[derive(Debug)]
pub struct MariadbDatabase<'a> {
    /// Where it lies.
    pub server: &'a Mariadb,
    /// Its name.
    pub name: String,
}

impl MariadbDatabase<'_> {
    /// Its address, for the user who may do everything.
    pub fn url(&self) -> String {
        format!("mariadb://root@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// What `mariadb` prints.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        let said = self.server.try_ask(&self.name, sql);
        said.unwrap_or_else(|failure| panic!("{failure}\n{sql}"))
    }
}
