//! The heat map: where the range is covered, by time. Few slices are shown one by one; many fall
//! into the cells of a calendar, at most [`ROWS`] rows of it.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use retrofill_core::calendar::zone;
use retrofill_core::ledger::State;

use super::{Report, SliceLine};

/// Up to here every slice has its own cell.
const SINGLE: usize = 36;

/// More rows than this nobody looks at.
const ROWS: i64 = 45;

/// How full a cell is: 0 has no rows, the fullest has this.
pub(super) const LEVELS: u8 = 5;

/// What a cell shows: the worst of what is in it, from the best on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Empty,
    Verified,
    /// Some of it is done, some not yet begun.
    Part,
    Planned,
    Stale,
    Unknown,
    Failed,
    Mismatched,
}

impl Tone {
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Verified => Tone::Verified,
            State::Empty => Tone::Empty,
            State::Planned | State::Loading | State::Split => Tone::Planned,
            State::Stale => Tone::Stale,
            State::Unknown | State::Loaded => Tone::Unknown,
            State::Failed => Tone::Failed,
            State::Mismatched => Tone::Mismatched,
        }
    }

    /// Two things in one cell.
    fn and(self, other: Tone) -> Tone {
        let (low, high) = (self.min(other), self.max(other));
        if high == Tone::Planned && low < Tone::Planned { Tone::Part } else { high }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Tone::Empty => "empty",
            Tone::Verified => "verified",
            Tone::Part => "partly done",
            Tone::Planned => "to do",
            Tone::Stale => "stale",
            Tone::Unknown => "unknown",
            Tone::Failed => "failed",
            Tone::Mismatched => "mismatched",
        }
    }
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) label: String,
    pub(super) tone: Tone,
    /// How many slices show what, by tone.
    pub(super) tones: BTreeMap<Tone, u64>,
    pub(super) rows: f64,
    /// 0 to [`LEVELS`].
    pub(super) level: u8,
}

impl Cell {
    fn new(label: String, tone: Tone) -> Self {
        Cell { label, tone, tones: BTreeMap::new(), rows: 0.0, level: 0 }
    }

    fn take(&mut self, tone: Tone, rows: f64) {
        self.tone = self.tone.and(tone);
        *self.tones.entry(tone).or_default() += 1;
        self.rows += rows;
    }

    /// Slices in it, or parts of them.
    pub(super) fn slices(&self) -> u64 {
        self.tones.values().sum()
    }
}

/// The map.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heat {
    /// A cell for each slice.
    Single(Vec<Cell>),
    /// Rows with a label, all of the same number of columns.
    Grid { step: Step, rows: Vec<(String, Vec<Option<Cell>>)> },
}

/// What a cell of a grid is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    /// So many slices, where no calendar fits.
    Slices(usize),
}

impl Step {
    /// By their length.
    const ALL: [Step; 7] =
        [Step::Second, Step::Minute, Step::Hour, Step::Day, Step::Week, Step::Month, Step::Year];

    fn seconds(self) -> i64 {
        match self {
            Step::Second => 1,
            Step::Minute => 60,
            Step::Hour => 3_600,
            Step::Day => 86_400,
            Step::Week => 604_800,
            Step::Month => 2_629_800,
            Step::Year | Step::Slices(_) => 31_557_600,
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Step::Second | Step::Minute => 60,
            Step::Hour => 24,
            Step::Day => 31,
            Step::Week => 53,
            Step::Month => 12,
            Step::Year => 10,
            Step::Slices(_) => 50,
        }
    }

    /// In words, for people.
    pub(super) fn word(self) -> String {
        match self {
            Step::Second => "second".into(),
            Step::Minute => "minute".into(),
            Step::Hour => "hour".into(),
            Step::Day => "day".into(),
            Step::Week => "week".into(),
            Step::Month => "month".into(),
            Step::Year => "year".into(),
            Step::Slices(n) => format!("run of {n} slices"),
        }
    }

    /// Row and column of a moment.
    fn place(self, t: DateTime) -> (i64, usize) {
        let days = i64::from(days(t.date()));
        let (year, month) = (i64::from(t.year()), i64::from(t.month()) - 1);
        match self {
            Step::Second => {
                let minute = days * 1_440 + i64::from(t.hour()) * 60 + i64::from(t.minute());
                (minute, t.second() as usize)
            }
            Step::Minute => (days * 24 + i64::from(t.hour()), t.minute() as usize),
            Step::Hour => (days, t.hour() as usize),
            Step::Day => (year * 12 + month, t.day() as usize - 1),
            Step::Week => {
                let week = t.date().iso_week_date();
                (i64::from(week.year()), week.week() as usize - 1)
            }
            Step::Month => (year, month as usize),
            Step::Year | Step::Slices(_) => (year.div_euclid(10), year.rem_euclid(10) as usize),
        }
    }

