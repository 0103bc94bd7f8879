//! A copy of a directory beside it that costs no room: the same files under second names.
//!
//! What is copied must never change a file in place. Both the Delta and the folder target only add
//! files, rename and remove.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use retrofill_core::error::{Error, Result};

/// The copy's directory: hidden, and on the same file system.
pub(crate) fn place(of: &Path, tag: &str) -> Result<PathBuf> {
    let name = of.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        Error::config(format!("`{}` has no name that something beside it could get", of.display()))
            .hint("name the directory itself instead of `.` or `..`")
    })?;
    Ok(of.with_file_name(format!(".{name}.trial-{tag}")))
}

/// Makes the copy; an empty directory where there is nothing to copy.
pub(crate) fn copy(of: &Path, tag: &str) -> Result<PathBuf> {
    let to = place(of, tag)?;
    let failed = |e: io::Error| {
        let hint = match e.kind() {
            ErrorKind::CrossesDevices | ErrorKind::Unsupported | ErrorKind::PermissionDenied => {
                "the file system must allow a file to have two names (hard links)"
            }
            _ => "a trial loads into a directory beside the target",
        };
        Error::config(format!("{} cannot be made", to.display())).because(e).hint(hint)
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::create_dir(&to).map_err(failed)?;
    for _ in 0..PASSES {
        match link_new(of, &to) {
            Ok(0) => return Ok(to),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound && !of.exists() => return Ok(to),
            Err(e) => return Err(failed(e)),
        }
    }
    let what = format!("`{}` changes faster than it can be copied", of.display());
    Err(Error::unavailable(what).hint("try again when fewer others write to it"))
}

/// Others may write meanwhile. A pass that finds nothing new has seen every file that is older than
/// any it knows: no entry of a log is missing between others.
const PASSES: usize = 100;

/// Gives every file below a second name that has none yet; how many. What begins with `_`, where
/// logs lie, comes before the files that it names.
fn link_new(from: &Path, to: &Path) -> io::Result<usize> {
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"_"));
    let mut new = 0;
    for entry in entries {
        let copy = to.join(entry.file_name());
        let kind = entry.file_type()?;
        let linked = if kind.is_dir() {
            match fs::create_dir(&copy) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
                _ => link_new(&entry.path(), &copy),
            }
        } else if kind.is_symlink() {
            let whole = fs::canonicalize(entry.path());
            whole.and_then(|whole| std::os::unix::fs::symlink(whole, &copy)).map(|()| 1)
        } else {
            fs::hard_link(entry.path(), &copy).map(|()| 1)
        };
        match linked {
            // There already, or removed by somebody meanwhile.
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            linked => new += linked?,
        }
    }
    Ok(new)
}

/// Removes the copy, if there is one.
pub(crate) fn remove(of: &Path, tag: &str) -> Result<()> {
    let at = place(of, tag)?;
    match fs::remove_dir_all(&at) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::unavailable(format!("{} cannot be removed", at.display())).because(e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_nothing_and_goes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table");
        fs::create_dir_all(table.join("a")).unwrap();
        fs::write(table.join("a/one"), "1").unwrap();
        let to = copy(&table, "x").unwrap();
        assert_eq!(fs::read_to_string(to.join("a/one")).unwrap(), "1");
        fs::write(to.join("two"), "2").unwrap();
        fs::remove_file(to.join("a/one")).unwrap();
        assert!(!table.join("two").exists() && table.join("a/one").exists());
        remove(&table, "x").unwrap();
        remove(&table, "x").unwrap();
        assert!(!to.exists() && table.join("a/one").exists());
        assert_eq!(fs::read_dir(copy(&dir.path().join("none"), "x").unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_log_names_is_there_while_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("table");
        fs::create_dir_all(table.join("_log")).unwrap();
        let written = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..1_500 {
                    fs::write(table.join(format!("file{n}")), "").unwrap();
                    fs::write(table.join(format!("_log/{n}")), "").unwrap();
                    written.store(n, std::sync::atomic::Ordering::SeqCst);
                }
            });
            for tag in 0.. {
                let before = written.load(std::sync::atomic::Ordering::SeqCst);
                // One that is overtaken all the time says so.
                let Ok(copied) = copy(&table, &tag.to_string()) else { continue };
                let entries = fs::read_dir(copied.join("_log")).unwrap().count();
                assert!(entries >= before);
                for n in 0..entries {
                    assert!(copied.join(format!("_log/{n}")).exists(), "{n} of {entries}");
                    assert!(copied.join(format!("file{n}")).exists(), "{n} of {entries}");
                }
                remove(&table, &tag.to_string()).unwrap();
                if writer.is_finished() {
                    break;
                }
            }
        });
    }

    #[test]
    fn what_has_no_name_is_refused() {
        assert!(place(Path::new("/"), "x").is_err());
    }
}
