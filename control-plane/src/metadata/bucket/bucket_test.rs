//! Histories of processes on one store that fails, in memory and in a directory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use coordinator::meta::{Answer, Change, Command, MetaState};
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path};
use state_service::{
    object::{StoreUrl, open as open_store},
    testing::{Fault, FaultStore, Request, RequestKind},
};

use super::*;
use crate::metadata::{LocalMetadata, Metadata, MetadataError, look};

/// A store and the processes that are started on it.
#[derive(Clone)]
struct Site {
    faults: FaultStore,
    limits: BucketLimits,
}

impl Site {
    fn over(store: Arc<dyn ObjectStore>) -> Site {
        Site {
            faults: FaultStore::new(store),
            limits: BucketLimits {
                propose_max: Duration::from_secs(2),
                attempt_max: Duration::from_secs(3),
                pause: Duration::from_millis(1),
                pause_max: Duration::from_millis(20),
                snapshot_entries: 16,
                ..BucketLimits::default()
            },
        }
    }

    fn memory() -> Site {
        Site::over(Arc::new(InMemory::new()))
    }

    fn directory(folder: &tempfile::TempDir) -> Site {
        let url = StoreUrl::File(folder.path().to_owned());
        Site::over(open_store(&url).expect("open").store)
    }

    async fn start(&self, nonce: u64) -> Result<BucketMetadata, BucketError> {
        BucketMetadata::open(BucketConfig {
            store: Arc::new(self.faults.clone()),
            prefix: Path::from("store"),
            explain: Arc::new(|error| error.to_string()),
            process: format!("process {nonce}"),
            nonce,
            limits: self.limits.clone(),
        })
        .await
    }

    async fn started(&self, nonce: u64) -> BucketMetadata {
        self.start(nonce).await.expect("open")
    }

    async fn objects(&self) -> Vec<String> {
        let listed = self.faults.list(None).map_ok(|object| object.location);
        let mut names: Vec<String> = listed
            .map_ok(|path| path.to_string())
            .try_collect()
            .await
            .expect("a list");
        names.sort();
        names
    }

    async fn put(&self, name: &str, content: &str) {
        let path = Path::from(name);
        let put = self.faults.put(&path, content.to_owned().into());
        put.await.expect("put");
    }
}

fn requests(kind: RequestKind, path: &'static str) -> Request {
    Request { kind, path }
}

/// The `number`th of a chain of commands: each is refused unless the one before it was applied.
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

fn done() -> Answer {
    Answer::Accepted { jobs: Vec::new() }
}

async fn propose(metadata: &BucketMetadata, number: u64) {
    let answer = metadata.propose(command(number)).await;
    assert_eq!(answer, Ok(done()), "command {number}");
}

/// How many of the chain are applied.
async fn applied(metadata: &BucketMetadata) -> u64 {
    state(metadata).await.catalog.version
}

async fn state(metadata: &dyn Metadata) -> MetaState {
    look(metadata, MetaState::clone).await.expect("open")
}

