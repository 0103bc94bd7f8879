use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use retrofill_core::error::Kind;

use super::*;

fn scratch() -> (tempfile::TempDir, DirScratch) {
    let dir = tempfile::tempdir().unwrap();
    let scratch = DirScratch::open(&dir.path().join("state")).unwrap();
    (dir, scratch)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_come_back_and_are_private() {
    let (dir, scratch) = scratch();
    scratch.write("a/b.jsonl", b"one").await.unwrap();
    scratch.write("a/b.jsonl", b"2").await.unwrap();
    assert_eq!(scratch.read("a/b.jsonl").await.unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(scratch.read("a/c").await.unwrap(), None);
    assert_eq!(scratch.read("x/c").await.unwrap(), None);
    let state = dir.path().join("state");
    assert_eq!((mode(&state), mode(&state.join("a"))), (0o700, 0o700));
    assert_eq!(mode(&state.join("a/b.jsonl")), 0o600);
    assert_eq!(fs::read_dir(state.join("a")).unwrap().count(), 1, "no part stays");
}

#[tokio::test]
async fn renaming_moves_replaces_and_makes_directories() {
    let (_dir, scratch) = scratch();
    scratch.write("open/1", b"new").await.unwrap();
    scratch.write("done/1", b"old").await.unwrap();
    scratch.rename("open/1", "done/1").await.unwrap();
    scratch.rename("done/1", "kept/deep/1").await.unwrap();
    assert_eq!(scratch.read("kept/deep/1").await.unwrap().as_deref(), Some(b"new".as_slice()));
    assert_eq!(scratch.list("").await.unwrap(), ["kept/deep/1"]);
    for gone in ["open/1", "never/1"] {
        let error = scratch.rename(gone, "x").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message().contains(gone), "{error}");
    }
}

#[tokio::test]
async fn deleting_twice_is_fine() {
    let (_dir, scratch) = scratch();
    scratch.write("a/b", b"").await.unwrap();
    for name in ["a/b", "a/b", "none/b"] {
        scratch.delete(name).await.unwrap();
    }
    assert_eq!(scratch.read("a/b").await.unwrap(), None);
}

#[tokio::test]
async fn lists_are_sorted_and_by_prefix() {
    let (dir, scratch) = scratch();
    for name in ["b", "a/2", "a/10", "a/b/c", "ab/1", "a-1"] {
        scratch.write(name, b"x").await.unwrap();
    }
    fs::write(dir.path().join("state/a/.2.7-1.part"), "torn").unwrap();
    assert_eq!(scratch.list("").await.unwrap(), ["a-1", "a/10", "a/2", "a/b/c", "ab/1", "b"]);
    assert_eq!(scratch.list("a/").await.unwrap(), ["a/10", "a/2", "a/b/c"]);
    assert_eq!(scratch.list("a/b").await.unwrap(), ["a/b/c"]);
    assert_eq!(scratch.list("a").await.unwrap(), ["a-1", "a/10", "a/2", "a/b/c", "ab/1"]);
    assert_eq!(scratch.list("none/").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn names_that_lead_outside_are_refused() {
    let (dir, scratch) = scratch();
    for name in ["", "/etc/passwd", "../out", "a/../../out", "a/..", ".", "a//b", "a/", "a\0b"] {
        let written = scratch.write(name, b"x").await.unwrap_err();
        assert_eq!(written.kind(), Kind::Bug, "{name:?}");
        assert!(scratch.read(name).await.is_err(), "{name:?}");
        assert!(scratch.delete(name).await.is_err(), "{name:?}");
        assert!(scratch.rename(name, "b").await.is_err(), "{name:?}");
        assert!(scratch.rename("b", name).await.is_err(), "{name:?}");
    }
    assert!(scratch.list("../").await.is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn links_are_never_followed() {
    let (dir, scratch) = scratch();
    let (outside, state) = (dir.path().join("outside"), dir.path().join("state"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    symlink(&outside, state.join("dir")).unwrap();
    symlink(outside.join("secret"), state.join("file")).unwrap();
    for name in ["dir/secret", "file"] {
        let error = scratch.read(name).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{name}");
        assert!(error.message().ends_with("is not a plain file"), "{error}");
    }
    assert!(scratch.write("dir/new", b"x").await.is_err());
    assert!(scratch.delete("dir/secret").await.is_err());
    assert!(scratch.rename("dir/secret", "mine").await.is_err());
    assert_eq!(scratch.list("").await.unwrap(), Vec::<String>::new());
    assert!(scratch.list("dir/").await.is_err());
    // Writing replaces the link itself, not what it points to.
    scratch.write("file", b"mine").await.unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"s");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_no_file_does_not_hang() {
    let (dir, scratch) = scratch();
    fs::create_dir(dir.path().join("state/d")).unwrap();
    let pipe = dir.path().join("state/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    for name in ["d", "pipe"] {
        assert_eq!(scratch.read(name).await.unwrap_err().kind(), Kind::Config, "{name}");
    }
    assert_eq!(scratch.write("d", b"x").await.unwrap_err().kind(), Kind::Config);
    let left = fs::read_dir(dir.path().join("state")).unwrap().count();
    assert_eq!(left, 2, "a failed write leaves nothing behind");
}

#[test]
fn a_state_dir_that_is_a_file_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    fs::write(&path, "").unwrap();
    let error = DirScratch::open(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("cannot be opened"), "{error}");
}
