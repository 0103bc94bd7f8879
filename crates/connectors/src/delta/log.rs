//! Reads the Delta log: a checkpoint, then one entry after the other.
//!
//! One state per table is kept and carried on by the entries that came since, so that a slice
//! costs no reading of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use retrofill_core::error::{Error, Result};

use super::checkpoint;
use super::durable::{Durable, is_temporary};
use super::state::{Line, State};

/// Where the log lies.
pub(super) const LOG: &str = "_delta_log";

/// The log entry of a version.
pub(super) fn entry_path(version: u64) -> String {
    format!("{LOG}/{version:020}.json")
}

/// The log of one table, with the newest state seen.
#[derive(Debug)]
pub(super) struct Log {
    durable: Durable,
    held: Mutex<Option<Held>>,
    /// Times the log was read from its start: each begins an epoch of its own.
    reads: AtomicU64,
}

/// The state, and by what the entry it ends with is known again.
#[derive(Debug)]
struct Held {
    state: State,
    last: Option<(u64, SystemTime)>,
}

impl Log {
    /// The log of the table on this disk.
    pub(super) fn new(durable: Durable) -> Self {
        Log { durable, held: Mutex::new(None), reads: AtomicU64::new(0) }
    }

    /// The disk it lies on.
    pub(super) fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Calls `look` with the newest state, or gives none where there is no table. Blocks.
    pub(super) fn newest<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<Option<T>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut held)?;
        Ok(held.as_mut().map(|h| look(&mut h.state)))
    }

    /// Calls `look` with the state as last seen, without looking for a newer one.
    pub(super) fn seen<T>(&self, look: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_mut().map(|h| look(&mut h.state))
    }

    fn refresh(&self, held: &mut Option<Held>) -> Result<()> {
        match held {
            // A table that was deleted and made again must not be taken for its predecessor.
            Some(h) if h.last.is_some() && self.stamp(h.state.version) == h.last => {
                if let Err(e) = self.carry_on(h) {
                    *held = None;
                    return Err(e);
                }
            }
            _ => {
                *held = None;
                *held = self.load()?;
            }
        }
        Ok(())
    }

    fn stamp(&self, version: u64) -> Option<(u64, SystemTime)> {
        let stat = self.durable.disk().stat(&entry_path(version)).ok()?;
        Some((stat.length, stat.modified))
    }

    fn carry_on(&self, held: &mut Held) -> Result<()> {
        loop {
            let next = held.state.version + 1;
            let path = entry_path(next);
            let bytes = match self.durable.disk().read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(self.durable.error("read", &path, e)),
            };
            held.state.apply(next, parse(&path, &bytes)?)?;
            held.last = self.stamp(next);
        }
    }

    fn load(&self) -> Result<Option<Held>> {
        let names = match self.durable.disk().list(LOG) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(self.durable.error("list", LOG, e)),
        };
        let found = Names::of(names.iter().map(|e| e.name.as_str()));
        if found.entries.is_empty() && found.checkpoints.is_empty() {
            self.check_empty()?;
            return Ok(None);
        }
        let epoch = self.reads.fetch_add(1, Ordering::Relaxed) << 32;
        let mut state = State::default();
        state.epoch = epoch;
        let mut next = 0;
        if let Some((version, parts)) = found.newest_checkpoint() {
            let mut lines = Vec::new();
            for part in parts {
                lines.extend(checkpoint::read(&self.durable, &format!("{LOG}/{part}"))?);
            }
            state.apply(version, lines)?;
            state.checkpoint = version;
            next = version + 1;
        }
        for version in found.entries.range(next..).copied() {
            if version != next {
                return Err(Error::config(format!(
                    "the Delta log has no entry {next}, but an entry {version}"
                ))
                .hint("the log is damaged, or was written by something that checkpoints anew"));
            }
            let path = entry_path(version);
            let bytes = self
                .durable
                .disk()
                .read(&path)
                .map_err(|e| self.durable.error("read", &path, e))?;
            state.apply(version, parse(&path, &bytes)?)?;
            next += 1;
        }
        if state.metadata.id.is_empty() {
            return Err(Error::config("the Delta log holds no table metadata")
                .at(self.durable.disk().describe(LOG)));
        }
        state.forget_changes();
        let last = self.stamp(state.version);
        Ok(Some(Held { state, last }))
    }

    /// An error where there is no table but the directory holds something else.
    fn check_empty(&self) -> Result<()> {
        let entries = match self.durable.disk().list("") {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.durable.error("list", "", e)),
        };
        let foreign = entries
            .iter()
            .find(|e| ![LOG, "_retrofill"].contains(&&*e.name) && !is_temporary(&e.name));
        match foreign {
            Some(entry) => Err(Error::config(format!(
                "`{}` is no Delta table but holds `{}`",
                self.durable.disk().describe(""),
                entry.name
            ))
            .hint("give the path of a Delta table, or of a directory that is empty or not there")),
            None => Ok(()),
        }
    }
}

