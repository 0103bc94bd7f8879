//! How far a run is: bars on a terminal, a line now and then elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use retrofill_core::ledger::State;

use super::output::{self, Format, Output, grouped, seconds};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time between two looks at the counters.
const TICK: Duration = Duration::from_millis(200);

/// What slowed a run down is told for so long, unless it is said again.
const NOTE_FOR: Duration = Duration::from_secs(15);

/// The rate is that of this stretch of time.
const WINDOW: Duration = Duration::from_secs(10);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars on stderr.
    Bars,
    /// A line every 5 seconds on stderr.
    Lines,
    /// Not at all.
    Silent,
}

impl Mode {
    /// Silent with `--quiet` or `--output json`; bars where stderr is a terminal.
    pub fn pick(output: &Output) -> Self {
        if output.quiet || output.format == Format::Json {
            Mode::Silent
        } else if output.has_terminal() {
            Mode::Bars
        } else {
            Mode::Lines
        }
    }
}

/// All bars of the process, so that other output can step aside for them.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
}

/// Prints something else while the bars are away.
pub(super) fn aside<T>(print: impl FnOnce() -> T) -> T {
    bars().suspend(print)
}

/// Takes what happens from any number of tasks and shows it. Counting costs one atomic addition;
/// a thread of its own does the drawing.
#[derive(Debug)]
pub struct Progress {
    counters: Arc<Counters>,
    /// Dropped or sent to: the thread ends.
    stop: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
}

#[derive(Debug, Default)]
struct Counters {
    surveyed: AtomicU64,
    to_survey: AtomicU64,
    staged: AtomicU64,
    to_stage: AtomicU64,
    slices: AtomicU64,
    slices_done: AtomicU64,
    slices_troubled: AtomicU64,
    rows: AtomicU64,
    rows_done: AtomicU64,
    /// With the moment from which on it is no longer true.
    note: Mutex<Option<(Instant, String)>>,
}

impl Progress {
    /// Starts to show progress. Totals that are not known yet are 0; see [`Progress::plan`].
    pub fn new(mode: Mode, total_slices: u64, total_rows: u64) -> Self {
        let counters = Arc::new(Counters::default());
        counters.slices.store(total_slices, Relaxed);
        counters.rows.store(total_rows, Relaxed);
        let stop = (mode != Mode::Silent).then(|| {
            let (give, take) = mpsc::channel();
            let seen = Arc::clone(&counters);
            let thread = std::thread::spawn(move || match mode {
                Mode::Bars => draw_bars(&seen, &take),
                _ => draw_lines(&seen, &take, LINE_EVERY, &mut |line| output::log(line)),
            });
            (give, thread)
        });
        Progress { counters, stop: Mutex::new(stop) }
    }

    /// Sets the totals once the plan is known; `done` slices were done before.
    pub fn plan(&self, total_slices: u64, total_rows: u64, done: u64) {
        self.counters.slices.store(total_slices, Relaxed);
        self.counters.rows.store(total_rows, Relaxed);
        self.counters.slices_done.store(done, Relaxed);
    }

    /// The survey has done so much of all its work, in bytes.
    pub fn survey(&self, done: u64, total: u64) {
        self.counters.to_survey.store(total, Relaxed);
        self.counters.surveyed.store(done, Relaxed);
    }

    /// The source has sorted so much of all it holds, in a measure of its own.
    pub fn stage(&self, done: u64, total: u64) {
        self.counters.to_stage.store(total, Relaxed);
        self.counters.staged.store(done, Relaxed);
    }

    /// So many more rows were read.
    pub fn rows(&self, more: u64) {
        self.counters.rows_done.fetch_add(more, Relaxed);
    }

    /// So many rows that were read will be read again.
    pub fn unread(&self, fewer: u64) {
        let less = |rows: u64| Some(rows.saturating_sub(fewer));
        // It always finds a number to put in its place.
        let _ = self.counters.rows_done.fetch_update(Relaxed, Relaxed, less);
    }

