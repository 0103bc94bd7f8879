//! Against a store in memory, which holds conditions as the real ones do.

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use retrofill_core::error::Kind;

use super::address::Address;
use super::fault::Faults;
use super::store::{Coming, Objects};
use super::*;
use crate::files::{CsvSettings, FileSource};
use crate::testkit::source_suite::Given;

const BUCKET: &str = "s3://archive/";

/// A bucket in memory, and the origin over it.
#[derive(Clone)]
pub(crate) struct Bucket(Arc<InMemory>);

impl Bucket {
    pub(crate) fn new() -> Self {
        Bucket(Arc::new(InMemory::new()))
    }

    pub(crate) fn origin(&self) -> Origin {
        let address = Address::parse(BUCKET).unwrap();
        let store = Arc::clone(&self.0) as Arc<dyn ObjectStore>;
        Origin::Objects(Arc::new(Objects::over(store, &address, Faults::new(&address))))
    }

    pub(crate) fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let (store, key, bytes) = (Arc::clone(&self.0), Path::from(key), bytes.into());
        let put = async move { store.put(&key, bytes.into()).await };
        Coming::start(put).unwrap().wait().unwrap().unwrap();
    }

    fn delete(&self, key: &str) {
        let (store, key) = (Arc::clone(&self.0), Path::from(key));
        let gone = async move { store.delete(&key).await };
        Coming::start(gone).unwrap().wait().unwrap().unwrap();
    }
}

fn names(bucket: &Bucket, pattern: &str) -> Vec<String> {
    let found = bucket.origin().find(&format!("{BUCKET}{pattern}")).unwrap();
    found.into_iter().map(|f| f.path.strip_prefix(BUCKET).unwrap().to_owned()).collect()
}

/// Content whose bytes tell their place.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn patterns() {
    let bucket = Bucket::new();
    for key in ["d/2.csv", "d/10.csv", "d/e/3.csv", "d/e/3.tsv", "d/e/.hidden/4.csv", "d2/1.csv"] {
        bucket.put(key, "t\n");
    }
    bucket.put("d/e", "");
    assert_eq!(names(&bucket, "d/*.csv"), ["d/10.csv", "d/2.csv"]);
    assert_eq!(names(&bucket, "d/{2,10}.csv"), ["d/10.csv", "d/2.csv"]);
    assert_eq!(names(&bucket, "d/**/3.{csv,tsv}"), ["d/e/3.csv", "d/e/3.tsv"]);
    assert_eq!(names(&bucket, "d*/1.csv"), ["d2/1.csv"]);
    assert_eq!(names(&bucket, "d/2.csv"), ["d/2.csv"]);
    let all = Address::parse("s3://archive/d/").unwrap().spread(&["csv", "csv.{gz,xz}"]);
    let all = all.to_string();
    assert_eq!(names(&bucket, &all[BUCKET.len()..]), ["d/10.csv", "d/2.csv", "d/e/3.csv"]);
    // What marks a directory is no file.
    assert_eq!(names(&bucket, "d/*").len(), 2);
}

#[test]
fn what_cannot_be_a_source_says_so() {
    let bucket = Bucket::new();
    bucket.put("empty.csv", "");
    for (pattern, what) in [
        ("no.csv", "there is no object `s3://archive/no.csv`"),
        ("*.txt", "no object matches `s3://archive/*.txt`"),
        ("empty.csv", "`s3://archive/empty.csv` is empty"),
        ("{a.csv", "`{a.csv` is not a pattern"),
    ] {
        let error = bucket.origin().find(&format!("{BUCKET}{pattern}")).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message().starts_with(what), "{error}");
    }
    let error = bucket.origin().list("s3://other/SUMS").unwrap_err();
    assert!(error.message().contains("does not lie in `s3://archive/`"), "{error}");
}

