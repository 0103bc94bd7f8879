//! The heat map: a line for each key, a column for each stretch of time.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::calendar::Every;
use retrofill_core::error::Result;
use retrofill_core::interval::Interval;
use retrofill_core::runner::{Hole, Series};

use super::super::output::grouped;
use super::named;

/// So many keys are drawn; those with the most gaps.
const KEYS: usize = 20;

/// So many columns, where there is room.
const COLUMNS: usize = 60;

/// With fewer there is nothing to see.
const FEWEST: usize = 16;

/// Names of keys are cut to so many characters.
const NAME: usize = 24;

/// Characters of the two counts behind a line.
const COUNTS: usize = 24;

/// What a column may stand for.
const LADDER: [Every; 20] = [
    Every::Seconds(1),
    Every::Seconds(10),
    Every::Minutes(1),
    Every::Minutes(5),
    Every::Minutes(15),
    Every::Hours(1),
    Every::Hours(3),
    Every::Hours(6),
    Every::Hours(12),
    Every::Days(1),
    Every::Days(2),
    Every::Weeks(1),
    Every::Weeks(2),
    Every::Months(1),
    Every::Months(3),
    Every::Years(1),
    Every::Years(5),
    Every::Years(10),
    Every::Years(50),
    Every::Years(200),
];

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// With block characters; else in ASCII.
    pub(super) blocks: bool,
    /// With colours.
    pub(super) colours: bool,
    /// Characters of a line.
    pub(super) width: usize,
}

/// What says that standard output is a terminal, and which.
struct Screen<'a> {
    width: Option<usize>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Style {
    /// Blocks and colours on a terminal that has them, ASCII elsewhere.
    pub(super) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let size = || rustix::termios::tcgetwinsize(&stdout).ok().map(|s| usize::from(s.ws_col));
        let width = stdout.is_terminal().then(|| size().unwrap_or(0));
        Self::on(&Screen { width, variable: &|name| std::env::var(name).ok() })
    }

    fn on(screen: &Screen<'_>) -> Self {
        let given = |name: &str| (screen.variable)(name).filter(|value| !value.is_empty());
        let dumb = given("TERM").is_none_or(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| given(name));
        let utf8 = locale.is_some_and(|l| l.to_lowercase().replace('-', "").contains("utf8"));
        let terminal = screen.width.is_some();
        // A terminal that does not say how wide it is says 0.
        let width = screen.width.filter(|w| *w > 0).unwrap_or(NAME + COLUMNS + COUNTS);
        Style {
            blocks: terminal && !dumb && utf8,
            colours: terminal && !dumb && given("NO_COLOR").is_none(),
            width,
        }
    }
}

/// What a key has in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It has not begun, or has ended.
    Outside,
    /// Everything.
    Whole,
    /// The target lacks rows in up to so many quarters of it.
    Fillable(u8),
    /// Neither side has a row in up to so many quarters of it.
    Absent(u8),
}

impl Mark {
    fn of(series: &Series, column: &Interval) -> Self {
        let Some(within) = series.span.intersect(column) else { return Mark::Outside };
        let level = |holes: &[Hole]| {
            let missing = overlap(holes, &within);
            let quarters = (missing * 4 + within.nanoseconds() - 1) / within.nanoseconds();
            quarters.clamp(0, 4) as u8
        };
        // What can be filled is never hidden by what cannot.
        match (level(&series.fillable.holes), level(&series.absent.holes)) {
            (0, 0) => Mark::Whole,
            (0, absent) => Mark::Absent(absent),
            (fillable, _) => Mark::Fillable(fillable),
        }
    }

    /// Its character and its colour.
    fn shown(self, blocks: bool) -> (char, &'static str) {
        let pick = |list: &str, level: u8| list.chars().nth(usize::from(level) - 1).unwrap_or('?');
        match self {
            Mark::Outside => (' ', ""),
            Mark::Whole if blocks => ('·', "32"),
            Mark::Whole => ('.', "32"),
            Mark::Fillable(level) => (pick(if blocks { "▁▃▅▇" } else { "1234" }, level), "33"),
            Mark::Absent(level) => (pick(if blocks { "░▒▓█" } else { "abcd" }, level), "31"),
        }
    }
}

/// Nanoseconds of an interval that lie in holes, which are in order.
fn overlap(holes: &[Hole], within: &Interval) -> i128 {
    let first = holes.partition_point(|h| h.interval.end() <= within.start());
    let reached = holes[first..].iter().take_while(|h| h.interval.start() < within.end());
    reached.filter_map(|h| h.interval.intersect(within)).map(|i| i.nanoseconds()).sum()
}

/// The keys with the most gaps, and all of their time.
#[derive(Debug)]
pub(super) struct Map<'a> {
    list: Vec<&'a Series>,
    /// Keys that are not drawn, and how many of them have gaps.
    others: (u64, u64),
    cadence: Every,
    zone: &'a TimeZone,
}