fn parse(path: &str, bytes: &Bytes) -> Result<Vec<Line>> {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty());
    let parsed: Result<Vec<Line>, _> = lines.map(serde_json::from_slice).collect();
    match parsed {
        Ok(lines) if !lines.is_empty() => Ok(lines),
        Ok(_) => Err(Error::config(format!("the log entry `{path}` is empty"))),
        Err(e) => Err(Error::config(format!("the log entry `{path}` cannot be read")).because(e)),
    }
    .map_err(|e| {
        e.hint("a writer without fsync may have lost power; remove the entry if it is the last")
    })
}

/// The versions found in the log's directory.
#[derive(Default)]
struct Names {
    entries: BTreeSet<u64>,
    /// By version and number of parts: the parts found.
    checkpoints: BTreeMap<(u64, u32), BTreeMap<u32, Arc<str>>>,
}

impl Names {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Names::default();
        for name in names {
            let mut parts = name.split('.');
            let Some(version) = parts.next().filter(|v| v.len() == 20).and_then(|v| v.parse().ok())
            else {
                continue;
            };
            let rest: Vec<&str> = parts.collect();
            let (part, of) = match rest.as_slice() {
                ["json"] => {
                    found.entries.insert(version);
                    continue;
                }
                ["checkpoint", "parquet"] => (1, 1),
                ["checkpoint", part, of, "parquet"] => match (part.parse(), of.parse()) {
                    (Ok(part), Ok(of)) => (part, of),
                    _ => continue,
                },
                _ => continue,
            };
            found.checkpoints.entry((version, of)).or_default().insert(part, name.into());
        }
        found
    }

    /// The newest checkpoint of which all parts are there.
    fn newest_checkpoint(&self) -> Option<(u64, Vec<Arc<str>>)> {
        let whole = self.checkpoints.iter().rev().find(|((_, of), p)| p.len() == *of as usize);
        whole.map(|((version, _), parts)| (*version, parts.values().cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_checkpoints_count() {
        let v = |n: u64, rest: &str| format!("{n:020}.{rest}");
        let names = [
            v(0, "json"),
            v(1, "json"),
            v(1, "checkpoint.parquet"),
            v(2, "json"),
            v(2, "checkpoint.0000000001.0000000002.parquet"),
            v(2, "crc"),
            v(2, "checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"),
            "_last_checkpoint".into(),
            ".retrofill-00.tmp".into(),
        ];
        let found = Names::of(names.iter().map(String::as_str));
        assert_eq!(found.entries.len(), 3);
        assert_eq!(found.newest_checkpoint().unwrap().0, 1);
    }

    #[test]
    fn a_torn_entry_is_named() {
        let error = parse("_delta_log/5.json", &Bytes::from_static(b"{\"add\":{\"pa")).unwrap_err();
        assert!(error.message().contains("5.json"));
        assert!(parse("x", &Bytes::new()).is_err());
    }
}
