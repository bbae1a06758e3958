//! Scans, and what they amount to, at the owner of the key group's shard.

use std::{collections::BTreeMap, sync::Arc};

use rpc::tonic::Request;
use state_client::{CountReply, Incarnation, ScanReply, ScanRequest, StateError};
use state_wire::{Failure, decode_count_reply, decode_scan_reply, encode_scan_request};
use tokio::time::timeout;

use crate::{RemoteConfig, link::NodeLink, read::answer, scatter::scatter, store::Shared};

impl Shared {
    pub(crate) async fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> Result<ScanReply, StateError> {
        let operation = self.operation(who.job, "scan state");
        let route = operation.route().await?;
        let work = BTreeMap::from([(route.shard_of(request.key_group), ())]);
        let call = |link, _| scan_at(link, &self.config, who, &request);
        let mut replies = scatter(operation, work, |_| (), call).await?;
        Ok(replies.pop().unwrap_or_default())
    }

    pub(crate) async fn count(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> Result<CountReply, StateError> {
        let operation = self.operation(who.job, "count state");
        let route = operation.route().await?;
        let work = BTreeMap::from([(route.shard_of(request.key_group), ())]);
        let call = |link, _| count_at(link, &self.config, who, &request);
        let mut replies = scatter(operation, work, |_| (), call).await?;
        Ok(replies.pop().unwrap_or_default())
    }
}

async fn count_at(
    link: Arc<NodeLink>,
    config: &RemoteConfig,
    who: Incarnation,
    request: &ScanRequest,
) -> Result<CountReply, Failure> {
    let _permit = link.read_permit().await;
    let mut request = Request::new(encode_scan_request(who, request));
    let deadline = config.limits.read_deadline;
    request.set_timeout(deadline);
    let mut client = link.client(config)?;
    let reply = answer(timeout(deadline, client.count(request)).await)?;
    Ok(decode_count_reply(reply.into_inner()))
}

async fn scan_at(
    link: Arc<NodeLink>,
    config: &RemoteConfig,
    who: Incarnation,
    request: &ScanRequest,
) -> Result<ScanReply, Failure> {
    let _permit = link.read_permit().await;
    let mut request = Request::new(encode_scan_request(who, request));
    let deadline = config.limits.read_deadline;
    request.set_timeout(deadline);
    let mut client = link.client(config)?;
    let reply = answer(timeout(deadline, client.scan(request)).await)?;
    Ok(decode_scan_reply(reply.into_inner()))
}
