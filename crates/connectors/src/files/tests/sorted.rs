//! The sorted copy gives what the files give.

use retrofill_core::columns::Columns;
use retrofill_core::connector::{Source as _, SourceBatch};
use retrofill_core::error::{Kind, Result};
use retrofill_core::interval::Interval;
use retrofill_core::reject::Reject;
use retrofill_core::survey::Survey;

use super::{FileSource, Fixture, columns, gzip, read, rows, survey, tiny, wait, weather};
use crate::testkit::source_suite::to_stage;

/// Ten days, each row in another order, from another file; `v` of day 7 does not fit.
fn shuffled() -> Vec<(String, Vec<u8>)> {
    let file = |f: u64| {
        let row = |i: u64| {
            let n = (i * 7907 + f * 31) % 240;
            let v = if n / 24 == 6 { "x" } else { "1" };
            format!("{f}-{i},2013-01-{:02}T{:02}:00:00Z,{v}\n", 1 + n / 24, n % 24)
        };
        let text: String = (0..300).map(row).collect();
        (format!("{f}.csv"), format!("id,t,v\n{text}").into_bytes())
    };
    (0..3).map(file).collect()
}

fn fixture(files: &[(String, Vec<u8>)]) -> Fixture {
    let files: Vec<_> = files.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
    Fixture::new(&files, |_| ())
}

fn days() -> Vec<Interval> {
    let bound = |d| format!("2013-01-{d:02}T00:00:00Z");
    (1..=10).map(|d| Interval::parse(&bound(d), &bound(d + 1)).unwrap()).collect()
}

/// The plan with `v` a number, so that some rows are rejects.
fn with_rejects(survey: &Survey) -> Columns {
    let mut list: Vec<_> = columns(survey, "t").into();
    for column in list.iter_mut().filter(|c| c.name == "v") {
        column.ty = super::INTEGER;
    }
    Columns::new(list).unwrap()
}

type Read = (Vec<(u64, Vec<String>)>, Vec<Reject>);

fn all(source: &FileSource, survey: &Survey, slice: Interval) -> Result<Read> {
    let batches: Vec<SourceBatch> = read(source, survey, &with_rejects(survey), slice)?;
    let rejects = batches.iter().flat_map(|b| b.rejects.clone()).collect();
    Ok((rows(&batches), rejects))
}

fn staging(fixture: &Fixture) -> std::path::PathBuf {
    fixture.dir.path().join(".state/staging")
}

#[test]
fn sorted_equals_direct() {
    let fixture = fixture(&shuffled());
    let source = tiny(&fixture.source, 500);
    let survey = survey(&source, "t").unwrap();
    let direct: Vec<_> = days().iter().map(|d| all(&source, &survey, *d).unwrap()).collect();
    assert_eq!(direct.iter().map(|(r, x)| r.len() + x.len()).sum::<usize>(), 900);
    assert!(!direct[6].1.is_empty());
    let plan = with_rejects(&survey);
    wait(source.stage(&to_stage(&survey, &plan, &days()))).unwrap();
    // The files are not needed any more.
    std::fs::write(fixture.dir.path().join("0.csv"), "").unwrap();
    for (day, want) in days().iter().zip(&direct) {
        assert_eq!(&all(&source, &survey, *day).unwrap(), want);
        let (a, b) = day.halves().unwrap();
        let (a, b) = (all(&source, &survey, a).unwrap(), all(&source, &survey, b).unwrap());
        assert_eq!(a.0.len() + b.0.len(), want.0.len());
        assert_eq!(a.1.len() + b.1.len(), want.1.len());
    }
    // Without the copy the changed file is noticed.
    wait(source.unstage()).unwrap();
    assert!(!staging(&fixture).exists());
    assert_eq!(all(&source, &survey, days()[0]).unwrap_err().kind(), Kind::Stale);
}

#[test]
fn in_order_nothing_is_sorted() {
    let state = tempfile::tempdir().unwrap();
    let source = weather(state.path());
    let survey = survey(&source, "time_hour").unwrap();
    let columns = columns(&survey, "time_hour");
    let year = Interval::parse("2013-01-01T00:00:00Z", "2014-01-01T00:00:00Z").unwrap();
    wait(source.stage(&to_stage(&survey, &columns, &[year]))).unwrap();
    assert!(!state.path().join(".state/staging").exists());
}

