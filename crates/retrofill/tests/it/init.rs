//! `init` on files of known truth: the spec that it writes, run as it is, proves all rows.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::{Job, Ran};

/// Runs the program in a job's directory.
fn retrofill(job: &Job, args: &[&str]) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_retrofill"));
    program.args(args).current_dir(job.dir.path()).stdin(Stdio::null());
    program.output().unwrap().into()
}

/// A directory with one file and no spec.
fn with(name: &str, content: &[u8]) -> Job {
    let job = Job::new("");
    fs::remove_file(job.path("backfill.yaml")).unwrap();
    fs::write(job.path("data").join(name), content).unwrap();
    job
}

/// `init` and `run` unedited; the table then holds exactly these rows.
#[track_caller]
fn proves(name: &str, content: impl AsRef<[u8]>, more: &[&str], good: &str) -> String {
    let job = with(name, content.as_ref());
    let source = format!("csv:data/{name}");
    let init = [&["init", &source, "delta:./out"], more].concat();
    let said = retrofill(&job, &init).ended(0).stdout;
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let last = job.run().ended(0).json();
    let rows = good.lines().count() as u64 - 1;
    assert_eq!((&last["rows"]["read"], &last["rows"]["written"]), (&rows.into(), &rows.into()));
    assert_eq!((&last["status"], &last["rows"]["rejected"]), (&"verified".into(), &0.into()));
    job.holds(good);
    job.nothing_to_do();
    format!("{said}\n{spec}")
}

/// `days` days from 2020-03-01 with the hour `h`, by their number, day of the month and month.
fn days(row: impl Fn(i64, u32, u32) -> String) -> String {
    (0..40).map(|i| row(i, i as u32 % 31 + 1, 3 + i as u32 / 31)).collect()
}

#[test]
fn epoch_milliseconds_of_two_hosts() {
    let start = 1_583_020_800_000_i64;
    let row = |i: i64, host: &str| (start + i * 3_600_000, format!("{host},{}.5", i % 7));
    let hosts = ["web-1", "web-2"];
    let (mut text, mut good) = (String::new(), String::new());
    for (t, rest) in (0..100).flat_map(|i| hosts.map(|host| row(i, host))) {
        writeln!(text, "{t},{rest}").unwrap();
        writeln!(good, "{},{rest}", jiff::Timestamp::from_millisecond(t).unwrap()).unwrap();
    }
    let heads = "ts,host,load\n";
    let said = proves("a.csv", format!("{heads}{text}"), &[], &format!("{heads}{good}"));
    assert!(said.contains("epoch milliseconds") && said.contains("key: [\"host\"]"), "{said}");
}

#[test]
fn semicolons_and_decimal_commas() {
    let text = days(|i, d, m| format!("{d:02}.{m:02}.2020 14:00;Zähler {};{},25\n", i % 2, i));
    let good = days(|i, d, m| format!("2020-{m:02}-{d:02} 14:00,Zähler {},{}.25\n", i % 2, i));
    let text = format!("Zeit;Anlage;kWh\n{text}");
    let said = proves("a.csv", text, &[], &format!("Zeit,Anlage,kWh\n{good}"));
    assert!(said.contains("decimal: \",\"") && said.contains("%d.%m.%Y %H:%M"), "{said}");
}

#[test]
fn local_times_are_read_as_utc_unless_their_zone_is_given() {
    let row = |i: i64, d, m, hour: &str| format!("2020-{m:02}-{d:02} {hour}:30,{i}\n");
    let text = format!("time,v\n{}", days(|i, d, m| row(i, d, m, "12")));
    let said = proves("a.csv", &text, &[], &text);
    assert!(said.contains("read as UTC; if they are local times"), "{said}");
    // Clocks were set forward on the 29th.
    let hour = |d: u32, m: u32| if m > 3 || d >= 29 { "10" } else { "11" };
    let good = format!("time,v\n{}", days(|i, d, m| row(i, d, m, hour(d, m))));
    let said = proves("a.csv", &text, &["--timezone", "Europe/Berlin"], &good);
    assert!(said.contains("timezone: \"Europe/Berlin\""), "{said}");
}

#[test]
fn one_series() {
    let text = days(|i, d, m| format!("2020-{m:02}-{d:02}T00:00:00Z,{i}\n"));
    let text = format!("t,v\n{text}");
    assert!(proves("a.csv", &text, &[], &text).contains("key: []"));
}

#[test]
fn dates_only() {
    let text = days(|i, d, m| {
        let row = |site| format!("2020-{m:02}-{d:02},{site},{i}\n");
        row("north") + &row("south")
    });
    let text = format!("date,site,mm\n{text}");
    let said = proves("a.csv", &text, &[], &text);
    assert!(said.contains("dates") && said.contains("key: [\"site\"]"), "{said}");
}

#[test]
fn words_for_null() {
    let line = |word: &str, none: &str| {
        days(|i, d, m| {
            let v = if i % 5 == 3 { word.to_owned() } else { format!("{i}.5") };
            let n = if i % 7 == 2 { none.to_owned() } else { i.to_string() };
            format!("2020-{m:02}-{d:02}T06:00:00+01:00,{v},{n}\n")
        })
    };
    let heads = "t,v,n\n";
    let (text, good) = (line("NA", "-"), line("", ""));
    let said = proves("a.csv", format!("{heads}{text}"), &[], &format!("{heads}{good}"));
    assert!(said.contains("null: [\"NA\", \"-\"]"), "{said}");
}

#[test]
fn gzip_without_its_ending() {
    let text = days(|i, d, m| format!("2020-{m:02}-{d:02}T00:00:00Z,\"a, {i}\",true\n"));
    let text = format!("t,what,ok\n{text}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let said = proves("a.csv", packed.finish().unwrap(), &[], &text);
    assert!(said.contains("compression: gzip"), "{said}");
}

#[test]
fn tabs_and_no_header() {
    let text = days(|i, d, m| format!("m{}\t2020/{m:02}/{d:02} 01:02:03\t{i}\n", i % 3));
    let good = days(|i, d, m| format!("m{},2020-{m:02}-{d:02} 01:02:03,{i}\n", i % 3));
    let said = proves("a.txt", text, &[], &format!("column_1,column_2,column_3\n{good}"));
    assert!(said.contains("header: false") && said.contains("delimiter: \"\\t\""), "{said}");
}

#[test]
fn a_spec_is_never_written_over() {
    let job = with("a.csv", b"t,v\n2020-01-01,1\n2020-01-02,2\n");
    fs::write(job.path("backfill.yaml"), "mine").unwrap();
    let args = ["init", "data/*.csv", "delta:./out"];
    let ran = retrofill(&job, &args).ended(2);
    assert!(ran.stderr.contains("`backfill.yaml` is there already"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(job.path("backfill.yaml")).unwrap(), "mine");
    retrofill(&job, &[&args[..], &["--force"]].concat()).ended(0);
    fs::create_dir(job.path("jobs")).unwrap();
    retrofill(&job, &[&args[..], &["-o", "jobs/b.yaml", "--sample", "1"]].concat()).ended(0);
    let spec = fs::read_to_string(job.path("jobs/b.yaml")).unwrap();
    assert!(spec.contains("path: \"../data/*.csv\"") && spec.contains("delta:../out"), "{spec}");
    let ran = retrofill(&job, &["init", "data/*.csv", "./out", "-o", "c.yaml"]).ended(2);
    assert!(ran.stderr.contains("`target` does not tell what it is"), "{}", ran.stderr);
    assert!(!job.path("c.yaml").exists());
}
