//! The two ends of a job: a connector by its key and its settings, ready for the registry.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use retrofill_connectors::mariadb::MariadbSettings;
use retrofill_connectors::sqlite::SqliteSettings;
use retrofill_core::spec::Endpoint;
use serde_json::{Value, json};

use super::folder;
use super::mariadb;
use super::objects::{self, RawOptions};
use super::postgres;
use super::problem::Problem;
use super::raw::{RawSource, RawTarget};
use super::raw_ends::{
    RawColumnar, RawCompression, RawCsv, RawDecimal, RawEncoding, RawNdjson, RawSchema,
    RawSourceConnector, RawTargetConnector,
};
use super::read::Field;
use super::resolve::check_zone;
use super::sqlite;
use super::tree::Mark;
use super::types::RawTypes;

/// Connectors that stand before a path.
const KINDS: [&str; 6] = ["arrow", "avro", "csv", "delta", "ndjson", "parquet"];

/// The source, ready to open.
pub(super) fn source(raw: &RawSource, mark: Mark, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    match raw {
        RawSource::Url(text) if postgres::is_address(text) => {
            postgres::from_url(text, mark, problems)
        }
        RawSource::Url(text) if MariadbSettings::is_address(text) => {
            mariadb::from_url(text, mark, problems)
        }
        RawSource::Url(text) if SqliteSettings::is_address(text) => {
            sqlite::from_address(text, mark, problems)
        }
        RawSource::Url(text) => {
            let (kind, path) = match text.split_once(':') {
                Some((kind, path)) if KINDS.contains(&kind) => (Some(kind), path),
                _ => (kind_of(text), text.as_str()),
            };
            let Some(kind) = kind else {
                let problem = Problem::at(mark, "`source` does not tell what it is");
                problems.push(problem.hint(
                    "a path that ends with `.csv`, `.ndjson`, `.jsonl` (also with `.gz`, `.zst`, \
                     `.bz2` or `.xz` behind), `.parquet`, `.arrow`, `.feather` or `.avro`; a path \
                     behind `csv:`, `ndjson:`, `parquet:`, `arrow:`, `avro:` or `delta:`; \
                     `postgres://host/db?table=...`, also `mariadb://`; \
                     `sqlite:path?table=...`; or `{ csv: { path: ... } }`",
                ));
                return None;
            };
            if kind == "delta" {
                check_path(path, "source", mark, problems);
                return Some(delta(path));
            }
            objects::check_path(path, "source", mark, problems);
            Some(match kind {
                "ndjson" => ndjson(path, None, problems),
                "csv" => csv(path, None, problems),
                _ => columnar(kind, path, None, problems),
            })
        }
        RawSource::Connector(connectors) => {
            let RawSourceConnector {
                arrow,
                avro,
                csv: text,
                delta: table,
                mariadb: other,
                ndjson: objects,
                parquet,
                postgres: server,
                sqlite: database,
            } = &**connectors;
            let typed = [("parquet", parquet), ("arrow", arrow), ("avro", avro)];
            let keys = [text.key, table.key, objects.key, server.key, other.key, database.key];
            let keys = keys.into_iter().chain(typed.map(|(_, field)| field.key));
            let known = "`csv`, `ndjson`, `parquet`, `arrow`, `avro`, `delta`, `postgres`, \
                         `mariadb` or `sqlite`";
            one(keys, "source", known, mark, problems)?;
            if let Some(raw) = server.get() {
                return postgres::source(raw, problems);
            }
            if let Some(raw) = other.get() {
                return mariadb::source(raw, problems);
            }
            if let Some(raw) = database.get() {
                return sqlite::source(raw, problems);
            }
            if let Some(raw) = table.get() {
                let path = raw.path.get()?;
                check_path(path, "source.delta.path", raw.path.mark, problems);
                return Some(delta(path));
            }
            if let Some(raw) = objects.get() {
                let path = raw.path.get()?;
                return Some(ndjson(path, Some(raw), problems));
            }
            for (key, field) in typed {
                let Some(raw) = field.get() else { continue };
                let path = raw.path.get()?;
                return Some(columnar(key, path, Some(raw), problems));
            }
            let raw = text.get()?;
            let path = raw.path.get()?;
            Some(csv(path, Some(raw), problems))
        }
    }
}

