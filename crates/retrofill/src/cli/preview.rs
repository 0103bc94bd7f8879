//! `retrofill preview`: the first rows as they would be loaded.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use retrofill_core::columns::{Column, ColumnType, Columns, Precision, Role};
use retrofill_core::connector::{ReadRequest, SurveyRequest};
use retrofill_core::error::{Error, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::Reject;
use retrofill_core::runner::{Cell, cells};
use retrofill_core::survey::{Survey, TimeUnitSeen};
use serde_json::{Map, Value, json};

use super::Context;
use super::exit::Exit;
use super::job::JobArg;
use super::output::{Failure, Format};
use super::summary::count;
use super::table::{Align, Table, cell};
use super::watch::Screen;
use crate::job::Job;

/// Arguments of `preview`.
#[derive(Debug, Clone, Args)]
pub struct PreviewArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArg,
    /// So many rows.
    #[arg(
        short = 'n',
        long = "limit",
        value_name = "ROWS",
        env = "RETROFILL_LIMIT",
        hide_env = true,
        default_value_t = 20
    )]
    pub limit: usize,
}

/// What there is to see.
struct Preview {
    survey: Survey,
    columns: Columns,
    notes: Vec<String>,
    rows: Vec<Vec<Cell>>,
    rejects: Vec<Reject>,
}

/// Shows the first rows; opens source and target and writes nothing anywhere.
pub async fn execute(ctx: &Context, args: &PreviewArgs) -> Result<Exit, Failure> {
    let opened = args.job.open(ctx.state_dir.as_deref())?;
    let job = opened.job;
    let screen = Screen::new(ctx.output);
    let seen = look(&job, args.limit, &screen).await;
    screen.finish();
    let preview = seen?;
    match ctx.output.format {
        Format::Text => ctx.output.result(&preview.text(&job)),
        Format::Json => preview.json(ctx, &job),
    }
    Ok(Exit::Done)
}

async fn look(job: &Job, most: usize, screen: &Screen) -> Result<Preview> {
    let (source, target) = (job.source()?, job.target()?);
    let way = SurveyRequest { pulse: screen.survey(), ..SurveyRequest::default() };
    let looked = job.look(source.as_ref(), target.as_ref(), way).await?;
    let (mut survey, columns, mut notes) = looked;
    notes.splice(0..0, std::mem::take(&mut survey.notes));
    let (mut rows, mut rejects) = (Vec::new(), survey.unplaced_rejects.clone());
    rejects.truncate(most);
    if let Some(interval) = whole(&survey)?.filter(|_| most > 0) {
        let request = ReadRequest {
            interval,
            columns: Arc::new(columns.clone()),
            survey: Arc::new(survey.clone()),
        };
        for mut batch in source.first(&request, most).await? {
            rejects.append(&mut batch.rejects);
            let mut without_key = Vec::new();
            for row in 0..batch.rows.num_rows() {
                let values = cells(&batch.rows, row)?;
                match values.iter().take(columns.key_width()).position(Option::is_none) {
                    None => rows.push(values),
                    Some(at) => without_key.push((batch.ordinals[row], at)),
                }
            }
            let ordinals: Vec<_> = without_key.iter().map(|(ordinal, _)| *ordinal).collect();
            let located = source.locate(&survey, &ordinals).await?;
            for ((place, text), (_, at)) in located.into_iter().zip(without_key) {
                let column = columns.iter().nth(at).map(|c| c.source_name().to_owned());
                rejects.push(Reject { place, column, reason: "is NULL".into(), text });
            }
        }
        rows.truncate(most);
    }
    Ok(Preview { survey, columns, notes, rows, rejects })
}

/// All that the source holds.
fn whole(survey: &Survey) -> Result<Option<Interval>> {
    let Some((min, max)) = survey.time_range() else { return Ok(None) };
    let unit = survey.time_unit.map_or(1_000, TimeUnitSeen::nanoseconds);
    let end = jiff::Timestamp::from_nanosecond(max.as_nanosecond() + unit)
        .map_err(|e| Error::config(format!("{max} lies outside the calendar")).because(e))?;
    Interval::new(min, end).map(Some)
}

/// A type in the words that a spec uses.
pub(super) fn type_name(ty: ColumnType) -> String {
    match ty {
        ColumnType::Bool
        | ColumnType::Text
        | ColumnType::Bytes
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Array { .. } => ty.common_name().to_owned(),
        ColumnType::Integer { bits } => format!("int{bits}"),
        ColumnType::Float { bits } => format!("float{bits}"),
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Instant { unit } => match unit {
            Precision::Second => "timestamp(s)".to_owned(),
            Precision::Millisecond => "timestamp(ms)".to_owned(),
            Precision::Microsecond => "timestamp".to_owned(),
            Precision::Nanosecond => "timestamp(ns)".to_owned(),
        },
    }
}

