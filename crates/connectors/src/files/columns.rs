//! Which columns the source has and in which files, and the types that are given for them.

use std::collections::HashSet;
use std::sync::Arc;

use retrofill_core::columns::ColumnType;
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;

use super::Shared;
use super::chunks::Chunk;
use super::csv::Format;
use super::header::{Header, MOST_COLUMNS, Order, columns};
use super::json;
use super::names::{list, nearest};
use super::open::{check_magic, unreadable};
use super::parallel::ordered;
use super::parts::Parts;
use super::sample::Sample;

/// A file and the order of its columns.
#[derive(Debug)]
pub(super) struct SurveyedFile {
    pub(super) stamp: FileStamp,
    pub(super) header: Header,
    pub(super) order: Order,
}

/// The columns of the source, those in the paths of its files behind those in the files; and its
/// files.
pub(super) fn headers(
    shared: &Shared,
    sample: Option<&Sample>,
) -> Result<(Vec<String>, Vec<SurveyedFile>)> {
    let schema = shared.settings.schema;
    let mut opened = Vec::new();
    for stamp in shared.origin.find(&shared.settings.path)? {
        let file = shared.origin.open(&stamp)?;
        check_magic(&shared.settings, &stamp.path, &file)?;
        let (header, _) = shared.chunks_of(&file, &stamp, Arc::default())?;
        opened.push((stamp, header));
    }
    if let Some(sample) = sample {
        sample.divide(opened.len());
    }
    if shared.format == Format::Json {
        learn(shared, &mut opened, sample)?;
    }
    let mut names = columns(schema, &opened)?;
    let first = opened[0].0.path.clone();
    let stamps: Vec<_> = opened.iter().map(|(stamp, _)| stamp.clone()).collect();
    let parts = Parts::find(shared.settings.hive, schema, &stamps)?;
    let mut files = Vec::with_capacity(opened.len());
    for (i, (stamp, header)) in opened.into_iter().enumerate() {
        parts.check(&stamp.path, &header.names)?;
        // Keys may be any, but the files of a pattern are held to the same rule.
        header.check(schema, &names, &stamp.path, &first)?;
        let order = header.order(schema, &names, &stamp.path, &first)?;
        let order = order.with_parts(Arc::clone(parts.of(i)));
        files.push(SurveyedFile { stamp, header, order });
    }
    names.extend_from_slice(parts.names());
    Ok((names, files))
}

/// Finds the keys of every file: all of it is read, because any line may have another one.
fn learn(
    shared: &Shared,
    files: &mut [(FileStamp, Header)],
    sample: Option<&Sample>,
) -> Result<()> {
    for (stamp, header) in files {
        let path = &stamp.path;
        let begin = header.clone();
        let mut chunks = chunks(shared, stamp, &begin, sample)?;
        let (mut known, mut objects) = (HashSet::new(), false);
        let next = || chunks.next().transpose();
        let work = |chunk: Chunk| {
            let Chunk::Records { bytes, .. } = chunk else { return Ok(Vec::new()) };
            let (mut known, mut names, mut any) = (HashSet::new(), Vec::new(), false);
            for line in bytes.split(|b| *b == b'\n') {
                any |= json::learn(line, &mut known, &mut names);
            }
            Ok(if any { names } else { Vec::new() })
        };
        ordered(next, work, |names| {
            objects |= !names.is_empty();
            header.names.extend(names.into_iter().filter(|name| known.insert(name.clone())));
            if known.contains("") {
                let what = format!("`{path}` has an object with an empty key");
                return Err(Error::config(what).hint("every column needs a name"));
            }
            if header.names.len() > MOST_COLUMNS {
                let what = format!("`{path}` has more than {MOST_COLUMNS} keys");
                return Err(Error::config(what).hint("are there keys that should be values?"));
            }
            Ok(())
        })?;
        if !objects {
            return Err(Error::config(format!("no line of `{path}` is a JSON object"))
                .hint("NDJSON has an object on every line; `jq -c '.[]'` makes it of a list"));
        }
    }
    Ok(())
}

/// What there is of a file, or of a sample of it, in order.
pub(super) fn chunks<'a>(
    shared: &'a Shared,
    stamp: &'a FileStamp,
    header: &'a Header,
    sample: Option<&'a Sample>,
) -> Result<Box<dyn Iterator<Item = Result<Chunk>> + Send + 'a>> {
    if let Some(sample) = sample {
        return Ok(Box::new(sample.chunks(shared, stamp, header)));
    }
    let (_, mut chunks) = shared.open_file(stamp, Arc::default())?;
    let next = move || chunks.next().map_err(|e| unreadable(&stamp.path, e)).transpose();
    Ok(Box::new(std::iter::from_fn(next)))
}

/// Fails where a file lacks the time column, which is one of these names.
pub(super) fn check_time(names: &[String], files: &[SurveyedFile], time: &str) -> Result<()> {
    let at = names.iter().position(|name| name == time);
    if at.is_some_and(|at| files[0].order.part(at).is_some()) {
        return Ok(());
    }
    let lacks = |f: &&SurveyedFile| !f.header.names.iter().any(|n| n == time);
    let Some(file) = files.iter().find(lacks) else { return Ok(()) };
    let parts = &names[names.len() - file.order.parts().len()..];
    let error = no_time(&file.stamp, &[&file.header.names, parts].concat(), time);
    if file.stamp.path == files[0].stamp.path {
        return Err(error);
    }
    Err(error.hint("every file needs the time; narrow the pattern to leave it out"))
}

/// The type that the target has for a column: for the one of the same name, or for the only one
/// that differs in case alone.
pub(super) fn held_type(types: &[FieldType], name: &str) -> Option<ColumnType> {
    let lower = name.to_lowercase();
    let mut alike = types.iter().filter(|t| t.name.to_lowercase() == lower);
    let exact = types.iter().find(|t| t.name == name);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none())).map(|t| t.ty)
}

/// The type that is given for a column: by the target, else by the settings.
pub(super) fn given_type(
    shared: &Shared,
    types: &[FieldType],
    name: &str,
    notes: &mut Vec<String>,
) -> Option<ColumnType> {
    let held = held_type(types, name);
    let wanted = shared.types.get(name);
    if let (Some(held), Some(wanted)) = (held, wanted)
        && held.common_name() != wanted.common_name()
    {
        notes.push(format!(
            "the table has `{name}` as {}, and that wins over `types`",
            held.common_name()
        ));
    }
    held.or(wanted)
}

pub(super) fn no_time(file: &FileStamp, names: &[String], time: &str) -> Error {
    let hint = match nearest(time, names.iter().map(String::as_str)) {
        Some(name) => {
            format!("did you mean `{name}`? set `rows.time`; its columns are {}", list(names))
        }
        None => format!("its columns are {}; set `rows.time` to one of them", list(names)),
    };
    Error::config(format!("`{}` has no column `{time}`", file.path)).hint(hint).about("rows.time")
}
