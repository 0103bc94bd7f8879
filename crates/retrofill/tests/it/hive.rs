//! Files whose directories are columns: other programs lay them out, and another one compares.

use std::fmt::Write as _;
use std::fs;

use crate::harness::{Job, Ran};
use crate::judge::{self, judge};

/// Hours for which there is a row of each place and level.
const HOURS: u32 = 300;
/// Every place needs another thing to be read: escapes, another script, NULL.
const PLACES: [&str; 4] = ["a/b c", "ä=%:1", "", "plain"];

/// All rows; place and level stand in the paths.
fn rows() -> String {
    let mut text = "t,v,place,level\n".to_owned();
    // No order of time: what cannot be read slice by slice is sorted.
    for n in (0..HOURS).map(|i| i * 77 % HOURS) {
        for (level, place) in PLACES.iter().enumerate() {
            let (day, hour) = (n / 24 + 1, n % 24);
            writeln!(text, "2020-01-{day:02}T{hour:02}:00:00Z,{n}.5,{place},{level}").unwrap();
        }
    }
    text
}

/// Those rows, laid out in `lake/`, and a spec with these settings of the source.
fn laid_out(kind: &str, more: &str) -> Job {
    let source = kind.trim_end_matches(".gz");
    let job = Job::new(&format!(
        "name: lake\nsource: {{ {source}: {{ path: \"lake/**/*.{kind}\"{more} }} }}\n\
         target: delta:out\nrows: {{ time: t, key: [level] }}\nrange: {{ every: 1d }}\n"
    ));
    fs::write(job.path("data/all.csv"), rows()).unwrap();
    let (to, from) = (job.path("lake"), job.path("data/all.csv"));
    let mut spread = judge(&["spread", to.to_str().unwrap(), kind, from.to_str().unwrap()]);
    Ran::from(spread.output().unwrap()).ended(0);
    job
}

#[test]
fn directories_become_columns() {
    if !judge::here("hive::directories_become_columns") {
        return;
    }
    for kind in ["parquet", "csv", "csv.gz", "ndjson"] {
        let more = if kind == "csv" { "" } else { ", types: { v: float64 }" };
        let job = laid_out(kind, more);
        let plan = job.call("plan", &[]).ended(0).stdout;
        assert!(plan.contains("`place`, `level` are columns by the directories"), "{plan}");
        let last = job.run().ended(0).json();
        assert_eq!(last["rows"]["written"], HOURS * 4, "{kind}: {last}");
        assert_eq!(judge::equal(&job), u64::from(HOURS) * 4, "{kind}");
        let types = &judge::ask(&job, "types", &[])[0];
        assert_eq!((&types["level"], &types["place"]), (&"int64".into(), &"string".into()));
        job.call("verify", &["--level", "rows"]).ended(0);
        job.nothing_to_do();
        // The same bytes in another directory are other rows.
        let (from, to) =
            (job.path("lake/place=plain/level=3"), job.path("lake/place=plain/level=9"));
        fs::rename(from, to).unwrap();
        let last = job.call("run", &["--replan", "--output", "json"]).ended(0).json();
        assert_eq!(last["rows"]["written"], HOURS, "{kind}: {last}");
    }
}

