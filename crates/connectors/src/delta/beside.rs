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
    match link_all(of, &to) {
        Err(e) if e.kind() == ErrorKind::NotFound && !of.exists() => Ok(to),
        linked => linked.map(|()| to.clone()).map_err(failed),
    }
}

/// Gives every file below a second name.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        let kind = entry.file_type()?;
        let linked = if kind.is_dir() {
            fs::create_dir(&copy).and_then(|()| link_all(&entry.path(), &copy))
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::canonicalize(entry.path())?, &copy)
        } else {
            fs::hard_link(entry.path(), &copy)
        };
        match linked {
            // Removed by somebody meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            linked => linked?,
        }
    }
    Ok(())
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
    fn what_has_no_name_is_refused() {
        assert!(place(Path::new("/"), "x").is_err());
    }
}
