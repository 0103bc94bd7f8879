//! Records that are one JSON object a line: their fields have keys instead of places.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use memchr::memchr;
use serde::de::{DeserializeOwned, IgnoredAny};

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
    walk(line, place, |place, value| {
        let Some(field) = place.map(|place| &mut fields[place]) else {
            problem = Some(Problem::Key);
            return;
        };
        if field.end > 0 {
            problem = Some(Problem::Twice);
        }
        *field = at(line, offset, value);
    })?;
    problem.map_or(Ok(()), Err)
}

fn at(line: &[u8], offset: usize, value: Range<usize>) -> Field {
    let field = |from: usize, to: usize| Field {
        start: (offset + from) as u32,
        end: (offset + to) as u32,
        ..Field::default()
    };
    match line[value.start] {
        b'"' => {
            let (from, to) = (value.start + 1, value.end - 1);
            let doubled = memchr(b'\\', &line[from..to]).is_some();
            Field { quoted: true, doubled, ..field(from, to) }
        }
        // Not at 0, so that it is seen to have been there.
        b'n' => field(value.end, value.end),
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
    if walk(line, note, |(), _| ()).is_err() {
        return false;
    }
    for key in fresh {
        if known.insert(key.clone()) {
            names.push(key);
        }
    }
    true
}

/// Goes through the members of an object: `value` gets what `key` made of the key, and where the
/// value stands.
fn walk<T>(
    line: &[u8],
    mut key: impl FnMut(&str) -> T,
    mut value: impl FnMut(T, Range<usize>),
) -> Result<(), Problem> {
    let mut at = mark(line, 0, b'{')?;
    let end = loop {
        let first = blank(line, at);
        if line.get(first) == Some(&b'}') && at == mark(line, 0, b'{')? {
            break first;
        }
        if line.get(first) != Some(&b'"') {
            return Err(Problem::Json(first));
        }
        let after = item(line, first)?;
        let name = &line[first + 1..after - 1];
        let known = match std::str::from_utf8(name) {
            Ok(name) if memchr(b'\\', name.as_bytes()).is_none() => key(name),
            _ => key(&one::<String>(line, first)?.0),
        };
        let start = blank(line, mark(line, after, b':')?);
        let stop = item(line, start)?;
        value(known, start..stop);
        at = blank(line, stop);
        match line.get(at) {
            Some(b',') => at += 1,
            Some(b'}') => break at,
            _ => return Err(Problem::Json(at)),
        }
    };
    let rest = blank(line, end + 1);
    if rest == line.len() { Ok(()) } else { Err(Problem::Json(rest)) }
}

/// Where the blanks from here on end.
fn blank(line: &[u8], at: usize) -> usize {
    let blanks = line[at..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
    at + blanks.count()
}

/// The place behind this mark, before which only blanks may stand.
fn mark(line: &[u8], at: usize, mark: u8) -> Result<usize, Problem> {
    let at = blank(line, at);
    if line.get(at) == Some(&mark) { Ok(at + 1) } else { Err(Problem::Json(at)) }
}

/// Where the value ends that starts here. A string with escapes is read, since only then is it
/// known to stand for a text.
fn item(line: &[u8], at: usize) -> Result<usize, Problem> {
    let (_, end) = one::<IgnoredAny>(line, at)?;
    if line[at] == b'"' && memchr(b'\\', &line[at..end]).is_some() {
        one::<String>(line, at)?;
    }
    Ok(end)
}

/// The value that starts here, and where it ends.
fn one<T: DeserializeOwned>(line: &[u8], at: usize) -> Result<(T, usize), Problem> {
    let mut values = serde_json::Deserializer::from_slice(&line[at..]).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => Ok((value, at + values.byte_offset())),
        Some(Err(e)) => Err(Problem::Json((at + e.column()).saturating_sub(1))),
        None => Err(Problem::Json(line.len())),
    }
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
        // What is too deep is refused as a value, not here.
        assert!(fields(&deep).is_ok());
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
