//! The tables: what needs a person, what was refused, and the slices.

use maud::{Markup, html};
use retrofill_core::interval::Interval;
use retrofill_core::ledger::State;
use retrofill_core::receipt::Counts;

use super::super::heat::Tone;
use super::super::{Conflicts, Rejects, Report, SliceLine};
use super::prose;
use crate::cli::output::grouped;
use crate::cli::summary::count;

/// Up to here the page lists every slice.
const ALL: usize = 2_000;

/// Else this many from either end.
const ENDS: usize = 500;

/// And no more than this many of those that are not done.
const OPEN: usize = 1_000;

/// Reasons that are spelled out above the table.
const REASONS: usize = 20;

/// Slices that are not done and say why.
pub(super) fn attention(report: &Report) -> Markup {
    let mut list: Vec<_> = report.open().filter(|s| s.reason.is_some()).collect();
    list.sort_by_key(|s| std::cmp::Reverse(Tone::of(s.state)));
    if list.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="attention" {
            h2 #attention { "What stands still" }
            ul.troubles {
                @for slice in list.iter().take(REASONS) {
                    li {
                        (state(slice.state)) " " code { (slice.id) } " "
                        p { (prose(slice.reason.as_deref().unwrap_or_default())) }
                    }
                }
            }
            @if list.len() > REASONS {
                p.say {
                    "And " (grouped((list.len() - REASONS) as u64)) " more in the table below."
                }
            }
        }
    }
}

/// `12 of 40 listed here; all of them in rejects/...`.
fn whole(shown: usize, listed: u64, rows: u64, lists: &[String]) -> Markup {
    html! {
        p.say {
            @if listed < rows {
                (grouped(rows - listed)) " of " (count(rows, "row"))
                " are in no list of this state directory any more. "
            }
            @if (shown as u64) < listed {
                "These are " (shown) " of " (grouped(listed)) ". "
            }
            @if !lists.is_empty() {
                "All of them, one JSON object a line, are in the state directory: "
                @for (i, list) in lists.iter().enumerate() {
                    @if i > 0 { ", " }
                    code { (list) }
                }
            }
        }
    }
}

pub(super) fn rejects(rejects: &Rejects) -> Markup {
    if rejects.rows == 0 {
        return html! {};
    }
    html! {
        section aria-labelledby="rejects" {
            h2 #rejects { "Rejected rows " span.n { (grouped(rejects.rows)) } }
            @if !rejects.by_reason.is_empty() {
                div.wide role="region" tabindex="0" aria-label="Rejected rows by reason" {
                    table.reasons {
                        thead { tr { th scope="col" { "Rows" } th scope="col" { "Reason" } } }
                        tbody {
                            @for reason in &rejects.by_reason {
                                tr {
                                    td.n { (grouped(reason.rows)) }
                                    td { (because(reason.column.as_deref(), &reason.reason)) }
                                }
                            }
                        }
                    }
                }
            }
            @if !rejects.first.is_empty() {
                div.wide role="region" tabindex="0" aria-label="The first rejected rows" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Place" }
                                th scope="col" { "Reason" }
                                th scope="col" { "Text" }
                            }
                        }
                        tbody {
                            @for r in &rejects.first {
                                tr {
                                    td.place {
                                        (r.file)
                                        @match r.line {
                                            Some(line) => { ":" (line) }
                                            None => { " at byte " (r.offset) }
                                        }
                                    }
                                    td { (because(r.column.as_deref(), &r.reason)) }
                                    td.text { code { (visible(&r.text)) } }
                                }
                            }
                        }
                    }
                }
            }
            (whole(rejects.first.len(), rejects.listed, rejects.rows, &rejects.lists))
        }
    }
}

fn because(column: Option<&str>, reason: &str) -> Markup {
    html! {
        @if let Some(column) = column { code { (column) } " " }
        (prose(reason))
    }
}

/// Control characters as pictures of themselves, so that what is there is seen.
fn visible(text: &str) -> String {
    let picture = |c: char| match c as u32 {
        n @ 0..=0x1f => char::from_u32(0x2400 + n).unwrap_or(c),
        0x7f => '\u{2421}',
        // Marks that turn the direction of text could hide what stands where.
        0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069 => '\u{fffd}',
        _ => c,
    };
    text.chars().map(picture).collect()
}

pub(super) fn conflicts(conflicts: &Conflicts) -> Markup {
    if conflicts.rows == 0 {
        return html! {};
    }
    html! {
        section aria-labelledby="conflicts" {
            h2 #conflicts { "Conflicts " span.n { (grouped(conflicts.rows)) } }
            p.say {
                "The target holds these keys with other values. The rows that were there have not \
                 been changed."
            }
            @if !conflicts.first.is_empty() {
                div.wide role="region" tabindex="0" aria-label="The first conflicts" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Time" }
                                th scope="col" { "Key" }
                                th scope="col" { "Row of the source" }
                                th scope="col" { "Row that stays" }
                            }
                        }
                        tbody {
                            @for c in &conflicts.first {
                                tr {
                                    td { @if let Some(t) = c.time { (t) } }
                                    td {
                                        @for (i, value) in c.key.iter().enumerate() {
                                            @if i > 0 { ", " }
                                            @match value {
                                                Some(value) => (visible(value)),
                                                None => i { "NULL" },
                                            }
                                        }
                                    }
                                    td { code { (short(&c.source_hash)) } }
                                    td { code { (short(&c.live_hash)) } }
                                }
                            }
                        }
                    }
                }
            }
            (whole(conflicts.first.len(), conflicts.listed, conflicts.rows, &conflicts.lists))
        }
    }
}

