//! Histories that once broke a draft of the commit protocol, over an object store with faults.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::join_all};
use object_store::{ObjectStore, memory::InMemory};
use proto::{
    log::{LogHolding, LogObject},
    state_control::{CommittedEpoch, StateOrder, StateReport},
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, TableId, TaskId},
};
use state_client::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, OutputRequest, ReadRequest,
    StagedOutput, StateControl as _, StateError, StateStore as _,
    page::{RowRef, RunBuilder},
};

use crate::{
    ControlView, EmbeddedStore, NodeLimits, StateNode,
    epoch_log::collect_orphans,
    pages::{PageStore, PageStoreConfig},
    testing::{Fault, FaultStore, NodeSetup, Request, RequestKind},
};

const JOB: JobId = JobId(3);
const TABLE: TableId = TableId(1);
const SINK: SinkId = SinkId(0);
const SHARDS: u32 = 4;

const LOG_ROWS: Request = Request {
    kind: RequestKind::Put,
    path: ".rows",
};
const LOG_OUT: Request = Request {
    kind: RequestKind::Put,
    path: ".out",
};
const LOG_GET: Request = Request {
    kind: RequestKind::Get,
    path: "/log/",
};
const SHARD_PUT: Request = Request {
    kind: RequestKind::Put,
    path: "/shards/",
};

/// A node, what it stands on, and the control plane that commits.
struct World {
    store: Arc<InMemory>,
    faults: FaultStore,
    setup: NodeSetup,
    node: StateNode,
    who: Incarnation,
    /// Objects of epochs that are not committed.
    staged: BTreeMap<Epoch, Vec<LogObject>>,
}

fn never_flushed() -> NodeLimits {
    NodeLimits {
        tail_bytes: usize::MAX,
        shard_tail_bytes: usize::MAX,
        flush_epochs: u64::MAX,
        request_wait: Duration::from_secs(10),
        ..NodeLimits::default()
    }
}

fn flushed_after(flush_epochs: u64) -> NodeLimits {
    NodeLimits {
        flush_epochs,
        ..never_flushed()
    }
}

/// A hash of the shard.
fn hash(shard: u32, key: u64) -> u64 {
    (u64::from(shard) << 62) + key
}

/// Values of keys of the shards, in namespace 0.
fn rows(epoch: u64, values: &[(u32, u64, &str)]) -> Changes {
    rows_in(epoch, 0, values)
}

fn rows_in(epoch: u64, namespace: i64, values: &[(u32, u64, &str)]) -> Changes {
    let block = |(shard, key, value): &(u32, u64, &str)| {
        let mut run = RunBuilder::default();
        let hash = hash(*shard, *key);
        let (identity, value) = (&b"id"[..], Some(value.as_bytes()));
        run.push(RowRef {
            hash,
            identity,
            epoch,
            value,
        });
        let key_group = KeyGroupCount::DEFAULT.of_hash(hash);
        Block {
            table: TABLE,
            key_group,
            namespace,
            run: run.finish(),
        }
    };
    Changes {
        blocks: values.iter().map(block).collect(),
        ..Changes::default()
    }
}

fn output(text: &str) -> Changes {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Changes {
        staged: vec![StagedOutput {
            sink: SINK,
            slot: 0,
            bytes,
        }],
        ..Changes::default()
    }
}

impl World {
    async fn new(limits: NodeLimits) -> World {
        let store = Arc::new(InMemory::new());
        let faults = FaultStore::new(store.clone());
        let mut setup = NodeSetup::new(Arc::new(faults.clone()), SHARDS);
        setup.limits = limits;
        let node = setup.start();
        let who = Incarnation {
            job: JOB,
            generation: Generation(1),
        };
        let began = setup.control.begin(who).await;
        assert_eq!(began.expect("begun").restored, Epoch::ZERO);
        World {
            store,
            faults,
            setup,
            node,
            who,
            staged: BTreeMap::new(),
        }
    }

