//! What differing rows have in common: the mistake behind them often has a name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::SignedDuration;

use super::drill::{Cell, Class, Difference, by_class};

/// Fewer rows than this make no pattern.
const FEW: usize = 3;

/// Every pattern that fits all shown rows of its class.
pub(super) fn patterns(rows: &[Difference]) -> Vec<String> {
    let classes = by_class(rows);
    let of = |class| classes.get(&class).cloned().unwrap_or_default();
    let mut found = Vec::new();
    found.extend(shifted(&of(Class::Missing), &of(Class::Extra)));
    let mut values: BTreeMap<&str, Vec<(&Cell, &Cell)>> = BTreeMap::new();
    for row in of(Class::Changed) {
        for (column, ours, theirs) in &row.columns {
            values.entry(column).or_default().push((ours, theirs));
        }
    }
    for (column, values) in values {
        if values.len() >= FEW
            && let Some(what) = common(&values)
        {
            found.push(format!("every differing `{column}` {what}"));
        }
    }
    found
}

/// Whether every missing row is in the target at another time, always as far away.
fn shifted(missing: &[&Difference], extra: &[&Difference]) -> Option<String> {
    if missing.len() < FEW {
        return None;
    }
    let values = |row: &Difference, ours: bool| -> (Vec<Cell>, Vec<Cell>) {
        let cells = row.columns.iter().map(|(_, s, t)| if ours { s.clone() } else { t.clone() });
        (row.key.clone(), cells.collect())
    };
    let mut held: HashMap<_, Vec<SignedDuration>> = HashMap::new();
    for row in extra {
        let time = row.time?.as_duration();
        held.entry(values(row, false)).or_default().push(time);
    }
    let mut shifts: Option<BTreeSet<SignedDuration>> = None;
    for row in missing {
        let time = row.time?.as_duration();
        let here: BTreeSet<_> = held.get(&values(row, true))?.iter().map(|t| *t - time).collect();
        shifts = Some(match shifts {
            None => here,
            Some(before) => before.intersection(&here).copied().collect(),
        });
    }
    let shift = *shifts?.first()?;
    let (sign, size) = if shift.is_negative() { ("-", shift.abs()) } else { ("+", shift) };
    Some(format!("every missing row is in the target at another time: {sign}{size:#}"))
}

/// What is true of every pair of a source's value and the target's.
fn common(values: &[(&Cell, &Cell)]) -> Option<String> {
    if values.iter().all(|(_, theirs)| theirs.is_none()) {
        return Some("is NULL in the target".into());
    }
    if values.iter().all(|(ours, _)| ours.is_none()) {
        return Some("is NULL in the source".into());
    }
    let texts: Option<Vec<(&str, &str)>> =
        values.iter().map(|(a, b)| Some((a.as_deref()?, b.as_deref()?))).collect();
    let texts = texts?;
    if texts.iter().all(|(a, b)| a.trim() == b.trim()) {
        return Some("has other spaces around it in the target".into());
    }
    if texts.iter().all(|(a, b)| a.to_lowercase() == b.to_lowercase()) {
        return Some("has other capitals in the target".into());
    }
    let numbers: Option<Vec<(f64, f64)>> =
        texts.iter().map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))).collect();
    numeric(&numbers?)
}

fn numeric(numbers: &[(f64, f64)]) -> Option<String> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    let (first_ours, first_theirs) = numbers[0];
    if numbers.iter().all(|(a, b)| near(*b, -*a)) {
        return Some("has the other sign in the target".into());
    }
    for digits in 0..6_i32 {
        let scale = 10_f64.powi(digits);
        if numbers.iter().all(|(a, b)| near((a * scale).round() / scale, *b)) {
            return Some(format!("is rounded to {digits} decimals in the target"));
        }
    }
    if numbers.iter().all(|(a, b)| near(f64::from(*a as f32), *b)) {
        return Some("is rounded to 32 bits in the target".into());
    }
    let more = first_theirs - first_ours;
    if numbers.iter().all(|(a, b)| near(b - a, more)) {
        return Some(format!("is {more} more in the target"));
    }
    let times = first_theirs / first_ours;
    if times.is_finite() && numbers.iter().all(|(a, b)| near(*a * times, *b)) {
        return Some(format!("is {times} times as much in the target"));
    }
    None
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn row(class: Class, second: i64, ours: Option<&str>, theirs: Option<&str>) -> Difference {
        Difference {
            class,
            time: Some(Timestamp::from_second(second).unwrap()),
            key: vec![Some("a".into())],
            place: None,
            columns: vec![("v".into(), ours.map(Into::into), theirs.map(Into::into))],
        }
    }

    fn changed(pairs: [(&str, &str); 3]) -> Vec<String> {
        let rows: Vec<_> = pairs
            .iter()
            .zip(0..)
            .map(|((a, b), n)| row(Class::Changed, n, Some(a), Some(b)))
            .collect();
        patterns(&rows)
    }

    #[test]
    fn mistakes_get_their_name() {
        let of = |pairs| changed(pairs).join("; ");
        assert_eq!(
            of([("1.26", "1.3"), ("2.04", "2"), ("7.51", "7.5")]),
            "every differing `v` is rounded to 1 decimals in the target"
        );
        assert_eq!(
            of([("1", "3"), ("5", "7"), ("-2", "0")]),
            "every differing `v` is 2 more in the target"
        );
        assert_eq!(
            of([("1", "1000"), ("5", "5000"), ("-2", "-2000")]),
            "every differing `v` is 1000 times as much in the target"
        );
        assert_eq!(
            of([("x", "X"), ("yy", "Yy"), ("z", "Z")]),
            "every differing `v` has other capitals in the target"
        );
        assert_eq!(of([("1", "2"), ("2", "9"), ("3", "1")]), "");
        let null: Vec<_> = (0..3).map(|n| row(Class::Changed, n, Some("1"), None)).collect();
        assert_eq!(patterns(&null), ["every differing `v` is NULL in the target"]);
    }

    #[test]
    fn rows_at_another_time_are_found() {
        let values = ["1", "2", "3"];
        let missing = (0..3).map(|n| row(Class::Missing, n * 60, Some(values[n as usize]), None));
        let extra =
            (0..3).map(|n| row(Class::Extra, n * 60 + 3600, None, Some(values[n as usize])));
        let rows: Vec<_> = missing.chain(extra).collect();
        let found = patterns(&rows);
        assert_eq!(found, ["every missing row is in the target at another time: +1h"]);
        assert!(patterns(&rows[..5]).is_empty(), "one row is nowhere");
    }
}
