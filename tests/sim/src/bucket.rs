//! The object store: a host of its own, so that what a process asked for is done though it has died
//! meanwhile. What is asked waits here until it arrives; what becomes of it, [`Weather`] says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart, memory::InMemory, path::Path,
};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    ambient,
    fences::Fences,
    trace::Trace,
    weather::{Fate, Kind, StoreFault, Weather},
};

/// How often the host looks what has arrived.
const TICK: Duration = Duration::from_millis(3);
/// How long whoever cannot reach the store waits for it.
const UNREACHED: Duration = Duration::from_secs(5);

/// The store. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Bucket {
    objects: Arc<InMemory>,
    queue: Arc<Mutex<Queue>>,
    trace: Trace,
}

struct Queue {
    weather: Weather,
    /// By when it arrives.
    requests: BTreeMap<(Duration, u64), (String, Request)>,
    answers: BTreeMap<(Duration, u64), (String, Answer)>,
    number: u64,
    /// Hosts that nothing comes from, nor goes to.
    held: BTreeSet<String>,
    /// Hosts of which all that comes and goes is lost.
    cut: BTreeSet<String>,
    fences: Fences,
    /// What must never be written, and was.
    violations: Vec<String>,
}

/// Told whether it is lost on its way.
type Answer = Box<dyn FnOnce(bool) + Send>;
/// The same.
type Request = Box<dyn FnOnce(Bucket, bool) -> BoxFuture<'static, (Duration, Answer)> + Send>;

impl Bucket {
    /// An empty one.
    #[must_use]
    pub fn new(weather: Weather, trace: Trace) -> Bucket {
        Bucket {
            objects: Arc::default(),
            queue: Arc::new(Mutex::new(Queue {
                weather,
                requests: BTreeMap::new(),
                answers: BTreeMap::new(),
                number: 0,
                held: BTreeSet::new(),
                cut: BTreeSet::new(),
                fences: Fences::default(),
                violations: Vec::new(),
            })),
            trace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as a process sees it: a host, and which start of it.
    #[must_use]
    pub fn of_host(&self, host: &str, start: u64) -> HostStore {
        HostStore {
            bucket: self.clone(),
            host: host.to_owned(),
            start,
        }
    }

    /// What must never be written, and was since this was asked.
    #[must_use]
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    /// Something is wrong from now on.
    pub fn begin(&self, fault: StoreFault, until: Duration) {
        self.lock().weather.begin(fault, until);
    }

    /// What a host asks, and is answered, waits until it is let go.
    pub fn hold(&self, host: &str) {
        self.lock().held.insert(host.to_owned());
    }

    /// What a host asks, and is answered, is lost until it is let go.
    pub fn cut(&self, host: &str) {
        self.lock().cut.insert(host.to_owned());
    }

    /// What was held goes its way, and nothing more is lost.
    pub fn release(&self, host: &str) {
        let mut queue = self.lock();
        queue.held.remove(host);
        queue.cut.remove(host);
    }

    /// Whether anything is on its way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.lock().requests.is_empty()
    }

    /// Everything that is there now, with its size.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, u64> {
        let listed = self.objects.list(None).try_collect::<Vec<_>>();
        let listed = listed.now_or_never().expect("memory does not wait");
        let listed = listed.expect("memory does not fail");
        let entry = |meta: ObjectMeta| (meta.location.to_string(), meta.size);
        listed.into_iter().map(entry).collect()
    }

    /// Carries out what arrives, for as long as the host lives.
    pub async fn serve(self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let now = ambient::now();
            while let Some((host, request)) = self.next_request(now) {
                let lost = self.is_cut(&host);
                let (back, answer) = request(self.clone(), lost).await;
                let mut queue = self.lock();
                let at = queue.place(now + back);
                queue.answers.insert(at, (host, answer));
            }
            while let Some((host, answer)) = self.next_answer(now) {
                answer(self.is_cut(&host));
            }
        }
    }

    fn next_request(&self, now: Duration) -> Option<(String, Request)> {
        let queue = &mut *self.lock();
        next(&mut queue.requests, &queue.held, now)
    }

    fn next_answer(&self, now: Duration) -> Option<(String, Answer)> {
        let queue = &mut *self.lock();
        next(&mut queue.answers, &queue.held, now)
    }

    fn is_cut(&self, host: &str) -> bool {
        self.lock().cut.contains(host)
    }

    fn changed(&self, what: &str, path: &Path, bytes: &[u8]) {
        let (length, hash) = (bytes.len(), xxh3_64(bytes));
        self.trace
            .line(format_args!("bucket {what} {path} {length} {hash:016x}"));
    }
}

impl Queue {
    fn place(&mut self, at: Duration) -> (Duration, u64) {
        self.number += 1;
        (at, self.number)
    }
}