/// The connector that a path's ending tells.
fn kind_of(path: &str) -> Option<&'static str> {
    let packed = [".gz", ".zst", ".bz2", ".xz"].iter().find_map(|e| path.strip_suffix(e));
    let ends = |text: &str, ending: &str| Path::new(text).extension() == Some(ending.as_ref());
    if ends(packed.unwrap_or(path), "csv") {
        return Some("csv");
    }
    if ["ndjson", "jsonl"].iter().any(|ending| ends(packed.unwrap_or(path), ending)) {
        return Some("ndjson");
    }
    if ends(path, "feather") {
        return Some("arrow");
    }
    ["parquet", "arrow", "avro"].into_iter().find(|ending| ends(path, ending))
}

/// The target, ready to open.
pub(super) fn target(raw: &RawTarget, mark: Mark, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    match raw {
        RawTarget::Url(text) if postgres::is_address(text) => {
            postgres::from_url(text, mark, problems)
        }
        RawTarget::Url(text) => {
            let (kind, path) = text.split_once(':').unwrap_or(("", text));
            if !matches!(kind, "delta" | "files") {
                let problem = Problem::at(mark, "`target` does not tell what it is");
                problems.push(problem.hint(
                    "`delta:path`, `files:path`, `postgres://host/db?table=...`, or \
                     `{ delta: { path: ... } }`",
                ));
                return None;
            }
            check_path(path, "target", mark, problems);
            Some(if kind == "files" { folder::from_path(path) } else { delta(path) })
        }
        RawTarget::Connector(connectors) => {
            let RawTargetConnector { delta: table, files, postgres: server } = &**connectors;
            let keys = [table.key, files.key, server.key];
            one(keys, "target", "`delta`, `files` or `postgres`", mark, problems)?;
            if let Some(raw) = server.get() {
                return postgres::target(raw, problems);
            }
            if let Some(raw) = files.get() {
                return folder::target(raw, problems);
            }
            let raw = table.get()?;
            let path = raw.path.get()?;
            check_path(path, "target.delta.path", raw.path.mark, problems);
            Some(delta(path))
        }
    }
}

/// Whether exactly one connector is named; else that is a problem, unless another key was reported
/// already.
fn one(
    keys: impl IntoIterator<Item = Option<Mark>>,
    what: &str,
    known: &str,
    mark: Mark,
    problems: &mut Vec<Problem>,
) -> Option<()> {
    let named: Vec<Mark> = keys.into_iter().flatten().collect();
    match named[..] {
        [_] => Some(()),
        [] => {
            if !problems.iter().any(|p| p.message.ends_with(&format!(" in `{what}`"))) {
                let message = format!("`{what}` is empty");
                let problem = Problem::at(Mark { length: 1, ..mark }, message);
                problems.push(problem.hint(format!("it needs one connector: {known}")));
            }
            None
        }
        [_, second, ..] => {
            let problem = Problem::at(second, format!("`{what}` names two connectors"));
            problems.push(problem.hint("leave one of them out"));
            None
        }
    }
}

pub(super) fn check_path(path: &str, what: &str, mark: Mark, problems: &mut Vec<Problem>) {
    if path.is_empty() {
        problems.push(Problem::at(mark, format!("`{what}` is an empty path")));
    } else if path.contains('\0') {
        problems.push(Problem::at(mark, format!("`{what}` holds a NUL")));
    } else if path.contains("://") {
        let problem = Problem::at(mark, format!("`{what}` must be a path on this machine"));
        problems.push(problem.hint("only files of a source may lie in an object store"));
    }
}

