//! Columns that stand in the paths of files: directories `name=value`, as Hive, Spark and others
//! lay out what they write. Such a column has one value for all rows of a file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use retrofill_core::columns::ColumnType;
use retrofill_core::connector::FieldType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::{FileStamp, Survey};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Shared;
use super::csv::Format;
use super::header::{Header, Order};
use super::names::list;
use super::settings::Schema;
use super::types::Seen;
use super::values::Cells;

/// The values of one file, in the order of the columns; none is NULL.
pub(crate) type PartValues = Arc<[Option<Box<str>>]>;

/// What writers call the directory of rows whose value is NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns in the paths of some files.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    names: Vec<String>,
    /// For each file.
    values: Vec<PartValues>,
}

impl Parts {
    /// What the paths of these files say, where that is wanted. Under `Strict` all must have the
    /// same names in the same order.
    pub(crate) fn find(wanted: bool, schema: Schema, files: &[FileStamp]) -> Result<Parts> {
        if !wanted {
            let values = vec![PartValues::default(); files.len()];
            return Ok(Parts { names: Vec::new(), values });
        }
        let mut names: Vec<String> = Vec::new();
        let mut known = HashSet::new();
        for (i, file) in files.iter().enumerate() {
            let mine: Vec<String> = pairs(&file.path)?.into_iter().map(|(name, _)| name).collect();
            if i > 0 && schema == Schema::Strict && mine != names {
                return Err(differ(&files[0].path, &names, &file.path, &mine));
            }
            names.extend(mine.into_iter().filter(|name| known.insert(name.clone())));
        }
        let values = files.iter().map(|file| part_values(&file.path, &names));
        let values = values.collect::<Result<_>>()?;
        Ok(Parts { names, values })
    }

    /// The names of the columns.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of a file, by its index.
    pub(crate) fn of(&self, file: usize) -> &PartValues {
        &self.values[file]
    }

    /// Fails where a file with these columns of its own has one of the same name.
    pub(crate) fn check<'n>(
        &self,
        path: &str,
        own: impl IntoIterator<Item = &'n String>,
    ) -> Result<()> {
        let doubled = own.into_iter().find(|name| self.names.contains(name));
        doubled.map_or(Ok(()), |name| Err(clash(path, name)))
    }

    /// The type of a column that holds every value, by the rules of CSV, and whether it may be
    /// NULL.
    pub(crate) fn column_type(&self, at: usize) -> (ColumnType, bool) {
        column_type(self.values.iter().map(|values| values[at].as_deref()))
    }

    /// What the user should know of it.
    pub(crate) fn note(&self) -> Option<String> {
        note(&self.names)
    }
}

/// See [`Parts::note`].
pub(super) fn note(names: &[String]) -> Option<String> {
    let (are, them) = match names {
        [] => return None,
        [_] => ("is a column", "it"),
        _ => ("are columns", "them"),
    };
    Some(format!(
        "{} {are} by the directories that the files lie in; `hive: false` leaves {them} out",
        list(names)
    ))
}

/// See [`Parts::column_type`].
pub(super) fn column_type<'v>(values: impl Iterator<Item = Option<&'v str>>) -> (ColumnType, bool) {
    let mut seen = Seen::default();
    for value in values {
        match value {
            Some(value) => seen.value(value.as_bytes(), '.'),
            None => seen.null(),
        }
    }
    (seen.column_type(), seen.nullable())
}

/// The error of a file that has a column of its own of that name.
pub(crate) fn clash(path: &str, name: &str) -> Error {
    let what = format!("`{path}` has a column `{name}`, and lies in a directory `{name}=..`");
    Error::config(what).hint(
        "only one of them can be the column: set `hive: false` to take what is in the files and \
         to leave the directories alone, or write the files without it",
    )
}

fn differ(first: &str, names: &[String], path: &str, mine: &[String]) -> Error {
    let said = |names: &[String]| match names {
        [] => "in none".to_owned(),
        _ => format!("in those of {}", list(names)),
    };
    let what = format!(
        "`{path}` lies in other directories `name=value` than `{first}`: {}, not {}",
        said(mine),
        said(names)
    );
    Error::config(what).hint(
        "narrow the pattern; or set `schema: union` to take all such columns, NULL where a file's \
         path lacks one; or `hive: false` to take none",
    )
}

