//! Checksums of the pages of Parquet files: another program writes them, and another one judges.

use std::fs;
use std::path::Path;
use std::process::Command;

use xtask::python;

use crate::harness::{Job, Ran};
use crate::judge;
use crate::objects::Store;

const SPEC: &str = "\
name: pages
source: { parquet: { path: \"data/*.parquet\", without: [tags] } }
target: { delta: { path: ./out } }
transform: SELECT t, site, used FROM source
rows: { time: t, key: [site] }
range: { every: 1mo }
";

fn script(args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pages.py");
    let mut command = Command::new(python::found().expect("the test looked for it"));
    Ran::from(command.arg(script).args(args).output().unwrap()).ended(0).stdout
}

/// Writes a file of the job; gives the rows that it adds to the table, as CSV.
fn write(job: &Job, name: &str, first: &str, (sums, time): (&str, &str)) -> String {
    let path = job.path("data").join(name);
    script(&["write", path.to_str().unwrap(), first, sums, time])
}

/// Damages a value of a file of the job; tells whether another reader sees it.
fn flip(job: &Job, name: &str, group: &str, column: &str) -> bool {
    let path = job.path("data").join(name);
    script(&["flip", path.to_str().unwrap(), group, column]).trim() == "seen"
}

fn both(a: &str, b: &str) -> String {
    let (_, rows) = b.split_once('\n').unwrap();
    a.to_owned() + rows
}

/// A damaged page of a column that is used, or of one that is not, ends the plan before a row of
/// any file is written, also into a table that has rows.
#[test]
fn a_damaged_page_is_named_and_nothing_is_loaded() {
    if !judge::here("pages::a_damaged_page_is_named_and_nothing_is_loaded") {
        return;
    }
    for (group, column) in [("1", "used"), ("2", "unused")] {
        let job = Job::new(SPEC);
        let a = write(&job, "a.parquet", "2024-01-01", ("sums", "time"));
        job.run().ended(0);
        job.holds(&a);
        let b = write(&job, "b.parquet", "2024-06-01", ("sums", "time"));
        let whole = fs::read(job.path("data/b.parquet")).unwrap();
        assert!(flip(&job, "b.parquet", group, column), "pyarrow does not see the damage");
        let before = job.files();
        for command in ["plan", "run"] {
            let ran = job.call(command, &[]).ended(2);
            let place = format!("column `{column}`, row group {group}, page ");
            for text in ["error: `data/b.parquet` is damaged", &place, "nothing of it was loaded"] {
                assert!(ran.stderr.contains(text), "{command}: {}", ran.stderr);
            }
        }
        assert_eq!(before, job.files());
        job.holds(&a);
        fs::write(job.path("data/b.parquet"), whole).unwrap();
        job.run().ended(0);
        job.holds(&both(&a, &b));
        job.nothing_to_do();
    }
}

/// Times that are text are looked at before all others.
#[test]
fn a_damaged_page_of_the_first_times_is_named() {
    if !judge::here("pages::a_damaged_page_of_the_first_times_is_named") {
        return;
    }
    let job = Job::new(SPEC);
    let rows = write(&job, "a.parquet", "2024-01-01", ("sums", "text"));
    let whole = fs::read(job.path("data/a.parquet")).unwrap();
    assert!(flip(&job, "a.parquet", "0", "t"), "pyarrow does not see the damage");
    let ran = job.run().ended(2);
    assert!(ran.stderr.contains("column `t`, row group 0, page "), "{}", ran.stderr);
    assert!(!job.table().exists(), "something was loaded");
    fs::write(job.path("data/a.parquet"), whole).unwrap();
    job.run().ended(0);
    job.holds(&rows);
}

/// A column whose values no target keeps ends the plan, unless it is left out.
#[test]
fn a_column_that_no_target_keeps_must_be_left_out() {
    if !judge::here("pages::a_column_that_no_target_keeps_must_be_left_out") {
        return;
    }
    let job = Job::new(SPEC);
    write(&job, "a.parquet", "2024-01-01", ("sums", "time"));
    for (list, told) in [
        ("", ["column `tags` is of type List", "leave them out: `without: [tags]`"]),
        ("tag", ["`without` names `tag`, which is no column", "did you mean `tags`?"]),
    ] {
        let spec = SPEC.replace("without: [tags]", &format!("without: [{list}]"));
        fs::write(job.path("backfill.yaml"), spec).unwrap();
        job.run().refused(2, &told);
    }
    assert!(!job.table().exists(), "something was loaded");
}

/// What the others prove: the damage is one that no reader finds without a checksum.
#[test]
fn without_checksums_a_value_is_what_the_file_says() {
    if !judge::here("pages::without_checksums_a_value_is_what_the_file_says") {
        return;
    }
    let job = Job::new(SPEC);
    let rows = write(&job, "a.parquet", "2024-01-01", ("none", "time"));
    assert!(!flip(&job, "a.parquet", "2", "used"), "pyarrow sees damage");
    job.run().ended(0);
    let last = rows.trim_end().rsplit_once(',').unwrap();
    let value: i64 = last.1.parse().unwrap();
    job.holds(&format!("{},{}\n", last.0, value ^ 1));
}

/// The bytes of an object are compared as they come, also those of columns that are not asked for.
#[test]
fn a_damaged_page_in_a_store_is_named() {
    if !judge::here("pages::a_damaged_page_in_a_store_is_named") {
        return;
    }
    let (mut store, job) = (Store::listed(), Job::new(SPEC));
    let rows = write(&job, "a.parquet", "2024-01-01", ("sums", "time"));
    let file = job.path("data/a.parquet");
    store.put("a.parquet", &file);
    let path = format!("\"{}/*.parquet\", {}", store.root(), store.options(&job));
    fs::write(job.path("backfill.yaml"), SPEC.replace("\"data/*.parquet\"", &path)).unwrap();
    let whole = fs::read(&file).unwrap();
    assert!(flip(&job, "a.parquet", "1", "unused"), "pyarrow does not see the damage");
    store.put("a.parquet", &file);
    let ran = job.run().ended(2);
    let said = format!("`{}/a.parquet` is damaged", store.root());
    for text in [&said[..], "column `unused`, row group 1, page "] {
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert!(!job.table().exists(), "something was loaded");
    fs::write(&file, whole).unwrap();
    store.put("a.parquet", &file);
    job.run().ended(0);
    job.holds(&rows);
}