    /// The beginning of the cell that a moment lies in.
    fn floor(self, t: DateTime) -> DateTime {
        let date = t.date();
        let at = |h, m, s| date.at(h, m, s, 0);
        match self {
            Step::Second => at(t.hour(), t.minute(), t.second()),
            Step::Minute => at(t.hour(), t.minute(), 0),
            Step::Hour => at(t.hour(), 0, 0),
            Step::Day => at(0, 0, 0),
            Step::Week => {
                let back = i64::from(date.weekday().to_monday_zero_offset());
                date.saturating_sub(jiff::Span::new().days(back)).at(0, 0, 0, 0)
            }
            Step::Month => date.first_of_month().at(0, 0, 0, 0),
            Step::Year | Step::Slices(_) => date.first_of_year().at(0, 0, 0, 0),
        }
    }

    fn next(self, start: DateTime) -> Option<DateTime> {
        let span = jiff::Span::new();
        let span = match self {
            Step::Second => span.seconds(1),
            Step::Minute => span.minutes(1),
            Step::Hour => span.hours(1),
            Step::Day => span.days(1),
            Step::Week => span.weeks(1),
            Step::Month => span.months(1),
            Step::Year | Step::Slices(_) => span.years(1),
        };
        start.checked_add(span).ok()
    }

    fn row_label(self, t: DateTime) -> String {
        match self {
            Step::Second => t.strftime("%Y-%m-%d %H:%M").to_string(),
            Step::Minute => t.strftime("%Y-%m-%d %H:00").to_string(),
            Step::Hour => t.date().to_string(),
            Step::Day => t.strftime("%Y-%m").to_string(),
            Step::Week => t.date().iso_week_date().year().to_string(),
            Step::Month => t.year().to_string(),
            Step::Year | Step::Slices(_) => format!("{}0s", t.year().div_euclid(10)),
        }
    }

    fn cell_label(self, t: DateTime) -> String {
        match self {
            Step::Second => t.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Step::Minute => t.strftime("%Y-%m-%d %H:%M").to_string(),
            Step::Hour => t.strftime("%Y-%m-%d %H:00").to_string(),
            Step::Day => t.date().to_string(),
            Step::Week => format!("week of {}", t.date()),
            Step::Month => t.strftime("%Y-%m").to_string(),
            Step::Year | Step::Slices(_) => t.year().to_string(),
        }
    }

    /// The word above a column, where it has one.
    pub(super) fn column_label(self, column: usize) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        match self {
            Step::Second | Step::Minute if column.is_multiple_of(10) => format!("{column:02}"),
            Step::Hour if column.is_multiple_of(6) => format!("{column:02}"),
            Step::Day if column == 0 || (column + 1).is_multiple_of(5) => format!("{}", column + 1),
            Step::Week if column < 52 && column.is_multiple_of(13) => {
                MONTHS[column / 13 * 3 % 12].into()
            }
            Step::Month => MONTHS[column].into(),
            Step::Year => format!("{column}"),
            _ => String::new(),
        }
    }
}

fn days(date: Date) -> i32 {
    date.since(Date::constant(1970, 1, 1)).map_or(0, |span| span.get_days())
}

impl Heat {
    /// The map of a report; none where it has no slice.
    pub(super) fn of(report: &Report) -> Option<Heat> {
        let zone = zone(&report.plan.timezone).unwrap_or(TimeZone::UTC);
        let list = &report.slice_list;
        let (first, last) = (list.first()?, list.last()?);
        if list.len() <= SINGLE {
            return Some(single(list, &zone));
        }
        let local = |t: jiff::Timestamp| zone.to_datetime(t);
        let typical = median(list);
        let ends = (local(first.interval.start()), local(last.interval.end()));
        let fits = |step: &Step| {
            let (top, bottom) = (step.place(ends.0).0, step.place(ends.1).0);
            step.seconds() * 10 >= typical * 9 && bottom - top < ROWS
        };
        match Step::ALL.into_iter().find(fits) {
            Some(step) => Some(grid(step, list, &zone)),
            None => Some(runs(list, &zone)),
        }
    }
}

/// The length in the middle, seconds.
fn median(list: &[SliceLine]) -> i64 {
    let length = |s: &SliceLine| (s.interval.nanoseconds() / 1_000_000_000) as i64;
    let mut lengths: Vec<_> = list.iter().map(length).collect();
    let middle = lengths.len() / 2;
    *lengths.select_nth_unstable(middle).1
}

