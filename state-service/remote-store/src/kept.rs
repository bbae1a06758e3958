//! States that are kept, read at whichever state nodes there are: the files say all, so any node can
//! answer. The same shard is asked for at the same node first, which then has it open.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt as _, future::BoxFuture};
use proto::types::ShardId;
use rpc::tonic::{Request, Status};
use state_client::{
    KeptShard, KeptStates, KeyRequest, ReadReply, ScanReply, ScanRequest, StateError,
};
use state_wire::{
    Failure, ReadCollector, caps::READ_KEYS_MAX, decode_scan_reply, encode_read_kept,
    encode_scan_kept,
};
use tokio::time::timeout;

use crate::{
    Owner, RemoteConfig,
    link::NodeLink,
    read::{answer, nonsense},
    spawned::spawned,
};

/// States that are kept, read by others. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct RemoteKept {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RemoteConfig,
    links: Mutex<Vec<Arc<NodeLink>>>,
}

impl RemoteKept {
    /// Nobody to ask is known yet.
    #[must_use]
    pub fn new(config: RemoteConfig) -> RemoteKept {
        RemoteKept {
            shared: Arc::new(Shared {
                config,
                links: Mutex::default(),
            }),
        }
    }

    /// These nodes are asked from now on.
    pub fn set_nodes(&self, nodes: impl IntoIterator<Item = Owner>) {
        let mut links = self.shared.links();
        let link = |node: Owner| {
            let known = links.iter().find(|link| link.owner == node).cloned();
            known.unwrap_or_else(|| Arc::new(NodeLink::new(node)))
        };
        let now: Vec<Arc<NodeLink>> = nodes.into_iter().map(link).collect();
        *links = now;
    }
}

impl Shared {
    fn links(&self) -> std::sync::MutexGuard<'_, Vec<Arc<NodeLink>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one node after the other until one has an answer.
    async fn ask<T, F>(
        &self,
        shard: ShardId,
        call: impl Fn(Arc<NodeLink>) -> F,
    ) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut links = self.links().clone();
        let first = shard.0 as usize % links.len().max(1);
        links.rotate_left(first);
        let mut last = StateError::Unavailable("no state node is connected".to_owned());
        for link in links {
            match call(link).await {
                Ok(found) => return Ok(found),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => last = error,
            }
        }
        Err(last)
    }

    async fn read_at(
        &self,
        link: &NodeLink,
        kept: KeptShard,
        keys: &[KeyRequest],
    ) -> Result<ReadReply, Failure> {
        let _permit = link.read_permit().await;
        let mut request = Request::new(encode_read_kept(kept, keys));
        let deadline = self.config.limits.read_deadline;
        request.set_timeout(deadline);
        let mut client = link.client(&self.config)?;
        let read = async {
            let mut parts = client.read_kept(request).await?.into_inner();
            let mut collector = ReadCollector::default();
            while let Some(part) = parts.message().await? {
                collector.push(part);
            }
            Ok::<_, Status>(collector)
        };
        let collector = answer(timeout(deadline, read).await)?;
        let rows = collector.finish(keys.len());
        let rows = rows.map_err(|fault| nonsense(&fault))?;
        Ok(ReadReply { rows })
    }

    async fn scan_at(
        &self,
        link: &NodeLink,
        kept: KeptShard,
        request: &ScanRequest,
    ) -> Result<ScanReply, Failure> {
        let _permit = link.read_permit().await;
        let mut request = Request::new(encode_scan_kept(kept, request));
        let deadline = self.config.limits.read_deadline;
        request.set_timeout(deadline);
        let mut client = link.client(&self.config)?;
        let reply = answer(timeout(deadline, client.scan_kept(request)).await)?;
        Ok(decode_scan_reply(reply.into_inner()))
    }
}

impl KeptStates for RemoteKept {
    fn read_kept(
        &self,
        kept: KeptShard,
        keys: Vec<KeyRequest>,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let shared = self.shared.clone();
        spawned(async move {
            let mut rows = Vec::with_capacity(keys.len());
            for keys in keys.chunks(READ_KEYS_MAX) {
                let (shared, kept) = (&shared, &kept);
                let call = |link: Arc<NodeLink>| async move {
                    shared.read_at(&link, kept.clone(), keys).await
                };
                rows.extend(shared.ask(kept.shard, call).await?.rows);
            }
            Ok(ReadReply { rows })
        })
        .boxed()
    }

    fn scan_kept(
        &self,
        kept: KeptShard,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let shared = self.shared.clone();
        spawned(async move {
            let (at, of, request) = (&shared, &kept, &request);
            let call =
                |link: Arc<NodeLink>| async move { at.scan_at(&link, of.clone(), request).await };
            at.ask(of.shard, call).await
        })
        .boxed()
    }
}
