//! A transform over any source whose time column it passes on: the source finds the rows of an
//! interval, and they are computed on the way.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use retrofill_core::columns::{Column, Columns, Role};
use retrofill_core::connector::{
    FieldType, Pressure, ReadRequest, Rows, Source, SourceBatch, StageRequest, SurveyRequest,
};
use retrofill_core::error::{Error, Result};
use retrofill_core::examine::{Remark, Wanted};
use retrofill_core::reject::{Place, Reject};
use retrofill_core::spec::RowsSpec;
use retrofill_core::survey::{FileStamp, Survey};

use super::{Bound, Fault, Origin, Ran, Room, Transform, bind, check_kinds, fit};

/// A source whose rows a transform makes others of.
#[derive(Debug)]
pub struct Transformed {
    inner: Arc<dyn Source>,
    transform: Transform,
    /// The last survey that was asked with, and the source's own part of it.
    own: Mutex<Option<(Arc<Survey>, Arc<Survey>)>>,
}

impl Transformed {
    /// Puts the transform before the source.
    pub fn new(inner: Arc<dyn Source>, transform: Transform) -> Self {
        Transformed { inner, transform, own: Mutex::default() }
    }

    /// The column of the source that becomes the time.
    fn time(&self, name: &str) -> Result<String> {
        self.transform.passed_on(name).ok_or_else(|| {
            let what = format!("`{name}` is computed, and this source is searched by its time");
            let hint = "pass a time column of the source on, as it is or under another name; \
                        only CSV files can be searched by a computed time";
            Fault::new(what).hint(hint).into_error().about("rows.time")
        })
    }

    /// The survey as the source itself made it.
    fn own(&self, survey: &Arc<Survey>) -> Arc<Survey> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = own.as_ref().filter(|(of, _)| Arc::ptr_eq(of, survey)) {
            return Arc::clone(known);
        }
        let made = Arc::new(own_part(survey));
        *own = Some((Arc::clone(survey), Arc::clone(&made)));
        made
    }

    fn loom(&self, survey: &Survey, columns: &Columns) -> Result<Loom> {
        let fields = survey.source_columns();
        let names: Vec<_> = fields.iter().map(|f| f.name.clone()).collect();
        let wiring = self.transform.wire(&names)?;
        let bound = bind(&self.transform, &wiring, fields)?;
        let time = self.time(columns.time().source_name())?;
        Loom::new(bound, fields, &time, columns)
    }
}

fn own_part(survey: &Survey) -> Survey {
    Survey { columns: survey.source_columns().to_vec(), input: None, ..survey.clone() }
}

#[async_trait]
impl Source for Transformed {
    async fn survey(&self, request: &SurveyRequest) -> Result<Survey> {
        let time = self.time(&request.time)?;
        let own = SurveyRequest { time, types: Vec::new(), ..request.clone() };
        let survey = self.inner.survey(&own).await?;
        let names: Vec<_> = survey.columns.iter().map(|c| c.name.clone()).collect();
        let wiring = self.transform.wire(&names)?;
        wiring.check(&request.time, "rows.time")?;
        let bound = bind(&self.transform, &wiring, &survey.columns)?;
        let columns = bound.outputs.iter().map(|(name, origin)| {
            let (ty, nullable) = match origin {
                Origin::Column(index) => {
                    let column = &survey.columns[*index];
                    (column.ty, column.nullable)
                }
                Origin::Computed(program) => (program.ty, program.nullable),
            };
            if let Some(held) = request.types.iter().find(|t| t.name == *name) {
                check_kinds(name, ty, held.ty)?;
            }
            Ok(FieldType::new(name.clone(), ty, nullable))
        });
        let columns = columns.collect::<Result<_>>()?;
        let input = Some(survey.columns);
        Ok(Survey { columns, input, ..survey })
    }

    async fn stamps(&self) -> Result<Option<Vec<FileStamp>>> {
        self.inner.stamps().await
    }

    fn is_of_files(&self) -> bool {
        self.inner.is_of_files()
    }

    async fn stage(&self, request: &StageRequest) -> Result<()> {
        let loom = self.loom(&request.survey, &request.columns)?;
        let survey = Arc::new(own_part(&request.survey));
        self.inner.stage(&StageRequest { survey, columns: loom.columns, ..request.clone() }).await
    }

    async fn unstage(&self) -> Result<()> {
        self.inner.unstage().await
    }

