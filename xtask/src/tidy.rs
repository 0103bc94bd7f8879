//! House rules that no compiler and no linter keeps. A test of this crate applies them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Done, Failure};

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 450;

/// Files that may be longer than `LINES_MAX`, each with its reason.
const LONG: &[(&str, &str)] = &[];

/// Modules beside the connectors that are none.
const NO_CONNECTOR: &[&str] = &["counted", "lib", "testkit"];

/// Files of the program that may print; everywhere else text goes through them.
const PRINTING: &[&str] = &["crates/retrofill/src/cli/output.rs", "crates/retrofill/src/main.rs"];

/// What lies in the tree and is not ours to judge.
const FOREIGN: &[&str] = &["target", ".git", ".retrofill", "out", "book", "data"];

/// A text file of the repository.
#[derive(Debug)]
struct Page {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Page {
    /// Whether the file's name ends in this.
    fn is(&self, kind: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|k| k == kind)
    }

    /// The lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

/// Applies every rule to the tree under `root`; a failure lists every breach.
pub fn check(root: &Path) -> Done {
    let pages = read(root)?;
    let mut breaches = Vec::new();
    for page in &pages {
        lengths(page, &mut breaches);
        words(page, &mut breaches);
        citations(page, &mut breaches);
        prints(page, &mut breaches);
    }
    exceptions(LONG, &pages, &mut breaches);
    decisions(&pages, &mut breaches);
    connectors(&pages, &mut breaches);
    if breaches.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the tree is not tidy:\n  {}", breaches.join("\n  "))))
}

fn read(root: &Path) -> Done<Vec<Page>> {
    let mut pages = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !FOREIGN.contains(&name.as_str()) {
                    open.push(path);
                }
                continue;
            }
            // In a second work tree `.git` is a file.
            if FOREIGN.contains(&name.as_str()) {
                continue;
            }
            let kinds = ["rs", "md", "toml", "py", "yaml", "yml", "sql", "json", "sh"];
            let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if kinds.contains(&kind.as_str()) || kind.is_empty() {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let path = path.strip_prefix(root).expect("walked from the root");
                pages.push(Page { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

fn lengths(page: &Page, breaches: &mut Vec<String>) {
    let code = page.is("rs") || page.is("py");
    if !code {
        return;
    }
    for (number, line) in page.lines() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            breaches.push(format!("{}:{number}: {columns} columns", page.path));
        }
    }
    let lines = page.text.lines().count();
    if lines > LINES_MAX && !LONG.iter().any(|(path, _)| *path == page.path) {
        breaches.push(format!("{}: {lines} lines; split it or list it with a reason", page.path));
    }
}

/// Words that mean unfinished work, and paths of one machine. Put together here, so that this
/// file does not break its own rule.
fn words(page: &Page, breaches: &mut Vec<String>) {
    let unfinished = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for (number, line) in page.lines() {
        for word in unfinished.iter().chain(&machine) {
            if line.contains(word) {
                breaches.push(format!("{}:{number}: `{word}`", page.path));
            }
        }
    }
}

/// A document that cites a line of code is wrong after the next change.
fn citations(page: &Page, breaches: &mut Vec<String>) {
    if !page.is("md") {
        return;
    }
    for (number, line) in page.lines() {
        let cites = line
            .match_indices(".rs:")
            .any(|(at, cut)| line[at + cut.len()..].starts_with(|c: char| c.is_ascii_digit()));
        if cites {
            breaches.push(format!("{}:{number}: cites a line of code", page.path));
        }
    }
}

fn prints(page: &Page, breaches: &mut Vec<String>) {
    let program = page.path.starts_with("crates/") && page.path.contains("/src/");
    let test = page.path.contains("/tests/") || page.path.ends_with("tests.rs");
    if !page.is("rs") || !program || test || PRINTING.contains(&page.path.as_str()) {
        return;
    }
    // Tests stand at the foot of a file.
    let body = page.lines().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    for (number, line) in body {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("println!(") || code.contains("eprintln!(") {
            breaches.push(format!("{}:{number}: prints outside the output module", page.path));
        }
    }
}

/// An exception that is no longer needed goes.
fn exceptions(long: &[(&str, &str)], pages: &[Page], breaches: &mut Vec<String>) {
    for (path, _) in long {
        let long = pages.iter().any(|p| p.path == *path && p.text.lines().count() > LINES_MAX);
        if !long {
            breaches.push(format!("{path} is listed as long and is not"));
        }
    }
}

fn decisions(pages: &[Page], breaches: &mut Vec<String>) {
    const FOLDER: &str = "docs/adr/";
    let index = pages.iter().find(|p| p.path == "docs/adr/README.md");
    for page in pages {
        let Some(name) = page.path.strip_prefix(FOLDER) else { continue };
        let listed = index.is_some_and(|i| i.text.contains(&format!("({name})")));
        if name != "README.md" && page.is("md") && !listed {
            breaches.push(format!("{} is missing from the index of decisions", page.path));
        }
    }
}

fn connectors(pages: &[Page], breaches: &mut Vec<String>) {
    const FOLDER: &str = "crates/connectors/src/";
    let mut modules: Vec<&str> = pages
        .iter()
        .filter_map(|p| p.path.strip_prefix(FOLDER))
        .filter_map(|p| p.split('/').next())
        .map(|p| p.trim_end_matches(".rs"))
        .filter(|m| !NO_CONNECTOR.contains(m))
        .collect();
    modules.dedup();
    for module in modules {
        let (file, folder) = (format!("{FOLDER}{module}.rs"), format!("{FOLDER}{module}/"));
        let proven = pages
            .iter()
            .filter(|p| p.path == file || p.path.starts_with(&folder))
            .any(|p| p.text.contains("conformance!("));
        if !proven {
            breaches.push(format!("connector `{module}` has no conformance!(..)"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        if let Err(failure) = check(&crate::shell::root()) {
            panic!("{failure}");
        }
    }

    fn page(path: &str, text: &str) -> Page {
        Page { path: path.into(), text: text.into() }
    }

    fn breaches(rule: fn(&Page, &mut Vec<String>), path: &str, text: &str) -> usize {
        let mut found = Vec::new();
        rule(&page(path, text), &mut found);
        found.len()
    }

    #[test]
    fn every_rule_finds_its_breach() {
        let wide = "x".repeat(COLUMNS_MAX + 1);
        assert_eq!(breaches(lengths, "a.rs", &wide), 1);
        assert_eq!(breaches(lengths, "a.md", &wide), 0);
        assert_eq!(breaches(lengths, "a.rs", &"x\n".repeat(LINES_MAX + 1)), 1);
        assert_eq!(breaches(words, "a.rs", concat!("// TO", "DO: later")), 1);
        assert_eq!(breaches(words, "a.md", concat!("see /ro", "ot/x")), 1);
        assert_eq!(breaches(citations, "a.md", "see lib.rs:12"), 1);
        assert_eq!(breaches(citations, "a.md", "see `lib.rs`: it"), 0);
        let source = "crates/core/src/a.rs";
        assert_eq!(breaches(prints, source, "println!(\"x\")"), 1);
        assert_eq!(breaches(prints, source, "#[cfg(test)]\nprintln!(\"x\")"), 0);
        assert_eq!(breaches(prints, "crates/core/tests/a.rs", "println!(\"x\")"), 0);
    }

    #[test]
    fn lists_are_kept() {
        let mut found = Vec::new();
        let long = page("a.rs", &"x\n".repeat(LINES_MAX + 1));
        exceptions(&[("a.rs", "why"), ("b.rs", "why")], &[long], &mut found);
        assert_eq!(found, ["b.rs is listed as long and is not"]);
        found.clear();
        let index = page("docs/adr/README.md", "- [One](0001-one.md)");
        let (one, two) = (page("docs/adr/0001-one.md", ""), page("docs/adr/0002-two.md", ""));
        decisions(&[index, one, two], &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        found.clear();
        let good = page("crates/connectors/src/delta/tests.rs", "conformance!(open);");
        let bad = page("crates/connectors/src/csv.rs", "");
        connectors(&[good, bad], &mut found);
        assert_eq!(found, ["connector `csv` has no conformance!(..)"]);
    }
}