/// What the path of a file says of columns of these names; NULL where it says nothing.
pub(crate) fn part_values(path: &str, names: &[String]) -> Result<PartValues> {
    let mut pairs = pairs(path)?;
    let mut value = |name: &String| {
        let (_, value) = pairs.iter_mut().find(|(mine, _)| mine == name)?;
        value.take().map(String::into_boxed_str)
    };
    Ok(names.iter().map(&mut value).collect())
}

/// The directories `name=value` of a path, from the left.
pub(crate) fn pairs(path: &str) -> Result<Vec<(String, Option<String>)>> {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    let Some((directories, _)) = path.rsplit_once('/') else { return Ok(pairs) };
    for directory in directories.split('/') {
        let Some((name, value)) = directory.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            continue;
        };
        let name = decoded(name, path)?;
        if pairs.iter().any(|(before, _)| *before == name) {
            let what = format!("`{path}` lies in two directories `{name}=..`");
            return Err(Error::config(what).hint("set `hive: false` to leave them alone"));
        }
        let value = if value == NULL { None } else { Some(decoded(value, path)?) };
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// What makes the same bytes in other directories hash to something else.
pub(crate) fn seed_of(pairs: &[(String, Option<String>)], seed: u64) -> u64 {
    xxh3_64_with_seed(format!("{pairs:?}").as_bytes(), seed)
}

/// `%3A` is `:`. What is no such escape stays as it stands.
fn decoded(text: &str, path: &str) -> Result<String> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok().filter(|decoded| !decoded.contains('\0')).ok_or_else(|| {
        Error::config(format!("`{text}` in the path `{path}` stands for no text"))
            .hint("escapes `%XX` must give UTF-8; `hive: false` leaves the directories alone")
    })
}

impl Shared {
    /// The order of the columns of a survey in one of its files; `first` is whose columns they are.
    pub(super) fn order(
        &self,
        survey: &Survey,
        header: &Header,
        path: &str,
        first: &str,
    ) -> Result<Order> {
        let (held, parts) = names(survey);
        let order = header.order(self.settings.schema, &held, path, first)?;
        Ok(order.with_parts(part_values(path, &parts)?))
    }

    /// The orders of all files of a survey, from what is kept of them: neither keys nor paths.
    pub(super) fn orders<'o>(
        &self,
        survey: &Survey,
        kept: &'o [Order],
    ) -> Result<Cow<'o, [Order]>> {
        let (held, parts) = names(survey);
        let keyed = (self.format == Format::Json).then(|| Order::keyed(&held));
        if keyed.is_none() && parts.is_empty() {
            return Ok(Cow::Borrowed(kept));
        }
        let whole = |(kept, file): (&Order, &FileStamp)| {
            let order = keyed.as_ref().unwrap_or(kept).clone();
            Ok(order.with_parts(part_values(&file.path, &parts)?))
        };
        Ok(Cow::Owned(kept.iter().zip(&survey.files).map(whole).collect::<Result<_>>()?))
    }
}

/// The names of the columns of a survey: of those in the files, and of those in their paths.
fn names(survey: &Survey) -> (Vec<String>, Vec<String>) {
    let names = |columns: &[FieldType]| columns.iter().map(|c| c.name.clone()).collect();
    let (held, parts) = survey.held_and_in_paths();
    (names(held), names(parts))
}

/// Which values the rows of a buffer have: from each of these rows on, others.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<(usize, PartValues)>);

impl Runs {
    /// Notes a row of a file.
    #[inline]
    pub(super) fn add(&mut self, row: usize, order: &Order) {
        let values = order.parts();
        if values.is_empty() || self.0.last().is_some_and(|(_, last)| Arc::ptr_eq(last, values)) {
            return;
        }
        self.0.push((row, Arc::clone(values)));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The values of one column in these rows, which are in order.
    pub(super) fn cells<R: Iterator<Item = usize>>(
        &self,
        column: usize,
        rows: R,
    ) -> PartCells<'_, R> {
        PartCells { runs: self, column, rows }
    }
}

