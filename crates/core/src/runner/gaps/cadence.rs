//! How often rows come: what the differences between neighbouring times of each key say.

use std::collections::BTreeMap;

use crate::calendar::Every;
use crate::error::{Error, Result};

/// So many different differences are counted per key. What covers more than an eighth of them is
/// never lost.
const KEPT: usize = 7;

/// Fewer differences than this tell nothing.
const FEWEST: u64 = 3;

/// So many differences are named where none is the one.
const NAMED: usize = 4;

const DAY: i128 = 86_400 * SECOND;
const HOUR: i128 = 3_600 * SECOND;
const SECOND: i128 = 1_000_000_000;

/// Units whose length in days varies: months of each, and the days that it may have.
const VARYING: [(u32, i128, i128); 3] = [(1, 28, 31), (3, 90, 92), (6, 181, 184)];

/// The distance between rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// One that a cadence can have.
    Grid(Nominal),
    /// Another number of nanoseconds.
    Odd(i128),
}

/// A cadence that is compared by its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nominal(pub(super) Every);

impl Nominal {
    fn seconds(self) -> u64 {
        self.0.nominal_seconds()
    }
}

impl PartialEq for Nominal {
    fn eq(&self, other: &Self) -> bool {
        self.seconds() == other.seconds()
    }
}

impl Eq for Nominal {}

impl PartialOrd for Nominal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nominal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seconds().cmp(&other.seconds())
    }
}

impl Step {
    /// From a difference.
    fn of(nanoseconds: i128) -> Self {
        let odd = Step::Odd(nanoseconds);
        if nanoseconds % SECOND != 0 {
            return odd;
        }
        let seconds = nanoseconds / SECOND;
        let units = [
            Every::Weeks(1),
            Every::Days(1),
            Every::Hours(1),
            Every::Minutes(1),
            Every::Seconds(1),
        ];
        let length = |unit: &Every| i128::from(unit.nominal_seconds());
        let Some(unit) = units.into_iter().find(|u| seconds % length(u) == 0) else { return odd };
        // What `--every` takes.
        let Ok(n @ 1..=1_000_000) = u32::try_from(seconds / length(&unit)) else { return odd };
        Step::Grid(Nominal(match unit {
            Every::Weeks(_) => Every::Weeks(n),
            Every::Days(_) => Every::Days(n),
            Every::Hours(_) => Every::Hours(n),
            Every::Minutes(_) => Every::Minutes(n),
            _ => Every::Seconds(n),
        }))
    }

    fn nanoseconds(self) -> i128 {
        match self {
            Step::Grid(every) => i128::from(every.seconds()) * SECOND,
            Step::Odd(n) => n,
        }
    }

    fn text(self) -> String {
        match self {
            Step::Grid(Nominal(every)) => every.to_string(),
            Step::Odd(n) => format!("{}s", n as f64 / SECOND as f64),
        }
    }
}

/// The differences between neighbouring times of one key, the frequent ones counted: the summary
/// of Misra and Gries. Exact while there are no more than [`KEPT`] different ones.
#[derive(Debug, Default)]
pub(super) struct Differences {
    list: Vec<(i128, u64)>,
    total: u64,
}

impl Differences {
    pub(super) fn add(&mut self, nanoseconds: i128) {
        self.total += 1;
        if let Some(known) = self.list.iter_mut().find(|(length, _)| *length == nanoseconds) {
            known.1 += 1;
        } else if self.list.len() < KEPT {
            self.list.push((nanoseconds, 1));
        } else {
            self.list.iter_mut().for_each(|(_, count)| *count -= 1);
            self.list.retain(|(_, count)| *count > 0);
        }
    }

    /// What more than half of them are, and how many; none where no difference is so frequent.
    fn mode(&self) -> Option<(Step, u64)> {
        let best = self.list.iter().max_by_key(|(length, count)| (*count, -*length))?;
        let more_than_half = |count: u64| count * 2 > self.total;
        if let Some((step, count)) = self.varying(best.0).filter(|v| more_than_half(v.1)) {
            return Some((step, count));
        }
        more_than_half(best.1).then(|| (Step::of(best.0), best.1))
    }

