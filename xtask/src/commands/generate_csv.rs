//! `generate-csv`: the metrics file of the benches and tests.

use std::path::Path;

use super::{has, number};
use crate::metrics::Metrics;
use crate::shell::{Done, Failure};

pub(super) fn run(args: &[String]) -> Done {
    let file = args.first().filter(|a| !a.starts_with('-'));
    let file = file.ok_or_else(|| Failure::new("into which file?"))?;
    let rows = number(args, "--rows")?.ok_or_else(|| Failure::new("how many `--rows`?"))?;
    let mut metrics = Metrics::new(rows, number(args, "--hosts")?.unwrap_or(100));
    metrics.seed = number(args, "--seed")?.unwrap_or(metrics.seed);
    metrics.shuffled = has(args, "--shuffled");
    metrics.gzip = has(args, "--gzip");
    metrics.write(Path::new(file))?;
    println!("{rows} rows in {file}");
    Ok(())
}
