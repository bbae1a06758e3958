//! The tasks' side of a node in the same process: requests are cut by shard and handed over.

use std::collections::BTreeMap;

use futures::{
    FutureExt as _,
    future::{BoxFuture, try_join_all},
};
use proto::{
    log::LogObject,
    types::{KeyGroup, ShardId},
};
use state_client::{
    CommittedOutput, EpochDelta, Incarnation, KeptShard, KeptStates, KeyRequest, OutputRequest,
    ReadReply, ReadRequest, ScanReply, ScanRequest, StateError, StateStore,
};

use crate::StateNode;

/// A state node in this process, which has all shards.
#[derive(Clone)]
pub struct EmbeddedStore {
    node: StateNode,
}

impl EmbeddedStore {
    /// The store of a node.
    #[must_use]
    pub fn new(node: StateNode) -> Self {
        EmbeddedStore { node }
    }
}

impl StateStore for EmbeddedStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let node = self.node.clone();
        async move {
            let (key_groups, shards) = node.cut(who).await?;
            let mut by_shard: BTreeMap<u32, (Vec<usize>, Vec<KeyRequest>)> = BTreeMap::new();
            for (index, key) in request.keys.iter().enumerate() {
                let shard = key_groups.part_of(key_groups.of_hash(key.hash), shards);
                let (indexes, keys) = by_shard.entry(shard).or_default();
                indexes.push(index);
                keys.push(*key);
            }
            let min_epoch = request.min_epoch;
            let read = |(shard, (indexes, keys)): (u32, (Vec<usize>, Vec<KeyRequest>))| {
                let node = &node;
                async move {
                    let request = ReadRequest { min_epoch, keys };
                    let reply = node.read(who, ShardId(shard), &request).await?;
                    Ok::<_, StateError>(indexes.into_iter().zip(reply.rows))
                }
            };
            let replies = try_join_all(by_shard.into_iter().map(read)).await?;
            let mut rows = vec![Vec::new(); request.keys.len()];
            for (index, found) in replies.into_iter().flatten() {
                rows[index] = found;
            }
            Ok(ReadReply { rows })
        }
        .boxed()
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let node = self.node.clone();
        async move {
            let (key_groups, shards) = node.cut(who).await?;
            let part = |group: KeyGroup| ShardId(key_groups.part_of(group, shards));
            node.scan(who, part(request.key_group), &request).await
        }
        .boxed()
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        let node = self.node.clone();
        async move { node.stage(who, delta).await }.boxed()
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        let node = self.node.clone();
        async move { node.committed_output(who, request).await }.boxed()
    }
}

impl KeptStates for EmbeddedStore {
    fn read_kept(
        &self,
        kept: KeptShard,
        keys: Vec<KeyRequest>,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let node = self.node.clone();
        async move { node.read_kept(&kept, &keys).await }.boxed()
    }

    fn scan_kept(
        &self,
        kept: KeptShard,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let node = self.node.clone();
        async move { node.scan_kept(&kept, &request).await }.boxed()
    }
}
