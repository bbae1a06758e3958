//! Long and wide histories: random ones against a model, many tasks, shards and rows.

use std::collections::BTreeMap;

use proto::types::{KeyGroup, KeyGroupCount};

use super::{
    HASHES, SHARDS, TABLE,
    check::{Change, Check},
};
use crate::{Changes, KeyRequest, LoadedRow, ReadRequest, ScanRequest};

impl Check {
    pub(super) async fn random_histories_match_a_model(self) {
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
    pub(super) fn spread() -> Vec<u64> {
        let per_shard = (0..u64::from(SHARDS)).map(|shard| (shard << 62) + 7);
        per_shard.chain([8]).collect()
    }

    pub(super) async fn tasks_and_shards_commit_together(self) {
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

    pub(super) async fn a_task_may_stage_in_parts(self) {
        // As it does when shards have other owners, or get them meanwhile. A shard's section is the
        // same whenever it comes.
        let hashes = &Self::spread()[..SHARDS as usize];
        for epoch in 1..3_u64 {
            let value = epoch.to_string();
            for part in [&hashes[..2], &hashes[2..], &hashes[1..3]] {
                let rows: Vec<Change<'_>> = part
                    .iter()
                    .map(|hash| (0, *hash, &b"a"[..], Some(value.as_bytes())))
                    .collect();
                let changes = Self::changes(epoch, &rows);
                self.stage(self.delta(epoch, 0, 1, changes)).await;
            }
            self.commit(epoch).await;
            let expected = format!("a={epoch}");
            for hash in hashes {
                assert_eq!(self.values(0, *hash).await, [&expected[..]], "{hash}");
            }
        }
    }

    pub(super) async fn large_scans_are_whole(self) {
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

    pub(super) async fn what_is_written_below_the_mark_is_closed(self) {
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

    pub(super) async fn an_epoch_without_changes_is_one_too(self) {
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
