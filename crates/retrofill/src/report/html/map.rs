//! The heat map.

use maud::{Markup, html};

use super::super::Report;
use super::super::heat::{Cell, Heat, LEVELS, Step, Tone};
use crate::cli::output::grouped;
use crate::cli::summary::count;

/// In the order of the legend.
const TONES: [Tone; 8] = [
    Tone::Verified,
    Tone::Empty,
    Tone::Part,
    Tone::Planned,
    Tone::Stale,
    Tone::Unknown,
    Tone::Failed,
    Tone::Mismatched,
];

/// Where the range is covered.
pub(super) fn coverage(report: &Report) -> Markup {
    let Some(heat) = Heat::of(report) else { return html! {} };
    let words = format!("Coverage by time. {}.", report.headline);
    let (cells, of): (Vec<&Cell>, String) = match &heat {
        Heat::Single(cells) => (cells.iter().collect(), "slice".into()),
        Heat::Grid { step, rows } => {
            (rows.iter().flat_map(|(_, cells)| cells.iter().flatten()).collect(), step.word())
        }
    };
    let most = cells.iter().map(|c| c.rows).fold(0.0, f64::max).round() as u64;
    html! {
        section.coverage aria-labelledby="coverage" {
            h2 #coverage { "Coverage" }
            @match &heat {
                Heat::Single(cells) => (single(cells, &words)),
                Heat::Grid { step, rows } => (grid(*step, rows, &words)),
            }
            p.legend {
                @for tone in TONES {
                    @let n = slices_of(report, tone);
                    @if n > 0 { span { i.(class(tone)) {} (tone.word()) " " b { (grouped(n)) } } }
                }
                @if cells.iter().any(|cell| is_mixed(cell)) {
                    span { i.f.k {} i.h {} "some of the " (of) }
                }
                @if most > 0 {
                    span.scale {
                        "rows per " (of) ": 1"
                        @for level in 1..=LEVELS { i.v.(LEVEL[level as usize]) {} }
                        (grouped(most))
                    }
                }
            }
        }
    }
}

fn slices_of(report: &Report, tone: Tone) -> u64 {
    let s = &report.slices;
    match tone {
        Tone::Verified => s.verified,
        Tone::Empty => s.empty,
        Tone::Part => 0,
        Tone::Planned => s.planned,
        Tone::Stale => s.stale,
        Tone::Unknown => s.unknown,
        Tone::Failed => s.failed,
        Tone::Mismatched => s.mismatched,
    }
}

/// Whether only some of a cell is in trouble.
fn is_mixed(cell: &Cell) -> bool {
    cell.tone > Tone::Planned && cell.tones.len() > 1
}

/// Few rows have room for taller cells.
const TALL: usize = 4;

/// One letter each: there may be thousands of cells.
fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Empty => "e",
        Tone::Verified => "v",
        Tone::Part => "h",
        Tone::Planned => "p",
        Tone::Stale => "s",
        Tone::Unknown => "u",
        Tone::Failed => "f",
        Tone::Mismatched => "m",
    }
}

const LEVEL: [&str; LEVELS as usize + 1] = ["l0", "l1", "l2", "l3", "l4", "l5"];

/// `2013-01-05: 167 verified, 1 failed, 1,234 rows`.
fn title(cell: &Cell) -> String {
    let rows = count(cell.rows.round() as u64, "row");
    let tones: Vec<_> = match cell.slices() {
        1 => vec![cell.tone.word().to_owned()],
        _ => {
            cell.tones.iter().map(|(tone, n)| format!("{} {}", grouped(*n), tone.word())).collect()
        }
    };
    format!("{}: {}, {rows}", cell.label, tones.join(", "))
}

fn single(cells: &[Cell], words: &str) -> Markup {
    html! {
        ol.single aria-label=(words) {
            @for cell in cells {
                li title=(title(cell)) {
                    i.(class(cell.tone)).(LEVEL[usize::from(cell.level)]) {}
                    span { (cell.label) }
                    @if cell.tone == Tone::Verified {
                        b { (grouped(cell.rows.round() as u64)) }
                    } @else {
                        b.(class(cell.tone)) { (cell.tone.word()) }
                    }
                }
            }
        }
    }
}

fn grid(step: Step, rows: &[(String, Vec<Option<Cell>>)], words: &str) -> Markup {
    let columns = format!("c{}", step.columns());
    let tall = rows.len() <= TALL;
    html! {
        div.grid.(columns).tall[tall] role="img" aria-label=(words) {
            b {}
            @for column in 0..step.columns() { b { (step.column_label(column)) } }
            @for (label, cells) in rows {
                span { (label) }
                @for cell in cells {
                    @match cell {
                        Some(cell) => i.(class(cell.tone)).(LEVEL[usize::from(cell.level)])
                            .k[is_mixed(cell)] title=(title(cell)) {},
                        None => i {},
                    }
                }
            }
        }
    }
}