    /// The calendar unit of varying length that the most frequent difference speaks for.
    fn varying(&self, best: i128) -> Option<(Step, u64)> {
        let best = days(best)?;
        let within = |low: i128, high: i128| {
            let inside = |(length, _): &&(i128, u64)| {
                days(*length).is_some_and(|d| (low..=high).contains(&d))
            };
            let list: Vec<_> = self.list.iter().filter(inside).collect();
            let count = list.iter().map(|(_, count)| count).sum::<u64>();
            let mut lengths: Vec<_> = list.iter().filter_map(|(length, _)| days(*length)).collect();
            lengths.sort_unstable();
            lengths.dedup();
            (count, lengths.len())
        };
        if (365..=366).contains(&best) {
            return Some((Step::Grid(Nominal(Every::Years(1))), within(365, 366).0));
        }
        // The shortest alone are weeks, and one length alone is a number of days.
        let fits = |(_, low, high): &&(u32, i128, i128)| *low < best && best <= *high;
        let (months, low, high) = VARYING.iter().find(fits)?;
        let (count, lengths) = within(*low, *high);
        (lengths > 1).then_some((Step::Grid(Nominal(Every::Months(*months))), count))
    }
}

/// Whole days, where clocks may have changed between.
fn days(nanoseconds: i128) -> Option<i128> {
    let days = (nanoseconds + DAY / 2).div_euclid(DAY);
    ((nanoseconds - days * DAY).abs() <= HOUR).then_some(days)
}

/// What the keys say together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Per distance the keys whose rows mostly have it, how many rows do, and one such key.
    votes: BTreeMap<Step, Votes>,
    /// Keys that say something.
    voters: u64,
    /// Keys with enough rows that say nothing.
    unclear: Votes,
    /// Differences of all keys.
    differences: u64,
    /// How often there is which, as far as that was counted.
    seen: BTreeMap<i128, u64>,
}

#[derive(Debug, Default, Clone)]
struct Votes {
    keys: u64,
    rows: u64,
    example: String,
}

/// More different differences than this are not told apart.
const SEEN: usize = 10_000;

impl Tally {
    /// Takes what one key says.
    pub(super) fn take(&mut self, differences: &Differences, key: impl FnOnce() -> String) {
        self.differences += differences.total;
        for (length, count) in &differences.list {
            if self.seen.len() < SEEN || self.seen.contains_key(length) {
                *self.seen.entry(*length).or_default() += count;
            }
        }
        let mode = differences.mode();
        if mode.is_none() && differences.total < FEWEST {
            return;
        }
        let (votes, count) = match mode {
            Some((step, count)) => {
                self.voters += 1;
                (self.votes.entry(step).or_default(), count)
            }
            None => (&mut self.unclear, differences.total),
        };
        if votes.keys == 0 {
            votes.example = key();
        }
        votes.keys += 1;
        votes.rows += count;
    }

    /// Differences of all keys.
    pub(super) fn differences(&self) -> u64 {
        self.differences
    }

    /// The distance of a clear majority: more than half of all neighbouring rows have it, in more
    /// than half of the keys it prevails. With the share of rows.
    pub(super) fn found(&self) -> Result<(Every, f64)> {
        if self.differences < FEWEST {
            let only = self.differences;
            return Err(Error::config(format!(
                "no cadence can be found: only {only} rows have another of their key before them"
            ))
            .hint("`--every 1h` says how often rows should come"));
        }
        let best = self.votes.iter().max_by_key(|(_, v)| (v.rows, v.keys));
        let clear = |v: &Votes| v.rows * 2 > self.differences && v.keys * 2 > self.voters;
        match best.filter(|(_, votes)| clear(votes)) {
            Some((Step::Grid(every), v)) => Ok((every.0, v.rows as f64 / self.differences as f64)),
            Some((step, _)) => Err(Error::config(format!(
                "rows come every {}, which is no whole number of seconds, or very long",
                step.text()
            ))
            .hint("`--every 1s` finds the seconds without a row")),
            None => Err(self.unclear()),
        }
    }

