//! Stores opened, tried out and entered, good ones and bad ones.

use std::{
    fmt, fs,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    path::Path,
};
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::testing::{self, FaultStore, Request, RequestKind};

/// What a bad store does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    /// Create is an overwrite.
    Create,
    /// It looks first and writes then, so that two may find nothing.
    CreateInTwoSteps,
    /// Update is an overwrite.
    Update,
    /// Lists are old.
    List,
    /// What is deleted stays.
    Delete,
    /// Not wrong, but a trap: it repeats what failed, and is then told that it exists.
    Repeats,
}

/// A store that does one thing wrong.
#[derive(Debug)]
struct BadStore(Arc<dyn ObjectStore>, Wrong);

impl fmt::Display for BadStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is wrong", self.1)
    }
}

#[async_trait]
impl ObjectStore for BadStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        match (self.1, &options.mode) {
            (Wrong::Create, PutMode::Create) | (Wrong::Update, PutMode::Update(_)) => {
                options.mode = PutMode::Overwrite;
            }
            (Wrong::CreateInTwoSteps, PutMode::Create) => {
                let is_there = self.0.head(location).await.is_ok();
                tokio::task::yield_now().await;
                if !is_there {
                    options.mode = PutMode::Overwrite;
                }
            }
            _ => {}
        }
        let put = || {
            let (payload, options) = (payload.clone(), options.clone());
            self.0.put_opts(location, payload, options)
        };
        match (self.1, put().await) {
            (Wrong::Repeats, Err(object_store::Error::Generic { .. })) => put().await,
            (_, done) => done,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.1 {
            Wrong::Delete => locations,
            _ => self.0.delete_stream(locations),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.1 {
            Wrong::List => futures::stream::empty().boxed(),
            _ => self.0.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn parse(text: &str) -> StoreUrl {
    StoreUrl::parse(text, &|_| None).expect("a URL")
}

fn memory() -> OpenStore {
    open(&StoreUrl::Memory).expect("open")
}

fn directory(folder: &tempfile::TempDir) -> OpenStore {
    open(&StoreUrl::File(folder.path().join("data"))).expect("open")
}

fn identity(seed: u64) -> Identity {
    let mut random = StdRng::seed_from_u64(seed);
    Identity::new(
        ClusterId::draw(&mut random),
        Keeper::Cluster,
        seed,
        &mut random,
    )
}

/// A random number, as callers draw it.
fn nonce() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn objects(open: &OpenStore) -> Vec<String> {
    let listed = open.store.list(None).map_ok(|object| object.location);
    let mut names: Vec<String> = listed
        .map_ok(|path| path.to_string())
        .try_collect()
        .await
        .expect("a list");
    names.sort();
    names
}

async fn put(open: &OpenStore, name: &str, content: &str) {
    let (path, payload) = (open.path(name), content.to_owned().into());
    open.store.put(&path, payload).await.expect("put");
}

async fn refused(open: &OpenStore, founding: Identity, expected: Option<&ClusterId>) -> String {
    let entered = enter(open, founding, expected, nonce()).await;
    entered.expect_err("refused").to_string()
}

#[tokio::test]
async fn a_directory_is_made_and_no_file_is_taken_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("a/b/c");
    let made = open(&parse(deep.to_str().expect("text"))).expect("open");
    probe(&made, nonce()).await.expect("fit");
    assert!(deep.is_dir());
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let error = open(&StoreUrl::File(path.clone())).expect_err("a file");
        let line = format!(
            "directory `{}` is, or is below, a file: give another directory",
            path.display()
        );
        assert_eq!(error.to_string(), line);
    }
}

#[tokio::test]
async fn a_write_that_finds_a_directorys_disk_full_is_told_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = directory(&folder);
    let faults = FaultStore::new(open.store.clone());
    let faulty = open.with_store(Arc::new(faults.clone()));
    let any = Request {
        kind: RequestKind::Put,
        path: "part",
    };
    let path = open.path("part");
    faults.fail(any, 0, 1, testing::Fault::Before);
    faulty.store.put(&path, "x".into()).await.expect_err("no");
    assert!(open.full().now_or_never().is_none(), "it has another fault");
    // The second part of an upload does not fit.
    faults.fail(any, 2, 1, testing::Fault::Full);
    let mut upload = faulty.store.put_multipart(&path).await.expect("begun");
    upload.put_part("x".into()).await.expect("it fits");
    upload.put_part("y".into()).await.expect_err("full");
    let line = format!(
        "directory `{}` has no space left: make room, then start again",
        folder.path().join("data").display()
    );
    assert_eq!(open.full().await, line);
    // A bucket is looked after by others.
    let memory = memory();
    let faulty = memory.with_store(Arc::new(faults.clone()));
    faults.fail(any, 0, 1, testing::Fault::Full);
    faulty.store.put(&path, "x".into()).await.expect_err("full");
    assert!(memory.full().now_or_never().is_none());
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    for open in [memory(), directory(&folder)] {
        put(&open, "mine", "x").await;
        probe(&open, nonce()).await.expect("fit");
        assert_eq!(objects(&open).await, ["mine"]);
    }
}