/// See [`Runs::cells`].
pub(super) struct PartCells<'a, R> {
    runs: &'a Runs,
    column: usize,
    rows: R,
}

impl<R: Iterator<Item = usize>> Cells for PartCells<'_, R> {
    fn each(self, mut take: impl FnMut(usize, Option<&[u8]>)) {
        let (runs, mut at) = (&self.runs.0, 0);
        for (i, row) in self.rows.enumerate() {
            while runs.get(at + 1).is_some_and(|(from, _)| *from <= row) {
                at += 1;
            }
            let value = runs.get(at).and_then(|(_, values)| values[self.column].as_deref());
            take(i, value.map(str::as_bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<FileStamp> {
        let stamp = |path: &&str| FileStamp { path: (*path).into(), size: 1, stamp: "1".into() };
        paths.iter().map(stamp).collect()
    }

    #[test]
    fn directories_become_pairs() {
        let some = |text: &str| Some(text.to_owned());
        for (path, want) in [
            ("a.csv", vec![]),
            ("d/k=v.csv", vec![]),
            ("d/k=v/a.csv", vec![("k", some("v"))]),
            ("/m/y=2024/x/m=01/k=1.csv", vec![("y", some("2024")), ("m", some("01"))]),
            ("k=a=b/x", vec![("k", some("a=b"))]),
            ("k=/x", vec![("k", some(""))]),
            ("=v/x", vec![]),
            ("k=__HIVE_DEFAULT_PARTITION__/x", vec![("k", None)]),
            ("a%20b=1%3A2%2f%C3%A4/x", vec![("a b", some("1:2/ä"))]),
            ("k=100%/x", vec![("k", some("100%"))]),
            ("k=%4/x", vec![("k", some("%4"))]),
            ("k=a+b/x", vec![("k", some("a+b"))]),
        ] {
            let pairs = pairs(path).unwrap();
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            assert_eq!(pairs, want, "{path}");
        }
        for path in ["k=%FF/x", "k=%00/x", "k=1/k=2/x"] {
            assert!(pairs(path).is_err(), "{path}");
        }
    }

    #[test]
    fn types_are_those_of_all_values() {
        let float = ColumnType::Float { bits: 64 };
        for (values, ty) in [
            (["1", "-2"], ColumnType::Integer { bits: 64 }),
            (["1", "2.5"], float),
            (["01", "2"], ColumnType::Text),
            (["", "2"], ColumnType::Text),
            (["2024-01-01", "2024-01-02"], ColumnType::Text),
            (["true", "false"], ColumnType::Bool),
        ] {
            let paths = values.map(|v| format!("k={v}/a"));
            let files = files(&[&paths[0], &paths[1]]);
            let parts = Parts::find(true, Schema::Strict, &files).unwrap();
            assert_eq!(parts.column_type(0), (ty, false), "{values:?}");
        }
    }

    #[test]
    fn files_agree_or_are_named() {
        let mixed = files(&["d/a=1/b=2/x", "d/y", "d/b=3/z"]);
        let error = Parts::find(true, Schema::Strict, &mixed).unwrap_err();
        assert!(error.message().contains("`d/y`") && error.message().contains("`d/a=1/b=2/x`"));
        let order = files(&["a=1/b=2/x", "b=2/a=1/x"]);
        assert!(Parts::find(true, Schema::Strict, &order).is_err());
        let parts = Parts::find(true, Schema::Union, &mixed).unwrap();
        assert_eq!(parts.names(), ["a", "b"]);
        let values = |file| parts.of(file).iter().map(Option::as_deref).collect::<Vec<_>>();
        assert_eq!(values(0), [Some("1"), Some("2")]);
        assert_eq!(values(1), [None, None]);
        assert_eq!(values(2), [None, Some("3")]);
        assert!(parts.column_type(0).1);
        assert!(Parts::find(false, Schema::Strict, &mixed).unwrap().names().is_empty());
        assert!(parts.check("p", &["x".to_owned()]).is_ok());
        assert!(parts.check("p", &["b".to_owned()]).is_err());
    }
}