fn next<T>(
    waiting: &mut BTreeMap<(Duration, u64), (String, T)>,
    held: &BTreeSet<String>,
    now: Duration,
) -> Option<(String, T)> {
    let due = waiting.range(..=(now, u64::MAX));
    let at = due.into_iter().find(|(_, (host, _))| !held.contains(host));
    let at = *at?.0;
    waiting.remove(&at)
}

/// The store as one host sees it.
#[derive(Clone)]
pub struct HostStore {
    bucket: Bucket,
    host: String,
    start: u64,
}

const UNREACHABLE: &str = "connection timed out";

fn failed(why: &str) -> Error {
    Error::Generic {
        store: "simulated",
        source: why.into(),
    }
}

impl HostStore {
    /// Sends a request and waits for its answer.
    async fn ask<T, Fut>(
        &self,
        kind: Kind,
        carry_out: impl FnOnce(Bucket, Fate) -> Fut + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let now = ambient::now();
        {
            let mut queue = self.bucket.lock();
            let verdict = queue.weather.judge(kind, now);
            let request = move |bucket: Bucket, lost: bool| {
                async move {
                    let done = match verdict.fate {
                        _ if lost => Err(failed(UNREACHABLE)),
                        Fate::Refused(why) => Err(failed(why)),
                        fate => carry_out(bucket, fate).await,
                    };
                    let done = match verdict.fate {
                        Fate::Unheard => Err(failed("connection reset by peer")),
                        _ => done,
                    };
                    let answer: Answer = Box::new(move |lost| {
                        let done = if lost { Err(failed(UNREACHABLE)) } else { done };
                        // Who asked may be gone.
                        let _ = sender.send(done);
                    });
                    let back = if lost { UNREACHED } else { verdict.back };
                    (back, answer)
                }
                .boxed()
            };
            let at = queue.place(now + verdict.there);
            queue
                .requests
                .insert(at, (self.host.clone(), Box::new(request)));
        }
        let gone = || failed("the store is gone");
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn put(
    bucket: Bucket,
    path: Path,
    payload: PutPayload,
    options: PutOptions,
) -> Result<PutResult> {
    let done = bucket
        .objects
        .put_opts(&path, payload.clone(), options)
        .await;
    if done.is_ok() {
        bucket.changed("put", &path, &Bytes::from(payload));
    }
    done
}

/// What was got, with its body; of a cut one a part.
async fn got(result: GetResult, fate: Fate) -> Result<GetResult> {
    let (range, meta) = (result.range.clone(), result.meta.clone());
    let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
    let bytes = result.bytes().await?;
    let body = match fate {
        Fate::Cut(part) => {
            let whole = bytes.len();
            let length = (whole as f64 * part) as usize;
            let cut = Err(failed("the connection was closed before the body ended"));
            stream::iter([Ok(bytes.slice(..length.min(whole))), cut]).boxed()
        }
        _ => stream::iter([Ok(bytes)]).boxed(),
    };
    Ok(GetResult {
        payload: GetResultPayload::Stream(body),
        meta,
        range,
        attributes,
        extensions,
    })
}

#[async_trait]
impl ObjectStore for HostStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let path = location.clone();
        {
            let mut queue = self.bucket.lock();
            let process = (self.host.as_str(), self.start);
            let wrong = queue.fences.write(process, path.as_ref(), ambient::now());
            queue.violations.extend(wrong);
        }
        let carry_out = |bucket, _| put(bucket, path, payload, options);
        self.ask(Kind::Put, carry_out).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        drop(options);
        self.ask(Kind::Put, |_, _| async { Ok(()) }).await?;
        Ok(Box::new(Upload {
            store: self.clone(),
            path: location.clone(),
            parts: Arc::default(),
            begun: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        let carry_out = move |bucket: Bucket, fate| async move {
            got(bucket.objects.get_opts(&path, options).await?, fate).await
        };
        self.ask(Kind::Get, carry_out).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let carry_out = move |bucket: Bucket, _| async move {
                    bucket.objects.delete(&path).await?;
                    bucket.changed("delete", &path, &[]);
                    Ok(path)
                };
                store.ask(Kind::Delete, carry_out).await
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let carry_out = move |bucket: Bucket, _| async move {
                let listed = bucket.objects.list(prefix.as_ref());
                listed.try_collect::<Vec<_>>().await
            };
            match store.ask(Kind::List, carry_out).await {
                Ok(mut listed) => {
                    listed.sort_by(|a, b| a.location.cmp(&b.location));
                    stream::iter(listed.into_iter().map(Ok)).boxed()
                }
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        let carry_out = move |bucket: Bucket, _| async move {
            bucket.objects.list_with_delimiter(prefix.as_ref()).await
        };
        self.ask(Kind::List, carry_out).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let carry_out = move |bucket: Bucket, _| async move {
            bucket.objects.copy_opts(&from, &to, options).await?;
            bucket.changed("copy", &to, from.as_ref().as_bytes());
            Ok(())
        };
        self.ask(Kind::Put, carry_out).await
    }
}

impl fmt::Debug for HostStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostStore({})", self.host)
    }
}

impl fmt::Display for HostStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated store as {} sees it", self.host)
    }
}