impl<'a> Map<'a> {
    pub(super) fn new(series: &'a [Series], cadence: Every, zone: &'a TimeZone) -> Self {
        let gaps = |s: &Series| s.fillable.buckets + s.absent.buckets;
        let mut list: Vec<_> = series.iter().collect();
        // Stable: keys with as many gaps stay in order.
        list.sort_by_key(|s| Reverse(gaps(s)));
        let rest = list.split_off(list.len().min(KEYS));
        let lacking = rest.iter().filter(|s| gaps(s) > 0).count();
        list.sort_by(|a, b| a.key.cmp(&b.key));
        Map { list, others: (rest.len() as u64, lacking as u64), cadence, zone }
    }

    /// The columns, at most so many, and what one stands for.
    fn columns(&self, most: usize) -> Result<(Vec<Interval>, Option<Every>)> {
        let start = self.list.iter().map(|s| s.span.start()).min();
        let end = self.list.iter().map(|s| s.span.end()).max();
        let (Some(start), Some(end)) = (start, end) else { return Ok((Vec::new(), None)) };
        let range = Interval::new(start, end)?;
        let seconds = range.nanoseconds() / 1_000_000_000;
        for every in LADDER {
            let length = i128::from(every.nominal_seconds());
            let fine = every.nominal_seconds() < self.cadence.nominal_seconds();
            if fine || seconds / length > 2 * most as i128 {
                continue;
            }
            let columns = every.slices(&range, self.zone)?;
            if columns.len() <= most {
                return Ok((columns, Some(every)));
            }
        }
        Ok((vec![range], None))
    }

    pub(super) fn draw(&self, style: Style) -> Result<String> {
        let cut = |s: &Series| named(s).chars().take(NAME).collect::<String>();
        let names: Vec<_> = self.list.iter().map(|s| cut(s)).collect();
        let name = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
        let room = style.width.saturating_sub(name + COUNTS + 4).clamp(FEWEST, COLUMNS);
        let (columns, step) = self.columns(room)?;
        let mut out = String::new();
        // Writing to a text cannot fail.
        let heads = format!("{:>9}  {:>9}", "fillable", "absent");
        let _ = writeln!(out, "\n  {:name$}  {:width$}  {heads}", "", "", width = columns.len());
        for (series, label) in self.list.iter().zip(&names) {
            let marks = columns.iter().map(|c| Mark::of(series, c));
            let _ = writeln!(
                out,
                "  {label}{}  {}  {:>9}  {:>9}",
                " ".repeat(name - label.chars().count()),
                painted(marks, style),
                grouped(series.fillable.rows),
                grouped(series.absent.buckets)
            );
        }
        if let (keys @ 1.., lacking) = self.others {
            let (keys, lacking) = (grouped(keys), grouped(lacking));
            let _ = writeln!(out, "  and {keys} more, {lacking} of them with gaps");
        }
        let _ = writeln!(out, "  {:name$}  {}", "", self.axis(&columns, step));
        let _ = writeln!(out, "  {}", legend(style));
        Ok(out)
    }

    /// When columns begin, as far as there is room to say so.
    fn axis(&self, columns: &[Interval], step: Option<Every>) -> String {
        let mut line = String::new();
        let mut at = 0;
        let days = step.is_none_or(|s| s.nominal_seconds() >= 86_400);
        for (place, column) in columns.iter().enumerate() {
            let label = self.moment(column.start(), days);
            let fits = place == 0 || place + label.len() <= columns.len();
            if place >= at && fits {
                let space = place - line.chars().count();
                line.push_str(&" ".repeat(space));
                line.push_str(&label);
                at = place + label.len() + 3;
            }
        }
        let step = step.map_or_else(String::new, |s| format!("   a column is {s}"));
        line + &step
    }

    fn moment(&self, t: Timestamp, day: bool) -> String {
        let local = t.to_zoned(self.zone.clone());
        local.strftime(if day { "%Y-%m-%d" } else { "%m-%d %H:%M" }).to_string()
    }
}

/// Marks as text; those of one colour share its codes.
fn painted(marks: impl Iterator<Item = Mark>, style: Style) -> String {
    let mut out = String::new();
    let mut now = "";
    for (shown, colour) in marks.map(|m| m.shown(style.blocks)) {
        let colour = if style.colours { colour } else { "" };
        if colour != now {
            if !now.is_empty() {
                out.push_str("\x1b[0m");
            }
            if !colour.is_empty() {
                // Writing to a text cannot fail.
                let _ = write!(out, "\x1b[{colour}m");
            }
            now = colour;
        }
        out.push(shown);
    }
    if !now.is_empty() {
        out.push_str("\x1b[0m");
    }
    out
}

fn legend(style: Style) -> String {
    let mark = |mark| painted(std::iter::once(mark), style);
    let all = |make: fn(u8) -> Mark| painted((1..=4).map(make), style);
    format!(
        "{} nothing missing   {} fillable   {} absent, by quarters of a column",
        mark(Mark::Whole),
        all(Mark::Fillable),
        all(Mark::Absent)
    )
}

#[cfg(test)]
mod tests;
