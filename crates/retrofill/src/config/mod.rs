//! The spec file: YAML or JSON to core's `Spec`, with every problem reported at once.
//!
//! The document becomes a tree that knows its lines (`tree`); references to the outside are
//! filled in (`substitute`); the tree is read as `RawSpec` (`read`); defaults and checks
//! make core's `Spec` of it (`resolve`). Each step goes on after a problem.

mod after;
mod endpoint;
mod folder;
mod mariadb;
mod notify;
mod objects;
mod overrides;
mod postgres;
mod problem;
mod raw;
mod raw_ends;
mod read;
mod resolve;
mod schema;
mod sqlite;
mod substitute;
#[cfg(test)]
mod tests;
mod transform;
mod tree;
mod types;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use retrofill_core::after::After;
use retrofill_core::spec::Spec;

use crate::notify::Notify;

pub use problem::{Problem, Problems};
pub use schema::schema;
pub use values::Moment;

/// The place under which [`Loaded::places`] has the first character of the transform's text.
pub const SQL: &str = "transform:";

/// Larger documents are not specs, bytes.
const MAX_BYTES: usize = 4 << 20;

/// Where a spec comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSource {
    /// A file.
    Path(PathBuf),
    /// Text that was read from standard input. It must name itself; paths start from the
    /// working directory.
    Stdin(String),
    /// Text from elsewhere, such as the `raw` that a plan file keeps.
    Text {
        /// The job's name, where the text has none.
        name: String,
        /// The document.
        text: String,
        /// The directory that relative paths start from.
        base_dir: PathBuf,
    },
}

/// A spec that is ready to use.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec.
    pub spec: Spec,
    /// The document as written, with its `${}` references: safe to keep, and can be loaded again
    /// as [`JobSource::Text`].
    pub raw: serde_json::Value,
    /// Free words for people and for reports.
    pub labels: BTreeMap<String, String>,
    /// The kind of ledger: `sqlite`.
    pub ledger: &'static str,
    /// Who is told how a run ended. Never part of the spec: it decides nothing about rows.
    pub notify: Vec<Notify>,
    /// What the target does once slices are loaded. Never part of the spec either.
    pub after: Vec<After>,
    /// The directory that relative paths in the spec start from.
    pub base_dir: PathBuf,
    /// Where each key of the document stands, `FILE:LINE:COLUMN`, by its path with dots. Empty
    /// where nobody has written the text by hand.
    pub places: BTreeMap<String, String>,
    /// Where the job keeps its state unless told otherwise: `.retrofill/<name>` in `base_dir`.
    pub state_dir: PathBuf,
}

/// Loads and checks a spec. `env` gives variables of the environment; nothing else of the outside
/// is opened, but for the spec itself and the files in `${file:}`.
pub fn load(job: &JobSource, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    load_with(job, &[], env)
}

/// The same with keys that stand beside the document, `a.b=c` each: they win.
pub fn load_with(
    job: &JobSource,
    sets: &[String],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let given = Given { sets, env };
    match job {
        JobSource::Path(path) => {
            let shown = path.display().to_string();
            let text = read_file(path).map_err(|p| Problems::new(&shown, "", vec![p]))?;
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
            let base = match path.parent() {
                Some(dir) if dir != Path::new("") => dir,
                _ => Path::new("."),
            };
            understand(&shown, &text, stem.as_deref(), base, given)
        }
        JobSource::Stdin(text) => understand("<stdin>", text, None, Path::new("."), given),
        JobSource::Text { name, text, base_dir } => {
            let loaded = understand(name, text, Some(name), base_dir, given)?;
            Ok(Loaded { places: BTreeMap::new(), ..loaded })
        }
    }
}

/// What is given beside the document.
#[derive(Clone, Copy)]
struct Given<'a> {
    sets: &'a [String],
    env: &'a dyn Fn(&str) -> Option<String>,
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let bytes = std::fs::read(path).map_err(|error| {
        let problem = Problem::general(format!("cannot read the spec: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                problem.hint("name a spec, or `-` to read it from standard input")
            }
            _ => problem,
        }
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(Problem::general(format!("larger than {MAX_BYTES} bytes: this is no spec")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let line = 1 + good.matches('\n').count();
        Problem::general(format!("line {line} is not UTF-8")).hint("save the spec as UTF-8")
    })
}

fn understand(
    shown: &str,
    text: &str,
    stem: Option<&str>,
    base: &Path,
    given: Given<'_>,
) -> Result<Loaded, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut root = tree::parse(text).map_err(|list| Problems::new(shown, text, list))?;
    let whole = overrides::Text::new(text, given.sets);
    let mut problems = Vec::new();
    whole.apply(&mut root, &mut problems);
    let mut raw = root.to_json();
    notify::forget_urls(&mut raw);
    let masked = notify::masked(&whole.text, &root);
    let wrong = |list| Problems::new(shown, &masked, list).with_flags(whole.flags);
    problems.extend(postgres::passwords(&root).into_iter().map(|mark| {
        Problem::at(mark, "a password of PostgreSQL is written out")
            .hint("it would be kept with the plan: `postgres://user:${PGPASSWORD}@host/database`")
    }));
    problems.extend(objects::secrets(&root).into_iter().map(|mark| {
        Problem::at(mark, "a secret of an object store is written out")
            .hint("it would be kept with the plan: `${NAME}` or `${file:/path}`")
    }));
    let outside = substitute::Outside { env: given.env, base };
    substitute::substitute(&mut root, &outside, &mut problems);
    let typed = read::read::<raw::RawSpec>(&root, "", &mut problems);
    let spec = typed.as_ref().and_then(|typed| resolve::resolve(typed, stem, &mut problems));
    let notify = typed.as_ref().map_or(Vec::new(), |t| notify::notify(&t.notify, &mut problems));
    let connector = spec.as_ref().map(|s| s.target.connector.as_str());
    let after =
        typed.as_ref().map_or(Vec::new(), |t| after::after(&t.after, connector, &mut problems));
    match (typed, spec) {
        (Some(typed), Some(spec)) if problems.is_empty() => {
            // The same rules once more, as core sees them: they must never disagree.
            if let Err(error) = spec.check() {
                return Err(wrong(vec![Problem::general(error.message())]));
            }
            let state_dir = base.join(".retrofill").join(&spec.name);
            let place = |mark: tree::Mark| {
                if mark.line >= whole.flags {
                    return "--set".to_owned();
                }
                format!("{shown}:{}:{}", mark.line, mark.column)
            };
            let labels = typed.labels.or(BTreeMap::new());
            let mut places = root.places(place);
            let start = typed.transform.get().and_then(transform::Sql::start);
            places.extend(start.map(|m| (SQL.into(), format!("{shown}:{}:{}", m.line, m.column))));
            Ok(Loaded {
                spec,
                raw,
                labels: labels.into_iter().map(|(name, word)| (name, word.0)).collect(),
                ledger: typed.ledger.or(raw::RawLedger::Sqlite).as_str(),
                notify,
                after,
                base_dir: base.to_owned(),
                places,
                state_dir,
            })
        }
        _ if problems.is_empty() => Err(wrong(vec![Problem::general("the spec is incomplete")])),
        _ => Err(wrong(problems)),
    }
}
