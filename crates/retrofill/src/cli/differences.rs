//! Rows that differ between source and target, as people and machines read them.

use retrofill_core::runner::{Cell, Class, Difference, Finding};
use serde_json::{Value, json};

use super::output::Output;

/// One row a line, then what they have in common.
pub(super) fn lines(finding: &Finding) -> Vec<String> {
    let rows = finding.drill.rows.iter().map(line);
    let patterns = finding.drill.patterns.iter().map(|p| format!("    pattern: {p}"));
    rows.chain(patterns).collect()
}

fn line(row: &Difference) -> String {
    let key: Vec<_> = row.key.iter().map(shown).collect();
    let time = row.time.map_or_else(String::new, |t| t.to_string());
    let place = row.place.as_ref().map_or_else(String::new, |p| format!("   {p}"));
    let values: Vec<_> = row
        .columns
        .iter()
        .map(|(column, ours, theirs)| match row.class {
            Class::Changed => format!("{column}: {} -> {}", shown(ours), shown(theirs)),
            Class::Missing => format!("{column}: {}", shown(ours)),
            Class::Extra => format!("{column}: {}", shown(theirs)),
        })
        .collect();
    format!("    {:<7} {time} {}   {}{place}", row.class.as_str(), key.join(" "), values.join(", "))
}

/// A value in one line that no terminal takes for orders.
fn shown(cell: &Cell) -> String {
    const MOST: usize = 60;
    let Some(text) = cell else { return "NULL".into() };
    let plain = text.chars().take(MOST);
    let mut out: String = plain
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

/// One JSON object a line.
pub(super) fn json(output: Output, finding: &Finding) {
    let slice = &finding.record.id;
    for row in &finding.drill.rows {
        let columns: serde_json::Map<String, Value> = row
            .columns
            .iter()
            .map(|(c, ours, theirs)| (c.clone(), json!({ "source": ours, "target": theirs })))
            .collect();
        output.json(&json!({
            "v": 1,
            "slice": slice,
            "class": row.class.as_str(),
            "time": row.time,
            "key": row.key,
            "place": row.place,
            "columns": columns,
        }));
    }
    for pattern in &finding.drill.patterns {
        output.json(&json!({ "v": 1, "slice": slice, "pattern": pattern }));
    }
}