    /// A slice came to rest in this state. A halved slice is one slice more.
    pub fn slice_done(&self, state: State) {
        let counter = match state {
            State::Verified | State::Empty => &self.counters.slices_done,
            State::Failed | State::Mismatched | State::Stale | State::Unknown => {
                &self.counters.slices_troubled
            }
            State::Split => &self.counters.slices,
            State::Planned | State::Loading | State::Loaded => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Why it is slow, in a few words. It stands for some seconds.
    pub fn note(&self, text: &str) {
        let mut note = self.counters.note.lock().unwrap_or_else(PoisonError::into_inner);
        *note = Some((Instant::now() + NOTE_FOR, text.to_owned()));
    }

    /// Ends the display. Bars are taken away. Nothing is shown afterwards.
    pub fn finish(&self) {
        let taken = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = taken {
            drop(stop);
            // A display that broke must not break the run.
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the counters say at one moment.
#[derive(Debug, Clone, Default)]
struct Shown {
    surveyed: u64,
    to_survey: u64,
    staged: u64,
    to_stage: u64,
    slices: u64,
    slices_done: u64,
    slices_troubled: u64,
    rows: u64,
    rows_done: u64,
    /// Rows per second, lately.
    rate: f64,
    note: String,
}

impl Shown {
    /// What the source does before the first slice, and how far it is; nothing once slices are
    /// loaded.
    fn before(&self) -> Option<Before> {
        let surveying = self.rows_done == 0 && self.surveyed < self.to_survey;
        let (doing, done, all) = match self.to_stage {
            _ if self.slices > 0 && !surveying => return None,
            0 => ("reading", self.surveyed, self.to_survey),
            _ => ("sorting", self.staged, self.to_stage),
        };
        Some(Before { doing, done: done.min(all), all })
    }

    /// `13,742 rows/s, 25 s left (slow: ...)`.
    fn pace(&self) -> String {
        let mut text = format!("{} rows/s", grouped(self.rate.round() as u64));
        let left = self.rows.saturating_sub(self.rows_done);
        if left > 0 && self.rate >= 1.0 {
            text.push_str(", ");
            text.push_str(&seconds(left as f64 / self.rate));
            text.push_str(" left");
        }
        if !self.note.is_empty() {
            text.push_str(" (slow: ");
            text.push_str(&self.note);
            text.push(')');
        }
        text
    }

    fn line(&self) -> String {
        if let Some(before) = self.before() {
            return format!("{} the source: {} %", before.doing, before.percent());
        }
        let troubled = match self.slices_troubled {
            0 => String::new(),
            n => format!(", {} in trouble", grouped(n)),
        };
        format!(
            "slices {}/{}{troubled}, rows {}/{}, {}",
            grouped(self.slices_done),
            grouped(self.slices),
            grouped(self.rows_done),
            grouped(self.rows.max(self.rows_done)),
            self.pace()
        )
    }
}

/// Work of the source before the first slice.
struct Before {
    doing: &'static str,
    done: u64,
    all: u64,
}

impl Before {
    fn percent(&self) -> u64 {
        self.done.saturating_mul(100).checked_div(self.all).unwrap_or(0)
    }
}

/// Rows over the last seconds.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn at(&mut self, now: Instant, rows: u64) -> f64 {
        self.0.push_back((now, rows));
        while self.0.len() > 2 && now - self.0[1].0 >= WINDOW {
            self.0.pop_front();
        }
        let (then, before) = self.0[0];
        let length = (now - then).as_secs_f64();
        if length > 0.0 { rows.saturating_sub(before) as f64 / length } else { 0.0 }
    }
}

fn look(counters: &Counters, rate: &mut Rate) -> Shown {
    let rows_done = counters.rows_done.load(Relaxed);
    let mut note = counters.note.lock().unwrap_or_else(PoisonError::into_inner);
    note.take_if(|(until, _)| *until <= Instant::now());
    Shown {
        surveyed: counters.surveyed.load(Relaxed),
        to_survey: counters.to_survey.load(Relaxed),
        staged: counters.staged.load(Relaxed),
        to_stage: counters.to_stage.load(Relaxed),
        slices: counters.slices.load(Relaxed),
        slices_done: counters.slices_done.load(Relaxed),
        slices_troubled: counters.slices_troubled.load(Relaxed),
        rows: counters.rows.load(Relaxed),
        rows_done,
        rate: rate.at(Instant::now(), rows_done),
        note: note.as_ref().map(|(_, text)| text.clone()).unwrap_or_default(),
    }
}

fn draw_lines(
    counters: &Counters,
    stop: &mpsc::Receiver<()>,
    every: Duration,
    print: &mut dyn FnMut(&str),
) {
    let mut rate = Rate::default();
    rate.at(Instant::now(), counters.rows_done.load(Relaxed));
    while stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        print(&look(counters, &mut rate).line());
    }
}

fn draw_bars(counters: &Counters, stop: &mpsc::Receiver<()>) {
    let bar = |template: &str| {
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        bars().add(ProgressBar::new(1).with_style(style.progress_chars("=> ")))
    };
    let slices = bar("{prefix:>6} [{bar:32}] {msg}");
    let rows = bar("{prefix:>6} [{bar:32}] {msg}");
    let mut rate = Rate::default();
    loop {
        let shown = look(counters, &mut rate);
        if let Some(before) = shown.before() {
            slices.set_prefix("source");
            set(&slices, before.done, before.all);
            slices.set_message(format!("{} it, {} %", before.doing, before.percent()));
        } else {
            slices.set_prefix("slices");
            set(&slices, shown.slices_done, shown.slices);
            let (done, all) = (grouped(shown.slices_done), grouped(shown.slices));
            slices.set_message(match shown.slices_troubled {
                0 => format!("{done}/{all}"),
                n => format!("{done}/{all}, {} in trouble", grouped(n)),
            });
            rows.set_prefix("rows");
            set(&rows, shown.rows_done, shown.rows);
            let (done, all) = (shown.rows_done, shown.rows.max(shown.rows_done));
            rows.set_message(format!("{}/{}, {}", grouped(done), grouped(all), shown.pace()));
        }
        if stop.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    for bar in [slices, rows] {
        bar.finish_and_clear();
        bars().remove(&bar);
    }
}

fn set(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total.max(done).max(1));
    bar.set_position(done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_it_all() {
        let surveying = Shown { surveyed: 5, to_survey: 8, ..Shown::default() };
        assert_eq!(surveying.line(), "reading the source: 62 %");
        let sorting =
            Shown { surveyed: 8, to_survey: 8, staged: 1, to_stage: 4, ..Shown::default() };
        assert_eq!(sorting.line(), "sorting the source: 25 %");
        let mut shown = Shown {
            slices: 12,
            slices_done: 3,
            rows: 26_115,
            rows_done: 6_000,
            rate: 4_023.0,
            ..Shown::default()
        };
        assert_eq!(shown.line(), "slices 3/12, rows 6,000/26,115, 4,023 rows/s, 5.0 s left");
        shown.slices_troubled = 1;
        shown.note = "target at its limit".into();
        assert_eq!(
            shown.line(),
            "slices 3/12, 1 in trouble, rows 6,000/26,115, 4,023 rows/s, 5.0 s left \
             (slow: target at its limit)"
        );
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_secs(n);
        assert!(rate.at(at(0), 0).abs() < 1e-9);
        assert!((rate.at(at(10), 1_000) - 100.0).abs() < 1e-9);
        // Ten seconds later nothing has come: the early rows no longer count.
        rate.at(at(15), 1_000);
        assert!(rate.at(at(25), 1_000).abs() < 1e-9);
    }

    #[test]
    fn counts_from_many_threads_come_together() {
        let progress = Progress::new(Mode::Silent, 0, 0);
        progress.plan(8, 8_000, 0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..1_000).for_each(|_| progress.rows(1));
                    progress.slice_done(State::Verified);
                    progress.slice_done(State::Loading);
                });
            }
        });
        progress.rows(50);
        progress.unread(50);
        progress.slice_done(State::Failed);
        progress.slice_done(State::Split);
        let shown = look(&progress.counters, &mut Rate::default());
        assert_eq!((shown.rows_done, shown.slices_done), (8_000, 8));
        assert_eq!((shown.slices, shown.slices_troubled), (9, 1));
        progress.finish();
    }

    #[test]
    fn lines_come_by_themselves_until_stopped() {
        let counters = Counters::default();
        let (give, take) = mpsc::channel();
        let mut lines = Vec::new();
        let mut stop = Some(give);
        draw_lines(&counters, &take, Duration::from_millis(5), &mut |line| {
            lines.push(line.to_owned());
            if lines.len() == 3 {
                stop = None;
            }
        });
        assert_eq!(lines, ["reading the source: 0 %"; 3]);
    }

    #[test]
    fn bars_end_when_told() {
        let progress = Progress::new(Mode::Bars, 2, 10);
        progress.rows(5);
        progress.note("testing");
        progress.finish();
        progress.finish();
        assert!(progress.stop.lock().unwrap().is_none());
    }

    #[test]
    fn quiet_and_json_are_silent() {
        let quiet = Output { quiet: true, ..Output::default() };
        assert_eq!(Mode::pick(&quiet), Mode::Silent);
        let json = Output { format: Format::Json, quiet: false };
        assert_eq!(Mode::pick(&json), Mode::Silent);
    }
}
