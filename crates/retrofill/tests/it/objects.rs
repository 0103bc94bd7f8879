//! Sources that lie in object stores: servers of others hold the objects, and others judge.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use xtask::metrics::Metrics;
use xtask::python;
use xtask::servers::Certificates;

use crate::exec::exec;
use crate::harness::{Job, Ran};
use crate::judge::{self, judge};

/// The variable that names the program of Azurite. With it, Azure takes the place of S3.
const AZURITE: &str = "RETROFILL_AZURITE";

/// A server with one bucket, `archive`. Ends with this value.
pub(crate) struct Store {
    child: Child,
    answers: BufReader<ChildStdout>,
    told: Value,
    azure: bool,
}

impl Store {
    /// A store that lists its objects and checks every signature.
    pub(crate) fn listed() -> Self {
        match std::env::var(AZURITE) {
            Ok(program) => Store::start(&["az", &program]),
            Err(_) => Store::start(&["s3"]),
        }
    }

    fn start(args: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stores.py");
        let mut python = Command::new(python::found().expect("the test looked for it"));
        python.arg(script).args(args).env("no_proxy", "127.0.0.1,localhost");
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = python.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut store = Store { child, answers, told: Value::Null, azure: args[0] == "az" };
        store.told = store.hear();
        store
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the server says `{line}`: {e}"))
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.hear()
    }

    pub(crate) fn put(&mut self, key: &str, file: &Path) {
        self.ask(&format!("put {key} {}", file.display()));
    }

    /// Every file of a directory.
    fn put_all(&mut self, under: &str, dir: &Path) {
        for file in fs::read_dir(dir).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            self.put(&format!("{under}/{name}"), &file);
        }
    }

    /// Bytes that were given since the last time.
    pub(crate) fn served(&mut self) -> u64 {
        self.ask("served").as_u64().unwrap()
    }

    pub(crate) fn port(&self) -> &Value {
        &self.told["port"]
    }

    /// The address of the bucket.
    pub(crate) fn root(&self) -> &'static str {
        if self.azure { "az://archive" } else { "s3://archive" }
    }

    /// The server, as the driver is told it.
    fn endpoint(&self) -> String {
        let account = if self.azure { format!("/{}", self.key()) } else { String::new() };
        format!("http://127.0.0.1:{}{account}", self.port())
    }

    fn key(&self) -> &str {
        self.told["key"].as_str().unwrap()
    }

    fn secret(&self) -> &str {
        self.told["secret"].as_str().unwrap()
    }

    /// The options of a spec, with the secret in a file of the job.
    pub(crate) fn options(&self, job: &Job) -> String {
        fs::write(job.path("secret"), self.secret()).unwrap();
        let [name, secret] = if self.azure {
            ["account_name", "account_key"]
        } else {
            ["access_key_id", "secret_access_key"]
        };
        format!(
            "options: {{ endpoint: \"{}\", {name}: {}, {secret}: \"${{file:secret}}\" }}",
            self.endpoint(),
            self.key()
        )
    }

    /// The same as variables of the environment.
    fn variables(&self) -> [(&'static str, String); 3] {
        let names = if self.azure {
            ["AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"]
        } else {
            ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        };
        let [endpoint, key, secret] = names;
        [
            (endpoint, self.endpoint()),
            (key, self.key().to_owned()),
            (secret, self.secret().to_owned()),
        ]
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Its own children end with its input, which this closes.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn spec(job: &Job, source: &str, every: &str) {
    let text = format!(
        "name: far\nsource: {{ {source} }}\ntarget: {{ delta: {{ path: ./out }} }}\n\
         rows: {{ time: time_hour, key: [origin] }}\nrange: {{ every: {every} }}\n"
    );
    fs::write(job.path("backfill.yaml"), text).unwrap();
}

/// Loaded whole, proven, and left alone by another run.
fn loads(job: &Job) {
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 26_115, "{last}");
    assert_eq!(judge::equal(job), 26_115);
    job.call("verify", &[]).ended(0);
    job.nothing_to_do();
}

/// Fails where a file of the job's state or table, or what was said, holds this text.
fn nowhere(job: &Job, text: &str, ran: &Ran) {
    assert!(text.len() > 8 && !ran.stdout.contains(text) && !ran.stderr.contains(text));
    let mut open = vec![job.path(".retrofill"), job.table()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!found, "{} holds it", path.display());
        }
    }
}

#[test]
fn csv_in_a_store_is_loaded_whole() {
    if !judge::here("objects::csv_in_a_store_is_loaded_whole") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::example());
    let packed = job.path("packed");
    fs::create_dir(&packed).unwrap();
    for file in job.sources() {
        fs::copy(&file, packed.join(file.file_name().unwrap())).unwrap();
    }
    let january = packed.join("2013-01.csv");
    assert!(Command::new("gzip").arg(january).status().unwrap().success());
    store.put_all("weather", &packed);
    store.put("weather/read.me", &job.path("backfill.yaml"));
    let options = store.options(&job);
    for path in ["*.csv*", ""] {
        let path = format!("{}/weather/{path}", store.root());
        let source = format!("csv: {{ path: \"{path}\", null: [\"NA\"], {options} }}");
        spec(&job, &source, "1mo");
        loads(&job);
        fs::remove_dir_all(job.table()).unwrap();
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
    }
    let ran = job.call("run", &["-vv"]).ended(0);
    nowhere(&job, store.secret(), &ran);
    job.call("preview", &[]).ended(0);
    job.call("gaps", &[]).ended(0);
}

