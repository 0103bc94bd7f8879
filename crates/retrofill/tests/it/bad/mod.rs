//! Bad input: what the user sees, and that nothing is lost.
//!
//! A case is some files and a few words of the spec. It is run with the real program; what that
//! says, what it counts and what it lists is a snapshot. In every case the counts must add up, and
//! where rows are told to be in the table, another reader must find exactly these there. A second
//! run must write nothing and end alike.

mod columns;
mod content;
mod encodings;
mod files;
mod moving;
mod packed;
mod times;
mod values;
mod world;

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::harness::{Job, Ran};

/// Characters of a rejected row's text that a snapshot shows.
const SHOWN: usize = 60;

/// Files and a spec.
pub(super) struct Case {
    files: Vec<(String, Vec<u8>)>,
    settings: &'static str,
    transform: &'static str,
    rows: &'static str,
    every: &'static str,
    /// What the table must hold afterwards, as CSV; none where there must be no table.
    good: Option<String>,
}

impl Case {
    /// One file `a.csv`.
    pub(super) fn csv(content: impl AsRef<[u8]>) -> Self {
        Self::nothing().file("a.csv", content)
    }

    /// No file at all.
    pub(super) fn nothing() -> Self {
        let rows = "{ time: t, key: [site] }";
        Case { files: Vec::new(), settings: "", transform: "", rows, every: "1d", good: None }
    }

    /// One file more in `data`.
    pub(super) fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.into(), content.as_ref().to_owned()));
        self
    }

    /// More settings of `csv`.
    pub(super) fn with(self, settings: &'static str) -> Self {
        Case { settings, ..self }
    }

    /// SQL before anything else.
    pub(super) fn transform(self, transform: &'static str) -> Self {
        Case { transform, ..self }
    }

    /// Another `rows`.
    pub(super) fn rows(self, rows: &'static str) -> Self {
        Case { rows, ..self }
    }

    /// Other slices.
    pub(super) fn every(self, every: &'static str) -> Self {
        Case { every, ..self }
    }

    /// What the table must hold afterwards, as plain CSV in UTF-8.
    pub(super) fn loads(self, good: impl Into<String>) -> Self {
        Case { good: Some(good.into()), ..self }
    }

    /// The job, ready to run.
    pub(super) fn job(&self) -> Job {
        let settings = match self.settings {
            "" => String::new(),
            more => format!(", {more}"),
        };
        let path = if settings.contains("path: ") { "" } else { "path: \"data/*\"" };
        let settings = if path.is_empty() { settings.replacen(", ", "", 1) } else { settings };
        let transform = match self.transform {
            "" => String::new(),
            sql => format!("transform: |\n  {sql}\n"),
        };
        let job = Job::new(&format!(
            "name: bad\nsource: {{ csv: {{ {path}{settings} }} }}\n{transform}\
             target: {{ delta: {{ path: ./out }} }}\nrows: {}\nrange: {{ every: {} }}\n",
            self.rows, self.every
        ));
        for (name, content) in &self.files {
            fs::write(job.path("data").join(name), content).unwrap();
        }
        job
    }

    /// Runs it twice, holds it against what it loads, and gives what there is to see.
    #[track_caller]
    pub(super) fn seen(&self) -> String {
        let job = self.job();
        let ran = job.run();
        let seen = seen(&job, &ran);
        let again = job.run();
        assert_eq!(ran.code, again.code, "{}", again.stderr);
        match &self.good {
            None => assert!(!job.table().exists(), "there is a table: {seen}"),
            Some(good) => {
                assert_eq!(again.json()["rows"]["written"], 0);
                job.holds(good);
            }
        }
        seen
    }
}

/// What a run showed: exit code, standard error, counts, rejects. Checks that the counts add up.
#[track_caller]
pub(super) fn seen(job: &Job, ran: &Ran) -> String {
    let mut out = format!("exit {}\n", ran.code.unwrap());
    let dir = job.dir.path().to_str().unwrap();
    for line in ran.stderr.lines() {
        writeln!(out, "{}", line.replace(dir, "DIR")).unwrap();
    }
    let last: Value = match ran.stdout.lines().last() {
        Some(line) => serde_json::from_str(line).unwrap(),
        None => return out,
    };
    let Some(rows) = last["rows"].as_object() else {
        assert_eq!(last["exit"].as_i64(), ran.code.map(i64::from), "{last}");
        return out;
    };
    let count = |name: &str| rows[name].as_u64().unwrap();
    let ends = rows.keys().filter(|k| *k != "read").map(|k| count(k)).sum::<u64>();
    assert_eq!(count("read"), ends, "rows vanished: {last}");
    let counts = rows.keys().filter(|k| count(k) > 0).map(|k| format!("{k} {}", count(k)));
    writeln!(out, "{}", counts.collect::<Vec<_>>().join(", ")).unwrap();
    for reject in rejects(job) {
        let place = &reject["place"];
        let (file, line) = (place["file"].as_str().unwrap(), &place["line"]);
        let column = reject["column"].as_str().map_or(String::new(), |c| format!(" `{c}`"));
        let (reason, text) = (reject["reason"].as_str().unwrap(), short(&reject["text"]));
        writeln!(out, "{file}:{line} byte {}{column}: {reason}", place["offset"]).unwrap();
        writeln!(out, "    {text}").unwrap();
    }
    out
}

/// All rejects in the order of the source.
fn rejects(job: &Job) -> Vec<Value> {
    let Ok(lists) = fs::read_dir(job.state().join("rejects")) else { return Vec::new() };
    let texts = lists.map(|f| fs::read_to_string(f.unwrap().path()).unwrap());
    let mut found = Vec::new();
    for line in texts.collect::<String>().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if entry["kind"] == "reject_v1" {
            found.push(entry);
        }
    }
    let place = |r: &Value| (r["place"]["file"].to_string(), r["place"]["offset"].as_u64());
    found.sort_by_key(place);
    found
}

fn short(text: &Value) -> String {
    let text = text.as_str().unwrap();
    let start: String = text.chars().take(SHOWN).collect();
    let more = text.len() - start.len();
    if more == 0 { format!("{start:?}") } else { format!("{start:?} and {more} bytes more") }
}

/// One test per case, and a snapshot of what is seen.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        $(#[test]
        fn $name() {
            let seen = $case.seen();
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(seen); });
        })*
    };
}

use cases;