/// Every way to read, over the borders of heads, windows and pieces.
#[test]
fn any_range_is_read_as_it_lies_there() {
    let bytes = content(21 << 20);
    let bucket = Bucket::new();
    bucket.put("big", bytes.clone());
    let origin = bucket.origin();
    let stamp = origin.find("s3://archive/big").unwrap().remove(0);
    let file = origin.open(&stamp).unwrap();
    assert_eq!(file.length().unwrap(), bytes.len() as u64);
    let (k, m) = (1 << 10, 1 << 20);
    for (at, length) in [
        (0, 3),
        (60 * k, 9 * k),
        (64 * k, 1),
        (10, 12 * m),
        (m, 20 * m),
        (5 * m - 1, 100),
        (21 * m - 8, 8),
        (21 * m - 90 * k, 90 * k),
        (0, 21 * m),
        (7 * m, 0),
    ] {
        let mut to = vec![0; length];
        file.fill(&mut to, at as u64).unwrap();
        assert!(to == bytes[at..at + length], "{at} {length}");
        to.fill(0);
        file.near(&mut to, at as u64).unwrap();
        assert!(to == bytes[at..at + length], "near {at} {length}");
    }
    for at in (0..3 * m).step_by(7 * k) {
        let mut to = vec![0; 5 * k];
        file.near(&mut to, at as u64).unwrap();
        assert!(to == bytes[at..at + 5 * k], "one of many, {at}");
    }
    for at in [0, 1, 100 * k, 20 * m + 1, 21 * m] {
        let mut rest = Vec::new();
        file.stream(at as u64).read_to_end(&mut rest).unwrap();
        assert!(rest == bytes[at..], "from {at}");
    }
    let mut over = [0; 2];
    let error = file.fill(&mut over, 21 * m as u64 - 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(file.read_near(&mut over, 21 * m as u64).unwrap(), 0);
}

/// Also where what replaces it is as long, and where half of it has been read.
#[test]
fn an_object_that_was_replaced_is_stale() {
    let bytes = content(12 << 20);
    let bucket = Bucket::new();
    bucket.put("a", bytes.clone());
    let origin = bucket.origin();
    let stamp = origin.find("s3://archive/a").unwrap().remove(0);
    let file = origin.open(&stamp).unwrap();
    let mut stream = file.stream(0);
    stream.read_exact(&mut vec![0; 100 << 10]).unwrap();
    bucket.put("a", bytes);
    let stale = |e: io::Error| {
        let error = unreadable(&stamp.path, e);
        assert_eq!(error.kind(), Kind::Stale, "{error}");
        error.message().to_owned()
    };
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(stale(error), "`s3://archive/a` was replaced");
    let mut some = [0; 8];
    stale(file.fill(&mut some, 9 << 20).unwrap_err());
    stale(file.near(&mut some, 9 << 20).unwrap_err());
    assert_eq!(file.failure().unwrap().kind(), Kind::Stale);
    bucket.delete("a");
    let again = origin.open(&stamp).unwrap();
    assert!(stale(again.fill(&mut some, 9 << 20).unwrap_err()).ends_with("is gone"));
}

/// CSV in a bucket, plain or packed.
fn given_as(name: &'static str, pack: fn(String) -> Vec<u8>) -> Given<tempfile::TempDir> {
    let row = |i: i64| format!("2020-01-{:02}T{:02}:00:00Z,{i},\"x\ny\"\n", i / 24 + 1, i % 24);
    let rows: String = (0..240).map(|i| row(i * 77 % 240)).collect();
    let text = format!("t,v,note\n{rows}gestern,1,x\n");
    let (bucket, dir) = (Bucket::new(), tempfile::tempdir().unwrap());
    bucket.put(name, pack(text.clone()));
    let settings = CsvSettings { path: format!("{BUCKET}*.csv*"), ..CsvSettings::default() };
    let source = FileSource::open(settings, dir.path(), &dir.path().join("state")).unwrap();
    Given {
        source: Arc::new(source.over(bucket.origin())),
        time: "t",
        change: Box::new(move || bucket.put(name, pack(text.replace(",7,", ",8,")))),
        _keep: dir,
    }
}

fn given() -> Given<tempfile::TempDir> {
    given_as("a.csv", String::into_bytes)
}

crate::testkit::conformance!(source: super::given);

mod packed {
    use std::io::Write as _;

    fn given() -> super::Given<tempfile::TempDir> {
        super::given_as("a.csv.gz", |text| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap()
        })
    }

    crate::testkit::conformance!(source: super::given);
}
