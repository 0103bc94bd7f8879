//! Data files and log entries of other writers.

use arrow::array::{ArrayRef, LargeStringArray, TimestampNanosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use retrofill_core::connector::{Source as _, SurveyRequest, Target as _};
use retrofill_core::error::Kind;
use serde_json::json;

use super::*;

/// Puts a file of the table into the log without statistics.
fn add(dir: &Path, name: &str) {
    let size = std::fs::metadata(dir.join("table").join(name)).unwrap().len();
    let add = json!({ "add": {
        "path": name.replace(' ', "%20"), "partitionValues": {}, "size": size,
        "modificationTime": 0, "dataChange": true,
    }});
    foreign_entry(dir, &[add]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_arrow_types_and_missing_columns_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    // Nanoseconds before 1970, another text type, no `value`, a row without a time.
    let times = [Some(-1), Some(0), None, Some(HOUR * 1_000 - 1), Some(HOUR * 1_000)];
    let time: ArrayRef = Arc::new(TimestampNanosecondArray::from(times.to_vec()));
    let text: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b", "c", "d", "e"]));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("time", time, true),
        ("extra", text.clone(), true),
        ("series", text, true),
    ])
    .unwrap();
    let path = dir.path().join("table/other file.parquet");
    let file = std::fs::File::create(&path).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    add(dir.path(), "other file.parquet");

    let b = (0, Some("b".to_owned()), None);
    let d = (HOUR - 1, Some("d".to_owned()), None);
    assert_eq!(held(&target, 0).await.unwrap(), [b, d]);
    assert_eq!(held(&target, -1).await.unwrap(), [(-1, Some("a".to_owned()), None)]);
    assert_eq!(held(&target, 1).await.unwrap(), [(HOUR, Some("e".to_owned()), None)]);
    let request = SurveyRequest { time: "time".into(), ..SurveyRequest::default() };
    let survey = target.survey(&request).await.unwrap();
    assert_eq!((survey.rows, survey.unplaced), (4, 1));
    assert_eq!(survey.blocks[0].min.as_nanosecond(), -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_96_bits_hold_every_year() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let schema = "message m { optional int96 time; optional binary series (UTF8); }";
    let path = dir.path().join("table/old.parquet");
    let mut writer = SerializedFileWriter::new(
        std::fs::File::create(path).unwrap(),
        Arc::new(parse_message_type(schema).unwrap()),
        Arc::new(WriterProperties::builder().build()),
    )
    .unwrap();
    // 1970-01-01T00:00:00.000005 and 3000-01-01T00:00:00, as Julian days.
    let mut values = [Int96::new(), Int96::new()];
    values[0].set_data(5_000, 0, 2_440_588);
    values[1].set_data(0, 0, 2_816_788);
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&values, Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let text = [ByteArray::from("a"), ByteArray::from("b")];
    column.typed::<ByteArrayType>().write_batch(&text, Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    add(dir.path(), "old.parquet");

    assert_eq!(held(&target, 0).await.unwrap(), [(5, Some("a".to_owned()), None)]);
    let year_3000 = 376_200 * 24;
    let late = held(&target, year_3000).await.unwrap();
    assert_eq!(late, [(year_3000 * HOUR, Some("b".to_owned()), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_come_later_stop_the_load() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let slice = slice(0, 1);
    let waiting = sealed(&target, &slice, &rows(0, 3)).await;
    let protocol = json!({ "protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"],
    }});
    foreign_entry(dir.path(), &[protocol]);
    let error = refused(waiting.commit(receipt(&slice)).await);
    assert!(error.kind() == Kind::Config, "{error}");
    assert!(error.message().contains("`deletionVectors`"), "{error}");
    let error = target.table().await.unwrap_err();
    assert!(error.message().contains("`deletionVectors`"), "{error}");
    assert!(data_files(dir.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_must_not_be_null_refuses_single_rows() {
    let dir = tempfile::tempdir().unwrap();
    let target = prepared(dir.path()).await;
    let first = dir.path().join("table/_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&first).unwrap();
    let strict = text.replacen(
        r#"{\"metadata\":{},\"name\":\"value\",\"nullable\":true"#,
        r#"{\"metadata\":{},\"name\":\"value\",\"nullable\":false"#,
        1,
    );
    assert_ne!(strict, text);
    std::fs::write(&first, strict).unwrap();
    let mut load = target.begin(&slice(0, 1)).await.unwrap();
    let mut list = rows(0, 4);
    list[1].2 = None;
    let refused = load.write(batch(&list)).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].row, refused[0].column.as_deref()), (1, Some("value")));
    load.seal().await.unwrap();
    let mut back = Kept::default();
    load.read_back(&mut back).await.unwrap();
    list.remove(1);
    assert_eq!(back.sorted(), Kept(list).sorted());
}
