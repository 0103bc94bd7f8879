//! The lists of rejects and conflicts in the state directory.

use std::collections::HashMap;

use retrofill_core::env::Scratch;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::{PlanId, SliceId, hex};
use retrofill_core::ledger::SliceRecord;
use retrofill_core::reject::Exception;

use crate::random;

/// Where the lines of a plan are listed that belong to no slice.
pub fn unplaced(plan: &PlanId) -> String {
    format!("rejects/unplaced.{plan}.jsonl")
}

/// What the names of a plan's lists of slices begin with.
pub fn prefix(plan: &PlanId) -> String {
    format!("rejects/{plan:.8}.")
}

/// Shows `take` every entry: first those that belong to no slice, then those of the committed
/// loads of these slices, in their order.
pub async fn each(
    scratch: &dyn Scratch,
    plan: &PlanId,
    records: &[SliceRecord],
    mut take: impl FnMut(Option<&SliceId>, Exception) -> Result<()>,
) -> Result<()> {
    read(scratch, &unplaced(plan), |exception| take(None, exception)).await?;
    let prefix = prefix(plan);
    let mut lists: HashMap<_, Vec<String>> = HashMap::new();
    for name in scratch.list(&prefix).await? {
        if let Some(load) = load_of(&name[prefix.len()..]) {
            lists.entry(load).or_default().push(name);
        }
    }
    for record in records {
        let Some(outcome) = &record.outcome else { continue };
        let load = (record.id.clone(), outcome.generation);
        for name in lists.remove(&load).unwrap_or_default() {
            read(scratch, &name, |exception| take(Some(&record.id), exception)).await?;
        }
    }
    Ok(())
}

async fn read(
    scratch: &dyn Scratch,
    name: &str,
    mut take: impl FnMut(Exception) -> Result<()>,
) -> Result<()> {
    let Some(bytes) = scratch.read(name).await? else { return Ok(()) };
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        take(serde_json::from_slice(line).map_err(|e| {
            Error::config(format!("{name} in the state directory is damaged"))
                .hint("move it away: the next run makes it again")
                .because(e)
        })?)?;
    }
    Ok(())
}

/// Slice and generation of `SLICE.GENERATION.ATTEMPT.jsonl`.
fn load_of(name: &str) -> Option<(SliceId, u64)> {
    let (rest, attempt) = name.strip_suffix(".jsonl")?.rsplit_once('.')?;
    attempt.parse::<u32>().ok()?;
    let (slice, generation) = rest.rsplit_once('.')?;
    Some((SliceId::new(slice), generation.parse().ok()?))
}

/// Puts a file in place as a whole. Runners that start at once may do so at the same time.
pub async fn put(scratch: &dyn Scratch, name: &str, bytes: &[u8]) -> Result<()> {
    let part = format!("{name}.{}.part", hex(&random::bytes::<8>()?));
    scratch.write(&part, bytes).await?;
    scratch.rename(&part, name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lists_are_taken_apart() {
        let load = |name| load_of(name).map(|(slice, g)| (slice.to_string(), g));
        assert_eq!(load("20130101T000000Z.1.2.jsonl"), Some(("20130101T000000Z".into(), 1)));
        assert_eq!(
            load("20130101T000000Z.0.1.3.7.jsonl"),
            Some(("20130101T000000Z.0.1".into(), 3))
        );
        for name in ["20130101T000000Z.1.2.jsonl.part", "x.jsonl", "a.b.c.jsonl", ""] {
            assert_eq!(load(name), None, "{name}");
        }
    }
}
