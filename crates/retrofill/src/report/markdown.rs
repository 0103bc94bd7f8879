//! For a ticket or a pull request: what matters, and nothing that needs a page of its own.

use std::fmt::Write as _;
use std::iter::once;

use retrofill_core::receipt::Counts;

use super::{Report, SliceLine, fates};
use crate::cli::output::{grouped, seconds};

/// Slices that are listed.
const OPEN: usize = 50;

/// The whole text.
pub(super) fn page(report: &Report) -> String {
    let mut out = format!("## {}: {}\n\n", plain(&report.name), plain(&report.headline));
    // Writing to a text cannot fail.
    let _ = write!(
        out,
        "{} \u{2192} {}, {}",
        plain(&report.source),
        plain(&report.target),
        plain(&report.extent())
    );
    let run = report.run.as_ref();
    if let Some(length) = run.and_then(|r| r.seconds) {
        let _ = write!(out, ", {}", seconds(length));
    }
    out.push_str("\n\n");
    if let Some(error) = run.and_then(|r| r.error.as_ref()) {
        let _ = writeln!(out, "The run ended early: {}\n", plain(error));
    }
    for line in &report.not_told {
        let _ = writeln!(out, "{}\n", plain(line));
    }
    counts(&mut out, report);
    open(&mut out, report);
    rejects(&mut out, report);
    proof(&mut out, report);
    out
}

fn counts(out: &mut String, report: &Report) {
    let of = |c: &Counts| -> Vec<_> { once(("read", c.read)).chain(fates(c)).collect() };
    let run = report.run.as_ref().map(|r| of(&r.rows));
    out.push_str("| rows | plan | last run |\n|---|---:|---:|\n");
    for (i, (name, plan)) in of(&report.plan_rows).into_iter().enumerate() {
        let run = run.as_ref().map_or_else(String::new, |run| grouped(run[i].1));
        let _ = writeln!(out, "| {name} | {} | {run} |", grouped(plan));
    }
    out.push('\n');
}

fn open(out: &mut String, report: &Report) {
    let list: Vec<_> = report.open().collect();
    if list.is_empty() {
        return;
    }
    let _ = writeln!(out, "### Not done: {}\n", grouped(list.len() as u64));
    out.push_str("| slice | state | tries | reason |\n|---|---|---:|---|\n");
    // Those that say why come first.
    let (with, without): (Vec<&SliceLine>, Vec<_>) = list.iter().partition(|s| s.reason.is_some());
    for slice in with.into_iter().chain(without).take(OPEN) {
        let reason = slice.reason.as_deref().map(plain).unwrap_or_default();
        let state = slice.state.as_str();
        let _ = writeln!(out, "| {} | {state} | {} | {reason} |", slice.id, slice.attempts);
    }
    if list.len() > OPEN {
        let _ = writeln!(out, "\nAnd {} more.", grouped((list.len() - OPEN) as u64));
    }
    out.push('\n');
}

fn rejects(out: &mut String, report: &Report) {
    let rejects = &report.rejects;
    if !rejects.by_reason.is_empty() {
        let _ = writeln!(out, "### Rejected: {}\n", grouped(rejects.rows));
        out.push_str("| rows | column | reason |\n|---:|---|---|\n");
        for reason in &rejects.by_reason {
            let column = reason.column.as_deref().map(plain).unwrap_or_default();
            let rows = grouped(reason.rows);
            let _ = writeln!(out, "| {rows} | {column} | {} |", plain(&reason.reason));
        }
        out.push('\n');
    }
}

fn proof(out: &mut String, report: &Report) {
    let proof = &report.proof;
    if let Some(digest) = &proof.digest {
        let _ = writeln!(out, "Proven by reading back: digest `{digest}` ({}).", proof.encoding);
    }
    if let Some(t) = report.verified_through {
        let _ = writeln!(out, "Verified through {t}.");
    } else if let Some(t) = report.verified_back_to {
        let _ = writeln!(out, "Verified back to {t}.");
    }
    let (plan, journal) = (&report.plan, &report.journal);
    let _ = writeln!(
        out,
        "Plan `{}`, spec `{}`, journal {} entries up to `{}`.",
        plan.id, plan.spec_hash, journal.entries, journal.head
    );
}

/// Text that stays text, whatever it holds: on one line, without a character that begins a tag, a
/// link, a cell or emphasis.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // What cannot begin a tag reads better as it is: `<=`.
        let tag = |next: Option<&char>| next.is_some_and(|n| !n.is_whitespace() && *n != '=');
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' if tag(rest.peek()) => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(plain("a <= t < b"), "a <= t < b");
        assert_eq!(
            plain("<script>|a|\n`b` [c](d) ![e] *f*"),
            "&lt;script>\\|a\\| \\`b\\` \\[c\\](d) \\!\\[e\\] \\*f\\*"
        );
    }
}
