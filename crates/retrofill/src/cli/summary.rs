//! What a run, an exec or a verify has to say at its end: for people and for machines.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use retrofill_core::interval::Interval;
use retrofill_core::ledger::State;
use retrofill_core::receipt::Counts;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::exit::Exit;
use super::output::{grouped, seconds};

/// How many slices stand where. The sum is `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SliceCounts {
    /// All slices; a halved one counts as its halves.
    pub total: u64,
    /// Loaded and proven.
    pub verified: u64,
    /// Proven to hold nothing to load.
    pub empty: u64,
    /// Given up after all tries.
    pub failed: u64,
    /// Read back different.
    pub mismatched: u64,
    /// Source, receipt or data changed since.
    pub stale: u64,
    /// Committed perhaps, or committed and not yet proven.
    pub unknown: u64,
    /// Still to do.
    pub planned: u64,
}

impl SliceCounts {
    /// Counts states; those of halved slices are left out, their halves count.
    pub fn of(states: impl IntoIterator<Item = State>) -> Self {
        let mut counts = SliceCounts::default();
        for state in states {
            let place = match state {
                State::Verified => &mut counts.verified,
                State::Empty => &mut counts.empty,
                State::Failed => &mut counts.failed,
                State::Mismatched => &mut counts.mismatched,
                State::Stale => &mut counts.stale,
                State::Loaded | State::Unknown => &mut counts.unknown,
                State::Planned | State::Loading => &mut counts.planned,
                State::Split => continue,
            };
            *place += 1;
            counts.total += 1;
        }
        counts
    }

    /// Slices with nothing left to do.
    pub fn done(&self) -> u64 {
        self.verified + self.empty
    }

    /// The word for the whole.
    pub fn status(&self) -> Status {
        if self.mismatched > 0 {
            Status::Mismatched
        } else if self.failed + self.stale + self.unknown > 0 {
            Status::Failed
        } else if self.planned > 0 {
            Status::Incomplete
        } else {
            Status::Verified
        }
    }
}

/// How the plan stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every slice is proven.
    Verified,
    /// Slices are still to do, none has failed.
    Incomplete,
    /// Slices are failed, stale or unknown.
    Failed,
    /// A slice was read back different.
    Mismatched,
}

/// The end of a command that worked on slices.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The job's name.
    pub job: String,
    /// The plan's id.
    pub plan: String,
    /// `12 CSV files in data/`.
    pub source: String,
    /// `Delta ./out`.
    pub target: String,
    /// See [`SliceCounts`].
    pub slices: SliceCounts,
    /// What the plan covers.
    pub interval: Interval,
    /// Whether its slices cover all of that.
    pub whole: bool,
    /// Where the rows of this invocation went.
    pub rows: Counts,
    /// Where the rows of the whole plan went.
    pub plan_rows: Counts,
    /// Rows of the source that lie before or after the plan's range: none of them is in `read`.
    /// An estimate until every slice is done.
    pub outside: u64,
    /// Digest of all rows of the plan as read back, hex; none before the first proven slice.
    pub digest: Option<String>,
    /// End of the run of done slices from the start of the plan.
    pub verified_through: Option<Timestamp>,
    /// Start of the run of done slices to the end of the plan.
    pub verified_back_to: Option<Timestamp>,
    /// How long it took.
    pub seconds: f64,
    /// How the process will end.
    pub exit: Exit,
    /// How the plan stands.
    pub status: Status,
    /// Path of the report, where one was written.
    pub report: Option<String>,
    /// Whether every slice was done before.
    pub nothing_to_do: bool,
    /// What was done after the loads, or failed, one line each.
    pub after: Vec<Followed>,
    /// Why slices are not done, one line each: `slice 20130101T000000Z failed: ...`.
    pub troubles: Vec<String>,
}

/// An action of the target after the loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// What it is.
    pub action: String,
    /// Why it failed, where it did.
    pub failed: Option<String>,
}

/// No more troubles than these are listed; the others are counted.
const MAX_TROUBLES: usize = 10;

impl Summary {
    /// The first screen.
    pub fn text(&self) -> String {
        if self.nothing_to_do {
            return self.idle();
        }
        let mut out = format!(
            "{}: {} -> {}      {}\n",
            self.job,
            self.source,
            self.target,
            extent(self.slices.total, &self.interval, self.whole)
        );
        // Writing to a text cannot fail.
        let _ =
            writeln!(out, "  {}   {}   {}", self.standing(), self.moved(), seconds(self.seconds));
        let _ = writeln!(out, "  {}", conservation(&self.rows));
        if self.outside > 0 {
            let about = if self.slices.done() == self.slices.total { "" } else { "about " };
            let rows = count(self.outside, "row");
            let _ = writeln!(out, "  {about}{rows} of the source lie outside of the range");
        }
        if let Some(digest) = &self.digest {
            let _ = write!(out, "  proven by reading back: digest {}...", short(digest));
            match (self.verified_through, self.verified_back_to) {
                (Some(t), _) => writeln!(out, "   verified through {t}"),
                (None, Some(t)) => writeln!(out, "   verified back to {t}"),
                (None, None) => writeln!(out),
            }
            .expect("writing to a text cannot fail");
        }
        self.followed(&mut out);
        if let Some(report) = &self.report {
            let _ = writeln!(out, "  report  {report}");
        }
        for trouble in self.troubles.iter().take(MAX_TROUBLES) {
            let _ = writeln!(out, "  {trouble}");
        }
        if self.troubles.len() > MAX_TROUBLES {
            let more = grouped((self.troubles.len() - MAX_TROUBLES) as u64);
            let _ = writeln!(out, "  and {more} more: retrofill status");
        }
        out.push_str(self.next());
        out.push('\n');
        out
    }

