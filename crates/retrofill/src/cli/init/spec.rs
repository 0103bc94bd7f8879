//! The spec that `init` writes, and what is told of each guess.

use retrofill_connectors::files::{Compression, CsvSettings, Encoding, Guess, Schema};
use retrofill_core::survey::TimeUnitSeen;

use crate::cli::output::grouped;
use crate::cli::preview::type_name;
use crate::cli::summary::count;
use crate::cli::table::cell;

/// Slices of these lengths are tried, the longest first: word and seconds.
const LADDER: [(&str, i64); 12] = [
    ("1y", 31_556_952),
    ("3mo", 7_889_238),
    ("1mo", 2_629_746),
    ("1w", 604_800),
    ("1d", 86_400),
    ("6h", 21_600),
    ("1h", 3_600),
    ("15min", 900),
    ("5min", 300),
    ("1min", 60),
    ("10s", 10),
    ("1s", 1),
];
/// Rows that a slice should not exceed, and slices there should be at least.
const ROWS: u64 = 1_000_000;
const SLICES: i64 = 4;
/// Comments are wrapped at this column.
const WIDTH: usize = 98;

/// A guess in one sentence, with its evidence.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) about: &'static str,
    pub(super) text: String,
}

/// Everything that was guessed, a sentence each.
pub(super) fn tell(guess: &Guess, zone_given: bool) -> Vec<Told> {
    let mut told = Vec::new();
    let mut say = |about, text| told.push(Told { about, text });
    let rows = count(guess.rows, "row");
    let of = format!("{}, {} bytes", count(guess.files, "file"), grouped(guess.bytes));
    say(
        "source",
        if guess.whole {
            format!("all {rows} of {of}")
        } else {
            format!("the first {rows} of {of}: what comes later was not looked at")
        },
    );
    say("format", format(&guess.settings));
    if let Some((lines, why)) = &guess.bad {
        let lines = count(*lines, "line");
        say("refused", format!("{lines} cannot be parsed and will be rejected; the first: {why}"));
    }
    if !guess.comma.is_empty() {
        say("decimal", format!("`,` in {}: numbers only so", names(&guess.comma)));
    }
    for word in &guess.null {
        let more = if word.texts.is_empty() {
            String::new()
        } else {
            format!("; it becomes NULL in {} too", names(&word.texts))
        };
        let times = count(word.count, "time");
        let columns = names(&word.columns);
        say("null", format!("`{}`: {times} in {columns}, else numbers{more}", word.word));
    }
    time(guess, zone_given, &mut say);
    say("key", key(guess));
    say(
        "slices",
        match every(guess) {
            Some((word, slices)) => format!("{word}: about {}", count(slices, "slice")),
            None => "auto: about a million rows each".into(),
        },
    );
    told
}

fn format(settings: &CsvSettings) -> String {
    let delimiter = match settings.delimiter {
        '\t' => "tab".to_owned(),
        c => format!("`{c}`"),
    };
    let header = if settings.header { "a header" } else { "no header" };
    let mut text =
        format!("{delimiter} between fields, `{}` around them, {header}", settings.quote);
    if settings.encoding != Encoding::Utf8 {
        text = format!("{text}, {}, as it is not UTF-8", settings.encoding.name());
    }
    if settings.compression != Compression::Auto {
        text = format!("{text}, packed with {:?}", settings.compression).to_lowercase();
    }
    if settings.schema == Schema::Union {
        text += ", files with different columns";
    }
    text
}

