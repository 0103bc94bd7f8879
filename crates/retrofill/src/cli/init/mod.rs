//! `retrofill init`: looks at the source and writes a spec to start from.

mod spec;

use std::path::{Component, Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;
use retrofill_connectors::files::{Address, Ask, guess};
use retrofill_core::calendar::zone;
use retrofill_core::error::{Error, Result};
use serde_json::json;

use super::Context;
use super::exit::Exit;
use super::output::{Failure, Format};
use crate::config::{self, JobSource};

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Where rows come from: CSV files, such as `data/*.csv`, `csv:data/readings.txt` or
    /// `s3://bucket/dir/*.csv`, with credentials from the environment.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where they go, such as `delta:./out`.
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Look at the first rows only [default: at all].
    #[arg(
        long,
        visible_alias = "rows",
        value_name = "N",
        env = "RETROFILL_SAMPLE",
        hide_env = true,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub sample: Option<u64>,
    /// The zone of times that name none: an IANA name [default: UTC].
    #[arg(long, value_name = "ZONE", env = "RETROFILL_TIMEZONE", hide_env = true)]
    pub timezone: Option<String>,
    /// The spec to write.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "RETROFILL_OUT",
        hide_env = true,
        default_value = "backfill.yaml"
    )]
    pub out: PathBuf,
    /// Write over a spec that is there.
    #[arg(
        long,
        env = "RETROFILL_FORCE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue
    )]
    pub force: bool,
}

/// Guesses, writes the spec, and tells what was guessed from what.
pub async fn execute(ctx: &Context, args: &InitArgs) -> Result<Exit, Failure> {
    if args.out.exists() && !args.force {
        let what = format!("`{}` is there already; nothing was written", args.out.display());
        let hint = "`--force` writes over it, `-o FILE` writes another";
        return Err(Error::config(what).hint(hint).into());
    }
    let path = csv_path(&args.source)?;
    if let Some(name) = &args.timezone {
        zone(name)?;
    }
    let ask = Ask {
        path: path.to_owned(),
        base: PathBuf::new(),
        timezone: args.timezone.clone(),
        most: args.sample,
    };
    let looked = tokio::task::spawn_blocking(move || guess(&ask)).await;
    let found = looked.map_err(|e| Error::bug("the look at the source broke off").because(e))??;
    let source = relocated(path, &args.out)?;
    let target = match args.target.split_once(':') {
        Some((kind @ ("delta" | "files"), path)) => {
            format!("{kind}:{}", relocated(path, &args.out)?)
        }
        _ => args.target.clone(),
    };
    let told = spec::tell(&found, args.timezone.is_some());
    let text = spec::write(&found, &told, &source, &target);
    check(&text, &args.out)?;
    std::fs::write(&args.out, &text).map_err(|e| {
        Error::config(format!("{} cannot be written", args.out.display())).because(e)
    })?;
    match ctx.output.format {
        Format::Text => ctx.output.result(&screen(&told, &args.out)),
        Format::Json => {
            let told = told.iter().map(|t| json!({ "about": t.about, "guess": t.text }));
            ctx.output.json(&json!({
                "v": 1, "wrote": args.out, "rows": found.rows, "whole": found.whole,
                "guesses": told.collect::<Vec<_>>(),
            }));
        }
    }
    Ok(Exit::Done)
}

/// The path of a CSV source.
fn csv_path(source: &str) -> Result<&str> {
    if let Some(path) = source.strip_prefix("csv:") {
        return Ok(path);
    }
    if Address::parse(source).is_ok() {
        return Ok(source);
    }
    let scheme = source.split_once(':').map(|(scheme, _)| scheme);
    if scheme.is_some_and(|s| s.len() > 1 && s.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(Error::config(format!("`{source}` cannot be guessed about"))
            .hint("init looks at CSV files; for other sources write the spec by hand"));
    }
    Ok(source)
}

/// A path as it must stand in a spec at `out`: relative ones start there, addresses nowhere.
fn relocated(path: &str, out: &Path) -> Result<String> {
    let dir = out.parent().unwrap_or(Path::new(""));
    if Path::new(path).is_absolute()
        || Address::is(path)
        || dir.components().all(|c| c == Component::CurDir)
    {
        return Ok(path.to_owned());
    }
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if dir.is_relative() && dir.components().all(plain) {
        let depth = dir.components().filter(|c| matches!(c, Component::Normal(_))).count();
        let path = path.strip_prefix("./").unwrap_or(path);
        return Ok(format!("{}{path}", "../".repeat(depth)));
    }
    let whole = std::path::absolute(path)
        .map_err(|e| Error::config(format!("`{path}` has no place")).because(e))?;
    Ok(whole.display().to_string())
}

/// What is written must be a spec; what is wrong with it can only be the target that was named.
fn check(text: &str, out: &Path) -> Result<()> {
    let name = out.file_stem().map_or("backfill".into(), |s| s.to_string_lossy().into_owned());
    let base_dir = out.parent().unwrap_or(Path::new("")).to_owned();
    let source = JobSource::Text { name, text: text.to_owned(), base_dir };
    let loaded = config::load(&source, &|name| std::env::var(name).ok());
    loaded.map(|_| ()).map_err(|problems| {
        let first = &problems.list()[0];
        let error = Error::config(format!("no spec can be made of it: {}", first.message()));
        match first.hint_text() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

fn screen(told: &[spec::Told], out: &Path) -> String {
    let lines = told.iter().map(|t| format!("  {:<8} {}", t.about, t.text));
    let lines: Vec<_> = lines.collect();
    let out = out.display().to_string();
    let job = if out == "backfill.yaml" { String::new() } else { format!(" {out}") };
    format!(
        "{}\nwrote {out}\nNext: retrofill preview{job} | plan{job} | run{job}",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_from_the_spec() {
        let moved = |path: &str, out: &str| relocated(path, Path::new(out)).unwrap();
        assert_eq!(moved("data/*.csv", "backfill.yaml"), "data/*.csv");
        assert_eq!(moved("data/*.csv", "./backfill.yaml"), "data/*.csv");
        assert_eq!(moved("./data/*.csv", "jobs/a/b.yaml"), "../../data/*.csv");
        assert_eq!(moved("/data/*.csv", "jobs/b.yaml"), "/data/*.csv");
        assert!(moved("data/a.csv", "../b.yaml").ends_with("/data/a.csv"));
        assert_eq!(moved("s3://b/*.csv", "jobs/b.yaml"), "s3://b/*.csv");
        assert_eq!(csv_path("s3://b/*.csv").unwrap(), "s3://b/*.csv");
        assert_eq!(csv_path("csv:x.txt").unwrap(), "x.txt");
        assert_eq!(csv_path("x.tsv").unwrap(), "x.tsv");
        assert!(csv_path("postgres://h/db?table=t").is_err());
    }
}
