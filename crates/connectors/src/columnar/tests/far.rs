//! The same files in a store: the contract holds there, too.

use super::*;
use crate::files::Bucket;
use crate::testkit::source_suite::Given;

fn far(format: Format, near: Given<tempfile::TempDir>) -> Given<tempfile::TempDir> {
    let Given { time, change, _keep: keep, .. } = near;
    let name = format!("a.{}", format.key());
    let (bucket, file) = (Bucket::new(), keep.path().join(&name));
    let put = move |bucket: &Bucket| bucket.put(&name, std::fs::read(&file).unwrap());
    put(&bucket);
    let path = format!("s3://archive/*.{}", format.key());
    let settings = ColumnarSettings { path, ..Default::default() };
    let (dir, state) = (keep.path(), keep.path().join(".state"));
    let source = ColumnarSource::open(format, settings, dir, &state).unwrap();
    let shared = Arc::into_inner(source.shared).unwrap();
    let sizes = Sizes { cheap: 0, run: 20_000 };
    let shared = Shared { sizes, origin: bucket.origin(), ..shared };
    let source = Arc::new(ColumnarSource { shared: Arc::new(shared), sorted: source.sorted });
    let change = Box::new(move || {
        change();
        put(&bucket);
    });
    Given { source, time, change, _keep: keep }
}

fn parquet() -> Given<tempfile::TempDir> {
    far(Format::Parquet, given())
}

fn arrow() -> Given<tempfile::TempDir> {
    far(Format::Arrow, given_arrow())
}

fn avro() -> Given<tempfile::TempDir> {
    far(Format::Avro, given_avro())
}

mod of_parquet {
    crate::testkit::conformance!(source: super::super::parquet);
}

mod of_arrow {
    crate::testkit::conformance!(source: super::super::arrow);
}

mod of_avro {
    crate::testkit::conformance!(source: super::super::avro);
}
