//! Files of text as a source: CSV and NDJSON, by one way of reading. They differ in how a line is
//! cut into fields, `csv` and `json`.
//!
//! One pass over each file, on all cores, finds everything the plan needs: column types over all
//! rows, rows and time range and hash per block, lines that belong to no slice. A slice then
//! reads only the blocks that overlap it. Where that would read far more than the files hold
//! (unordered rows) or cannot be done (compressed, not UTF-8), `stage` sorts the records once into
//! the state dir, as the raw text they are: rejects keep their text, and one parser serves both
//! paths.

mod blocks;
mod buckets;
mod checksums;
mod chunks;
mod columns;
mod course;
mod csv;
mod encoding;
mod examine;
mod first;
mod form;
mod given;
mod guess;
mod header;
mod iso;
mod json;
mod names;
mod nested;
mod open;
mod origin;
mod parallel;
mod parts;
mod read;
mod records;
mod sample;
mod settings;
pub(crate) mod sorted_copy;
mod stage;
mod staging;
mod stops;
mod survey;
mod taker;
mod texts;
mod time;
mod transformed;
mod types;
mod unpack;
mod values;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use retrofill_core::connector::{
    ReadRequest, Rows, Source, SourceBatch, StageRequest, SurveyRequest,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::reject::Place;
use retrofill_core::survey::{FileStamp, Survey};

pub use guess::{Ask, Guess, GuessedColumn, GuessedKey, GuessedTime, NullWord, guess};
pub use names::{TYPE_NAMES, parse_type};
pub use origin::{Address, Options, Scheme};
pub use settings::{Compression, CsvSettings, Encoding, NdjsonSettings, Schema};
// What other sources of files need too.
pub(crate) use checksums::trusted;
pub(crate) use course::{Course, disorder};
pub(crate) use examine::{Heads, remarks};
pub(crate) use given::{GivenTypes, zone};
pub(crate) use names::{check_without, list, nearest, unkept};
pub(crate) use open::{stale, unreadable};
#[cfg(test)]
pub(crate) use origin::tests::Bucket;
pub(crate) use origin::{OpenFile, Origin, is_refusal};
pub(crate) use parallel::ordered;
pub(crate) use parts::{Parts, clash, pairs, seed_of};
pub(crate) use settings::{is_yes, yes};
pub(crate) use stage::{disjoint, touched};
pub(crate) use staging::{covers, disk, fingerprint, read_json, write_json};
pub(crate) use texts::from_texts;
pub(crate) use time::{Clock, Form, Moment, in_zone};

use csv::{Dialect, Field, Format};
use header::Order;
use open::Marks;
use staging::Staging;

use crate::transform::Transform;
use sorted_copy::{SortedCopy, blocking};

/// Files of lines, read as one table.
#[derive(Debug, Clone)]
pub struct FileSource {
    shared: Arc<Shared>,
    staging: SortedCopy<Staging>,
}

/// What every pass over the files needs.
#[derive(Debug)]
struct Shared {
    settings: CsvSettings,
    /// What is made of each row.
    transform: Option<Transform>,
    types: GivenTypes,
    format: Format,
    zone: TimeZone,
    origin: Origin,
    marks: Marks,
    state: PathBuf,
    sizes: Sizes,
}

/// How many bytes are handled at a time. Tests make them tiny, to meet every border.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Read, parsed or hashed in one go.
    chunk: usize,
    /// The smallest block.
    block: u64,
    /// Source bytes of a bucket, and bytes of a bucket that are sorted at once.
    bucket: u64,
    /// Read again and again without a thought of sorting.
    cheap: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { chunk: 4 << 20, block: 64 << 10, bucket: 32 << 20, cheap: 8 << 20 }
    }
}

impl FileSource {
    /// Checks the settings; looks at no file yet. `base_dir` is where relative paths start,
    /// `state_dir` where a sorted copy may be kept. An error of kind `Config` names the setting
    /// that is wrong.
    pub fn open(settings: CsvSettings, base_dir: &Path, state_dir: &Path) -> Result<Self> {
        Self::with(settings, None, base_dir, state_dir)
    }

