//! The shadow of a trial, which must not outlive it: not even where the process is killed.
//!
//! A file in the state directory names the shadow, and is locked while its process lives. A second
//! process waits for the end of the first and removes what that left; where it is killed too, the
//! next trial does so.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use retrofill_core::connector::Target;
use retrofill_core::error::{Error, Kind, Result};
use retrofill_core::id::hex;
use rustix::fs::{FlockOperation, flock};

use crate::random;

const NAME: &str = "trial";

/// How often the removal of a shadow is tried again, and after how long.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// How often the lock of a process that has ended is tried, and after how long.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);

/// The shadow that this process may make.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Locked.
    _file: File,
    tag: String,
}

impl Claim {
    /// A new name, once what an earlier trial left is removed. An error of kind `Fenced` while
    /// another process tries the same job.
    pub async fn take(state_dir: &Path, target: &dyn Target) -> Result<Self> {
        let path = state_dir.join(NAME);
        let failed = |e| Error::config(format!("{} cannot be written", path.display())).because(e);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::new(Kind::Fenced, "another trial of this job is under way"));
        }
        sweep(&mut file, target).await?;
        let tag = hex(&random::bytes::<6>()?);
        let named = file.set_len(0).and_then(|()| file.write_all(tag.as_bytes()));
        named.and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Claim { path, _file: file, tag })
    }

    /// The shadow's tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Removes the shadow.
    pub async fn leave(self, target: &dyn Target) -> Result<()> {
        target.drop_shadow(&self.tag).await?;
        // What stays names nothing that is there.
        let _ = fs::remove_file(&self.path);
        Ok(())
    }
}

/// Removes the shadow that the file names, if it names one.
async fn sweep(file: &mut File, target: &dyn Target) -> Result<()> {
    let mut tag = String::new();
    // A text that cannot be read was never written to its end.
    if file.read_to_string(&mut tag).is_ok() && is_tag(&tag) {
        target.drop_shadow(&tag).await?;
    }
    Ok(())
}

fn is_tag(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Waits until nobody holds standard input's other end, and removes what is left then.
pub async fn keep_watch(state_dir: &Path, target: &dyn Target) -> Result<()> {
    let wait = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let waited = tokio::task::spawn_blocking(wait).await;
    if !matches!(waited, Ok(Ok(_))) {
        return Err(Error::bug("nothing to wait for"));
    }
    let path = state_dir.join(NAME);
    let Some(mut file) = inherit(&path).await? else { return Ok(()) };
    let mut tries = 0;
    // The target may still have to notice that the other process is gone.
    while let Err(e) = sweep(&mut file, target).await {
        tries += 1;
        if tries > TRIES || !e.kind().is_transient() {
            return Err(e);
        }
        file.rewind().map_err(|e| Error::unavailable("a file cannot be read").because(e))?;
        tokio::time::sleep(PAUSE).await;
    }
    let _ = fs::remove_file(&path);
    Ok(())
}

/// The file of a process that has ended, locked. None where its trial left nothing, or another one
/// has begun: that one has removed it.
async fn inherit(path: &Path) -> Result<Option<File>> {
    let failed = |e| Error::config(format!("{} cannot be read", path.display())).because(e);
    for _ in 0..LOOKS {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Some(file));
        }
        // A process that ends closes one file after the other: its lock may go after the pipe.
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}

/// The process that waits for the end of this one.
#[derive(Debug)]
pub struct Watcher(Option<Child>);

impl Watcher {
    /// Starts it: this program with the same arguments and this flag. None where it cannot be
    /// started; then the next trial removes what a killed one leaves.
    pub fn start(flag: &str) -> Self {
        let start = || {
            let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
            arguments.push(flag.into());
            let mut command = Command::new(std::env::current_exe().ok()?);
            command.args(arguments).stdin(Stdio::piped());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            // Signals of the terminal are for this process.
            command.process_group(0).spawn().ok()
        };
        Watcher(start())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_goes_a_moment_late_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        assert!(inherit(&path).await.unwrap().is_none());
        let held = File::create(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let late = tokio::spawn(async move {
            tokio::time::sleep(4 * LOOK).await;
            drop(held);
        });
        assert!(inherit(&path).await.unwrap().is_some());
        late.await.unwrap();
    }
}
