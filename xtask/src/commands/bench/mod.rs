//! `bench`: speed and memory of the `dist` build, beside other programs in the same session.

mod page;
mod plan;
mod postgres;
mod scale;
pub(super) mod stream;
mod trial;
mod trunk;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::has;

use crate::consent::Consent;
use crate::python::{self, JUDGES, RIVALS};
use crate::shell::{self, Done, Failure, built, cargo, command, root, target_dir};
pub(super) use page::commit;

pub(super) fn run(args: &[String]) -> Done {
    match args.first().map(String::as_str) {
        Some("trunk") => trunk::run(args),
        Some("plan") => plan::run(args),
        Some("postgres") => postgres::run(args),
        Some("scale") => scale::run(args),
        Some("trial") => trial::run(args),
        _ => Err(Failure::new("which bench? `trunk`, `plan`, `postgres`, `scale` or `trial`")),
    }
}

/// One measured run of a program.
#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    cpu: f64,
    peak_mib: f64,
}

impl Measured {
    /// The medians of some runs.
    fn middle(runs: &[Measured]) -> Self {
        let of = |field: fn(&Measured) -> f64| median(runs.iter().map(field));
        Measured { seconds: of(|m| m.seconds), cpu: of(|m| m.cpu), peak_mib: of(|m| m.peak_mib) }
    }
}

/// A Delta table, as a spec names it.
const DELTA: &str = "delta: { path: ./out }";

/// A bench: where it works, and the built program.
struct Bench {
    dir: PathBuf,
    program: PathBuf,
}

impl Bench {
    /// Builds the program and empties the directory `target/bench/NAME`.
    fn new(name: &str, args: &[String]) -> Done<Self> {
        let wanted: Vec<_> = JUDGES.iter().chain(RIVALS).copied().collect();
        if !python::ensure(&wanted, Consent::from(args))? {
            return Err(Failure::new("the benches need the Python packages"));
        }
        // `--keep-build` measures what is there, to look at one change twice.
        if !has(args, "--keep-build") {
            let profile = profile();
            let build = ["build", "--workspace", "--profile", &profile, "--bin", "retrofill"];
            let build = [&build[..], &["--example", "hash_cost"]].concat();
            shell::run(&mut cargo(&build))?;
        }
        let dir = target_dir().join("bench").join(name);
        clear(&dir)?;
        fs::create_dir_all(&dir)?;
        Ok(Bench { dir, program: built(&profile(), "retrofill") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a spec for the metrics file `source`, into a Delta table.
    fn spec(&self, source: &str, every: &str, more: &str) -> Done {
        self.spec_of(&format!("csv: {{ path: {source} }}"), DELTA, every, more)
    }

    /// The same from any source into any target, both as a spec names them.
    fn spec_of(&self, source: &str, target: &str, every: &str, more: &str) -> Done {
        let text = format!(
            "name: bench\nsource: {{ {source} }}\ntarget: {{ {target} }}\n\
             rows: {{ time: ts, key: [hostname] }}\nrange: {{ every: {every} }}\n{more}"
        );
        fs::write(self.path("backfill.yaml"), text)?;
        Ok(())
    }

    /// Removes table and state, so that the next run starts from nothing.
    fn reset(&self) -> Done {
        clear(&self.path("out"))?;
        clear(&self.path(".retrofill"))
    }

    /// Runs `retrofill COMMAND backfill.yaml --quiet` and measures it.
    fn measure(&self, command: &str, code: i64) -> Done<Measured> {
        let mut measure = python_script("measure.py");
        measure.arg(&self.program).args([command, "backfill.yaml", "--quiet"]);
        let used = json(measure.current_dir(&self.dir))?;
        if used["code"].as_i64() != Some(code) {
            return Err(Failure::new(format!("`retrofill {command}` ended: {used}")));
        }
        let number = |name: &str| used[name].as_f64().unwrap_or(f64::NAN);
        Ok(Measured {
            seconds: number("seconds"),
            cpu: number("cpu"),
            peak_mib: number("peak_mib"),
        })
    }

    /// Seconds that another program needs for the file.
    fn rival(&self, name: &str, source: &str, out: &str) -> Done<f64> {
        clear(&self.path(out))?;
        let mut rival = python_script("rival.py");
        rival.arg(name).args([self.path(source), self.path(out)]);
        let used = seconds(&mut rival);
        clear(&self.path(out))?;
        used
    }
}

/// CPU seconds that encoding and hashing this many rows takes on one core.
fn hash_cost(rows: u64) -> Done<f64> {
    let program = built(&profile(), "examples/hash_cost");
    let text = shell::output(std::process::Command::new(program).arg(rows.to_string()))?;
    text.trim().parse().map_err(|_| Failure::new("hash_cost printed no number"))
}

/// The profile that is measured: `dist`, or another by `RETROFILL_BENCH_PROFILE`, which the page
/// then names.
fn profile() -> String {
    std::env::var("RETROFILL_BENCH_PROFILE").unwrap_or_else(|_| "dist".into())
}

fn python_script(name: &str) -> std::process::Command {
    let mut script = command(python::interpreter(), &[]);
    script.arg(root().join("xtask/bench").join(name));
    script
}

/// The seconds that a script prints.
fn seconds(script: &mut std::process::Command) -> Done<f64> {
    let used = json(script)?;
    used["seconds"].as_f64().ok_or_else(|| Failure::new(format!("{script:?} printed {used}")))
}

/// The line of JSON that a script prints.
fn json(command: &mut std::process::Command) -> Done<Value> {
    let text = shell::output(command)?;
    serde_json::from_str(&text).map_err(|e| Failure::new(format!("{e}: {text}")))
}

fn clear(path: &Path) -> Done {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The middle value; of an even number the lower middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_is_the_middle() {
        assert!((super::median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((super::median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.0).abs() < 1e-9);
    }
}
