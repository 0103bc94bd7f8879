//! The objects of one bucket: which there are, and how one is opened.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path as Local;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock};

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use retrofill_core::error::{Error, Result};
use retrofill_core::survey::FileStamp;
use tokio::runtime::{Builder, Runtime};

use super::address::{Address, Scheme, alternatives, fixed, is_pattern};
use super::fault::Faults;
use super::object::{Object, Version};
use super::options::Options;
use crate::files::open::matcher;

/// Bytes of a list of checksums at most.
const LONGEST_TEXT: u64 = 64 << 20;

/// A bucket that files are read from.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    scheme: Scheme,
    root: String,
    faults: Faults,
}

/// Network calls have threads of their own: who waits for them may be any thread, also one that
/// computes, or that drives other tasks.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        let made = builder.worker_threads(2).thread_name("objects").enable_all().build();
        made.map_err(|e| Error::unavailable("no thread can be started to read objects").because(e))
    });
    made.as_ref().map_err(Clone::clone)
}

/// An answer that is on its way. Nobody asks for it any more once this is dropped.
#[derive(Debug)]
pub(super) struct Coming<T> {
    answer: std::sync::mpsc::Receiver<T>,
    task: tokio::task::AbortHandle,
}

impl<T: Send + 'static> Coming<T> {
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Result<Self> {
        let (give, answer) = sync_channel(1);
        let task = runtime()?.spawn(async move {
            // Nobody may listen any more.
            let _ = give.send(work.await);
        });
        Ok(Coming { answer, task: task.abort_handle() })
    }

    /// Waits for it.
    pub(super) fn wait(self) -> Result<T> {
        self.answer.recv().map_err(|_| Error::bug("a request to an object store broke off"))
    }
}

impl<T> Drop for Coming<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Objects {
    /// Opens the bucket of an address; asks it for nothing yet.
    pub(super) fn open(address: &Address, options: &Options, base: &Local) -> Result<Self> {
        let (store, faults) = options.store(address, base)?;
        Ok(Self::over(store, address, faults))
    }

    pub(super) fn over(store: Arc<dyn ObjectStore>, address: &Address, faults: Faults) -> Self {
        let (scheme, root) = (address.scheme, address.root.clone());
        Objects { store, scheme, root, faults }
    }

    /// What all names of files begin with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The part of a name behind the bucket.
    fn key<'a>(&self, name: &'a str) -> Result<&'a str> {
        name.strip_prefix(&self.root).ok_or_else(|| {
            Error::config(format!("`{name}` does not lie in `{}`", self.root))
                .hint("a list of checksums lies in the bucket of its files; name its whole address")
        })
    }

    /// The driver's name of an object.
    fn location(&self, name: &str) -> Result<Path> {
        let key = self.key(name)?;
        let path = match self.scheme {
            Scheme::Http => Path::from_url_path(key),
            _ => Path::parse(key),
        };
        path.map_err(|e| {
            Error::config(format!("`{name}` cannot be the name of an object")).because(e)
        })
    }

    /// The objects of a name or pattern, in the order of their names.
    pub(super) fn find(&self, pattern: &str) -> Result<Vec<FileStamp>> {
        let key = self.key(pattern)?;
        if self.scheme == Scheme::Http {
            let names = alternatives(pattern)?;
            return names.iter().map(|name| self.look(name)).collect();
        }
        if !is_pattern(key) {
            return Ok(vec![self.look(pattern)?]);
        }
        let (matches, hidden) = (matcher(key)?, key.starts_with('.') || key.contains("/."));
        let prefix = fixed(key);
        let found = self.list(pattern, prefix)?;
        // Some tools mark a directory by an empty object of its name.
        let dirs: BTreeSet<&str> =
            found.iter().filter_map(|m| Some(m.location.as_ref().rsplit_once('/')?.0)).collect();
        let is_mark = |meta: &ObjectMeta| meta.size == 0 && dirs.contains(meta.location.as_ref());
        let files = found.iter().filter(|meta| {
            let name = meta.location.as_ref();
            let inside = name[prefix.len().min(name.len())..].trim_start_matches('/');
            let shown = hidden || !inside.split('/').any(|part| part.starts_with('.'));
            matches.is_match(name) && shown && !is_mark(meta)
        });
        let mut files = files.map(|meta| self.stamp(meta, None)).collect::<Result<Vec<_>>>()?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        if files.is_empty() {
            return Err(Error::config(format!("no object matches `{pattern}`")).hint(
                "`*` stays within a directory, `**` crosses them; large and small letters differ",
            ));
        }
        Ok(files)
    }

    fn list(&self, pattern: &str, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let prefix = if prefix.is_empty() {
            None
        } else {
            Some(self.location(&format!("{}{prefix}", self.root))?)
        };
        let store = Arc::clone(&self.store);
        let list = async move { store.list(prefix.as_ref()).try_collect::<Vec<_>>().await };
        Coming::start(list)?.wait()?.map_err(|e| self.faults.looking(pattern, &e))
    }

    /// One object, by its name.
    fn look(&self, name: &str) -> Result<FileStamp> {
        let (store, location) = (Arc::clone(&self.store), self.location(name)?);
        let found = Coming::start(async move { store.head(&location).await })?.wait()?;
        let meta = found.map_err(|e| self.faults.looking(name, &e))?;
        self.stamp(&meta, Some(name))
    }

    fn stamp(&self, meta: &ObjectMeta, name: Option<&str>) -> Result<FileStamp> {
        let path = match name {
            Some(name) => name.to_owned(),
            None => format!("{}{}", self.root, meta.location),
        };
        if meta.size == 0 {
            return Err(Error::config(format!("`{path}` is empty"))
                .hint("narrow the pattern to leave it out"));
        }
        let stamp = Version::of(meta, self.scheme).to_string();
        Ok(FileStamp { path, size: meta.size, stamp })
    }

    /// An object as it was when it was found; nothing is read yet.
    pub(super) fn object(&self, file: &FileStamp) -> Result<Object> {
        Ok(Object {
            store: Arc::clone(&self.store),
            location: self.location(&file.path)?,
            version: Version::parse(&file.stamp),
            file: file.clone(),
            faults: self.faults.clone(),
            head: OnceLock::new(),
            windows: Mutex::default(),
            failure: OnceLock::new(),
        })
    }

    /// All of a text, such as a list of checksums.
    pub(super) fn text(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.look(name)?;
        if file.size > LONGEST_TEXT {
            return Err(Error::config(format!("`{name}` is larger than 64 MiB")));
        }
        let mut text = vec![0; file.size as usize];
        let object = self.object(&file)?;
        super::fault::checked(object.fill(&mut text, 0), name)?;
        Ok(text)
    }
}
