//! What every [`StateStore`] must do. Each check is a small history against a fresh store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroup, KeyGroupCount, SinkId, TableId, TaskId},
};

use crate::{
    Block, Changes, Cut, EpochDelta, Incarnation, KeyRequest, LoadedRow, OutputRequest,
    ReadRequest, ScanRequest, StagedOutput, StateControl, StateError, StateStore,
    page::{RowRef, RunBuilder},
};

/// A store under test and its control side.
pub type Pair = (Arc<dyn StateStore>, Arc<dyn StateControl>);

const JOB: JobId = JobId(7);
const TABLE: TableId = TableId(3);
/// Two hashes of one key group and one of another.
const HASHES: [u64; 3] = [5, 6, u64::MAX];
/// Shards of the job.
pub const SHARDS: u32 = 4;

/// Runs the whole suite; `store` makes a fresh store each time, for jobs of 256 key groups and
/// [`SHARDS`] shards.
pub async fn all(store: impl Fn() -> Pair) {
    Check::begin(store())
        .await
        .staged_is_invisible_until_committed()
        .await;
    Check::begin(store())
        .await
        .newest_epoch_wins_and_deletes_hide()
        .await;
    Check::begin(store())
        .await
        .staging_twice_applies_once()
        .await;
    Check::begin(store())
        .await
        .older_generations_are_fenced()
        .await;
    Check::begin(store())
        .await
        .uncommitted_epochs_of_an_old_generation_vanish()
        .await;
    Check::begin(store())
        .await
        .closed_namespaces_are_gone()
        .await;
    Check::begin(store())
        .await
        .scans_page_through_everything()
        .await;
    Check::begin(store())
        .await
        .output_is_kept_until_published()
        .await;
    Check::begin(store()).await.reads_by_sub_hash().await;
    Check::begin(store())
        .await
        .a_read_ahead_of_the_commit_is_refused()
        .await;
    Check::begin(store())
        .await
        .random_histories_match_a_model()
        .await;
    Check::begin(store())
        .await
        .tasks_and_shards_commit_together()
        .await;
    Check::begin(store()).await.large_scans_are_whole().await;
    Check::begin(store())
        .await
        .what_is_written_below_the_mark_is_closed()
        .await;
    Check::begin(store())
        .await
        .an_epoch_without_changes_is_one_too()
        .await;
}

struct Check {
    store: Arc<dyn StateStore>,
    control: Arc<dyn StateControl>,
    who: Incarnation,
    /// What was staged and not yet committed.
    log: Mutex<BTreeMap<Epoch, BTreeSet<LogObject>>>,
    /// The newest committed epoch, at which reads are made.
    committed: Mutex<Epoch>,
}

/// (namespace, hash, identity, value)
type Change<'a> = (i64, u64, &'a [u8], Option<&'a [u8]>);

impl Check {
    async fn begin((store, control): Pair) -> Check {
        let who = Incarnation {
            job: JOB,
            generation: Generation(1),
        };
        let begun = control.begin(who).await.expect("begun");
        assert_eq!(begun.restored, Epoch::ZERO);
        Check {
            store,
            control,
            who,
            log: Mutex::default(),
            committed: Mutex::default(),
        }
    }

