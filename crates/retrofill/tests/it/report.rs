//! What a run leaves for people: the report, and those who are told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{self, Receiver};

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};
use serde_json::{Value, json};

use crate::harness::Job;

/// All text of the page as a browser shows it, with one space between words.
fn text(page: &str) -> String {
    let mut emitter = DefaultEmitter::<()>::new_with_span();
    emitter.naively_switch_states(true);
    let mut text = String::new();
    let mut hidden = false;
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => hidden = matches!(tag.name.as_slice(), b"script" | b"style"),
            Token::EndTag(_) => {
                hidden = false;
                text.push(' ');
            }
            Token::String(part) if !hidden => text.push_str(&String::from_utf8_lossy(&part)),
            Token::Error(e) => panic!("the page is not well-formed: {e:?}"),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn grouped(n: &Value) -> String {
    let digits = n.as_u64().unwrap().to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|g| std::str::from_utf8(g).unwrap()).collect::<Vec<_>>().join(",")
}

/// The line of conservation as the page's text has it.
fn equation(rows: &Value) -> String {
    let n = |name: &str| grouped(&rows[name]);
    format!(
        "read {} written = {} updated + {} present + {} conflicts + {} duplicates + {} rejected \
         + {} filtered + {}",
        n("read"),
        n("written"),
        n("updated"),
        n("already_present"),
        n("conflicting"),
        n("duplicate"),
        n("rejected"),
        n("filtered")
    )
}

/// The example with lines that are refused, doubled, or contradict what the table holds.
fn messy() -> Job {
    let job = Job::example();
    job.run().ended(0);
    let file = &job.sources()[4];
    let text = fs::read_to_string(file).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for line in &mut lines[100..107] {
        let mut fields: Vec<_> = line.split(',').collect();
        fields[5] = "11.5";
        *line = fields.join(",");
    }
    lines.push(lines[200].clone());
    lines.push("<script>alert(1)</script>,|x|".into());
    fs::write(file, lines.join("\n") + "\n").unwrap();
    job.respec("every: 1mo", "every: 1w");
    job
}

#[test]
fn the_report_of_a_good_run_says_what_the_summary_says() {
    let job = Job::example();
    let last = job.run().ended(0).json();
    let path = job.path(last["report"].as_str().unwrap());
    assert_eq!(path, job.path(".retrofill/nyc-weather/report.html"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let page = text(&fs::read_to_string(&path).unwrap());
    let rows = equation(&last["rows"]);
    for part in [
        "Verified 12 of 12 slices, 26,115 rows, proven by reading back.",
        "verified through 2014-01-01T00:00:00Z",
        &rows,
        last["digest"].as_str().unwrap(),
        last["plan"].as_str().unwrap(),
    ] {
        assert!(page.contains(part), "`{part}` is missing from\n{page}");
    }
    let made = fs::metadata(&path).unwrap().modified().unwrap();
    let again = job.run().ended(0).json();
    assert_eq!(again["report"], Value::Null);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made, "nothing was to do");
    let printed = job.call("run", &["--summary-file", "s"]).ended(0);
    assert!(!printed.stdout.contains("report  "), "{}", printed.stdout);
}

#[test]
fn rejects_and_conflicts_are_counted_and_shown_and_harmless() {
    let job = messy();
    let ran = job.run().ended(6);
    let last = ran.json();
    let rows = &last["plan_rows"];
    assert_eq!(rows["conflicting"], 7, "{rows}");
    assert_eq!(rows["rejected"], 1);
    assert_eq!(rows["duplicate"], 1);
    let source = fs::read_to_string(job.path(last["report"].as_str().unwrap())).unwrap();
    assert!(!source.contains("<script>alert(1)"));
    let page = text(&source);
    assert!(page.contains(&equation(rows)), "{}\n{page}", equation(rows));
    assert!(page.contains("<script>alert(1)</script>,|x|"), "{page}");
    assert!(page.contains("data/2013-05.csv:2235"), "{page}");

    let report = job.call("report", &["--output", "json"]).ended(0).json();
    assert_eq!(report["v"], 1);
    assert_eq!(&report["plan_rows"], rows);
    assert_eq!(report["slices"], last["slices"]);
    assert_eq!(report["proof"]["digest"], last["digest"]);
    assert_eq!(report["conflicts"]["listed"], 7);
    assert_eq!(report["conflicts"]["first"].as_array().unwrap().len(), 7);
    assert_eq!(report["conflicts"]["first"][0]["key"], json!(["EWR"]));
    assert_eq!(report["rejects"]["by_reason"][0]["rows"], 1);
    let list = report["slice_list"].as_array().unwrap();
    assert_eq!(list.len() as u64, report["slices"]["total"].as_u64().unwrap());
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for slice in list {
        for (name, n) in slice["rows"].as_object().unwrap() {
            *sums.entry(name).or_default() += n.as_u64().unwrap();
        }
    }
    // A line without a time belongs to no slice.
    assert_eq!(sums["read"] + 1, rows["read"].as_u64().unwrap());
    assert_eq!(sums["conflicting"], 7);
}

#[test]
fn a_mismatch_stands_at_the_top() {
    let job = Job::example();
    job.run().ended(0);
    let log = fs::read_dir(job.table()).unwrap();
    let data =
        log.map(|f| f.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "parquet"));
    let data = data.unwrap();
    fs::rename(&data, job.path("aside")).unwrap();
    let mut spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    spec +=
        "notify: [ { command: [sh, -c, 'echo $RETROFILL_EVENT >> told'], on: [mismatched] } ]\n";
    fs::write(job.path("backfill.yaml"), spec).unwrap();
    job.call("verify", &[]).ended(3);
    assert_eq!(fs::read_to_string(job.path("told")).unwrap(), "mismatched\n");
    let said = job.call("report", &["-o", "r.md"]).ended(0);
    assert_eq!(said.stdout.trim(), "r.md");
    let markdown = fs::read_to_string(job.path("r.md")).unwrap();
    assert!(markdown.contains("1 of 12 slices does not hold what was read"), "{markdown}");
    assert!(markdown.contains("### Not done: 1"), "{markdown}");
    assert!(markdown.contains("| mismatched |"), "{markdown}");
    fs::rename(job.path("aside"), &data).unwrap();
    fs::remove_file(job.path("told")).unwrap();
    job.call("run", &["--select", "mismatched"]).ended(0);
    job.call("verify", &[]).ended(0);
    assert!(!job.path("told").exists(), "nothing was found and somebody told");
}

