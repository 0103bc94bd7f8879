//! What the guide says to type works.
//!
//! Blocks of `yaml` that are specs, or parts of one, pass `check`. Lines of `sh` blocks that call
//! `retrofill` are run, page by page, in a directory with the example; they end with 0, or with N
//! where their comment says `exit N`. A block that begins with three backticks and `sh manual` is
//! for the reader alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Job, Ran};

/// A part of a spec is put into this one.
const SPEC: &[(&str, &str)] = &[
    ("source", "source: { csv: { path: \"data/*.csv\", null: [\"NA\"] } }"),
    ("target", "target: { delta: { path: ./out } }"),
    ("rows", "rows: { time: time_hour, key: [origin] }"),
];

/// Pages whose commands are meant for a table that is loaded already.
const LOADED_NOT: &[&str] = &["quick-start.md"];

struct Block {
    page: String,
    line: usize,
    kind: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let files = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let mut pages: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    pages.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"));
    pages.sort();
    pages
}

fn blocks(page: &Path) -> Vec<Block> {
    let name = page.file_name().unwrap().to_str().unwrap().to_owned();
    let text = fs::read_to_string(page).unwrap();
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (line, text) in (1..).zip(text.lines()) {
        match (text.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(kind), None) => {
                let (page, kind) = (name.clone(), kind.trim().to_owned());
                open = Some(Block { page, line, kind, text: String::new() });
            }
            (None, Some(block)) => block.text.extend([text, "\n"]),
            (None, None) => {}
        }
    }
    found
}

/// The block as a whole spec; none where it has no key.
fn spec(block: &Block) -> Option<String> {
    let is_key = |line: &str, key: &str| line.starts_with(&format!("{key}:"));
    let keys = block.text.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()));
    if keys.count() == 0 {
        return None;
    }
    let mut text = block.text.clone();
    for (key, line) in SPEC {
        if !block.text.lines().any(|l| is_key(l, key)) {
            text.extend([*line, "\n"]);
        }
    }
    Some(text)
}

#[test]
fn every_spec_of_the_guide_passes_check() {
    let mut checked = 0;
    for block in pages().iter().flat_map(|p| blocks(p)).filter(|b| b.kind == "yaml") {
        let Some(text) = spec(&block) else { continue };
        let job = Job::new(&text);
        let text = text.replace("/run/secrets/", "./secret-of-");
        fs::write(job.path("secret-of-teams"), "https://example.org/x").unwrap();
        fs::write(job.path("backfill.yaml"), text).unwrap();
        let mut check = job.command("check", &[]);
        let ran: Ran = check.env("TSDB_URL", "postgres://u@localhost/db").output().unwrap().into();
        let Block { page, line, .. } = block;
        assert_eq!(ran.code, Some(0), "{page}:{line}\n{}\n{}", ran.stdout, ran.stderr);
        checked += 1;
    }
    assert!(checked > 2, "only {checked} specs in the guide");
}

/// The code that a line of a block ends with, by its comment.
fn expected(line: &str) -> i32 {
    let comment = line.split_once('#').map_or("", |(_, comment)| comment);
    let code = comment.split_once("exit ").map(|(_, rest)| rest);
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    code.map_or(0, |rest| digits(rest).parse().unwrap())
}

#[test]
fn every_command_of_the_guide_works() {
    let mut called = 0;
    for page in pages() {
        let blocks: Vec<_> = blocks(&page).into_iter().filter(|b| b.kind == "sh").collect();
        let lines = blocks.iter().flat_map(|b| b.text.lines().map(move |l| (b, l)));
        let lines: Vec<_> = lines.filter(|(_, l)| l.starts_with("retrofill ")).collect();
        let Some((first, _)) = lines.first() else { continue };
        let job = Job::example();
        if !LOADED_NOT.contains(&first.page.as_str()) {
            job.run().ended(0);
        }
        for (block, line) in lines {
            let program = env!("CARGO_BIN_EXE_retrofill");
            let typed = format!("{program} {}", line.strip_prefix("retrofill ").unwrap());
            let mut shell = Command::new("sh");
            shell.args(["-c", &typed]).current_dir(job.dir.path());
            let ran: Ran = shell.stdin(std::process::Stdio::null()).output().unwrap().into();
            let Block { page, line: at, .. } = block;
            let said = format!("{}\n{}", ran.stdout, ran.stderr);
            assert_eq!(ran.code, Some(expected(line)), "{page}:{at}: {line}\n{said}");
            called += 1;
        }
    }
    assert!(called > 5, "only {called} commands in the guide");
}

#[test]
fn the_guide_names_every_page() {
    let summary =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/SUMMARY.md"));
    let summary = summary.unwrap();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap().to_owned();
        let listed = summary.contains(&format!("({name})"));
        assert!(listed || matches!(&*name, "SUMMARY.md" | "README.md"), "{name} is not listed");
    }
}
