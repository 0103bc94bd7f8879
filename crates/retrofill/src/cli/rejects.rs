//! `retrofill rejects`: refused rows, listed, taken out for mending, and tried again.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use retrofill_core::error::{Error, Result};
use retrofill_core::id::SliceId;
use retrofill_core::ledger::Journal as _;
use retrofill_core::reject::{Conflict, Exception, Reject, Replaced};
use retrofill_core::runner::Options;
use serde_json::{Value, json};

use super::Context;
use super::exit::Exit;
use super::flags::SummaryFile;
use super::job::JobArg;
use super::output::{Failure, Format, grouped};
use super::run::{Ending, load};
use super::summary::count;
use super::work::May;
use crate::lists;

/// Arguments of `rejects`.
#[derive(Debug, Clone, Args)]
pub struct RejectsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with refused rows.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Show them: where each stands, why it was refused, and the record.
    List(ListArgs),
    /// Write all of them to a file.
    Export(ExportArgs),
    /// Load the slices again in which rows were refused, once the source, the spec or the target
    /// was mended. Rows that are in place stay as they are.
    Replay(ReplayArgs),
}

/// Arguments of `rejects list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Only of this slice.
    #[arg(long, value_name = "ID", env = "RETROFILL_SLICE", hide_env = true)]
    pub slice: Option<String>,
    /// Conflicts too: rows whose key the target holds with another value, and rows in whose place
    /// `--overwrite-changed` or `--restate` put another one.
    #[arg(
        long,
        env = "RETROFILL_CONFLICTS",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub conflicts: bool,
    /// So many at most; 0 for all.
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "ROWS",
        env = "RETROFILL_LIMIT",
        hide_env = true,
        default_value_t = 50
    )]
    pub limit: usize,
}

/// Arguments of `rejects export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// The file; `-` for standard output.
    #[arg(short = 'o', long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: PathBuf,
    /// How they are written. Default: by the file's ending, else csv.
    #[arg(long, env = "RETROFILL_FORMAT", hide_env = true, value_enum)]
    pub format: Option<Form>,
}

/// How rejects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A table: slice, file, line, byte, column, reason, record.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// The records alone, as they stand in the source, without a header.
    Raw,
}

/// Arguments of `rejects replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// Only this slice.
    #[arg(long, value_name = "ID", env = "RETROFILL_SLICE", hide_env = true)]
    pub slice: Option<String>,
    /// Mode replace: take rows out without asking for the plan's id.
    #[arg(
        long,
        env = "RETROFILL_YES",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub yes: bool,
    /// Where the summary goes too.
    #[command(flatten)]
    pub summary_file: SummaryFile,
}

/// Does what was asked for.
pub async fn execute(ctx: &Context, args: &RejectsArgs) -> Result<Exit, Failure> {
    match &args.what {
        What::List(args) => list(ctx, args).await,
        What::Export(args) => export(ctx, args).await,
        What::Replay(args) => replay(ctx, args).await,
    }
}

/// Shows `take` every entry of the newest plan's lists; gives how many rejects the ledger counts.
async fn each(
    ctx: &Context,
    job: &JobArg,
    take: impl FnMut(Option<&SliceId>, Exception) -> Result<()>,
) -> Result<u64, Failure> {
    let opened = job.open(ctx.state_dir.as_deref())?;
    let (journal, row) = opened.meant().await?;
    let mut records = journal.slices(&row.plan).await?;
    records.sort_by_key(|r| r.interval.start());
    let env = opened.job.env()?;
    let scratch = retrofill_core::env::Env::scratch(env.as_ref());
    lists::each(scratch.as_ref(), &row.plan, &records, take).await?;
    let standing = journal.summary(&row.plan).await?;
    Ok(standing.map_or(0, |s| s.counts.rejected + s.unplaced))
}

async fn list(ctx: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    let (mut shown, mut listed) = (0, 0_u64);
    let family = args.slice.as_ref().map(|id| format!("{id}."));
    let counted = each(ctx, &args.job, |slice, exception| {
        let id = slice.map_or("", SliceId::as_str);
        let asked = args.slice.as_ref().zip(family.as_ref());
        if asked.is_some_and(|(one, family)| id != one && !id.starts_with(family.as_str())) {
            return Ok(());
        }
        let is_conflict = !matches!(exception, Exception::RejectV1(_));
        listed += u64::from(!is_conflict);
        if shown < most && (args.conflicts || !is_conflict) {
            shown += 1;
            match ctx.output.format {
                Format::Json => ctx.output.json(&as_json(slice, &exception)),
                Format::Text => ctx.output.result(&text(slice, &exception)),
            }
        }
        Ok(())
    })
    .await?;
    if args.slice.is_some() {
        return Ok(Exit::Done);
    }
    if listed as usize > most {
        let rest = grouped(listed - most as u64);
        ctx.output.note(&format!("{rest} more: `--limit 0`, or `rejects export`"));
    }
    if listed < counted {
        let lost = count(counted - listed, "reject");
        ctx.output.warning(&format!("{lost} not listed any more; `retrofill run` lists them anew"));
    }
    if counted == 0 {
        ctx.output.note("no row was refused");
    }
    Ok(Exit::Done)
}

fn as_json(slice: Option<&SliceId>, exception: &Exception) -> Value {
    let mut value = serde_json::to_value(exception).expect("plain data");
    if let Value::Object(map) = &mut value {
        map.insert("slice".into(), json!(slice));
    }
    value
}

