//! The example with the folder that Spark appends to, as it stands.

use super::*;

/// A copy of the example; what was loaded into it in its place is left out.
fn example() -> Job {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/csv-append");
    let job = Job::new(&fs::read_to_string(here.join("backfill.yaml")).unwrap());
    fs::remove_dir(job.path("data")).unwrap();
    copy(&here.join("archive"), &job.path("archive"));
    for folder in ["before", "readings"] {
        fs::create_dir(job.path(folder)).unwrap();
        for file in fs::read_dir(here.join("readings")).unwrap().map(|f| f.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("part-") {
                fs::copy(&file, job.path(folder).join(name)).unwrap();
            }
        }
    }
    job
}

/// The folder holds the live rows, and what they lacked of the archive.
#[track_caller]
fn holds(job: &Job, rows: u64) {
    let (readings, before) = (job.path("readings"), job.path("before"));
    let (readings, before) = (readings.to_str().unwrap(), before.to_str().unwrap());
    let files = [job.path("archive/readings-2024-02.csv")];
    let said = ask(&["equal", "csv", readings, before, "meter,ts", ""], &files);
    assert_eq!(said.trim(), format!("{{\"rows\": {rows}}}"));
}

#[test]
fn run_twice_and_killed_once_the_count_is_the_same() {
    if !here("example::run_twice_and_killed_once_the_count_is_the_same") {
        return;
    }
    let job = example();
    let mut runner = job.start(&[], &[("RETROFILL_HOLD", "commit:2")]);
    assert!(runner.says("held at commit"), "{}", runner.stderr());
    runner.kill();
    let last = job.run().ended(0).json();
    assert_eq!(last["plan_rows"]["written"], 288, "{last}");
    assert_eq!(last["plan_rows"]["already_present"], 35, "{last}");
    assert_eq!(last["plan_rows"]["conflicting"], 1, "{last}");
    holds(&job, 504);
    let ran = job.call("run", &[]).ended(0);
    assert!(ran.stdout.contains("nothing to do"), "{}", ran.stdout);
    holds(&job, 504);
    job.call("verify", &[]).ended(0);
}

#[test]
fn the_screen_is_the_one_in_its_readme() {
    let job = example();
    let ran = job.call("run", &[]).ended(0);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/csv-append/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let line = ran.stdout.lines().find(|l| l.contains("read 324")).unwrap();
    assert!(readme.contains(line), "{}", ran.stdout);
}
