//! What `JOB` names.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use retrofill_core::error::Error;

use super::output::Failure;
use crate::config::{self, JobSource, Loaded};

/// The job, as every command takes it.
#[derive(Debug, Clone, Args)]
pub struct JobArg {
    /// A spec, a plan file, `-` (a spec on standard input) or a plan's name in the ledger.
    #[arg(value_name = "JOB", default_value = "./backfill.yaml")]
    pub text: String,
}

/// What the text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// A spec on standard input.
    Stdin,
    /// A spec file, which need not exist.
    Spec(PathBuf),
    /// A plan file.
    Plan(PathBuf),
    /// The name of a plan in the ledger.
    Name(String),
}

impl Job {
    /// Finds out what is meant. A file that is there wins over a name; what has a separator or
    /// an ending of a spec is a path. A plan file is a JSON object with `plan` and `slices`.
    pub fn of(text: &str) -> Job {
        let path = Path::new(text);
        if text == "-" {
            Job::Stdin
        } else if path.is_file() {
            if is_plan(path) { Job::Plan(path.into()) } else { Job::Spec(path.into()) }
        } else if looks_like_a_path(text) {
            Job::Spec(path.into())
        } else {
            Job::Name(text.to_owned())
        }
    }
}

impl JobArg {
    /// What is named.
    pub fn job(&self) -> Job {
        Job::of(&self.text)
    }

    /// Loads the spec that is named; a plan file or a plan's name is none.
    pub fn load_spec(&self) -> Result<Loaded, Failure> {
        let source = match self.job() {
            Job::Stdin => JobSource::Stdin(read_stdin()?),
            Job::Spec(path) => JobSource::Path(path),
            Job::Plan(_) => {
                return Err(not_a_spec(format!("`{}` is a plan, not a spec", self.text)));
            }
            Job::Name(name) => {
                return Err(not_a_spec(format!("there is no file `{name}`")));
            }
        };
        Ok(config::load(&source, &|name| std::env::var(name).ok())?)
    }
}

fn not_a_spec(message: String) -> Failure {
    Error::config(message).hint("name a spec, or `-` to read it from standard input").into()
}

fn looks_like_a_path(text: &str) -> bool {
    let ending = Path::new(text).extension().and_then(|e| e.to_str());
    text.contains(['/', '\\']) || matches!(ending, Some("yaml" | "yml" | "json"))
}

fn is_plan(path: &Path) -> bool {
    if path.extension().is_none_or(|e| e != "json") {
        return false;
    }
    let parsed = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(serde_json::Value::Object(map)) = parsed else { return false };
    map.contains_key("plan") && map.contains_key("slices")
}

/// All of standard input.
pub fn read_stdin() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| Error::config("cannot read the spec from standard input").because(e))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Job {
        Job::of(text)
    }

    #[test]
    fn files_win_over_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            (path.to_str().unwrap().to_owned(), path)
        };
        let (text, path) = file("nyc", "source: a.csv");
        assert_eq!(job(&text), Job::Spec(path));
        let (text, path) = file("plan.json", r#"{"v":1,"plan":"9f","slices":[]}"#);
        assert_eq!(job(&text), Job::Plan(path));
        let (text, path) = file("spec.json", r#"{"source":"a.csv"}"#);
        assert_eq!(job(&text), Job::Spec(path));
    }

    #[test]
    fn what_is_not_there_is_a_path_or_a_name() {
        assert_eq!(job("-"), Job::Stdin);
        assert_eq!(job("nyc-weather"), Job::Name("nyc-weather".into()));
        assert_eq!(job("./backfill"), Job::Spec("./backfill".into()));
        assert_eq!(job("gone.yaml"), Job::Spec("gone.yaml".into()));
    }

    #[test]
    fn a_name_is_no_spec() {
        let failure = JobArg { text: "nyc-weather".into() }.load_spec().unwrap_err();
        assert_eq!(failure.exit().code(), 2);
    }
}