#[test]
fn a_run_that_cannot_be_made_leaves_a_report_that_says_why() {
    let job = Job::example();
    job.run().ended(0);
    fs::remove_dir_all(job.path("data")).unwrap();
    let ran = job.call("run", &[]);
    assert_ne!(ran.code, Some(0));
    let page = text(&fs::read_to_string(job.state().join("report.html")).unwrap());
    assert!(page.contains("The run ended early: "), "{page}");
    assert!(page.contains("Verified 12 of 12 slices"), "{page}");
    assert!(page.contains("no file matches data/*.csv in "), "{page}");
    assert!(page.contains("The last run read 0 written = 0"), "{page}");
    let bad = job.call("report", &["-o", "report.pdf"]).ended(2);
    assert!(bad.stderr.contains(".html, .md or .json"), "{}", bad.stderr);
}

/// What differs from run to run becomes its name.
fn steady(report: &mut Value) {
    let fixed = |value: &mut Value, name: &str| {
        if !value.is_null() {
            *value = json!(format!("[{name}]"));
        }
    };
    fixed(&mut report["made_at"], "time");
    fixed(&mut report["retrofill"], "version");
    fixed(&mut report["plan"]["frozen_at"], "time");
    fixed(&mut report["plan"]["id"], "plan");
    fixed(&mut report["plan"]["spec_hash"], "spec");
    fixed(&mut report["proof"]["digest"], "digest");
    fixed(&mut report["proof"]["salt"], "salt");
    fixed(&mut report["journal"]["head"], "hash");
    for name in ["began", "ended", "seconds", "rows_per_second"] {
        fixed(&mut report["run"][name], name);
    }
    for slice in report["slice_list"].as_array_mut().unwrap() {
        fixed(&mut slice["digest"], "digest");
        fixed(&mut slice["at"], "time");
    }
}