    async fn read(&self, request: &ReadRequest) -> Result<Rows> {
        let loom = Arc::new(self.loom(&request.survey, &request.columns)?);
        let survey = self.own(&request.survey);
        let own = ReadRequest {
            interval: request.interval,
            columns: Arc::clone(&loom.columns),
            survey: Arc::clone(&survey),
        };
        let Rows { batches, blocks } = self.inner.read(&own).await?;
        let inner = Arc::clone(&self.inner);
        let woven = batches.then(move |batch| {
            let (loom, survey, inner) =
                (Arc::clone(&loom), Arc::clone(&survey), Arc::clone(&inner));
            async move {
                let given = match batch.and_then(|batch| loom.weave(batch)) {
                    Ok(given) => located(given, inner.as_ref(), &survey).await,
                    Err(error) => vec![Err(error)],
                };
                stream::iter(given)
            }
        });
        Ok(Rows { batches: woven.flatten().boxed(), blocks })
    }

    async fn locate(&self, survey: &Survey, ordinals: &[u64]) -> Result<Vec<(Place, String)>> {
        self.inner.locate(&own_part(survey), ordinals).await
    }

    async fn examine(&self, wanted: &Wanted) -> Result<Vec<Remark>> {
        let time = match self.time(&wanted.rows.time) {
            Ok(time) => time,
            Err(e) => return Ok(vec![Remark::error("transform", e.to_string())]),
        };
        let rows = RowsSpec { time, key: None, compare: None, ..wanted.rows.clone() };
        let own = Wanted { rows, reads: self.transform.reads(), ..wanted.clone() };
        let mut remarks = self.inner.examine(&own).await?;
        // The other columns are those that the transform gives.
        let names = self.transform.names();
        let lacks = |name: &&String| names.as_ref().is_some_and(|n| !n.contains(&name.as_str()));
        remarks.extend(wanted.named().filter(lacks).map(|name| {
            Remark::error("transform", format!("the transform gives no column `{name}`"))
        }));
        Ok(remarks)
    }

    async fn grants(&self, role: Option<&str>, wanted: &Wanted) -> Result<Vec<String>> {
        self.inner.grants(role, wanted).await
    }

    async fn pressure(&self) -> Result<Pressure> {
        self.inner.pressure().await
    }
}

/// A batch, and the rows that failed: their ordinals, columns and reasons.
type Given = (SourceBatch, Vec<(u64, Option<String>, String)>);

/// Adds place and text of the rows that failed.
async fn located(
    given: Vec<Given>,
    inner: &dyn Source,
    survey: &Survey,
) -> Vec<Result<SourceBatch>> {
    let mut out = Vec::with_capacity(given.len());
    for (mut batch, failed) in given {
        if !failed.is_empty() {
            let ordinals: Vec<_> = failed.iter().map(|(ordinal, ..)| *ordinal).collect();
            match inner.locate(survey, &ordinals).await {
                Ok(places) => {
                    let places = places.into_iter().zip(failed);
                    batch.rejects.extend(places.map(|((place, text), (_, column, reason))| {
                        Reject { place, column, reason, text }
                    }));
                }
                Err(error) => {
                    out.push(Err(error));
                    return out;
                }
            }
        }
        out.push(Ok(batch));
    }
    out
}

/// Makes the plan's rows of the source's.
struct Loom {
    bound: Bound,
    /// What is read of the source.
    columns: Arc<Columns>,
    /// The plan's columns.
    plan: Columns,
}

impl Loom {
    fn new(bound: Bound, fields: &[FieldType], time: &str, plan: &Columns) -> Result<Self> {
        let passed_on = bound.outputs.iter().filter_map(|(_, origin)| match origin {
            Origin::Column(index) => Some(*index),
            Origin::Computed(_) => None,
        });
        let mut read: Vec<usize> = bound.inputs.iter().copied().chain(passed_on).collect();
        read.sort_unstable();
        read.dedup();
        let column = |index: usize| {
            let FieldType { name, ty, .. } = &fields[index];
            let role = if name == time { Role::Time } else { Role::Value };
            Column { name: name.clone(), ty: *ty, role, position: index as u32, source: None }
        };
        let columns = Arc::new(Columns::new(read.into_iter().map(column).collect())?);
        Ok(Loom { bound, columns, plan: plan.clone() })
    }

