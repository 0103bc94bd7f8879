//! From what was seen to settings: the time, the decimal sign, words for NULL, types.

use retrofill_core::columns::ColumnType;
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::TimeUnitSeen;

use super::super::names::list;
use super::super::settings::CsvSettings;
use super::super::time::Form;
use super::facts::{Column, Facts, Tried, WORDS};
use super::forms::Candidate;
use super::records::Input;
use super::{GuessedColumn, GuessedTime, NullWord};

/// Everything but the key.
pub(super) struct Decided {
    pub(super) columns: Vec<GuessedColumn>,
    pub(super) time: GuessedTime,
    pub(super) null: Vec<NullWord>,
    pub(super) comma: Vec<String>,
    /// How the time is read, and in which column.
    pub(super) form: Form,
    pub(super) at: usize,
}

/// Decides, and completes the settings.
pub(super) fn decide(
    input: &Input,
    forms: &[Vec<Candidate>],
    facts: &Facts,
    settings: &mut CsvSettings,
) -> Result<Decided> {
    let chosen = time(input, forms, facts)?;
    let comma = comma(input, facts, settings);
    let columns = || facts.columns.iter().zip(&input.names).enumerate();
    let ty = |column: &Column| {
        let seen = if comma.is_empty() { column.point } else { column.comma };
        if column.values == 0 { ColumnType::Text } else { seen.column_type() }
    };
    let null = words(chosen.at, facts, &input.names, &ty);
    settings.null = null.iter().map(|n| n.word.clone()).collect();
    settings.time_format.clone_from(&chosen.candidate.format);
    if !comma.is_empty() {
        settings.decimal = ',';
    }
    let is_null = |word: usize| null.iter().any(|n| n.word == WORDS[word]);
    let guessed = |(at, (column, name)): (usize, (&Column, &String))| {
        let counts = column.words.iter().enumerate();
        let in_null: u64 = counts.filter(|(w, _)| is_null(*w)).map(|(_, n)| n).sum();
        // A word that stays one is a text.
        let texts = column.in_words() > in_null;
        let time = chosen.tried.unit.unwrap_or(TimeUnitSeen::Second).precision();
        let tried = column.tries.iter().zip(&forms[at]);
        let is_time = tried
            .into_iter()
            .any(|(t, c)| t.bad == 0 && t.good > 0 && !texts && !matches!(c.form, Form::Epoch(_)));
        GuessedColumn {
            name: name.clone(),
            ty: match at {
                at if at == chosen.at => ColumnType::Instant { unit: time },
                _ if texts => ColumnType::Text,
                _ => ty(column),
            },
            nulls: column.empty + in_null,
            distinct: column.distinct(),
            example: column.example.clone(),
            is_time: is_time && at != chosen.at,
        }
    };
    Ok(Decided {
        columns: columns().map(guessed).collect(),
        time: chosen.told(input, facts)?,
        form: chosen.candidate.form,
        at: chosen.at,
        null,
        comma,
    })
}

/// Columns that are numbers with a decimal comma only. None where another has a decimal point:
/// one sign holds for all.
fn comma(input: &Input, facts: &Facts, settings: &CsvSettings) -> Vec<String> {
    if settings.delimiter == ',' {
        return Vec::new();
    }
    let is_float = |ty| matches!(ty, ColumnType::Float { .. });
    let with = |wanted: bool| {
        let columns = facts.columns.iter().zip(&input.names);
        let found = columns.filter(|(c, _)| {
            let (point, comma) = (c.point.column_type(), c.comma.column_type());
            c.values > 0 && point != comma && is_float(if wanted { comma } else { point })
        });
        found.map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    if with(false).is_empty() { with(true) } else { Vec::new() }
}

/// The words that alone keep a column from being one of numbers.
fn words(
    time: usize,
    facts: &Facts,
    names: &[String],
    ty: &impl Fn(&Column) -> ColumnType,
) -> Vec<NullWord> {
    let mut found = Vec::new();
    for (word, text) in WORDS.iter().enumerate() {
        let with = facts.columns.iter().zip(names).enumerate();
        let with = with.filter(|(_, (column, _))| column.words[word] > 0);
        let (texts, numbers): (Vec<_>, Vec<_>) =
            with.partition(|(at, (column, _))| *at != time && ty(column) == ColumnType::Text);
        if numbers.is_empty() {
            continue;
        }
        let name = |(_, (_, name)): &(usize, (&Column, &String))| (*name).clone();
        found.push(NullWord {
            word: (*text).to_owned(),
            count: numbers.iter().map(|(_, (column, _))| column.words[word]).sum(),
            columns: numbers.iter().map(name).collect(),
            texts: texts.iter().map(name).collect(),
        });
    }
    found
}

/// A column in a form, and how well they fit.
struct Chosen<'a> {
    at: usize,
    candidate: &'a Candidate,
    tried: &'a Tried,
    ambiguous: Option<String>,
    others: Vec<String>,
}

