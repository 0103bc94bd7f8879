//! The columns that the files have together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;

use super::Shared;
use super::opened::Opened;
use super::times::{is_typed, may_spell};
use super::types::{Natural, merge};
use crate::files::{Parts, Schema, check_without, list, nearest, unkept};

/// The most columns that the files may have.
const MOST_COLUMNS: usize = 4096;

/// All files, as one table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) files: Vec<FileStamp>,
    /// In the order of the first file; others behind, and last those in the paths.
    pub(super) columns: Vec<(String, Natural)>,
    /// Those in the paths.
    pub(super) parts: Parts,
    /// Index of the time column.
    pub(super) time: usize,
    /// Its times, or some of them, are without a zone.
    pub(super) naive: bool,
}

/// Where the columns of a table stand in one file; none where the file lacks one.
pub(super) fn order(names: &[&str], schema: &SchemaRef) -> Vec<Option<usize>> {
    let fields: HashMap<_, _> =
        schema.fields().iter().enumerate().map(|(i, f)| (f.name().as_str(), i)).collect();
    names.iter().map(|n| fields.get(n).copied()).collect()
}

impl Table {
    /// Reads the footers of all files.
    pub(super) fn open(shared: &Shared, time: &str) -> Result<Table> {
        let files = shared.origin.find(&shared.settings.path)?;
        let (mut schemas, mut held) = (Vec::new(), Vec::new());
        for stamp in &files {
            let file = Opened::open(shared, stamp)?;
            check_names(&stamp.path, file.schema())?;
            schemas.push(file.schema().clone());
            held.push(file.held());
        }
        let parts = Parts::find(shared.settings.hive, shared.settings.schema, &files)?;
        for (i, (file, schema)) in files.iter().zip(&schemas).enumerate() {
            let held = schema.fields().iter().take(held[i]).map(|f| f.name());
            parts.check(&file.path, held)?;
        }
        let mut names = names(shared, &files, &schemas)?;
        names.retain(|name| !parts.names().contains(name));
        names.extend_from_slice(parts.names());
        shared.types.check(&names)?;
        check_types(&files, &schemas, &names)?;
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let of: Vec<(&str, &Arc<Field>)> = files
                .iter()
                .zip(&schemas)
                .filter_map(|(file, schema)| {
                    let (_, field) = schema.fields().find(&name)?;
                    Some((file.path.as_str(), field))
                })
                .collect();
            let natural = match parts.names().iter().position(|part| *part == name) {
                Some(at) => Natural::Plain(parts.column_type(at).0),
                None => merge(&of, shared.types.get(&name).is_some())?,
            };
            columns.push((name, natural));
        }
        let naive = schemas.iter().filter_map(|s| s.field_with_name(time).ok()).any(|f| {
            let ty = f.data_type();
            matches!(ty, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64)
        });
        let time = time_column(shared, &columns, time, &files[0].path)?;
        Ok(Table { files, columns, parts, time, naive })
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn check_names(path: &str, schema: &SchemaRef) -> Result<()> {
    let fields = schema.fields();
    if fields.len() > MOST_COLUMNS {
        let what = format!("`{path}` has {} columns", fields.len());
        return Err(Error::config(what).hint(format!("{MOST_COLUMNS} are possible")));
    }
    let mut seen = HashSet::new();
    match fields.iter().find(|f| f.name().is_empty() || !seen.insert(f.name())) {
        Some(field) if field.name().is_empty() => {
            Err(Error::config(format!("`{path}` has a column without a name")))
        }
        Some(field) => {
            Err(Error::config(format!("`{path}`: column `{}` occurs twice", field.name())))
        }
        None => Ok(()),
    }
}

/// An error that tells all columns of types that no target keeps.
fn check_types(files: &[FileStamp], schemas: &[SchemaRef], names: &[String]) -> Result<()> {
    let odd = |name: &String| {
        files.iter().zip(schemas).find_map(|(file, schema)| {
            let ty = schema.field_with_name(name).ok()?.data_type();
            let what = format!("`{}`: column `{name}` is of type {ty}", file.path);
            Natural::of(ty).is_none().then_some((what, name.clone()))
        })
    };
    let (told, columns): (Vec<_>, Vec<_>) = names.iter().filter_map(odd).unzip();
    told.into_iter().next().map_or(Ok(()), |first| Err(unkept(first, &columns)))
}

/// The names of all columns. An error tells the first file that differs where none may.
fn names(shared: &Shared, files: &[FileStamp], schemas: &[SchemaRef]) -> Result<Vec<String>> {
    let without = &shared.settings.without;
    let all = schemas.iter().flat_map(|s| s.fields()).map(|f| f.name().clone());
    let mut seen = HashSet::new();
    let all: Vec<_> = all.filter(|name| seen.insert(name.clone())).collect();
    check_without(without, &all, "the files")?;
    let own = |schema: &SchemaRef| -> Vec<String> {
        let names = schema.fields().iter().map(|f| f.name());
        names.filter(|name| !without.contains(name)).cloned().collect()
    };
    let mut names = own(&schemas[0]);
    let mut known: HashSet<String> = names.iter().cloned().collect();
    for (file, schema) in files.iter().zip(schemas).skip(1) {
        let mine = own(schema);
        if shared.settings.schema == Schema::Union {
            names.extend(mine.into_iter().filter(|n| known.insert(n.clone())));
            continue;
        }
        let has: HashSet<&String> = mine.iter().collect();
        let lacks: Vec<_> = names.iter().filter(|n| !has.contains(n)).cloned().collect();
        let more: Vec<_> = mine.iter().filter(|n| !known.contains(*n)).cloned().collect();
        let difference = match (lacks.is_empty(), more.is_empty()) {
            (true, true) => continue,
            (false, true) => format!("lacks {}", list(&lacks)),
            (true, false) => format!("has {} besides", list(&more)),
            (false, false) => format!("lacks {} and has {}", list(&lacks), list(&more)),
        };
        let (path, first) = (&file.path, &files[0].path);
        let what = format!("`{path}` has other columns than `{first}`: it {difference}");
        return Err(Error::config(what).hint(
            "give all files the same columns, in any order, or set `schema: union`: it takes all \
             columns of all files, NULL where a file lacks one",
        ));
    }
    if names.len() > MOST_COLUMNS {
        let what = format!("the files have {} columns in all", names.len());
        return Err(Error::config(what).hint(format!("{MOST_COLUMNS} are possible")));
    }
    Ok(names)
}

/// The time column. An error says why it cannot be that.
fn time_column(
    shared: &Shared,
    columns: &[(String, Natural)],
    time: &str,
    path: &str,
) -> Result<usize> {
    let Some(at) = columns.iter().position(|(name, _)| name == time) else {
        let names: Vec<_> = columns.iter().map(|(n, _)| n.clone()).collect();
        let what = format!("`{path}` has no column `{time}`");
        let hint = match nearest(time, names.iter().map(String::as_str)) {
            Some(name) => {
                format!("did you mean `{name}`? set `rows.time`; its columns are {}", list(&names))
            }
            None => format!("its columns are {}; set `rows.time` to one of them", list(&names)),
        };
        return Err(Error::config(what).hint(hint).about("rows.time"));
    };
    shared.types.check_time(time)?;
    let natural = columns[at].1;
    if is_typed(natural) || may_spell(natural) || natural == Natural::Nothing {
        return Ok(at);
    }
    Err(Error::config(format!("column `{time}` of `{path}` holds no times"))
        .hint("set `rows.time` to a column of times, dates, text or whole numbers")
        .about("rows.time"))
}
