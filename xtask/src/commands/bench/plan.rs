//! Planning and looking at a hundred thousand slices.

use std::fs;

use super::{Bench, median, page};
use crate::commands::number;
use crate::metrics::{Metrics, STEP_MS};
use crate::shell::{Done, Failure};

const SLICES: u64 = 100_000;
const RUNS: u64 = 5;

const PLAN_MAX: f64 = 2.0;
const STATUS_MAX: f64 = 0.1;

pub(super) fn run(args: &[String]) -> Done {
    let bench = Bench::new("plan", args)?;
    let slices = number(args, "--slices")?.unwrap_or(SLICES);
    Metrics::new(slices, 1).write(&bench.path("metrics.csv"))?;
    let every = format!("{}s", STEP_MS / 1_000);
    // Long enough that the ledger holds slices of several states.
    bench.spec("metrics.csv", &every, "limits: { max_runtime: 20s }\n")?;
    let mut plans = Vec::new();
    for _ in 0..RUNS {
        bench.reset()?;
        plans.push(bench.measure("plan", 0)?);
    }
    bench.measure("run", 4)?;
    let mut looks = Vec::new();
    for _ in 0..RUNS {
        looks.push(bench.measure("status", 0)?);
    }
    fs::remove_dir_all(&bench.dir)?;
    let plan = median(plans.iter().map(|m| m.seconds));
    let look = median(looks.iter().map(|m| m.seconds));
    let peak = median(plans.iter().map(|m| m.peak_mib));
    let look_peak = median(looks.iter().map(|m| m.peak_mib));
    let body = format!(
        "## {slices} slices\n\n\
         `cargo xtask bench plan`: a file of {slices} rows, one every ten seconds, and \
         `every: {every}`. `plan` includes the survey of the file; `status` looks at a ledger \
         after 20 s of loading. \
         Medians of {RUNS} calls of the program.\n\n\
         | | s | peak MiB |\n|---|---|---|\n\
         | `retrofill plan` | {plan:.2} | {peak:.0} |\n\
         | `retrofill status` | {look:.3} | {look_peak:.0} |"
    );
    page::put("plan", &body)?;
    if plan > PLAN_MAX || look > STATUS_MAX {
        let text = format!("plan {plan:.2} s (may be {PLAN_MAX}), status {look:.3} s");
        return Err(Failure::new(text));
    }
    Ok(())
}