fn role(column: &Column) -> &'static str {
    match column.role {
        Role::Time => "time",
        Role::Key => "key",
        Role::Value => "value",
    }
}

impl Preview {
    /// The columns in the order of the source, each with its index in the plan's order.
    fn in_source_order(&self) -> Vec<(usize, &Column)> {
        let mut list: Vec<_> = self.columns.iter().enumerate().collect();
        list.sort_by_key(|(_, column)| column.position);
        list
    }

    fn text(&self, job: &Job) -> String {
        let spec = &job.spec;
        let mut out = format!("{}: {} -> {}\n", spec.name, spec.source.label, spec.target.label);
        let order = self.in_source_order();
        let mut columns =
            Table::new(&[("column", Align::Left), ("type", Align::Left), ("role", Align::Left)]);
        for (_, column) in &order {
            let row = [column.source_name(), &type_name(column.ty), role(column)];
            columns.row(&row.map(str::to_owned));
        }
        let heads: Vec<_> = order.iter().map(|(_, c)| (c.source_name(), align(c.ty))).collect();
        let mut rows = Table::new(&heads);
        for row in &self.rows {
            let value = |at: &usize| row[*at].clone().unwrap_or_else(|| "NULL".into());
            rows.row(&order.iter().map(|(at, _)| value(at)).collect::<Vec<_>>());
        }
        let (shown, all) = (count(self.rows.len() as u64, "row"), self.survey.rows);
        // Writing to a text cannot fail.
        let _ = write!(out, "{columns}\nthe first {shown} of {}\n{rows}", count(all, "row"));
        if self.survey.unplaced > 0 {
            let lines = count(self.survey.unplaced, "line");
            let _ = writeln!(out, "\n{lines} cannot be placed in time and would be rejected");
        }
        if !self.rejects.is_empty() {
            let _ = writeln!(out, "\nrejected would be");
        }
        for reject in &self.rejects {
            let column = reject.column.as_ref().map_or(String::new(), |c| format!(" `{c}`"));
            let _ = writeln!(out, "  {}{column}: {}", reject.place, reject.reason);
            let _ = writeln!(out, "    {}", cell(&reject.text));
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out + "Next: retrofill plan | run"
    }

    /// What the source holds in the first line, then a line per row, then one per reject.
    fn json(&self, ctx: &Context, job: &Job) {
        let column = |column: &Column| {
            let name = column.source_name();
            json!({ "name": name, "type": type_name(column.ty), "role": role(column) })
        };
        let order = self.in_source_order();
        ctx.output.json(&json!({
            "v": 1,
            "name": job.spec.name,
            "columns": order.iter().map(|(_, c)| column(c)).collect::<Vec<_>>(),
            "rows": self.survey.rows,
            "unplaced": self.survey.unplaced,
            "notes": self.notes,
        }));
        for row in &self.rows {
            let value = |(at, c): &(usize, &Column)| {
                (c.source_name().to_owned(), typed(row[*at].as_deref(), c.ty))
            };
            let row: Map<_, _> = order.iter().map(value).collect();
            ctx.output.json(&json!({ "v": 1, "row": row }));
        }
        for reject in &self.rejects {
            ctx.output.json(&json!({ "v": 1, "reject": reject }));
        }
    }
}

fn align(ty: ColumnType) -> Align {
    match ty {
        ColumnType::Integer { .. } | ColumnType::Float { .. } | ColumnType::Decimal { .. } => {
            Align::Right
        }
        _ => Align::Left,
    }
}

/// A value as JSON has it. What JSON has no number for stays text.
pub(super) fn typed(text: Option<&str>, ty: ColumnType) -> Value {
    let Some(text) = text else { return Value::Null };
    let plain = match ty {
        ColumnType::Bool | ColumnType::Integer { .. } | ColumnType::Float { .. } => {
            serde_json::from_str(text).ok()
        }
        _ => None,
    };
    plain.unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_json_has() {
        let float = ColumnType::Float { bits: 64 };
        for (text, ty, want) in [
            ("5", ColumnType::Integer { bits: 64 }, json!(5)),
            ("1.5", float, json!(1.5)),
            ("NaN", float, json!("NaN")),
            ("true", ColumnType::Bool, json!(true)),
            ("5", ColumnType::Text, json!("5")),
        ] {
            assert_eq!(typed(Some(text), ty), want);
        }
        assert_eq!(typed(None, float), Value::Null);
    }

    #[test]
    fn types_are_named_as_in_a_spec() {
        for name in retrofill_connectors::files::TYPE_NAMES {
            let wanted = match name {
                "decimal(p,s)" => "decimal(10,2)",
                "timestamp(us)" => continue,
                name => name,
            };
            let ty = retrofill_connectors::files::parse_type(wanted).unwrap();
            assert_eq!(type_name(ty), wanted);
        }
    }
}