fn time(guess: &Guess, zone_given: bool, say: &mut impl FnMut(&'static str, String)) {
    let time = &guess.time;
    let form = match (time.form, &guess.settings.time_format) {
        ("rfc3339", _) => "RFC 3339".to_owned(),
        ("local", _) if time.unit == TimeUnitSeen::Day => "dates".into(),
        ("local", _) => "without a zone".into(),
        (_, Some(format)) => format!("`{format}`"),
        (form, None) => form.to_owned(),
    };
    let mut text = format!(
        "`{}`, {form} (`{}`), {} to {}",
        cell(&time.column),
        cell(&time.example),
        time.first,
        time.last
    );
    if !time.others.is_empty() {
        text = format!("{text}; also times: {}", names(&time.others));
    }
    say("time", text);
    if let Some(other) = &time.ambiguous {
        say("time", format!("all of them fit `{other}` as well: see that day and month are right"));
    }
    let zone = &guess.settings.timezone;
    let zoned = guess.settings.time_format.as_ref().is_some_and(|f| f.contains("%z"));
    if matches!(time.form, "local" | "time_format") && !zoned {
        say(
            "zone",
            if zone_given {
                format!("times have no zone and are read as {zone}")
            } else {
                "times have no zone and are read as UTC; if they are local times, name their zone \
                 with `--timezone`"
                    .into()
            },
        );
    }
    if time.unread > 0 {
        let rows = count(time.unread, "row");
        let first = time
            .unread_example
            .as_deref()
            .map_or("the time is missing".into(), |t| format!("the first: `{}`", cell(t)));
        say(
            "refused",
            format!("{rows} have no time that can be read and will be rejected; {first}"),
        );
    }
}

fn key(guess: &Guess) -> String {
    let rows = count(guess.rows, "row");
    let over = if guess.whole { format!("over all {rows}") } else { format!("over {rows} only") };
    let repeated = match guess.key.repeated {
        0 => String::new(),
        n => format!("; {} the same row as another and will be loaded once", count(n, "row")),
    };
    match &guess.key.columns {
        Some(list) if list.is_empty() => {
            format!("[]: one series, no two rows share a time, {over}{repeated}")
        }
        Some(list) => {
            let distinct = guess.key.distinct.iter().flatten().map(|n| grouped(*n));
            let distinct = distinct.collect::<Vec<_>>().join(", ");
            let alone = if guess.key.time_alone { "; the time alone would do as well" } else { "" };
            format!(
                "{} ({distinct} values): no two rows share time and key, {over}{alone}{repeated}",
                names(list)
            )
        }
        None => {
            let nearly = guess.key.nearly.as_ref().map_or(String::new(), |(list, n)| {
                format!("; {} come nearest, but for about {} times", names(list), grouped(*n))
            });
            format!("none: no columns tell rows of one time apart, only append works{nearly}")
        }
    }
}

fn names(list: &[String]) -> String {
    let shown: Vec<_> = list.iter().take(6).map(|n| format!("`{}`", cell(n))).collect();
    match list.len().saturating_sub(6) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The slice width for these rows, and how many slices that makes; none where it cannot be told.
fn every(guess: &Guess) -> Option<(&'static str, u64)> {
    let span = guess.time.last.as_second() - guess.time.first.as_second();
    if !guess.whole {
        return None;
    }
    let enough = LADDER.iter().filter(|(_, length)| span / length >= SLICES);
    let mut fitting = enough.map(|(word, length)| (*word, (span / length + 1) as u64));
    let last = fitting.clone().next_back();
    fitting.find(|(_, slices)| guess.rows / slices <= ROWS).or(last)
}

/// The text of a spec, line by line.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A comment, wrapped.
    fn comment(&mut self, indent: usize, text: &str) {
        let start = format!("{}#", " ".repeat(indent));
        let mut line = start.clone();
        for word in text.split(' ') {
            if line.chars().count() + word.chars().count() >= WIDTH && line != start {
                self.line(&line);
                line.clone_from(&start);
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    /// What was told about something.
    fn told(&mut self, indent: usize, told: &[Told], about: &[&str]) {
        for told in told.iter().filter(|t| about.contains(&t.about)) {
            self.comment(indent, &format!("{}: {}", told.about, told.text));
        }
    }
}

/// A text as YAML has it in double quotes; a dollar sign is one.
fn text(value: &str) -> String {
    serde_json::to_string(&value.replace('$', "$$")).expect("a text is plain JSON")
}

fn list(values: &[String]) -> String {
    let list: Vec<_> = values.iter().map(|v| text(v)).collect();
    format!("[{}]", list.join(", "))
}

/// The spec.
pub(super) fn write(guess: &Guess, told: &[Told], source: &str, target: &str) -> String {
    let mut page = Page::default();
    page.line("# yaml-language-server: $schema=./retrofill.schema.json");
    page.comment(0, "(`retrofill schema -o retrofill.schema.json` writes that file for editors.)");
    page.line("#");
    page.comment(
        0,
        "Guessed by `retrofill init`. Each guess says what it was made from: look it over, then",
    );
    page.comment(0, "`retrofill preview`, `retrofill plan`, `retrofill run`.");
    page.line("");
    page.line("source:");
    page.told(2, told, &["source", "refused"]);
    page.line("  csv:");
    page.line(&format!("    path: {}", text(source)));
    csv(guess, told, &mut page);
    page.line("");
    page.line(&format!("target: {}", serde_json::to_string(target).expect("a text is plain JSON")));
    page.line("");
    rows(guess, told, &mut page);
    page.line("");
    page.line("range:");
    page.told(2, told, &["slices"]);
    page.line(&format!("  every: {}", every(guess).map_or("auto", |(word, _)| word)));
    page.line("  # timezone: Europe/Berlin    # days and months begin there; default UTC");
    page.line("  # from: 2019-01-01           # default: all that the source holds");
    page.line("  # to: 2024-01-01             # exclusive");
    page.line("");
    page.line(
        "# write: { mode: upsert }   # a row that differs is replaced; default: fill-missing",
    );
    page.line("# rejects: { max: 0.1% }    # how many refused rows are bearable; default: 0");
    page.0
}

fn csv(guess: &Guess, told: &[Told], page: &mut Page) {
    let settings = &guess.settings;
    page.told(4, told, &["format"]);
    if settings.delimiter != ',' {
        page.line(&format!("    delimiter: {}", text(&settings.delimiter.to_string())));
    }
    if settings.quote != '"' {
        page.line(&format!("    quote: {}", text(&settings.quote.to_string())));
    }
    if !settings.header {
        page.line("    header: false");
    }
    if settings.encoding != Encoding::Utf8 {
        page.line(&format!("    encoding: {}", settings.encoding.name()));
    }
    if settings.compression != Compression::Auto {
        let word = format!("{:?}", settings.compression).to_lowercase();
        page.line(&format!("    compression: {word}"));
    }
    if settings.schema == Schema::Union {
        page.line("    schema: union");
    }
    if !settings.hive {
        page.line("    hive: false                # columns of the files are in their paths too");
    }
    page.told(4, told, &["decimal"]);
    if settings.decimal == ',' {
        page.line("    decimal: \",\"");
    }
    page.told(4, told, &["null"]);
    if settings.null.is_empty() {
        page.line("    # null: [\"NA\"]              # words for NULL beside the empty field");
    } else {
        page.line(&format!("    null: {}", list(&settings.null)));
    }
    if let Some(format) = &settings.time_format {
        page.line(&format!("    time_format: {}", text(format)));
    }
    page.told(4, told, &["zone"]);
    match settings.timezone.as_str() {
        "UTC" if told.iter().any(|t| t.about == "zone") => {
            page.line("    # timezone: Europe/Berlin");
        }
        "UTC" => {}
        zone => page.line(&format!("    timezone: {}", text(zone))),
    }
    types(guess, page);
}

fn types(guess: &Guess, page: &mut Page) {
    page.comment(4, "types, over the rows that were looked at:");
    for column in &guess.columns {
        let example =
            column.example.as_deref().map_or(String::new(), |e| format!(" ({})", cell(e)));
        let nulls = if column.nulls > 0 { ", with NULL" } else { "" };
        let ty = type_name(column.ty);
        page.line(&format!("    #   {}: {ty}{nulls}{example}", cell(&column.name)));
    }
    let times = guess.columns.iter().filter(|c| c.is_time);
    let times: Vec<_> = times.map(|c| format!("{}: timestamp", text(&c.name))).collect();
    if !times.is_empty() {
        page.comment(4, "these stay text unless it is said that they are times:");
        page.line(&format!("    # types: {{ {} }}", times.join(", ")));
    }
}

fn rows(guess: &Guess, told: &[Told], page: &mut Page) {
    page.line("rows:");
    page.told(2, told, &["time"]);
    page.line(&format!("  time: {}", text(&guess.time.column)));
    page.told(2, told, &["key"]);
    if let Some(columns) = &guess.key.columns {
        page.line(&format!("  key: {}", list(columns)));
    } else {
        page.line("  # key: [column]              # with a key, rows that are there are seen");
        page.line("  # on_duplicate: last         # and unequal rows that share it are settled");
    }
}
