//! Records that are one JSON object a line: their fields have keys instead of places.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use jiter::{Jiter, JiterError, Peek};
use memchr::memchr;

use super::csv::{Field, Problem};

/// The place of each column, by its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(HashMap<String, usize>);

impl Keys {
    /// For columns in this order.
    pub(super) fn new(names: &[String]) -> Self {
        Keys(names.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect())
    }
}

/// The fields of the object in `line`, which begins at `offset` of the buffer, by place of the
/// column. What the object does not have, or has as null, is an empty field, which is NULL.
/// Objects and lists are fields as they are written.
pub(super) fn cut(
    line: &[u8],
    offset: usize,
    keys: &Keys,
    fields: &mut Vec<Field>,
) -> Result<(), Problem> {
    fields.clear();
    fields.resize(keys.0.len(), Field::default());
    let mut problem = None;
    let place = |key: &str| keys.0.get(key).copied();
    walk(line, place, |place, kind, value| {
        let Some(field) = place.map(|place| &mut fields[place]) else {
            problem = Some(Problem::Key);
            return;
        };
        if field.end > 0 {
            problem = Some(Problem::Twice);
        }
        *field = at(line, offset, kind, value);
    })?;
    problem.map_or(Ok(()), Err)
}

fn at(line: &[u8], offset: usize, kind: Peek, value: Range<usize>) -> Field {
    let field = |from: usize, to: usize| Field {
        start: (offset + from) as u32,
        end: (offset + to) as u32,
        ..Field::default()
    };
    match kind {
        Peek::String => {
            let (from, to) = (value.start + 1, value.end - 1);
            let doubled = memchr(b'\\', &line[from..to]).is_some();
            Field { quoted: true, doubled, ..field(from, to) }
        }
        // Not at 0, so that it is seen to have been there.
        Peek::Null => field(value.end, value.end),
        _ => field(value.start, value.end),
    }
}

/// Adds the keys of the object in `line` that are new, in their order. Whether it is one.
pub(super) fn learn(line: &[u8], known: &mut HashSet<String>, names: &mut Vec<String>) -> bool {
    let mut fresh = Vec::new();
    let note = |key: &str| {
        if !known.contains(key) {
            fresh.push(key.to_owned());
        }
    };
    if walk(line, note, |(), _, _| ()).is_err() {
        return false;
    }
    for key in fresh {
        if known.insert(key.clone()) {
            names.push(key);
        }
    }
    true
}

/// Goes through the members of an object: `value` gets what `key` made of the key, the kind of the
/// value, and where it stands.
fn walk<T>(
    line: &[u8],
    mut key: impl FnMut(&str) -> T,
    mut value: impl FnMut(T, Peek, Range<usize>),
) -> Result<(), Problem> {
    let wrong = |e: JiterError| Problem::Json(e.index);
    let mut json = Jiter::new(line);
    let mut next = json.next_object().map_err(wrong)?.map(&mut key);
    while let Some(known) = next {
        let kind = json.peek().map_err(wrong)?;
        let start = json.current_index();
        json.known_skip(kind).map_err(wrong)?;
        value(known, kind, start..json.current_index());
        next = json.next_key().map_err(wrong)?.map(&mut key);
    }
    json.finish().map_err(wrong)
}

/// The text that a string stands for which was cut before.
pub(super) fn unescaped(quoted: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<String>(quoted).unwrap_or_default().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Result<Vec<(String, bool)>, Problem> {
        let keys = Keys::new(&["a".into(), "b".into(), "c".into()]);
        let (buffer, offset) = (format!("{{}}\n{line}"), 3);
        let mut fields = Vec::new();
        cut(line.as_bytes(), offset, &keys, &mut fields)?;
        let value = |f: &Field| {
            let value = f.value(buffer.as_bytes(), super::super::csv::Format::Json);
            (String::from_utf8(value.into_owned()).unwrap(), f.quoted)
        };
        Ok(fields.iter().map(value).collect())
    }

    #[test]
    fn values_stand_by_their_keys() {
        let plain = |text: &str| (text.to_owned(), false);
        let text = |text: &str| (text.to_owned(), true);
        for (line, want) in [
            (r#"{"b":-1.5e3,"a":"x"}"#, [text("x"), plain("-1.5e3"), plain("")]),
            (r#" { "c" : true , "a" : null } "#, [plain(""), plain(""), plain("true")]),
            (r#"{"a":"q\"\u00e4\n\ud83d\ude00","b":""}"#, [text("q\"ä\n😀"), text(""), plain("")]),
            (r#"{"a":{"x":[1, 2]},"c":[]}"#, [plain(r#"{"x":[1, 2]}"#), plain(""), plain("[]")]),
            (r#"{"\u0061":1}"#, [plain("1"), plain(""), plain("")]),
            ("{}", [plain(""), plain(""), plain("")]),
        ] {
            assert_eq!(fields(line), Ok(want.to_vec()), "{line}");
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        for (line, want) in [
            ("[1]", Problem::Json(0)),
            ("x", Problem::Json(0)),
            (r#"{"a":1"#, Problem::Json(6)),
            (r#"{"a":1}}"#, Problem::Json(7)),
            (r#"{"a":01}"#, Problem::Json(6)),
            (r#"{"a":NaN}"#, Problem::Json(5)),
            (r#"{"a":"\ud800"}"#, Problem::Json(12)),
            (r#"{"a":1,}"#, Problem::Json(7)),
            (r"{'a':1}", Problem::Json(1)),
            (r#"{"a":1,"a":1}"#, Problem::Twice),
            (r#"{"a":null,"a":1}"#, Problem::Twice),
            (r#"{"d":1}"#, Problem::Key),
        ] {
            assert_eq!(fields(line), Err(want), "{line}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(fields(&deep), Err(Problem::Json(_))));
    }

    #[test]
    fn keys_are_learnt_in_their_order() {
        let (mut known, mut names) = (HashSet::new(), Vec::new());
        let mut learn = |line: &str| learn(line.as_bytes(), &mut known, &mut names);
        assert!(learn(r#"{"b":1,"a":2}"#));
        assert!(!learn(r#"{"x":1"#));
        assert!(learn(r#"{"c":1,"a":2,"c":3}"#));
        assert_eq!(names, ["b", "a", "c"]);
    }
}

#[cfg(test)]
fn given() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    use super::{FileSource, NdjsonSettings};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.ndjson");
    let row = |i: i64| {
        let (day, hour) = (i / 24 + 1, i % 24);
        format!("{{\"v\":{i},\"t\":\"2020-01-{day:02}T{hour:02}:00:00Z\",\"n\":\"x\\ny\"}}\n")
    };
    let rows: String = (0..240).map(|i| row(i * 77 % 240)).collect();
    let text = format!("{rows}{{\"t\":\"gestern\"}}\nno object\n");
    std::fs::write(&path, &text).expect("written");
    let settings = serde_json::json!({ "path": "*.ndjson" });
    let settings: NdjsonSettings = serde_json::from_value(settings).expect("well formed");
    let state = dir.path().join("state");
    let source = FileSource::ndjson(settings, None, dir.path(), &state).expect("opened");
    crate::testkit::source_suite::Given {
        source: std::sync::Arc::new(source),
        time: "t",
        change: Box::new(move || {
            std::fs::write(&path, text.replace(":7,", ":8,")).expect("written");
        }),
        _keep: dir,
    }
}

#[cfg(test)]
crate::testkit::conformance!(source: super::given);