    fn changes(epoch: u64, changes: &[Change<'_>]) -> Changes {
        let groups = KeyGroupCount::DEFAULT;
        let mut sorted = changes.to_vec();
        sorted.sort_unstable_by_key(|c| (groups.of_hash(c.1), c.0, c.1, c.2));
        let mut runs: BTreeMap<_, RunBuilder> = BTreeMap::new();
        for (namespace, hash, identity, value) in sorted {
            let run = runs.entry((groups.of_hash(hash), namespace)).or_default();
            run.push(RowRef {
                hash,
                identity,
                epoch,
                value,
            });
        }
        let block = |((key_group, namespace), run): (_, RunBuilder)| Block {
            table: TABLE,
            key_group,
            namespace,
            run: run.finish(),
        };
        Changes {
            blocks: runs.into_iter().map(block).collect(),
            ..Changes::default()
        }
    }

    /// A task's delta; `tasks` of them make the epoch.
    fn delta(&self, epoch: u64, task: u32, tasks: u32, changes: Changes) -> EpochDelta {
        let cut = Cut {
            key_groups: KeyGroupCount::DEFAULT,
            shards: SHARDS,
            tasks,
        };
        EpochDelta::new(self.who, Epoch(epoch), TaskId(task), cut, changes)
    }

    /// Begins the generation of `who`; the epoch that it starts from.
    async fn begin_next(&self) -> Epoch {
        let begun = self.control.begin(self.who).await.expect("begun");
        let again = self.control.begin(self.who).await;
        assert_eq!(again, Ok(begun), "asked again");
        assert!(begun.first.0 >= begun.restored.0 + Epoch::GENERATION_GAP);
        begun.restored
    }

    async fn stage(&self, delta: EpochDelta) {
        let (epoch, empty) = (delta.epoch, delta.is_empty());
        let objects = self.store.stage(self.who, delta).await.expect("stage");
        let is_committed = epoch <= *self.committed.lock().expect("not poisoned");
        assert!(is_committed || empty == objects.is_empty());
        let mut log = self.log.lock().expect("not poisoned");
        log.entry(epoch).or_default().extend(objects);
    }

    async fn commit(&self, epoch: u64) {
        let epoch = Epoch(epoch);
        let objects = self.log.lock().expect("not poisoned").remove(&epoch);
        let objects = objects.unwrap_or_default().into_iter().collect();
        let committed = self.control.commit(self.who, epoch, objects).await;
        committed.expect("commit");
        *self.committed.lock().expect("not poisoned") = epoch;
    }

    fn committed(&self) -> Epoch {
        *self.committed.lock().expect("not poisoned")
    }

    async fn apply(&self, epoch: u64, changes: &[Change<'_>]) {
        let changes = Self::changes(epoch, changes);
        self.stage(self.delta(epoch, 0, 1, changes)).await;
        self.commit(epoch).await;
    }

    async fn read(&self, namespace: i64, hash: u64, sub: Option<u64>) -> Vec<LoadedRow> {
        let key = KeyRequest {
            table: TABLE,
            namespace,
            hash,
            sub,
        };
        let request = ReadRequest {
            min_epoch: self.committed(),
            keys: vec![key],
        };
        let mut reply = self.store.read(self.who, request).await.expect("read");
        assert_eq!(reply.rows.len(), 1);
        reply.rows.remove(0)
    }

    async fn values(&self, namespace: i64, hash: u64) -> Vec<String> {
        let text = |row: LoadedRow| {
            let utf8 = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}", utf8(&row.identity), utf8(&row.value))
        };
        self.read(namespace, hash, None)
            .await
            .into_iter()
            .map(text)
            .collect()
    }

    async fn scan(&self, hash: u64, bytes_max: usize) -> Vec<LoadedRow> {
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let request = ScanRequest {
                min_epoch: self.committed(),
                table: TABLE,
                key_group: KeyGroupCount::DEFAULT.of_hash(hash),
                namespace: None,
                cursor,
                bytes_max,
            };
            let reply = self.store.scan(self.who, request).await.expect("scan");
            rows.extend(reply.rows);
            cursor = reply.cursor;
            if cursor.is_none() {
                return rows;
            }
        }
    }

    async fn staged_is_invisible_until_committed(self) {
        let changes = Self::changes(17, &[(0, 5, b"a", Some(b"1"))]);
        self.stage(self.delta(17, 0, 1, changes)).await;
        assert!(self.values(0, 5).await.is_empty());
        self.commit(17).await;
        assert_eq!(self.values(0, 5).await, ["a=1"]);
        assert!(self.values(0, 6).await.is_empty());
    }

