//! What sources and targets cost, through the traits that the program drives them by: survey and
//! reading of CSV, Parquet both ways, and rows as PostgreSQL is sent them.

#![allow(missing_docs, reason = "criterion makes a public function of the group")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use retrofill_connectors::postgres::encoded;
use retrofill_connectors::{open_source, open_target};
use retrofill_core::columns::{Column, ColumnType, Columns, Role};
use retrofill_core::connector::{
    Manners, ReadRequest, RowSink, SliceLoad, Source, SurveyRequest, Target,
};
use retrofill_core::error::Result;
use retrofill_core::id::{PlanId, SliceId};
use retrofill_core::interval::Interval;
use retrofill_core::spec::{Endpoint, Mode};
use retrofill_core::survey::Survey;
use serde_json::json;
use tokio::runtime::Runtime;
use xtask::metrics::Metrics;

const ROWS: u64 = 200_000;

fn endpoint(connector: &str, path: &Path) -> Endpoint {
    Endpoint {
        connector: connector.into(),
        settings: json!({ "path": path }),
        identity: json!(null),
        label: String::new(),
    }
}

/// A source of metrics that is surveyed.
struct Surveyed {
    source: Arc<dyn Source>,
    survey: Arc<Survey>,
    columns: Arc<Columns>,
}

impl Surveyed {
    fn open(runtime: &Runtime, connector: &str, path: &Path) -> Surveyed {
        let dir = path.parent().expect("a file lies somewhere");
        let source = open_source(&endpoint(connector, path), None, dir, dir).expect("opened");
        let survey = runtime.block_on(source.survey(&wanted())).expect("surveyed");
        let column = |(i, f): (usize, &retrofill_core::connector::FieldType)| Column {
            name: f.name.clone(),
            ty: f.ty,
            role: if f.name == "ts" { Role::Time } else { Role::Value },
            position: i as u32,
            source: None,
        };
        let columns = survey.columns.iter().enumerate().map(column).collect();
        let columns = Arc::new(Columns::new(columns).expect("well formed"));
        Surveyed { source, survey: Arc::new(survey), columns }
    }

    async fn rows(&self) -> Vec<RecordBatch> {
        let (columns, survey) = (self.columns.clone(), self.survey.clone());
        let request = ReadRequest { interval: always(), columns, survey };
        let rows = self.source.read(&request).await.expect("readable");
        let rows = rows.batches.map_ok(|batch| batch.rows);
        rows.try_collect().await.expect("readable")
    }
}

fn wanted() -> SurveyRequest {
    SurveyRequest { time: "ts".into(), ..SurveyRequest::default() }
}

fn always() -> Interval {
    Interval::parse("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z").expect("a year")
}

fn csv(c: &mut Criterion) {
    let (runtime, dir) = (Runtime::new().expect("threads"), tempfile::tempdir().expect("a place"));
    let path = dir.path().join("metrics.csv");
    Metrics::new(ROWS, 100).write(&path).expect("written");
    let csv = Surveyed::open(&runtime, "csv", &path);
    let size = path.metadata().expect("it is there").len();
    let mut group = c.benchmark_group("csv");
    group.throughput(Throughput::Bytes(size));
    group.bench_function("survey", |b| {
        b.iter(|| runtime.block_on(csv.source.survey(&wanted())).expect("surveyed"));
    });
    group.bench_function("read", |b| b.iter(|| runtime.block_on(csv.rows())));
    group.finish();
    typed(c, &runtime, &csv, dir.path());
}

/// What is done with the rows once they are typed.
fn typed(c: &mut Criterion, runtime: &Runtime, csv: &Surveyed, dir: &Path) {
    let rows = runtime.block_on(csv.rows());
    copy(c, &csv.columns, &rows);
    let path = dir.join("metrics.parquet");
    let file = File::create(&path).expect("a place");
    let mut writer = ArrowWriter::try_new(file, rows[0].schema(), None).expect("begun");
    for batch in &rows {
        writer.write(batch).expect("written");
    }
    writer.close().expect("written");
    let packed = Surveyed::open(runtime, "parquet", &path);
    let target = open_target(&endpoint("delta", &dir.join("table")), dir).expect("opened");
    runtime.block_on(target.prepare(&csv.columns)).expect("created");
    let mut group = c.benchmark_group("parquet");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("read", |b| b.iter(|| runtime.block_on(packed.rows())));
    group.bench_function("write", |b| {
        let write = |rows| runtime.block_on(written(target.as_ref(), &csv.columns, rows));
        b.iter_batched(|| rows.clone(), write, BatchSize::LargeInput);
    });
    group.finish();
}

/// Writes a slice into a Delta table, makes it durable, and takes it back.
async fn written(target: &dyn Target, columns: &Arc<Columns>, rows: Vec<RecordBatch>) {
    let interval = always();
    let slice = SliceLoad {
        plan: PlanId::new("0123456789abcdef0123456789abcdef"),
        slice: SliceId::of(interval.start()),
        generation: 1,
        attempt: 1,
        interval,
        columns: columns.clone(),
        mode: Mode::FillMissing,
        repair: false,
        manners: Manners::default(),
    };
    let mut load = target.begin(&slice).await.expect("begun");
    load.held(&mut Nowhere).await.expect("it is empty");
    for batch in rows {
        load.write(batch).await.expect("written");
    }
    load.seal().await.expect("durable");
    load.abort().await.expect("gone");
}

/// Takes rows and keeps none.
struct Nowhere;

#[async_trait]
impl RowSink for Nowhere {
    async fn push(&mut self, _: RecordBatch) -> Result<()> {
        Ok(())
    }
}

fn copy(c: &mut Criterion, columns: &Columns, rows: &[RecordBatch]) {
    let name = |column: &Column| match column.ty {
        ColumnType::Instant { .. } => "timestamptz",
        ColumnType::Integer { .. } => "int8",
        ColumnType::Float { .. } => "float8",
        _ => "text",
    };
    let types: Vec<_> = columns.iter().map(name).collect();
    let mut group = c.benchmark_group("copy");
    group.throughput(Throughput::Elements(ROWS));
    let mut out = Vec::new();
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            for batch in rows {
                assert_eq!(encoded(&types, batch, &mut out).expect("encoded"), 0);
            }
            out.len()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = csv
}
criterion_main!(benches);