    fn weave(&self, batch: SourceBatch) -> Result<Vec<Given>> {
        let SourceBatch { rows, ordinals, rejects, filtered } = batch;
        let inputs = self.inputs(&rows)?;
        let stays = self.bound.stays(&inputs)?;
        let mut failed = Vec::new();
        for (row, stays) in stays.iter().enumerate() {
            if let Err(reason) = stays {
                failed.push((ordinals[row], None, reason.clone()));
            }
        }
        let left_out = stays.iter().filter(|s| **s == Ok(false)).count() as u64;
        let stays: Vec<bool> = stays.iter().map(|s| *s == Ok(true)).collect();
        let ordinals: Vec<u64> =
            ordinals.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(o, _)| *o).collect();
        let rows = kept(&rows, stays)?;
        let mut out = Vec::new();
        self.rows(&rows, &ordinals, &mut out)?;
        if let Some((first, more)) = out.first_mut() {
            first.rejects = rejects;
            first.filtered = filtered + left_out;
            more.append(&mut failed);
        }
        Ok(out)
    }

    /// Rows that stay, in as many batches as memory asks for.
    fn rows(&self, rows: &RecordBatch, ordinals: &[u64], out: &mut Vec<Given>) -> Result<()> {
        let inputs = self.inputs(rows)?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.plan.len());
        let mut failed: Vec<Option<(String, String)>> = vec![None; rows.num_rows()];
        let mut room = Room::default();
        for column in &self.plan {
            let name = column.source_name();
            let origin = self.bound.output(name);
            let origin = origin.ok_or_else(|| Error::bug(format!("no column `{name}`")))?;
            let ran = match origin {
                Origin::Column(index) => {
                    Some(Ran { values: self.passed_on(rows, *index)?, failed: Vec::new() })
                }
                Origin::Computed(program) => program.run(&inputs, &mut room)?,
            };
            let Some(ran) = ran else {
                let half = rows.num_rows() / 2;
                self.rows(&rows.slice(0, half), &ordinals[..half], out)?;
                let rest = rows.num_rows() - half;
                return self.rows(&rows.slice(half, rest), &ordinals[half..], out);
            };
            let ran = fit(ran, column.ty)?;
            for (row, reason) in ran.failed {
                failed[row].get_or_insert_with(|| (name.to_owned(), reason));
            }
            arrays.push(ran.values);
        }
        let made = RecordBatch::try_new(self.plan.arrow_schema(), arrays).map_err(broken)?;
        let good: Vec<bool> = failed.iter().map(Option::is_none).collect();
        let left = ordinals.iter().zip(&good).filter(|(_, good)| **good).map(|(o, _)| *o);
        let ordinals_left = left.collect();
        let refused = failed.into_iter().zip(ordinals).filter_map(|(failed, ordinal)| {
            failed.map(|(column, reason)| (*ordinal, Some(column), reason))
        });
        let refused = refused.collect();
        let rows = kept(&made, good)?;
        let batch = SourceBatch { rows, ordinals: ordinals_left, rejects: Vec::new(), filtered: 0 };
        out.push((batch, refused));
        Ok(())
    }

    fn inputs(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let arrays = self.bound.inputs.iter().map(|index| self.passed_on(rows, *index));
        let options =
            arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let schema = Arc::clone(&self.bound.schema);
        RecordBatch::try_new_with_options(schema, arrays.collect::<Result<_>>()?, &options)
            .map_err(broken)
    }

    /// The column of the source with this index.
    fn passed_on(&self, rows: &RecordBatch, index: usize) -> Result<ArrayRef> {
        let at = self.columns.iter().position(|c| c.position as usize == index);
        let at = at.ok_or_else(|| Error::bug(format!("column {index} was not read")))?;
        Ok(Arc::clone(rows.column(at)))
    }
}

fn kept(rows: &RecordBatch, stays: Vec<bool>) -> Result<RecordBatch> {
    if stays.iter().all(|stays| *stays) {
        return Ok(rows.clone());
    }
    filter_record_batch(rows, &BooleanArray::from(stays)).map_err(broken)
}

fn broken(e: ArrowError) -> Error {
    Error::bug("rows of a transform cannot be put together").because(e)
}

#[cfg(test)]
fn given() -> crate::testkit::source_suite::Given<tempfile::TempDir> {
    use crate::files::{CsvSettings, FileSource};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a.csv");
    let row = |i: i64| format!("2020-01-{:02}T{:02}:00:00Z,{i}\n", i / 24 + 1, i % 24);
    let rows: String = (0..240).map(|i| row(i * 77 % 240)).collect();
    let text = format!("at,v\n{rows}gestern,1\n");
    std::fs::write(&path, &text).expect("written");
    let settings = CsvSettings { path: "*.csv".into(), ..CsvSettings::default() };
    let inner = FileSource::open(settings, dir.path(), &dir.path().join("state")).expect("opened");
    let sql = "SELECT at AS t, v * 2 AS w, v FROM source WHERE v % 10 <> 3";
    let transform = Transform::parse(sql).expect("well formed");
    crate::testkit::source_suite::Given {
        source: Arc::new(Transformed::new(Arc::new(inner), transform)),
        time: "t",
        change: Box::new(move || {
            std::fs::write(&path, text.replace(",7\n", ",8\n")).expect("written");
        }),
        _keep: dir,
    }
}

#[cfg(test)]
crate::testkit::conformance!(source: super::given);
