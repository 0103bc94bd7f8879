//! The same durability for delta-rs: its checkpoints pass through here.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

use super::durable::{Created, Durable, is_temporary};

const STORE: &str = "retrofill";
/// Requests that are served at once. A checkpoint asks for a hundred files in one moment; as many
/// threads would then take turns with all the work of a load, and each would keep memory for it.
const AT_ONCE: usize = 4;

/// An object store whose root is the table, where a put that returned survives a power loss.
#[derive(Debug, Clone)]
pub(super) struct DurableStore {
    durable: Durable,
    turns: Arc<Semaphore>,
}

impl DurableStore {
    /// Over this disk.
    pub(super) fn new(durable: Durable) -> Self {
        DurableStore { durable, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Durable) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let durable = self.durable.clone();
        let turn = self.turns.clone().acquire_owned().await;
        let work = move || {
            let _turn = turn;
            work(&durable)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::Generic { store: STORE, source: Box::new(e) })?
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableStore({})", self.durable.disk().describe(""))
    }
}

fn failed(path: &str, e: std::io::Error) -> Error {
    let (path, kind) = (path.to_owned(), e.kind());
    let source = Box::new(e);
    match kind {
        ErrorKind::NotFound => Error::NotFound { path, source },
        ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
        _ => Error::Generic { store: STORE, source },
    }
}

fn put(durable: &Durable, path: &str, bytes: &[u8], create: bool) -> Result<PutResult> {
    let done = if create {
        match durable.create(path, bytes) {
            Created::Done => Ok(()),
            Created::Exists => Err(ErrorKind::AlreadyExists.into()),
            Created::Not(e) | Created::Unknown(e) => Err(e),
        }
    } else {
        durable.replace(path, bytes)
    };
    done.map_err(|e| failed(path, e))?;
    Ok(PutResult { e_tag: None, version: None })
}

fn meta(durable: &Durable, path: &str) -> Result<ObjectMeta> {
    let stat = durable.disk().stat(path).map_err(|e| failed(path, e))?;
    if stat.is_dir {
        return Err(failed(path, ErrorKind::NotFound.into()));
    }
    Ok(ObjectMeta {
        location: Path::parse(path)?,
        last_modified: stat.modified.into(),
        size: stat.length,
        e_tag: None,
        version: None,
    })
}

/// All files below a directory, in order; temporary ones are not there for anyone.
fn walk(durable: &Durable, dir: &str, deep: bool, found: &mut ListResult) -> Result<()> {
    let mut entries = match durable.disk().list(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(e) => return Err(failed(dir, e)),
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries.iter().filter(|e| !is_temporary(&e.name)) {
        let path =
            if dir.is_empty() { entry.name.clone() } else { format!("{dir}/{}", entry.name) };
        match (entry.is_dir, deep) {
            (true, true) => walk(durable, &path, deep, found)?,
            (true, false) => found.common_prefixes.push(Path::parse(&path)?),
            (false, _) => match meta(durable, &path) {
                Ok(meta) => found.objects.push(meta),
                // Removed since it was listed.
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            },
        }
    }
    Ok(())
}

fn get(
    durable: &Durable,
    path: &str,
    options: &GetOptions,
) -> Result<(ObjectMeta, Range<u64>, Bytes)> {
    let meta = meta(durable, path)?;
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        Some(range) => range
            .as_range(meta.size)
            .map_err(|e| Error::Generic { store: STORE, source: Box::new(e) })?,
        None => 0..meta.size,
    };
    if options.head {
        return Ok((meta, range, Bytes::new()));
    }
    let file = durable.disk().open(path).map_err(|e| failed(path, e))?;
    let bytes = file.range(range.start, range.end - range.start).map_err(|e| failed(path, e))?;
    Ok((meta, range, bytes))
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotSupported { source: "conditional updates".into() });
            }
        };
        let path = location.to_string();
        let bytes: Bytes = payload.into();
        self.blocking(move |durable| put(durable, &path, &bytes, create)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = location.to_string();
        Ok(Box::new(Upload { store: self.clone(), path, bytes: BytesMut::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.to_string();
        let (meta, range, bytes) =
            self.blocking(move |durable| get(durable, &path, &options)).await?;
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::new() })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    let path = location.to_string();
                    store
                        .blocking(move |d| d.disk().remove(&path).map_err(|e| failed(&path, e)))
                        .await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let dir = prefix.map(ToString::to_string).unwrap_or_default();
        async move {
            let listed = store
                .blocking(move |durable| {
                    let mut found = ListResult { common_prefixes: vec![], objects: vec![] };
                    walk(durable, &dir, true, &mut found)?;
                    Ok(found.objects)
                })
                .await;
            match listed {
                Ok(objects) => stream::iter(objects.into_iter().map(Ok)).boxed(),
                Err(e) => stream::iter([Err(e)]).boxed(),
            }
        }
        .flatten_stream()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let dir = prefix.map(ToString::to_string).unwrap_or_default();
        self.blocking(move |durable| {
            let mut found = ListResult { common_prefixes: vec![], objects: vec![] };
            walk(durable, &dir, false, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.to_string(), to.to_string());
        let create = matches!(options.mode, CopyMode::Create);
        self.blocking(move |durable| {
            let bytes = durable.disk().read(&from).map_err(|e| failed(&from, e))?;
            put(durable, &to, &bytes, create).map(|_| ())
        })
        .await
    }
}

/// Collects the parts in memory: checkpoints are small, and a part alone means nothing.
#[derive(Debug)]
struct Upload {
    store: DurableStore,
    path: String,
    bytes: BytesMut,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        for part in &payload {
            self.bytes.extend_from_slice(part);
        }
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (path, bytes) = (self.path.clone(), std::mem::take(&mut self.bytes));
        self.store.blocking(move |durable| put(durable, &path, &bytes, false)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::disk::RealDisk;
    use super::*;

    #[tokio::test]
    async fn many_requests_take_few_threads() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableStore::new(Durable::new(Arc::new(RealDisk::new(dir.path().into()))));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let request = |i: usize| {
            let (now, most) = (now.clone(), most.clone());
            store.blocking(move |_| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(i)
            })
        };
        let done = futures::future::try_join_all((0..64).map(request)).await.unwrap();
        assert_eq!(done, (0..64).collect::<Vec<_>>());
        let most = most.load(Ordering::SeqCst);
        assert!((1..=AT_ONCE).contains(&most), "{most} at once");
    }
}