    /// The same, with a transform of each row.
    pub fn transformed(
        settings: CsvSettings,
        transform: Transform,
        base_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        Self::with(settings, Some(transform), base_dir, state_dir)
    }

    /// NDJSON files: one object a line.
    pub fn ndjson(
        settings: NdjsonSettings,
        transform: Option<Transform>,
        base_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        Self::of(Format::Json, settings.into(), transform, base_dir, state_dir)
    }

    fn with(
        settings: CsvSettings,
        transform: Option<Transform>,
        base_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        let delimiter = single_byte("delimiter", settings.delimiter)?;
        let quote = single_byte("quote", settings.quote)?;
        if delimiter == quote {
            return Err(Error::config("`delimiter` and `quote` are the same character"));
        }
        if !matches!(settings.decimal, '.' | ',') || settings.decimal == settings.delimiter {
            return Err(Error::config(format!("`decimal: {:?}` cannot be used", settings.decimal))
                .hint("it is `.` or `,`, and not the delimiter"));
        }
        let format = Format::Csv(Dialect { delimiter, quote });
        Self::of(format, settings, transform, base_dir, state_dir)
    }

    fn of(
        format: Format,
        mut settings: CsvSettings,
        transform: Option<Transform>,
        base_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self> {
        let origin = settings.origin(base_dir, format.endings())?;
        let types = GivenTypes::parse(format.key(), &settings.types)?;
        let zone = given::zone(&settings.timezone)?;
        if let Some(format) = &settings.time_format {
            jiff::fmt::strtime::format(format, &jiff::Zoned::default()).map_err(|e| {
                Error::config(format!("`time_format: {format}` cannot be used")).because(e)
            })?;
        }
        let shared = Shared {
            settings,
            transform,
            types,
            format,
            zone,
            origin,
            marks: Marks::default(),
            state: state_dir.to_owned(),
            sizes: Sizes::default(),
        };
        Ok(FileSource { shared: Arc::new(shared), staging: SortedCopy::default() })
    }
}

fn single_byte(name: &str, c: char) -> Result<u8> {
    if c.is_ascii() && !matches!(c, '\n' | '\r' | '\0') {
        return Ok(c as u8);
    }
    Err(Error::config(format!("`{name}: {c:?}` is not one ASCII character"))
        .hint("a newline, a carriage return or NUL cannot be used either"))
}

impl Shared {
    fn clock(&self, form: Form) -> Clock {
        Clock::new(form, self.zone.clone(), self.settings.time_format.clone())
    }

    /// How CSV is written; the usual way where these files are not CSV.
    fn csv(&self) -> Dialect {
        match self.format {
            Format::Csv(dialect) => dialect,
            Format::Json => Dialect { delimiter: b',', quote: b'"' },
        }
    }

    /// The fields of the one record from `start` to the end; false where that is none.
    fn fields(&self, bytes: &[u8], start: usize, order: &Order, fields: &mut Vec<Field>) -> bool {
        match self.format {
            Format::Csv(dialect) => {
                fields.clear();
                let cut = dialect.cut(bytes, start, true, |f| fields.push(f));
                matches!(cut, csv::Cut::Record { .. }) && fields.len() == order.width()
            }
            Format::Json => json::cut(&bytes[start..], start, order.keys(), fields).is_ok(),
        }
    }

    /// The value of a column in a record, however it is had; none where it is NULL.
    #[inline]
    fn value<'a>(
        &self,
        bytes: &'a [u8],
        fields: &[Field],
        order: &'a Order,
        column: usize,
    ) -> Option<Cow<'a, [u8]>> {
        if let Some(part) = order.part(column) {
            return part.map(|text| text.as_bytes().into());
        }
        let field = order.field(fields, column);
        (!self.is_null(field.raw(bytes), field.quoted)).then(|| field.value(bytes, self.format))
    }

    /// Whether an unquoted or quoted field means NULL.
    #[inline]
    fn is_null(&self, raw: &[u8], quoted: bool) -> bool {
        !quoted && (raw.is_empty() || self.settings.null.iter().any(|w| w.as_bytes() == raw))
    }
}

