//! Point reads: keys go to their shards' owners, replies come back in the order of the request.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::try_join_all;
use proto::types::{Epoch, ShardId};
use rpc::tonic::{Request, Status};
use state_client::{Incarnation, KeyRequest, LoadedRow, ReadReply, ReadRequest, StateError};
use state_wire::{Failure, ReadCollector, caps::READ_KEYS_MAX, encode_read_request, failure_of};
use tokio::time::timeout;

use crate::{RemoteConfig, link::NodeLink, scatter::scatter, store::Shared};

/// Keys and their places in the request.
type Keys = Vec<(usize, KeyRequest)>;
/// Rows and the places of their keys.
type Found = Vec<(usize, Vec<LoadedRow>)>;

impl Shared {
    pub(crate) async fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> Result<ReadReply, StateError> {
        let operation = self.operation(who.job, "read state");
        let route = operation.route().await?;
        let mut by_shard: BTreeMap<ShardId, Keys> = BTreeMap::new();
        for (index, key) in request.keys.iter().enumerate() {
            let keys = by_shard.entry(route.shard_of_hash(key.hash)).or_default();
            keys.push((index, *key));
        }
        if by_shard.is_empty() {
            // Asks for nothing but whether the caller is fenced.
            by_shard.insert(ShardId(0), Vec::new());
        }
        let work = by_shard.into_iter();
        let work = work.map(|(shard, keys)| (shard, Arc::new(keys)));
        let min_epoch = request.min_epoch;
        let call = |link, keys| read_at(link, &self.config, who, min_epoch, keys);
        let found: Vec<Found> = scatter(operation, work.collect(), |_| (), call).await?;
        let mut rows = vec![Vec::new(); request.keys.len()];
        for (index, found) in found.into_iter().flatten() {
            rows[index] = found;
        }
        Ok(ReadReply { rows })
    }
}

/// Reads keys at one node, a bounded number with each call.
async fn read_at(
    link: Arc<NodeLink>,
    config: &RemoteConfig,
    who: Incarnation,
    min_epoch: Epoch,
    keys: Vec<Arc<Keys>>,
) -> Result<Found, Failure> {
    let mut keys: Keys = keys.iter().flat_map(|keys| keys.iter().copied()).collect();
    let mut batches = Vec::new();
    while keys.len() > READ_KEYS_MAX {
        batches.push(keys.split_off(keys.len() - READ_KEYS_MAX));
    }
    batches.push(keys);
    let batches = batches.iter();
    let read = |keys| read_batch(&link, config, who, min_epoch, keys);
    let found = try_join_all(batches.map(read)).await?;
    Ok(found.into_iter().flatten().collect())
}

async fn read_batch(
    link: &NodeLink,
    config: &RemoteConfig,
    who: Incarnation,
    min_epoch: Epoch,
    batch: &Keys,
) -> Result<Found, Failure> {
    let _permit = link.read_permit().await;
    let keys: Vec<KeyRequest> = batch.iter().map(|(_, key)| *key).collect();
    let mut request = Request::new(encode_read_request(who, min_epoch, &keys));
    let deadline = config.limits.read_deadline;
    request.set_timeout(deadline);
    let mut client = link.client(config)?;
    let read = async {
        let mut parts = client.read(request).await?.into_inner();
        let mut collector = ReadCollector::default();
        while let Some(part) = parts.message().await? {
            collector.push(part);
        }
        Ok::<_, Status>(collector)
    };
    let collector = answer(timeout(deadline, read).await)?;
    let rows = collector
        .finish(keys.len())
        .map_err(|fault| nonsense(&fault))?;
    let places = batch.iter().map(|(index, _)| *index);
    Ok(places.zip(rows).collect())
}

/// What a call within a deadline came to.
pub(crate) fn answer<T, E>(called: Result<Result<T, Status>, E>) -> Result<T, Failure> {
    match called {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(failure_of(&status)),
        Err(_) => Err(failure_of(&Status::deadline_exceeded("no answer"))),
    }
}

/// A reply that makes no sense will make none the next time.
pub(crate) fn nonsense(fault: &state_wire::Malformed) -> Failure {
    Failure::Final(StateError::Unavailable(fault.to_string()))
}
