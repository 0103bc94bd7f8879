//! A job in a directory of its own, and the program run on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;
use xtask::metrics::Metrics;
use xtask::servers::{Fault, Proxy, Way};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Runs a program to its end, or kills it when patience is at its end.
fn within_patience(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (over, end) = mpsc::channel::<()>();
    let guard = spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(over);
    guard.join().unwrap();
    output
}

/// A job: spec, source files, target `out`.
pub(crate) struct Job {
    pub(crate) dir: TempDir,
    /// Words that mean NULL in the source, for the judge.
    pub(crate) null: &'static str,
}

/// What one call of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails with everything the program said unless it ended with this code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless it ended with this code and said all of this.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, texts: &[&str]) {
        let ran = self.ended(code);
        tells(&format!("{}{}", ran.stdout, ran.stderr), texts);
    }

    /// The last line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}\n{}", self.stderr))
    }
}

/// Fails unless all of this is said.
#[track_caller]
pub(crate) fn tells(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "`{text}` is missing from\n{said}");
    }
}

impl From<Output> for Ran {
    fn from(out: Output) -> Self {
        Ran {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }
}

/// The example of the repository.
pub(crate) fn example_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nyc-weather")
}

impl Job {
    /// An empty directory with this spec.
    pub(crate) fn new(spec: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("backfill.yaml"), spec).unwrap();
        Job { dir, null: "" }
    }

    /// A copy of the example.
    pub(crate) fn example() -> Self {
        let spec = fs::read_to_string(example_dir().join("backfill.yaml")).unwrap();
        let job = Job { null: "NA", ..Job::new(&spec) };
        for file in fs::read_dir(example_dir().join("data")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), job.path("data").join(file.file_name())).unwrap();
        }
        job
    }

    /// Generated metrics in one file, sliced by the hour, with more lines for the spec.
    pub(crate) fn metrics(metrics: &Metrics, more: &str) -> Self {
        Self::metrics_by("rows: { time: ts, key: [hostname] }", metrics, more)
    }

    /// The same with another `rows` line.
    pub(crate) fn metrics_by(rows: &str, metrics: &Metrics, more: &str) -> Self {
        let spec = format!(
            "name: metrics\nsource: {{ csv: {{ path: \"data/*\" }} }}\n\
             target: {{ delta: {{ path: ./out }} }}\n{rows}\nrange: {{ every: 1h }}\n{more}\n"
        );
        let job = Job::new(&spec);
        let name = if metrics.gzip { "data/metrics.csv.gz" } else { "data/metrics.csv" };
        metrics.write(&job.path(name)).unwrap();
        job
    }

    /// What `rejects list` says, which takes no `--output`.
    #[track_caller]
    pub(crate) fn listed_rejects(&self) -> String {
        let mut list = Command::new(env!("CARGO_BIN_EXE_retrofill"));
        list.args(["rejects", "list", "backfill.yaml"]).current_dir(self.dir.path());
        Ran::from(list.output().unwrap()).ended(0).stdout
    }

    /// A run whose connection through this proxy is cut behind so many bytes ends in one way or
    /// the other; the next ends well.
    #[track_caller]
    pub(crate) fn comes_through_a_cut(&self, proxy: &Proxy, at: u64) {
        let before = proxy.fired();
        proxy.set(Fault::CutAfter(Way::Down, at));
        let ran = self.run();
        assert!(matches!(ran.code, Some(0 | 1)), "{at}: {:?} {}", ran.code, ran.stderr);
        assert_eq!(proxy.fired(), before + 1, "nothing was cut at {at}");
        proxy.set(Fault::None);
        self.run().ended(0);
    }

    /// Writes the spec anew with one text in place of another.
    #[track_caller]
    pub(crate) fn respec(&self, from: &str, to: &str) {
        let path = self.path("backfill.yaml");
        let spec = fs::read_to_string(&path).unwrap();
        assert!(spec.contains(from), "no `{from}` in {spec}");
        fs::write(path, spec.replace(from, to)).unwrap();
    }

    /// A path in the job's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The table.
    pub(crate) fn table(&self) -> PathBuf {
        self.path("out")
    }

    /// The state dir.
    pub(crate) fn state(&self) -> PathBuf {
        let dir = fs::read_dir(self.path(".retrofill")).unwrap().next().unwrap().unwrap();
        dir.path()
    }

    /// The source files.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("data")).unwrap();
        let mut files: Vec<_> = files.map(|f| f.unwrap().path()).collect();
        files.sort();
        files
    }

    /// `retrofill COMMAND backfill.yaml ARGS`, ready to run.
    pub(crate) fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
        program.arg(command).arg("backfill.yaml").args(args);
        program.current_dir(self.dir.path()).stdin(Stdio::null());
        program
    }

    /// Runs the program to its end.
    pub(crate) fn call(&self, command: &str, args: &[&str]) -> Ran {
        within_patience(self.command(command, args)).into()
    }

    /// `run`, to its end.
    pub(crate) fn run(&self) -> Ran {
        self.call("run", &["--output", "json"])
    }

    /// Starts `run` with what it says going to files.
    pub(crate) fn start(&self, args: &[&str], variables: &[(&str, &str)]) -> Started {
        self.start_as("run", args, variables)
    }

    /// The same with another command.
    pub(crate) fn start_as(
        &self,
        command: &str,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Started {
        let number = fs::read_dir(self.dir.path()).unwrap().count();
        let (out, err) =
            (self.path(&format!("{number}.stdout")), self.path(&format!("{number}.stderr")));
        let mut command = self.command(command, args);
        command.envs(variables.iter().copied());
        command.stdout(fs::File::create(&out).unwrap());
        command.stderr(fs::File::create(&err).unwrap());
        Started { child: command.spawn().unwrap(), out, err }
    }

    /// The states of all slices in the ledger, with how many there are of each; empty where there
    /// is no ledger yet.
    pub(crate) fn states(&self) -> BTreeMap<String, u64> {
        let Ok(dirs) = fs::read_dir(self.path(".retrofill")) else { return BTreeMap::new() };
        let Some(dir) = dirs.flatten().next() else { return BTreeMap::new() };
        let ledger = dir.path().join("ledger.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let Ok(db) = Connection::open_with_flags(ledger, flags) else { return BTreeMap::new() };
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        let Ok(mut query) = db.prepare("SELECT state, count(*) FROM slices GROUP BY state") else {
            return BTreeMap::new();
        };
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
        rows.map(|rows| rows.flatten().collect()).unwrap_or_default()
    }

    /// How many slices are in this state.
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.states().get(state).copied().unwrap_or(0)
    }

    /// Waits until this many slices are in this state.
    #[track_caller]
    pub(crate) fn wait_for(&self, state: &str, count: u64, runner: &mut Started) {
        let start = Instant::now();
        while self.count(state) < count {
            assert!(runner.is_running(), "it ended too soon: {}", runner.stderr());
            assert!(start.elapsed() < PATIENCE, "no {count} {state}: {}", runner.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    /// Every file of the table with its size and time.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (u64, SystemTime)> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.table()];
        while let Some(dir) = open.pop() {
            let Ok(entries) = fs::read_dir(dir) else { continue };
            for entry in entries.flatten() {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    open.push(entry.path());
                } else {
                    found.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
                }
            }
        }
        found
    }

    /// Runs once more and fails unless there is nothing to do and the table's directory is left
    /// as it was.
    #[track_caller]
    pub(crate) fn nothing_to_do(&self) {
        let before = self.files();
        let ran = self.call("run", &[]).ended(0);
        assert!(ran.stdout.contains("nothing to do"), "{}\n{}", ran.stdout, ran.stderr);
        assert_eq!(before, self.files(), "a run with nothing to do touched the table");
    }
}

/// A program that runs beside the test. Killed when dropped.
pub(crate) struct Started {
    pub(crate) child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Started {
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it has said this text; false where the program ends first.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> bool {
        let start = Instant::now();
        loop {
            let running = self.is_running();
            let out = fs::read_to_string(&self.out).unwrap_or_default();
            if self.stderr().contains(text) || out.contains(text) {
                return true;
            }
            if !running {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "never said `{text}`: {}", self.stderr());
            sleep(Duration::from_millis(5));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Ran {
        let start = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "does not end: {}", self.stderr());
            sleep(Duration::from_millis(5));
        };
        let stdout = fs::read_to_string(&self.out).unwrap_or_default();
        Ran { code: status.code(), stdout, stderr: self.stderr() }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
