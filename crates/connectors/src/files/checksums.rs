//! Files against a list of checksums that came with them, as `sha256sum` and `md5sum` write it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use md5::Md5;
use retrofill_core::error::{Error, Result};
use retrofill_core::id::hex;
use retrofill_core::survey::{FileStamp, Survey};
use sha2::digest::Digest;
use sha2::{Sha256, Sha512};

use super::open::{matcher, unreadable};
use super::origin::Origin;
use super::parallel::ordered;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// How a sum was made, told by its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Md5,
    Sha256,
    Sha512,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    kind: Kind,
    hex: String,
}

/// The files of the pattern with their sums in the list, whose path starts where theirs do; names
/// in it are relative to the list itself. An error of kind `Config` names the first file that is
/// not listed, or listed and not there.
pub(super) fn listed(origin: &Origin, pattern: &str, list: &str) -> Result<Vec<(FileStamp, Sum)>> {
    let text = origin.list(list)?;
    let sums = parse(&text, list)?;
    let root = origin.root();
    let inside = |name: &str| plain(Path::new(name.strip_prefix(root).unwrap_or(name)));
    let dir = Path::new(list.strip_prefix(root).unwrap_or(list))
        .parent()
        .unwrap_or(Path::new(""))
        .to_owned();
    let sums: BTreeMap<PathBuf, Sum> =
        sums.into_iter().map(|(name, sum)| (plain(&dir.join(name)), sum)).collect();
    let files = origin.find(pattern)?;
    let matches = matcher(pattern.strip_prefix(root).unwrap_or(pattern))?;
    let there = |name: &Path| files.iter().any(|f| inside(&f.path) == name);
    if let Some(name) = sums.keys().find(|name| matches.is_match(name) && !there(name)) {
        let what = format!("`{root}{}` is listed in `{list}` and not there", name.display());
        return Err(Error::config(what).hint("get it from where the others came from"));
    }
    let sum = |file: FileStamp| {
        let Some(sum) = sums.get(&inside(&file.path)) else {
            let what = format!("`{}` is not listed in `{list}`", file.path);
            return Err(Error::config(what)
                .hint("narrow the pattern to leave it out, or add its checksum to the list"));
        };
        Ok((file, sum.clone()))
    };
    files.into_iter().map(sum).collect()
}

/// Checks every file of the pattern against the list. An error of kind `Config` names the first
/// file that is not as it says. Gives the files as they were then.
fn check(origin: &Origin, pattern: &str, list: &str) -> Result<Vec<FileStamp>> {
    let all = listed(origin, pattern, list)?;
    let mut left = all.iter();
    let next = || Ok(left.next());
    ordered(next, |(file, sum)| compare(origin, file, sum, list), |()| Ok(()))?;
    Ok(all.into_iter().map(|(file, _)| file).collect())
}

/// Surveys files that must be those of the list, where there is one, from before the survey to
/// its end. A sample of them is checked against nothing.
pub(crate) fn trusted(
    origin: &Origin,
    pattern: &str,
    list: Option<&str>,
    sample: bool,
    survey: impl FnOnce() -> Result<Survey>,
) -> Result<Survey> {
    let Some(list) = list else { return survey() };
    if sample {
        let mut survey = survey()?;
        survey.notes.push("`checksums` are those of whole files and were not checked".into());
        return Ok(survey);
    }
    let checked = check(origin, pattern, list)?;
    let survey = survey()?;
    match survey.files.iter().zip(&checked).find(|(now, then)| now != then) {
        None if survey.files.len() == checked.len() => Ok(survey),
        changed => {
            let name = changed.map_or(pattern, |(file, _)| &file.path);
            Err(Error::unavailable(format!("`{name}` changes while it is read")))
        }
    }
}

/// Without `.` and `..`, so that two ways to write a path are one.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn compare(origin: &Origin, file: &FileStamp, sum: &Sum, list: &str) -> Result<()> {
    let found = match sum.kind {
        Kind::Md5 => of_file::<Md5>(origin, file)?,
        Kind::Sha256 => of_file::<Sha256>(origin, file)?,
        Kind::Sha512 => of_file::<Sha512>(origin, file)?,
    };
    if found == sum.hex {
        return Ok(());
    }
    let short = |hex: &str| format!("{}...", &hex[..12]);
    let what = format!(
        "`{}` is not the file that `{list}` lists: its checksum is {}, not {}",
        file.path,
        short(&found),
        short(&sum.hex)
    );
    Err(Error::config(what).hint(
        "it was damaged on its way, or replaced; get it anew, or correct the list if you know why",
    ))
}

fn of_file<D: Digest>(origin: &Origin, file: &FileStamp) -> Result<String> {
    let path = &file.path;
    let mut open = origin.open(file)?.stream(0);
    let (mut hash, mut buffer) = (D::new(), vec![0; CHUNK]);
    loop {
        match open.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) => return Err(unreadable(path, e)),
        }
    }
}

