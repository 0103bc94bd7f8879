//! A disk that can lose power: what was not synced is dropped, reordered or torn.
//!
//! It keeps every operation, so that one run gives any number of crash states: the operations up
//! to some point, and of those what a seed lets survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::disk::{Disk, DiskFile, DiskWrite, Entry, ReadAt, Stat};
use super::durable::parent;

type Inode = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(Inode),
    Dir,
}

/// One operation, as the disk saw it.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Root,
    Set {
        path: String,
        node_of: Option<Inode>,
    },
    Unset(String),
    Write(Inode, Bytes),
    Sync(Inode),
    SyncDir(String),
    /// The program was told that its step with this number is done.
    Done(usize),
}

/// Small and good enough to choose what survives.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[derive(Debug, Clone, Default)]
struct Content {
    synced: Bytes,
    current: Vec<u8>,
    dirty: bool,
}

#[derive(Debug, Clone, Default)]
struct Dir {
    current: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
    /// Changes since the last sync, in order.
    pending: Vec<(String, Option<Node>)>,
}

/// Everything on the disk, with what of it is durable.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    files: HashMap<Inode, Content>,
    dirs: BTreeMap<String, Dir>,
}

fn split(path: &str) -> (&str, &str) {
    (parent(path), path.rsplit('/').next().unwrap_or(path))
}

impl Image {
    /// Takes one operation.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Root => {
                self.dirs.entry(String::new()).or_default();
            }
            Op::Set { path, node_of } => {
                let node = node_of.map_or(Node::Dir, Node::File);
                match node {
                    Node::Dir => self.dirs.entry(path.clone()).or_default().pending.clear(),
                    Node::File(inode) => {
                        self.files.entry(inode).or_default();
                    }
                }
                self.change(path, Some(node));
            }
            Op::Unset(path) => self.change(path, None),
            Op::Write(inode, bytes) => {
                let file = self.files.entry(*inode).or_default();
                file.current.extend_from_slice(bytes);
                file.dirty = true;
            }
            Op::Sync(inode) => {
                let file = self.files.entry(*inode).or_default();
                file.synced = Bytes::copy_from_slice(&file.current);
                file.dirty = false;
            }
            Op::SyncDir(path) => {
                let dir = self.dirs.entry(path.clone()).or_default();
                dir.synced = dir.current.clone();
                dir.pending.clear();
            }
            Op::Done(_) => {}
        }
    }

    /// Equal for equal disks.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        for (path, dir) in &self.dirs {
            hash.update(path.as_bytes());
            for (name, node) in &dir.current {
                hash.update(name.as_bytes());
                if let Node::File(inode) = node {
                    hash.update(&inode.to_le_bytes());
                    hash.update(&self.files[inode].current);
                }
            }
        }
        hash.digest128()
    }

    fn change(&mut self, path: &str, node: Option<Node>) {
        let (dir, name) = split(path);
        let dir = self.dirs.entry(dir.to_owned()).or_default();
        match node {
            Some(node) => dir.current.insert(name.to_owned(), node),
            None => dir.current.remove(name),
        };
        dir.pending.push((name.to_owned(), node));
    }

    /// What is there after the power came back.
    pub(super) fn after_power_loss(&self, chance: &mut Chance) -> Image {
        let mut left = Image::default();
        if self.dirs.contains_key("") {
            self.survive("", chance, &mut left);
        }
        left
    }

    fn survive(&self, path: &str, chance: &mut Chance, left: &mut Image) {
        let dir = &self.dirs[path];
        let mut names = dir.synced.clone();
        let touched: BTreeSet<&String> = dir.pending.iter().map(|(name, _)| name).collect();
        for name in touched {
            let mut states = vec![dir.synced.get(name).copied()];
            states.extend(dir.pending.iter().filter(|(n, _)| n == name).map(|(_, node)| *node));
            match states[chance.below(states.len())] {
                Some(node) => names.insert(name.clone(), node),
                None => names.remove(name),
            };
        }
        for (name, node) in &names {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match node {
                Node::Dir => self.survive(&below, chance, left),
                Node::File(inode) => {
                    let bytes = self.files[inode].after_power_loss(chance);
                    let content = Content { current: bytes.to_vec(), synced: bytes, dirty: false };
                    left.files.entry(*inode).or_insert(content);
                }
            }
        }
        left.dirs.insert(
            path.to_owned(),
            Dir { current: names.clone(), synced: names, pending: Vec::new() },
        );
    }
}