#[tokio::test]
async fn probes_at_the_same_time_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    for open in [memory(), directory(&folder)] {
        let probes = (0..8).map(|_| {
            let open = open.clone();
            tokio::spawn(async move { probe(&open, nonce()).await })
        });
        for probed in futures::future::join_all(probes).await {
            probed.expect("no panic").expect("fit");
        }
        assert_eq!(objects(&open).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_store_that_breaks_a_promise_is_refused() {
    let create = "memory ignores the condition that an object is new (If-None-Match), so two \
                  writers would destroy each other's data: use a store that heeds it";
    let update = "memory ignores the condition that an object is unchanged (If-Match), so two \
                  writers would destroy each other's data: use a store that heeds it";
    for (wrong, line) in [
        (Wrong::Create, create),
        (Wrong::CreateInTwoSteps, create),
        (Wrong::Update, update),
        (Wrong::List, "memory does not list what was just written"),
    ] {
        let good = memory();
        let bad = good.with_store(Arc::new(BadStore(good.store.clone(), wrong)));
        let error = probe(&bad, nonce()).await.expect_err("bad");
        assert_eq!(error.to_string(), line);
        if wrong != Wrong::List {
            assert_eq!(objects(&good).await, [""; 0], "{wrong:?}");
        }
    }
    let good = memory();
    let bad = good.with_store(Arc::new(BadStore(good.store.clone(), Wrong::Delete)));
    let error = probe(&bad, nonce()).await.expect_err("bad");
    assert_eq!(
        error.to_string(),
        "memory still shows what was just deleted"
    );
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_broken_promise() {
    let good = memory();
    let faults = FaultStore::new(good.store.clone());
    let race = Request {
        kind: RequestKind::Put,
        path: "race-0",
    };
    faults.fail(race, 0, 1, testing::Fault::After);
    let repeating = BadStore(Arc::new(faults.clone()), Wrong::Repeats);
    let open = good.with_store(Arc::new(repeating));
    probe(&open, nonce()).await.expect("fit");
    // Two in the race, the repetition, and one who came late.
    assert_eq!(faults.count(race).0, 4);
}

#[tokio::test]
async fn the_first_who_comes_founds_the_cluster_and_the_others_join_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for open in [memory(), directory(&folder)] {
        let entering = (1..9).map(|seed| {
            let open = open.clone();
            tokio::spawn(async move { enter(&open, identity(seed), None, nonce()).await })
        });
        let entered = futures::future::join_all(entering).await;
        let entered: Vec<Identity> = entered
            .into_iter()
            .map(|entered| entered.expect("no panic").expect("entered"))
            .collect();
        let first = &entered[0];
        assert!(entered.iter().all(|identity| identity == first));
        assert_eq!(objects(&open).await, [IDENTITY]);
        // Later starts find it, whatever they would found.
        let found = enter(&open, identity(99), Some(&first.cluster), nonce()).await;
        assert_eq!(found.as_ref(), Ok(first));
    }
    // One from before stores had ids has its cluster's.
    let old = memory();
    let content = r#"{"format":1,"cluster":"one","created_ms":7}"#;
    put(&old, IDENTITY, content).await;
    let found = enter(&old, identity(9), None, nonce()).await.expect("in");
    assert_eq!((found.store.as_str(), found.created_ms), ("one", 7));
    // Two stores of a cluster can be told apart.
    let mut random = StdRng::seed_from_u64(1);
    let (cluster, stores) = (ClusterId::from("one"), [memory(), memory()]);
    let [one, other] = stores.map(|open| {
        let founding = Identity::new(cluster.clone(), Keeper::Cluster, 0, &mut random);
        async move { enter(&open, founding, None, nonce()).await.expect("in") }
    });
    let (one, other) = (one.await, other.await);
    assert_eq!(one.cluster, other.cluster);
    assert_ne!(one.store, other.store);
}

#[tokio::test]
async fn a_store_of_another_cluster_or_version_is_refused_and_left_alone() {
    let open = memory();
    let ours = identity(1);
    let theirs = enter(&open, identity(2), None, nonce()).await.expect("in");
    assert_eq!(
        refused(&open, ours.clone(), Some(&ours.cluster)).await,
        format!(
            "memory belongs to cluster {}, and this process to {}: give each its own store",
            theirs.cluster, ours.cluster
        )
    );
    for (content, line) in [
        (
            r#"{"format":2,"spelled":"otherwise"}"#,
            "memory was made by a newer version of Millstream (format 2, this one knows 1): use \
             that version",
        ),
        (
            r#"{"format":1}"#,
            "memory has a damaged `millstream.json` (missing field `cluster` at line 1 column \
             12): restore it",
        ),
        (
            "",
            "memory has a damaged `millstream.json` (EOF while parsing a value at line 1 column \
             0): restore it",
        ),
    ] {
        put(&open, IDENTITY, content).await;
        assert_eq!(refused(&open, ours.clone(), None).await, line);
        let left = open.store.get(&open.path(IDENTITY)).await.expect("there");
        assert_eq!(left.bytes().await.expect("read"), content.as_bytes());
    }
}

#[tokio::test]
async fn a_cluster_and_a_single_process_do_not_share_a_store() {
    let kept_by = |keeper| Identity {
        metadata: Some(keeper),
        ..identity(1)
    };
    for (first, second, line) in [
        (
            Keeper::Cluster,
            Keeper::Embedded,
            "memory belongs to a cluster, whose control plane keeps the metadata of its jobs: use \
             another prefix or directory",
        ),
        (
            Keeper::Embedded,
            Keeper::Cluster,
            "memory belongs to a single process (`dev`, `run`), which keeps the metadata of its jobs in \
             it: give the cluster another prefix or directory",
        ),
    ] {
        let open = memory();
        let made = enter(&open, kept_by(first), None, nonce()).await;
        let made = made.expect("in");
        // Even the same cluster's name does not help.
        for expected in [None, Some(&made.cluster)] {
            assert_eq!(refused(&open, kept_by(second), expected).await, line);
        }
        assert_eq!(objects(&open).await, [IDENTITY]);
        let again = enter(&open, kept_by(first), None, nonce()).await;
        assert_eq!(again.expect("in"), made);
        // Who comes at the same time and is second.
        let open = memory();
        let race = (
            enter(&open, kept_by(first), None, nonce()),
            enter(&open, kept_by(second), None, nonce()),
        );
        let (one, other) = futures::join!(race.0, race.1);
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_not_written_to() {
    let good = memory();
    let mut prefixed = good.clone();
    prefixed.prefix = Path::from("ours");
    put(&good, "theirs.txt", "x").await;
    assert_eq!(
        refused(&good, identity(1), None).await,
        "memory is not empty and not a Millstream store (it has `theirs.txt` but no \
         `millstream.json`): use another prefix or directory"
    );
    assert_eq!(objects(&good).await, ["theirs.txt"]);
    // Beside it there is room. A probe that was killed is nobody's data.
    put(&prefixed, "probe/00/race-0", "x").await;
    enter(&prefixed, identity(1), None, nonce())
        .await
        .expect("in");
    assert_eq!(
        objects(&good).await,
        ["ours/millstream.json", "ours/probe/00/race-0", "theirs.txt"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up() {
    let good = memory();
    let faults = FaultStore::new(good.store.clone());
    let hanging = Request {
        kind: RequestKind::Put,
        path: "probe",
    };
    faults.fail(hanging, 0, u64::MAX, testing::Fault::Hang);
    let open = good.with_store(Arc::new(faults));
    let error = enter(&open, identity(1), None, nonce()).await;
    let error = error.expect_err("given up");
    assert_eq!(error.fault, Fault::Unreachable);
    assert_eq!(error.line, "memory does not answer in time");
}

#[tokio::test]
async fn a_bucket_that_nobody_serves_is_told_in_one_line() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL_S3" => Some(endpoint.clone()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("key".to_owned()),
        _ => None,
    };
    let url = StoreUrl::parse("s3://bucket/x", &variable).expect("a URL");
    let open = open(&url).expect("open");
    let error = enter(&open, identity(1), None, nonce()).await;
    assert_eq!(
        error.expect_err("nobody there").to_string(),
        format!(
            "bucket `bucket` at {endpoint} cannot be reached: check AWS_ENDPOINT_URL_S3 and the \
             network"
        )
    );
    assert!(!format!("{open:?}").contains("key"), "{open:?}");
}
