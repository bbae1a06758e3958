//! Small histories: what is visible when, and what is fenced.

use bytes::Bytes;
use proto::types::{Epoch, Generation, KeyGroup, KeyGroupCount, SinkId};

use super::{
    TABLE,
    check::{Change, Check, epoch},
};
use crate::{Changes, KeyRequest, LoadedRow, OutputRequest, ReadRequest, StagedOutput, StateError};

impl Check {
    pub(super) async fn staged_is_invisible_until_committed(self) {
        let changes = Self::changes(17, &[(0, 5, b"a", Some(b"1"))]);
        self.stage(self.delta(17, 0, 1, changes)).await;
        assert!(self.values(0, 5).await.is_empty());
        self.commit(17).await;
        assert_eq!(self.values(0, 5).await, ["a=1"]);
        assert!(self.values(0, 6).await.is_empty());
    }

    pub(super) async fn newest_epoch_wins_and_deletes_hide(self) {
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

    pub(super) async fn staging_twice_applies_once(self) {
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

    pub(super) async fn older_generations_are_fenced(mut self) {
        let old = self.who;
        let delta = self.delta(1, 0, 1, Self::changes(1, &[(0, 5, b"a", None)]));
        self.who.generation = Generation(2);
        assert_eq!(self.begin_next().await, Epoch::ZERO);
        let fenced = |error: Option<StateError>| matches!(error, Some(StateError::Fenced { .. }));
        assert!(fenced(self.store.stage(old, delta).await.err()));
        assert!(fenced(
            self.control
                .commit(old, epoch(1), Vec::new(), 0)
                .await
                .err()
        ));
        assert!(fenced(self.control.begin(old).await.err()));
        let read = ReadRequest {
            min_epoch: Epoch::ZERO,
            keys: Vec::new(),
        };
        assert!(fenced(self.store.read(old, read).await.err()));
    }

    pub(super) async fn uncommitted_epochs_of_an_old_generation_vanish(mut self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1"))]).await;
        let old = Self::changes(2, &[(0, 5, b"a", Some(b"old"))]);
        self.stage(self.delta(2, 0, 1, old)).await;
        self.who.generation = Generation(2);
        assert_eq!(self.begin_next().await, epoch(1));
        self.apply(18, &[(0, 6, b"b", Some(b"new"))]).await;
        assert_eq!(self.values(0, 5).await, ["a=1"]);
        assert_eq!(self.values(0, 6).await, ["b=new"]);
    }

    pub(super) async fn closed_namespaces_are_gone(self) {
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
    pub(super) fn closing(hash: u64, open_from: i64) -> Changes {
        let group: KeyGroup = KeyGroupCount::DEFAULT.of_hash(hash);
        Changes {
            low_water_marks: vec![(TABLE, group, open_from)],
            ..Changes::default()
        }
    }

    pub(super) async fn scans_page_through_everything(self) {
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

    pub(super) async fn output_is_kept_until_published(self) {
        let (sink, other) = (SinkId(1), SinkId(2));
        for number in 1..4 {
            for task in 0..2 {
                let bytes = Bytes::from(format!("{number}.{task}"));
                let output = |sink| StagedOutput {
                    sink,
                    slot: task,
                    bytes: bytes.clone(),
                };
                let changes = Changes {
                    staged: vec![output(sink), output(other)],
                    ..Changes::default()
                };
                self.stage(self.delta(number, task, 2, changes)).await;
            }
            if number < 3 {
                self.commit(number).await;
            }
        }
        let request = |sink, after, bytes_max| OutputRequest {
            sink,
            after: epoch(after),
            up_to: epoch(2),
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
            .published(self.who, sink, epoch(1))
            .await
            .expect("published");
        assert_eq!(texts(owed(0).await.expect("output")), ["2.0", "2.1"]);
        let others = ask(request(other, 0, usize::MAX)).await;
        assert_eq!(others.expect("output").len(), 4);
    }

    pub(super) async fn reads_by_sub_hash(self) {
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

    pub(super) async fn a_read_ahead_of_the_commit_is_refused(self) {
        self.apply(1, &[(0, 5, b"a", Some(b"1"))]).await;
        let key = KeyRequest {
            table: TABLE,
            namespace: 0,
            hash: 5,
            sub: None,
        };
        let request = ReadRequest {
            min_epoch: epoch(2),
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
}
