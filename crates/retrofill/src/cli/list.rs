//! `retrofill list`: the jobs and plans that are known here.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use retrofill_core::error::{Error, Result};
use retrofill_core::ledger::State;
use serde_json::{Value, json};

use super::Context;
use super::exit::Exit;
use super::output::{Failure, Format, describe, grouped};
use super::summary::{SliceCounts, Status};
use super::table::{Align, Table};
use crate::ledger::{LeaseState, PlanRow, SqliteJournal, Summary};

/// Arguments of `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The directory whose `.retrofill` is looked at.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// A plan and where it stands.
struct Known {
    row: PlanRow,
    standing: Summary,
    /// Where its state is kept.
    dir: PathBuf,
    last: Timestamp,
}

/// Lists every plan of every job.
pub async fn execute(ctx: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut plans = Vec::new();
    for dir in state_dirs(ctx.state_dir.as_deref(), &args.dir)? {
        match look(&dir).await {
            Ok(found) => plans.extend(found),
            // One ledger that cannot be read hides no other.
            Err(error) => {
                exit = exit.and(Exit::of(error.kind()));
                ctx.output.warning(&describe(&error));
            }
        }
    }
    // By name, and of each job the newest plan first.
    plans.sort_by(|a, b| a.row.name.cmp(&b.row.name).then(b.row.frozen_at.cmp(&a.row.frozen_at)));
    match ctx.output.format {
        Format::Json => {
            let list: Vec<_> = plans.iter().map(json).collect();
            ctx.output.json(&json!({ "v": 1, "plans": list }));
        }
        Format::Text if plans.is_empty() => {
            ctx.output.result("no job was planned here\nNext: retrofill init | plan");
        }
        Format::Text => ctx.output.result(&text(&plans)),
    }
    Ok(exit)
}

/// The state directory that is named, or all below a directory, by name.
fn state_dirs(named: Option<&Path>, dir: &Path) -> Result<Vec<PathBuf>> {
    if let Some(named) = named {
        return Ok(vec![named.to_owned()]);
    }
    let root = dir.join(".retrofill");
    let failed = |e| Error::config(format!("cannot look into `{}`", root.display())).because(e);
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(e)),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.join("ledger.db").exists() {
            dirs.push(path);
        }
    }
    dirs.sort();
    Ok(dirs)
}

async fn look(dir: &Path) -> Result<Vec<Known>> {
    let journal = SqliteJournal::open_read_only(&dir.join("ledger.db"))?;
    let mut plans = Vec::new();
    for row in journal.plans().await? {
        let standing = journal.summary(&row.plan).await?;
        let standing = standing.ok_or_else(|| Error::bug("the ledger lost a plan"))?;
        let last = journal.last_activity(&row.plan).await?.unwrap_or(row.frozen_at);
        plans.push(Known { row, standing, dir: dir.to_owned(), last });
    }
    Ok(plans)
}

impl Known {
    fn slices(&self) -> SliceCounts {
        let states = State::ALL.into_iter();
        SliceCounts::of(states.flat_map(|s| std::iter::repeat_n(s, self.standing.of(s) as usize)))
    }

    fn runs(&self) -> bool {
        self.standing.lease.as_ref().is_some_and(LeaseState::is_live)
    }

    fn state(&self) -> &'static str {
        match self.slices().status() {
            _ if self.runs() => "running",
            Status::Verified => "verified",
            Status::Incomplete => "incomplete",
            Status::Failed => "failed",
            Status::Mismatched => "mismatched",
        }
    }

    /// Rows that were read and have ended somewhere, also those without a slice.
    fn rows(&self) -> u64 {
        self.standing.counts.read + self.standing.unplaced
    }
}

fn text(plans: &[Known]) -> String {
    let mut table = Table::new(&[
        ("job", Align::Left),
        ("plan", Align::Left),
        ("slices", Align::Right),
        ("rows", Align::Right),
        ("last activity", Align::Left),
        ("state", Align::Left),
    ]);
    for known in plans {
        let slices = known.slices();
        table.row(&[
            known.row.name.clone(),
            format!("{:.8}", known.row.plan),
            format!("{}/{}", grouped(slices.done()), grouped(slices.total)),
            grouped(known.rows()),
            known.last.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            known.state().to_owned(),
        ]);
    }
    format!("{table}Next: retrofill status JOB | run JOB")
}

fn json(known: &Known) -> Value {
    let Known { row, standing, dir, last } = known;
    json!({
        "name": row.name,
        "plan": row.plan,
        "state": known.state(),
        "running": known.runs(),
        "slices": known.slices(),
        "rows": known.rows(),
        "frozen_at": row.frozen_at,
        "last_activity": last,
        "verified_through": standing.verified_through,
        "verified_back_to": standing.verified_back_to,
        "state_dir": dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_was_planned_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(state_dirs(None, dir.path()).unwrap().is_empty());
        std::fs::create_dir_all(dir.path().join(".retrofill/a")).unwrap();
        assert!(state_dirs(None, dir.path()).unwrap().is_empty());
        std::fs::write(dir.path().join(".retrofill/a/ledger.db"), "").unwrap();
        assert_eq!(state_dirs(None, dir.path()).unwrap(), [dir.path().join(".retrofill/a")]);
        assert!(state_dirs(None, &dir.path().join("gone")).is_err());
    }
}