fn delta(path: &str) -> Endpoint {
    let settings = json!({ "path": path });
    Endpoint {
        connector: "delta".into(),
        identity: settings.clone(),
        settings,
        label: format!("Delta {path}"),
    }
}

/// All of these settings of such files decide which rows are meant, and none is a secret.
fn columnar(
    key: &str,
    path: &str,
    raw: Option<&RawColumnar>,
    problems: &mut Vec<Problem>,
) -> Endpoint {
    let mut settings = json!({ "path": path });
    if let Some(raw) = raw {
        check_zone(&raw.timezone, &format!("source.{key}.timezone"), problems);
        check_format(&raw.time_format, &format!("source.{key}.time_format"), problems);
        let times = [
            ("timezone", json!(raw.timezone.or("UTC".into())), json!("UTC")),
            ("time_format", json!(raw.time_format.get()), Value::Null),
        ];
        put_given(&mut settings, times);
        put_given(&mut settings, columns(&raw.schema, &raw.types, &raw.hive));
        put_given(&mut settings, [("without", json!(raw.without.or(Vec::new())), json!([]))]);
    }
    let name = match key {
        "arrow" => "Arrow",
        "avro" => "Avro",
        _ => "Parquet",
    };
    let beside = raw.map(|r| (&r.path, &r.options, &r.checksums));
    files((key, format!("{name} {path}")), settings, beside, problems)
}

/// All settings of NDJSON files decide which rows are meant, and none is a secret.
fn ndjson(path: &str, raw: Option<&RawNdjson>, problems: &mut Vec<Problem>) -> Endpoint {
    let mut settings = json!({ "path": path });
    if let Some(raw) = raw {
        check_zone(&raw.timezone, "source.ndjson.timezone", problems);
        check_format(&raw.time_format, "source.ndjson.time_format", problems);
        let packed = raw.compression.or(RawCompression::Auto).as_str();
        let reading = [
            ("compression", json!(packed), json!("auto")),
            ("timezone", json!(raw.timezone.or("UTC".into())), json!("UTC")),
            ("time_format", json!(raw.time_format.get()), Value::Null),
        ];
        put_given(&mut settings, reading);
        put_given(&mut settings, columns(&raw.schema, &raw.types, &raw.hive));
    }
    let beside = raw.map(|r| (&r.path, &r.options, &r.checksums));
    files(("ndjson", format!("NDJSON {path}")), settings, beside, problems)
}

