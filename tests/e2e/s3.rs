//! Object storage on a real S3 server.

use std::{sync::Arc, time::Duration};

use control_plane::metadata::{
    BucketConfig, BucketLimits, BucketMetadata, Metadata, MetadataError, look,
};
use coordinator::meta::{Answer, Change, Command};
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use state_service::object::{
    ClusterId, FORMAT, Fault, Identity, OpenStore, StoreError, StoreUrl, enter, open,
};
use tests::minio::Minio;

/// A store in a bucket; the environment says what `other` does not.
pub(super) fn opened(minio: &Minio, url: &str, other: &[(&str, &str)]) -> OpenStore {
    let variables = minio.variables();
    let url = StoreUrl::parse(url, &|name| {
        let given = other.iter().find(|(known, _)| *known == name);
        let given = given.map(|(_, value)| (*value).to_owned());
        let usual = variables.iter().find(|(known, _)| *known == name);
        given.or(usual.map(|(_, value)| value.clone()))
    });
    open(&url.expect("a URL")).expect("open")
}

fn identity(name: &str) -> Identity {
    Identity {
        format: FORMAT,
        cluster: ClusterId::from(name),
        store: format!("the store of {name}"),
        metadata: None,
        created_ms: 0,
    }
}

async fn entered(open: &OpenStore, name: &str, nonce: u64) -> Result<Identity, StoreError> {
    enter(open, identity(name), None, nonce).await
}

/// Names of all objects.
pub(super) async fn objects(open: &OpenStore) -> Vec<String> {
    let listed = open.store.list(None).map_ok(|object| object.location);
    let listed: Vec<_> = listed.try_collect().await.expect("a list");
    listed.iter().map(ToString::to_string).collect()
}

async fn metadata(open: &OpenStore, nonce: u64) -> BucketMetadata {
    let words = open.clone();
    let config = BucketConfig {
        store: open.store.clone(),
        prefix: open.prefix.clone(),
        explain: Arc::new(move |error| words.explain(error).to_string()),
        process: format!("process {nonce}"),
        nonce,
        limits: BucketLimits {
            propose_max: Duration::from_secs(5),
            attempt_max: Duration::from_secs(2),
            snapshot_entries: 16,
            ..BucketLimits::default()
        },
    };
    BucketMetadata::open(config).await.expect("open")
}

/// The `number`th of a chain: each is refused unless the one before it was applied.
fn command(number: u64) -> Command {
    Command {
        request: number + 1,
        change: Change::Accept {
            catalog: Some(number),
            statements: Some(vec![format!("CREATE TABLE t{number}")]),
            jobs: Vec::new(),
            now_ms: 0,
            seed: 0,
        },
    }
}

async fn propose(metadata: &BucketMetadata, number: u64) {
    let answer = metadata.propose(command(number)).await;
    assert_eq!(answer, Ok(Answer::Accepted { jobs: Vec::new() }));
}

async fn applied(metadata: &BucketMetadata) -> u64 {
    let version = look(metadata, |state| state.catalog.version).await;
    version.expect("open")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_fit_and_has_one_owner() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let store = opened(&minio, "s3://bucket/a/b", &[]);
    let entering = (0..6).map(|nonce| {
        let store = store.clone();
        tokio::spawn(async move { entered(&store, &format!("cluster {nonce}"), nonce).await })
    });
    let mut found = Vec::new();
    for entered in futures::future::join_all(entering).await {
        found.push(entered.expect("no panic").expect("fit"));
    }
    assert!(found.iter().all(|identity| *identity == found[0]));
    assert_eq!(objects(&store).await, ["a/b/millstream.json"]);
    let whole = opened(&minio, "s3://bucket", &[]);
    let foreign = entered(&whole, "cluster", 9).await.expect_err("not ours");
    assert_eq!(
        foreign.to_string(),
        format!(
            "bucket `bucket` at {} is not empty and not a Millstream store (it has \
             `a/b/millstream.json` but no `millstream.json`): use another prefix or directory",
            minio.endpoint()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_in_a_bucket_has_one_writer_and_outlives_it() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let store = opened(&minio, "s3://bucket/a", &[]);
    let first = metadata(&store, 1).await;
    for number in 0..40 {
        propose(&first, number).await;
    }
    let second = metadata(&store, 2).await;
    let lost = first.propose(command(40)).await;
    assert!(
        matches!(lost, Err(MetadataError::Closed { .. })),
        "{lost:?}"
    );
    assert_eq!(applied(&second).await, 40);
    // A server that does not answer may have done what it was asked to; it does it once.
    minio.pause();
    let asked = second.propose(command(40)).await;
    minio.resume();
    let Err(MetadataError::Unavailable { indeterminate, why }) = asked else {
        panic!("answered: {asked:?}");
    };
    assert!(indeterminate, "{why}");
    for number in 40..80 {
        propose(&second, number).await;
    }
    drop(second);
    let third = metadata(&store, 3).await;
    assert_eq!(applied(&third).await, 80);
    let objects = objects(&store).await;
    assert!(objects.len() < 40, "{objects:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_can_mend_is_one_line() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let endpoint = minio.endpoint();
    let key = format!(
        "bucket `bucket` at {endpoint} does not accept the key: check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    );
    for (url, variables, fault, line) in [
        (
            "s3://no-such-bucket/x",
            vec![],
            Fault::Missing,
            format!(
                "bucket `no-such-bucket` at {endpoint} does not exist: create it, or correct the \
                 store's URL"
            ),
        ),
        (
            "s3://bucket",
            vec![("AWS_SECRET_ACCESS_KEY", "wrong")],
            Fault::Denied,
            key.clone(),
        ),
        (
            "s3://bucket",
            vec![("AWS_ACCESS_KEY_ID", "nobody")],
            Fault::Denied,
            key,
        ),
    ] {
        let store = opened(&minio, url, &variables);
        let error = entered(&store, "cluster", 1).await.expect_err("refused");
        assert_eq!((error.fault, error.line), (fault, line));
    }
    let empty = opened(&minio, "s3://bucket", &[]);
    assert_eq!(objects(&empty).await, [""; 0]);
}