impl Chosen<'_> {
    fn told(&self, input: &Input, facts: &Facts) -> Result<GuessedTime> {
        let column = &facts.columns[self.at];
        let nothing = || Error::bug("the time column has no time");
        Ok(GuessedTime {
            column: input.names[self.at].clone(),
            form: self.candidate.form.name(),
            unit: self.tried.unit.ok_or_else(nothing)?,
            example: column.example.clone().unwrap_or_default(),
            first: self.tried.earliest.ok_or_else(nothing)?.timestamp(),
            last: self.tried.latest.ok_or_else(nothing)?.timestamp(),
            unread: facts.rows - self.tried.good,
            unread_example: self.tried.bad_example.clone(),
            ambiguous: self.ambiguous.clone(),
            others: self.others.clone(),
        })
    }
}

/// The column that is most likely the time, in the form that fits it best.
fn time<'a>(input: &Input, forms: &'a [Vec<Candidate>], facts: &'a Facts) -> Result<Chosen<'a>> {
    let mut found: Vec<(i64, Chosen<'a>)> = Vec::new();
    for (at, (column, forms)) in facts.columns.iter().zip(forms).enumerate() {
        let tries = column.tries.iter().zip(forms);
        let fits = |(t, _): &(&Tried, &Candidate)| t.good > 0 && t.good >= 9 * t.bad;
        let mut tries: Vec<_> = tries.filter(fits).collect();
        // Of two forms that fit alike the rows' order tells which; else the first in the list.
        tries.sort_by_key(|(t, _)| (t.bad, t.backwards));
        let Some((tried, candidate)) = tries.first().copied() else { continue };
        let alike = tries.get(1).filter(|(t, _)| t.bad == tried.bad);
        let differs = |(t, _): &&(&Tried, &Candidate)| {
            (t.earliest, t.latest) != (tried.earliest, tried.latest)
        };
        let ambiguous = alike.filter(differs).and_then(|(_, c)| c.format.clone());
        let merit = merit(&input.names[at], candidate, tried, facts.rows);
        let others = Vec::new();
        found.push((merit, Chosen { at, candidate, tried, ambiguous, others }));
    }
    // The first of equals.
    found.sort_by_key(|(merit, chosen)| (-merit, chosen.at));
    let others = found.iter().skip(1).map(|(_, c)| input.names[c.at].clone()).collect();
    match found.into_iter().next() {
        Some((_, chosen)) => Ok(Chosen { others, ..chosen }),
        None => Err(Error::config(format!("no column of `{}` holds times", shown(input))).hint(
            format!(
                "its columns are {}; write the spec by hand, with `time_format` for times in \
                 another form",
                list(&input.names)
            ),
        )),
    }
}

fn shown(input: &Input) -> &str {
    &input.shared.settings.path
}

/// What speaks for a column as the time.
fn merit(name: &str, candidate: &Candidate, tried: &Tried, rows: u64) -> i64 {
    let words = words_of(name);
    let has = |list: &[&str]| words.iter().any(|w| list.contains(&w.as_str()));
    let named = has(&[
        "time",
        "timestamp",
        "ts",
        "datetime",
        "date",
        "t",
        "epoch",
        "zeit",
        "zeitstempel",
        "zeitpunkt",
        "datum",
        "day",
        "tag",
        "measured",
        "observed",
        "recorded",
        "heure",
        "fecha",
        "hora",
        "utc",
    ]);
    let of_row = has(&["created", "updated", "modified", "inserted", "changed", "ingested", "end"]);
    let form = match candidate.form {
        Form::Zoned => 6,
        Form::Local | Form::Custom if tried.unit == Some(TimeUnitSeen::Day) => 3,
        Form::Local | Form::Custom => 5,
        Form::Epoch(_) if named => 4,
        Form::Epoch(_) => 0,
    };
    let complete = i64::from(tried.good == rows) * 4;
    form + complete + i64::from(named) * 3 - i64::from(of_row) * 3
}

/// The words of a name: `time_hour` and `TimeHour` have two.
pub(super) fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if !c.is_alphabetic() || c.is_uppercase() && lower {
            words.push(String::new());
        }
        lower = c.is_lowercase();
        if c.is_alphabetic() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}
