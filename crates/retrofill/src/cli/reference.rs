//! The reference of the guide, made of the same definitions as the program itself: commands and
//! flags from clap, the spec from its JSON Schema.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use serde_json::Value;

use super::Cli;

/// What is generated, and not to be edited.
const MADE: &str = "<!-- Written by `cargo xtask generate`. -->";

/// All commands with their flags, as Markdown.
pub(super) fn commands() -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = format!("# Commands\n\n{MADE}\n\n");
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // Writing to a text cannot fail.
    let _ = writeln!(page, "{}\n\n## Everywhere\n", after.trim());
    let globals = command.get_arguments().filter(|a| a.is_global_set());
    flags(&mut page, globals);
    for sub in command.get_subcommands() {
        section(&mut page, "retrofill", sub);
    }
    page
}

fn section(page: &mut String, above: &str, command: &Command) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "\n## {name}\n\n{}\n", sentence(&about));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = writeln!(page, "```text\n{usage}\n```");
    let own = |a: &&Arg| !a.is_global_set() && a.get_id() != "help";
    if command.get_arguments().any(|a| own(&a)) {
        page.push('\n');
        flags(page, command.get_arguments().filter(own));
    }
    for sub in command.get_subcommands() {
        section(page, &name, sub);
    }
}

fn flags<'a>(page: &mut String, list: impl Iterator<Item = &'a Arg>) {
    page.push_str("| flag | does | variable |\n|---|---|---|\n");
    for arg in list {
        let short = arg.get_short().map_or(String::new(), |c| format!("`-{c}`, "));
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        let value = value.map_or(String::new(), |v| format!(" {}", v[0]));
        let name = match arg.get_long() {
            Some(long) => format!("{short}`--{long}{value}`"),
            None => format!("`{}`", value.trim()),
        };
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| {name} | {} | {} |", cell(&told(arg, &about)), variable(arg));
    }
}

/// What a flag does, with its values and its default.
fn told(arg: &Arg, about: &str) -> String {
    let mut text = sentence(about);
    let shown = arg.get_possible_values();
    let words: Vec<_> = shown.iter().map(|v| format!("`{}`", v.get_name())).collect();
    if arg.get_action().takes_values() && !words.is_empty() {
        let _ = write!(text, " One of {}.", words.join(", "));
    }
    let default: Vec<_> = arg.get_default_values().iter().map(|d| d.to_string_lossy()).collect();
    if arg.get_action().takes_values() && !default.is_empty() {
        let _ = write!(text, " Default: `{}`.", default.join(" "));
    }
    text
}

fn variable(arg: &Arg) -> String {
    let name = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
    name.unwrap_or_default()
}

/// A text that ends like a sentence.
fn sentence(text: &str) -> String {
    let text = text.trim().replace('\n', " ");
    if text.is_empty() || text.ends_with(['.', ']']) { text } else { text + "." }
}

/// A text inside of a table; outside of code `<name>` is no tag.
fn cell(text: &str) -> String {
    let mut code = false;
    let mut out = String::new();
    for c in text.chars() {
        code ^= c == '`';
        match c {
            '|' => out.push_str("\\|"),
            '<' if !code => out.push_str("&lt;"),
            c => out.push(c),
        }
    }
    out
}

/// Every key of the spec, as Markdown.
pub(super) fn spec(schema: &str) -> String {
    let schema: Value = serde_json::from_str(schema).expect("the schema is plain JSON");
    let mut page = format!("# The spec\n\n{MADE}\n\n{}\n", described(&schema));
    keys(&mut page, &schema, &schema, "");
    page
}

fn described(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The keys of one section, then the sections below it.
fn keys(page: &mut String, root: &Value, section: &Value, path: &str) {
    let Some(properties) = section["properties"].as_object() else { return };
    let needed = |key: &str| {
        section["required"].as_array().is_some_and(|list| list.iter().any(|k| k == key))
    };
    page.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    for (key, value) in properties {
        let meaning = [described(value), &choices(root, value)].join(" ");
        let default = match &value["default"] {
            Value::Null if needed(key) => "needed".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let kind = kind(root, value);
        let meaning = cell(meaning.trim());
        let _ = writeln!(page, "| `{key}` | {kind} | {} | {meaning} |", cell(&default));
    }
    for (key, value) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        for below in sections(root, value) {
            let level = "#".repeat(path.split('.').count().min(4) + 1);
            let _ = writeln!(page, "\n{level} {path}\n\n{}", described(below));
            keys(page, root, below, &path);
        }
    }
}

/// The schema itself, or the one that it refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// All forms that a value may have, references followed.
fn forms<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolved(root, schema);
    for word in ["anyOf", "allOf"] {
        if let Some(list) = schema[word].as_array() {
            return list.iter().flat_map(|form| forms(root, form)).collect();
        }
    }
    vec![schema]
}

fn sections<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let all = forms(root, schema);
    let items = all.iter().flat_map(|form| forms(root, &form["items"]));
    let with = |form: &&'a Value| form["properties"].is_object();
    all.iter().copied().chain(items).filter(with).collect()
}

fn kind(root: &Value, schema: &Value) -> String {
    let mut kinds = Vec::new();
    for form in forms(root, schema) {
        let kind = match form["type"].as_str() {
            // A reference to a variable, beside another form.
            Some("string") if form["pattern"] == r"\$\{.*\}" => continue,
            Some("string") => "text",
            Some("array") => "list",
            Some("object") => "mapping",
            Some("integer") => "whole number",
            Some("number") => "number",
            Some("boolean") => "true or false",
            _ if form["oneOf"].is_array() || form["enum"].is_array() => "word",
            _ if form["const"].is_string() => "word",
            _ => "value",
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(" or ")
}

/// The words that a value may be, with their meaning.
fn choices(root: &Value, schema: &Value) -> String {
    let own = forms(root, schema);
    let items = own.clone().into_iter().flat_map(|form| forms(root, &form["items"]));
    let words = own.iter().copied().chain(items).filter_map(|form| form["oneOf"].as_array());
    let word = |w: &Value| match (w["const"].as_str(), described(w)) {
        (Some(name), "") => format!("`{name}`"),
        (Some(name), about) => format!("`{name}`: {}", about.trim_end_matches('.')),
        (None, _) => String::new(),
    };
    let list: Vec<_> = words.flatten().map(word).filter(|w| !w.is_empty()).collect();
    if list.is_empty() { String::new() } else { format!("{}.", list.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_there() {
        let page = commands();
        for text in [
            "## retrofill rejects replay",
            "| `-o`, `--out FILE` |",
            "`RETROFILL_DETAILED_EXITCODE`",
            "Default: `./backfill.yaml`.",
            ".retrofill/&lt;name>/",
            "| `-q`, `--quiet` | Print no progress and no notes. | `RETROFILL_QUIET` |",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
    }

    #[test]
    fn every_key_of_the_spec_is_there() {
        let schema = crate::config::schema();
        let page = spec(&schema);
        let known: Value = serde_json::from_str(&schema).unwrap();
        let mut count = known["properties"].as_object().unwrap().len();
        for section in known["definitions"].as_object().unwrap().values() {
            for key in section["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
                assert!(page.contains(&format!("\n| `{key}` | ")), "{key}\n{page}");
                count += 1;
            }
        }
        assert!(count > 40 && page.contains("\n### source.csv\n"), "{page}");
        assert!(page.contains("| `path` | text | needed |"), "{page}");
        assert!(page.contains("| `every` | text | `auto` |"), "{page}");
    }
}