    fn unclear(&self) -> Error {
        let what = "no cadence can be found: rows do not come at one distance";
        if self.votes.len() > 1 {
            let mut votes: Vec<_> = self.votes.iter().collect();
            votes.sort_by_key(|(_, v)| std::cmp::Reverse(v.keys));
            let word = |n: u64| if n == 1 { "1 key".into() } else { format!("{n} keys") };
            let one = |(step, v): &(&Step, &Votes)| {
                format!("{} in {} such as {}", step.text(), word(v.keys), v.example)
            };
            let list: Vec<_> = votes.iter().take(NAMED).map(one).collect();
            return Error::config(format!("{what}; it is {}", list.join(", ")))
                .hint("`--every` says which is meant: gaps of all keys are counted by it");
        }
        let mut seen: Vec<_> = self.seen.iter().collect();
        seen.sort_by_key(|(length, count)| (std::cmp::Reverse(**count), **length));
        let one = |(length, count): &(&i128, &u64)| {
            let share = **count as f64 * 100.0 / self.differences as f64;
            format!("{} ({share:.0} %)", Step::of(**length).text())
        };
        let list: Vec<_> = seen.iter().take(NAMED).map(one).collect();
        let seen = match &list[..] {
            [] => String::new(),
            list => format!("; the most frequent are {}", list.join(", ")),
        };
        Error::config(format!("{what}{seen}")).hint("`--every 1h` says how often rows should come")
    }