fn text(slice: Option<&SliceId>, exception: &Exception) -> String {
    let slice = slice.map_or_else(|| "in no slice".to_owned(), |s| format!("slice {s}"));
    match exception {
        Exception::RejectV1(Reject { place, column, reason, text }) => {
            let column = column.as_ref().map_or_else(String::new, |c| format!(" `{c}`"));
            let record = record(text);
            format!("{place}   {slice}{column}: {reason}\n    {record}")
        }
        Exception::ConflictV1(Conflict { time, key, source_hash, live_hash, restated, .. }) => {
            let key: Vec<_> = key.iter().map(|k| k.as_deref().unwrap_or("NULL")).collect();
            let time = time.map_or_else(String::new, |t| t.to_string());
            let what = if *restated {
                "restated: the target holds the value that we wrote before (`run --restate`)"
            } else {
                "the target holds another value"
            };
            let key = key.join(" ");
            format!("{time} {key}   {slice}: {what}\n    source {source_hash}, held {live_hash}")
        }
        Exception::ReplacedV1(Replaced { ours, columns, .. }) => {
            let who = if *ours { "that we wrote before" } else { "of somebody else" };
            let cell = |(name, value): &(String, Option<String>)| {
                format!("{name}: {}", value.as_deref().unwrap_or("NULL"))
            };
            let row: Vec<_> = columns.iter().map(cell).collect();
            let row = record(&row.join(", "));
            format!("{slice}: a row {who} gave way to the source's\n    it was {row}")
        }
    }
}

/// Characters of a record that are shown.
const SHOWN: usize = 200;

/// A record in one line that no terminal takes for orders.
fn record(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str("...");
    }
    out
}

/// The first line of an export as a table.
const HEADER: &[u8] = b"slice,file,line,byte,column,reason,record\n";

/// Lets what an earlier export wrote be written over, and nothing else: the source lies about here.
fn check_out(path: &Path, form: Form) -> Result<()> {
    let held =
        if path == Path::new("-") { Vec::new() } else { std::fs::read(path).unwrap_or_default() };
    let ours = match form {
        Form::Csv => held.starts_with(HEADER),
        Form::Jsonl => {
            let line = held.split(|b| *b == b'\n').next().unwrap_or_default();
            let first = serde_json::from_slice::<Value>(line).unwrap_or_default();
            ["slice", "place", "reason"].iter().all(|key| first.get(key).is_some())
        }
        Form::Raw => false,
    };
    if held.is_empty() || ours {
        return Ok(());
    }
    let what = format!("`{}` is there and is no such list; nothing was written", path.display());
    Err(Error::config(what).hint("name another file, or remove that one"))
}

async fn export(ctx: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let ending = args.out.extension().and_then(|e| e.to_str());
    let form = args.format.unwrap_or(match ending {
        Some("jsonl" | "json" | "ndjson") => Form::Jsonl,
        _ => Form::Csv,
    });
    check_out(&args.out, form)?;
    let mut bytes = Vec::new();
    if form == Form::Csv {
        bytes.extend_from_slice(HEADER);
    }
    let mut rows = 0;
    let counted = each(ctx, &args.job, |slice, exception| {
        let Exception::RejectV1(reject) = &exception else { return Ok(()) };
        rows += 1;
        match form {
            Form::Csv => csv(&mut bytes, slice, reject),
            Form::Raw => bytes.extend_from_slice(reject.text.as_bytes()),
            Form::Jsonl => {
                bytes.extend_from_slice(as_json(slice, &exception).to_string().as_bytes());
            }
        }
        bytes.push(b'\n');
        Ok(())
    })
    .await?;
    write(&args.out, &bytes)?;
    if rows < counted {
        let lost = count(counted - rows, "reject");
        ctx.output.warning(&format!("{lost} not listed any more; `retrofill run` lists them anew"));
    }
    ctx.output.note(&format!("{} written to {}", count(rows, "reject"), args.out.display()));
    Ok(Exit::Done)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = if path == Path::new("-") {
        std::io::stdout().lock().write_all(bytes)
    } else {
        std::fs::write(path, bytes)
    };
    written.map_err(|e| Error::config(format!("{} cannot be written", path.display())).because(e))
}

fn csv(out: &mut Vec<u8>, slice: Option<&SliceId>, reject: &Reject) {
    let Reject { place, column, reason, text } = reject;
    let line = place.line.map_or_else(String::new, |l| l.to_string());
    let offset = place.offset.to_string();
    let slice = slice.map_or("", SliceId::as_str);
    let column = column.as_deref().unwrap_or_default();
    let fields = [slice, place.file.as_str(), &line, &offset, column, reason, text];
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // A spreadsheet would compute what begins so.
        let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let field = if formula { format!("'{field}") } else { (*field).to_owned() };
        if field.contains([',', '"', '\n', '\r']) {
            out.extend_from_slice(format!("\"{}\"", field.replace('"', "\"\"")).as_bytes());
        } else {
            out.extend_from_slice(field.as_bytes());
        }
    }
}

async fn replay(ctx: &Context, args: &ReplayArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let ending = Ending { summary_file: args.summary_file.path(), skip_if_done: false };
    let may = May { yes: args.yes, ..May::default() };
    let only = args.slice.as_ref().map(|id| SliceId::new(id.clone()));
    load(ctx, opened, may, ending, |_| Ok(Options { only, replay: true, ..Options::default() }))
        .await
}
