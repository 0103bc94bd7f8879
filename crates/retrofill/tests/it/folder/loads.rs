//! What goes in comes out, in every format.

use super::*;

#[test]
fn a_folder_that_others_began_is_filled() {
    if !here("loads::a_folder_that_others_began_is_filled") {
        return;
    }
    for format in FORMATS {
        let job = begun(format, "");
        job.call("check", &["--connect"]).ended(0);
        let last = job.run().ended(0).json();
        let rows = &last["rows"];
        assert_eq!(rows["read"], 26_115, "{format}: {last}");
        let (written, present) = (&rows["written"], rows["already_present"].as_u64().unwrap());
        assert_eq!(written.as_u64().unwrap() + present, 26_115, "{format}: {last}");
        assert!(present > 13_000, "{format}: {last}");
        assert_eq!(equal(&job, format), 26_115, "{format}");
        // July to December hold nothing that is missing, but the row that July begins with.
        assert!((6..=7).contains(&ours(&job).len()), "{format}: {:?}", ours(&job));
        no_litter(&job);
        job.nothing_to_do();
        job.call("verify", &[]).ended(0);
        // The ledger is lost: the receipts tell.
        fs::remove_dir_all(job.path(".retrofill")).unwrap();
        let again = job.run().ended(0).json();
        assert_eq!((&again["rows"]["read"], &again["plan"]), (&0.into(), &last["plan"]));
        let gaps = job.call("gaps", &["--output", "json"]).ended(0).json();
        assert_eq!(gaps["fillable"]["rows"], 0, "{format}: {gaps}");
    }
}

#[test]
fn gaps_and_plans_write_nothing() {
    if !here("loads::gaps_and_plans_write_nothing") {
        return;
    }
    let job = begun("csv", "");
    let before = job.files();
    let gaps = job.call("gaps", &["--output", "json"]).ended(0).json();
    let missing = gaps["fillable"]["rows"].as_u64().unwrap();
    assert!((12_000..13_100).contains(&missing), "{gaps}");
    let plan = job.call("plan", &[]).ended(0);
    assert!(plan.stdout.contains("CSV files ./out"), "{}", plan.stdout);
    job.call("check", &["--connect"]).ended(0);
    assert_eq!(job.files(), before);
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], missing);
}

#[test]
fn every_type_and_awkward_texts_come_back_exactly() {
    if !here("loads::every_type_and_awkward_texts_come_back_exactly") {
        return;
    }
    for format in FORMATS {
        let spec = format!(
            "source: {{ parquet: {{ path: all.parquet }} }}\n\
             target: {{ files: {{ path: ./out, format: {format} }} }}\n\
             rows: {{ time: ts, key: [k] }}\nrange: {{ every: 1d }}\n"
        );
        let job = Job::new(&spec);
        let file = job.path("all.parquet");
        ask(&["source", file.to_str().unwrap()], &[]);
        let last = job.run().ended(0).json();
        assert_eq!(last["rows"]["written"], 200, "{format}: {last}");
        ask(&["same", format, job.table().to_str().unwrap(), file.to_str().unwrap()], &[]);
        job.nothing_to_do();
    }
}

#[test]
fn what_text_cannot_keep_is_refused() {
    let job = Job::new(
        "source: { csv: { path: \"data/*.csv\", types: { b: bytes } } }\n\
         target: files:out\nrows: { time: t, key: [site] }\n",
    );
    fs::write(job.path("data/a.csv"), "t,site,b\n2020-01-01T00:00:00Z,a,\\x00ff\n").unwrap();
    let ran = job.run().ended(2);
    assert!(ran.stderr.contains("column `b`") && ran.stderr.contains("bytes"), "{}", ran.stderr);
    assert!(!job.table().exists(), "{:?}", job.files());
}

/// A small job with rows by the day, into a folder with this file.
fn small(live: &str, source: &str, more: &str) -> Job {
    let job = Job::new(&format!(
        "name: small\nsource: {{ csv: {{ path: \"data/*.csv\" }} }}\n\
         target: {{ files: {{ path: ./out }} }}\nrange: {{ every: 1d }}\n{more}\n"
    ));
    fs::write(job.path("data/a.csv"), source).unwrap();
    fs::create_dir(job.table()).unwrap();
    fs::write(job.path("out/part-0.csv"), live).unwrap();
    job
}