    async fn newest_epoch_wins_and_deletes_hide(self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1")), (0, 5, b"b", Some(b"1"))])
            .await;
        self.apply(2, &[(0, 5, b"a", Some(b"2")), (0, 6, b"a", Some(b"x"))])
            .await;
        assert_eq!(self.values(0, 5).await, ["a=2", "b=1"]);
        self.apply(3, &[(0, 5, b"a", None)]).await;
        assert_eq!(self.values(0, 5).await, ["b=1"]);
        assert_eq!(self.values(0, 6).await, ["a=x"]);
        self.apply(4, &[(0, 5, b"a", Some(b""))]).await;
        assert_eq!(self.values(0, 5).await, ["a=", "b=1"]);
    }

    async fn staging_twice_applies_once(self) {
        let first = Self::changes(1, &[(0, 5, b"a", Some(b"1"))]);
        let first = self.delta(1, 0, 2, first);
        self.stage(first.clone()).await;
        self.stage(first.clone()).await;
        let second = Self::changes(1, &[(0, 6, b"b", Some(b"2"))]);
        self.stage(self.delta(1, 1, 2, second)).await;
        self.commit(1).await;
        self.apply(2, &[(0, 5, b"a", Some(b"9"))]).await;
        self.stage(first).await;
        self.commit(2).await;
        assert_eq!(self.values(0, 5).await, ["a=9"]);
        assert_eq!(self.values(0, 6).await, ["b=2"]);
    }

    async fn older_generations_are_fenced(mut self) {
        let old = self.who;
        self.who.generation = Generation(2);
        assert_eq!(self.begin_next().await, Epoch::ZERO);
        let delta = self.delta(1, 0, 1, Self::changes(1, &[(0, 5, b"a", None)]));
        let fenced = |error: Option<StateError>| matches!(error, Some(StateError::Fenced { .. }));
        assert!(fenced(self.store.stage(old, delta).await.err()));
        assert!(fenced(
            self.control.commit(old, Epoch(1), Vec::new()).await.err()
        ));
        assert!(fenced(self.control.begin(old).await.err()));
        let read = ReadRequest {
            min_epoch: Epoch::ZERO,
            keys: Vec::new(),
        };
        assert!(fenced(self.store.read(old, read).await.err()));
    }

    async fn uncommitted_epochs_of_an_old_generation_vanish(mut self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1"))]).await;
        let old = Self::changes(2, &[(0, 5, b"a", Some(b"old"))]);
        self.stage(self.delta(2, 0, 1, old)).await;
        self.who.generation = Generation(2);
        assert_eq!(self.begin_next().await, Epoch(1));
        self.apply(18, &[(0, 6, b"b", Some(b"new"))]).await;
        assert_eq!(self.values(0, 5).await, ["a=1"]);
        assert_eq!(self.values(0, 6).await, ["b=new"]);
    }

    async fn closed_namespaces_are_gone(self) {
        let rows: [Change<'_>; 3] = [
            (-10, 5, b"a", Some(b"1")),
            (20, 5, b"a", Some(b"2")),
            (30, 5, b"a", Some(b"3")),
        ];
        self.apply(1, &rows).await;
        self.stage(self.delta(2, 0, 1, Self::closing(5, 30))).await;
        assert_eq!(self.values(20, 5).await, ["a=2"]);
        self.commit(2).await;
        assert!(self.values(-10, 5).await.is_empty());
        assert!(self.values(20, 5).await.is_empty());
        assert_eq!(self.values(30, 5).await, ["a=3"]);
        let namespaces: Vec<i64> = self
            .scan(5, 1)
            .await
            .iter()
            .map(|row| row.namespace)
            .collect();
        assert_eq!(namespaces, [30]);
        // A late write does not open it again.
        self.apply(3, &[(20, 5, b"b", Some(b"4"))]).await;
        assert!(self.values(20, 5).await.is_empty());
        let scanned = self.scan(5, 1).await;
        assert!(scanned.iter().all(|row| row.namespace == 30));
    }