#[test]
fn a_spec_is_guessed_from_csv_in_a_store() {
    if !judge::here("objects::a_spec_is_guessed_from_csv_in_a_store") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::example());
    store.put_all("weather", &job.path("data"));
    let address = format!("{}/weather/*.csv", store.root());
    let mut init = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    init.args(["init", &address, "delta:./out", "--force"]);
    init.envs(store.variables()).current_dir(job.dir.path());
    Ran::from(init.output().unwrap()).ended(0);
    let mut run = job.command("run", &[]);
    Ran::from(run.envs(store.variables()).output().unwrap()).ended(0);
    assert_eq!(judge::equal(&job), 26_115);
}

#[test]
fn parquet_in_a_store_is_loaded_whole() {
    if !judge::here("objects::parquet_in_a_store_is_loaded_whole") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::example());
    let dir = job.path("packed");
    let mut pack = judge(&["pack", dir.to_str().unwrap(), "time_hour", "2048"]);
    Ran::from(pack.args(job.sources()).output().unwrap()).ended(0);
    store.put_all("packed/deep", &dir);
    let (root, options) = (store.root(), store.options(&job));
    spec(&job, &format!("parquet: {{ path: \"{root}/packed/\", {options} }}"), "1mo");
    loads(&job);
}

#[test]
fn csv_in_google_cloud_storage_is_loaded_whole() {
    if !judge::here("objects::csv_in_google_cloud_storage_is_loaded_whole") {
        return;
    }
    let (mut gs, job) = (Store::start(&["gs"]), Job::example());
    gs.put_all("weather", &job.path("data"));
    let options = format!(
        "options: {{ endpoint: \"http://127.0.0.1:{}\", skip_signature: true }}",
        gs.port()
    );
    let source =
        format!("csv: {{ path: \"gs://archive/weather/*.csv\", null: [\"NA\"], {options} }}");
    spec(&job, &source, "1mo");
    loads(&job);
}

/// With a certificate of its own, and every sum checked against a list beside the files.
#[test]
fn csv_behind_https_is_loaded_whole() {
    if !judge::here("objects::csv_behind_https_is_loaded_whole") {
        return;
    }
    let tls = Certificates::new(&["DNS:localhost", "IP:127.0.0.1"]).unwrap();
    let paths = [tls.server(), tls.key()].map(|path| path.to_str().unwrap().to_owned());
    let (mut web, job) = (Store::start(&["http", &paths[0], &paths[1]]), Job::example());
    web.put_all("w", &job.path("data"));
    let sums = Command::new("sha256sum").args(job.sources()).output().unwrap();
    let sums = String::from_utf8(sums.stdout).unwrap();
    let sums = sums.replace(&format!("{}/", job.path("data").display()), "");
    fs::write(job.path("sums"), &sums).unwrap();
    web.put("w/SHA256SUMS", &job.path("sums"));
    let root = format!("https://localhost:{}/w", web.port());
    let months: Vec<_> = (1..=12).map(|m| format!("2013-{m:02}")).collect();
    let months = months.join(",");
    let source = |ca: &str| {
        format!(
            "csv: {{ path: \"{root}/{{{months}}}.csv\", null: [\"NA\"], \
             checksums: \"{root}/SHA256SUMS\", options: {{ {ca} }} }}"
        )
    };
    spec(&job, &source(""), "1mo");
    let ran = job.run().ended(1);
    assert!(ran.stderr.contains("cannot read `https://localhost"), "{}", ran.stderr);
    spec(&job, &source(&format!("sslrootcert: {}", tls.authority().display())), "1mo");
    fs::write(job.path("sums"), sums.replacen(&sums[..8], "00000000", 1)).unwrap();
    web.put("w/SHA256SUMS", &job.path("sums"));
    let ran = job.run().ended(2);
    assert!(ran.stderr.contains("is not the file that"), "{}", ran.stderr);
    fs::write(job.path("sums"), sums).unwrap();
    web.put("w/SHA256SUMS", &job.path("sums"));
    loads(&job);
}

