//! The contract of a source, as tests. What a source must hold for them: at least 100 rows over
//! at least three days, in several blocks, with lines that belong to no slice or without.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use jiff::Timestamp;
use retrofill_core::columns::{Column, Columns, Role};
use retrofill_core::connector::{Pulse, ReadRequest, Source, StageRequest, SurveyRequest};
use retrofill_core::digest::{Digest, Hasher};
use retrofill_core::error::{Error, Kind};
use retrofill_core::examine::{End, Verdict, Wanted};
use retrofill_core::interval::Interval;
use retrofill_core::spec::{Mode, OnDuplicate, OnEmptySource, RowsSpec, WriteSpec};
use retrofill_core::survey::Survey;

const SALT: [u8; 16] = [3; 16];

/// A source that is open, the name of its time column, and what changes its content.
pub(crate) struct Given<K> {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) time: &'static str,
    pub(crate) change: Box<dyn Fn()>,
    /// Keeps temporary directories alive.
    pub(crate) _keep: K,
}

async fn surveyed<K>(given: &Given<K>) -> (Arc<Survey>, Arc<Columns>) {
    let request = SurveyRequest { time: given.time.into(), ..SurveyRequest::default() };
    let survey = given.source.survey(&request).await.expect("surveyed");
    let column = |(i, f): (usize, &retrofill_core::connector::FieldType)| Column {
        name: f.name.clone(),
        ty: f.ty,
        role: if f.name == given.time { Role::Time } else { Role::Value },
        position: i as u32,
        source: None,
    };
    let list = survey.columns.iter().enumerate().map(column).collect();
    (Arc::new(survey), Arc::new(Columns::new(list).expect("well formed")))
}

/// Digest and ordinals of the rows of an interval, and how many rows were left out.
async fn read<K>(
    given: &Given<K>,
    (survey, columns): &(Arc<Survey>, Arc<Columns>),
    interval: Interval,
) -> (Digest, Vec<u64>, u64) {
    let request = ReadRequest { interval, columns: columns.clone(), survey: survey.clone() };
    let mut rows = given.source.read(&request).await.expect("readable");
    let (mut digest, mut ordinals, mut left_out) = (Digest::default(), Vec::new(), 0);
    while let Some(batch) = rows.batches.next().await {
        let batch = batch.expect("readable");
        assert_eq!(batch.rows.num_rows(), batch.ordinals.len());
        assert_eq!(batch.rows.schema(), columns.arrow_schema());
        for hashes in Hasher::new(columns, &SALT).hash(&batch.rows).expect("hashed") {
            digest.add_row(&hashes);
        }
        ordinals.extend(batch.ordinals);
        left_out += batch.filtered;
    }
    (digest, ordinals, left_out)
}

fn all(survey: &Survey) -> Interval {
    let (min, max) = survey.time_range().expect("there are rows");
    let end = Timestamp::from_nanosecond(max.as_nanosecond() + 1).expect("in the calendar");
    Interval::new(min, end).expect("not empty")
}

/// Cuts an interval into pieces of unequal length.
fn pieces(interval: Interval, n: i128) -> Vec<Interval> {
    let start = interval.start().as_nanosecond();
    let at = |i: i128| {
        let t = start + interval.nanoseconds() * i * i / (n * n);
        Timestamp::from_nanosecond(t).expect("in the calendar")
    };
    (0..n).filter_map(|i| Interval::new(at(i), at(i + 1)).ok()).collect()
}

pub(crate) async fn slices_add_up<K>(given: &Given<K>) {
    let known = surveyed(given).await;
    let whole = all(&known.0);
    let (digest, mut ordinals, left_out) = read(given, &known, whole).await;
    let count = digest.count + left_out;
    assert_eq!(count, known.0.rows, "the survey counted other rows than are read");
    let (mut sum, mut parts, mut left_out_of_parts) = (Digest::default(), Vec::new(), 0);
    for piece in pieces(whole, 13) {
        let (digest, ordinals, left_out) = read(given, &known, piece).await;
        sum.add(&digest);
        parts.extend(ordinals);
        left_out_of_parts += left_out;
    }
    assert_eq!(left_out_of_parts, left_out);
    assert!(sum.matches(&digest), "{sum:?} is not {digest:?}");
    ordinals.sort_unstable();
    parts.sort_unstable();
    assert_eq!(parts, ordinals, "a row has another ordinal in another slice");
    assert!(ordinals.windows(2).all(|w| w[0] < w[1]), "two rows share an ordinal");
}