#[async_trait]
impl Source for FileSource {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        blocking(move || {
            let (origin, settings) = (&shared.origin, &shared.settings);
            let survey = || survey::survey(&shared, &request);
            let list = settings.checksums.as_deref();
            checksums::trusted(origin, &settings.path, list, request.sample, survey)
        })
        .await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let (shared, wanted) = (Arc::clone(&self.shared), wanted.clone());
        blocking(move || examine::examine(&shared, &wanted)).await
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.origin.find(&shared.settings.path).map(Some)).await
    }

    fn is_of_files(&self) -> bool {
        true
    }

    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let mut staging = self.staging.lock().await;
        *staging = None;
        if stage::is_needed(&self.shared, &request.survey, &request.slices) {
            *staging = Some(self.build(request.clone()).await?);
        }
        Ok(())
    }

    async fn unstage(&self) -> Result<()> {
        self.staging.remove(&self.shared.state).await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let staging = self.staging_for(request).await?;
        let blocks = request.survey.overlapping(&request.interval).map(|(_, b)| b.hash.clone());
        let blocks = blocks.collect();
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        let batches = self.staging.deliver(staging, move |staging, emit| match staging {
            Some(staging) => staging.read(&shared, &request, emit),
            None => read::direct(&shared, &request, emit),
        });
        Ok(Rows { batches, blocks })
    }

    async fn first(&self, request: &ReadRequest, most: usize) -> Result<Vec<SourceBatch>> {
        if self.shared.transform.is_some() {
            return self.read(request).await?.first(most).await;
        }
        let (shared, request) = (Arc::clone(&self.shared), request.clone());
        blocking(move || first::first(&shared, &request, most)).await
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        let (shared, survey) = (Arc::clone(&self.shared), survey.clone());
        let ordinals = ordinals.to_vec();
        blocking(move || read::locate(&shared, &survey, &ordinals)).await
    }
}

impl FileSource {
    async fn build(&self, request: StageRequest) -> Result<Arc<Staging>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || stage::build(&shared, &request).map(Arc::new)).await
    }

    /// The sorted copy, if this read can use it; it is made where there is no other way.
    async fn staging_for(&self, request: &ReadRequest) -> Result<Option<Arc<Staging>>> {
        let (survey, interval) = (&request.survey, &request.interval);
        let mut staging = self.staging.lock().await;
        if let Some(staging) = &*staging
            && staging.serves(survey, interval)
        {
            return Ok(Some(Arc::clone(staging)));
        }
        let (shared, asked) = (Arc::clone(&self.shared), request.clone());
        let any = blocking(move || {
            let blocks = asked.survey.overlapping(&asked.interval).map(|(_, b)| b);
            Ok(shared.any_stream(&asked.survey, blocks))
        });
        if !any.await? {
            return Ok(None);
        }
        let (survey, columns) = (survey.clone(), request.columns.clone());
        let slices = stage::even_slices(&self.shared, &survey);
        *staging = Some(self.build(StageRequest::new(survey, columns, slices)).await?);
        Ok(staging.clone())
    }
}

#[cfg(test)]
impl FileSource {
    /// The same with files that lie elsewhere.
    fn over(self, origin: Origin) -> Self {
        let mut shared = Arc::into_inner(self.shared).expect("it was opened just now");
        shared.origin = origin;
        FileSource { shared: Arc::new(shared), ..self }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
fn given() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.csv");
    let row = |i: i64| format!("2020-01-{:02}T{:02}:00:00Z,{i},\"x\ny\"\n", i / 24 + 1, i % 24);
    let rows: String = (0..240).map(|i| row(i * 77 % 240)).collect();
    let text = format!("t,v,note\n{rows}gestern,1,x\n");
    std::fs::write(&path, &text).expect("written");
    let settings = CsvSettings { path: "*.csv".into(), ..CsvSettings::default() };
    let source = FileSource::open(settings, dir.path(), &dir.path().join("state")).expect("opened");
    crate::testkit::source_suite::Given {
        source: Arc::new(source),
        time: "t",
        change: Box::new(move || {
            std::fs::write(&path, text.replace(",7,", ",8,")).expect("written");
        }),
        _keep: dir,
    }
}

#[cfg(test)]
crate::testkit::conformance!(source: super::given);
