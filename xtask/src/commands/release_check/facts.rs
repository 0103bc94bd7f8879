//! What the guide says of other tools, shown by running them.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::consent::Consent;
use crate::python;
use crate::shell::{self, Done, Failure, command, root, target_dir};

const PYSPARK: &[&str] = &["pyspark==4.3.0"];

/// Runs the programs under `docs/facts` and compares with what `docs/src/comparison.md` says.
pub(super) fn run() -> Done {
    python::ensure(PYSPARK, Consent::Given)?;
    let spark = said("spark_append.py", &[])?;
    let expected = json!({
        "source": 1000, "first_rows": 1000, "second_rows": 2000, "misplaced": 1000
    });
    same("Spark", &spark, &expected)?;
    let programs = victoria_metrics()?.display().to_string();
    let vmctl = said("vmctl_twice.py", &[&programs])?;
    let expected = json!({
        "source": 1000, "without_terminal_exit": 1, "without_terminal_samples": 0,
        "first_exit": 0, "first_samples": 1000, "second_exit": 0, "second_samples": 2000
    });
    same("vmctl", &vmctl, &expected)
}

/// Loads history into a folder that Spark appends to, with the program as it is built for tests:
/// only that can be held and killed between two steps.
pub(super) fn csv_append() -> Done {
    python::ensure(PYSPARK, Consent::Given)?;
    shell::run(&mut shell::cargo(&["build"]))?;
    let program = shell::built("debug", "retrofill").display().to_string();
    let found = said("../../examples/csv-append/spark.py", &["check", &program])?;
    let expected = json!({
        "archive": 324, "before": 216, "killed": found["killed"], "loaded": 504, "again": 504,
        "appended": 576, "exact": true
    });
    same("retrofill beside Spark", &found, &expected)
}

fn said(script: &str, args: &[&str]) -> Done<Value> {
    let mut program = command(python::interpreter(), &[]);
    program.arg(root().join("docs/facts").join(script)).args(args);
    let text = shell::output(&mut program)?;
    serde_json::from_str(text.trim()).map_err(|e| Failure::new(format!("{script}: {e}: {text}")))
}

fn same(tool: &str, found: &Value, expected: &Value) -> Done {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{tool} does {found}, the guide says {expected}")))
}

/// A directory with `victoria-metrics` and `vmctl`, unpacked from Debian's package.
fn victoria_metrics() -> Done<PathBuf> {
    let dir = target_dir().join("servers/victoria-metrics");
    let programs = dir.join("usr/bin");
    if programs.join("vmctl").is_file() {
        return Ok(programs);
    }
    fs::create_dir_all(&dir)?;
    let mut download = command("apt-get", &["download", "-q", "victoria-metrics"]);
    shell::run(download.current_dir(&dir))?;
    for file in fs::read_dir(&dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            shell::run(command("dpkg", &["-x"]).arg(&path).arg(&dir))?;
        }
    }
    Ok(programs)
}