/// Asks for a copy of these slices, with nobody waiting.
pub(crate) fn to_stage(survey: &Survey, columns: &Columns, slices: &[Interval]) -> StageRequest {
    StageRequest::new(Arc::new(survey.clone()), Arc::new(columns.clone()), slices.to_vec())
}

pub(crate) async fn staged_is_the_same<K>(given: &Given<K>) {
    let known = surveyed(given).await;
    let slices = pieces(all(&known.0), 7);
    let mut direct = HashMap::new();
    for slice in &slices {
        direct.insert(*slice, read(given, &known, *slice).await);
    }
    let asked = to_stage(&known.0, &known.1, &slices);
    let refuse = |_, _| Err(Error::new(Kind::Stopped, "nobody waits"));
    let unwanted = StageRequest { pulse: Pulse::new(refuse), ..asked.clone() };
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let pulse = Pulse::new(move |done, all| {
        tell.lock().expect("no panic").push((done, all));
        Ok(())
    });
    // A source that sorts nothing tells nothing, and then cannot be stopped either.
    let stopped = given.source.stage(&unwanted).await.map_err(|e| e.kind());
    given.source.stage(&StageRequest { pulse, ..asked }).await.expect("staged");
    let told = told.lock().expect("no panic").clone();
    assert_eq!(stopped, if told.is_empty() { Ok(()) } else { Err(Kind::Stopped) });
    assert!(told.is_sorted() && told.iter().all(|(done, all)| done <= all), "{told:?}");
    for slice in &slices {
        let (digest, mut ordinals, left_out) = read(given, &known, *slice).await;
        let (expected, mut wanted, wanted_out) = direct[slice].clone();
        assert_eq!(left_out, wanted_out, "{slice}");
        assert!(digest.matches(&expected), "{slice}");
        ordinals.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(ordinals, wanted, "{slice}");
    }
    given.source.unstage().await.expect("cleaned up");
}

pub(crate) async fn rows_can_be_located<K>(given: &Given<K>) {
    let known = surveyed(given).await;
    let (_, ordinals, _) = read(given, &known, all(&known.0)).await;
    let some: Vec<_> = ordinals.iter().step_by(7).copied().collect();
    let places = given.source.locate(&known.0, &some).await.expect("located");
    assert_eq!(places.len(), some.len());
    assert!(places.iter().all(|(place, text)| !place.file.is_empty() && !text.is_empty()));
    let mut offsets: Vec<_> = places.iter().map(|(p, _)| (p.file.clone(), p.offset)).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), some.len(), "two rows stand in one place");
}

pub(crate) async fn a_change_is_stale<K>(given: &Given<K>) {
    let known = surveyed(given).await;
    (given.change)();
    let request =
        ReadRequest { interval: all(&known.0), columns: known.1.clone(), survey: known.0.clone() };
    let error = match given.source.read(&request).await {
        Err(error) => error,
        Ok(mut rows) => loop {
            match rows.batches.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("changed rows were read as if nothing had happened"),
            }
        },
    };
    assert_eq!(error.kind(), Kind::Stale, "{error}");
}

/// To read these columns.
pub(crate) fn wanted(time: &str, key: &str) -> Wanted {
    Wanted {
        end: End::Source,
        rows: RowsSpec {
            time: time.into(),
            key: Some(vec![key.into()]),
            compare: None,
            on_duplicate: OnDuplicate::Reject,
        },
        write: WriteSpec {
            mode: Mode::FillMissing,
            on_empty_source: OnEmptySource::Fail,
            scope: None,
            min_keep: None,
            live_writers: None,
            lock: None,
        },
        after: Vec::new(),
        reads: Vec::new(),
    }
}

pub(crate) async fn what_is_not_there_is_found<K>(given: &Given<K>) {
    let (_, columns) = surveyed(given).await;
    let last = columns.iter().last().expect("there are columns").name.clone();
    let wrong = async |time: &str, key: &str| {
        let remarks = given.source.examine(&wanted(time, key)).await.expect("can be looked at");
        assert!(!remarks.is_empty());
        let errors = remarks.into_iter().filter(|r| r.verdict == Verdict::Error);
        errors.map(|r| r.found).collect::<Vec<_>>()
    };
    assert_eq!(wrong(given.time, &last).await, [""; 0]);
    for (time, key) in [("nowhere", last.as_str()), (given.time, "nowhere")] {
        let found = wrong(time, key).await;
        assert!(found.iter().any(|found| found.contains("`nowhere`")), "{found:?}");
    }
}