/// An upload in parts; the object is there when it is complete.
#[derive(Debug)]
struct Upload {
    store: HostStore,
    path: Path,
    parts: Arc<Mutex<BTreeMap<usize, PutPayload>>>,
    begun: usize,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, parts, number) = (self.store.clone(), Arc::clone(&self.parts), self.begun);
        self.begun += 1;
        async move {
            let carry_out = move |_, _| async move {
                let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
                parts.insert(number, data);
                Ok(())
            };
            store.ask(Kind::Put, carry_out).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *parts)
        };
        let whole: PutPayload = parts.into_values().flatten().collect();
        self.store
            .put_opts(&self.path, whole, PutOptions::default())
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    async fn with_bucket<F: Future>(test: impl FnOnce(Bucket) -> F) -> F::Output {
        let folder = tempfile::tempdir().expect("a folder");
        let trace = Trace::create(&folder.path().join("trace")).expect("a file");
        ambient::begin(1);
        let weather = Weather::new(SmallRng::seed_from_u64(1), Duration::MAX);
        let bucket = Bucket::new(weather, trace);
        let serving = tokio::spawn(bucket.clone().serve());
        let clock = tokio::spawn(async {
            let begun = tokio::time::Instant::now();
            loop {
                tokio::time::sleep(TICK).await;
                ambient::set_now(begun.elapsed());
            }
        });
        let result = test(bucket).await;
        serving.abort();
        clock.abort();
        ambient::end();
        result
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_held_host_asked_is_done_when_it_is_let_go_though_nobody_waits() {
        with_bucket(|bucket| async move {
            let (store, path) = (bucket.of_host("s1", 1), Path::from("a"));
            bucket.hold("s1");
            let asked = tokio::time::timeout(
                Duration::from_secs(5),
                store.put(&path, PutPayload::from_static(b"x")),
            );
            assert!(asked.await.is_err(), "it is held");
            assert!(bucket.objects().is_empty());
            bucket.release("s1");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(bucket.objects(), BTreeMap::from([("a".to_owned(), 1)]));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_cut_host_asks_is_lost_and_others_are_answered() {
        with_bucket(|bucket| async move {
            let (store, other) = (bucket.of_host("s1", 1), bucket.of_host("s2", 1));
            let (path, others) = (Path::from("a"), Path::from("b"));
            bucket.cut("s1");
            let put = store.put(&path, PutPayload::from_static(b"x")).await;
            put.expect_err("it is cut off");
            let put = other.put(&others, PutPayload::from_static(b"x"));
            put.await.expect("it is not");
            assert_eq!(bucket.objects(), BTreeMap::from([("b".to_owned(), 1)]));
            bucket.release("s1");
            let put = store.put(&path, PutPayload::from_static(b"x"));
            put.await.expect("it is not any more");
            // Carried out, and the answer is lost.
            bucket.begin(StoreFault::Slow, Duration::from_secs(600));
            let put = store.put(&path, PutPayload::from_static(b"xyz"));
            let cut = async {
                while bucket.objects()["a"] == 1 {
                    tokio::time::sleep(TICK).await;
                }
                bucket.cut("s1");
            };
            let (put, ()) = tokio::join!(biased; put, cut);
            put.expect_err("nobody heard that it was done");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_lost_hide_what_was_done() {
        with_bucket(|bucket| async move {
            bucket.begin(StoreFault::LostAnswers, Duration::from_secs(600));
            let store = bucket.of_host("s1", 1);
            let mut lost = 0;
            for number in 0..50 {
                let path = Path::from(format!("{number}"));
                let put = store.put(&path, PutPayload::from_static(b"x")).await;
                lost += u32::from(put.is_err());
            }
            assert_eq!(bucket.objects().len(), 50);
            assert!(lost > 5 && lost < 30, "{lost}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_cut_is_an_error() {
        with_bucket(|bucket| async move {
            let (store, path) = (bucket.of_host("s1", 1), Path::from("a"));
            let put = store.put(&path, PutPayload::from_static(b"0123456789"));
            put.await.expect("put");
            bucket.begin(StoreFault::CutBodies, Duration::from_secs(600));
            let mut cut = 0;
            for _ in 0..50 {
                let got = async { store.get(&path).await?.bytes().await };
                match got.await {
                    Ok(bytes) => assert_eq!(bytes, "0123456789"),
                    Err(_) => cut += 1,
                }
            }
            assert!(cut > 5 && cut < 30, "{cut}");
        })
        .await;
    }
}
