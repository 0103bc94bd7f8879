//! Makes the report from plan, ledger and lists.

use std::collections::BTreeMap;

use jiff::Timestamp;
use retrofill_core::columns::Role;
use retrofill_core::digest::ENCODING;
use retrofill_core::env::Scratch;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::hex;
use retrofill_core::ledger::{Journal as _, SliceRecord, State};
use retrofill_core::plan::Plan;
use retrofill_core::receipt::Counts;

use super::journal::JournalFacts;
use super::{PlanFacts, Proof, Report, Resources, RunFacts, SliceLine, exceptions, headline};
use crate::cli::summary::SliceCounts;
use crate::ledger::SqliteJournal;

/// What a report is made of.
pub struct Inputs<'a> {
    /// The plan, which the ledger knows.
    pub plan: &'a Plan,
    /// Free words of the spec.
    pub labels: &'a BTreeMap<String, String>,
    /// The ledger.
    pub journal: &'a SqliteJournal,
    /// The state directory.
    pub scratch: &'a dyn Scratch,
    /// The run that has just ended; none in a report that is made later.
    pub run: Option<JustEnded>,
    /// The time of day.
    pub now: Timestamp,
}

/// A run as it ended.
#[derive(Debug, Clone)]
pub struct JustEnded {
    /// When it was called: what the journal has from before is of another run.
    pub called: Timestamp,
    /// Where its rows went.
    pub rows: Counts,
    /// How long it took.
    pub seconds: f64,
    /// The exit code.
    pub exit: u8,
    /// What ended it before its time.
    pub error: Option<String>,
}

/// Reads everything there is to say. The journal's chain is checked on the way.
pub async fn gather(inputs: Inputs<'_>) -> Result<Report> {
    let Inputs { plan, labels, journal, scratch, run, now } = inputs;
    let standing = journal.summary(&plan.id).await?;
    let standing = standing.ok_or_else(|| Error::bug("the ledger does not know the plan"))?;
    let mut records = journal.slices(&plan.id).await?;
    records.retain(|r| r.state != State::Split);
    let facts = JournalFacts::of(&journal.read(&plan.id, 0).await?);
    let (mut rejects, mut conflicts) = exceptions::read(scratch, &plan.id, &records).await?;
    let slices = SliceCounts::of(records.iter().map(|r| r.state));
    let mut plan_rows = standing.counts;
    plan_rows.read += standing.unplaced + plan.survey.filtered;
    plan_rows.rejected += standing.unplaced;
    plan_rows.filtered += plan.survey.filtered;
    rejects.rows = plan_rows.rejected;
    conflicts.rows = plan_rows.conflicting;
    let surveyed = plan.survey.rows + plan.survey.unplaced + plan.survey.filtered;
    let too_many = plan.spec.rejects.exceeded(plan_rows.rejected, surveyed);
    let resources = run.as_ref().and_then(|_| Resources::now());
    Ok(Report {
        v: 1,
        name: plan.spec.name.clone(),
        labels: labels.clone(),
        source: plan.spec.source.label.clone(),
        target: plan.spec.target.label.clone(),
        headline: headline(&slices, &plan_rows, too_many),
        status: slices.status(),
        plan_rows,
        verified_through: standing.verified_through,
        verified_back_to: standing.verified_back_to,
        plan: plan_facts(plan),
        run: run_facts(&facts, run, now),
        proof: proof(plan, (slices.done() > 0).then_some(standing.digest)),
        rejects,
        conflicts,
        journal: facts,
        resources,
        not_told: Vec::new(),
        made_at: now,
        retrofill: env!("CARGO_PKG_VERSION"),
        slice_list: records.into_iter().map(slice_line).collect(),
        slices,
    })
}

fn plan_facts(plan: &Plan) -> PlanFacts {
    PlanFacts {
        id: plan.id.clone(),
        spec_hash: plan.spec_hash.clone(),
        frozen_at: plan.frozen_at,
        range: plan.range,
        every: plan.every.to_string(),
        timezone: plan.spec.range.timezone.clone(),
        mode: plan.spec.write.mode.as_str(),
        files: plan.survey.files.len() as u64,
        bytes: plan.survey.bytes,
        unplaced: plan.survey.unplaced,
        notes: plan.notes.clone(),
    }
}

fn proof(plan: &Plan, digest: Option<u128>) -> Proof {
    let role = |role| match role {
        Role::Time => "time",
        Role::Key => "key",
        Role::Value => "value",
    };
    let columns = plan.columns.iter();
    Proof {
        encoding: ENCODING,
        digest: digest.map(|sum| format!("{sum:032x}")),
        salt: hex(&plan.salt),
        fingerprint: hex(&plan.columns.fingerprint()),
        columns: columns.map(|c| (c.name.clone(), c.ty.common_name(), role(c.role))).collect(),
    }
}

/// Times come from the journal; numbers of the run that has just ended are its own.
fn run_facts(journal: &JournalFacts, run: Option<JustEnded>, now: Timestamp) -> Option<RunFacts> {
    let last = journal.last_run.as_ref();
    let Some(run) = run else {
        let last = last?;
        let length = last.ended.map(|end| end.duration_since(last.began).as_secs_f64());
        return Some(RunFacts {
            began: Some(last.began),
            ended: last.ended,
            seconds: length.map(rounded),
            rows: last.rows,
            rows_per_second: length.and_then(|s| rate(&last.rows, s)),
            exit: None,
            error: None,
        });
    };
    let last = last.filter(|l| l.began >= run.called);
    Some(RunFacts {
        began: last.map(|l| l.began),
        ended: Some(last.and_then(|l| l.ended).unwrap_or(now)),
        seconds: Some(rounded(run.seconds)),
        rows: run.rows,
        rows_per_second: rate(&run.rows, run.seconds),
        exit: Some(run.exit),
        error: run.error,
    })
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn rate(rows: &Counts, seconds: f64) -> Option<u64> {
    (seconds > 0.0).then(|| (rows.read as f64 / seconds).round() as u64)
}

fn slice_line(record: SliceRecord) -> SliceLine {
    let outcome = record.outcome;
    SliceLine {
        id: record.id,
        interval: record.interval,
        state: record.state,
        generation: record.generation,
        attempts: record.attempt,
        rows: outcome.as_ref().map(|o| o.counts),
        at: outcome.as_ref().filter(|o| o.proven).map(|o| o.at),
        digest: outcome.map(|o| o.digest),
        reason: record.reason,
    }
}
