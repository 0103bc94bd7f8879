//! The spec's JSON Schema, for editors and for the reference.

use schemars::generate::SchemaSettings;

use super::raw::RawSpec;

/// The JSON Schema of a spec, as pretty JSON with a line end, the same for the same version.
pub fn schema() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<RawSpec>();
    schema.insert("title".into(), "retrofill spec".into());
    let mut json = schema.to_value();
    tidy(&mut json);
    let mut text = serde_json::to_string_pretty(&json).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// Drops empty lists of needed keys, the line breaks of doc comments, and the prefix of our type
/// names.
fn tidy(json: &mut serde_json::Value) {
    use serde_json::Value;
    match json {
        Value::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                match &mut value {
                    Value::Array(list) if key == "required" && list.is_empty() => continue,
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    Value::String(text) if key == "$ref" => *text = text.replace("/Raw", "/"),
                    other => tidy(other),
                }
                let name = key.strip_prefix("Raw").map(str::to_owned);
                map.insert(name.unwrap_or(key), value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}
