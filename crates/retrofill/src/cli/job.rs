//! What `JOB` names.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use retrofill_core::error::{Error, Kind};
use retrofill_core::id::hex;
use retrofill_core::plan::Plan;

use super::output::Failure;
use crate::config::{self, JobSource, Loaded};
use crate::ledger::{PlanRow, SqliteJournal};

/// What a command works on.
#[derive(Debug)]
pub struct Opened {
    /// The job.
    pub job: crate::job::Job,
    /// The very plan, where a plan file was named.
    pub plan: Option<Plan>,
}

impl Opened {
    /// What the ledger knows of the plan that is meant.
    pub async fn meant(&self) -> Result<(Arc<SqliteJournal>, PlanRow), Error> {
        self.job.meant(self.plan.as_ref().map(|plan| &plan.id)).await
    }

    /// The plan that was run: the one named, else the one of the state directory.
    pub fn run_plan(&self, hint: &str) -> Result<Plan, Failure> {
        let named = self.plan.clone().map_or_else(|| self.job.frozen(), |plan| Ok(Some(plan)));
        let plan = named?.ok_or_else(|| {
            let name = &self.job.spec.name;
            Error::config(format!("`{name}` was never run")).hint(hint)
        })?;
        if plan.spec_hash != hex(&self.job.spec.hash()) {
            // Else the plan's slices would be judged by another table, and journalled so.
            let what = format!("the spec has changed since plan {} was frozen", plan.id);
            let file = self.job.state_dir.join("plan.json");
            let hint = format!(
                "for what was run, name the plan itself: `{}`; for what is meant now, \
                 `retrofill run` first",
                file.display()
            );
            return Err(Error::new(Kind::Fenced, what).hint(hint).into());
        }
        Ok(plan.with(&self.job.spec))
    }
}

/// The job, as every command takes it.
#[derive(Debug, Clone, Args)]
pub struct JobArg {
    /// A spec, a plan file, `-` (a spec on standard input) or a plan's name in the ledger.
    #[arg(value_name = "JOB", default_value = "./backfill.yaml")]
    pub text: String,
    /// Keys that are given beside the spec.
    #[command(flatten)]
    pub given: Given,
}

/// Keys of the spec on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct Given {
    /// Set a key of the spec, such as `range.every=1d` or `rows.key=[site, phase]`; may be
    /// repeated. What begins with `[`, `{` or a quote is YAML, all else is taken as it stands.
    #[arg(
        long,
        value_name = "KEY=VALUE",
        env = "RETROFILL_SET",
        hide_env = true,
        value_delimiter = '\n'
    )]
    pub set: Vec<String>,
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
    /// an ending of a spec is a path. A plan file is a JSON object with `spec_hash` and
    /// `slices`.
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
    /// The job of this name, with nothing given beside it.
    pub fn named(text: impl Into<String>) -> Self {
        JobArg { text: text.into(), given: Given::default() }
    }

    /// What is named.
    pub fn job(&self) -> Job {
        Job::of(&self.text)
    }

    /// Opens the job that is named, in any of the ways.
    pub fn open(&self, state_dir: Option<&Path>) -> Result<Opened, Failure> {
        let (path, pinned) = match self.job() {
            Job::Plan(path) => (path, true),
            Job::Name(name) => {
                let dir = state_dir.map_or_else(|| Path::new(".retrofill").join(&name), Into::into);
                let path = dir.join("plan.json");
                if !path.is_file() {
                    return Err(Error::config(format!("there is no job `{name}`"))
                        .hint("name a spec, a plan file, or a job that was planned here")
                        .into());
                }
                (path, false)
            }
            Job::Stdin | Job::Spec(_) => {
                let job = crate::job::Job::new(self.load_spec()?, state_dir.map(Into::into));
                return Ok(Opened { job, plan: None });
            }
        };
        let json = std::fs::read(&path)
            .map_err(|e| Error::config(format!("{} cannot be read", path.display())).because(e))?;
        let plan = Plan::from_json(&json, &path.display().to_string())?;
        let source = JobSource::Text {
            name: plan.spec.name.clone(),
            text: plan.as_written.to_string(),
            base_dir: plan.base_dir.clone().into(),
        };
        let loaded = config::load_with(&source, &self.given.set, &variable)?;
        let job = crate::job::Job::new(loaded, state_dir.map(Into::into));
        let plan = pinned.then(|| plan.with(&job.spec));
        Ok(Opened { job, plan })
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
        Ok(config::load_with(&source, &self.given.set, &variable)?)
    }
}

/// A variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
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
    map.contains_key("spec_hash") && map.contains_key("slices")
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
        let (text, path) = file("plan.json", r#"{"v":"1","spec_hash":"9f","slices":[]}"#);
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
        let failure = JobArg::named("nyc-weather").load_spec().unwrap_err();
        assert_eq!(failure.exit().code(), 2);
    }
}
