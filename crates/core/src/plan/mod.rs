//! The plan: the spec resolved and frozen. What `plan` prints is what `run` does.

mod estimate;
mod freeze;
mod resolve;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use estimate::within;
pub use freeze::{Frozen, Inputs, at_most, freeze};
pub use resolve::resolve_columns;

use crate::calendar::Every;
use crate::columns::Columns;
use crate::connector::{Pulse, StageRequest};
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::id::{PlanId, SliceId, as_hex, hex};
use crate::interval::Interval;
use crate::ledger::{Event, EventV1};
use crate::planted::{self, Bug};
use crate::spec::Spec;
use crate::survey::Survey;

/// One slice as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What it covers.
    #[serde(flatten)]
    pub interval: Interval,
    /// Rows, estimated from the survey's blocks.
    pub rows: u64,
}

impl Planned {
    /// The slice's id.
    pub fn id(&self) -> SliceId {
        SliceId::of(self.interval.start())
    }
}

/// A frozen plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// A pure function of spec, schema, range and slices: no salt, no estimates, no contents.
    pub id: PlanId,
    /// SHA-256 of the spec's identity, hex.
    pub spec_hash: String,
    /// The spec with every default filled in, without secrets.
    pub spec: Spec,
    /// The spec as the user wrote it, `${}` unsubstituted, so that the plan can be run alone.
    pub as_written: serde_json::Value,
    /// The directory that relative paths of the spec start from.
    pub base_dir: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
    /// The random salt of its digests.
    #[serde(with = "as_hex")]
    pub salt: [u8; 16],
    /// The columns with their types and roles.
    pub columns: Arc<Columns>,
    /// All of the time it covers.
    pub range: Interval,
    /// The size of a slice.
    pub every: Every,
    /// Rows after the range that `settle` or `range.to` leaves out, estimated.
    pub later: u64,
    /// Rows before `range.from`, estimated.
    pub earlier: u64,
    /// What the user should know, in plain sentences.
    pub notes: Vec<String>,
    /// What is known of the source.
    pub survey: Arc<Survey>,
    /// The slices by time.
    pub slices: Vec<Planned>,
}

/// A plan as persisted, in the version it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum PlanFile {
    /// The first format.
    #[serde(rename = "1")]
    V1(Box<Plan>),
    /// What a sample of the source tells of a plan. No version takes it for one.
    #[serde(rename = "estimate")]
    Estimate(Box<Plan>),
}

impl PlanFile {
    /// A plan in the version it is written in.
    pub fn of(plan: Plan) -> Self {
        let file = if plan.is_estimate() { PlanFile::Estimate } else { PlanFile::V1 };
        file(Box::new(plan))
    }
}

impl Plan {
    /// Hashes rows of this plan, under this salt, and tells which of them are alike.
    pub fn hasher(&self, salt: &[u8; 16]) -> Hasher {
        let names = self.spec.rows.compare.as_deref();
        let names = names.filter(|_| !planted::is(Bug::CompareIgnored));
        Hasher::new(&self.columns, salt).comparing(&self.columns, names)
    }

    /// The id of a plan: the first 16 bytes of SHA-256 over the canonical JSON of spec hash,
    /// columns, range and slice bounds.
    fn identify(
        spec_hash: &str,
        columns: &Columns,
        range: &Interval,
        slices: &[Planned],
    ) -> PlanId {
        let bounds: Vec<_> =
            slices.iter().map(|s| (s.interval.start(), s.interval.end())).collect();
        let columns: Vec<_> = columns.iter().collect();
        let identity = serde_json::json!({
            "v": 1, "spec": spec_hash, "columns": columns, "range": range, "slices": bounds,
        });
        PlanId::from_hash(&Sha256::digest(identity.to_string()).into())
    }

