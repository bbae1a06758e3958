//! What every [`StateStore`] must do. Each check is a small history against a fresh store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proto::{
    log::LogObject,
    types::{Epoch, Generation, JobId, KeyGroupCount, ShardId, SinkId, TableId, TaskId},
};

use crate::{
    Block, EpochDelta, Incarnation, KeyRequest, LoadedRow, OutputRequest, ReadRequest, ScanRequest,
    Section, StagedOutput, StateControl, StateError, StateStore,
    page::{RowRef, RunBuilder},
};

/// A store under test and its control side.
pub type Pair = (Arc<dyn StateStore>, Arc<dyn StateControl>);

const JOB: JobId = JobId(7);
const TABLE: TableId = TableId(3);
/// Two hashes of one key group and one of another.
const HASHES: [u64; 3] = [5, 6, u64::MAX];

/// Runs the whole suite; `store` makes a fresh store with 256 key groups each time.
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
}

struct Check {
    store: Arc<dyn StateStore>,
    control: Arc<dyn StateControl>,
    who: Incarnation,
    /// What was staged and not yet committed.
    log: Mutex<BTreeMap<Epoch, BTreeSet<LogObject>>>,
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
        }
    }

    fn section(&self, epoch: u64, task: u32, changes: &[Change<'_>]) -> Section {
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
        Section {
            job: self.who.job,
            generation: self.who.generation,
            epoch: Epoch(epoch),
            task: TaskId(task),
            shard: ShardId(0),
            blocks: runs.into_iter().map(block).collect(),
            low_water_marks: Vec::new(),
            staged: Vec::new(),
        }
    }

    /// The delta that consists of one task's section.
    fn delta(section: Section) -> EpochDelta {
        EpochDelta {
            epoch: section.epoch,
            task: section.task,
            tasks: 1,
            sections: vec![section],
        }
    }

    /// Begins the generation of `who`; the epoch that it starts from.
    async fn begin_next(&self) -> Epoch {
        let begun = self.control.begin(self.who).await.expect("begun");
        let again = self.control.begin(self.who).await;
        assert_eq!(again, Ok(begun), "asked again");
        assert!(begun.first.0 >= begun.restored.0 + Epoch::GENERATION_GAP);
        begun.restored
    }

    async fn stage(&self, section: Section) {
        let epoch = section.epoch;
        let staged = self.store.stage(self.who, Self::delta(section)).await;
        let objects = staged.expect("stage");
        assert!(!objects.is_empty());
        let mut log = self.log.lock().expect("not poisoned");
        log.entry(epoch).or_default().extend(objects);
    }

    async fn commit(&self, epoch: u64) {
        let epoch = Epoch(epoch);
        let objects = self.log.lock().expect("not poisoned").remove(&epoch);
        let objects = objects.unwrap_or_default().into_iter().collect();
        let committed = self.control.commit(self.who, epoch, objects).await;
        committed.expect("commit");
    }

    async fn apply(&self, epoch: u64, changes: &[Change<'_>]) {
        self.stage(self.section(epoch, 0, changes)).await;
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
            min_epoch: Epoch::ZERO,
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
                min_epoch: Epoch::ZERO,
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
        self.stage(self.section(17, 0, &[(0, 5, b"a", Some(b"1"))]))
            .await;
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
        let section = self.section(1, 0, &[(0, 5, b"a", Some(b"1"))]);
        self.stage(section.clone()).await;
        self.stage(section.clone()).await;
        self.stage(self.section(1, 1, &[(0, 6, b"b", Some(b"2"))]))
            .await;
        self.commit(1).await;
        self.apply(2, &[(0, 5, b"a", Some(b"9"))]).await;
        self.stage(section).await;
        self.commit(2).await;
        assert_eq!(self.values(0, 5).await, ["a=9"]);
        assert_eq!(self.values(0, 6).await, ["b=2"]);
    }

    async fn older_generations_are_fenced(mut self) {
        let old = self.who;
        self.who.generation = Generation(2);
        assert_eq!(self.begin_next().await, Epoch::ZERO);
        let section = self.section(1, 0, &[]);
        let fenced = |error: Option<StateError>| matches!(error, Some(StateError::Fenced { .. }));
        assert!(fenced(
            self.store.stage(old, Self::delta(section)).await.err()
        ));
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
        self.stage(self.section(2, 0, &[(0, 5, b"a", Some(b"old"))]))
            .await;
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
        let mut closing = self.section(2, 0, &[]);
        closing
            .low_water_marks
            .push((TABLE, KeyGroupCount::DEFAULT.of_hash(5), 30));
        self.stage(closing).await;
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
                let mut section = self.section(epoch, task, &[]);
                let bytes = Bytes::from(format!("{epoch}.{task}"));
                let output = |sink| StagedOutput {
                    sink,
                    slot: task,
                    bytes: bytes.clone(),
                };
                section.staged = vec![output(sink), output(other)];
                self.stage(section).await;
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
        assert!(matches!(
            self.store.read(self.who, request).await,
            Err(StateError::Epoch { .. })
        ));
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
}