#[test]
fn a_copy_is_taken_up_where_it_was_left() {
    let fixture = fixture(&shuffled());
    let source = tiny(&fixture.source, 500);
    let survey = survey(&source, "t").unwrap();
    let plan = with_rejects(&survey);
    let want = all(&source, &survey, days()[3]).unwrap();
    std::fs::create_dir_all(staging(&fixture).join("of another plan")).unwrap();
    wait(source.stage(&to_stage(&survey, &plan, &days()))).unwrap();
    let dirs: Vec<_> = std::fs::read_dir(staging(&fixture)).unwrap().collect();
    assert_eq!(dirs.len(), 1, "the copy of another plan stayed");
    let dir = dirs[0].as_ref().unwrap().path();
    // A list of pass 2 that cannot be read, when what it was made of is gone: all is made anew.
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    std::fs::write(dir.join("bucket-0000.json"), "{").unwrap();
    wait(source.stage(&to_stage(&survey, &plan, &days()))).unwrap();
    assert_eq!(all(&source, &survey, days()[3]).unwrap(), want);
    // Stopped before the manifest, with the raw buckets gone: what is finished is used again.
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    std::fs::write(fixture.dir.path().join("0.csv"), "").unwrap();
    let source = tiny(&fixture.source, 500);
    wait(source.stage(&to_stage(&survey, &plan, &days()))).unwrap();
    assert_eq!(all(&source, &survey, days()[3]).unwrap(), want);
    // Stopped before pass 1 was done: it starts again, and sees the change.
    for name in ["manifest.json", "distributed.json"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    let error = wait(source.stage(&to_stage(&survey, &plan, &days()))).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale);
}

#[test]
fn a_damaged_copy_is_not_believed() {
    let fixture = fixture(&shuffled());
    let source = tiny(&fixture.source, 500);
    let survey = survey(&source, "t").unwrap();
    let want = all(&source, &survey, days()[0]).unwrap();
    wait(source.stage(&to_stage(&survey, &with_rejects(&survey), &days()))).unwrap();
    let dir = std::fs::read_dir(staging(&fixture)).unwrap().next().unwrap().unwrap().path();
    let bucket = dir.join("bucket-0000.sorted");
    let mut bytes = std::fs::read(&bucket).unwrap();
    bytes[25] ^= 1;
    std::fs::write(&bucket, bytes).unwrap();
    assert_eq!(all(&source, &survey, days()[0]).unwrap_err().kind(), Kind::Unavailable);
    for _ in 0..100 {
        // The copy is forgotten right after the error was given.
        if !dir.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(all(&source, &survey, days()[0]).unwrap(), want);
}

#[test]
fn gzip_equals_plain() {
    let plain = fixture(&shuffled());
    let packed: Vec<_> =
        shuffled().into_iter().map(|(n, c)| (format!("{n}.gz"), gzip(&c))).collect();
    let packed = fixture(&packed);
    let (a, b) = (tiny(&plain.source, 500), tiny(&packed.source, 500));
    let (a_survey, b_survey) = (survey(&a, "t").unwrap(), survey(&b, "t").unwrap());
    assert_eq!(a_survey.blocks, b_survey.blocks);
    assert_eq!(a_survey.columns, b_survey.columns);
    let plan = with_rejects(&b_survey);
    for day in days() {
        // Sorted when it is first asked for, into slices of its own.
        let mut got = all(&b, &b_survey, day).unwrap().0;
        got.sort_unstable();
        assert_eq!(all(&a, &a_survey, day).unwrap().0, got);
    }
    wait(b.stage(&to_stage(&b_survey, &plan, &days()))).unwrap();
    for day in days() {
        assert_eq!(all(&a, &a_survey, day).unwrap().0, all(&b, &b_survey, day).unwrap().0);
    }
}

#[test]
fn gzip_that_is_not_whole() {
    let (name, content) = shuffled().remove(0);
    let packed = gzip(&content);
    let name = format!("{name}.gz");
    let fixture = Fixture::new(&[(&name, &packed)], |_| ());
    let seen = survey(&fixture.source, "t").unwrap();
    fixture.write(&name, &packed[..packed.len() / 2]);
    let error = super::config_error(survey(&fixture.source, "t"));
    assert!(error.starts_with("`0.csv.gz` breaks off"), "{error}");
    let error = all(&fixture.source, &seen, days()[0]).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    // Two members are one file.
    fixture.write(&name, &[gzip(&content[..100]), gzip(&content[100..])].concat());
    assert_eq!(survey(&fixture.source, "t").unwrap().rows, 300);
}

/// Files of which each lacks a column of the other, in both ways to read them.
#[test]
fn a_column_that_a_file_lacks_is_null() {
    let one = b"t,a,b\n2013-01-02,1,x\n2013-01-01,2,y\n";
    let two = b"c,t,a\n0.5,2013-01-01,3\n1.5,2013-01-02,4\n";
    let union = |s: &mut super::CsvSettings| s.schema = super::super::Schema::Union;
    let plain = Fixture::new(&[("1.csv", one), ("2.csv", two)], union);
    let packed = Fixture::new(&[("1.csv.gz", &gzip(one)), ("2.csv.gz", &gzip(two))], union);
    let mut seen = Vec::new();
    for fixture in [&plain, &packed] {
        let survey = survey(&fixture.source, "t").unwrap();
        let names: Vec<_> = survey.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
        assert_eq!(names, [("t", false), ("a", false), ("b", true), ("c", true)]);
        let columns = columns(&survey, "t");
        let mut got = Vec::new();
        for day in days() {
            got.extend(rows(&read(&fixture.source, &survey, &columns, day).unwrap()));
        }
        seen.push(got);
    }
    assert_eq!(seen[0], seen[1]);
    let texts: Vec<_> = seen[0].iter().map(|(_, row)| row[1..].join(",")).collect();
    assert_eq!(texts, ["2,y,", "3,,0.5", "1,x,", "4,,1.5"]);
}