#[test]
fn a_replaced_object_is_stale() {
    if !judge::here("objects::a_replaced_object_is_stale") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::example());
    store.put_all("weather", &job.path("data"));
    let (root, options) = (store.root(), store.options(&job));
    spec(&job, &format!("csv: {{ path: \"{root}/weather/*\", null: [NA], {options} }}"), "1mo");
    job.call("plan", &["-o", "plan.json"]).ended(0);
    let january = job.path("data/2013-01.csv");
    let whole = fs::read(&january).unwrap();
    let mut other = whole.clone();
    // In another month's row even, far from what the slice wants: the object is another.
    let last = other.len() - 2;
    other[last] ^= 1;
    fs::write(job.path("other"), other).unwrap();
    store.put("weather/2013-01.csv", &job.path("other"));
    let ran = exec(&job, "20130101T000000Z").ended(1);
    let last = ran.json();
    assert_eq!((&last["slices"]["stale"], &last["rows"]["written"]), (&1.into(), &0.into()));
    let said = format!("`{root}/weather/2013-01.csv` was replaced");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    store.put("weather/2013-01.csv", &january);
    if root.starts_with("az://") {
        // There a tag is of the writing, not of the content: what is put again is another object.
        job.run().ended(1);
        job.call("run", &["--replan"]).ended(0);
        assert_eq!(judge::equal(&job), 26_115);
        return;
    }
    loads(&job);
}

/// A server that counts what it gives of one CSV file, a job that reads that, and its size.
pub(crate) fn on_the_web(metrics: &Metrics) -> (Store, Job, u64) {
    let mut web = Store::start(&["http"]);
    let job = Job::metrics(metrics, "");
    let file = job.path("data/metrics.csv");
    web.put("metrics.csv", &file);
    let text = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let address = format!("http://127.0.0.1:{}/metrics.csv", web.port());
    fs::write(job.path("backfill.yaml"), text.replace("data/*", &address)).unwrap();
    (web, job, fs::metadata(file).unwrap().len())
}

/// A slice reads its own bytes alone; and none once the file becomes another while it is read.
#[test]
fn a_slice_reads_its_ranges_of_one_version() {
    if !judge::here("objects::a_slice_reads_its_ranges_of_one_version") {
        return;
    }
    let (mut web, job, size) = on_the_web(&Metrics::new(200_000, 5));
    let file = job.path("data/metrics.csv");
    let plan = job.call("plan", &["-o", "plan.json"]).ended(0);
    let surveyed = web.served();
    assert!(surveyed < size + size / 2, "{surveyed} of {size} were read to plan");
    let plan_file = fs::read_to_string(job.path("plan.json")).unwrap();
    let plan_json: Value = serde_json::from_str(&plan_file).unwrap();
    let slices = plan_json["slices"].as_array().unwrap();
    assert!(slices.len() >= 4, "{}", plan.stdout);
    let id = |i: usize| slices[i]["from"].as_str().unwrap().replace(['-', ':'], "");
    exec(&job, &id(1)).ended(0);
    let slice = web.served();
    assert!(slice < 2 * size / slices.len() as u64 + (512 << 10), "{slice} of {size} for a slice");
    web.ask(&format!("swap 1 metrics.csv {}", file.display()));
    let ran = exec(&job, &id(2)).ended(1);
    let last = ran.json();
    assert_eq!((&last["slices"]["stale"], &last["rows"]["written"]), (&1.into(), &0.into()));
    assert!(ran.stderr.contains("was replaced"), "{}", ran.stderr);
    job.run().ended(1);
    job.call("run", &["--replan"]).ended(0);
    assert_eq!(judge::equal(&job), 200_000);
}

#[test]
fn what_keeps_objects_from_being_read_is_named() {
    if !judge::here("objects::what_keeps_objects_from_being_read_is_named") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::example());
    store.put_all("weather", &job.path("data"));
    let (root, options) = (store.root(), store.options(&job));
    let good = format!("csv: {{ path: \"{root}/weather/*.csv\", null: [NA], {options} }}");
    let port = format!(":{}", store.port());
    let gone = root.replace("archive", "nothere");
    let bucket = if store.azure { "container" } else { "bucket" };
    let cases = [
        ("archive", "nothere", 2, format!("there is no {bucket} `{gone}/`")),
        ("weather/*.csv", "weather/no.csv", 2, format!("no object `{root}/weather/no.csv`")),
        ("weather/*.csv", "weather/*.tsv", 2, "no object matches".into()),
        (&port, ":9", 1, format!("cannot read `{root}/weather/*.csv`")),
        ("127.0.0.1", "192.0.2.1", 2, "without TLS".into()),
    ];
    for (from, to, code, what) in cases {
        spec(&job, &good.replace(from, to), "1mo");
        let ran = job.run().ended(code);
        assert!(ran.stderr.contains(&what), "{what}: {}", ran.stderr);
        assert!(!job.table().exists(), "something was loaded");
    }
    spec(&job, &good, "1mo");
    // As the keys of Azure are written, too.
    let secret = "marker0123456789ofASecret+/a";
    fs::write(job.path("secret"), secret).unwrap();
    let ran = job.call("run", &["-vv"]).ended(2);
    assert!(ran.stderr.contains(&format!("may not read `{root}/weather/")), "{}", ran.stderr);
    let right = if store.azure { "Storage Blob Data Reader" } else { "s3:ListBucket" };
    assert!(ran.stderr.contains(right), "{}", ran.stderr);
    fs::create_dir_all(job.table()).unwrap();
    nowhere(&job, secret, &ran);
}