#[test]
fn the_forms_for_machines_and_tickets_are_steady() {
    let job = Job::example();
    job.run().ended(0);
    job.call("report", &["-o", "r.json"]).ended(0);
    let mut report: Value =
        serde_json::from_str(&fs::read_to_string(job.path("r.json")).unwrap()).unwrap();
    let named = [
        (report["proof"]["digest"].clone(), "[digest]"),
        (report["journal"]["head"].clone(), "[hash]"),
        (report["plan"]["id"].clone(), "[plan]"),
        (report["plan"]["spec_hash"].clone(), "[spec]"),
    ];
    steady(&mut report);
    insta::assert_snapshot!("report_json", serde_json::to_string_pretty(&report).unwrap());
    job.call("report", &["-o", "r.md"]).ended(0);
    let mut markdown = fs::read_to_string(job.path("r.md")).unwrap();
    for (value, name) in named {
        markdown = markdown.replace(value.as_str().unwrap(), name);
    }
    let length = markdown.find(" UTC, ").unwrap() + 6;
    let end = length + markdown[length..].find('\n').unwrap();
    let markdown = format!("{}[length]{}", &markdown[..length], &markdown[end..]);
    insta::assert_snapshot!("report_markdown", markdown);
}

/// A server that takes this many requests; gives their bodies.
fn server(answers: &'static [&'static str]) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_lowercase();
                if let Some(n) = line.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            give.send(String::from_utf8(body).unwrap()).unwrap();
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (port, take)
}

/// Every text of a directory and all below it.
fn everything(dir: &std::path::Path, into: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            everything(&path, into);
        } else {
            into.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
        }
    }
}

#[test]
fn those_who_want_to_know_are_told_and_no_address_is_kept() {
    let (good, told) = server(&["500 Oops", "200 OK", "200 OK"]);
    let (bad, _refused) = server(&["404 No", "404 No"]);
    let job = Job::example();
    let spec = fs::read_to_string(job.path("backfill.yaml")).unwrap();
    let notify = format!(
        "notify:\n  - {{ url: \"${{HOOK}}\" }}\n  - {{ url: \"${{UNSET:-}}\" }}\n  \
         - {{ url: \"http://127.0.0.1:{bad}/sesame\" }}\n  \
         - {{ url: \"${{HOOK}}\", on: [mismatched] }}\n  \
         - {{ command: [sh, -c, 'cat > told; echo $RETROFILL_EXIT $RETROFILL_REPORT >> told'] }}\n"
    );
    let with = |job: &Job| fs::write(job.path("backfill.yaml"), format!("{spec}{notify}")).unwrap();
    with(&job);
    let hook = format!("http://127.0.0.1:{good}/sesame");
    let run = |args: &[&str]| -> crate::harness::Ran {
        let mut command = job.command("run", args);
        command.env("HOOK", &hook).env_remove("UNSET");
        command.output().unwrap().into()
    };
    let ran = run(&["--output", "json", "-vvv"]).ended(0);
    let last = ran.json();
    let warning = format!(
        "warning: the webhook at http://127.0.0.1:{bad} was not told: it answered 404 Not Found"
    );
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    let bodies: Vec<Value> =
        told.try_iter().map(|body| serde_json::from_str(&body).unwrap()).collect();
    assert_eq!(bodies.len(), 2, "once, and once more after the error");
    assert_eq!(bodies[1]["summary"], last);
    assert_eq!(bodies[1]["event"], "completed");
    let heard = fs::read_to_string(job.path("told")).unwrap();
    let (line, rest) = heard.split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), last);
    assert_eq!(rest.trim(), format!("0 {}", last["report"].as_str().unwrap()));
    let report = fs::read_to_string(job.state().join("report.html")).unwrap();
    assert!(text(&report).contains(warning.strip_prefix("warning: ").unwrap()));

    let again = run(&[]).ended(0);
    assert_eq!(told.try_iter().count(), 0, "nothing to do is nothing to tell");
    fs::write(&job.sources()[0], "no header of this kind\n").unwrap();
    let failed = run(&["--replan"]);
    assert_ne!(failed.code, Some(0));
    let body: Value = serde_json::from_str(&told.try_iter().next().unwrap()).unwrap();
    assert_eq!(body["event"], "failed");
    assert_eq!(body["summary"]["exit"], failed.code.unwrap());

    let mut kept = String::new();
    everything(&job.state(), &mut kept);
    everything(&job.table(), &mut kept);
    for ran in [&ran, &again, &failed] {
        kept += &ran.stdout;
        kept += &ran.stderr;
    }
    assert!(kept.contains("26115"), "the search sees the texts");
    assert!(!kept.contains("sesame"), "the address of a webhook is kept or shown");
}
