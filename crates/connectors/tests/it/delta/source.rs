//! A Delta table as a source.

use futures::StreamExt as _;
use retrofill_core::connector::{ReadRequest, Source as _, SourceBatch, SurveyRequest};
use retrofill_core::error::Kind;
use retrofill_core::survey::Survey;

use super::*;

async fn survey(target: &DeltaTarget) -> Survey {
    let request = SurveyRequest { time: "time".into(), ..SurveyRequest::default() };
    target.survey(&request).await.unwrap()
}

async fn read(target: &DeltaTarget, hour: i64, survey: Survey) -> Result<Vec<SourceBatch>> {
    let request =
        ReadRequest { interval: interval(hour), columns: columns(), survey: Arc::new(survey) };
    let rows = target.read(&request).await?;
    rows.batches.collect::<Vec<_>>().await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_blocks_and_rows_have_places() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 20_000)).await;
    load(&target, 1, &rows(1, 7)).await;
    let survey = survey(&target).await;
    assert_eq!((survey.rows, survey.files.len(), survey.blocks.len()), (20_007, 2, 2));
    let (min, max) = survey.time_range().unwrap();
    assert_eq!((min.as_microsecond(), max.as_microsecond()), (0, HOUR + 6_000));

    let batches = read(&target, 1, survey.clone()).await.unwrap();
    let got: Vec<Row> = batches.iter().flat_map(|b| unbatch(&b.rows)).collect();
    assert_eq!(got, rows(1, 7));
    let plain: Vec<Row> = read(&target, 1, Survey::default())
        .await
        .unwrap()
        .iter()
        .flat_map(|b| unbatch(&b.rows))
        .collect();
    assert_eq!(plain, got);

    let all = read(&target, 0, survey.clone()).await.unwrap();
    let last = all.last().unwrap();
    assert_eq!(all.iter().map(|b| b.rows.num_rows()).sum::<usize>(), 20_000);
    let ordinals = [*last.ordinals.last().unwrap(), batches[0].ordinals[2]];
    let located = target.locate(&survey, &ordinals).await.unwrap();
    assert_eq!(located[0].0.offset, 19_999);
    assert_eq!(located[0].1, "s1,1970-01-01T00:00:19.999Z,19999.0");
    assert_eq!(located[1].1, "s2,1970-01-01T01:00:00.002Z,2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changed_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    load(&target, 0, &rows(0, 5)).await;
    let mut survey = survey(&target).await;
    load(&target, 1, &rows(1, 5)).await;
    assert_eq!(read(&target, 0, survey.clone()).await.unwrap().len(), 1);
    survey.blocks[0].hash = "other".into();
    assert_eq!(read(&target, 0, survey).await.unwrap_err().kind(), Kind::Stale);
}
