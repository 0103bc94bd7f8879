//! What the folder holds, and what all loads of one folder share.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use retrofill_core::connector::Source;
use retrofill_core::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::OnceCell;

use super::blocking;
use super::names::{ASIDE, LOCK, Named, RECEIPTS, WORK, is_hidden};
use super::part::{Own, Part};
use super::receipts;
use super::settings::FolderSettings;
use crate::delta::{Durable, is_temporary, random_name};

/// The files that readers see, by name.
pub(super) type Contents = BTreeMap<String, Arc<Part>>;

/// What all loads of one folder share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: FolderSettings,
    /// The folder.
    pub(super) base: PathBuf,
    pub(super) durable: Durable,
    /// The files as they were listed last.
    parts: Mutex<HashMap<String, Arc<Part>>>,
    /// Where files lie that are no data yet, below the folder. Those of processes that were killed
    /// go with the next run.
    room: String,
    /// Locked while the room is in use.
    in_room: Mutex<Option<File>>,
    /// How many files have a place in it for what must be sorted.
    sorted: AtomicUsize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What stays is swept away by the next run.
        let _ = std::fs::remove_dir_all(self.base.join(&self.room));
    }
}

/// The right to change which files are there. Held by one process, and there by one load, at a
/// time.
pub(super) struct Locked(#[expect(dead_code, reason = "it is held")] File);

impl Shared {
    pub(super) fn new(settings: FolderSettings, base: PathBuf, durable: Durable) -> Result<Self> {
        let word = random_name().map_err(|e| Error::unavailable("no random numbers").because(e))?;
        Ok(Shared {
            settings,
            base,
            durable,
            parts: Mutex::default(),
            room: format!("{ASIDE}/{WORK}{word}"),
            in_room: Mutex::default(),
            sorted: AtomicUsize::default(),
        })
    }

    /// Lists the folder, and surveys the files of others that are new. Cheap where there are none:
    /// files of ours are known by their names and receipts.
    pub(super) async fn look(self: &Arc<Self>, time: &str) -> Result<Contents> {
        let shared = self.clone();
        let mut contents = blocking(move || shared.list()).await?;
        let mut gone = Vec::new();
        for part in contents.values().filter(|p| !p.is_sized()) {
            match part.survey(time).await {
                Ok(_) => {}
                // It is told to whoever reads it: rows of other slices are none of its business.
                Err(_) if part.own.is_some() => {}
                // Its writer took it away again since it was listed.
                Err(_) if !self.base.join(&part.name).exists() => gone.push(part.name.clone()),
                Err(e) => return Err(e),
            }
        }
        contents.retain(|name, _| !gone.contains(name));
        Ok(contents)
    }

    /// The files that readers see; none where there is no folder. Blocks.
    pub(super) fn list(&self) -> Result<Contents> {
        let disk = self.durable.disk();
        let entries = match disk.list("") {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Contents::new()),
            Err(e) => return Err(self.durable.error("list", "", e)),
        };
        let known = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut contents = Contents::new();
        for entry in entries.into_iter().filter(|e| !is_hidden(&e.name)) {
            let name = entry.name;
            if let Some(part) = known.get(&name).filter(|p| p.is_sized()) {
                contents.insert(name, part.clone());
                continue;
            }
            let stat = match disk.stat(&name) {
                Ok(stat) => stat,
                // Gone since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(self.durable.error("look at", &name, e)),
            };
            if entry.is_dir || stat.is_dir {
                return Err(self.nested(&name));
            }
            if stat.length == 0 {
                continue;
            }
            self.settings.format.check_name(&name)?;
            let same = |p: &&Arc<Part>| (p.size, p.changed) == (stat.length, stat.modified);
            let part = match known.get(&name).filter(same) {
                Some(part) => part.clone(),
                None => Arc::new(self.part(&name, stat.length, stat.modified)?),
            };
            contents.insert(name, part);
        }
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) =
            contents.iter().map(|(name, part)| (name.clone(), part.clone())).collect();
        Ok(contents)
    }

    fn nested(&self, name: &str) -> Error {
        let what = format!("`{}` has a folder `{name}` inside", self.durable.disk().describe(""));
        Error::config(what).hint(
            "folders in folders, such as partitions, are not loaded by this version: some readers \
             see them and some do not",
        )
    }

    fn part(&self, name: &str, size: u64, changed: SystemTime) -> Result<Part> {
        let named = Named::parse(name);
        let receipt = match &named {
            Some(named) => receipts::of_file(&self.durable, named, name)?,
            None => None,
        };
        let own = receipt.map(|(interval, file)| Own {
            interval,
            sized: file.size == size,
            sum: file.xxh128.unwrap_or_default(),
        });
        let number = self.sorted.fetch_add(1, Ordering::Relaxed);
        let state = self.base.join(&self.room).join(number.to_string());
        let source = self.settings.source((&self.base, name), &state, own.is_some())?;
        Ok(self.with(name, (size, changed), named, own, source))
    }

    fn with(
        &self,
        name: &str,
        (size, changed): (u64, SystemTime),
        named: Option<Named>,
        own: Option<Own>,
        source: Arc<dyn Source>,
    ) -> Part {
        let (name, format) = (name.to_owned(), self.settings.format);
        Part { name, size, changed, named, own, format, source, survey: OnceCell::new() }
    }

    /// A file that is written and has no name yet.
    pub(super) fn sealed(&self, path: &str, size: u64, own: Own) -> Result<Part> {
        let source = self.settings.source((&self.base, path), &self.base, true)?;
        Ok(self.with(path, (size, SystemTime::UNIX_EPOCH), None, Some(own), source))
    }

    /// Makes the room for files that are no data yet; its path below the folder. Blocks.
    pub(super) fn work(&self) -> Result<&str> {
        let path = self.base.join(&self.room);
        let mut lock = self.in_room.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e| self.durable.error("make", &self.room, e);
        while lock.is_none() || !path.is_dir() {
            self.durable.ensure_dir(ASIDE).map_err(failed)?;
            std::fs::create_dir_all(&path).map_err(failed)?;
            // Another process may sweep it away before it is locked.
            *lock = File::open(&path)
                .ok()
                .filter(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        }
        Ok(&self.room)
    }

    /// Clears that room, and forgets what was sorted in it. Blocks.
    pub(super) fn leave(&self) {
        let mut lock = self.in_room.lock().unwrap_or_else(PoisonError::into_inner);
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ = std::fs::remove_dir_all(self.base.join(&self.room));
        *lock = None;
    }

    /// Waits for the right to change which files are there. Blocks.
    pub(super) fn lock(&self) -> Result<Locked> {
        let path = self.base.join(LOCK);
        let failed = |e| self.durable.error("lock", LOCK, e);
        self.durable.ensure_dir(ASIDE).map_err(failed)?;
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).truncate(false).write(true).open(&path)
        };
        let file = open().map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Locked(file))
    }

    /// Removes what killed runs left, and gives receipts their last name whose data file has it.
    /// Only who holds the lock knows that nobody is about to. Blocks.
    pub(super) fn sweep(&self, _: &Locked) -> Result<()> {
        receipts::settle(&self.durable)?;
        for entry in receipts::list(&self.durable, ASIDE)? {
            let path = self.base.join(ASIDE).join(&entry.name);
            if entry.is_dir && entry.name.starts_with(WORK) {
                sweep_room(&path);
            }
        }
        let plans = receipts::plans(&self.durable)?.into_iter().map(|p| format!("{RECEIPTS}/{p}"));
        for dir in plans.chain([ASIDE.to_owned()]) {
            let entries = receipts::list(&self.durable, &dir)?.into_iter();
            for entry in entries.filter(|e| !e.is_dir && is_temporary(&e.name)) {
                self.durable.discard(&format!("{dir}/{}", entry.name));
            }
        }
        Ok(())
    }
}

fn sweep_room(path: &Path) {
    if let Ok(lock) = File::open(path)
        && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    {
        // What cannot be removed is tried again by the next run.
        let _ = std::fs::remove_dir_all(path);
    }
}