    fn delta(&self, epoch: u64, task: u32, tasks: u32, changes: Changes) -> EpochDelta {
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            tasks,
        };
        EpochDelta::new(self.who, Epoch(epoch), TaskId(task), cut, changes)
    }

    async fn stage(&mut self, delta: EpochDelta) {
        let epoch = delta.epoch;
        let objects = self.node.stage(self.who, delta).await.expect("staged");
        let staged = self.staged.entry(epoch).or_default();
        staged.extend(objects);
        staged.sort();
        staged.dedup();
    }

    async fn commit(&mut self, epoch: u64) {
        let objects = self.staged.remove(&Epoch(epoch)).unwrap_or_default();
        let committed = self.setup.control.commit(self.who, Epoch(epoch), objects);
        committed.await.expect("committed");
    }

    async fn apply(&mut self, epoch: u64, changes: Changes) {
        self.stage(self.delta(epoch, 0, 1, changes)).await;
        self.commit(epoch).await;
    }

    /// Values of the key at an epoch.
    async fn get(&self, min_epoch: u64, namespace: i64, shard: u32, key: u64) -> Vec<Bytes> {
        self.try_get(self.who, min_epoch, namespace, shard, key)
            .await
            .expect("read")
    }

    async fn try_get(
        &self,
        who: Incarnation,
        min_epoch: u64,
        namespace: i64,
        shard: u32,
        key: u64,
    ) -> Result<Vec<Bytes>, StateError> {
        let key = KeyRequest {
            table: TABLE,
            namespace,
            hash: hash(shard, key),
            sub: None,
        };
        let request = ReadRequest {
            min_epoch: Epoch(min_epoch),
            keys: vec![key],
        };
        let store = EmbeddedStore::new(self.node.clone());
        let reply = store.read(who, request).await?;
        let rows = reply.rows.into_iter().flatten();
        Ok(rows.map(|row| row.value).collect())
    }

    async fn owed(&self, after: u64, up_to: u64, bytes_max: usize) -> Vec<(u64, String)> {
        let request = OutputRequest {
            sink: SINK,
            after: Epoch(after),
            up_to: Epoch(up_to),
            bytes_max,
        };
        let outputs = self
            .node
            .committed_output(self.who, request)
            .await
            .expect("output");
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        outputs
            .iter()
            .map(|o| (o.epoch.0, text(&o.bytes)))
            .collect()
    }

    /// The node dies, another takes its place.
    async fn restart(&mut self) {
        self.setup.control.disconnect();
        self.node.stop().await;
        self.node = self.setup.start();
    }

    async fn begin(&mut self, generation: u64) -> Epoch {
        self.who.generation = Generation(generation);
        self.staged.clear();
        let begun = self.setup.control.begin(self.who).await;
        begun.expect("begun").restored
    }

    async fn files(&self, ending: &str) -> Vec<String> {
        let listed = self.store.list(None);
        let listed: Vec<_> = futures::StreamExt::collect::<Vec<_>>(listed).await;
        let names = listed
            .into_iter()
            .map(|file| file.expect("listed").location.to_string());
        names.filter(|name| name.ends_with(ending)).collect()
    }

    async fn durable(&self, shard: u32, least: u64) {
        let is_it = |report: &StateReport| match report {
            StateReport::Durable {
                shard: of, epoch, ..
            }
            | StateReport::Opened {
                shard: of,
                durable: epoch,
                ..
            } => of.0 == shard && epoch.0 >= least,
            _ => false,
        };
        self.setup.control.reported(is_it).await;
    }
}

fn is_unavailable<T>(result: Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::Unavailable(_)))
}

