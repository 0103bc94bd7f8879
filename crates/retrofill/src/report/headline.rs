//! How all of it stands, in one sentence.

use retrofill_core::receipt::Counts;

use crate::cli::output::grouped;
use crate::cli::summary::{SliceCounts, Status, count};

/// The sentence, without a full stop. `too_many_rejects` where they are above the cap.
pub fn headline(slices: &SliceCounts, rows: &Counts, too_many_rejects: bool) -> String {
    let (done, total) = (grouped(slices.done()), grouped(slices.total));
    let of = |n: u64| format!("{} of {}", grouped(n), count(slices.total, "slice"));
    let there = rows.written + rows.updated + rows.already_present;
    match slices.status() {
        Status::Mismatched => {
            let verb = if slices.mismatched == 1 { "does" } else { "do" };
            format!(
                "{} {verb} not hold what was read from the source: a person must look",
                of(slices.mismatched)
            )
        }
        Status::Failed => {
            let parts = [
                (slices.failed, "failed"),
                (slices.stale, "stale"),
                (slices.unknown, "of unknown outcome"),
            ];
            let parts: Vec<_> = parts
                .iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, word)| format!("{} {word}", grouped(*n)))
                .collect();
            let slices = if slices.total == 1 { "slice" } else { "slices" };
            format!("{} of {total} {slices} ({done} proven)", parts.join(", "))
        }
        Status::Incomplete if slices.done() == 0 => {
            format!("Nothing loaded yet: {} to do", count(slices.planned, "slice"))
        }
        Status::Incomplete => {
            let rows = count(there, "row");
            format!("{} proven so far, {rows}; {} to do", of(slices.done()), slices.planned)
        }
        Status::Verified if too_many_rejects => format!(
            "All of {} proven, but {} rejected, more than rejects.max allows",
            count(slices.total, "slice"),
            match rows.rejected {
                1 => "1 row was".to_owned(),
                n => format!("{} rows were", grouped(n)),
            }
        ),
        Status::Verified => {
            let rows = count(there, "row");
            let empty = match slices.empty {
                0 => String::new(),
                n => format!(" and found {} empty", grouped(n)),
            };
            let slices = of(slices.verified);
            format!("Verified {slices}{empty}, {rows}, proven by reading back")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(set: impl FnOnce(&mut SliceCounts, &mut Counts), too_many: bool) -> String {
        let mut slices = SliceCounts { total: 12, ..SliceCounts::default() };
        let mut rows = Counts { read: 2_000, written: 1_500, ..Counts::default() };
        set(&mut slices, &mut rows);
        headline(&slices, &rows, too_many)
    }

    #[test]
    fn each_end_has_its_sentence() {
        let cases = [
            (
                say(|s, r| (s.verified, r.already_present) = (12, 500), false),
                "Verified 12 of 12 slices, 2,000 rows, proven by reading back",
            ),
            (
                say(|s, _| (s.verified, s.empty) = (10, 2), false),
                "Verified 10 of 12 slices and found 2 empty, 1,500 rows, proven by reading back",
            ),
            (
                say(|s, r| (s.verified, r.rejected) = (12, 1), true),
                "All of 12 slices proven, but 1 row was rejected, more than rejects.max allows",
            ),
            (
                say(|s, _| (s.verified, s.planned) = (7, 5), false),
                "7 of 12 slices proven so far, 1,500 rows; 5 to do",
            ),
            (say(|s, _| s.planned = 12, false), "Nothing loaded yet: 12 slices to do"),
            (
                say(|s, _| (s.verified, s.failed, s.stale) = (9, 2, 1), false),
                "2 failed, 1 stale of 12 slices (9 proven)",
            ),
            (
                say(|s, _| (s.verified, s.mismatched) = (11, 1), false),
                "1 of 12 slices does not hold what was read from the source: a person must look",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(said, expected);
        }
    }
}
