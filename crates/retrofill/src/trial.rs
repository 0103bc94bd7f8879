//! What a sample of slices tells about all of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use retrofill_core::calendar::Every;
use retrofill_core::id::SliceId;
use retrofill_core::ledger::{Entry, Event, EventV1, SliceEvent};
use retrofill_core::plan::{self, Plan, Planned};
use retrofill_core::receipt::Counts;
use serde::Serialize;

/// A slice that takes longer is better cut.
const LONG: f64 = 60.0;
/// The same of one that was cut already, where the spec does not say what a transaction may take.
const CUT: f64 = 1.5;
/// A slice of whose time a larger part is not for its rows is better longer.
const SMALL: f64 = 0.25;
/// Fewer slices than this are never too many.
const FEW: usize = 50;

/// Which slices are tried, by index: the densest, the last and the sparsest that hold rows, the
/// first, then others by their size; about `wanted`, and so many that `lanes` are busy all the
/// time.
pub fn sample(slices: &[Planned], wanted: usize, lanes: usize) -> Vec<usize> {
    let mut by_rows: Vec<_> = (0..slices.len()).filter(|i| slices[*i].rows > 0).collect();
    if by_rows.is_empty() {
        by_rows = (0..slices.len()).collect();
    }
    let (first, last) = (by_rows.first().copied(), by_rows.last().copied());
    by_rows.sort_by_key(|i| slices[*i].rows);
    let (sparse, dense) = (by_rows.first().copied(), by_rows.last().copied());
    let wanted = wanted.max(1).next_multiple_of(lanes.max(1)).min(by_rows.len());
    let mut chosen: Vec<usize> = Vec::new();
    let even = (1..wanted.max(2)).map(|k| by_rows.get(by_rows.len() * k / wanted.max(2)).copied());
    for index in
        [dense, last, sparse, first].into_iter().chain(even).flatten().chain(by_rows.clone())
    {
        if chosen.len() < wanted && !chosen.contains(&index) {
            chosen.push(index);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// What the load of one slice took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tried {
    /// Where its rows went.
    pub counts: Counts,
    /// Seconds that it was in hand, halves and all tries together.
    pub seconds: f64,
    /// It was halved.
    pub halved: bool,
}

/// The slices that a journal tells of, and from when to when any was in hand, in seconds.
pub fn tried(entries: &[Entry]) -> (BTreeMap<SliceId, Tried>, f64) {
    let mut slices: BTreeMap<SliceId, Tried> = BTreeMap::new();
    let mut open: BTreeMap<SliceId, Timestamp> = BTreeMap::new();
    let (mut first, mut last) = (None, None);
    for entry in entries {
        let Event::V1(EventV1::Slice { slice, what }) = &entry.event else { continue };
        let whole = SliceId::new(slice.as_str().split('.').next().unwrap_or_default());
        let tried = slices.entry(whole).or_default();
        match what {
            SliceEvent::Leased { .. } => {
                first.get_or_insert(entry.at);
                open.insert(slice.clone(), entry.at);
                continue;
            }
            SliceEvent::Written { .. } | SliceEvent::Proven { .. } => continue,
            SliceEvent::Committed(outcome) => tried.counts.add(&outcome.counts),
            SliceEvent::Split { .. } => tried.halved = true,
            _ => {}
        }
        last = Some(entry.at);
        if let Some(since) = open.remove(slice) {
            tried.seconds += seconds(since, entry.at);
        }
    }
    (slices, first.zip(last).map_or(0.0, |(from, to)| seconds(from, to)))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_nanosecond() - from.as_nanosecond()).max(0) as f64 / 1e9
}

/// A number that lies between two others, most likely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range<T> {
    /// Hardly less.
    pub from: T,
    /// Hardly more.
    pub to: T,
}

/// What the full run will be like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// How long it takes.
    pub seconds: Range<f64>,
    /// The likeliest of these.
    pub likely_seconds: f64,
    /// Rows that will be written.
    pub written: Range<u64>,
    /// Rows that will be refused, those without a time among them.
    pub rejected: Range<u64>,
}

/// What a trial measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// The plan of the full run.
    pub plan: &'a Plan,
    /// The slices that were tried.
    pub tried: &'a BTreeMap<SliceId, Tried>,
    /// From the first of them in hand to the last one done.
    pub wall: f64,
    /// What was done before and after that, and will be once in the full run.
    pub overhead: f64,
    /// How many slices are in hand at a time.
    pub lanes: usize,
}

/// Seconds of a slice: so many, and so many for each row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    fixed: f64,
    row: f64,
}

impl Cost {
    /// Least squares; neither part is negative.
    fn of(tried: &BTreeMap<SliceId, Tried>) -> Self {
        let tried = tried.values();
        let n = tried.len().max(1) as f64;
        let sum = |of: fn(&Tried) -> f64| tried.clone().map(of).sum::<f64>();
        let (rows, secs) = (sum(|t| t.counts.read as f64), sum(|t| t.seconds));
        let (mean_rows, mean_secs) = (rows / n, secs / n);
        let off = |t: &Tried| (t.counts.read as f64 - mean_rows, t.seconds - mean_secs);
        let spread: f64 = tried.clone().map(|t| off(t).0.powi(2)).sum();
        let along: f64 = tried.clone().map(|t| off(t).0 * off(t).1).sum();
        let row = if spread > 0.0 { (along / spread).max(0.0) } else { 0.0 };
        let fixed = mean_secs - row * mean_rows;
        if fixed < 0.0 || spread == 0.0 {
            return Cost { fixed: 0.0, row: if rows > 0.0 { secs / rows } else { 0.0 } };
        }
        Cost { fixed, row }
    }

