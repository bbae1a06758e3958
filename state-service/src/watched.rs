//! The object store as a node uses it: whatever a request is for, how it fares is told to the node's
//! health. So the log, flushes, reads and maintenance of pages are seen alike, each attempt of them.

use std::{
    fmt,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart, path::Path,
};
use tokio::time::timeout;

use crate::{
    caps::SLOW_ANSWER,
    health::{Health, Kind},
    object::OpenStore,
};

/// A store whose requests are watched. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct WatchedStore {
    open: OpenStore,
    health: Health,
    counts: Arc<Counts>,
}

/// Requests since the node began, by kind.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    deletes: AtomicU64,
    lists: AtomicU64,
    put_bytes: AtomicU64,
    got_bytes: AtomicU64,
}

impl Counts {
    fn one_more(&self, kind: Kind) {
        let count = match kind {
            Kind::Put => &self.puts,
            Kind::Get => &self.gets,
            Kind::Delete => &self.deletes,
            Kind::List => &self.lists,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn put(&self, bytes: usize) {
        self.put_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn got(&self, bytes: u64) {
        self.got_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// As they are now.
    pub(crate) fn read(&self) -> StoreRequests {
        StoreRequests {
            put_bytes: self.put_bytes.load(Ordering::Relaxed),
            got_bytes: self.got_bytes.load(Ordering::Relaxed),
            puts: self.puts.load(Ordering::Relaxed),
            gets: self.gets.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
        }
    }
}

/// Requests to the object store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreRequests {
    /// Objects or parts of them written, copies too.
    pub puts: u64,
    /// Objects or ranges of them read, or looked for.
    pub gets: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Lists begun.
    pub lists: u64,
    /// Bytes sent to be written, each time that they were.
    pub put_bytes: u64,
    /// Bytes of what was asked for and is there, whether or not all of it was read.
    pub got_bytes: u64,
}

impl WatchedStore {
    pub(crate) fn new(open: OpenStore, health: Health) -> Self {
        WatchedStore {
            open,
            health,
            counts: Arc::default(),
        }
    }

    /// What is counted of requests.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.open.store
    }

    /// Makes a request and tells how it fared.
    async fn watch<T>(&self, kind: Kind, request: impl Future<Output = Result<T>>) -> Result<T> {
        let mut request = pin!(request);
        let mut waiting = None;
        let answer = match timeout(SLOW_ANSWER, request.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = || self.open.slow(SLOW_ANSWER).to_string();
                waiting = Some(self.health.waits(kind, why));
                request.await
            }
        };
        drop(waiting);
        match &answer {
            Err(error) if !is_answer(error) => {
                let why = || self.open.explain(error).to_string();
                self.health.failed(kind, why);
            }
            Ok(_) | Err(_) => self.health.answered(kind),
        }
        answer
    }

    /// Every element of an answer in pieces is one more request.
    fn watch_each<T: Send + 'static>(
        &self,
        kind: Kind,
        pieces: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let store = self.clone();
        let next = move |mut pieces: BoxStream<'static, Result<T>>| {
            let store = store.clone();
            async move {
                let next = async { pieces.next().await.transpose() };
                let piece = store.watch(kind, next).await.transpose()?;
                Some((piece, pieces))
            }
        };
        futures::stream::unfold(pieces, next).boxed()
    }
}

/// Whether the store has answered, though not with what was asked for.
fn is_answer(error: &Error) -> bool {
    match error {
        Error::NotFound { source, .. } => !source.to_string().contains("NoSuchBucket"),
        Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. } => true,
        _ => false,
    }
}