/// `SUM  NAME`, `SUM *NAME` or `ALGORITHM (NAME) = SUM`, one a line. Behind a backslash at the
/// line's start the name is escaped.
fn parse(text: &str, list: &str) -> Result<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, sum)) = entry(line) else {
            let what = format!("`{list}` line {} is no checksum: `{line}`", number + 1);
            return Err(Error::config(what)
                .hint("write the list with `sha256sum`, `sha512sum` or `md5sum`"));
        };
        if sums.insert(name.clone(), sum.clone()).is_some_and(|old| old != sum) {
            let what = format!("`{list}` line {}: `{name}` has two checksums", number + 1);
            return Err(Error::config(what).hint("leave the old one out"));
        }
    }
    if sums.is_empty() {
        return Err(Error::config(format!("`{list}` lists no file")));
    }
    Ok(sums)
}

fn entry(line: &str) -> Option<(String, Sum)> {
    let Some(escaped) = line.strip_prefix('\\') else {
        return unescaped(line).map(|(name, sum)| (name.to_owned(), sum));
    };
    let (name, sum) = unescaped(escaped)?;
    let mut letters = name.chars();
    let mut whole = String::new();
    while let Some(letter) = letters.next() {
        whole.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some((whole, sum))
}

fn unescaped(line: &str) -> Option<(&str, Sum)> {
    if let Some((head, digits)) = line.rsplit_once(") = ")
        && let Some((_, name)) = head.split_once(" (")
    {
        return Some((name, sum(digits)?));
    }
    let (digits, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*']).unwrap_or(rest);
    (!name.is_empty()).then_some(())?;
    Some((name, sum(digits)?))
}

fn sum(digits: &str) -> Option<Sum> {
    let kind = match digits.len() {
        32 => Kind::Md5,
        64 => Kind::Sha256,
        128 => Kind::Sha512,
        _ => return None,
    };
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| Sum { kind, hex: digits.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `echo a`, by the tools themselves.
    const MD5: &str = "60b725f10c9c85c70d97880dfe8191b3";
    const SHA256: &str = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";

    fn dir(list: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for name in ["one.csv", "two words.csv"] {
            std::fs::write(dir.path().join("data").join(name), "a\n").unwrap();
        }
        std::fs::write(dir.path().join("data/SUMS"), list).unwrap();
        dir
    }

    fn checked(list: &str) -> Result<()> {
        check(&Origin::Directory(dir(list).path().to_owned()), "./data/*.csv", "data/SUMS")
            .map(drop)
    }

    fn message(list: &str) -> String {
        checked(list).unwrap_err().message().to_owned()
    }

    #[test]
    fn files_that_are_as_listed_pass() {
        checked(&format!("{SHA256}  one.csv\n{MD5} *two words.csv\n")).unwrap();
        let upper = SHA256.to_uppercase();
        checked(&format!(
            "# made today\nSHA256 (./one.csv) = {upper}\r\n\nMD5 (two words.csv) = {MD5}\n\
             {MD5}  other/three.csv\n"
        ))
        .unwrap();
    }

    #[test]
    fn names_are_escaped_as_the_tools_do() {
        let name = |line: &str| entry(line).map(|(name, _)| name);
        assert_eq!(name(&format!("\\{MD5}  a\\\\b\\nc.csv")).as_deref(), Some("a\\b\nc.csv"));
        assert_eq!(name(&format!("\\MD5 (a\\\\b) = {MD5}")).as_deref(), Some("a\\b"));
        assert_eq!(name(&format!("{MD5}  a\\nb.csv")).as_deref(), Some("a\\nb.csv"));
        assert_eq!(name(&format!("\\{MD5}  a\\qb.csv")), None);
    }

    #[test]
    fn what_is_not_as_listed_is_named() {
        let other = format!("{}0", &SHA256[..63]);
        for (list, what) in [
            (
                format!("{other}  one.csv\n{SHA256}  two words.csv\n"),
                "`data/one.csv` is not the file that `data/SUMS` lists: its checksum is \
                 87428fc52280..., not 87428fc52280...",
            ),
            (format!("{SHA256}  one.csv\n"), "`data/two words.csv` is not listed in `data/SUMS`"),
            (
                format!("{SHA256}  one.csv\n{MD5}  two words.csv\n{MD5}  three.csv\n"),
                "`data/three.csv` is listed in `data/SUMS` and not there",
            ),
            ("one.csv\n".into(), "`data/SUMS` line 1 is no checksum: `one.csv`"),
            (
                format!("{SHA256}  one.csv\n{other}  one.csv\n"),
                "`data/SUMS` line 2: `one.csv` has two checksums",
            ),
            ("\n".into(), "`data/SUMS` lists no file"),
        ] {
            assert_eq!(message(&list), what);
        }
    }
}
