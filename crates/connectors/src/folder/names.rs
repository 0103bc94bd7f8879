//! The names of our own files: plan, slice and generation can be read from them.

use retrofill_core::connector::SliceLoad;
use retrofill_core::id::{PlanId, SliceId};

use crate::delta::plain;

/// What our own files lie in that are no data: readers pass over names that begin with `_`.
pub(super) const ASIDE: &str = "_retrofill";
/// Bodies of receipts, a folder a plan.
pub(super) const RECEIPTS: &str = "_retrofill/receipts";
/// Data files of ours that could not be read and were loaded anew, or were taken back.
pub(super) const REMOVED: &str = "_retrofill/removed";
/// The columns of the folder and their types.
pub(super) const COLUMNS: &str = "_retrofill/columns.json";
/// Held by whoever changes which files are there.
pub(super) const LOCK: &str = "_retrofill/lock";
/// What names of rooms for work begin with.
pub(super) const WORK: &str = "work.";

const PREFIX: &str = "retrofill-";

/// One load of one slice, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Named {
    pub(super) plan: PlanId,
    pub(super) slice: SliceId,
    pub(super) generation: u64,
}

impl Named {
    /// This load.
    pub(super) fn of(load: &SliceLoad) -> Self {
        Named {
            plan: PlanId::new(plain(load.plan.as_str())),
            slice: SliceId::new(plain(load.slice.as_str())),
            generation: load.generation,
        }
    }

    /// The load that wrote a data file of this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (plan, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let (slice, rest) = rest.rsplit_once('-')?;
        let (generation, _) = rest.split_once('.')?;
        let generation = generation.parse().ok()?;
        Some(Named { plan: PlanId::new(plan), slice: SliceId::new(slice), generation })
    }

    /// The name of its data file.
    pub(super) fn data_file(&self, ending: &str) -> String {
        let Named { plan, slice, generation } = self;
        format!("{PREFIX}{plan}-{slice}-{generation}.{ending}")
    }

    /// Where the receipts of its plan lie.
    pub(super) fn dir(&self) -> String {
        format!("{RECEIPTS}/{}", self.plan)
    }

    /// The body of its receipt.
    pub(super) fn body(&self) -> String {
        format!("{}/{}.{}.json", self.dir(), self.slice, self.generation)
    }

    /// The body before the data file has its name. `word` is that of one try.
    pub(super) fn pending(&self, word: &str) -> String {
        format!("{}/{}.{}.{word}.pending", self.dir(), self.slice, self.generation)
    }

    /// The manifest of one try.
    pub(super) fn manifest(&self, word: &str) -> String {
        format!("{}/{}.{}.{word}.rows", self.dir(), self.slice, self.generation)
    }

    /// The load whose receipt has this name in the folder of a plan, and whether it is final.
    pub(super) fn of_body(plan: &str, name: &str) -> Option<(Self, bool)> {
        let (rest, done) = match name.strip_suffix(".json") {
            Some(rest) => (rest, true),
            None => (name.strip_suffix(".pending")?.rsplit_once('.')?.0, false),
        };
        let (slice, generation) = rest.rsplit_once('.')?;
        let generation = generation.parse().ok()?;
        let (plan, slice) = (PlanId::new(plan), SliceId::new(slice));
        Some((Named { plan, slice, generation }, done))
    }
}

/// Whether readers of the folder pass over a name.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_from_its_names() {
        for slice in ["20190101T000000Z", "20190101T000000_500000000Z.0.1", "-0010101T000000Z"] {
            let named = Named {
                plan: PlanId::new("0123456789abcdef0123456789abcdef"),
                slice: SliceId::new(slice),
                generation: 12,
            };
            assert_eq!(Named::parse(&named.data_file("csv")), Some(named.clone()), "{slice}");
            let name = |path: String| path.rsplit_once('/').unwrap().1.to_owned();
            let of = |path| Named::of_body(named.plan.as_str(), &name(path));
            assert_eq!(of(named.body()), Some((named.clone(), true)));
            assert_eq!(of(named.pending("0a")), Some((named.clone(), false)));
            assert_eq!(of(named.manifest("0a")), None);
        }
        for name in ["part-00000.csv", "retrofill-a.csv", "retrofill-a-b-c.csv", "retrofill-"] {
            assert_eq!(Named::parse(name), None, "{name}");
        }
    }
}
