//! Asking before rows of the target are taken out.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdin};

use retrofill_core::error::Error;
use retrofill_core::id::SliceId;
use retrofill_core::plan::Plan;
use retrofill_core::runner::{Allowed, Prospect};
use retrofill_core::spec::Mode;

use super::output::{Failure, Output};
use super::summary::count;

/// Mode replace deletes: it goes on only with `--yes`, or once the plan's id was typed.
pub(super) fn to_replace(output: Output, plan: &Plan, yes: bool) -> Result<(), Failure> {
    if plan.spec.write.mode != Mode::Replace {
        return Ok(());
    }
    let scope = plan.spec.write.scope.as_ref().map_or_else(String::new, ToString::to_string);
    let what = format!(
        "mode replace takes out {scope} of {} from {} that the source does not have",
        plan.spec.target.label, plan.range
    );
    confirm(output, &what, plan.id.as_str(), yes)
}

/// Rows that were changed since they were loaded get the source's values again: says how many, and
/// of which slices nobody can tell. Gives what may be done.
pub(super) fn to_overwrite(
    output: Output,
    plan: &Plan,
    found: Vec<Prospect>,
    yes: bool,
) -> Result<BTreeMap<SliceId, Allowed>, Failure> {
    let mut allowed = BTreeMap::new();
    for prospect in found {
        match prospect.verdict {
            Ok(rows) => {
                allowed.insert(prospect.record.id, rows);
            }
            Err(why) => {
                output.note(&format!("slice {} is left as it is: {why}", prospect.record.id));
            }
        }
    }
    let rows = allowed.values().map(|a| a.rows).sum();
    if allowed.is_empty() {
        output.note("no row was changed since it was loaded");
        return Ok(allowed);
    }
    let what = format!(
        "{} of {} in {} were changed since they were loaded, and get the source's values again; \
         the values they have now are listed in the state directory",
        count(rows, "row"),
        count(allowed.len() as u64, "slice"),
        plan.spec.target.label,
    );
    confirm(output, &what, plan.id.as_str(), yes)?;
    Ok(allowed)
}

/// Says what will go, and asks for the id unless `yes` was given.
pub(super) fn confirm(output: Output, what: &str, id: &str, yes: bool) -> Result<(), Failure> {
    output.note(what);
    if yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let hint = format!("`--yes` does it without asking; the plan's id is {id}");
        Failure::Error(Error::config(why.to_owned()).hint(hint))
    };
    if !stdin().is_terminal() {
        return Err(refused("rows would be taken out, and nobody is there to be asked"));
    }
    output.ask(&format!("type the plan's id ({id}, or its first 8 characters) to go on: "));
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    read.map_err(|e| Error::config("the answer cannot be read").because(e))?;
    let answer = answer.trim();
    if answer.len() >= 8 && id.starts_with(answer) {
        return Ok(());
    }
    Err(refused("that is not the plan's id; nothing was changed"))
}
