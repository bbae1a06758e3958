//! An object store that counts requests and fails those it is told to fail.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
    path::Path,
};
use serde::Serialize;

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// Writes an object.
    Put,
    /// Reads one, or part of one.
    Get,
    /// Deletes one.
    Delete,
    /// Lists a folder.
    List,
}

/// Which requests: their kind and a part of their path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Kind.
    pub kind: RequestKind,
    /// A part of the path.
    pub path: &'static str,
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails and has done nothing.
    Before,
    /// It is carried out; the answer is lost.
    After,
    /// What is read is cut to half.
    Truncate,
    /// It is carried out later.
    Delay(Duration),
    /// It never comes back.
    Hang,
    /// The store has too much to do, as S3 says it.
    Throttled,
    /// The disk is full, as a directory says it.
    Full,
}

/// An object store with faults. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct FaultStore {
    store: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    latency: Duration,
    down: bool,
    faults: Vec<Planned>,
    counts: BTreeMap<(RequestKind, String), (u64, u64)>,
}

struct Planned {
    request: Request,
    /// Matching requests that come before.
    skip: u64,
    /// How many then fail.
    count: u64,
    fault: Fault,
}

impl FaultStore {
    /// A store without faults over another.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        FaultStore {
            store,
            plan: Arc::default(),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the requests that match, `count` fail after `skip` that do not.
    pub fn fail(&self, request: Request, skip: u64, count: u64, fault: Fault) {
        self.plan().faults.push(Planned {
            request,
            skip,
            count,
            fault,
        });
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.faults.clear();
        plan.down = false;
    }

    /// Whether every request fails.
    pub fn set_down(&self, down: bool) {
        self.plan().down = down;
    }

    /// How long every request takes.
    pub fn set_latency(&self, latency: Duration) {
        self.plan().latency = latency;
    }

    /// How many requests there were, failed ones included, and bytes written or read by them.
    #[must_use]
    pub fn count(&self, request: Request) -> (u64, u64) {
        let plan = self.plan();
        let matching = (plan.counts.iter())
            .filter(|((kind, path), _)| *kind == request.kind && path.contains(request.path));
        matching.fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1))
    }

    /// Forgets what was counted.
    pub fn reset_counts(&self) {
        self.plan().counts.clear();
    }

    fn add_bytes(&self, location: &Path, bytes: u64) {
        let mut plan = self.plan();
        let key = (RequestKind::Get, location.to_string());
        plan.counts.entry(key).or_default().1 += bytes;
    }

    /// Counts a request; its delay and its fault.
    fn judge(&self, kind: RequestKind, path: &str, bytes: u64) -> (Duration, Option<Fault>) {
        let mut plan = self.plan();
        let count = plan.counts.entry((kind, path.to_owned())).or_default();
        count.0 += 1;
        count.1 += bytes;
        if plan.down {
            return (plan.latency, Some(Fault::Before));
        }
        let matching = |planned: &&mut Planned| {
            planned.count > 0 && planned.request.kind == kind && path.contains(planned.request.path)
        };
        let mut fault = None;
        for planned in plan.faults.iter_mut().filter(|planned| matching(planned)) {
            if planned.skip > 0 {
                planned.skip -= 1;
            } else if fault.is_none() {
                planned.count -= 1;
                fault = Some(planned.fault);
            }
        }
        (plan.latency, fault)
    }

    /// Carries a request out, or does not.
    async fn request<T>(
        &self,
        kind: RequestKind,
        path: &str,
        bytes: u64,
        act: impl Future<Output = Result<T>>,
    ) -> Result<(T, Option<Fault>)> {
        let (latency, fault) = self.judge(kind, path, bytes);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            Some(Fault::Before) => return Err(injected("before")),
            Some(Fault::Throttled) => return Err(throttled()),
            Some(Fault::Full) => return Err(full()),
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::After | Fault::Truncate) | None => {}
        }
        let done = act.await?;
        match fault {
            Some(Fault::After) => Err(injected("after")),
            fault => Ok((done, fault)),
        }
    }
}