    /// Namespaces below `open_from` close in the key group of a hash.
    fn closing(hash: u64, open_from: i64) -> Changes {
        let group: KeyGroup = KeyGroupCount::DEFAULT.of_hash(hash);
        Changes {
            low_water_marks: vec![(TABLE, group, open_from)],
            ..Changes::default()
        }
    }

    async fn scans_page_through_everything(self) {
        let identities: Vec<[u8; 2]> = (0..300_u16).map(u16::to_be_bytes).collect();
        for epoch in 1..4 {
            let changes: Vec<Change<'_>> = identities
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 3 == epoch - 1 || i % 7 == 0)
                .map(|(i, id)| (i as i64 % 2, 5 + i as u64 % 2, &id[..], Some(&id[..])))
                .collect();
            self.apply(epoch as u64, &changes).await;
        }
        let all = self.scan(5, usize::MAX).await;
        assert_eq!(all.len(), 300);
        let order = |row: &LoadedRow| (row.namespace, row.hash, row.identity.clone());
        assert!(all.is_sorted_by_key(order));
        for bytes_max in [1, 100, 1000] {
            assert_eq!(self.scan(5, bytes_max).await, all);
        }
        assert!(self.scan(u64::MAX, 100).await.is_empty());
    }

    async fn output_is_kept_until_published(self) {
        let (sink, other) = (SinkId(1), SinkId(2));
        for epoch in 1..4 {
            for task in 0..2 {
                let bytes = Bytes::from(format!("{epoch}.{task}"));
                let output = |sink| StagedOutput {
                    sink,
                    slot: task,
                    bytes: bytes.clone(),
                };
                let changes = Changes {
                    staged: vec![output(sink), output(other)],
                    ..Changes::default()
                };
                self.stage(self.delta(epoch, task, 2, changes)).await;
            }
            if epoch < 3 {
                self.commit(epoch).await;
            }
        }
        let request = |sink, after, bytes_max| OutputRequest {
            sink,
            after: Epoch(after),
            up_to: Epoch(2),
            bytes_max,
        };
        let ask = |request| self.store.committed_output(self.who, request);
        let owed = |after| ask(request(sink, after, usize::MAX));
        let texts = |outputs: Vec<crate::CommittedOutput>| -> Vec<String> {
            outputs
                .iter()
                .map(|o| String::from_utf8_lossy(&o.bytes).into_owned())
                .collect()
        };
        assert_eq!(
            texts(owed(0).await.expect("output")),
            ["1.0", "1.1", "2.0", "2.1"]
        );
        assert_eq!(texts(owed(1).await.expect("output")), ["2.0", "2.1"]);
        // Whole epochs, one at least.
        let first = ask(request(sink, 0, 1)).await.expect("output");
        assert_eq!(texts(first), ["1.0", "1.1"]);
        self.control
            .published(self.who, sink, Epoch(1))
            .await
            .expect("published");
        assert_eq!(texts(owed(0).await.expect("output")), ["2.0", "2.1"]);
        let others = ask(request(other, 0, usize::MAX)).await;
        assert_eq!(others.expect("output").len(), 4);
    }

    async fn reads_by_sub_hash(self) {
        let identity = |sub: u64, rest: &[u8]| [&sub.to_be_bytes()[..], rest].concat();
        let ids = [identity(1, b"x"), identity(1, b"y"), identity(2, b"x")];
        let rows: Vec<Change<'_>> = ids
            .iter()
            .map(|id| (0, 5, &id[..], Some(&b"v"[..])))
            .collect();
        self.apply(1, &rows).await;
        assert_eq!(self.read(0, 5, Some(1)).await.len(), 2);
        assert_eq!(self.read(0, 5, Some(2)).await.len(), 1);
        assert_eq!(self.read(0, 5, Some(3)).await.len(), 0);
        assert_eq!(self.read(0, 5, None).await.len(), 3);
    }

    async fn a_read_ahead_of_the_commit_is_refused(self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1"))]).await;
        let key = KeyRequest {
            table: TABLE,
            namespace: 0,
            hash: 5,
            sub: None,
        };
        let request = ReadRequest {
            min_epoch: Epoch(2),
            keys: vec![key],
        };
        // It is refused, or waits for the commit; it never answers from before.
        let early = self.store.read(self.who, request.clone());
        let (early, ()) = futures::join!(early, self.apply(2, &[(0, 5, b"a", Some(b"2"))]));
        match early {
            Ok(reply) => assert_eq!(reply.rows[0][0].value, "2"),
            Err(StateError::Epoch { .. } | StateError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        let reply = self.store.read(self.who, request).await.expect("read");
        assert_eq!(reply.rows[0][0].value, "2");
    }

    async fn random_histories_match_a_model(self) {
        let mut model: BTreeMap<(i64, u64, Vec<u8>), Vec<u8>> = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for epoch in 1..60_u64 {
            let mut changes: BTreeMap<(i64, u64, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
            for _ in 0..random(20) {
                let identity = vec![random(6) as u8];
                let key = (random(2) as i64, HASHES[random(3) as usize], identity);
                let value = (random(3) > 0).then(|| epoch.to_be_bytes().to_vec());
                changes.insert(key, value);
            }
            let rows: Vec<Change<'_>> = changes
                .iter()
                .map(|(k, v)| (k.0, k.1, &k.2[..], v.as_deref()))
                .collect();
            self.apply(epoch, &rows).await;
            for (key, value) in changes {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
        }
        let mut scanned: Vec<LoadedRow> = self.scan(HASHES[0], 64).await;
        scanned.extend(self.scan(HASHES[2], 64).await);
        let scanned: BTreeMap<_, _> = scanned
            .into_iter()
            .map(|row| {
                (
                    (row.namespace, row.hash, row.identity.to_vec()),
                    row.value.to_vec(),
                )
            })
            .collect();
        assert_eq!(scanned, model);
        for ((namespace, hash, identity), value) in &model {
            let rows = self.read(*namespace, *hash, None).await;
            assert!(
                rows.iter()
                    .any(|row| row.identity == *identity && row.value == *value)
            );
        }
    }

    /// One hash per shard, and two of one key group.
    fn spread() -> Vec<u64> {
        let per_shard = (0..u64::from(SHARDS)).map(|shard| (shard << 62) + 7);
        per_shard.chain([8]).collect()
    }

    async fn tasks_and_shards_commit_together(self) {
        let tasks = 3_u32;
        for epoch in 1..5_u64 {
            let values: Vec<String> = (0..tasks).map(|task| format!("{epoch}.{task}")).collect();
            for task in 0..tasks {
                let id = [task as u8];
                let value = values[task as usize].as_bytes();
                // Each task changes other shards in each epoch, one of them none in the last.
                let hashes = Self::spread().into_iter().enumerate();
                let changed =
                    hashes.filter(|(i, _)| (*i as u64 + epoch) % 2 == u64::from(task % 2));
                let rows: Vec<Change<'_>> = changed
                    .filter(|_| epoch < 4 || task > 0)
                    .map(|(_, hash)| (0, hash, &id[..], Some(value)))
                    .collect();
                let changes = Self::changes(epoch, &rows);
                self.stage(self.delta(epoch, task, tasks, changes)).await;
            }
            self.commit(epoch).await;
        }
        let keys: Vec<KeyRequest> = (Self::spread().into_iter())
            .map(|hash| KeyRequest {
                table: TABLE,
                namespace: 0,
                hash,
                sub: None,
            })
            .collect();
        let request = ReadRequest {
            min_epoch: self.committed(),
            keys,
        };
        let reply = self.store.read(self.who, request).await.expect("read");
        for (index, rows) in reply.rows.iter().enumerate() {
            let found: Vec<String> = rows
                .iter()
                .map(|row| String::from_utf8_lossy(&row.value).into_owned())
                .collect();
            let expected = match index % 2 {
                0 => ["2.0", "3.1", "4.2"],
                _ => ["3.0", "4.1", "3.2"],
            };
            assert_eq!(found, expected, "hash {index}");
        }
    }

    async fn large_scans_are_whole(self) {
        let rows: Vec<(i64, u64, [u8; 4])> = (0..4000_u32)
            .map(|i| (i64::from(i % 3) - 1, u64::from(i / 8), i.to_be_bytes()))
            .collect();
        let value = [7_u8; 40];
        for epoch in 1..4_usize {
            let changed = rows.iter().enumerate().filter(|(i, _)| i % 3 >= epoch - 1);
            let changes: Vec<Change<'_>> = changed
                .map(|(_, row)| (row.0, row.1, &row.2[..], Some(&value[..10 * epoch])))
                .collect();
            self.apply(epoch as u64, &changes).await;
        }
        let deleted = rows.iter().step_by(5);
        let deletes: Vec<Change<'_>> = deleted
            .map(|row| (row.0, row.1, &row.2[..], None))
            .collect();
        self.apply(4, &deletes).await;
        let mut expected: Vec<_> = rows
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 5 > 0)
            .map(|(i, row)| (row.0, row.1, row.2.to_vec(), 10 * (1 + i % 3)))
            .collect();
        expected.sort();
        let found = |rows: Vec<LoadedRow>| -> Vec<_> {
            rows.into_iter()
                .map(|row| {
                    (
                        row.namespace,
                        row.hash,
                        row.identity.to_vec(),
                        row.value.len(),
                    )
                })
                .collect()
        };
        for bytes_max in [usize::MAX, 10_000] {
            assert!(
                found(self.scan(0, bytes_max).await) == expected,
                "{bytes_max}"
            );
        }
        let request = ScanRequest {
            min_epoch: self.committed(),
            table: TABLE,
            key_group: KeyGroup(0),
            namespace: Some(0),
            cursor: None,
            bytes_max: usize::MAX,
        };
        let one = self.store.scan(self.who, request).await.expect("scan");
        expected.retain(|row| row.0 == 0);
        assert!(found(one.rows) == expected);
    }

    async fn what_is_written_below_the_mark_is_closed(self) {
        self.apply(
            1,
            &[(10, 5, b"a", Some(b"1")), (10, u64::MAX, b"a", Some(b"1"))],
        )
        .await;
        // In one epoch a task closes what another writes to.
        self.stage(self.delta(2, 0, 2, Self::closing(5, 11))).await;
        let late = Self::changes(2, &[(10, 5, b"b", Some(b"2")), (11, 5, b"b", Some(b"2"))]);
        self.stage(self.delta(2, 1, 2, late)).await;
        self.commit(2).await;
        // A lower mark does not open anything again.
        self.stage(self.delta(3, 0, 1, Self::closing(5, 5))).await;
        self.commit(3).await;
        self.apply(4, &[(10, 5, b"c", Some(b"4")), (11, 5, b"c", Some(b"4"))])
            .await;
        assert!(self.values(10, 5).await.is_empty());
        assert_eq!(self.values(11, 5).await, ["b=2", "c=4"]);
        // Of that key group only.
        assert_eq!(self.values(10, u64::MAX).await, ["a=1"]);
        let request = ScanRequest {
            min_epoch: self.committed(),
            table: TABLE,
            key_group: KeyGroupCount::DEFAULT.of_hash(5),
            namespace: None,
            cursor: None,
            bytes_max: usize::MAX,
        };
        let reply = self.store.scan(self.who, request).await.expect("scan");
        assert_eq!(reply.open_from, Some(11));
        assert!(reply.rows.iter().all(|row| row.namespace == 11));
        assert_eq!(reply.rows.len(), 2);
    }

    async fn an_epoch_without_changes_is_one_too(self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1"))]).await;
        for epoch in 2..5 {
            self.stage(self.delta(epoch, 0, 1, Changes::default()))
                .await;
            self.commit(epoch).await;
            assert_eq!(self.values(0, 5).await, ["a=1"]);
        }
        self.apply(5, &[(0, 5, b"a", Some(b"5"))]).await;
        assert_eq!(self.values(0, 5).await, ["a=5"]);
    }
}