fn is_fenced<T>(result: Result<T, StateError>) -> bool {
    matches!(result, Err(StateError::Fenced { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_generation_never_meets_what_an_older_one_wrote() {
    let mut world = World::new(never_flushed()).await;
    world
        .stage(world.delta(17, 0, 1, rows(17, &[(0, 1, "old")])))
        .await;
    let old = world.files(".rows").await;
    assert_eq!(old.len(), 1);
    assert_eq!(world.begin(2).await, Epoch::ZERO);
    // Even if it came to the same number of an epoch.
    world.apply(17, rows(17, &[(0, 2, "new")])).await;
    assert!(world.get(17, 0, 0, 1).await.is_empty());
    assert_eq!(world.get(17, 0, 0, 2).await, ["new"]);
    assert!(
        world.files(".rows").await.contains(&old[0]),
        "it was not written over"
    );
    assert_eq!(world.node.sweep(JOB).await, Ok(1));
    assert!(!world.files(".rows").await.contains(&old[0]));
    world.restart().await;
    assert!(world.get(17, 0, 0, 1).await.is_empty());
    assert_eq!(world.get(17, 0, 0, 2).await, ["new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_section_that_a_dead_node_wrote_is_read_before_its_epoch_is_answered() {
    let mut world = World::new(never_flushed()).await;
    world
        .stage(world.delta(1, 0, 2, rows(1, &[(0, 1, "first"), (3, 1, "first")])))
        .await;
    world.restart().await;
    // Only the task that was not answered stages with the next node.
    world
        .stage(world.delta(1, 1, 2, rows(1, &[(0, 2, "second")])))
        .await;
    assert_eq!(world.staged[&Epoch(1)].len(), 2);
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["first"]);
    assert_eq!(world.get(1, 0, 0, 2).await, ["second"]);
    assert_eq!(world.get(1, 0, 3, 1).await, ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_staged_twice_is_taken_once() {
    let mut world = World::new(never_flushed()).await;
    let both = |world: &World| {
        let changes = Changes {
            staged: output("out").staged,
            ..rows(1, &[(0, 1, "value")])
        };
        world.delta(1, 0, 1, changes)
    };
    world.stage(both(&world)).await;
    world.restart().await;
    world.stage(both(&world)).await;
    // Two objects of rows and two of output hold the same.
    assert_eq!(world.staged[&Epoch(1)].len(), 4);
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["value"]);
    assert_eq!(world.owed(0, 1, usize::MAX).await, [(1, "out".to_owned())]);
    let once = rows(1, &[(0, 1, "value")]).blocks[0].run.len();
    assert_eq!(world.load(0), once, "the rows are in the tail once");
    world.setup.control.set_trimming(false);
    world.restart().await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["value"]);
    assert_eq!(world.load(0), once, "the rows are in the tail once");
    assert_eq!(world.owed(0, 1, usize::MAX).await, [(1, "out".to_owned())]);
}

impl World {
    /// Bytes of a shard's tail.
    fn load(&self, shard: u32) -> usize {
        let job = self.node.shared.known_job(JOB).expect("the job");
        let shards = job.look_shards();
        let shard = shards
            .iter()
            .find(|of| of.id == ShardId(shard))
            .expect("the shard");
        shard.load().tail_bytes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_old_generation_refuses_until_told() {
    let limits = NodeLimits {
        request_wait: Duration::from_millis(50),
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    world
        .setup
        .control
        .reported(|r| matches!(r, StateReport::Opened { .. }))
        .await;
    let old = world.who;
    let new = Incarnation {
        generation: Generation(2),
        ..old
    };
    // A task of the next generation comes before the control plane's order.
    assert!(is_unavailable(world.try_get(new, 0, 0, 0, 1).await));
    assert!(is_fenced(world.try_get(old, 0, 0, 0, 1).await));
    let late = world.delta(1, 0, 1, rows(1, &[(0, 1, "late")]));
    assert!(is_fenced(world.node.stage(old, late).await));
    world.begin(2).await;
    assert_eq!(world.try_get(new, 0, 0, 0, 1).await, Ok(Vec::new()));
    assert!(is_fenced(world.try_get(old, 0, 0, 0, 1).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_flush_fails_every_epoch_is_there_once() {
    let faults = [Fault::Before, Fault::After].into_iter();
    let cases = faults.flat_map(|fault| (0..5).map(move |failing| (fault, failing)));
    let failures = join_all(cases.map(|(fault, failing)| flush_that_fails(fault, failing))).await;
    assert!(
        failures.iter().any(|failures| *failures > 0),
        "the faults hit flushes"
    );
}

/// A flush whose requests fail, `failing` after the first; how often the shard failed.
async fn flush_that_fails(fault: Fault, failing: u64) -> usize {
    let mut world = World::new(never_flushed()).await;
    world.setup.page_limits.store_retries_max = 1;
    world.setup.page_limits.deadline = Duration::from_secs(5);
    world.setup.limits = flushed_after(2);
    world.restart().await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    // Some requests in a row, then the store is there again.
    let put = Request {
        path: "/shards/0",
        ..SHARD_PUT
    };
    world.faults.fail(put, failing, 8, fault);
    for epoch in 1..6 {
        let value = epoch.to_string();
        let values = [(0, 1, &value[..]), (0, 100 + epoch, "x")];
        world.apply(epoch, rows(epoch, &values)).await;
        assert_eq!(
            world.get(epoch, 0, 0, 1).await,
            [value],
            "{fault:?} {failing}"
        );
    }
    let over = |r: &StateReport| match r {
        StateReport::Durable { shard, epoch, .. } => shard.0 == 0 && epoch.0 >= 2,
        r => matches!(r, StateReport::Failed { .. }),
    };
    world.setup.control.reported(over).await;
    let failed = |r: &&StateReport| matches!(r, StateReport::Failed { .. });
    let failures = world.setup.control.reports().iter().filter(failed).count();
    world.restart().await;
    assert_eq!(world.get(5, 0, 0, 1).await, ["5"]);
    for epoch in 1..6 {
        assert_eq!(
            world.get(5, 0, 0, 100 + epoch).await,
            ["x"],
            "{fault:?} {failing}"
        );
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_keeps_the_window_that_closes_while_it_uploads() {
    let mut world = World::new(flushed_after(1)).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    // The upload of epoch 1 is slow; the window closes meanwhile.
    world
        .faults
        .fail(SHARD_PUT, 0, 1, Fault::Delay(Duration::from_millis(300)));
    world.apply(1, rows_in(1, 10, &[(0, 1, "window")])).await;
    let group = KeyGroupCount::DEFAULT.of_hash(hash(0, 1));
    let closing = Changes {
        low_water_marks: vec![(TABLE, group, 11)],
        ..Changes::default()
    };
    world.setup.limits = never_flushed();
    assert_eq!(world.get(1, 10, 0, 1).await, ["window"]);
    while world.load(0) > 0 {
        tokio::task::yield_now().await;
    }
    world.stage(world.delta(2, 0, 1, closing)).await;
    world.commit(2).await;
    assert!(world.get(2, 10, 0, 1).await.is_empty());
    world.durable(0, 1).await;
    world.setup.control.disconnect();
    world.node.stop().await;
    // What the shard has as of epoch 1, without the log.
    let config = PageStoreConfig {
        path: "state/jobs/3/shards/0".to_owned(),
        store: world.store.clone(),
        key_groups: KeyGroupCount::DEFAULT,
        range: KeyGroupCount::DEFAULT.range(0, SHARDS),
        block_cache: None,
        page_cache: None,
        seed: 1,
        clock: None,
        runtime: tokio::runtime::Handle::current(),
        limits: world.setup.page_limits.clone(),
    };
    let copy = PageStoreConfig {
        path: "copy".to_owned(),
        ..config.clone()
    };
    PageStore::clone_from(&copy, &config.path, Epoch(1))
        .await
        .expect("a checkpoint of epoch 1");
    let opened = PageStore::open(copy, |_| async { Ok(()) }).await;
    let (pages, opened) = opened.expect("opened");
    assert_eq!(opened.durable, Epoch(1));
    let key = KeyRequest {
        table: TABLE,
        namespace: 10,
        hash: hash(0, 1),
        sub: None,
    };
    let found = pages.read(&[key]).await.expect("read");
    assert_eq!(found[0].len(), 1, "the window is open at epoch 1");
    pages.close().await.expect("closed");
    world.node = world.setup.start();
    assert!(world.get(2, 10, 0, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_shrinks_though_a_shard_falls_silent() {
    let mut world = World::new(flushed_after(8)).await;
    world.apply(5, rows(5, &[(1, 1, "once")])).await;
    for epoch in 6..40 {
        world.apply(epoch, rows(epoch, &[(2, 1, "often")])).await;
    }
    assert_eq!(world.get(39, 0, 2, 1).await, ["often"]);
    world.durable(1, 30).await;
    world.durable(2, 13).await;
    let log = world.setup.control.log(JOB);
    assert!(log.iter().all(|entry| entry.epoch > Epoch(12)), "{log:?}");
    // A shard that never had a row holds nothing, and says so.
    world.durable(0, 30).await;
    assert_eq!(world.get(39, 0, 1, 1).await, ["once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_changes_in_two_epochs_is_the_newer_one() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.setup.limits = flushed_after(1);
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.durable(0, 2).await;
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_sink_that_is_down_only_the_output_piles_up() {
    let limits = NodeLimits {
        output_bytes: 100,
        ..flushed_after(4)
    };
    let mut world = World::new(limits).await;
    let epochs = 100;
    for epoch in 1..=epochs {
        let changes = Changes {
            staged: output(&format!("out {epoch}")).staged,
            ..rows(epoch, &[(0, 1, "value")])
        };
        world.apply(epoch, changes).await;
    }
    assert_eq!(world.get(epochs, 0, 0, 1).await, ["value"]);
    world.durable(0, epochs - 8).await;
    let log = world.setup.control.log(JOB);
    let rows = log.iter().flat_map(|entry| &entry.objects);
    let rows = rows.filter(|object| matches!(object.holds, LogHolding::Rows(_)));
    assert!(rows.count() <= 8);
    assert_eq!(world.files(".out").await.len(), epochs as usize);
    // When it is back it gets all of it, piece by piece.
    let mut found = Vec::new();
    while found.len() < epochs as usize {
        let after = found.last().map_or(0, |(epoch, _)| *epoch);
        let piece = world.owed(after, epochs, 30).await;
        assert!((1..=8).contains(&piece.len()), "{}", piece.len());
        found.extend(piece);
    }
    let expected: Vec<_> = (1..=epochs)
        .map(|epoch| (epoch, format!("out {epoch}")))
        .collect();
    assert_eq!(found, expected);
    let published = world
        .setup
        .control
        .published(world.who, SINK, Epoch(epochs));
    published.await.expect("published");
    assert!(world.owed(0, epochs, 30).await.is_empty());
    assert!(
        world
            .setup
            .control
            .log(JOB)
            .iter()
            .all(|entry| entry.epoch.0 > epochs - 8)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_between_listing_and_asking_stays() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    // Written again by a node that died: never to be committed.
    let twin = world.staged[&Epoch(2)].clone();
    world.restart().await;
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    let objects: Vec<LogObject> = world.staged[&Epoch(2)]
        .iter()
        .filter(|o| !twin.contains(o))
        .cloned()
        .collect();
    let (control, who) = (world.setup.control.clone(), world.who);
    let answer = move || {
        let control = control.clone();
        async move {
            control
                .commit(who, Epoch(2), objects)
                .await
                .expect("committed");
            control.log_references(JOB).await
        }
        .boxed()
    };
    let log = &world.node.shared.context.log;
    assert_eq!(
        collect_orphans(log, JOB, answer).await,
        Ok(1),
        "the twin goes"
    );
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_epoch_is_one_object_and_an_idle_one_none() {
    let world = World::new(never_flushed()).await;
    for shard in 0..SHARDS {
        assert!(world.get(0, 0, shard, 1).await.is_empty());
    }
    world.faults.reset_counts();
    let tasks = 8;
    for epoch in 1..4_u64 {
        let deltas = (0..tasks).map(|task| {
            let values = [(task % SHARDS, u64::from(task), "value")];
            let changes = match task {
                // One of them changes nothing, and one makes output.
                0 => Changes::default(),
                1 => output("out"),
                _ => rows(epoch, &values),
            };
            world
                .node
                .stage(world.who, world.delta(epoch, task, tasks, changes))
        });
        let staged = join_all(deltas).await;
        let mut objects: Vec<LogObject> = staged
            .into_iter()
            .flat_map(|staged| staged.expect("staged"))
            .collect();
        objects.sort();
        objects.dedup();
        assert_eq!(objects.len(), 2);
        let committed = world.setup.control.commit(world.who, Epoch(epoch), objects);
        committed.await.expect("committed");
        assert_eq!(world.get(epoch, 0, 2, 2).await, ["value"]);
        assert_eq!(world.owed(epoch - 1, epoch, usize::MAX).await.len(), 1);
    }
    for task in 0..tasks {
        let nothing = world.delta(4, task, tasks, Changes::default());
        assert_eq!(world.node.stage(world.who, nothing).await, Ok(Vec::new()));
    }
    world
        .setup
        .control
        .commit(world.who, Epoch(4), Vec::new())
        .await
        .expect("committed");
    assert_eq!(world.get(4, 0, 2, 2).await, ["value"]);
    assert_eq!(world.faults.count(LOG_ROWS).0, 3);
    assert_eq!(world.faults.count(LOG_OUT).0, 3);
    assert_eq!(world.faults.count(LOG_GET).0, 0, "it is still in memory");
    assert_eq!(world.faults.count(SHARD_PUT).0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_write_leaves_one_object() {
    let mut world = World::new(never_flushed()).await;
    world.faults.fail(LOG_ROWS, 0, 2, Fault::After);
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.files(".rows").await.len(), 1);
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_cut_on_its_way_is_read_again() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1"), (1, 1, "1")])).await;
    world.faults.fail(LOG_GET, 0, 3, Fault::Truncate);
    world.restart().await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    assert_eq!(world.get(1, 0, 1, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_outlives_an_outage_and_the_node_says_that_it_is_one() {
    let limits = NodeLimits {
        stage_wait: Duration::from_millis(300),
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.set_down(true);
    let delta = world.delta(1, 0, 1, rows(1, &[(0, 1, "1")]));
    assert!(is_unavailable(
        world.node.stage(world.who, delta.clone()).await
    ));
    let degraded = |r: &StateReport| matches!(r, StateReport::Degraded { why: Some(_) });
    world.setup.control.reported(degraded).await;
    world.faults.heal();
    let well = |r: &StateReport| matches!(r, StateReport::Degraded { why: None });
    world.setup.control.reported(well).await;
    world.stage(delta).await;
    world.commit(1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    assert_eq!(
        world.files(".rows").await.len(),
        1,
        "the first attempt was enough"
    );
    // A new generation ends what is tried for an older one.
    world.faults.set_down(true);
    let (node, who) = (world.node.clone(), world.who);
    let delta = world.delta(2, 0, 1, rows(2, &[(0, 1, "2")]));
    let (staged, _) = futures::join!(node.stage(who, delta), world.begin(2));
    assert!(is_fenced(staged));
    world.faults.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_that_fail_are_told_as_trouble_of_the_store() {
    let mut world = World::new(flushed_after(1)).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.fail(SHARD_PUT, 0, u64::MAX, Fault::Before);
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    let why = Some("memory: injected before the request".to_owned());
    let degraded = StateReport::Degraded { why };
    let control = world.setup.control.clone();
    control.reported(|report| *report == degraded).await;
    world.faults.heal();
    let well = StateReport::Degraded { why: None };
    control.reported(|report| *report == well).await;
    world.durable(0, 1).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_that_waits_is_refused_and_nothing_is_lost() {
    let limits = NodeLimits {
        stage_wait: Duration::from_millis(50),
        staged_bytes: 100,
        ..never_flushed()
    };
    let mut world = World::new(limits).await;
    assert!(world.get(0, 0, 0, 1).await.is_empty());
    world.faults.set_down(true);
    let large = "x".repeat(90);
    for epoch in 1..4 {
        let delta = world.delta(epoch, 0, 1, rows(epoch, &[(0, epoch, &large)]));
        assert!(is_unavailable(world.node.stage(world.who, delta).await));
    }
    world.faults.heal();
    for epoch in 1..4 {
        let delta = world.delta(epoch, 0, 1, rows(epoch, &[(0, epoch, &large)]));
        while is_unavailable(world.node.stage(world.who, delta.clone()).await) {}
        world.stage(delta).await;
        world.commit(epoch).await;
    }
    for epoch in 1..4 {
        assert_eq!(
            world.get(3, 0, 0, epoch).await,
            std::slice::from_ref(&large)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_commit_is_noticed_and_caught_up_with() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    // The order for epoch 2 is lost on its way to the node.
    world
        .stage(world.delta(2, 0, 1, rows(2, &[(0, 1, "2")])))
        .await;
    world.setup.control.disconnect();
    world.commit(2).await;
    world
        .stage(world.delta(3, 0, 1, rows(3, &[(0, 2, "3")])))
        .await;
    let committed = CommittedEpoch {
        epoch: Epoch(3),
        objects: world.staged[&Epoch(3)].clone(),
    };
    world.node.order(StateOrder::Committed {
        job: JOB,
        generation: Generation(1),
        previous: Epoch(2),
        committed,
        traceparent: None,
    });
    assert!(is_unavailable(world.try_get(world.who, 0, 0, 0, 1).await));
    world.commit(3).await;
    world.restart().await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["2"]);
    assert_eq!(world.get(3, 0, 0, 2).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_a_shard_cannot_flush_it() {
    let mut world = World::new(flushed_after(2)).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    let zombie = world.node.clone();
    // The next owner opens while the first still believes that it is the owner.
    world.node = world.setup.start();
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    world.durable(0, 1).await;
    // The zombie hears late of a commit, and flushes.
    zombie.order(StateOrder::Committed {
        job: JOB,
        generation: Generation(1),
        previous: Epoch(1),
        committed: CommittedEpoch {
            epoch: Epoch(2),
            objects: Vec::new(),
        },
        traceparent: None,
    });
    let key = KeyRequest {
        table: TABLE,
        namespace: 0,
        hash: hash(0, 1),
        sub: None,
    };
    let request = ReadRequest {
        min_epoch: Epoch::ZERO,
        keys: vec![key],
    };
    // Until it notices it answers from before: nobody who knows of epoch 2 accepts that.
    while zombie.read(world.who, ShardId(0), &request).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    zombie.stop().await;
    world.restart().await;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_comes_back_to_a_node_is_read_anew() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    // Nobody hears of the first node, and it hears of nothing: its shards move to the second.
    let first = world.node.clone();
    world.setup.limits = flushed_after(1);
    world.node = world.setup.start();
    world.apply(2, rows(2, &[(0, 1, "2")])).await;
    world.durable(0, 2).await;
    // The second dies. The control plane has forgotten who had the shards before.
    world.setup.control.disconnect();
    world.node.stop().await;
    let reports = first.shared.context.reports.receiver();
    world.setup.control.connect(&first, reports);
    world.node = first;
    assert_eq!(world.get(2, 0, 0, 1).await, ["2"]);
    // What it has open since is not opened again for an order that is only repeated.
    world.setup.control.open(JOB);
    world.apply(3, rows(3, &[(0, 1, "3")])).await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["3"]);
    world.restart().await;
    assert_eq!(world.get(3, 0, 0, 1).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_not_the_nodes_is_not_opened() {
    let mut world = World::new(never_flushed()).await;
    world.setup.control.set_disowned(true);
    world.restart().await;
    let lost = |r: &StateReport| {
        matches!(
            r,
            StateReport::Failed {
                retryable: false,
                ..
            }
        )
    };
    world.setup.control.reported(lost).await;
    world.setup.control.set_disowned(false);
    world.setup.control.open(JOB);
    assert!(world.get(0, 0, 0, 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_dropped_job_no_file_is_left() {
    let mut world = World::new(flushed_after(1)).await;
    for epoch in 1..4 {
        let changes = Changes {
            staged: output("out").staged,
            ..rows(epoch, &[(0, 1, "value")])
        };
        world.apply(epoch, changes).await;
    }
    world.durable(0, 1).await;
    assert!(!world.files("").await.is_empty());
    world.setup.control.drop_job(JOB).await.expect("dropped");
    let dropped = |r: &StateReport| *r == StateReport::Dropped { job: JOB };
    world.setup.control.reported(dropped).await;
    assert_eq!(world.files("").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_were_lost_unheard_are_closed_by_the_next_sweep() {
    let mut world = World::new(never_flushed()).await;
    world.apply(1, rows(1, &[(0, 1, "1")])).await;
    assert_eq!(world.get(1, 0, 0, 1).await, ["1"]);
    let node = world.node.shared.clone();
    let job = node.known_job(JOB).expect("open");
    node.close_foreign(&job).await.expect("an answer");
    assert_eq!(
        job.look_shards().len(),
        SHARDS as usize,
        "its own stay open"
    );
    // An order that comes while the control plane is being asked is newer than the answer.
    let shards = job.look_shards();
    let asked: Vec<u64> = shards.iter().map(|shard| shard.orders()).collect();
    world.setup.control.open(JOB);
    for (shard, orders) in shards.iter().zip(asked) {
        node.close_unless_ordered(&job, shard, orders);
    }
    assert_eq!(job.look_shards().len(), SHARDS as usize);
    // The job is dropped while the node hears of nothing.
    world.setup.control.disconnect();
    let dropped = world.setup.control.drop_job(JOB).await;
    dropped.expect("dropped");
    node.close_foreign(&job).await.expect("an answer");
    for shard in shards {
        shard.ended().await;
    }
    assert!(node.all_jobs().is_empty());
    assert_eq!(world.node.stats().shards, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_shard_is_not_served() {
    let limits = NodeLimits {
        request_wait: Duration::from_millis(50),
        ..never_flushed()
    };
    let world = World::new(limits).await;
    world
        .setup
        .control
        .reported(|r| {
            matches!(
                r,
                StateReport::Opened {
                    shard: ShardId(1),
                    ..
                }
            )
        })
        .await;
    assert!(world.get(0, 0, 1, 1).await.is_empty());
    let (job, shard) = (JOB, ShardId(1));
    world.setup.control.order(StateOrder::Close { job, shard });
    assert!(is_unavailable(world.try_get(world.who, 0, 0, 1, 1).await));
    world.setup.control.open(JOB);
    let opened = world
        .setup
        .control
        .reported(|r| matches!(r, StateReport::Opened { .. }));
    opened.await;
    while is_unavailable(world.try_get(world.who, 0, 0, 1, 1).await) {}
}