/// What a transform makes of them, and a time that is one of them.
#[test]
fn directories_are_times_and_part_of_transforms() {
    if !judge::here("hive::directories_are_times_and_part_of_transforms") {
        return;
    }
    for kind in ["csv", "parquet"] {
        let job = laid_out(kind, ", types: { v: float64 }");
        let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        let sql = "SELECT t, level * 10 AS level, place FROM source WHERE place <> 'plain'";
        fs::write(job.path("backfill.yaml"), format!("{spec}transform: |\n  {sql}\n")).unwrap();
        let last = job.run().ended(0).json();
        // Of no place it cannot be said that it is another.
        assert_eq!(last["rows"]["written"], HOURS * 2, "{kind}: {last}");
        let all = job.path("data/all.csv");
        let typed = sql.replace("level *", "CAST(level AS BIGINT) *");
        judge::ask(&job, "sql", &[&typed, all.to_str().unwrap()]);
    }
    for kind in ["csv", "parquet"] {
        let job = Job::new(&format!(
            "name: days\nsource: \"{kind}:lake/**/*.{kind}\"\ntarget: delta:out\n\
             rows: {{ time: day, key: [site] }}\nrange: {{ every: 1mo }}\n"
        ));
        let mut text = "site,v,place,day\n".to_owned();
        for day in 1..=28 {
            writeln!(text, "a,{day},x,2020-02-{day:02}\nb,-{day},x,2020-02-{day:02}").unwrap();
        }
        fs::write(job.path("data/all.csv"), &text).unwrap();
        for day in 1..=28 {
            let dir = job.path(&format!("lake/place=x/day=2020-02-{day:02}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("a.csv"), format!("site,v\na,{day}\nb,-{day}\n")).unwrap();
            if kind == "parquet" {
                let program = "import sys, duckdb; path = sys.argv[1]; duckdb.sql(f\"COPY (FROM \
                               read_csv('{path}', hive_partitioning = false)) TO \
                               '{path[:-3]}parquet'\")";
                let python = xtask::python::found().unwrap();
                let mut made = std::process::Command::new(python);
                made.args(["-c", program]).arg(dir.join("a.csv"));
                Ran::from(made.output().unwrap()).ended(0);
            }
        }
        let last = job.run().ended(0).json();
        assert_eq!(last["rows"]["written"], 56, "{kind}: {last}");
        assert_eq!(judge::equal(&job), 56, "{kind}");
    }
}

#[test]
fn files_that_differ_and_names_that_clash_are_named() {
    if !judge::here("hive::files_that_differ_and_names_that_clash_are_named") {
        return;
    }
    for kind in ["csv", "parquet"] {
        let job = laid_out(kind, ", types: { v: float64 }");
        let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
        let refused = |what: &[&str]| {
            let ran = job.run().ended(2);
            for what in what {
                assert!(ran.stderr.contains(what), "{what}: {}", ran.stderr);
            }
            assert!(!job.table().exists(), "something was loaded");
        };
        let plain = job.path("lake/place=plain/level=3");
        let file = fs::read_dir(&plain).unwrap().next().unwrap().unwrap().path();
        let moved = job.path(&format!("lake/b.{kind}"));
        fs::rename(&file, &moved).unwrap();
        refused(&["lies in other directories", &format!("`lake/b.{kind}`"), "schema: union"]);
        // A level that is missing is NULL, and a key cannot be that.
        let union = spec.replace("types:", "schema: union, types:");
        fs::write(job.path("backfill.yaml"), format!("{union}rejects: {{ max: 300 }}\n")).unwrap();
        let last = job.run().ended(0).json();
        let (written, rejected) = (&last["rows"]["written"], &last["rows"]["rejected"]);
        assert_eq!((written, rejected), (&(HOURS * 3).into(), &HOURS.into()), "{last}");
        fs::remove_dir_all(job.table()).unwrap();
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
        fs::write(job.path("backfill.yaml"), &spec).unwrap();

        fs::rename(&moved, &file).unwrap();
        let clash = job.path("lake/v=1");
        fs::rename(job.path("lake"), job.path("old")).unwrap();
        fs::create_dir(job.path("lake")).unwrap();
        fs::rename(job.path("old"), &clash).unwrap();
        refused(&["has a column `v`, and lies in a directory `v=..`", "hive: false"]);
        let off = spec.replace("types:", "hive: false, types:").replace("key: [level]", "key: [v]");
        fs::write(job.path("backfill.yaml"), off).unwrap();
        let last = job.run().ended(0).json();
        // The same hour and value in four files: nothing tells these rows apart any more.
        let (written, doubled) = (&last["rows"]["written"], &last["rows"]["duplicate"]);
        assert_eq!((written, doubled), (&HOURS.into(), &(HOURS * 3).into()), "{last}");
    }
}