const KEYED: &str = "rows: { time: t, key: [site] }";

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn files_are_like_those_that_are_there() {
    for (live, source, want) in [
        // The order of columns, one that the source lacks, and wider numbers.
        (
            "v,t,site,extra\n0.5,2020-01-01T06:00:00.000Z,a,x\n",
            "t,site,v\n2020-01-02T06:00:00Z,a,7\n",
            "v,t,site,extra\n7.0,2020-01-02T06:00:00Z,a,\n",
        ),
        // Times without a zone, and texts where the source has numbers.
        (
            "t,site,v\n2020-01-01 06:00:00,a,low\n",
            "t,site,v\n2020-01-02T06:00:00Z,a,7\n",
            "t,site,v\n2020-01-02 06:00:00,a,7\n",
        ),
        ("t,site,v\n2020-01-01,a,1\n", "t,site,v\n2020-01-02,a,7\n", "t,site,v\n2020-01-02,a,7\n"),
        (
            "t,site,v\n1577858400000,a,1\n",
            "t,site,v\n2020-01-02T06:00:00Z,a,7\n",
            "t,site,v\n1577944800000,a,7\n",
        ),
    ] {
        let job = small(live, source, KEYED);
        job.run().ended(0);
        assert_eq!(text_of(&ours(&job)[0]), want);
        assert_eq!(text_of(&job.path("out/part-0.csv")), live);
        job.nothing_to_do();
        job.call("verify", &[]).ended(0);
    }
}

#[test]
fn packed_files_of_others_are_read() {
    let job = small(
        "t,site,v\n2020-01-02T06:00:00Z,a,2\n2020-01-01T06:00:00Z,a,1\n",
        "t,site,v\n2020-01-01T06:00:00Z,a,1\n2020-01-02T06:00:00Z,a,2\n2020-01-02T07:00:00Z,a,4\n",
        KEYED,
    );
    let packed = Command::new("gzip").arg(job.path("out/part-0.csv")).status().unwrap();
    assert!(packed.success());
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["already_present"], 2, "{last}");
    assert!(ours(&job)[0].to_str().unwrap().ends_with("-1.csv"), "{:?}", ours(&job));
    no_litter(&job);
    job.nothing_to_do();
}

#[test]
fn live_rows_win_and_conflicts_are_listed() {
    let job = small(
        "t,site,v\n2020-01-01T06:00:00Z,a,1\n2020-01-02T06:00:00Z,a,2\n",
        "t,site,v\n2020-01-01T06:00:00Z,a,1\n2020-01-02T06:00:00Z,a,3\n2020-01-02T07:00:00Z,a,4\n",
        KEYED,
    );
    let last = job.run().ended(0).json();
    let rows = &last["rows"];
    assert_eq!(rows["already_present"], 1, "{last}");
    assert_eq!((&rows["conflicting"], &rows["written"]), (&1.into(), &1.into()), "{last}");
    assert_eq!(ours(&job).len(), 1);
    assert_eq!(text_of(&ours(&job)[0]), "t,site,v\n2020-01-02T07:00:00Z,a,4\n");
    // What it added goes again, and nothing else.
    job.call("undo", &["20200102T000000Z", "--yes"]).ended(0);
    assert_eq!(ours(&job).len(), 0);
    assert!(text_of(&job.path("out/part-0.csv")).contains(",2\n"));
}

#[test]
fn appending_twice_writes_once() {
    let rows = "t,v\n2020-01-01T06:00:00Z,1\n2020-01-01T06:00:00Z,1\n2020-01-02T06:00:00Z,2\n";
    let job = small("t,v\n2020-01-01T06:00:00Z,1\n", rows, "rows: { time: t }");
    let last = job.run().ended(0).json();
    assert_eq!(last["rows"]["written"], 3, "{last}");
    job.nothing_to_do();
    // Another plan of the same rows.
    let text = text_of(&job.path("backfill.yaml")).replace("1d", "2d");
    fs::write(job.path("other.yaml"), text).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(["run", "other.yaml"]).args(["--state-dir", "other"]).current_dir(job.dir.path());
    let ran = Ran::from(program.output().unwrap()).ended(2);
    assert!(ran.stderr.contains("was loaded already by plan"), "{}", ran.stderr);
    assert_eq!(ours(&job).len(), 2);
}

#[test]
fn what_cannot_be_added_to_says_so() {
    let source = "t,site,v\n2020-01-01T06:00:00Z,a,1\n";
    for (name, content, why) in [
        ("x.parquet", "PAR1", "no csv file by its name"),
        ("y/part-0.csv", source, "has a folder `y` inside"),
        ("x.csv", "t,site\n2020-01-01T06:00:00Z,a\n", "has no column `v`"),
        ("x.csv", "t,site,v\n2020-01-01T06:00:00Z,\"a\"b,1\n", "1 lines that are no rows"),
        ("x.csv", "when,site,v\n2020-01-01T06:00:00Z,a,1\n", "has no column `t`"),
    ] {
        let job = small("", source, KEYED);
        let path = job.path(&format!("out/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let ran = job.run().ended(2);
        assert!(ran.stderr.contains(why), "{name}: {}", ran.stderr);
        assert_eq!(ours(&job).len(), 0);
    }
    let job = small("", source, &format!("{KEYED}\nwrite: {{ mode: upsert }}"));
    let ran = job.run().ended(2);
    assert!(ran.stderr.contains("mode upsert"), "{}", ran.stderr);
}
