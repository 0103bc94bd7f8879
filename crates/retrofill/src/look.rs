//! A look at source and target that leaves nothing behind: what must be sorted to be read goes to
//! a directory of its own, which is gone afterwards.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use retrofill_core::connector::{Source, Target};
use retrofill_core::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};

use crate::env::TokioEnv;
use crate::job::Job;

/// Names begin so.
const PREFIX: &str = "look.";

/// The opened parts of a job that only looks. No ledger is among them.
#[derive(Debug)]
pub struct Look {
    /// The world.
    pub env: Arc<TokioEnv>,
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Where they would go.
    pub target: Arc<dyn Target>,
    /// Dropped last.
    room: Room,
}

impl Look {
    /// Opens source and target.
    pub fn open(job: &Job) -> Result<Self> {
        let room = Room::open(&job.state_dir).map_err(|e| {
            Error::config(format!("the state dir `{}` cannot be used", job.state_dir.display()))
                .because(e)
                .hint("`--state-dir` must name a directory that this user may write to")
        })?;
        Ok(Look {
            env: Arc::new(TokioEnv::new(&room.path)?),
            source: job.source_at(&room.path)?,
            target: job.target()?,
            room,
        })
    }

    /// The directory that is gone afterwards.
    pub fn room(&self) -> &Path {
        &self.room.path
    }
}

/// A directory of one process. Those of processes that were killed go with the next.
#[derive(Debug)]
struct Room {
    path: PathBuf,
    /// Directories above it that were not there before, the innermost first.
    made: Vec<PathBuf>,
    /// Locked while the process lives.
    _lock: File,
}

impl Room {
    fn open(state_dir: &Path) -> std::io::Result<Self> {
        let missing = state_dir.ancestors().take_while(|dir| {
            // The last of a relative path is empty: here.
            !dir.as_os_str().is_empty() && !dir.exists()
        });
        let made = missing.map(Path::to_owned).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        sweep(state_dir);
        for number in 0.. {
            let path = state_dir.join(format!("{PREFIX}{}.{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                result => result?,
            }
            // Another process may have swept it away before it was locked.
            if let Ok(lock) = File::open(&path)
                && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                && path.exists()
            {
                return Ok(Room { path, made, _lock: lock });
            }
        }
        Err(std::io::Error::other("no name is free"))
    }
}

/// Removes the directories of processes that have ended.
fn sweep(state_dir: &Path) {
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !ours {
            continue;
        }
        if let Ok(lock) = File::open(entry.path())
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            // What cannot be removed is tried again by the next look.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What stays is swept away by the next look.
        let _ = fs::remove_dir_all(&self.path);
        for dir in &self.made {
            // A runner may have begun to use it meanwhile; then it is not empty.
            let _ = fs::remove_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_but_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let one = Room::open(&state).unwrap();
        fs::write(one.path.join("sorted"), "x").unwrap();
        drop(one);
        assert!(!dir.path().join("a").exists());
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("ledger.db"), "x").unwrap();
        drop(Room::open(&state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn what_the_killed_left_is_swept_away_and_nothing_of_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let living = Room::open(dir.path()).unwrap();
        let dead = dir.path().join("look.1.0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("sorted"), "x").unwrap();
        let other = Room::open(dir.path()).unwrap();
        assert!(!dead.exists() && living.path.exists() && other.path.exists());
    }
}