    fn of_slice(self, rows: u64) -> f64 {
        self.fixed + self.row * rows as f64
    }
}

impl Measured<'_> {
    fn cost(&self) -> Cost {
        Cost::of(self.tried)
    }

    /// What the full run will be like. The time lies between that of slices which fill all lanes
    /// without a break, and that of slices which follow each other as in the sample.
    pub fn forecast(&self) -> Forecast {
        let cost = self.cost();
        let all: f64 = self.plan.slices.iter().map(|s| cost.of_slice(s.rows)).sum();
        let done: f64 = self.tried.values().map(|t| cost.of_slice(t.counts.read)).sum();
        let lanes = self.lanes.clamp(1, self.plan.slices.len().max(1)) as f64;
        let packed = all / lanes;
        let like_sample = if done > 0.0 { self.wall * all / done } else { packed };
        let (low, high) = (packed.min(like_sample), packed.max(like_sample));
        // The less was measured, the less it says.
        let doubt = 0.25 + 0.5 / (1.0 + 2.0 * self.wall);
        Forecast {
            seconds: Range {
                from: self.overhead * (1.0 - doubt) + low * (1.0 - doubt),
                to: (self.overhead + high) * (1.0 + doubt) + 0.1,
            },
            likely_seconds: self.overhead + (low * high).sqrt(),
            written: self.share(|c| c.written + c.updated, 0),
            rejected: self.share(|c| c.rejected, self.plan.survey.unplaced),
        }
    }

    /// How many of all rows a count will be, and so many more. What no row of the sample was, up to
    /// three in as many may be (the rule of three: 95 % of samples would show more).
    fn share(&self, of: fn(&Counts) -> u64, more: u64) -> Range<u64> {
        let rows: u64 = self.tried.values().map(|t| t.counts.read).sum();
        if self.tried.len() == self.plan.slices.len() {
            let all = self.tried.values().map(|t| of(&t.counts)).sum::<u64>() + more;
            return Range { from: all, to: all };
        }
        let total = self.plan.estimated_rows() as f64;
        let shares = self.tried.values().filter(|t| t.counts.read > 0);
        let shares = shares.map(|t| of(&t.counts) as f64 / t.counts.read as f64);
        let (mut low, mut high) = (1.0_f64, 0.0_f64);
        for share in shares {
            (low, high) = (low.min(share), high.max(share));
        }
        if rows == 0 {
            return Range { from: more, to: total as u64 + more };
        }
        let unseen = 3.0 / rows as f64;
        let (low, high) = ((low - unseen).max(0.0), (high + unseen).min(1.0));
        Range { from: (total * low).floor() as u64 + more, to: (total * high).ceil() as u64 + more }
    }

    /// Lines of the spec that would serve the full run better, each with the reason.
    pub fn advice(&self, forecast: &Forecast) -> Vec<(String, String)> {
        let mut out = Vec::new();
        if let Some((every, why)) = self.better_size() {
            out.push((format!("range: {{ every: {every} }}"), why));
        }
        let refused = forecast.rejected.to;
        let surveyed = self.plan.survey.rows + self.plan.survey.unplaced;
        let seen: u64 = self.tried.values().map(|t| t.counts.rejected).sum();
        if seen + self.plan.survey.unplaced > 0
            && self.plan.spec.rejects.exceeded(refused, surveyed)
            && surveyed > 0
        {
            let percent = (refused as f64 / surveyed as f64 * 1_000.0).ceil() / 10.0;
            out.push((
                format!("rejects: {{ max: {percent}% }}"),
                "if the refused rows may stay out; else mend the source or its settings".into(),
            ));
        }
        out
    }

    /// Another size of slices, and why.
    fn better_size(&self) -> Option<(Every, String)> {
        let cost = self.cost();
        let rows = self.plan.slices.iter().map(|s| s.rows);
        let most = rows.clone().max().filter(|most| *most > 0)?;
        let longest = cost.of_slice(most);
        let seconds_of = |wanted: f64| {
            let rows = (wanted - cost.fixed).max(0.0) / cost.row.max(f64::MIN_POSITIVE);
            self.plan.every.nominal_seconds() as f64 * rows / most as f64
        };
        let halved = self.tried.values().any(|t| t.halved);
        let told = self.plan.spec.limits.max_transaction.map(|d| d.as_secs_f64());
        let limit = told.unwrap_or(if halved { CUT } else { LONG });
        if halved || longest > LONG {
            let every = plan::at_most(seconds_of(limit / 4.0));
            let why = if halved {
                "a slice was halved: it took longer than a transaction may, or more memory"
            } else {
                "a slice takes long to be done again after a failure"
            };
            return (every.nominal_seconds() < self.plan.every.nominal_seconds())
                .then(|| (every, format!("{why} ({longest:.0} s)")));
        }
        let mean = rows.sum::<u64>() / self.plan.slices.len().max(1) as u64;
        let share = cost.fixed / cost.of_slice(mean).max(f64::MIN_POSITIVE);
        if share <= SMALL || self.plan.slices.len() < FEW {
            return None;
        }
        // A twentieth for what is not rows, and never longer than is good.
        let every = plan::at_most(seconds_of((20.0 * cost.fixed).min(limit / 4.0)));
        (every.nominal_seconds() > self.plan.every.nominal_seconds()).then(|| {
            let why = format!("{:.0} % of a slice's time is not for its rows", share * 100.0);
            (every, why)
        })
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