    /// What a run says that found no slice to do.
    fn idle(&self) -> String {
        let (done, total) = (grouped(self.slices.done()), grouped(self.slices.total));
        let mut out = if self.slices.done() == self.slices.total {
            format!("nothing to do: {done} of {total} slices already proven\n")
        } else {
            let mut out = format!("no slice selected: {}\n", self.standing());
            for trouble in self.troubles.iter().take(MAX_TROUBLES) {
                let _ = writeln!(out, "  {trouble}");
            }
            out
        };
        self.followed(&mut out);
        if self.exit == Exit::Rejects {
            let rejected = count(self.plan_rows.rejected, "row");
            let _ = writeln!(out, "  {rejected} rejected, more than rejects.max\n{}", self.next());
        }
        out
    }

    fn followed(&self, out: &mut String) {
        for action in &self.after {
            let how = action.failed.as_deref().map_or("done".into(), |e| format!("failed: {e}"));
            let _ = writeln!(out, "  after   {}   {how}", action.action);
        }
    }

    /// `verified 11/12, failed 1`.
    pub(super) fn standing(&self) -> String {
        let s = &self.slices;
        let mut out = format!("verified {}/{}", grouped(s.verified), grouped(s.total));
        for (number, word) in [
            (s.empty, "empty"),
            (s.failed, "failed"),
            (s.mismatched, "mismatched"),
            (s.stale, "stale"),
            (s.unknown, "unknown"),
            (s.planned, "to do"),
        ] {
            if number > 0 {
                let _ = write!(out, ", {word} {}", grouped(number));
            }
        }
        out
    }

    fn moved(&self) -> String {
        count(self.rows.read, "row")
    }

    fn next(&self) -> &'static str {
        match self.exit {
            Exit::Mismatched => "Next: retrofill verify | show | run --select mismatched",
            Exit::Rejects => "Next: see rejects/ in the state directory, or raise rejects.max",
            Exit::Done => "Next: retrofill gaps | verify | run (safe to repeat)",
            _ if self.slices.stale > 0 => {
                "Next: retrofill log | run | run --replan (takes the source as it is now)"
            }
            _ => "Next: retrofill status | log | run (continues where it stopped)",
        }
    }

    /// The same for machines: one line, without its end.
    pub fn json_line(&self) -> String {
        serde_json::to_string(self).expect("a summary is plain JSON")
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut line = to.serialize_struct("Summary", 15)?;
        line.serialize_field("v", &1)?;
        line.serialize_field("plan", &self.plan)?;
        line.serialize_field("status", &self.status)?;
        line.serialize_field("slices", &self.slices)?;
        line.serialize_field("rows", &self.rows)?;
        line.serialize_field("plan_rows", &self.plan_rows)?;
        line.serialize_field("outside", &self.outside)?;
        line.serialize_field("digest", &self.digest)?;
        line.serialize_field("verified_through", &self.verified_through)?;
        line.serialize_field("verified_back_to", &self.verified_back_to)?;
        line.serialize_field("seconds", &((self.seconds * 1000.0).round() / 1000.0))?;
        line.serialize_field("rows_per_second", &self.rows_per_second())?;
        line.serialize_field("exit", &self.exit.code())?;
        line.serialize_field("report", &self.report)?;
        if self.after.is_empty() {
            line.skip_field("after")?;
        } else {
            line.serialize_field("after", &self.after)?;
        }
        line.end()
    }
}

impl Summary {
    /// Rows read per second of this invocation; 0 where it took no time.
    pub fn rows_per_second(&self) -> u64 {
        if self.seconds > 0.0 { (self.rows.read as f64 / self.seconds).round() as u64 } else { 0 }
    }
}

/// `1 slice`, `12 slices`.
pub fn count(number: u64, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {word}{s}", grouped(number))
}

/// The line of conservation.
pub fn conservation(c: &Counts) -> String {
    format!(
        "read {} = written {} + updated {} + present {} + conflicts {} + duplicates {} \
         + rejected {} + filtered {}",
        grouped(c.read),
        grouped(c.written),
        grouped(c.updated),
        grouped(c.already_present),
        grouped(c.conflicting),
        grouped(c.duplicate),
        grouped(c.rejected),
        grouped(c.filtered)
    )
}

