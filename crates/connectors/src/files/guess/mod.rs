//! What a source of CSV files is like: how it is written, which column is the time, which tell
//! series apart. Found from all of its rows, or from the first ones where only so many are asked
//! for, by the same code that later reads them.
//!
//! Bytes first (how files are packed and encoded), then the start of the text (delimiter, quote,
//! header), then one pass over all records (types, words for NULL, forms of times), then passes
//! that look for a key.

mod content;
mod decide;
mod dialect;
mod facts;
mod forms;
mod key;
mod records;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::TimeUnitSeen;

use super::FileSource;
use super::csv::CSV;
use super::settings::{CsvSettings, Schema};
use records::Input;

/// What is to be guessed about.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// A file or a pattern.
    pub path: String,
    /// Where relative paths start.
    pub base: PathBuf,
    /// The zone of times without one; none is UTC.
    pub timezone: Option<String>,
    /// Only so many rows are looked at; none is all.
    pub most: Option<u64>,
}

/// What the files are most likely like.
#[derive(Debug, Clone)]
pub struct Guess {
    /// The settings that read them.
    pub settings: CsvSettings,
    /// How many files there are, and their bytes on the disk.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Rows that were looked at.
    pub rows: u64,
    /// Whether these were all.
    pub whole: bool,
    /// Lines that are no records, and why the first of them is none.
    pub bad: Option<(u64, String)>,
    /// The columns in the order of the source.
    pub columns: Vec<GuessedColumn>,
    /// The time.
    pub time: GuessedTime,
    /// What tells rows of one time apart.
    pub key: GuessedKey,
    /// Words that stand for NULL.
    pub null: Vec<NullWord>,
    /// Columns whose numbers have a decimal comma.
    pub comma: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuessedColumn {
    /// Its name.
    pub name: String,
    /// The type it will get.
    pub ty: ColumnType,
    /// Rows without a value.
    pub nulls: u64,
    /// How many different values there are, where they are few enough to be counted.
    pub distinct: Option<u64>,
    /// The first value.
    pub example: Option<String>,
    /// Its texts are times or dates.
    pub is_time: bool,
}

/// The time column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuessedTime {
    /// Its name.
    pub column: String,
    /// How times are written: `rfc3339`, `local`, `epoch milliseconds`, `time_format`.
    pub form: &'static str,
    /// The finest unit that was seen.
    pub unit: TimeUnitSeen,
    /// The first value as it stands there.
    pub example: String,
    /// The earliest and the latest time.
    pub first: Timestamp,
    /// See `first`.
    pub last: Timestamp,
    /// Rows whose time is missing or cannot be read, and the first such value.
    pub unread: u64,
    /// See `unread`.
    pub unread_example: Option<String>,
    /// Another format that all times fit as well.
    pub ambiguous: Option<String>,
    /// Other columns that could be the time.
    pub others: Vec<String>,
}

/// What tells rows of one time apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuessedKey {
    /// The columns; none where no columns do.
    pub columns: Option<Vec<String>>,
    /// How many different values each of them has.
    pub distinct: Vec<Option<u64>>,
    /// Rows that are in the source more than once, with the same values.
    pub repeated: u64,
    /// Without columns that do: those that come nearest, and how many times they do not.
    pub nearly: Option<(Vec<String>, u64)>,
    /// Whether the time alone would do, too.
    pub time_alone: bool,
}

/// A word that stands for NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NullWord {
    /// The word.
    pub word: String,
    /// How often it stands in columns that are numbers but for it.
    pub count: u64,
    /// These columns.
    pub columns: Vec<String>,
    /// Columns of text in which it stands as well: there it becomes NULL, too.
    pub texts: Vec<String>,
}

/// Looks at the files. An error of kind `Config` where they cannot be read, or hold no times.
pub fn guess(ask: &Ask) -> Result<Guess> {
    let mut settings = CsvSettings {
        path: ask.path.clone(),
        timezone: ask.timezone.clone().unwrap_or_else(|| "UTC".into()),
        ..CsvSettings::default()
    };
    let origin = settings.origin(&ask.base, &CSV)?;
    let files = content::guess(&origin, &mut settings, ask.most)?;
    dialect::guess(&origin, &mut settings, &files)?;
    let mut input = open(&ask.base, &settings, ask.most)?;
    if input.is_doubled() {
        settings.hive = false;
        input = open(&ask.base, &settings, ask.most)?;
    }
    if input.differs() {
        settings.schema = Schema::Union;
        input = open(&ask.base, &settings, ask.most)?;
    }
    let forms = forms::candidates(&input)?;
    let facts = facts::gather(&input, &forms)?;
    if facts.rows == 0 {
        return Err(Error::config(format!("`{}` holds no row", ask.path))
            .hint("a guess needs some rows to look at"));
    }
    let decided = decide::decide(&input, &forms, &facts, &mut settings)?;
    let input = open(&ask.base, &settings, ask.most)?;
    let key = key::guess(&input, &decided, &facts)?;
    let bytes = files.iter().map(|f| f.size).sum();
    Ok(Guess {
        files: files.len() as u64,
        bytes,
        rows: facts.rows,
        whole: !facts.cut,
        bad: facts.bad.clone(),
        columns: decided.columns,
        time: decided.time,
        key,
        null: decided.null,
        comma: decided.comma,
        settings,
    })
}

fn open(base: &Path, settings: &CsvSettings, most: Option<u64>) -> Result<Input> {
    // Nothing is ever kept for a guess.
    let nowhere = Path::new("");
    Input::open(FileSource::open(settings.clone(), base, nowhere)?.shared, most)
}

#[cfg(test)]
mod tests;