/// Slices that the page lists, and whether that is all of them.
fn chosen(report: &Report) -> (Vec<&SliceLine>, bool) {
    let list = &report.slice_list;
    if list.len() <= ALL {
        return (list.iter().collect(), true);
    }
    let mut open = 0;
    let mut keep = |(i, slice): &(usize, &SliceLine)| {
        if *i < ENDS || *i >= list.len() - ENDS {
            return true;
        }
        open += usize::from(!slice.state.is_done());
        !slice.state.is_done() && open <= OPEN
    };
    (list.iter().enumerate().filter(|s| keep(s)).map(|(_, slice)| slice).collect(), false)
}

type Count = (&'static str, fn(&Counts) -> u64);

/// Counts that are always shown, and those that are where there is any.
const ALWAYS: [Count; 2] = [("Read", |c| c.read), ("Written", |c| c.written)];
const SOMETIMES: [Count; 6] = [
    ("Updated", |c| c.updated),
    ("Present", |c| c.already_present),
    ("Conflicts", |c| c.conflicting),
    ("Duplicates", |c| c.duplicate),
    ("Rejected", |c| c.rejected),
    ("Filtered", |c| c.filtered),
];

pub(super) fn slices(report: &Report) -> Markup {
    let (list, all) = chosen(report);
    let total = report.slice_list.len();
    let any =
        |(_, of): &&Count| report.slice_list.iter().filter_map(|s| s.rows).any(|c| of(&c) > 0);
    let columns: Vec<Count> =
        ALWAYS.into_iter().chain(SOMETIMES.iter().filter(any).copied()).collect();
    let again = report.slice_list.iter().any(|s| s.generation > 1 || s.attempts > 1);
    html! {
        section aria-labelledby="slices" {
            h2 #slices { "Slices " span.n { (grouped(total as u64)) } }
            @if !all {
                p.say {
                    "The first and the last " (ENDS) " of them, and those between that are not \
                     done; " (grouped(list.len() as u64)) " in all. The JSON report has every one."
                }
            }
            div.wide role="region" tabindex="0" aria-label="Slices" {
                table #list {
                    thead {
                        tr {
                            th scope="col" { "Slice" }
                            th scope="col" { "State" }
                            th scope="col" { "From" }
                            th scope="col" title="The first instant after" { "To, exclusive" }
                            @for (name, _) in &columns { th.n scope="col" { (name) } }
                            th scope="col" { "Digest" }
                            @if again {
                                th.n scope="col" { "Load" }
                                th.n scope="col" { "Tries" }
                            }
                            th scope="col" { "Proven" }
                        }
                    }
                    tbody { @for slice in list { (line(slice, &columns, again)) } }
                }
            }
        }
    }
}

fn line(slice: &SliceLine, columns: &[Count], again: bool) -> Markup {
    html! {
        tr {
            th scope="row" { code { (slice.id) } }
            td { (state(slice.state)) }
            @let (from, to) = ends(&slice.interval);
            td.time { (from) }
            td.time { (to) }
            @for (_, of) in columns {
                @match &slice.rows {
                    Some(counts) => td.n.zero[of(counts) == 0] { (grouped(of(counts))) },
                    None => td.n {},
                }
            }
            td { @if let Some(digest) = &slice.digest { code title=(digest) { (short(digest)) } } }
            @if again {
                td.n.zero[slice.generation <= 1] { (slice.generation) }
                td.n.zero[slice.attempts <= 1] { (slice.attempts) }
            }
            td.time {
                @if let Some(t) = slice.at { time title=(t) { (t.strftime("%Y-%m-%d %H:%M")) } }
            }
        }
    }
}

/// Dates alone where both ends are midnights.
fn ends(i: &Interval) -> (String, String) {
    let (from, to) = (i.start().to_string(), i.end().to_string());
    let date = |text: &str| text.strip_suffix("T00:00:00Z").map(str::to_owned);
    match (date(&from), date(&to)) {
        (Some(from), Some(to)) => (from, to),
        _ => (from, to),
    }
}

fn state(state: State) -> Markup {
    let class = match Tone::of(state) {
        Tone::Verified => "v",
        Tone::Empty => "e",
        Tone::Part | Tone::Planned => "p",
        Tone::Stale => "s",
        Tone::Unknown => "u",
        Tone::Failed => "f",
        Tone::Mismatched => "m",
    };
    html! { span.state.(class) { (state.as_str()) } }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