/// An upload in parts, whose parts are requests.
#[derive(Debug)]
struct Upload {
    faults: FaultStore,
    location: Path,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (faults, location) = (self.faults.clone(), self.location.clone());
        let bytes = data.content_length() as u64;
        let put = self.upload.put_part(data);
        async move {
            let put = faults.request(RequestKind::Put, location.as_ref(), bytes, put);
            put.await.map(|_| ())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let complete = self.upload.complete();
        let path = self.location.as_ref();
        Ok(self
            .faults
            .request(RequestKind::Put, path, 0, complete)
            .await?
            .0)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

fn injected(when: &str) -> object_store::Error {
    object_store::Error::Generic {
        store: "faults",
        source: format!("injected {when} the request").into(),
    }
}

fn throttled() -> object_store::Error {
    let answer = "Server returned non-2xx status code: 503 Service Unavailable: \
                  <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>\
                  </Error>";
    object_store::Error::Generic {
        store: "S3",
        source: answer.into(),
    }
}

fn full() -> object_store::Error {
    object_store::Error::Generic {
        store: "LocalFileSystem",
        source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultStore").field(&self.store).finish()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults over {}", self.store)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let put = self.store.put_opts(location, payload, options);
        let put = self.request(RequestKind::Put, location.as_ref(), bytes, put);
        Ok(put.await?.0)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = self.store.put_multipart_opts(location, options);
        let put = self.request(RequestKind::Put, location.as_ref(), 0, put);
        let (upload, _) = put.await?;
        Ok(Box::new(Upload {
            faults: self.clone(),
            location: location.clone(),
            upload,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let get = self.store.get_opts(location, options);
        let (got, fault) = self
            .request(RequestKind::Get, location.as_ref(), 0, get)
            .await?;
        let length = got.range.end - got.range.start;
        self.add_bytes(location, length);
        if fault == Some(Fault::Truncate) {
            let bytes = got.bytes().await?;
            let half = bytes.slice(..bytes.len() / 2);
            return Ok(GetResult {
                range: 0..half.len() as u64,
                payload: GetResultPayload::Stream(
                    futures::stream::once(async move { Ok(half) }).boxed(),
                ),
                meta: ObjectMeta {
                    location: location.clone(),
                    last_modified: Default::default(),
                    size: length,
                    e_tag: None,
                    version: None,
                },
                attributes: Default::default(),
                extensions: Default::default(),
            });
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let get = self.store.get_ranges(location, ranges);
        let get = self.request(RequestKind::Get, location.as_ref(), bytes, get);
        Ok(get.await?.0)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let faults = self.clone();
        let delete = move |location: Result<Path>| {
            let faults = faults.clone();
            async move {
                let location = location?;
                let one = futures::stream::once({
                    let location = location.clone();
                    async move { Ok(location) }
                });
                let mut deleting = faults.store.delete_stream(one.boxed());
                let delete = async { deleting.next().await.transpose() };
                let delete = faults.request(RequestKind::Delete, location.as_ref(), 0, delete);
                delete.await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.map(Path::to_string).unwrap_or_default();
        let (faults, listed) = (self.clone(), self.store.list(prefix));
        let start = async move {
            let list = faults.request(RequestKind::List, &path, 0, async { Ok(()) });
            match list.await {
                Ok(_) => listed,
                Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            }
        };
        futures::stream::once(start).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map(Path::to_string).unwrap_or_default();
        let list = self.store.list_with_delimiter(prefix);
        Ok(self.request(RequestKind::List, &path, 0, list).await?.0)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = self.store.copy_opts(from, to, options);
        let copied = self.request(RequestKind::Put, to.as_ref(), 0, copy).await;
        copied.map(|_| ())
    }
}