/// Rows of a slice that its last load knows; none before.
fn rows(slice: &SliceLine) -> f64 {
    slice.rows.map_or(0.0, |c| c.read as f64)
}

fn single(list: &[SliceLine], zone: &TimeZone) -> Heat {
    let local = |s: &SliceLine| zone.to_datetime(s.interval.start());
    // Clocks may take an hour from a day, and February is short.
    let all = |step: Step, hours: i128| {
        list.iter().all(|s| {
            let long = s.interval.nanoseconds() >= hours * 3_600_000_000_000;
            long && step.floor(local(s)) == local(s)
        })
    };
    let (months, days) = (all(Step::Month, 27 * 24), all(Step::Day, 23));
    let seconds = list.iter().any(|s| local(s).second() != 0);
    let label = |s: &SliceLine| match (months, days, seconds) {
        (true, ..) => local(s).strftime("%b %Y").to_string(),
        (_, true, _) => local(s).strftime("%-d %b %Y").to_string(),
        (.., true) => local(s).strftime("%-d %b %H:%M:%S").to_string(),
        _ => local(s).strftime("%-d %b %H:%M").to_string(),
    };
    let cell = |s: &SliceLine| {
        let mut cell = Cell::new(label(s), Tone::of(s.state));
        cell.take(Tone::of(s.state), rows(s));
        cell
    };
    let mut cells: Vec<_> = list.iter().map(cell).collect();
    levels(cells.iter_mut());
    Heat::Single(cells)
}

fn grid(step: Step, list: &[SliceLine], zone: &TimeZone) -> Heat {
    let mut grid: Vec<(String, Vec<Option<Cell>>)> = Vec::new();
    let top = step.place(zone.to_datetime(list[0].interval.start())).0;
    let mut add = |slice: &SliceLine, start: DateTime, share: f64| {
        let (row, column) = step.place(start);
        let row = (row - top).max(0) as usize;
        while grid.len() <= row {
            grid.push((String::new(), vec![None; step.columns()]));
        }
        let (label, cells) = &mut grid[row];
        if label.is_empty() {
            *label = step.row_label(start);
        }
        let tone = Tone::of(slice.state);
        let new = || Cell::new(step.cell_label(start), tone);
        cells[column].get_or_insert_with(new).take(tone, share);
    };
    for slice in list {
        let (from, to) =
            (zone.to_datetime(slice.interval.start()), zone.to_datetime(slice.interval.end()));
        let length = seconds(from, to);
        let mut start = step.floor(from);
        // Where clocks go back, a slice may end before it begins; it has its first cell.
        loop {
            let end = step.next(start).unwrap_or(DateTime::MAX);
            let inside = seconds(start.max(from), end.min(to));
            let share = if length > 0.0 { (inside / length).clamp(0.0, 1.0) } else { 1.0 };
            add(slice, start, rows(slice) * share);
            if end >= to || end == DateTime::MAX {
                break;
            }
            start = end;
        }
    }
    levels(grid.iter_mut().flat_map(|(_, cells)| cells.iter_mut().flatten()));
    Heat::Grid { step, rows: grid }
}

fn seconds(from: DateTime, to: DateTime) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Cells of as many slices each.
fn runs(list: &[SliceLine], zone: &TimeZone) -> Heat {
    let columns = Step::Slices(0).columns();
    let size = list.len().div_ceil(columns * 20);
    let step = Step::Slices(size);
    let cell = |run: &[SliceLine]| {
        let label = zone.to_datetime(run[0].interval.start()).to_string();
        let mut cell = Cell::new(label, Tone::of(run[0].state));
        for slice in run {
            cell.take(Tone::of(slice.state), rows(slice));
        }
        cell
    };
    let mut cells: Vec<_> = list.chunks(size).map(cell).collect();
    levels(cells.iter_mut());
    let row = |cells: &[Cell]| {
        let label = cells[0].label.get(..10).unwrap_or_default().to_owned();
        let mut row: Vec<_> = cells.iter().cloned().map(Some).collect();
        row.resize(columns, None);
        (label, row)
    };
    Heat::Grid { step, rows: cells.chunks(columns).map(row).collect() }
}

/// How full each cell is beside the fullest.
fn levels<'a>(cells: impl Iterator<Item = &'a mut Cell>) {
    let cells: Vec<_> = cells.collect();
    let most = cells.iter().map(|c| c.rows).fold(0.0, f64::max);
    for cell in cells {
        if cell.rows > 0.0 {
            let share = cell.rows / most * f64::from(LEVELS);
            cell.level = (share.ceil() as u8).clamp(1, LEVELS);
        }
    }
}