/// Slices and what they cover: `12 slices, 2013-01-01 <= t < 2014-01-01 UTC`.
pub fn extent(slices: u64, interval: &Interval, whole: bool) -> String {
    let part = if whole { "" } else { "parts of " };
    format!("{}, {part}{}", count(slices, "slice"), self::interval(interval))
}

/// Dates alone where both ends are midnights in UTC.
pub fn interval(i: &Interval) -> String {
    let midnight = |t: Timestamp| t.as_nanosecond().rem_euclid(86_400_000_000_000) == 0;
    let day = |t: Timestamp| t.to_zoned(TimeZone::UTC).date();
    if midnight(i.start()) && midnight(i.end()) {
        return format!("{} <= t < {} UTC", day(i.start()), day(i.end()));
    }
    i.to_string()
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Summary {
        let counts = Counts { read: 26_115, written: 26_115, ..Counts::default() };
        let states = std::iter::repeat_n(State::Verified, 12);
        Summary {
            job: "nyc-weather".into(),
            plan: "9f2c0123456789abcdef0123456789ab".into(),
            source: "12 monthly CSV files".into(),
            target: "Delta ./out".into(),
            slices: SliceCounts::of(states),
            interval: Interval::parse("2013-01-01T00:00:00Z", "2014-01-01T00:00:00Z").unwrap(),
            whole: true,
            rows: counts,
            plan_rows: counts,
            outside: 0,
            digest: Some("7c1e00112233445566778899aabbccdd".into()),
            verified_through: Some("2014-01-01T00:00:00Z".parse().unwrap()),
            verified_back_to: Some("2013-01-01T00:00:00Z".parse().unwrap()),
            seconds: 1.9004,
            exit: Exit::Done,
            status: Status::Verified,
            report: None,
            nothing_to_do: false,
            after: Vec::new(),
            troubles: Vec::new(),
        }
    }

    #[test]
    fn the_first_screen() {
        insta::assert_snapshot!(sample().text());
    }

    #[test]
    fn the_first_screen_with_a_report() {
        let report = Some("examples/nyc-weather/.retrofill/nyc-weather/report.html".into());
        insta::assert_snapshot!(Summary { report, ..sample() }.text());
    }

    #[test]
    fn again() {
        insta::assert_snapshot!(Summary { nothing_to_do: true, ..sample() }.text());
    }

    #[test]
    fn with_what_followed() {
        let mut after =
            vec![Followed { action: "refresh_materialized_view v".into(), failed: None }];
        after.push(Followed { action: "sql 9f2c01".into(), failed: Some("no such table".into()) });
        let summary = Summary { after, exit: Exit::Failed, ..sample() };
        insta::assert_snapshot!(summary.text());
        let again = Summary { nothing_to_do: true, ..summary.clone() };
        assert!(again.text().contains("after   sql 9f2c01   failed: no such table"));
        let json: serde_json::Value = serde_json::from_str(&summary.json_line()).unwrap();
        assert_eq!(json["after"][0]["failed"], serde_json::Value::Null);
        assert_eq!(json["after"][1]["failed"], "no such table");
    }

    #[test]
    fn with_troubles() {
        let mut states = vec![State::Verified; 3];
        states.extend([State::Empty, State::Failed, State::Mismatched, State::Stale]);
        states.extend([State::Unknown, State::Loaded, State::Planned, State::Loading]);
        states.push(State::Split);
        let slices = SliceCounts::of(states);
        let troubles = (1..=12).map(|n| format!("slice 201301{n:02}T000000Z failed: no room"));
        let summary = Summary {
            status: slices.status(),
            slices,
            interval: Interval::parse("2013-01-01T06:00:00Z", "2014-01-01T00:00:00Z").unwrap(),
            verified_through: None,
            exit: Exit::Mismatched,
            seconds: 3720.0,
            troubles: troubles.collect(),
            ..sample()
        };
        insta::assert_snapshot!(summary.text());
    }

    #[test]
    fn the_json_line() {
        insta::assert_snapshot!(sample().json_line());
    }

    #[test]
    fn states_sum_up() {
        let counts = SliceCounts::of(State::ALL);
        let s = counts;
        let sum = s.verified + s.empty + s.failed + s.mismatched + s.stale + s.unknown + s.planned;
        assert_eq!((sum, s.total), (9, 9));
        assert_eq!(counts.status(), Status::Mismatched);
        let status = |list: &[State]| SliceCounts::of(list.iter().copied()).status();
        assert_eq!(status(&[State::Verified, State::Empty]), Status::Verified);
        assert_eq!(status(&[State::Verified, State::Planned]), Status::Incomplete);
        assert_eq!(status(&[State::Stale, State::Planned]), Status::Failed);
    }
}
