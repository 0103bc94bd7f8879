//! Files in an object store as a source: their address, and the options beside it. Options hold
//! secrets: no problem shows a value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use retrofill_connectors::files::{Address, Options};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::postgres::{told, without_references};
use super::problem::Problem;
use super::read::{Field, Read, suggest, unexpected, word};
use super::tree::{Mark, Node, NodeKind};

/// One option as it stands in the spec.
#[derive(Debug, Clone)]
struct RawOption {
    name: String,
    key: Mark,
    mark: Mark,
    value: String,
}

/// What a store needs, beside the address. Which names there may be depends on the store.
#[derive(Debug, Clone)]
pub(super) struct RawOptions(Vec<RawOption>);

impl JsonSchema for RawOptions {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Options".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] }
        })
    }
}

impl Read for RawOptions {
    fn read(node: &Node, what: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let NodeKind::Map(entries) = &node.kind else {
            problems.push(unexpected(node, what, "a mapping"));
            return None;
        };
        let mut options: Vec<RawOption> = Vec::new();
        for entry in entries {
            if options.iter().any(|known| known.name == entry.key) {
                let message = format!("key `{}` stands twice in `{what}`", entry.key);
                problems.push(Problem::at(entry.mark, message));
                continue;
            }
            if matches!(entry.value.kind, NodeKind::Lost) {
                continue;
            }
            let Some(value) = word(&entry.value) else {
                problems.push(unexpected(&entry.value, &format!("{what}.{}", entry.key), "a text"));
                continue;
            };
            options.push(RawOption {
                name: entry.key.clone(),
                key: entry.mark,
                mark: entry.value.mark,
                value: value.to_owned(),
            });
        }
        Some(RawOptions(options))
    }
}

/// Options that are ready to use: all of them, and those that decide which bucket is meant.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) all: BTreeMap<String, String>,
    place: BTreeMap<String, String>,
}

impl Chosen {
    /// Puts them into the settings of files, and what decides about rows into their identity.
    pub(super) fn put(&self, settings: &mut Value, identity: &mut Value) {
        for (to, options) in [(settings, &self.all), (identity, &self.place)] {
            if !options.is_empty() {
                to["options"] = json!(options);
            }
        }
    }
}

/// Checks the path of files, and the options beside it.
pub(super) fn check(
    path: &Field<String>,
    options: &Field<RawOptions>,
    what: &str,
    problems: &mut Vec<Problem>,
) -> Chosen {
    let Some(text) = path.get() else { return Chosen::default() };
    let address = check_path(text, &format!("{what}.path"), path.mark, problems);
    let (Some(raw), Some(key)) = (options.get(), options.key) else { return Chosen::default() };
    let Some(address) = address else {
        if !Address::is(text) {
            let message = format!("`{what}.options` stands beside a path on this machine");
            let hint = "options are for `s3://`, `gs://`, `az://` and `https://`; leave them out";
            problems.push(Problem::at(key, message).hint(hint));
        }
        return Chosen::default();
    };
    let names = Options::names(address.scheme);
    let mut chosen = Chosen::default();
    for option in &raw.0 {
        let RawOption { name, key, mark, value } = option;
        if !names.contains(&name.as_str()) {
            let message = format!("unknown key `{name}` in `{what}.options`");
            problems.push(Problem::at(*key, message).hint(suggest(name, &names)));
            continue;
        }
        if told(Options::check(address.scheme, name, value), *mark, problems).is_none() {
            continue;
        }
        if Options::is_place(address.scheme, name) {
            chosen.place.insert(name.clone(), value.clone());
        }
        chosen.all.insert(name.clone(), value.clone());
    }
    chosen
}

/// Checks a path of files: on this machine, or an address, which is given back.
pub(super) fn check_path(
    path: &str,
    what: &str,
    mark: Mark,
    problems: &mut Vec<Problem>,
) -> Option<Address> {
    if Address::is(path) && !path.contains('\0') {
        return told(Address::parse(path), mark, problems);
    }
    super::endpoint::check_path(path, what, mark, problems);
    None
}

/// Where secrets of stores are written out, below `options` anywhere in a document.
pub(super) fn secrets(root: &Node) -> Vec<Mark> {
    let entries = match &root.kind {
        NodeKind::List(items) => return items.iter().flat_map(secrets).collect(),
        NodeKind::Map(entries) => entries,
        _ => return Vec::new(),
    };
    let below = |value: &Node| match &value.kind {
        NodeKind::Map(options) => {
            let written = options.iter().filter(|o| {
                let NodeKind::Scalar(scalar) = &o.value.kind else { return false };
                Options::is_secret(&o.key) && !without_references(&scalar.written).is_empty()
            });
            written.map(|o| o.value.mark).collect()
        }
        _ => Vec::new(),
    };
    let found = entries.iter().flat_map(|entry| match entry.key.as_str() {
        "options" => below(&entry.value),
        _ => secrets(&entry.value),
    });
    found.collect()
}