    /// Keys whose rows come at another distance than the cadence, in a sentence each.
    pub(super) fn doubts(&self, every: Every, keys: u64) -> Vec<String> {
        let meant = Step::Grid(Nominal(every));
        let others = self.votes.iter().filter(|(step, _)| **step != meant);
        let sentence = |(step, v): (&Step, &Votes)| {
            let who = match (v.keys, v.keys == keys) {
                (1, true) => "rows come".to_owned(),
                (n, true) => format!("rows of all {n} keys come"),
                (n, false) => format!("rows of {n} of {keys} keys ({}) come", v.example),
            };
            let effect = if step.nanoseconds() < meant.nanoseconds() {
                "several share a bucket, and a hole shorter than a bucket is not seen"
            } else {
                "most buckets that are called absent lie between two rows that are neighbours"
            };
            format!("{who} every {}, not every {every}: {effect}", step.text())
        };
        let mut list: Vec<_> = others.map(sentence).collect();
        let Votes { keys: unclear, example, .. } = &self.unclear;
        if *unclear > 0 && self.voters > 0 {
            list.push(format!(
                "rows of {unclear} of {keys} keys ({example}) do not come at one distance: what is \
                 called absent of them may be right or wrong"
            ));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::calendar::zone;
    use crate::interval::Interval;

    fn tally(keys: &[&[i128]]) -> Tally {
        let mut tally = Tally::default();
        for (n, list) in keys.iter().enumerate() {
            let mut differences = Differences::default();
            list.iter().for_each(|d| differences.add(*d));
            tally.take(&differences, || format!("k{n}"));
        }
        tally
    }

    fn found(keys: &[&[i128]]) -> Result<String> {
        tally(keys).found().map(|(every, _)| every.to_string())
    }

    /// Differences between the starts of a calendar's pieces.
    fn calendar(every: &str, pieces: usize, name: &str) -> Vec<i128> {
        let (every, zone): (Every, _) = (every.parse().unwrap(), zone(name).unwrap());
        let mut list = Vec::new();
        let mut t = every.floor(Timestamp::from_second(1_500_000_000).unwrap(), &zone).unwrap();
        for _ in 0..pieces {
            let next = every.after(t, &zone).unwrap();
            list.push(Interval::new(t, next).unwrap().nanoseconds());
            t = next;
        }
        list
    }

    #[test]
    fn the_unit_is_the_largest_that_fits() {
        for (seconds, want) in
            [(1, "1s"), (90, "90s"), (300, "5min"), (3_600, "1h"), (129_600, "36h")]
        {
            assert_eq!(found(&[&[seconds * SECOND; 3]]).unwrap(), want);
        }
        assert_eq!(found(&[&[DAY; 3]]).unwrap(), "1d");
        assert_eq!(found(&[&[7 * DAY; 3]]).unwrap(), "1w");
    }

    #[test]
    fn units_of_the_calendar_are_known_by_their_lengths() {
        for (every, name) in [
            ("1d", "Europe/Berlin"),
            ("1w", "Europe/Berlin"),
            ("1mo", "Europe/Berlin"),
            ("3mo", "UTC"),
            ("6mo", "UTC"),
            ("1y", "UTC"),
        ] {
            for pieces in [3, 5, 40] {
                let list = calendar(every, pieces, name);
                assert_eq!(found(&[&list]).unwrap(), every, "{pieces} of {list:?}");
            }
        }
        // Four weeks, and once a day late.
        let mut weeks = vec![28 * DAY; 10];
        weeks.extend([29 * DAY, 27 * DAY]);
        assert_eq!(found(&[&weeks]).unwrap(), "4w");
    }

    #[test]
    fn a_majority_must_be_clear() {
        let (hour, minute) = (HOUR, 60 * SECOND);
        let half = [hour, hour, 2 * hour, 3 * hour];
        let error = found(&[&half]).unwrap_err().to_string();
        assert!(
            error.ends_with("the most frequent are 1h (50 %), 2h (25 %), 3h (25 %)"),
            "{error}"
        );
        assert!(found(&[&[hour, hour, 2 * hour]]).is_ok());
        assert!(found(&[&[hour, hour]]).unwrap_err().to_string().contains("only 2 rows"));
        let odd = found(&[&[SECOND / 10; 5]]).unwrap_err().to_string();
        assert!(odd.contains("every 0.1s"), "{odd}");
        // Many rows of one key do not speak for the others.
        let (busy, calm) = ([minute; 90], [hour; 5]);
        let error = found(&[&busy, &calm, &calm]).unwrap_err().to_string();
        assert!(
            error.ends_with("it is 1h in 2 keys such as k1, 1min in 1 key such as k0"),
            "{error}"
        );
        assert_eq!(found(&[&busy, &busy, &calm]).unwrap(), "1min");
        let doubts = tally(&[&busy, &busy, &calm]).doubts(Every::Minutes(1), 3);
        assert_eq!(doubts.len(), 1);
        assert!(doubts[0].starts_with("rows of 1 of 3 keys (k2) come every 1h, not every 1min"));
        let wild = [hour, 2 * hour, 3 * hour, 5 * hour];
        let doubts = tally(&[&busy, &busy, &wild, &[hour]]).doubts(Every::Minutes(1), 4);
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(doubts[0].starts_with("rows of 1 of 4 keys (k3) come every 1h"), "{doubts:?}");
        assert!(doubts[1].starts_with("rows of 1 of 4 keys (k2) do not come"), "{doubts:?}");
    }

    #[test]
    fn what_is_frequent_is_not_lost_among_many() {
        let mut list: Vec<i128> = (1..40).map(|n| n * 7 * SECOND).collect();
        list.extend([HOUR; 60]);
        list.extend((1..20).map(|n| n * 11 * SECOND));
        assert_eq!(found(&[&list]).unwrap_err().kind(), crate::error::Kind::Config);
        list.extend([HOUR; 200]);
        assert_eq!(found(&[&list]).unwrap(), "1h");
    }
}
