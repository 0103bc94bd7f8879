//! One file of the folder: what it holds, found by reading it once, and its rows.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::record_batch::RecordBatch;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use retrofill_core::columns::Columns;
use retrofill_core::connector::{FieldType, ReadRequest, RowSink, Source, SurveyRequest};
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::survey::Survey;
use tokio::sync::OnceCell;

use super::names::Named;
use super::settings::FileFormat;

/// What a receipt says of a file of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// All its rows lie inside, unless others have changed it.
    pub(super) interval: Interval,
    /// Checksum of the bytes that were written.
    pub(super) sum: String,
    /// It has as many bytes as were written.
    pub(super) sized: bool,
}

/// A file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) changed: SystemTime,
    /// The load that wrote it, by its name.
    pub(super) named: Option<Named>,
    /// None for files of others, and for one of ours whose receipt is lost.
    pub(super) own: Option<Own>,
    pub(super) format: FileFormat,
    pub(super) source: Arc<dyn Source>,
    pub(super) survey: OnceCell<(String, Result<Arc<Survey>>)>,
}

impl Part {
    /// Whether it is one of ours that nobody has changed, as far as its size tells.
    pub(super) fn is_sized(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.sized)
    }

    /// What it holds; read once.
    pub(super) async fn survey(&self, time: &str) -> Result<Arc<Survey>> {
        let read = async || match self.look(time).await {
            Err(e) if e.kind().is_transient() => Err(e),
            found => Ok((time.to_owned(), found)),
        };
        let (of, found) = self.survey.get_or_try_init(read).await?;
        if of == time { found.clone() } else { self.look(time).await }
    }

    async fn look(&self, time: &str) -> Result<Arc<Survey>> {
        let request = SurveyRequest { time: time.into(), ..SurveyRequest::default() };
        let survey = self.source.survey(&request).await.map_err(|e| self.blamed(e))?;
        self.check(&survey, time)?;
        Ok(Arc::new(survey))
    }

    /// A line that cannot be read could be a row with a key of ours. One without a time is none.
    fn check(&self, survey: &Survey, time: &str) -> Result<()> {
        let timeless = |r: &&retrofill_core::reject::Reject| {
            r.column.as_deref() == Some(time)
                && (r.text.is_empty() || r.reason == "the time is NULL")
        };
        let harmless = survey.unplaced_rejects.iter().filter(timeless).count() as u64;
        if survey.unplaced == harmless {
            return Ok(());
        }
        let first = survey.unplaced_rejects.iter().find(|r| !timeless(r));
        let first = first.map_or_else(String::new, |r| format!(": {}: {}", r.place, r.reason));
        let lines = survey.unplaced - harmless;
        let what = format!("`{}` has {lines} lines that are no rows{first}", self.name);
        Err(self.blamed(Error::config(what).hint(
            "whether a row of the source is there already cannot be told then; mend the file, or \
             move it away",
        )))
    }

    /// A file of ours that cannot be read is not what was written; others may be at work on theirs.
    fn blamed(&self, e: Error) -> Error {
        let kind = match (e.kind(), self.own.is_some()) {
            (Kind::Config | Kind::Stale, true) => Kind::Mismatch,
            (Kind::Stale, false) => Kind::Unavailable,
            _ => return e,
        };
        let hint = e.hint_text().map(str::to_owned);
        let error = Error::new(kind, e.to_string());
        match hint.filter(|_| kind == Kind::Mismatch) {
            Some(_) => error.hint("`run --select mismatched` loads it anew"),
            None => error,
        }
    }

    /// Whether it may hold rows of the interval, by what is known. Files of others are surveyed
    /// before.
    pub(super) fn overlaps(&self, interval: &Interval) -> bool {
        let promised = self.own.as_ref().is_some_and(|own| own.interval.overlaps(interval));
        if promised || self.is_sized() {
            return promised;
        }
        match self.survey.get() {
            Some((_, Ok(survey))) => survey.overlapping(interval).next().is_some(),
            _ => false,
        }
    }

    /// The rows of the interval, in the plan's types. A value that is none is an error.
    pub(super) async fn rows(
        self: &Arc<Self>,
        columns: &Arc<Columns>,
        interval: &Interval,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let survey = self.survey(&columns.time().name).await?;
        if survey.overlapping(interval).next().is_none() {
            return Ok(stream::empty().boxed());
        }
        let survey = self.completed(survey, columns)?;
        let request = ReadRequest { interval: *interval, columns: columns.clone(), survey };
        let rows = self.source.read(&request).await.map_err(|e| self.blamed(e))?;
        let part = self.clone();
        Ok(rows
            .batches
            .map(move |batch| {
                let batch = batch.map_err(|e| part.blamed(e))?;
                match batch.rejects.first() {
                    None => Ok(batch.rows),
                    Some(reject) => Err(part.blamed(misfit(reject))),
                }
            })
            .boxed())
    }

    /// The survey with every column of the plan: one that an object or a Parquet file lacks is
    /// NULL in all its rows.
    pub(super) fn completed(&self, survey: Arc<Survey>, columns: &Columns) -> Result<Arc<Survey>> {
        let lacks = |survey: &Survey| {
            let has = |name: &str| survey.columns.iter().any(|c| c.name == name);
            columns.iter().filter(|c| !has(&c.name)).cloned().collect::<Vec<_>>()
        };
        let lacking = lacks(&survey);
        let Some(first) = lacking.first() else { return Ok(survey) };
        if self.format == FileFormat::Csv {
            let what = format!("`{}` has no column `{}`", self.name, first.name);
            let hint = "all files of the folder need the same columns, in any order";
            return Err(self.blamed(Error::config(what).hint(hint)));
        }
        let mut survey = (*survey).clone();
        survey.columns.extend(lacking.into_iter().map(|c| FieldType::new(c.name, c.ty, true)));
        Ok(Arc::new(survey))
    }

    /// Gives the rows of the interval to a sink.
    pub(super) async fn pour(
        self: &Arc<Self>,
        columns: &Arc<Columns>,
        interval: &Interval,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let mut rows = self.rows(columns, interval).await?;
        while let Some(batch) = rows.next().await {
            sink.push(batch?).await?;
        }
        Ok(())
    }

    /// Whether it is still the same file, unchanged as far as a file system tells.
    pub(super) fn is_still(&self, other: &Part) -> bool {
        let stamp = |p: &Part| (p.size, p.changed);
        self.name == other.name && stamp(self) == stamp(other)
    }
}

fn misfit(reject: &retrofill_core::reject::Reject) -> Error {
    let column = reject.column.as_deref().unwrap_or_default();
    let what = format!("{}: column `{column}`: {}", reject.place, reject.reason);
    Error::config(what).hint(
        "the folder's columns have the types that its first load found, see its \
         `_retrofill/columns.json`; mend the value, or remove that file and plan again with \
         `--replan`, and the types are found anew",
    )
}