impl Content {
    fn after_power_loss(&self, chance: &mut Chance) -> Bytes {
        if !self.dirty {
            return self.synced.clone();
        }
        let mut bytes = self.current.clone();
        match chance.below(4) {
            0 => self.synced.clone(),
            1 => bytes.into(),
            2 => {
                bytes.truncate(chance.below(bytes.len() + 1));
                bytes.into()
            }
            _ => {
                // A block that was allocated but never reached the disk.
                let from = chance.below(bytes.len() + 1);
                let to = (from + 512).min(bytes.len());
                bytes[from..to].fill(0);
                bytes.into()
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    image: Image,
    trace: Vec<Op>,
    next: Inode,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct CrashDisk {
    inner: Arc<Mutex<Inner>>,
    /// Changes until one fails; negative: none does.
    fails_after: Arc<AtomicI64>,
}

impl CrashDisk {
    /// An empty disk.
    pub(super) fn new() -> Self {
        Self::with(Image::default())
    }

    /// A disk that holds this.
    pub(super) fn with(image: Image) -> Self {
        let next = image.files.keys().max().map_or(1, |n| n + 1);
        let inner = Inner { image, trace: Vec::new(), next };
        CrashDisk { inner: Arc::new(Mutex::new(inner)), fails_after: Arc::new(AtomicI64::new(-1)) }
    }

    /// Lets the n-th change from now fail as if the disk were full.
    pub(super) fn fail_after(&self, changes: i64) {
        self.fails_after.store(changes, Ordering::SeqCst);
    }

    /// Whether the failure is still to come.
    pub(super) fn fails_later(&self) -> bool {
        self.fails_after.load(Ordering::SeqCst) >= 0
    }

    /// Notes that the program was told that this step is done.
    pub(super) fn done(&self, step: usize) {
        self.inner.lock().unwrap().trace.push(Op::Done(step));
    }

    /// Everything on it now.
    pub(super) fn image(&self) -> Image {
        self.inner.lock().unwrap().image.clone()
    }

    /// All operations so far.
    pub(super) fn trace(&self) -> Vec<Op> {
        self.inner.lock().unwrap().trace.clone()
    }

    fn change<T>(&self, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let left = self.fails_after.load(Ordering::SeqCst);
        if left >= 0 {
            self.fails_after.store(left - 1, Ordering::SeqCst);
            if left == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        work(&mut self.inner.lock().unwrap())
    }
}

impl Inner {
    fn record(&mut self, op: Op) {
        self.image.apply(&op);
        self.trace.push(op);
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        if path.is_empty() {
            return self.image.dirs.get("").map(|_| Node::Dir).ok_or(ErrorKind::NotFound.into());
        }
        let (dir, name) = split(path);
        let dir = self.image.dirs.get(dir).ok_or(ErrorKind::NotFound)?;
        dir.current.get(name).copied().ok_or(ErrorKind::NotFound.into())
    }

    fn inode(&self, path: &str) -> io::Result<Inode> {
        match self.node(path)? {
            Node::File(inode) => Ok(inode),
            Node::Dir => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn free(&self, path: &str) -> io::Result<()> {
        self.node(parent(path))?;
        match self.node(path) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => Ok(()),
        }
    }
}

struct Writer {
    disk: CrashDisk,
    inode: Inode,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let op = Op::Write(self.inode, Bytes::copy_from_slice(bytes));
        self.disk.change(|inner| {
            inner.record(op);
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskWrite for Writer {
    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        self.disk.change(|inner| {
            inner.record(Op::Sync(inode));
            Ok(())
        })
    }
}

struct Bits(Bytes);

impl ReadAt for Bits {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.0.get(from..from + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Disk for CrashDisk {
    fn describe(&self, path: &str) -> String {
        format!("memory/{path}")
    }

    fn create_root(&self) -> io::Result<()> {
        self.change(|inner| {
            inner.record(Op::Root);
            Ok(())
        })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.free(path)?;
            inner.record(Op::Set { path: path.into(), node_of: None });
            Ok(())
        })
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskWrite>> {
        self.change(|inner| {
            inner.free(path)?;
            let inode = inner.next;
            inner.next += 1;
            inner.record(Op::Set { path: path.into(), node_of: Some(inode) });
            Ok(Box::new(Writer { disk: self.clone(), inode }) as Box<dyn DiskWrite>)
        })
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let inode = inner.inode(from)?;
            inner.free(to)?;
            inner.record(Op::Set { path: to.into(), node_of: Some(inode) });
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let inode = inner.inode(from)?;
            inner.record(Op::Set { path: to.into(), node_of: Some(inode) });
            inner.record(Op::Unset(from.into()));
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.inode(path)?;
            inner.record(Op::Unset(path.into()));
            Ok(())
        })
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.node(path)?;
            inner.record(Op::SyncDir(path.into()));
            Ok(())
        })
    }

    fn open(&self, path: &str) -> io::Result<DiskFile> {
        let inner = self.inner.lock().unwrap();
        let content = &inner.image.files[&inner.inode(path)?];
        let bytes = if content.dirty {
            Bytes::copy_from_slice(&content.current)
        } else {
            content.synced.clone()
        };
        let length = bytes.len() as u64;
        Ok(DiskFile::new(Arc::new(Bits(bytes)), length))
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let inner = self.inner.lock().unwrap();
        inner.node(path)?;
        let names = inner.image.dirs[path].current.iter();
        Ok(names.map(|(n, node)| Entry { name: n.clone(), is_dir: *node == Node::Dir }).collect())
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let inner = self.inner.lock().unwrap();
        let (length, inode, is_dir) = match inner.node(path)? {
            Node::Dir => (0, 0, true),
            Node::File(inode) => (inner.image.files[&inode].current.len() as u64, inode, false),
        };
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(inode);
        Ok(Stat { length, modified, is_dir })
    }
}