    /// The text of the plan file.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&PlanFile::of(self.clone()))
            .map_err(|e| Error::bug("the plan cannot be written as JSON").because(e))
    }

    /// Reads a plan file; `name` is for the error.
    pub fn from_json(json: &[u8], name: &str) -> Result<Self> {
        let file: PlanFile = serde_json::from_slice(json).map_err(|e| {
            Error::config(format!("{name} is not a plan of this version")).because(e).hint(
                "plans are made by `retrofill plan`; one of a newer version needs that version",
            )
        })?;
        let plan = match file {
            PlanFile::V1(plan) if !plan.is_estimate() => plan,
            PlanFile::V1(_) | PlanFile::Estimate(_) => {
                let what = format!("{name} is an estimate by a sample, not a plan");
                return Err(Error::config(what).hint(
                    "nothing can be done by it; plan without `--survey sample`, which reads all of \
                     the source",
                ));
            }
        };
        let hash = hex(&plan.spec.hash());
        let id = Plan::identify(&hash, &plan.columns, &plan.range, &plan.slices);
        if id != plan.id {
            return Err(Error::config(format!("{name} was changed after it was frozen"))
                .hint("make it again with `retrofill plan`"));
        }
        Ok(*plan)
    }

    /// The same plan with the settings of the spec as it is loaded now: secrets, limits and all
    /// else that a plan does not freeze.
    pub fn with(mut self, spec: &Spec) -> Self {
        let label = std::mem::take(&mut self.spec.source.label);
        self.spec = spec.clone();
        self.spec.source.label = label;
        self
    }

    /// The plan of some of its slices, by index; none where none is chosen. Lines that belong to no
    /// slice are left to the whole plan, and so is every claim about what is not chosen: its range
    /// begins and ends with a slice.
    pub fn only(&self, chosen: impl Fn(usize) -> bool, now: Timestamp) -> Result<Option<Self>> {
        let Some(mut plan) = self.part(chosen)? else { return Ok(None) };
        let all = self.slices.len();
        let left = all - plan.slices.len();
        if left == 0 {
            return Ok(Some(self.clone()));
        }
        plan.notes.push(format!(
            "only slices in which the target lacked rows of the source: {left} of {all} are left \
             out, and nothing is said about them"
        ));
        plan.id = Plan::identify(&plan.spec_hash, &plan.columns, &plan.range, &plan.slices);
        plan.frozen_at = now;
        Ok(Some(plan))
    }

    /// The plan of a trial with some of its slices, by index; none where none is chosen. What runs
    /// of this plan have done is nothing to it.
    pub fn sample(&self, chosen: impl Fn(usize) -> bool, salt: [u8; 16]) -> Result<Option<Self>> {
        let Some(mut plan) = self.part(chosen)? else { return Ok(None) };
        plan.spec_hash = format!("trial of {}", plan.spec_hash);
        plan.id = Plan::identify(&plan.spec_hash, &plan.columns, &plan.range, &plan.slices);
        plan.salt = salt;
        Ok(Some(plan))
    }

    /// Some of its slices, still under its id.
    fn part(&self, chosen: impl Fn(usize) -> bool) -> Result<Option<Self>> {
        let slices = self.slices.iter().enumerate().filter(|(i, _)| chosen(*i));
        let slices: Vec<_> = slices.map(|(_, slice)| slice.clone()).collect();
        let (Some(first), Some(last)) = (slices.first(), slices.last()) else { return Ok(None) };
        let range = Interval::new(first.interval.start(), last.interval.end())?;
        let mut plan = self.clone();
        let survey = Arc::make_mut(&mut plan.survey);
        survey.unplaced = 0;
        survey.unplaced_rejects.clear();
        (plan.range, plan.slices) = (range, slices);
        (plan.earlier, plan.later) = (0, 0);
        Ok(Some(plan))
    }

    /// Whether it rests on a sample of the source. Nothing may be loaded by it.
    pub fn is_estimate(&self) -> bool {
        self.survey.sampled.is_some()
    }

    /// Whether its slices cover its range without a break.
    pub fn is_whole(&self) -> bool {
        self.slices.windows(2).all(|w| w[0].interval.end() == w[1].interval.start())
    }

    /// The journal's first event of this plan.
    pub fn frozen_event(&self) -> Event {
        Event::V1(EventV1::PlanFrozen {
            name: self.spec.name.clone(),
            spec_hash: self.spec_hash.clone(),
            salt: self.salt,
            slices: self.slices.iter().map(|s| s.interval).collect(),
            unplaced: self.survey.unplaced,
        })
    }

    /// Estimated rows by slice id.
    pub fn estimates(&self) -> BTreeMap<SliceId, u64> {
        self.slices.iter().map(|s| (s.id(), s.rows)).collect()
    }

    /// What its source is to make readable, with somebody to tell.
    pub fn staging(&self, pulse: Pulse) -> StageRequest {
        let slices = self.slices.iter().map(|s| s.interval).collect();
        let (survey, columns) = (self.survey.clone(), self.columns.clone());
        StageRequest { survey, columns, slices, pulse }
    }

    /// Estimated rows of any stretch of time.
    pub fn estimate(&self, interval: &Interval) -> u64 {
        estimate::within(self.survey.overlapping(interval).map(|(_, block)| block), interval)
    }

    /// Estimated rows of all slices.
    pub fn estimated_rows(&self) -> u64 {
        self.slices.iter().map(|s| s.rows).sum()
    }
}