/// A setting: its name, its value and its default.
type Setting = (&'static str, Value, Value);

/// Which columns files have and of which types.
fn columns(schema: &Field<RawSchema>, types: &Field<RawTypes>, hive: &Field<bool>) -> [Setting; 3] {
    [
        ("schema", json!(schema.or(RawSchema::Strict).as_str()), json!("strict")),
        ("types", json!(words(types)), json!({})),
        ("hive", json!(hive.or(true)), json!(true)),
    ]
}

/// Puts the settings that are not at their defaults: so a spec written before there was one of
/// them keeps its hash, and with it the ids of its plans.
fn put_given(settings: &mut Value, all: impl IntoIterator<Item = Setting>) {
    for (name, value, default) in all {
        if value != default {
            settings[name] = value;
        }
    }
}

pub(super) fn words(types: &Field<RawTypes>) -> BTreeMap<String, String> {
    let types = types.or(BTreeMap::new());
    types.into_iter().map(|(name, word)| (name, word.0)).collect()
}

/// All settings of a CSV source decide which rows are meant, and none is a secret.
fn csv(path: &str, raw: Option<&RawCsv>, problems: &mut Vec<Problem>) -> Endpoint {
    let delimiter = raw.map_or(",".into(), |r| r.delimiter.or(",".into()));
    let quote = raw.map_or("\"".into(), |r| r.quote.or("\"".into()));
    if let Some(raw) = raw {
        check_csv(raw, &delimiter, &quote, problems);
    }
    let words = raw.and_then(|r| r.null.get());
    let words: Vec<&str> = words.into_iter().flatten().map(|word| word.0.as_str()).collect();
    let compression = raw.and_then(|r| r.compression.get()).copied();
    let time_format = raw.and_then(|r| r.time_format.get());
    let mut settings = json!({
        "path": path,
        "delimiter": delimiter,
        "quote": quote,
        "header": raw.is_none_or(|r| r.header.or(true)),
        "null": words,
        "compression": compression.unwrap_or(RawCompression::Auto).as_str(),
        "timezone": raw.map_or("UTC".into(), |r| r.timezone.or("UTC".into())),
        "time_format": time_format.map_or(Value::Null, |f| json!(f)),
    });
    if let Some(raw) = raw {
        let text = [
            ("encoding", json!(raw.encoding.or(RawEncoding::Utf8).as_str()), json!("utf-8")),
            ("decimal", json!(raw.decimal.or(RawDecimal::Point).as_str()), json!(".")),
        ];
        put_given(&mut settings, text);
        put_given(&mut settings, columns(&raw.schema, &raw.types, &raw.hive));
    }
    let beside = raw.map(|r| (&r.path, &r.options, &r.checksums));
    files(("csv", format!("CSV {path}")), settings, beside, problems)
}

/// A list of checksums decides whether rows may be loaded, not which; so do most options of a
/// store. Which server or account a bucket lies at says which rows are meant.
fn files(
    (key, label): (&str, String),
    mut settings: Value,
    beside: Option<(&Field<String>, &Field<RawOptions>, &Field<String>)>,
    problems: &mut Vec<Problem>,
) -> Endpoint {
    let mut identity = settings.clone();
    if let Some((path, options, checksums)) = beside {
        let what = format!("source.{key}");
        objects::check(path, options, &what, problems).put(&mut settings, &mut identity);
        if let Some(list) = checksums.get() {
            settings["checksums"] = json!(list);
        }
    }
    Endpoint { connector: key.into(), identity, settings, label }
}

fn check_csv(raw: &RawCsv, delimiter: &str, quote: &str, problems: &mut Vec<Problem>) {
    check_byte(&raw.delimiter, "source.csv.delimiter", problems);
    check_byte(&raw.quote, "source.csv.quote", problems);
    if delimiter == quote {
        let given = if raw.quote.is_absent() { &raw.delimiter } else { &raw.quote };
        let message = "`delimiter` and `quote` of `source.csv` are the same";
        problems.push(Problem::at(given.mark, message));
    }
    if raw.decimal.get().is_some_and(|d| d.as_str() == delimiter) {
        let message = "`delimiter` and `decimal` of `source.csv` are the same";
        let hint = "name what stands between the fields: `delimiter: \";\"`";
        problems.push(Problem::at(raw.decimal.mark, message).hint(hint));
    }
    check_zone(&raw.timezone, "source.csv.timezone", problems);
    check_format(&raw.time_format, "source.csv.time_format", problems);
}

pub(super) fn check_byte(field: &Field<String>, what: &str, problems: &mut Vec<Problem>) {
    let Some(text) = field.get() else { return };
    let good = text.len() == 1 && text.is_ascii() && !text.contains(['\n', '\r', '\0']);
    if !good {
        let problem = Problem::at(field.mark, format!("`{what}` must be one ASCII character"));
        problems.push(problem.hint("a tab is \"\\t\" in double quotes"));
    }
}

/// Words that cannot even be written cannot be read either.
pub(super) fn check_format(field: &Field<String>, what: &str, problems: &mut Vec<Problem>) {
    let Some(format) = field.get() else { return };
    let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let hint = if !format.contains('%') {
        "such as `%d.%m.%Y %H:%M`"
    } else if strtime::format(format, &now).is_err() {
        "one of its `%` words is not known to strptime"
    } else {
        return;
    };
    let message = format!("`{what}` is not a format of times");
    problems.push(Problem::at(field.mark, message).hint(hint));
}