fn closed_by(nonce: u64) -> String {
    format!("another process works on this store: process {nonce} has begun (`store/meta/log/")
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    for site in [Site::memory(), Site::directory(&folder)] {
        let local = LocalMetadata::default();
        for start in 0..5 {
            let metadata = site.started(start).await;
            assert_eq!(state(&metadata).await, state(&local).await);
            for number in start * 7..(start + 1) * 7 {
                propose(&metadata, number).await;
                assert_eq!(local.propose(command(number)).await, Ok(done()));
            }
            // One that is refused is remembered as refused.
            let stale = command(0).change;
            let stale = Command {
                request: 1000 + start,
                change: stale,
            };
            let refused = metadata.propose(stale.clone()).await;
            assert!(matches!(refused, Ok(Answer::Refused(_))));
            assert_eq!(refused, local.propose(stale).await);
        }
        let metadata = site.started(9).await;
        assert_eq!(state(&metadata).await, state(&local).await);
        assert_eq!(applied(&metadata).await, 35);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_commands_keep_their_order_in_few_objects() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    let local = LocalMetadata::default();
    let answers = stream::iter(0..10_000).map(|number| metadata.propose(command(number)));
    // In the order in which they are made: else the runtime would have some of them wait.
    let answers = tokio::task::unconstrained(answers.buffered(300).collect::<Vec<_>>());
    let answers = answers.await;
    assert!(answers.iter().all(|answer| *answer == Ok(done())));
    for number in 0..10_000 {
        assert_eq!(local.propose(command(number)).await, Ok(done()));
    }
    assert_eq!(state(&metadata).await, state(&local).await);
    let (puts, _) = site.faults.count(requests(RequestKind::Put, "log"));
    assert!(puts < 1000, "{puts} entries");
    drop(metadata);
    let metadata = site.started(2).await;
    assert_eq!(state(&metadata).await, state(&local).await);
    // What the snapshot contains is gone, but for the marks.
    let objects = site.objects().await;
    assert!(objects.len() < 2 * 16 + 3, "{objects:#?}");
}

#[tokio::test(start_paused = true)]
async fn one_command_at_a_time_costs_one_write() {
    let mut site = Site::memory();
    site.limits.snapshot_entries = 256;
    let metadata = site.started(1).await;
    site.faults.reset_counts();
    for number in 0..100 {
        propose(&metadata, number).await;
    }
    let count = |kind| site.faults.count(requests(kind, "")).0;
    assert_eq!(count(RequestKind::Put), 100);
    assert_eq!(count(RequestKind::Get) + count(RequestKind::List), 0);
    // Then it looks now and then whether it is still alone.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(count(RequestKind::Put), 100);
    assert!((55..=60).contains(&count(RequestKind::Get)));
}

#[tokio::test]
async fn a_process_that_begins_stops_the_one_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for site in [Site::memory(), Site::directory(&folder)] {
        let first = site.started(1).await;
        propose(&first, 0).await;
        let second = site.started(2).await;
        let refused = first.propose(command(1)).await;
        let Err(MetadataError::Closed { why }) = refused else {
            panic!("not closed: {refused:?}");
        };
        assert!(why.starts_with(&closed_by(2)), "{why}");
        assert_eq!(first.closed().await, why);
        let looked = look(&first, |_| ()).await;
        assert_eq!(looked, Err(MetadataError::Closed { why: why.clone() }));
        let again = first.propose(command(1)).await;
        assert_eq!(again, Err(MetadataError::Closed { why }));
        assert_eq!(applied(&second).await, 1);
        propose(&second, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_without_work_notices_too() {
    let site = Site::memory();
    let first = site.started(1).await;
    let _second = site.started(2).await;
    let closed = tokio::time::timeout(Duration::from_secs(60), first.closed());
    assert!(closed.await.expect("noticed").starts_with(&closed_by(2)));
}

#[tokio::test]
async fn a_process_that_was_paused_for_long_is_stopped_by_what_is_left_of_the_log() {
    let site = Site::memory();
    let first = site.started(1).await;
    propose(&first, 0).await;
    let second = site.started(2).await;
    for number in 1..100 {
        propose(&second, number).await;
    }
    let third = site.started(3).await;
    for number in 100..200 {
        propose(&third, number).await;
    }
    // The entries around its place are gone, the mark is not.
    let objects = site.objects().await;
    assert!(objects.len() < 60, "{objects:#?}");
    for (zombie, by) in [(first, 2), (second, 3)] {
        let refused = zombie.propose(command(1)).await;
        let Err(MetadataError::Closed { why }) = refused else {
            panic!("not closed: {refused:?}");
        };
        assert!(why.starts_with(&closed_by(by)), "{why}");
    }
    propose(&third, 200).await;
}

/// One that begins finds places free that the one before it has passed long ago: it must not take
/// them for the log's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_take_over_under_load_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for site in [Site::memory(), Site::directory(&folder)] {
        let mut working: Option<tokio::task::JoinHandle<u64>> = None;
        for nonce in 1..20 {
            let metadata = site.started(nonce).await;
            let begun_at = applied(&metadata).await;
            if let Some(working) = working.take() {
                // The one before it has answered no more than this.
                let stopped = tokio::time::timeout(Duration::from_secs(20), working).await;
                assert_eq!(stopped.expect("it stops").expect("no panic"), begun_at);
            }
            let reached = Arc::new(AtomicU64::new(0));
            let next_is = Arc::clone(&reached);
            working = Some(tokio::spawn(async move {
                let mut next = begun_at;
                loop {
                    next_is.store(next, Ordering::Relaxed);
                    match metadata.propose(command(next)).await {
                        Ok(answer) => assert_eq!(answer, done()),
                        Err(MetadataError::Closed { .. }) => return next,
                        Err(error) => panic!("{error}"),
                    }
                    next += 1;
                }
            }));
            // Not before it writes.
            while reached.load(Ordering::Relaxed) < begun_at + 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if let Some(working) = working {
            working.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_free_because_the_log_got_shorter_is_not_its_end() {
    let site = Site::memory();
    let first = site.started(1).await;
    // The second one has read the log, and is held up before it puts its mark.
    let slow = Site::over(Arc::new(site.faults.clone()));
    let log = requests(RequestKind::Put, "log");
    slow.faults
        .fail(log, 0, 1, Fault::Delay(Duration::from_secs(2)));
    let second = tokio::spawn(async move { slow.started(2).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..100 {
        propose(&first, number).await;
    }
    let objects = site.objects().await;
    assert!(!objects.contains(&"store/meta/log/00000000000000000002.json".to_owned()));
    let second = second.await.expect("no panic");
    assert_eq!(applied(&second).await, 100);
    assert!(first.propose(command(100)).await.is_err());
    propose(&second, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_begin_at_once_one_is_left() {
    let site = Site::memory();
    let starts = (1..9).map(|nonce| {
        let site = site.clone();
        tokio::spawn(async move { site.started(nonce).await })
    });
    let started = join_all(starts).await;
    let mut left = 0;
    for metadata in started {
        match metadata.expect("no panic").propose(command(0)).await {
            Ok(answer) => {
                assert_eq!(answer, done());
                left += 1;
            }
            Err(MetadataError::Closed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(left, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_changes_nothing() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    let log = requests(RequestKind::Put, "log");
    for number in 0..20 {
        let fault = [Fault::After, Fault::Before][number as usize % 2];
        site.faults.fail(log, 0, 1 + number % 3, fault);
        propose(&metadata, number).await;
    }
    // Reading what is there may fail, too, and bring half of it.
    for fault in [Fault::Before, Fault::Truncate] {
        let number = applied(&metadata).await;
        site.faults.fail(log, 0, 1, Fault::After);
        let read = requests(RequestKind::Get, "log");
        site.faults.fail(read, 0, 2, fault);
        propose(&metadata, number).await;
    }
    drop(metadata);
    assert_eq!(applied(&site.started(2).await).await, 22);
}

#[tokio::test(start_paused = true)]
async fn a_mark_whose_answer_is_lost_is_ours_all_the_same() {
    let site = Site::memory();
    let log = requests(RequestKind::Put, "log");
    site.faults.fail(log, 0, 1, Fault::After);
    let first = site.started(1).await;
    propose(&first, 0).await;
    site.faults.fail(log, 0, 3, Fault::After);
    let second = site.started(2).await;
    assert!(first.propose(command(1)).await.is_err());
    propose(&second, 1).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_it_is_told_what_may_have_happened() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    site.faults.set_down(true);
    let (first, second) = futures::future::join(
        metadata.propose(command(0)),
        // Comes when the first is on its way.
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            metadata.propose(command(1)).await
        },
    )
    .await;
    let unavailable = |indeterminate| {
        let why = "Generic faults error: injected before the request".to_owned();
        Err(MetadataError::Unavailable { why, indeterminate })
    };
    assert_eq!(first, unavailable(true));
    assert_eq!(second, unavailable(false));
    assert_eq!(applied(&metadata).await, 0);
    site.faults.heal();
    // Asked again, the first is applied once; the second never was.
    propose(&metadata, 0).await;
    assert_eq!(applied(&metadata).await, 1);
    propose(&metadata, 1).await;
    // One that never comes back is given up and made again.
    let hanging = requests(RequestKind::Put, "log");
    site.faults.fail(hanging, 0, 1, Fault::Hang);
    let why = "the store takes too long".to_owned();
    assert_eq!(
        metadata.propose(command(2)).await,
        Err(MetadataError::Unavailable {
            why,
            indeterminate: true
        })
    );
    propose(&metadata, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_nobody_waits_for_is_not_lost_nor_in_the_way() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    let log = requests(RequestKind::Put, "log");
    site.faults
        .fail(log, 0, 1, Fault::Delay(Duration::from_secs(1)));
    let gone = tokio::time::timeout(Duration::from_millis(10), metadata.propose(command(0)));
    assert!(gone.await.is_err());
    propose(&metadata, 1).await;
    assert_eq!(applied(&metadata).await, 2);
}

/// A process dies at any of its requests; what it had answered is there, and of what it had not,
/// nothing or all in order.
#[tokio::test(start_paused = true)]
async fn a_process_may_die_at_any_request() {
    for fault in [Fault::Before, Fault::After, Fault::Hang] {
        for kind in [RequestKind::Put, RequestKind::Delete, RequestKind::List] {
            for skip in 0..40 {
                let mut site = Site::memory();
                site.limits.snapshot_entries = 4;
                let metadata = site.started(1).await;
                site.faults
                    .fail(requests(kind, "meta"), skip, u64::MAX, fault);
                let mut answered = 0;
                while answered < 24 {
                    match metadata.propose(command(answered)).await {
                        Ok(answer) => assert_eq!(answer, done()),
                        Err(MetadataError::Unavailable { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                    answered += 1;
                }
                drop(metadata);
                site.faults.heal();
                let metadata = site.started(2).await;
                let found = applied(&metadata).await;
                let context = format!("{fault:?} {kind:?} {skip}: {answered} {found}");
                assert!(found == answered || found == answered + 1, "{context}");
                // The unanswered one is asked for again, and the log goes on and gets short.
                for number in answered..answered + 30 {
                    propose(&metadata, number).await;
                }
                drop(metadata);
                let metadata = site.started(3).await;
                assert_eq!(applied(&metadata).await, answered + 30, "{context}");
                let objects = site.objects().await;
                assert!(objects.len() < 16, "{context}: {objects:#?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_fail_hold_nothing_up() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    let snapshots = requests(RequestKind::Put, "snapshot");
    site.faults.fail(snapshots, 0, 3, Fault::Before);
    for number in 0..200 {
        propose(&metadata, number).await;
    }
    assert!(site.faults.count(snapshots).0 > 3);
    drop(metadata);
    assert_eq!(applied(&site.started(2).await).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stutters_is_opened_all_the_same() {
    let site = Site::memory();
    let metadata = site.started(1).await;
    for number in 0..40 {
        propose(&metadata, number).await;
    }
    drop(metadata);
    for kind in [RequestKind::List, RequestKind::Get, RequestKind::Put] {
        site.faults.fail(requests(kind, ""), 1, 2, Fault::Before);
    }
    let get = requests(RequestKind::Get, "");
    site.faults.fail(get, 3, 2, Fault::Truncate);
    let metadata = site.started(2).await;
    assert_eq!(applied(&metadata).await, 40);
    site.faults.set_down(true);
    let error = site.start(3).await.expect_err("down");
    assert_eq!(
        error.to_string(),
        "metadata cannot be read and written: Generic faults error: injected before the request"
    );
}

/// A store with entries 1 to 9.
async fn nine() -> Site {
    let site = Site::memory();
    let metadata = site.started(1).await;
    for number in 0..8 {
        propose(&metadata, number).await;
    }
    site
}

async fn refused(site: &Site) -> String {
    let before = site.objects().await;
    let error = site.start(9).await.expect_err("damaged");
    assert_eq!(site.objects().await, before);
    error.to_string()
}

const FIFTH: &str = "store/meta/log/00000000000000000005.json";

#[tokio::test(start_paused = true)]
async fn a_log_with_a_gap_is_refused() {
    let site = nine().await;
    site.faults.delete(&Path::from(FIFTH)).await.expect("gone");
    assert_eq!(
        refused(&site).await,
        format!(
            "metadata is damaged: `{FIFTH}` is missing, and later entries are there; restore it \
             from a copy"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_and_newer_entries_are_refused() {
    let site = nine().await;
    let fifth = site.faults.get(&Path::from(FIFTH)).await.expect("there");
    let text = fifth.bytes().await.expect("read");
    let text = String::from_utf8(text.to_vec()).expect("text");
    site.put(FIFTH, &text.replace("t3", "t4")).await;
    let damaged =
        |why: &str| format!("metadata is damaged: `{FIFTH}`: {why}; restore it from a copy");
    assert_eq!(refused(&site).await, damaged("its checksum is wrong"));
    site.put(FIFTH, "").await;
    assert_eq!(refused(&site).await, damaged("it has no first line"));
    site.put(FIFTH, &text.replace("\"format\":1", "\"format\":2"))
        .await;
    assert_eq!(
        refused(&site).await,
        format!(
            "metadata was written by a newer version of Millstream (`{FIFTH}` has format 2): use \
             that version"
        )
    );
    site.put(FIFTH, &text).await;
    site.put("store/meta/log/5.json", &text).await;
    assert_eq!(
        refused(&site).await,
        "metadata is damaged: `store/meta/log/5.json`: no such name was ever given; restore it \
         from a copy"
    );
}
