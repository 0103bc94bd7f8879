mod csv;
mod given;

use std::path::Path;
use std::time::Duration;

use retrofill_core::calendar::Every;
use retrofill_core::spec::{Mode, OnDuplicate, OnEmptySource, Order, RejectsCap};
use serde_json::json;

use super::*;

const SMALLEST: &str = "\
source: { csv: { path: \"data/*.csv\", null: [\"NA\"] } }
target: { delta: { path: ./out } }
rows: { time: time_hour, key: [origin] }
";

/// Everything at once, with nothing at its default.
const FULL: &str = r#"
version: 1
name: meters-2019
labels: { team: grid, ticket: 412 }
source:
  csv:
    path: ${DIR}/*.csv.gz
    delimiter: ";"
    quote: "'"
    header: false
    null: [NA, -999, "null"]
    compression: gzip
    timezone: Europe/Berlin
    time_format: "%d.%m.%Y %H:%M"
    encoding: windows-1252
    decimal: ","
    schema: union
    types: { kwh: "decimal(10,2)", phase: int8 }
target: delta:./out
rows: { time: ts, key: [meter, phase], compare: [kwh], on_duplicate: last }
range:
  from: 2019-01-01
  to: 2019-07-01T00:00:00Z
  every: 1mo
  timezone: Europe/Berlin
  order: newest-first
  settle: 2h
write: { mode: fill-missing, on_empty_source: skip }
limits: { concurrency: "${N}", rows_per_second: 200000, memory: 1GiB, max_runtime: 8h }
retry: { attempts: 3, backoff: 250ms, max_backoff: 1m }
rejects: { max: 0.1% }
ledger: sqlite
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "DIR" => Some("in".into()),
        "N" => Some("4".into()),
        "SECRET" => Some("hunter2: [".into()),
        _ => None,
    }
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    given::load_given(text, &[])
}

fn problems(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

#[test]
fn the_smallest_spec_gets_every_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nyc weather.yaml");
    std::fs::write(&path, SMALLEST).unwrap();
    let loaded = load(&JobSource::Path(path), &env).unwrap();
    let spec = &loaded.spec;
    assert_eq!(spec.name, "nyc-weather");
    assert_eq!(loaded.base_dir, dir.path());
    assert_eq!(loaded.state_dir, dir.path().join(".retrofill/nyc-weather"));
    assert_eq!(
        (spec.source.connector.as_str(), spec.source.label.as_str()),
        ("csv", "CSV data/*.csv")
    );
    let settings = json!({
        "path": "data/*.csv", "delimiter": ",", "quote": "\"", "header": true, "null": ["NA"],
        "compression": "auto", "timezone": "UTC", "time_format": null,
    });
    assert_eq!(spec.source.settings, settings);
    assert_eq!(spec.source.identity, settings);
    assert_eq!(spec.target.settings, json!({ "path": "./out" }));
    assert_eq!(spec.rows.key, Some(vec!["origin".to_owned()]));
    assert_eq!((spec.range.from, spec.range.to, spec.range.every), (None, None, None));
    assert_eq!((spec.range.timezone.as_str(), spec.range.order), ("UTC", Order::OldestFirst));
    assert_eq!(spec.range.settle, Duration::from_hours(1));
    assert_eq!(spec.write.mode, Mode::FillMissing);
    assert_eq!(spec.write.on_empty_source, OnEmptySource::Fail);
    assert_eq!(spec.limits, retrofill_core::spec::Limits::default());
    assert_eq!(spec.retry, retrofill_core::spec::Retry::default());
    assert_eq!(spec.rejects, RejectsCap::Rows(0));
}

#[test]
fn every_setting_arrives() {
    let loaded = load_text(FULL).unwrap();
    let spec = &loaded.spec;
    assert_eq!(spec.name, "meters-2019");
    assert_eq!(loaded.labels["ticket"], "412");
    let settings = json!({
        "path": "in/*.csv.gz", "delimiter": ";", "quote": "'", "header": false,
        "null": ["NA", "-999", "null"], "compression": "gzip", "timezone": "Europe/Berlin",
        "time_format": "%d.%m.%Y %H:%M", "encoding": "windows-1252", "decimal": ",",
        "schema": "union", "types": { "kwh": "decimal(10,2)", "phase": "int8" },
    });
    assert_eq!(spec.source.identity, settings);
    assert_eq!(spec.source.settings, settings);
    assert_eq!(spec.target.settings, json!({ "path": "./out" }));
    assert_eq!(spec.rows.compare, Some(vec!["kwh".to_owned()]));
    assert_eq!(spec.rows.on_duplicate, OnDuplicate::Last);
    assert_eq!(spec.range.from.unwrap().to_string(), "2018-12-31T23:00:00Z");
    assert_eq!(spec.range.to.unwrap().to_string(), "2019-07-01T00:00:00Z");
    assert_eq!(spec.range.every, Some(Every::Months(1)));
    assert_eq!(spec.range.order, Order::NewestFirst);
    assert_eq!(spec.range.settle, Duration::from_hours(2));
    assert_eq!(spec.write.on_empty_source, OnEmptySource::Skip);
    assert_eq!(spec.limits.concurrency, Some(4));
    assert_eq!(spec.limits.rows_per_second, Some(200_000));
    assert_eq!(spec.limits.memory, 1 << 30);
    assert_eq!(spec.limits.max_runtime, Some(Duration::from_hours(8)));
    assert_eq!((spec.retry.attempts, spec.retry.backoff), (3, Duration::from_millis(250)));
    assert_eq!(spec.rejects, RejectsCap::Share(0.001));
}

#[test]
fn the_raw_form_keeps_references_and_loads_the_same() {
    let first = load_text(FULL).unwrap();
    assert_eq!(first.raw["source"]["csv"]["path"], "${DIR}/*.csv.gz");
    assert_eq!(first.raw["limits"]["concurrency"], "${N}");
    let again = load_text(&first.raw.to_string()).unwrap();
    assert_eq!(again.spec, first.spec);
    assert_eq!(again.spec.hash(), first.spec.hash());
}

#[test]
fn without_a_key_rows_are_appended() {
    let spec = |rows: &str| {
        load_text(&format!("source: a.csv\ntarget: delta:out\nrows: {rows}\n")).map(|l| l.spec)
    };
    assert_eq!(spec("{ time: t }").unwrap().write.mode, Mode::Append);
    assert_eq!(spec("{ time: t, key: [] }").unwrap().write.mode, Mode::FillMissing);
    assert_eq!(spec("{ time: t, key: [] }").unwrap().rows.key, Some(vec![]));
}

#[test]
fn a_secret_changes_neither_shape_nor_lines_and_is_never_shown() {
    let spec = SMALLEST.replace("[origin]", "[\"${SECRET}\"]");
    assert_eq!(load_text(&spec).unwrap().spec.rows.key, Some(vec!["hunter2: [".to_owned()]));
    for bad in [
        "range: { every: \"${SECRET}\" }",
        "range: { from: \"${SECRET}\" }",
        "range: { timezone: \"${SECRET}\" }",
        "range: { order: \"${SECRET}\" }",
        "range: \"${SECRET}\"",
        "limits: { concurrency: \"${SECRET}\" }",
        "limits: { memory: \"${SECRET}\" }",
        "limits: { rows_per_second: \"${SECRET}\" }",
        "retry: { backoff: \"${SECRET}\" }",
        "rejects: { max: \"${SECRET}\" }",
        "name: \"${SECRET}\"",
        "version: \"${SECRET}\"",
        "write: [\"${SECRET}\"]",
        "ledger: \"${SECRET}\"",
        "SECRET",
    ] {
        let text = match bad {
            "SECRET" => {
                SMALLEST.replace("data/*.csv", "${SECRET}://x").replace("./out", "://${SECRET}")
            }
            _ => format!("{SMALLEST}{bad}\n"),
        };
        let shown = problems(&text);
        assert!(!shown.contains("hunter2"), "{bad}: {shown}");
    }
    for (old, new) in [
        ("\"data/*.csv\"", "x.csv, delimiter: \"${SECRET}\""),
        ("\"data/*.csv\"", "x.csv, timezone: \"${SECRET}\""),
        ("\"data/*.csv\"", "x.csv, time_format: \"${SECRET}\""),
        ("\"data/*.csv\"", "x.csv, encoding: \"${SECRET}\""),
        ("\"data/*.csv\"", "x.csv, types: { a: \"${SECRET}\" }"),
        ("[origin]", "[\"${SECRET}\", \"${SECRET}\"]"),
        ("[origin]", "[a], compare: [\"${SECRET}\", \"${SECRET}\"]"),
        ("[origin]", "[\"${SECRET}\"], compare: [\"${SECRET}\"]"),
        ("{ csv: { path: \"data/*.csv\", null: [\"NA\"] } }", "\"${SECRET}\""),
        ("{ delta: { path: ./out } }", "\"${SECRET}\""),
    ] {
        let shown = problems(&SMALLEST.replace(old, new));
        assert!(!shown.contains("hunter2"), "{new}: {shown}");
    }
}

#[test]
fn stdin_has_no_name_of_its_own() {
    let shown = load(&JobSource::Stdin(SMALLEST.into()), &env).unwrap_err().to_string();
    assert!(shown.contains("`name` is missing"), "{shown}");
    let named = format!("name: n\n{SMALLEST}");
    let loaded = load(&JobSource::Stdin(named), &env).unwrap();
    assert_eq!(loaded.state_dir, Path::new("./.retrofill/n"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let missing = load(&JobSource::Path(dir.path().join("no.yaml")), &env).unwrap_err();
    assert!(missing.to_string().contains("cannot read the spec"), "{missing}");
    let latin = dir.path().join("latin.yaml");
    std::fs::write(&latin, b"name: a\nname: \xe9\n").unwrap();
    let error = load(&JobSource::Path(latin), &env).unwrap_err();
    assert!(error.to_string().contains("line 2 is not UTF-8"), "{error}");
}

#[test]
fn json_is_read_too_and_long_lines_are_cut() {
    let text = serde_json::to_string(&json!({
        "source": { "csv": { "path": "data/*.csv", "null": ["NA"] } },
        "target": { "delta": { "path": "a-rather-long-path/to/the/table/that/nobody/needs" } },
        "rows": { "time": "time_hour", "key": ["origin"] },
        "limits": { "memory": "384MiB", "concurency": 4, "max_runtime": "8h" },
        "writ": {},
    }))
    .unwrap();
    insta::assert_snapshot!(problems(&text));
}

/// One snapshot per bad spec: what the user sees.
macro_rules! bad {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true }, {
                insta::assert_snapshot!(problems(&$text));
            });
        })*
    };
}

mod ends;

fn with(line: &str) -> String {
    format!("{SMALLEST}{line}\n")
}

fn ends(source: &str, target: &str) -> String {
    format!("source: {source}\ntarget: {target}\nrows: {{ time: t }}\n")
}

fn keyless(line: &str) -> String {
    format!("{}{line}\n", ends("a.csv", "delta:o"))
}

bad! {
    bad_typo_in_a_key: with("limits:\n  concurency: 4");
    bad_everything_at_once: "\
name: bad/name
source: { csv: { path: a.csv, delimter: ';', quote: '\"\"', null: NA } }
target: { delta: { } }
rows: { time: t, key: [t, a, a], on_duplicate: frist }
range: { from: 2019-07-01, to: 2019-01-01, every: 1m, timezone: Berlin, settle: 1500ms }
limits: { concurrency: 0, memory: 1G, rows_per_second: -5, max_runtime: 0s }
retry: { attempts: 0, backoff: 5m }
rejects: { max: 120% }
";
    bad_empty: "";
    bad_only_a_comment: "# nothing\n";
    bad_a_list: "- source\n";
    bad_yaml: "source: { csv: { path: a.csv }\ntarget: delta:out\n";
    bad_tab: "source:\n\tcsv: a\n";
    bad_duplicate_key: with("range: { every: 1d }\nrange: { every: 1h }");
    bad_unset_variables: with("name: ${NO_SUCH}\nrange: { from: \"${FROM:?set FROM to a date}\" }");
    bad_substituted_number: with("limits:\n  concurrency: ${DIR}");
    bad_mode_append_with_key: with("write: { mode: append }");
    bad_mode_fill_without_key: keyless("write: { mode: fill-missing }");
    bad_unknown_mode: with("write: { mode: upserts }");
    bad_reversed_range: with("range:\n  from: 2020-01-01\n  to: 2019-01-01");
    bad_time_without_offset: with("range: { from: 2019-01-01T00:00:00 }");
    bad_numbers_for_texts: with("name: 2019\nlimits: { rows_per_second: \"5\" }");
    bad_time_format: SMALLEST.replace("null: [\"NA\"]", "time_format: \"%d %K\"");
    bad_csv_words: SMALLEST.replace(
        "null: [\"NA\"]",
        "encoding: latin1, schema: unite, decimal: \",\", \
         types: { a: int46, b: \"decimal(40,2)\" }",
    );
    bad_keyless_settings: ends("a.csv", "delta:o")
        .replace("t }", "t, compare: [a], on_duplicate: last }");
    bad_compare_and_replace: ends("a.csv", "delta:o")
        .replace("t }", "t, key: [k], compare: [a] }\nwrite: { mode: replace, scope: all }");
    bad_two_documents: with("---\nname: second");
    bad_tag: with("name: !!python/object x");
    bad_wide_characters: with("labels: { größe: [a] }");
}

/// Checks a document against a schema: as much of JSON Schema as ours uses, and no more.
fn accepts(
    schema: &serde_json::Value,
    root: &serde_json::Value,
    value: &serde_json::Value,
) -> bool {
    use serde_json::Value;
    let Value::Object(map) = schema else { return schema != &Value::Bool(false) };
    map.iter().all(|(word, rule)| match word.as_str() {
        "$ref" => {
            let pointer = rule.as_str().unwrap().trim_start_matches('#');
            accepts(root.pointer(pointer).expect("the reference leads somewhere"), root, value)
        }
        "anyOf" => rule.as_array().unwrap().iter().any(|s| accepts(s, root, value)),
        "oneOf" => rule.as_array().unwrap().iter().filter(|s| accepts(s, root, value)).count() == 1,
        "allOf" => rule.as_array().unwrap().iter().all(|s| accepts(s, root, value)),
        "type" => {
            let is = |name: &str| match name {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other} is not known here"),
            };
            match rule {
                Value::Array(names) => names.iter().any(|n| is(n.as_str().unwrap())),
                name => is(name.as_str().unwrap()),
            }
        }
        "const" => rule == value,
        "enum" => rule.as_array().unwrap().contains(value),
        "required" => {
            let Value::Object(given) = value else { return true };
            rule.as_array().unwrap().iter().all(|k| given.contains_key(k.as_str().unwrap()))
        }
        "properties" => {
            let Value::Object(given) = value else { return true };
            given.iter().all(|(k, v)| rule.get(k).is_none_or(|s| accepts(s, root, v)))
        }
        "additionalProperties" => {
            let Value::Object(given) = value else { return true };
            let known = map.get("properties");
            given
                .iter()
                .filter(|(k, _)| known.is_none_or(|p| p.get(k).is_none()))
                .all(|(_, v)| accepts(rule, root, v))
        }
        "items" => match value {
            Value::Array(items) => items.iter().all(|v| accepts(rule, root, v)),
            _ => true,
        },
        "minProperties" => {
            value.as_object().is_none_or(|o| o.len() as u64 >= rule.as_u64().unwrap())
        }
        "maxProperties" => {
            value.as_object().is_none_or(|o| o.len() as u64 <= rule.as_u64().unwrap())
        }
        "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
        "minLength" => value.as_str().is_none_or(|s| s.len() as u64 >= rule.as_u64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|s| s.len() as u64 <= rule.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
        "pattern" if rule == r"\$\{.*\}" => value.as_str().is_none_or(|s| s.contains("${")),
        // Other syntax inside texts is the loader's business.
        "pattern" | "format" | "default" | "description" | "title" | "examples" | "$schema"
        | "definitions" => true,
        other => panic!("the schema uses `{other}`, which this test does not know"),
    })
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let example = include_str!("../../../../examples/nyc-weather/backfill.yaml");
    for good in [SMALLEST, FULL, example] {
        let loaded = load_text(good).unwrap();
        assert!(accepts(&schema, &schema, &loaded.raw), "{good}");
    }
    for bad in [
        with("limit: {}"),
        with("limits: { concurency: 1 }"),
        with("limits: { concurrency: 0 }"),
        with("limits: { rows_per_second: fast }"),
        with("range: 1d"),
        with("write: { mode: [append] }"),
        with("version: 2"),
        with("retry: { attempts: 0 }"),
        with("limits:"),
        SMALLEST.replace("time: time_hour, ", ""),
        SMALLEST.replace("{ path: ./out }", "{}"),
        SMALLEST.replace("{ delta: { path: ./out } }", "{}"),
        SMALLEST.replace("[origin]", "origin"),
        SMALLEST.replace("{ path: ./out }", "{ path: 5 }"),
    ] {
        assert!(load_text(&bad).is_err(), "the loader takes {bad}");
        let json = tree::parse(&bad).unwrap().to_json();
        assert!(!accepts(&schema, &schema, &json), "the schema takes {bad}");
    }
}

#[test]
fn the_committed_schema_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/retrofill.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == schema(),
        "docs/retrofill.schema.json is stale: `cargo run -- schema -o docs/retrofill.schema.json`"
    );
}

#[test]
fn no_damage_to_a_spec_makes_it_panic_or_point_outside() {
    let insertions =
        ["{", "]", "\"", ":", "\n", "\t", "${", "}", "*a", "&a", "- ", "|", "ü", "\0", "%"];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..1_500 {
        let mut chars: Vec<char> = FULL.chars().collect();
        for _ in 0..=random(3) {
            let at = random(chars.len());
            if random(2) == 0 {
                let end = (at + 1 + random(12)).min(chars.len());
                chars.drain(at..end);
            } else {
                chars.splice(at..at, insertions[random(insertions.len())].chars());
            }
        }
        let text: String = chars.iter().collect();
        let Err(problems) = load_text(&text) else {
            good += 1;
            continue;
        };
        bad += 1;
        assert!(!problems.list().is_empty() && problems.to_string().starts_with("error: "));
        for (line, _) in problems.list().iter().filter_map(Problem::place) {
            // A document that breaks off is broken one line behind its last.
            assert!(line <= text.lines().count() + 1, "line {line} of {text}");
        }
    }
    assert!(good > 20 && bad > 1_000, "{good} good, {bad} bad");
}
