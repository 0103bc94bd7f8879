//! The page that keeps the figures: one section per bench, written anew by each run.

use std::fs;

use crate::shell::{Done, output, root};

const PAGE: &str = "docs/benchmarks.md";

const HEAD: &str = "# Benchmarks

Every section is written by `cargo xtask bench NAME`, which also shows how it is measured. Figures
of different sections may come from different days; ratios are always of one session.
";

/// Replaces the section of a bench, or adds it.
pub(super) fn put(name: &str, body: &str) -> Done {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.into());
    let machine = machine()?;
    let section = format!("\n{machine}\n\n{body}\n");
    fs::write(path, replaced(&page, name, &section))?;
    println!("\n{machine}\n\n{body}\n\nwritten to {PAGE}");
    Ok(())
}

fn replaced(page: &str, name: &str, section: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let section = format!("{open}{section}{close}");
    match (page.find(&open), page.find(&close)) {
        (Some(from), Some(to)) => {
            format!("{}{section}{}", &page[..from], &page[to + close.len()..])
        }
        _ => format!("{page}\n{section}\n"),
    }
}

/// Day, commit and machine in one line.
fn machine() -> Done<String> {
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let commit = commit().unwrap_or_else(|_| "an unknown commit".into());
    let cores = std::thread::available_parallelism()?;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown processor", |(_, name)| name);
    Ok(format!("{day}, commit {commit}, {cores} cores ({cpu})."))
}

/// The commit that is checked out, shortened.
pub(in crate::commands) fn commit() -> Done<String> {
    let mut git = crate::shell::command("git", &["rev-parse", "--short=10", "HEAD"]);
    output(&mut git).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let page = replaced("head\n", "trunk", "\none\n");
        assert_eq!(page, "head\n\n<!-- trunk -->\none\n<!-- /trunk -->\n");
        let page = replaced(&page, "plan", "\nx\n");
        let page = replaced(&page, "trunk", "\ntwo\n");
        assert!(page.contains("two") && !page.contains("one") && page.contains("\nx\n"));
    }
}