/// An upload in parts, each of which is a request.
#[derive(Debug)]
struct Upload {
    store: WatchedStore,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.store.counts.one_more(Kind::Put);
        self.store.counts.put(data.content_length());
        let (store, put) = (self.store.clone(), self.upload.put_part(data));
        async move { store.watch(Kind::Put, put).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.counts.one_more(Kind::Put);
        let complete = self.upload.complete();
        self.store.watch(Kind::Put, complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

impl fmt::Debug for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedStore").field(&self.open).finish()
    }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store().fmt(f)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.counts.one_more(Kind::Put);
        self.counts.put(payload.content_length());
        let put = self.store().put_opts(location, payload, options);
        self.watch(Kind::Put, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.counts.one_more(Kind::Put);
        let put = self.store().put_multipart_opts(location, options);
        let upload = self.watch(Kind::Put, put).await?;
        let store = self.clone();
        Ok(Box::new(Upload { store, upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.counts.one_more(Kind::Get);
        let head = options.head;
        let get = self.store().get_opts(location, options);
        let mut got = self.watch(Kind::Get, get).await?;
        if !head {
            self.counts.got(got.range.end - got.range.start);
        }
        got.payload = match got.payload {
            GetResultPayload::Stream(pieces) => {
                GetResultPayload::Stream(self.watch_each(Kind::Get, pieces))
            }
            file => file,
        };
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.counts.one_more(Kind::Get);
        let get = self.store().get_ranges(location, ranges);
        let got = self.watch(Kind::Get, get).await?;
        self.counts
            .got(got.iter().map(|part| part.len() as u64).sum());
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let counts = self.counts();
        let counted = locations.inspect(move |_| counts.one_more(Kind::Delete));
        self.watch_each(Kind::Delete, self.store().delete_stream(counted.boxed()))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counts.one_more(Kind::List);
        self.watch_each(Kind::List, self.store().list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counts.one_more(Kind::List);
        let listed = self.store().list_with_offset(prefix, offset);
        self.watch_each(Kind::List, listed)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.counts.one_more(Kind::List);
        let list = self.store().list_with_delimiter(prefix);
        self.watch(Kind::List, list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.counts.one_more(Kind::Put);
        let copy = self.store().copy_opts(from, to, options);
        self.watch(Kind::Put, copy).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::{ObjectStoreExt as _, memory::InMemory};
    use proto::state_control::StateReport;

    use super::*;
    use crate::{
        caps::{TROUBLE_FORGOTTEN, TROUBLE_QUIET},
        object::{StoreUrl, open},
        reports::{ReportReceiver, Reports},
        testing::{Fault, FaultStore, Request, RequestKind},
    };

    const PUT: Request = Request {
        kind: RequestKind::Put,
        path: "",
    };
    const GET: Request = Request {
        kind: RequestKind::Get,
        path: "",
    };

    struct Bed {
        faults: FaultStore,
        store: WatchedStore,
        reports: ReportReceiver,
        path: Path,
    }

    impl Bed {
        async fn new() -> Bed {
            let faults = FaultStore::new(Arc::new(InMemory::new()));
            let variable = |name: &str| match name {
                "AWS_ENDPOINT_URL_S3" => Some("http://127.0.0.1:1".to_owned()),
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("key".to_owned()),
                _ => None,
            };
            let url = StoreUrl::parse("s3://bucket/x", &variable).expect("a URL");
            let open = open(&url).expect("open");
            let reports = Reports::default();
            let health = Health::new(reports.clone());
            let path = Path::from("a");
            faults.put(&path, "x".into()).await.expect("put");
            Bed {
                store: WatchedStore::new(open.with_store(Arc::new(faults.clone())), health),
                faults,
                reports: reports.receiver(),
                path,
            }
        }

        /// What is reported by now: why the store is in trouble, or nothing.
        fn reported(&mut self) -> Option<Option<String>> {
            match self.reports.try_recv()? {
                StateReport::Degraded { why } => Some(why),
                other => panic!("{other:?}"),
            }
        }

        async fn get(&self) -> bool {
            let got = async { self.store.get(&self.path).await?.bytes().await };
            got.await.is_ok()
        }

        async fn put(&self) -> bool {
            self.store.put(&self.path, "y".into()).await.is_ok()
        }
    }

    fn place(what: &str) -> Option<Option<String>> {
        Some(Some(format!(
            "bucket `bucket` at http://127.0.0.1:1 {what}"
        )))
    }

    /// As long as trouble must not have been seen before it is over.
    async fn quiet() {
        tokio::time::sleep(TROUBLE_QUIET + Duration::from_millis(10)).await;
    }

    const WELL: Option<Option<String>> = Some(None);

    #[tokio::test(start_paused = true)]
    async fn a_store_that_answers_late_is_degraded_while_one_waits() {
        let mut bed = Bed::new().await;
        bed.faults
            .set_latency(SLOW_ANSWER - Duration::from_millis(1));
        assert!(bed.get().await && bed.put().await);
        assert_eq!(bed.reported(), None);
        bed.faults.set_latency(2 * SLOW_ANSWER);
        assert!(bed.get().await, "it is slow, not broken");
        let slow = place("answers slowly: a request has waited for more than 2 s");
        assert_eq!(bed.reported(), slow);
        // One after the other, it does not go on and off.
        for _ in 0..5 {
            assert!(bed.get().await);
            assert_eq!(bed.reported(), None);
        }
        bed.faults.set_latency(Duration::ZERO);
        assert!(bed.get().await);
        quiet().await;
        assert_eq!(bed.reported(), WELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_has_not_been_answered() {
        let mut bed = Bed::new().await;
        bed.faults.fail(GET, 0, 1, Fault::Hang);
        let given_up = timeout(2 * SLOW_ANSWER, bed.store.get(&bed.path)).await;
        assert!(given_up.is_err());
        assert!(matches!(bed.reported(), Some(Some(_))));
        quiet().await;
        assert_eq!(bed.reported(), None);
        // Nobody has asked since: it may be well.
        tokio::time::sleep(TROUBLE_FORGOTTEN).await;
        assert_eq!(bed.reported(), WELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_refusals_is_one_trouble() {
        let mut bed = Bed::new().await;
        bed.faults.fail(PUT, 0, 1, Fault::Throttled);
        assert!(!bed.put().await);
        assert!(bed.put().await);
        assert_eq!(bed.reported(), None, "one is no news");
        quiet().await;
        // Half of them are refused.
        for skip in 0..5 {
            bed.faults.fail(PUT, 2 * skip, 1, Fault::Throttled);
        }
        for _ in 0..10 {
            bed.put().await;
            tokio::time::sleep(TROUBLE_QUIET / 4).await;
        }
        let throttled = place("has too much to do; it is asked again later");
        assert_eq!(bed.reported(), throttled);
        assert_eq!(bed.reported(), None);
        while !bed.put().await {}
        quiet().await;
        assert_eq!(bed.reported(), WELL);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_that_fail_are_trouble_though_writes_succeed() {
        let mut bed = Bed::new().await;
        bed.faults.fail(GET, 0, 3, Fault::Before);
        for _ in 0..3 {
            assert!(!bed.get().await);
            assert!(bed.put().await);
        }
        let failing = "bucket `bucket` at http://127.0.0.1:1: injected before the request";
        assert_eq!(bed.reported(), Some(Some(failing.to_owned())));
        quiet().await;
        assert_eq!(bed.reported(), None, "nothing was read yet");
        assert!(bed.get().await);
        quiet().await;
        assert_eq!(bed.reported(), WELL);
        // What is not there was answered.
        for _ in 0..3 {
            let missing = bed.store.get(&Path::from("missing")).await;
            assert!(matches!(missing, Err(Error::NotFound { .. })));
        }
        assert_eq!(bed.reported(), None);
    }
    #[tokio::test(start_paused = true)]
    async fn requests_and_their_bytes_are_counted() {
        let bed = Bed::new().await;
        let path = Path::from("b");
        bed.store
            .put(&path, "0123456789".into())
            .await
            .expect("put");
        let mut upload = bed
            .store
            .put_multipart(&Path::from("c"))
            .await
            .expect("begun");
        upload.put_part("abc".into()).await.expect("a part");
        upload.complete().await.expect("complete");
        bed.store.head(&path).await.expect("its length");
        bed.store
            .get(&path)
            .await
            .expect("there")
            .bytes()
            .await
            .expect("bytes");
        bed.store.get_range(&path, 2..5).await.expect("a range");
        bed.store
            .get_ranges(&path, &[0..1, 8..10])
            .await
            .expect("ranges");
        bed.store.delete(&path).await.expect("deleted");
        let requests = bed.store.counts().read();
        assert_eq!(requests.put_bytes, 13);
        assert_eq!(requests.got_bytes, 10 + 3 + 3);
        // A write, and an upload's begin, part and end.
        assert_eq!((requests.puts, requests.deletes), (4, 1));
        assert_eq!(requests.gets, 4);
    }
}
