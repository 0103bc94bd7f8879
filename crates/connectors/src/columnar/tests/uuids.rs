//! Identifiers that a file marks as UUIDs.

use std::collections::HashMap;

use arrow::array::FixedSizeBinaryArray;
use arrow::datatypes::{Field, Schema as ArrowSchema};

use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use super::*;

/// Parquet has a mark of its own.
fn put_marked(path: &Path, rows: &RecordBatch) {
    let schema = "message m { required int64 t (TIMESTAMP(MICROS, true)); \
                  required fixed_len_byte_array(16) id (UUID); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let options = ArrowWriterOptions::new()
        .with_parquet_schema(SchemaDescriptor::new(schema))
        .with_skip_arrow_metadata(true);
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, rows.schema(), options).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn what_is_marked_so_is_a_uuid() {
    let id: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    let ids: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_iter([id, [0xff; 16]].into_iter()).unwrap());
    let times = hours([0, 1]);
    for (format, mark, want) in [
        (Format::Arrow, Some(("ARROW:extension:name", "arrow.uuid")), ColumnType::Uuid),
        (Format::Arrow, None, ColumnType::Bytes),
        (Format::Parquet, None, ColumnType::Uuid),
        (Format::Avro, Some(("logicalType", "uuid")), ColumnType::Uuid),
    ] {
        let marks: HashMap<_, _> = mark.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let fields = vec![
            Field::new("t", times.data_type().clone(), false),
            Field::new("id", ids.data_type().clone(), false).with_metadata(marks),
        ];
        let schema = Arc::new(ArrowSchema::new(fields));
        let rows = RecordBatch::try_new(schema, vec![Arc::clone(&times), Arc::clone(&ids)]);
        let dir = tempfile::tempdir().unwrap();
        let put: Writer = match format {
            Format::Parquet => put_marked,
            Format::Arrow => put_arrow,
            Format::Avro => put_avro,
        };
        put(&dir.path().join(format!("a.{}", format.key())), &rows.unwrap());
        let path = format!("*.{}", format.key());
        let settings = ColumnarSettings { path, ..Default::default() };
        let state = dir.path().join(".state");
        let source = ColumnarSource::open(format, settings, dir.path(), &state).unwrap();
        let request = SurveyRequest { time: "t".into(), ..SurveyRequest::default() };
        let survey = wait(source.survey(&request)).unwrap();
        assert_eq!(type_of(&survey, "id"), want, "{format:?}");
        let got = wait(read(&source, &survey, &columns(&survey), always())).unwrap().rows;
        let held = arrow::compute::cast(&got["id"], &arrow::datatypes::DataType::Binary).unwrap();
        let held: Vec<_> = held.as_binary::<i32>().iter().flatten().collect();
        assert_eq!(held, [&id[..], &[0xff; 16]], "{format:?}");
        if want == ColumnType::Uuid {
            let texts = with(&columns(&survey), "id", ColumnType::Text);
            let got = wait(read(&source, &survey, &texts, always())).unwrap().rows;
            let texts: Vec<_> = got["id"].as_string::<i32>().iter().flatten().collect();
            let ones = "ffffffff-ffff-ffff-ffff-ffffffffffff";
            assert_eq!(texts, ["01020304-0506-0708-090a-0b0c0d0e0f10", ones], "{format:?}");
        }
    }
}
