//! The page: one file that needs nothing else. It can be read without its script, which only
//! sorts and filters the table of slices.

mod lists;
mod map;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use retrofill_core::receipt::Counts;
use sha2::{Digest as _, Sha256};

use super::{Report, RunFacts, fates};
use crate::cli::output::{grouped, seconds};
use crate::cli::summary::{Status, count};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (report.name) ": " (report.headline) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (top(report))
                    (row_counts(report))
                    (map::coverage(report))
                    (lists::attention(report))
                    (lists::rejects(&report.rejects))
                    (lists::conflicts(&report.conflicts))
                    (lists::slices(report))
                    (proof(report))
                    (details(report))
                }
                (foot(report))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// Nothing is loaded from anywhere, and only our own style and script count.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// `2026-11-24 11:30:07 UTC`.
fn moment(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How it stands as one class of the style.
fn standing(report: &Report) -> &'static str {
    let ended_badly = report.run.as_ref().and_then(|r| r.exit).is_some_and(|e| e != 0);
    match report.status {
        Status::Mismatched => "mismatched",
        Status::Failed => "failed",
        Status::Incomplete => "part",
        Status::Verified if ended_badly => "stale",
        Status::Verified => "verified",
    }
}

fn top(report: &Report) -> Markup {
    let standing = standing(report);
    let run = report.run.as_ref();
    html! {
        header.top {
            p.kind { "Backfill report" }
            h1 { (report.name) }
            p.route {
                (report.source) " " span.to aria-hidden="true" { "\u{2192}" }
                span.unseen { "to" } " " (report.target)
            }
            @if !report.labels.is_empty() {
                ul.labels aria-label="Labels" {
                    @for (name, word) in &report.labels { li { (name) " " b { (word) } } }
                }
            }
        }
        section.verdict.(standing) aria-label="Result" {
            p.headline { (report.headline) "." }
            @if let Some(error) = run.and_then(|r| r.error.as_ref()) {
                p.error { b { "The run ended early: " } (prose(error)) }
            }
            p.range {
                span { (report.extent()) }
                @if let Some(t) = report.verified_through {
                    span { "verified through " (t) }
                } @else if let Some(t) = report.verified_back_to {
                    span { "verified back to " (t) }
                }
                @if let Some(run) = run { (ran(run)) }
            }
            @for line in &report.not_told { p.warning { (prose(line)) } }
        }
    }
}

fn ran(run: &RunFacts) -> Markup {
    html! {
        @if let Some(length) = run.seconds { span { "took " (seconds(length)) } }
        @if let Some(rate) = run.rows_per_second.filter(|r| *r > 0) {
            span { (grouped(rate)) " rows/s" }
        }
        @match (run.ended, run.began) {
            (Some(t), _) => span { "ended " (moment(t)) },
            (None, Some(t)) => span { "began " (moment(t)) },
            (None, None) => {}
        }
    }
}

fn row_counts(report: &Report) -> Markup {
    let run = report.run.as_ref().map(|r| r.rows).filter(|rows| *rows != report.plan_rows);
    html! {
        section.rows aria-labelledby="rows" {
            h2 #rows { "Rows" }
            @if let Some(rows) = run {
                (equation("The whole plan", &report.plan_rows))
                (equation("The last run", &rows))
            } @else {
                (equation("", &report.plan_rows))
            }
        }
    }
}

/// read = written + updated + ...
fn equation(title: &str, c: &Counts) -> Markup {
    html! {
        @if !title.is_empty() { h3 { (title) } }
        dl.equation {
            div { dt { "read" } dd { (grouped(c.read)) } }
            @for (i, (name, number)) in fates(c).into_iter().enumerate() {
                @let sign = if i == 0 { "=" } else { "+" };
                div.zero[number == 0].bad[number > 0 && matches!(name, "rejected" | "conflicts")] {
                    dt { (name) }
                    dd { span.sign aria-hidden="true" { (sign) } (grouped(number)) }
                }
            }
        }
    }
}

fn proof(report: &Report) -> Markup {
    let p = &report.proof;
    html! {
        section aria-labelledby="proof" {
            h2 #proof { "Proof" }
            p.say {
                "Each slice was read back before it became visible, and its digest had to be that \
                 of what was held before plus what was written. With these values any other \
                 program can check it; \u{201c}How proof works\u{201d} in the guide says how."
            }
            dl.facts {
                dt { "Digest" }
                dd { @match &p.digest {
                    Some(digest) => code { (digest) },
                    None => "none before the first proven slice",
                } }
                dt { "Encoding" } dd { code { (p.encoding) } }
                dt { "Salt" } dd { code { (p.salt) } }
                dt { "Schema" } dd { code { (p.fingerprint) } }
                dt { "Columns" }
                dd.columns {
                    @for (name, ty, role) in &p.columns {
                        span { (name) " " i { (ty) @if *role != "value" { ", " (role) } } }
                    }
                }
            }
        }
    }
}

fn details(report: &Report) -> Markup {
    let (plan, journal) = (&report.plan, &report.journal);
    html! {
        section aria-labelledby="details" {
            h2 #details { "Plan and journal" }
            dl.facts {
                dt { "Plan" } dd { code { (plan.id) } ", frozen " (moment(plan.frozen_at)) }
                dt { "Spec" } dd { code { (plan.spec_hash) } }
                dt { "Slices" }
                dd {
                    (count(report.slices.total, "slice")) ", every " (plan.every) " in "
                    (plan.timezone)
                }
                dt { "Mode" } dd { (plan.mode) }
                dt { "Source" } dd { (count(plan.files, "file")) ", " (bytes(plan.bytes)) }
                dt { "Journal" }
                dd {
                    (grouped(journal.entries)) " entries, chain checked; head "
                    code { (journal.head) }
                }
                dt { "Work" }
                dd {
                    (count(journal.runs, "run")) ", "
                    (grouped(journal.tries)) @if journal.tries == 1 { " try" } @else { " tries" }
                    @match journal.retries {
                        0 => ", none of them repeated",
                        n => { ", " (grouped(n)) " of them repeated" }
                    }
                    @if journal.halved > 0 { ", " (grouped(journal.halved)) " halved" }
                    @if journal.recovered > 0 {
                        ", " (count(journal.recovered, "receipt")) " found in the target"
                    }
                }
                @if let Some(r) = report.resources {
                    dt { "Used" }
                    dd {
                        (bytes(r.peak_memory)) " of memory at most, "
                        (format!("{:.1}", r.cpu_seconds)) " s of processor time, "
                        (bytes(r.bytes_read)) " read"
                    }
                }
            }
            @if !plan.notes.is_empty() {
                ul.notes { @for note in &plan.notes { li { (prose(note)) } } }
            }
        }
    }
}

fn foot(report: &Report) -> Markup {
    html! {
        footer {
            p { "Made by retrofill " (report.retrofill) " on " (moment(report.made_at)) "." }
        }
    }
}

/// What stands between backticks is code, as in all our messages.
fn prose(text: &str) -> Markup {
    let parts: Vec<_> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return html! { (text) };
    }
    html! {
        @for (i, part) in parts.iter().enumerate() {
            @if i.is_multiple_of(2) { (part) } @else { code { (part) } }
        }
    }
}

/// `2.1 MB`.
fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
